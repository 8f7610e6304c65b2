//! One repo's frames of one source, in their order: admitted, verified, turned into changes.
//!
//! Pure and slow: a commit costs a signature and the hashes of its blocks. Nothing of a frame that fails a check is in
//! any change but for the reason and sizes in its notice.

use std::sync::Arc;

use atproto::{
    AccountFrame, Cid, CommitFrame, Did, Frame, IdentityFrame, PublicKey, SyncFrame, Tid,
    VerifiedCommit, VerifyError, datetime, verify_commit, verify_sync,
};
use crdt::{
    Change, Delivery, Micros, NoticeChange, NoticeKind, changes_of_account, changes_of_commit,
    changes_of_identity, changes_of_sync,
};

use crate::admission::{gap, is_replay};
use crate::known::KnownHead;
use crate::standing::Standing;
use crate::stream::{Document, Policy};

/// Why the time of an unsigned frame, by which it merges, is refused.
const TIME: &str = "frame_time";

/// Why a repo whose document has no signing key of a known kind is refused.
pub(crate) const NO_KEY: &str = "no_signing_key";

/// Why a repo has to be fetched: the source told of it for the first time, and of what was before it did not.
const FIRST_SIGHTING: &str = "first_sighting";

/// Why a repo has to be fetched: its account is active again.
const REACTIVATED: &str = "reactivated";

/// Why a frame is refused.
struct Refusal {
    reason: &'static str,
    /// Whether only nobody could tell whose key it is.
    is_transient: bool,
}

impl Refusal {
    fn of(reason: &'static str) -> Self {
        Self {
            reason,
            is_transient: false,
        }
    }
}

/// What is known of a frame besides its content.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    /// Its place in the source, from 0.
    pub(crate) index: u64,
    /// The number that the source gave it.
    pub(crate) seq: Option<i64>,
    /// Its size.
    pub(crate) bytes: u64,
    /// The first 16 bytes of its BLAKE3.
    pub(crate) hash: [u8; 16],
    /// When it arrived.
    pub(crate) at: Micros,
}

/// What became of a frame.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) arrival: Arrival,
    pub(crate) fate: Fate,
    pub(crate) changes: Vec<Change>,
    /// The commit that went in, shortened.
    pub(crate) commit: Option<u64>,
}

/// How a frame counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Commit,
    Sync,
    Identity,
    Account,
    /// The source delivered it before.
    Replay,
    /// It is the one that a connection was resumed at.
    Skipped,
    /// It is not of the part that is taken.
    Filtered,
    Ignored,
    Rejected,
}

/// Whether a frame could be judged.
#[derive(Debug)]
pub(crate) enum Taken {
    Done(Outcome),
    /// Its signature is not of the key at hand, which may be an old one.
    OldKey,
}

/// A repo as one source has told of it so far.
#[derive(Debug)]
pub(crate) struct Repo<'a> {
    pub(crate) policy: &'a Policy,
    pub(crate) did: &'a Did,
    pub(crate) document: &'a Document,
    pub(crate) standing: Standing,
    /// Whether the document is as new as it gets.
    pub(crate) is_fresh: bool,
}

/// What a frame of a repo came to.
struct Judged {
    fate: Fate,
    changes: Vec<Change>,
    commit: Option<u64>,
}

impl Judged {
    fn of(fate: Fate, changes: Vec<Change>) -> Self {
        Self {
            fate,
            changes,
            commit: None,
        }
    }
}

/// The key at hand may be an old one.
struct OldKey;

