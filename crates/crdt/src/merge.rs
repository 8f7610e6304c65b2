//! The merge laws: what two changes mean together, as pure functions of a key and an order.
//!
//! Two changes with one [`MergeKey`] speak of the same thing, and the one with the higher [`Order`] is its state;
//! with equal orders they are the same change, delivered twice. Beyond that only two things act across keys: a repo
//! floor covers records ([`floor_covers`]), and of the sources' words on an account one is shown ([`shown_account`]).
//! Everything is a maximum or a union, so merging is commutative, associative and idempotent, and no change has to
//! wait for another.
//!
//! Observation columns ([`crate::Delivery`]) are in no key and no order, but for two that a law names: the source of
//! account, identity, head, cursor and notice, and the arrival that bounds the time of an account's or identity's
//! state.

use std::cmp::Ordering;
use std::sync::Arc;

use atproto::{Cid, Did, Nsid, RecordKey, Tid};

use crate::change::{
    AccountChange, Change, EventChange, FloorChange, IdentityChange, Micros, NoticeChange,
    NoticeKind, RecordChange,
};
use crate::coverage::Coverage;
use crate::identity::Hash;

/// How far ahead of its arrival a source's clock is believed.
pub const SKEW_MAX_US: i64 = 5 * 60 * 1_000_000;

/// What a change speaks of: changes with equal keys merge, others don't touch each other.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MergeKey {
    /// A record.
    Record {
        /// The repo.
        did: Did,
        /// The record's type.
        collection: Nsid,
        /// The record's key.
        rkey: RecordKey,
    },
    /// The floor of a repo for a set of collections.
    Floor {
        /// The repo.
        did: Did,
        /// The collections.
        coverage: Coverage,
    },
    /// An event, by [`EventChange::id`].
    Event([u8; 16]),
    /// A source's word on an account's state.
    Account {
        /// The account.
        did: Did,
        /// The source.
        source: Arc<str>,
    },
    /// A source's word on who an account is.
    Identity {
        /// The account.
        did: Did,
        /// The source.
        source: Arc<str>,
    },
    /// What a source delivered last of a repo.
    Head {
        /// The repo.
        did: Did,
        /// The source.
        source: Arc<str>,
    },
    /// A source's cursor.
    Cursor {
        /// The source.
        source: Arc<str>,
        /// The slice of its work.
        slice: String,
    },
    /// A notice.
    Notice {
        /// Its kind.
        kind: NoticeKind,
        /// The source.
        source: Arc<str>,
        /// The account.
        did: Option<Did>,
        /// The rev.
        rev: Option<Tid>,
        /// The frame.
        frame_hash: [u8; 16],
    },
}

/// Which of two changes with one key is the state: the higher.
///
/// Orders of different kinds are never compared in earnest; the derived order between them only makes it total.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Order {
    /// The rev, then the record's CID, where a delete is the smallest.
    Record {
        /// The rev.
        rev: Tid,
        /// The record's CID; none for a delete.
        cid: Option<Cid>,
    },
    /// The rev.
    Floor {
        /// The floor.
        rev: Tid,
    },
    /// Nothing: all changes with this key are one.
    Once,
    /// The believed time, then the sequence number, then the bytes of what was said.
    State {
        /// See [`believed_time`].
        at: Micros,
        /// The source's sequence number; none is the smallest.
        seq: Option<i64>,
        /// The rest of what was said, in an order without meaning, but the same everywhere.
        bytes: Vec<u8>,
    },
    /// The rev, then the commit's CID.
    Head {
        /// The rev.
        rev: Tid,
        /// The commit.
        commit: Cid,
    },
    /// The generation, then the cursor.
    Cursor {
        /// The generation.
        generation: u64,
        /// The cursor.
        cursor: i64,
    },
    /// A resync's progress, then the reason and the size: one frame may be refused for another reason by another version.
    Notice {
        /// The attempt.
        attempt: u32,
        /// The step.
        step: u32,
        /// The reason.
        reason: String,
        /// The frame's size.
        bytes: u64,
    },
}

