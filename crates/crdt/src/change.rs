//! The changes that a log record can hold, and what was observed of each delivery.
//!
//! A change is plain data: it is made from something that was verified ([`crate::convert`]) or decoded from a log
//! section ([`crate::section`]), and what two changes mean together is said by [`crate::merge`]. This module knows
//! neither bytes nor merging.
//!
//! Erasures, lifts, labels and document changes are later kinds: their section kinds are reserved, and a reader that
//! meets one refuses it.

use std::sync::Arc;

use atproto::{Action, Cid, Did, Handle, Nsid, RecordKey, Tid, Verification};
use bytes::Bytes;

use crate::coverage::Coverage;

/// A point in time: microseconds since the epoch, UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Micros(pub i64);

impl Micros {
    /// The time `micros` later, at most the end of time.
    #[must_use]
    pub fn saturating_add(self, micros: i64) -> Self {
        Self(self.0.saturating_add(micros))
    }
}

/// Who delivered a change, when, and how much of it was checked.
///
/// None of this belongs to a change's identity: of two deliveries of one change a row shows one, never a mixture.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Delivery {
    /// The source: its URL, the name it was given, or a file's BLAKE3.
    pub source: Arc<str>,
    /// The source's own sequence number.
    pub seq: Option<i64>,
    /// When it arrived here.
    pub indexed_at: Micros,
    /// The time that the frame itself gives; none from a CAR.
    pub time: Option<Micros>,
    /// How far it was verified.
    pub verification: Verification,
}

/// One change: everything that a log record can say.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// A record was written or deleted.
    Record(RecordChange),
    /// Everything of a repo below a rev is dead.
    Floor(FloorChange),
    /// Something happened, told without content.
    Event(EventChange),
    /// A source's word on an account's state.
    Account(AccountChange),
    /// A source's word on who an account is.
    Identity(IdentityChange),
    /// The last commit of a repo that a source delivered.
    Head(HeadChange),
    /// How far the work on a source has come.
    Cursor(CursorChange),
    /// Something was refused, is missing, or is being fetched again.
    Notice(NoticeChange),
}

/// A record's bytes and their CID.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Body {
    /// The CID of `cbor`.
    pub cid: Cid,
    /// The record as DAG-CBOR.
    pub cbor: Bytes,
}

impl Body {
    /// A body of `cbor`, which is one DAG-CBOR item, with the CID computed from it.
    #[must_use]
    pub fn of(cbor: Bytes) -> Self {
        Self {
            cid: Cid::of_cbor(&cbor),
            cbor,
        }
    }
}

/// A record was created, updated or deleted at `rev`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RecordChange {
    /// The repo.
    pub did: Did,
    /// The record's type.
    pub collection: Nsid,
    /// The record's name in its collection.
    pub rkey: RecordKey,
    /// The rev of the commit that wrote it, or of the resync that found it.
    pub rev: Tid,
    /// The record; none if it was deleted.
    pub body: Option<Body>,
    /// Who delivered it.
    pub delivery: Delivery,
}

/// Records and tombstones of `did` with a rev below `rev` are dead.
///
/// It is appended after all records that live at `rev`, by the same writer id.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FloorChange {
    /// The repo.
    pub did: Did,
    /// The floor: what is written at this rev lives.
    pub rev: Tid,
    /// The collections that it covers.
    pub coverage: Coverage,
    /// Who delivered it.
    pub delivery: Delivery,
}

/// The kinds of event that a source tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventKind {
    /// One operation of a commit.
    Commit,
    /// `#identity`.
    Identity,
    /// `#account`.
    Account,
    /// `#sync`.
    Sync,
}

impl EventKind {
    /// The kind's name in tables, as Jetstream has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Commit => "commit",
            Self::Identity => "identity",
            Self::Account => "account",
            Self::Sync => "sync",
        }
    }
}

/// Something happened at a source: one operation of a commit, or a frame of another kind. It holds no content.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EventChange {
    /// What kind of event.
    pub kind: EventKind,
    /// The account.
    pub did: Did,
    /// The frame's time; for a commit whose frame has none, the time of its rev.
    pub time: Micros,
    /// The commit's rev (commit, sync).
    pub rev: Option<Tid>,
    /// The commit's CID (commit, sync).
    pub commit: Option<Cid>,
    /// The operation's place among the commit's operations in the order of their paths; 0 for other kinds.
    pub op_index: u32,
    /// What the operation did (commit).
    pub operation: Option<Action>,
    /// The record's collection (commit).
    pub collection: Option<Nsid>,
    /// The record's key (commit).
    pub rkey: Option<RecordKey>,
    /// The record that was written (commit); none for a delete.
    pub cid: Option<Cid>,
    /// The handle that an identity event names. Relays drop it, so it is no part of the event's identity.
    pub handle: Option<Handle>,
    /// Whether the account is active (account).
    pub active: Option<bool>,
    /// Why it is not (account).
    pub status: Option<String>,
    /// Who delivered it.
    pub delivery: Delivery,
}

