//! One repo's frames of one source, in their order: admitted, verified, turned into changes.
//!
//! Pure and slow: a commit costs a signature and the hashes of its blocks. Nothing of a frame that fails a check is in
//! any change but for the reason and sizes in its notice.

use std::sync::Arc;

use atproto::{
    AccountFrame, CommitFrame, Did, DidDocument, Frame, IdentityFrame, PublicKey, SyncFrame, Tid,
    VerifiedCommit, VerifyError, datetime, verify_commit, verify_sync,
};
use crdt::{
    Change, Delivery, Micros, NoticeChange, NoticeKind, changes_of_account, changes_of_commit,
    changes_of_identity, changes_of_sync,
};

use crate::admission::{gap, is_replay};
use crate::identity::ResolveError;
use crate::known::KnownHead;

/// Why the time of an unsigned frame, by which it merges, is refused.
const TIME: &str = "frame_time";

/// Why a repo whose document has no signing key of a known kind is refused.
pub(crate) const NO_KEY: &str = "no_signing_key";

/// What is known of a frame besides its content.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    /// Its place in the source, from 0.
    pub(crate) index: u64,
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
}

/// How a frame counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Commit,
    Sync,
    Identity,
    Account,
    Replay,
    Ignored,
    Rejected,
}

/// A repo as one source has told of it so far.
#[derive(Debug)]
pub(crate) struct Repo<'a> {
    pub(crate) source: &'a Arc<str>,
    pub(crate) did: &'a Did,
    pub(crate) document: &'a Result<Arc<DidDocument>, ResolveError>,
    pub(crate) head: Option<KnownHead>,
}

impl Repo<'_> {
    /// Takes the repo's next frame; a good commit or `#sync` becomes its head.
    pub(crate) fn take(&mut self, arrival: Arrival, frame: &Frame) -> Outcome {
        let (fate, changes) = match frame {
            Frame::Commit(frame) => self.commit(arrival, frame),
            Frame::Sync(frame) => self.sync(arrival, frame),
            Frame::Identity(frame) => self.identity(arrival, frame),
            Frame::Account(frame) => self.account(arrival, frame),
            Frame::Info { .. } | Frame::Error { .. } | Frame::Unknown { .. } => {
                (Fate::Ignored, Vec::new())
            }
        };
        Outcome {
            arrival,
            fate,
            changes,
        }
    }

    fn commit(&mut self, arrival: Arrival, frame: &CommitFrame) -> (Fate, Vec<Change>) {
        // What is replayed need not be good: it is dropped either way, before the cost of verifying it.
        if is_replay(self.head, frame.rev) {
            return (Fate::Replay, Vec::new());
        }
        let about = (Some(frame.rev), frame.seq);
        let commit = match self.key() {
            Ok(key) => verify_commit(frame, key, arrival.at.0).map_err(|error| refusal(&error)),
            Err(reason) => Err(reason),
        };
        let commit = match commit {
            Ok(commit) => commit,
            Err(reason) => return self.rejected(arrival, about, reason),
        };
        let mut changes =
            changes_of_commit(&commit, &self.delivery(arrival, frame.seq, &frame.time));
        changes.extend(self.problems(arrival, frame.seq, &commit));
        if let Some(gap) = gap(self.head, commit.since(), commit.prev_data()) {
            changes.push(self.notice(arrival, about, NoticeKind::Gap, gap.reason()));
        }
        self.head = Some(KnownHead {
            rev: commit.rev(),
            data: commit.data(),
        });
        (Fate::Commit, changes)
    }

    fn sync(&mut self, arrival: Arrival, frame: &SyncFrame) -> (Fate, Vec<Change>) {
        // A repeated `#sync` of the rev that is known is news if the tree is another: only its block tells.
        if self.head.is_some_and(|head| frame.rev < head.rev) {
            return (Fate::Replay, Vec::new());
        }
        let about = (Some(frame.rev), frame.seq);
        let sync = match self.key() {
            Ok(key) => verify_sync(frame, key, arrival.at.0).map_err(|error| refusal(&error)),
            Err(reason) => Err(reason),
        };
        let sync = match sync {
            Ok(sync) => sync,
            Err(reason) => return self.rejected(arrival, about, reason),
        };
        let Some(time) = micros(&frame.time) else {
            return self.rejected(arrival, about, TIME);
        };
        let delivery = self.delivery(arrival, frame.seq, &frame.time);
        let mut changes = changes_of_sync(&sync, time, &delivery);
        let head = KnownHead {
            rev: sync.rev(),
            data: sync.data(),
        };
        if self.head != Some(head) {
            // The records of this state were not delivered.
            changes.push(self.notice(arrival, about, NoticeKind::Resync, "sync"));
            self.head = Some(head);
        }
        (Fate::Sync, changes)
    }

    fn identity(&self, arrival: Arrival, frame: &IdentityFrame) -> (Fate, Vec<Change>) {
        let Some(time) = micros(&frame.time) else {
            return self.rejected(arrival, (None, frame.seq), TIME);
        };
        let document = self.document.as_ref().ok();
        let pds = document.and_then(|document| document.pds.as_deref());
        let delivery = self.delivery(arrival, frame.seq, &frame.time);
        let changes = changes_of_identity(frame, pds, time, &delivery);
        (Fate::Identity, changes)
    }

    fn account(&self, arrival: Arrival, frame: &AccountFrame) -> (Fate, Vec<Change>) {
        let Some(time) = micros(&frame.time) else {
            return self.rejected(arrival, (None, frame.seq), TIME);
        };
        let delivery = self.delivery(arrival, frame.seq, &frame.time);
        (Fate::Account, changes_of_account(frame, time, &delivery))
    }

    /// The key that its commits are signed with, or why there is none.
    fn key(&self) -> Result<&PublicKey, &'static str> {
        let document = self.document.as_ref().map_err(ResolveError::reason)?;
        document.signing_key.as_ref().ok_or(NO_KEY)
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

    fn rejected(
        &self,
        arrival: Arrival,
        about: (Option<Tid>, i64),
        reason: &str,
    ) -> (Fate, Vec<Change>) {
        let notice = self.notice(arrival, about, NoticeKind::Rejection, reason);
        (Fate::Rejected, vec![notice])
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
            ..notice(self.source, arrival, reason)
        })
    }

    fn delivery(&self, arrival: Arrival, seq: i64, time: &str) -> Delivery {
        Delivery {
            source: Arc::clone(self.source),
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

fn refusal(error: &VerifyError) -> &'static str {
    error.reason()
}

fn micros(time: &str) -> Option<Micros> {
    datetime::parse(time).ok().map(Micros)
}