impl Change {
    /// What it speaks of.
    #[must_use]
    pub fn key(&self) -> MergeKey {
        match self {
            Self::Record(c) => c.key(),
            Self::Floor(c) => c.key(),
            Self::Event(c) => MergeKey::Event(c.id()),
            Self::Account(c) => MergeKey::Account {
                did: c.did.clone(),
                source: Arc::clone(&c.delivery.source),
            },
            Self::Identity(c) => MergeKey::Identity {
                did: c.did.clone(),
                source: Arc::clone(&c.delivery.source),
            },
            Self::Head(c) => MergeKey::Head {
                did: c.did.clone(),
                source: Arc::clone(&c.delivery.source),
            },
            Self::Cursor(c) => MergeKey::Cursor {
                source: Arc::clone(&c.source),
                slice: c.slice.clone(),
            },
            Self::Notice(c) => c.key(),
        }
    }

    /// Where it stands among the changes with its key.
    #[must_use]
    pub fn order(&self) -> Order {
        match self {
            Self::Record(c) => c.order(),
            Self::Floor(c) => Order::Floor { rev: c.rev },
            Self::Event(_) => Order::Once,
            Self::Account(c) => c.order(),
            Self::Identity(c) => c.order(),
            Self::Head(c) => Order::Head {
                rev: c.rev,
                commit: c.commit,
            },
            Self::Cursor(c) => Order::Cursor {
                generation: c.generation,
                cursor: c.cursor,
            },
            Self::Notice(c) => Order::Notice {
                attempt: c.attempt,
                step: c.step,
                reason: c.reason.clone(),
                bytes: c.bytes,
            },
        }
    }
}

/// Of two changes with one key the one that is the state; `first` where they are the same change.
///
/// So a row shows the delivery that merged first, whole.
#[must_use]
pub fn winner<'a>(first: &'a Change, second: &'a Change) -> &'a Change {
    debug_assert_eq!(first.key(), second.key());
    match second.order().cmp(&first.order()) {
        Ordering::Greater => second,
        Ordering::Less | Ordering::Equal => first,
    }
}

/// Whether a record or tombstone of the floor's repo, at `rev` in `collection`, is dead by that floor.
///
/// `coverage` is the floor's. Of several floors of one repo each kills what it covers, whatever the others spare.
#[must_use]
pub fn floor_covers(floor: Tid, coverage: &Coverage, collection: &Nsid, rev: Tid) -> bool {
    rev < floor && coverage.covers(collection.as_str())
}

/// The time at which a state that claims `time` takes effect: at most five minutes after it arrived.
///
/// A clock that runs ahead, or lies, could otherwise hold an account in one state for ever.
#[must_use]
pub fn believed_time(time: Micros, indexed_at: Micros) -> Micros {
    time.min(indexed_at.saturating_add(SKEW_MAX_US))
}

/// By what one of several sources' words on an account is shown: the highest rank.
///
/// A word of whoever knows goes before all others. Two sources that say the same: the answer has no preference, the
/// row needs one.
pub fn rank<O: Ord, S: Ord>(knows: bool, order: O, source: S) -> impl Ord {
    (knows, order, source)
}

/// The state of an account that is shown: the word of its host, whose URL is `host`, where there is one, else the
/// highest of all sources. While it is not active, the account's records are in no answer.
#[must_use]
pub fn shown_account<'a>(
    states: impl IntoIterator<Item = &'a AccountChange>,
    host: Option<&str>,
) -> Option<&'a AccountChange> {
    states.into_iter().max_by_key(|state| {
        let source = &state.delivery.source;
        rank(is_told_by(source, host), state.order(), Arc::clone(source))
    })
}

/// The URL of an account's host, from what the sources say of it: a directory's answer where there is one (it has no
/// sequence number), else the highest.
#[must_use]
pub fn shown_host<'a>(identities: impl IntoIterator<Item = &'a IdentityChange>) -> Option<&'a str> {
    let shown = identities
        .into_iter()
        .filter(|identity| identity.pds.is_some())
        .max_by_key(|identity| {
            let source = Arc::clone(&identity.delivery.source);
            rank(identity.seq.is_none(), identity.order(), source)
        });
    shown.and_then(|identity| identity.pds.as_deref())
}