impl EventChange {
    /// When it happened: the time of a commit's rev, else the frame's time.
    #[must_use]
    pub fn at(&self) -> Micros {
        match (self.kind, self.rev) {
            (EventKind::Commit, Some(rev)) => Micros(rev.micros()),
            _ => self.time,
        }
    }
}

/// What a source says of an account's state.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AccountChange {
    /// The account.
    pub did: Did,
    /// The frame's time.
    pub time: Micros,
    /// The source's sequence number; none where a host was asked.
    pub seq: Option<i64>,
    /// Whether the account's content may be shown.
    pub active: bool,
    /// Why not: `deactivated`, `takendown`, `suspended`, `deleted`, …
    pub status: Option<String>,
    /// Who delivered it.
    pub delivery: Delivery,
}

/// What a source says of who an account is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct IdentityChange {
    /// The account.
    pub did: Did,
    /// The frame's time.
    pub time: Micros,
    /// The source's sequence number; none where a directory was asked.
    pub seq: Option<i64>,
    /// Its handle, as far as the source says.
    pub handle: Option<Handle>,
    /// The URL of its host, as far as the source says.
    pub pds: Option<String>,
    /// Who delivered it.
    pub delivery: Delivery,
}

/// The last commit of a repo that a source delivered: what its next one is checked against.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HeadChange {
    /// The repo.
    pub did: Did,
    /// The commit's rev.
    pub rev: Tid,
    /// The root of its MST.
    pub data: Cid,
    /// The CID of `commit_block`.
    pub commit: Cid,
    /// The commit's block, with its signature: about 250 bytes.
    pub commit_block: Bytes,
    /// Who delivered it.
    pub delivery: Delivery,
}

/// All that a source delivered up to `cursor` is durable, in this log object or an earlier one of its writer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CursorChange {
    /// The source.
    pub source: Arc<str>,
    /// The slice of the source's work, empty for all of it.
    pub slice: String,
    /// Raised by an operator's reset only.
    pub generation: u64,
    /// The source's own position.
    pub cursor: i64,
    /// When it was reached.
    pub indexed_at: Micros,
}

/// The kinds of notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NoticeKind {
    /// A frame or a record was refused.
    Rejection,
    /// A repo has to be fetched again, or is being fetched.
    Resync,
    /// A repo's commits do not join: some between were not delivered.
    Gap,
    /// Whether a collection, which the reason names, is heard at a source: the attempt is the second since the epoch at
    /// which that changed, the step 0 if it fell silent and 1 if it is heard.
    Silence,
}

impl NoticeKind {
    /// The kind's name in tables.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rejection => "rejection",
            Self::Resync => "resync",
            Self::Gap => "gap",
            Self::Silence => "silence",
        }
    }
}

/// How far an attempt to fetch a repo again has come. The highest of the highest attempt is a mark's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum ResyncStep {
    /// It is marked, and nothing was done.
    Waiting = 0,
    /// Its host is being asked.
    Fetching = 1,
    /// What its host answered is whole and signed.
    Fetched = 2,
    /// All of it is in the log, with its floor: the mark is done.
    Synchronized = 3,
    /// Its host says that there is none: the mark is done until the account is active again.
    Gone = 4,
    /// The attempt failed; another one follows.
    Failed = 5,
}

impl ResyncStep {
    /// All of them, in their order.
    pub const ALL: [Self; 6] = [
        Self::Waiting,
        Self::Fetching,
        Self::Fetched,
        Self::Synchronized,
        Self::Gone,
        Self::Failed,
    ];

    /// The step's name in tables.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Fetching => "fetching",
            Self::Fetched => "fetched",
            Self::Synchronized => "synchronized",
            Self::Gone => "gone",
            Self::Failed => "failed",
        }
    }

    /// Its number in a notice.
    #[must_use]
    pub fn number(self) -> u32 {
        self as u32
    }

    /// The step of a notice's number; none for one of a newer version.
    #[must_use]
    pub fn of(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|step| step.number() == number)
    }

    /// Whether nothing more is done about the mark.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Synchronized | Self::Gone)
    }
}

/// Something was refused, is missing, or is being fetched again: reason and sizes, never content.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NoticeChange {
    /// What kind of notice.
    pub kind: NoticeKind,
    /// Why, in snake_case.
    pub reason: String,
    /// The source.
    pub source: Arc<str>,
    /// The account, where it could be read.
    pub did: Option<Did>,
    /// The rev, where it could be read.
    pub rev: Option<Tid>,
    /// The source's sequence number, where it could be read.
    pub seq: Option<i64>,
    /// The first 16 bytes of the frame's BLAKE3.
    pub frame_hash: [u8; 16],
    /// The frame's size.
    pub bytes: u64,
    /// A resync's attempt, from 1; 0 until it begins, and for other kinds.
    pub attempt: u32,
    /// How far the attempt has come, a [`ResyncStep`]'s number; 0 for other kinds.
    pub step: u32,
    /// When it was noticed.
    pub indexed_at: Micros,
}
