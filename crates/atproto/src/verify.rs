//! From what a sender says to what a repository's key has signed.
//!
//! [`verify_commit`], [`verify_sync`] and [`verify_repo`] are the only ways to a [`VerifiedCommit`], a
//! [`VerifiedSync`] and a [`VerifiedRepo`], so code that holds one need not check again. A check that fails rejects
//! all of it; a check that cannot be made leaves a lower [`Verification`].
//! What was known of the repository before, such as its revision, is for the caller to compare.

mod error;

use std::collections::BTreeSet;

use bytes::Bytes;

use crate::car::Car;
use crate::commit::Commit;
use crate::frame::{Action, CommitFrame, RepoOp, SyncFrame};
use crate::mst::{self, Tree};
use crate::{Cid, Codec, Did, Nsid, PublicKey, RecordKey, Tid, Value, Verification, cbor};

pub use error::{RecordProblem, VerifyError};

/// How far in the future a revision may lie, for clocks that go wrong.
pub const REV_AHEAD_US_MAX: i64 = 5 * 60 * 1_000_000;

/// How long a record may be.
pub const RECORD_BYTES_MAX: usize = 1024 * 1024;

/// A commit of which every claim was checked as far as [`VerifiedCommit::verification`] says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedCommit {
    head: Head,
    since: Option<Tid>,
    prev_data: Option<Cid>,
    ops: Vec<VerifiedOp>,
    verification: Verification,
    seq: i64,
    time: String,
}

/// A repository's state: its commit block and what that says.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Head {
    did: Did,
    rev: Tid,
    commit: Cid,
    data: Cid,
    commit_block: Bytes,
}

/// One operation of a [`VerifiedCommit`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedOp {
    /// What happened.
    pub action: Action,
    /// Which kind of record.
    pub collection: Nsid,
    /// Which record of it.
    pub rkey: RecordKey,
    /// The record's CID, none after a delete.
    pub cid: Option<Cid>,
    /// The CID before, if the frame says it.
    pub prev: Option<Cid>,
    /// The record, a canonical DAG-CBOR map; none after a delete, and none if there is a `problem`.
    pub record: Option<Bytes>,
    /// Why the block at `cid` is no record. The rest of the commit is good.
    pub problem: Option<RecordProblem>,
}

macro_rules! head_getters {
    ($type:ty) => {
        impl $type {
            /// Returns whose repository it is.
            #[must_use]
            pub fn did(&self) -> &Did {
                &self.head.did
            }

            /// Returns the revision.
            #[must_use]
            pub fn rev(&self) -> Tid {
                self.head.rev
            }

            /// Returns the commit block's CID.
            #[must_use]
            pub fn commit(&self) -> Cid {
                self.head.commit
            }

            /// Returns the root of the tree.
            #[must_use]
            pub fn data(&self) -> Cid {
                self.head.data
            }

            /// Returns the commit block, with its signature.
            #[must_use]
            pub fn commit_block(&self) -> &Bytes {
                &self.head.commit_block
            }
        }
    };
}

head_getters!(VerifiedCommit);
head_getters!(VerifiedSync);
head_getters!(VerifiedRepo);

impl VerifiedCommit {
    /// Returns the revision before, as the sender says: nothing covers it.
    #[must_use]
    pub fn since(&self) -> Option<Tid> {
        self.since
    }

    /// Returns the root of the tree before; checked only if the commit is [`Verification::Inverted`].
    #[must_use]
    pub fn prev_data(&self) -> Option<Cid> {
        self.prev_data
    }

    /// Returns the operations, in the sender's order; no two have the same path.
    #[must_use]
    pub fn ops(&self) -> &[VerifiedOp] {
        &self.ops
    }

    /// Returns how far it was checked: [`Verification::Inclusion`] or [`Verification::Inverted`].
    #[must_use]
    pub fn verification(&self) -> Verification {
        self.verification
    }

    /// Returns the sender's number for it: nothing covers it.
    #[must_use]
    pub fn seq(&self) -> Option<i64> {
        Some(self.seq)
    }

    /// Returns when the sender says it was: nothing covers it.
    #[must_use]
    pub fn time(&self) -> &str {
        &self.time
    }
}

/// A `#sync` whose commit block has a good signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedSync {
    head: Head,
    seq: i64,
    time: String,
}

impl VerifiedSync {
    /// Returns the sender's number for it: nothing covers it.
    #[must_use]
    pub fn seq(&self) -> Option<i64> {
        Some(self.seq)
    }

    /// Returns when the sender says it was: nothing covers it.
    #[must_use]
    pub fn time(&self) -> &str {
        &self.time
    }
}

/// A whole repository: its commit, and every record that its tree names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedRepo {
    head: Head,
    verification: Verification,
    records: Vec<RepoRecord>,
    refused: Vec<RefusedRecord>,
}