impl Repo<'_> {
    /// Takes the repo's next frame; a good commit or `#sync` becomes its head.
    pub(crate) fn take(&mut self, arrival: Arrival, frame: &Frame) -> Taken {
        let judged = match frame {
            Frame::Commit(frame) => self.commit(arrival, frame),
            Frame::Sync(frame) => self.sync(arrival, frame),
            Frame::Identity(frame) => Ok(self.identity(arrival, frame)),
            Frame::Account(frame) => Ok(self.account(arrival, frame)),
            Frame::Info { .. } | Frame::Error { .. } | Frame::Unknown { .. } => {
                Ok(Judged::of(Fate::Ignored, Vec::new()))
            }
        };
        match judged {
            Err(OldKey) => Taken::OldKey,
            Ok(judged) => Taken::Done(Outcome {
                arrival,
                fate: judged.fate,
                changes: judged.changes,
                commit: judged.commit,
            }),
        }
    }

    fn commit(&mut self, arrival: Arrival, frame: &CommitFrame) -> Result<Judged, OldKey> {
        let head = self.standing.head.flatten();
        // What is replayed need not be good: it is dropped either way, before the cost of verifying it.
        if is_replay(head, frame.rev) {
            return Ok(Judged::of(Fate::Replay, Vec::new()));
        }
        // Of a repo that holds something that is taken every commit counts, or none would join the one before.
        if head.is_none() && !self.policy.filter.touches(frame) {
            return Ok(Judged::of(Fate::Filtered, Vec::new()));
        }
        let about = (Some(frame.rev), frame.seq);
        let verified = self
            .key()
            .map(|key| verify_commit(frame, key, arrival.at.0));
        let commit = match self.checked(verified)? {
            Ok(commit) => commit,
            Err(reason) => return Ok(self.refused(arrival, about, reason)),
        };
        let filter = &self.policy.filter;
        let mut changes =
            changes_of_commit(&commit, &self.delivery(arrival, frame.seq, &frame.time));
        changes.retain(|change| match change {
            Change::Record(record) => filter.covers(&record.collection),
            Change::Event(event) => event.collection.as_ref().is_none_or(|c| filter.covers(c)),
            _ => true,
        });
        changes.extend(self.problems(arrival, frame.seq, &commit));
        if let Some(gap) = gap(head, commit.since(), commit.prev_data()) {
            changes.push(self.notice(arrival, about, NoticeKind::Gap, gap.reason()));
            changes.push(self.notice(arrival, about, NoticeKind::Resync, gap.reason()));
        } else if head.is_none() && self.policy.marks_new && commit.since().is_some() {
            changes.push(self.notice(arrival, about, NoticeKind::Resync, FIRST_SIGHTING));
        }
        self.standing.head = Some(Some(KnownHead {
            rev: commit.rev(),
            data: commit.data(),
        }));
        Ok(Judged {
            fate: Fate::Commit,
            changes,
            commit: Some(shortened(commit.commit())),
        })
    }

    fn sync(&mut self, arrival: Arrival, frame: &SyncFrame) -> Result<Judged, OldKey> {
        let known = self.standing.head.flatten();
        // A repeated `#sync` of the rev that is known is news if the tree is another: only its block tells.
        if known.is_some_and(|head| frame.rev < head.rev) {
            return Ok(Judged::of(Fate::Replay, Vec::new()));
        }
        let about = (Some(frame.rev), frame.seq);
        let verified = self.key().map(|key| verify_sync(frame, key, arrival.at.0));
        let sync = match self.checked(verified)? {
            Ok(sync) => sync,
            Err(reason) => return Ok(self.refused(arrival, about, reason)),
        };
        let Some(time) = micros(&frame.time) else {
            return Ok(self.rejected(arrival, about, TIME));
        };
        let delivery = self.delivery(arrival, frame.seq, &frame.time);
        let mut changes = changes_of_sync(&sync, time, &delivery);
        let head = KnownHead {
            rev: sync.rev(),
            data: sync.data(),
        };
        if known != Some(head) {
            // The records of this state were not delivered.
            changes.push(self.notice(arrival, about, NoticeKind::Resync, "sync"));
            self.standing.head = Some(Some(head));
        }
        Ok(Judged::of(Fate::Sync, changes))
    }

    fn identity(&self, arrival: Arrival, frame: &IdentityFrame) -> Judged {
        let Some(time) = micros(&frame.time) else {
            return self.rejected(arrival, (None, frame.seq), TIME);
        };
        let document = self.document.as_ref().ok();
        let pds = document.and_then(|document| document.pds.as_deref());
        let delivery = self.delivery(arrival, frame.seq, &frame.time);
        let changes = changes_of_identity(frame, pds, time, &delivery);
        Judged::of(Fate::Identity, changes)
    }

    fn account(&mut self, arrival: Arrival, frame: &AccountFrame) -> Judged {
        let Some(time) = micros(&frame.time) else {
            return self.rejected(arrival, (None, frame.seq), TIME);
        };
        let delivery = self.delivery(arrival, frame.seq, &frame.time);
        let mut changes = changes_of_account(frame, time, &delivery);
        if frame.active && self.standing.is_active.flatten() == Some(false) {
            // What the source did not tell while the account was hidden is at its host.
            let about = (None, frame.seq);
            changes.push(self.notice(arrival, about, NoticeKind::Resync, REACTIVATED));
        }
        self.standing.is_active = Some(Some(frame.active));
        Judged::of(Fate::Account, changes)
    }

    /// The key that its commits are signed with, or why there is none.
    fn key(&self) -> Result<&PublicKey, Refusal> {
        let document = self.document.as_ref().map_err(|error| Refusal {
            reason: error.reason(),
            is_transient: error.is_transient(),
        })?;
        document.signing_key.as_ref().ok_or(Refusal::of(NO_KEY))
    }

    /// What was verified, or why it is refused; unless a newer key may be another answer.
    fn checked<T>(
        &self,
        verified: Result<Result<T, VerifyError>, Refusal>,
    ) -> Result<Result<T, Refusal>, OldKey> {
        match verified {
            Ok(Ok(verified)) => Ok(Ok(verified)),
            Ok(Err(VerifyError::Signature(_))) if !self.is_fresh => Err(OldKey),
            Ok(Err(error)) => Ok(Err(Refusal::of(error.reason()))),
            Err(refusal) => Ok(Err(refusal)),
        }
    }

    /// What is refused leaves a notice; what only could not be checked now has to be fetched later.
    fn refused(&self, arrival: Arrival, about: (Option<Tid>, i64), refusal: Refusal) -> Judged {
        let mut judged = self.rejected(arrival, about, refusal.reason);
        if refusal.is_transient {
            let mark = self.notice(arrival, about, NoticeKind::Resync, refusal.reason);
            judged.changes.push(mark);
        }
        judged
    }

    /// A notice for each operation of a good commit whose block is no record.
    fn problems<'a>(
        &'a self,
        arrival: Arrival,
        seq: i64,
        commit: &'a VerifiedCommit,
    ) -> impl Iterator<Item = Change> + 'a {
        commit.ops().iter().filter_map(move |op| {
            let problem = op.problem.as_ref()?;
            if !self.policy.filter.covers(&op.collection) {
                return None;
            }
            // One frame may hold several: each needs a hash of its own, or they would be one notice.
            let path = format!("{}/{}", op.collection, op.rkey);
            let arrival = Arrival {
                hash: hash_of(&[arrival.hash.as_slice(), path.as_bytes()].concat()),
                ..arrival
            };
            let about = (Some(commit.rev()), seq);
            Some(self.notice(arrival, about, NoticeKind::Rejection, problem.reason()))
        })
    }

    fn rejected(&self, arrival: Arrival, about: (Option<Tid>, i64), reason: &str) -> Judged {
        let notice = self.notice(arrival, about, NoticeKind::Rejection, reason);
        Judged::of(Fate::Rejected, vec![notice])
    }

    fn notice(
        &self,
        arrival: Arrival,
        (rev, seq): (Option<Tid>, i64),
        kind: NoticeKind,
        reason: &str,
    ) -> Change {
        Change::Notice(NoticeChange {
            kind,
            did: Some(self.did.clone()),
            rev,
            seq: Some(seq),
            ..notice(&self.policy.source, arrival, reason)
        })
    }

    fn delivery(&self, arrival: Arrival, seq: i64, time: &str) -> Delivery {
        Delivery {
            source: Arc::clone(&self.policy.source),
            seq: Some(seq),
            indexed_at: arrival.at,
            time: micros(time),
            // Each conversion says it for itself; what is unsigned stays at this.
            verification: atproto::Verification::Archive,
        }
    }
}

/// A rejection of a frame of which nothing but its size is known.
pub(crate) fn notice(source: &Arc<str>, arrival: Arrival, reason: &str) -> NoticeChange {
    NoticeChange {
        kind: NoticeKind::Rejection,
        reason: reason.to_owned(),
        source: Arc::clone(source),
        did: None,
        rev: None,
        seq: None,
        frame_hash: arrival.hash,
        bytes: arrival.bytes,
        attempt: 0,
        step: 0,
        indexed_at: arrival.at,
    }
}

/// The first 16 bytes of a BLAKE3.
pub(crate) fn hash_of(bytes: &[u8]) -> [u8; 16] {
    let mut short = [0; 16];
    short.copy_from_slice(&blake3::hash(bytes).as_bytes()[..16]);
    short
}

/// The first bytes of a commit's hash.
fn shortened(commit: Cid) -> u64 {
    let mut short = [0; 8];
    let bytes = commit.as_bytes();
    short.copy_from_slice(&bytes[bytes.len() - 8..]);
    u64::from_le_bytes(short)
}

fn micros(time: &str) -> Option<Micros> {
    datetime::parse(time).ok().map(Micros)
}