/// Whether a source is the host with the URL `host`: the schemes may differ, since one is followed by WebSocket.
#[must_use]
pub fn is_told_by(source: &str, host: Option<&str>) -> bool {
    let (source, host) = (authority(source), host.and_then(authority));
    source
        .zip(host)
        .is_some_and(|(source, host)| source.eq_ignore_ascii_case(host))
}

/// The authority of a URL: host and port.
fn authority(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    rest.split(['/', '?', '#'])
        .next()
        .filter(|authority| !authority.is_empty())
}

impl RecordChange {
    /// What it speaks of.
    #[must_use]
    pub fn key(&self) -> MergeKey {
        MergeKey::Record {
            did: self.did.clone(),
            collection: self.collection.clone(),
            rkey: self.rkey.clone(),
        }
    }

    /// Where it stands among the changes of this record.
    #[must_use]
    pub fn order(&self) -> Order {
        Order::Record {
            rev: self.rev,
            cid: self.body.as_ref().map(|body| body.cid),
        }
    }
}

impl FloorChange {
    /// What it speaks of.
    #[must_use]
    pub fn key(&self) -> MergeKey {
        MergeKey::Floor {
            did: self.did.clone(),
            coverage: self.coverage.clone(),
        }
    }

    /// Whether `record` is dead by this floor.
    #[must_use]
    pub fn covers(&self, record: &RecordChange) -> bool {
        self.did == record.did
            && floor_covers(self.rev, &self.coverage, &record.collection, record.rev)
    }
}

impl EventChange {
    /// The event's id: the first 16 bytes of the BLAKE3 of what it tells.
    ///
    /// Left out is what a relay changes or drops of the same event (`seq`, `handle`, a commit frame's `time`) and what
    /// was observed here. So a PDS and two relays that tell the same count once; who tells it otherwise is another row.
    #[must_use]
    pub fn id(&self) -> [u8; 16] {
        let mut hash = Hash::new("event");
        hash.u8(crate::codes::event_kind(self.kind))
            .text(self.did.as_str());
        if self.kind != crate::EventKind::Commit {
            hash.i64(self.time.0);
        }
        hash.tid(self.rev)
            .cid(self.commit.as_ref())
            .u32(self.op_index)
            .optional(self.operation.map(crate::codes::action))
            .optional_text(self.collection.as_ref().map(Nsid::as_str))
            .optional_text(self.rkey.as_ref().map(RecordKey::as_str))
            .cid(self.cid.as_ref())
            .optional(self.active.map(u8::from))
            .optional_text(self.status.as_deref());
        hash.short()
    }
}

impl AccountChange {
    /// Where it stands among what one source, or all, say of this account.
    #[must_use]
    pub fn order(&self) -> Order {
        let mut bytes = vec![u8::from(self.active)];
        bytes.extend(self.time.0.to_be_bytes());
        push_text(&mut bytes, self.status.as_deref());
        Order::State {
            at: believed_time(self.time, self.delivery.indexed_at),
            seq: self.seq,
            bytes,
        }
    }
}

impl IdentityChange {
    /// Where it stands among what one source says of this account.
    #[must_use]
    pub fn order(&self) -> Order {
        let mut bytes = Vec::new();
        bytes.extend(self.time.0.to_be_bytes());
        push_text(
            &mut bytes,
            self.handle.as_ref().map(atproto::Handle::as_str),
        );
        push_text(&mut bytes, self.pds.as_deref());
        Order::State {
            at: believed_time(self.time, self.delivery.indexed_at),
            seq: self.seq,
            bytes,
        }
    }
}

impl NoticeChange {
    /// What it speaks of.
    #[must_use]
    pub fn key(&self) -> MergeKey {
        MergeKey::Notice {
            kind: self.kind,
            source: Arc::clone(&self.source),
            did: self.did.clone(),
            rev: self.rev,
            frame_hash: self.frame_hash,
        }
    }
}

/// Appends an optional text so that no two different sequences of texts give the same bytes.
fn push_text(bytes: &mut Vec<u8>, text: Option<&str>) {
    match text {
        None => bytes.push(0),
        Some(text) => {
            bytes.push(1);
            bytes.extend((text.len() as u64).to_be_bytes());
            bytes.extend(text.as_bytes());
        }
    }
}