impl VerifiedRepo {
    /// Returns how far it was checked: [`Verification::Signature`] with a key, [`Verification::Archive`] without.
    #[must_use]
    pub fn verification(&self) -> Verification {
        self.verification
    }

    /// Returns the records in path order.
    #[must_use]
    pub fn records(&self) -> &[RepoRecord] {
        &self.records
    }

    /// Returns what the tree names but is no record, in path order.
    #[must_use]
    pub fn refused(&self) -> &[RefusedRecord] {
        &self.refused
    }
}

/// One record of a [`VerifiedRepo`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepoRecord {
    /// Which kind of record.
    pub collection: Nsid,
    /// Which record of it.
    pub rkey: RecordKey,
    /// The record's CID.
    pub cid: Cid,
    /// The record, a canonical DAG-CBOR map.
    pub record: Bytes,
}

/// Something that a repository's tree names and that is no record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedRecord {
    /// Where it is.
    pub path: String,
    /// Its CID.
    pub cid: Cid,
    /// Why it is none.
    pub problem: RecordProblem,
}

/// Verifies a `#commit` against the key of its repository; `now_us` is the time, in µs since the epoch.
///
/// A commit reaches [`Verification::Inverted`] if it says `prevData`, and `prev` for each update and delete.
/// A record that is no record does not reject its commit: see [`VerifiedOp::problem`].
///
/// # Errors
/// [`VerifyError`], of which nothing may be used. After [`VerifyError::Signature`] the key may just be old.
pub fn verify_commit(
    frame: &CommitFrame,
    key: &PublicKey,
    now_us: i64,
) -> Result<VerifiedCommit, VerifyError> {
    if frame.too_big {
        return Err(VerifyError::TooBig);
    }
    if frame.rebase {
        return Err(VerifyError::Rebase);
    }
    let paths = check_ops(&frame.ops)?;
    let car = Car::parse(&frame.blocks)?;
    if car.root() != frame.commit {
        return Err(VerifyError::RootMismatch);
    }
    let head = read_head(&car, Some((&frame.repo, frame.rev)), Some(key), now_us)?;
    let verification = verify_tree(frame, &head, &car)?;
    let ops = frame.ops.iter().zip(paths).map(|(op, (collection, rkey))| {
        let record = op.cid.map(|cid| read_record(&car, cid)).transpose()?;
        let (record, problem) = match record {
            Some(Ok(record)) => (Some(record), None),
            Some(Err(problem)) => (None, Some(problem)),
            None => (None, None),
        };
        Ok(VerifiedOp {
            action: op.action,
            collection,
            rkey,
            cid: op.cid,
            prev: op.prev,
            record,
            problem,
        })
    });
    Ok(VerifiedCommit {
        ops: ops.collect::<Result<_, VerifyError>>()?,
        head,
        since: frame.since,
        prev_data: frame.prev_data,
        verification,
        seq: frame.seq,
        time: frame.time.clone(),
    })
}

/// Verifies a `#sync` against the key of its repository; `now_us` is the time, in µs since the epoch.
///
/// # Errors
/// [`VerifyError`], of which nothing may be used.
pub fn verify_sync(
    frame: &SyncFrame,
    key: &PublicKey,
    now_us: i64,
) -> Result<VerifiedSync, VerifyError> {
    let car = Car::parse(&frame.blocks)?;
    let head = read_head(&car, Some((&frame.did, frame.rev)), Some(key), now_us)?;
    Ok(VerifiedSync {
        head,
        seq: frame.seq,
        time: frame.time.clone(),
    })
}

/// Verifies a repository's CAR, against its key if there is one; `now_us` is the time, in µs since the epoch.
///
/// Every node of the tree and every record must be there: a CAR that was cut short is an error.
/// Whether the repository is the one that was asked for is for the caller to compare.
///
/// # Errors
/// [`VerifyError`], of which nothing may be used.
pub fn verify_repo(
    car: &[u8],
    key: Option<&PublicKey>,
    now_us: i64,
) -> Result<VerifiedRepo, VerifyError> {
    let car = Car::parse(car)?;
    let head = read_head(&car, None, key, now_us)?;
    let mut found = Vec::new();
    mst::walk(head.data, &car, &mut |path, cid| {
        found.push((path.to_owned(), cid))
    })?;
    let (mut records, mut refused) = (Vec::new(), Vec::new());
    for (path, cid) in found {
        let record = read_record(&car, cid)?;
        match (split_path(&path), record) {
            (Some((collection, rkey)), Ok(record)) => records.push(RepoRecord {
                collection,
                rkey,
                cid,
                record,
            }),
            (None, _) => refused.push(RefusedRecord {
                path,
                cid,
                problem: RecordProblem::Path,
            }),
            (_, Err(problem)) => refused.push(RefusedRecord { path, cid, problem }),
        }
    }
    let verification = if key.is_some() {
        Verification::Signature
    } else {
        Verification::Archive
    };
    Ok(VerifiedRepo {
        head,
        verification,
        records,
        refused,
    })
}

/// Reads the commit block that a CAR's root names.
///
/// It must be of the repository and revision that were `said`, and signed by `key`, if there are these.
fn read_head(
    car: &Car<'_>,
    said: Option<(&Did, Tid)>,
    key: Option<&PublicKey>,
    now_us: i64,
) -> Result<Head, VerifyError> {
    let cid = car.root();
    if cid.codec() != Codec::DagCbor {
        return Err(VerifyError::CommitCodec);
    }
    let block = car.get(&cid).ok_or(VerifyError::MissingBlock { cid })?;
    let commit = Commit::decode(block)?;
    if said.is_some_and(|(did, _)| *did != commit.did) {
        return Err(VerifyError::DidMismatch);
    }
    if said.is_some_and(|(_, rev)| rev != commit.rev) {
        return Err(VerifyError::RevMismatch);
    }
    if commit.rev.micros() > now_us.saturating_add(REV_AHEAD_US_MAX) {
        return Err(VerifyError::RevInFuture { rev: commit.rev });
    }
    // The signature last: it costs more than all else here.
    if let Some(key) = key {
        commit.verify(key)?;
    }
    Ok(Head {
        did: commit.did,
        rev: commit.rev,
        commit: cid,
        data: commit.data,
        commit_block: Bytes::copy_from_slice(block),
    })
}

fn split_path(path: &str) -> Option<(Nsid, RecordKey)> {
    let (collection, rkey) = path.split_once('/')?;
    Some((collection.parse().ok()?, rkey.parse().ok()?))
}

/// Checks what can be said of operations without blocks, and returns their paths in parts.
fn check_ops(ops: &[RepoOp]) -> Result<Vec<(Nsid, RecordKey)>, VerifyError> {
    let mut seen = BTreeSet::new();
    let mut paths = Vec::with_capacity(ops.len());
    for op in ops {
        let path = || op.path.clone();
        if !seen.insert(op.path.as_str()) {
            return Err(VerifyError::PathRepeated { path: path() });
        }
        paths.push(split_path(&op.path).ok_or_else(|| VerifyError::Path { path: path() })?);
        let fits = match op.action {
            Action::Create => op.cid.is_some() && op.prev.is_none(),
            Action::Update => op.cid.is_some(),
            Action::Delete => op.cid.is_none(),
        };
        if !fits {
            return Err(VerifyError::OpFields { path: path() });
        }
    }
    Ok(paths)
}

/// Checks that the tree holds what the operations say, and that without them it is the tree before.
fn verify_tree(
    frame: &CommitFrame,
    head: &Head,
    car: &Car<'_>,
) -> Result<Verification, VerifyError> {
    if frame.ops.is_empty() {
        // Nothing to undo, so the tree is that of before and its root need not be here.
        return match frame.prev_data {
            Some(prev_data) if prev_data == head.data => Ok(Verification::Inverted),
            Some(_) => Err(VerifyError::InversionMismatch),
            None => Ok(Verification::Inclusion),
        };
    }
    let mut tree = Tree::load(head.data, car)?;
    for op in &frame.ops {
        if tree.get(&op.path)? != op.cid {
            return Err(VerifyError::NotIncluded {
                path: op.path.clone(),
            });
        }
    }
    let Some(prev_data) = frame.prev_data else {
        return Ok(Verification::Inclusion);
    };
    if frame
        .ops
        .iter()
        .any(|op| op.action != Action::Create && op.prev.is_none())
    {
        return Ok(Verification::Inclusion);
    }
    for op in frame.ops.iter().rev() {
        // An operation's `prev` is none exactly if it is a create, as was checked.
        match op.prev {
            None => tree.remove(&op.path),
            Some(prev) => tree.insert(&op.path, prev),
        }
        .map_err(VerifyError::Inversion)?;
    }
    if tree.root() == prev_data {
        Ok(Verification::Inverted)
    } else {
        Err(VerifyError::InversionMismatch)
    }
}

/// Reads the record that `cid` names: an error if it is not here, a problem if it is no record.
fn read_record(car: &Car<'_>, cid: Cid) -> Result<Result<Bytes, RecordProblem>, VerifyError> {
    let block = car.get(&cid).ok_or(VerifyError::MissingBlock { cid })?;
    if cid.codec() != Codec::DagCbor {
        return Ok(Err(RecordProblem::Codec));
    }
    if block.len() > RECORD_BYTES_MAX {
        return Ok(Err(RecordProblem::TooLong { bytes: block.len() }));
    }
    Ok(match cbor::decode(block) {
        Ok(Value::Map(_)) => Ok(Bytes::copy_from_slice(block)),
        Ok(_) => Err(RecordProblem::NotMap),
        Err(source) => Err(RecordProblem::Cbor { source }),
    })
}
