//! One account's repository, as its host keeps it.

use std::collections::BTreeMap;

use atproto::commit::UnsignedCommit;
use atproto::mst::Tree;
use atproto::{
    AccountFrame, Action, Cid, CommitFrame, IdentityFrame, RepoOp, SyncFrame, Tid, Value, car,
    cbor, datetime,
};

use super::Account;

/// When a message is made, and as which one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// The sender's number for it.
    pub seq: i64,
    /// The time, in µs since the epoch.
    pub at_us: i64,
}

impl Stamp {
    fn time(self) -> String {
        datetime::canonical(self.at_us)
    }
}

/// A change of one record. Whether it creates or updates follows from what is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    path: String,
    record: Option<Vec<u8>>,
}

impl Write {
    /// Puts `record` at `path`, `collection/rkey`.
    #[must_use]
    pub fn put(path: impl Into<String>, record: &Value) -> Self {
        Self::put_bytes(path, cbor::encode(record))
    }

    /// Puts a block at `path` that need not be a record.
    #[must_use]
    pub fn put_bytes(path: impl Into<String>, record: Vec<u8>) -> Self {
        Self {
            path: path.into(),
            record: Some(record),
        }
    }

    /// Deletes the record at `path`.
    #[must_use]
    pub fn delete(path: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            record: None,
        }
    }
}

/// What is wrong with a CAR that [`RepoBuilder::car_with`] makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CarFlaw {
    /// Signed with another key.
    OtherKey,
    /// Signed by the right key in the wrong form.
    HighS,
    /// A signature of zeros.
    Unsigned,
    /// The last block is not there; the cut is at a block's boundary, so the CAR parses.
    LastBlockMissing,
    /// The tree's root is not there.
    TreeMissing,
    /// The last byte is not there.
    Truncated,
    /// A byte of the last block is another.
    Damaged,
}

#[derive(Debug, Clone)]
struct Head {
    rev: Tid,
    data: Cid,
    commit: Cid,
    block: Vec<u8>,
}

/// A repository and the account that owns it.
#[derive(Debug, Clone)]
pub struct RepoBuilder {
    account: Account,
    tree: Tree<'static>,
    records: BTreeMap<String, Vec<u8>>,
    head: Option<Head>,
}

impl RepoBuilder {
    /// Makes the repository of `account`, with no commit yet.
    #[must_use]
    pub fn new(account: Account) -> Self {
        Self {
            account,
            tree: Tree::default(),
            records: BTreeMap::new(),
            head: None,
        }
    }

    /// Returns who owns it.
    #[must_use]
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// Signs with the key of `account` from now on.
    pub fn rotate(&mut self, account: Account) {
        assert_eq!(
            account.did(),
            self.account.did(),
            "a rotation keeps the DID"
        );
        self.account = account;
    }

    /// Returns the records by path.
    #[must_use]
    pub fn records(&self) -> &BTreeMap<String, Vec<u8>> {
        &self.records
    }

    /// Returns the revision of the last commit.
    #[must_use]
    pub fn rev(&self) -> Option<Tid> {
        self.head.as_ref().map(|head| head.rev)
    }

    /// Returns the CID of the last commit.
    #[must_use]
    pub fn commit_cid(&self) -> Option<Cid> {
        self.head.as_ref().map(|head| head.commit)
    }

    /// Returns the tree's root after the last commit.
    #[must_use]
    pub fn data(&self) -> Option<Cid> {
        self.head.as_ref().map(|head| head.data)
    }

    /// Commits `writes` and returns what the host sends of it.
    ///
    /// The first commit says the empty tree as `prevData`. The revision is the time, or just above the last one.
    ///
    /// # Panics
    /// If a write deletes a record that is not there, or a path is written twice.
    pub fn commit(&mut self, stamp: Stamp, writes: &[Write]) -> CommitFrame {
        let since = self.rev();
        let prev_data = self.tree.root();
        let ops: Vec<RepoOp> = writes.iter().map(|write| self.apply(write)).collect();
        let mut blocks = BTreeMap::new();
        for (write, op) in writes.iter().zip(&ops) {
            self.tree
                .prove(&op.path, &mut blocks)
                .expect("a whole tree");
            blocks.extend(op.cid.into_iter().zip(write.record.clone()));
        }
        let distinct: std::collections::BTreeSet<_> = ops.iter().map(|op| &op.path).collect();
        assert_eq!(distinct.len(), ops.len(), "a commit names a path once");
        let head = self.sign(stamp.at_us);
        let blocks = blocks.iter().map(|(cid, block)| (*cid, block.as_slice()));
        let blocks = car::encode(
            &[head.commit],
            [(head.commit, head.block.as_slice())]
                .into_iter()
                .chain(blocks),
        );
        let frame = CommitFrame {
            seq: stamp.seq,
            repo: self.account.did().clone(),
            rev: head.rev,
            since,
            commit: head.commit,
            blocks,
            ops,
            prev_data: Some(prev_data),
            time: stamp.time(),
            too_big: false,
            rebase: false,
        };
        self.head = Some(head);
        frame
    }

    fn apply(&mut self, write: &Write) -> RepoOp {
        let path = write.path.clone();
        let cid = write.record.as_deref().map(Cid::of_cbor);
        let prev = match cid {
            Some(cid) => self.tree.insert(&path, cid),
            None => self.tree.remove(&path),
        }
        .expect("a path that trees may have");
        let action = match (prev, cid) {
            (None, Some(_)) => Action::Create,
            (Some(_), Some(_)) => Action::Update,
            (Some(_), None) => Action::Delete,
            (None, None) => panic!("there is no record at {path} to delete"),
        };
        match &write.record {
            Some(record) => self.records.insert(path.clone(), record.clone()),
            None => self.records.remove(&path),
        };
        RepoOp {
            action,
            path,
            cid,
            prev,
        }
    }

    fn sign(&mut self, at_us: i64) -> Head {
        let at = Tid::new(at_us, 7).expect("a time that TIDs can say");
        let rev = self
            .rev()
            .map_or(at, |last| at.max(Tid::from_value(last.value() + 1)));
        let data = self.tree.root();
        let commit = UnsignedCommit {
            did: self.account.did().clone(),
            data,
            rev,
        };
        let block = commit.encode_signed(&self.account.sign(&commit.encode()));
        Head {
            rev,
            data,
            commit: Cid::of_cbor(&block),
            block,
        }
    }

    fn head(&self) -> &Head {
        self.head.as_ref().expect("a repository with a commit")
    }

    /// Returns a `#sync` of the last commit.
    ///
    /// # Panics
    /// If there is no commit yet.
    #[must_use]
    pub fn sync(&self, stamp: Stamp) -> SyncFrame {
        let head = self.head();
        SyncFrame {
            seq: stamp.seq,
            did: self.account.did().clone(),
            rev: head.rev,
            blocks: car::encode(&[head.commit], [(head.commit, head.block.as_slice())]),
            time: stamp.time(),
        }
    }

    /// Returns an `#identity` with the account's handle.
    #[must_use]
    pub fn identity(&self, stamp: Stamp) -> IdentityFrame {
        IdentityFrame {
            seq: stamp.seq,
            did: self.account.did().clone(),
            time: stamp.time(),
            handle: Some(self.account.handle().clone()),
        }
    }

    /// Returns an `#account`; it is active without a `status`.
    #[must_use]
    pub fn account_status(&self, stamp: Stamp, status: Option<&str>) -> AccountFrame {
        AccountFrame {
            seq: stamp.seq,
            did: self.account.did().clone(),
            time: stamp.time(),
            active: status.is_none(),
            status: status.map(str::to_owned),
        }
    }

    /// Returns the whole repository as a CAR: the commit, the tree, the records.
    ///
    /// # Panics
    /// If there is no commit yet.
    pub fn car(&mut self) -> Vec<u8> {
        let (root, blocks) = self.export(None);
        car::encode(
            &[root],
            blocks.iter().map(|(cid, block)| (*cid, block.as_slice())),
        )
    }

    /// Returns the whole repository as a CAR with something wrong.
    ///
    /// # Panics
    /// If there is no commit yet, or no record.
    pub fn car_with(&mut self, flaw: CarFlaw) -> Vec<u8> {
        let (root, mut blocks) = self.export(Some(flaw));
        match flaw {
            CarFlaw::LastBlockMissing => drop(blocks.pop()),
            CarFlaw::TreeMissing => drop(blocks.remove(1)),
            CarFlaw::Damaged => {
                let last = blocks.last_mut().and_then(|(_, block)| block.last_mut());
                *last.expect("a record") ^= 1;
            }
            _ => {}
        }
        let mut car = car::encode(
            &[root],
            blocks.iter().map(|(cid, block)| (*cid, block.as_slice())),
        );
        if flaw == CarFlaw::Truncated {
            car.pop();
        }
        car
    }

    /// Returns the commit, the tree's root, the other nodes and the records, in this order.
    fn export(&mut self, flaw: Option<CarFlaw>) -> (Cid, Vec<(Cid, Vec<u8>)>) {
        let head = self.head().clone();
        let commit = UnsignedCommit {
            did: self.account.did().clone(),
            data: head.data,
            rev: head.rev,
        };
        let message = commit.encode();
        let block = match flaw {
            Some(CarFlaw::OtherKey) => {
                let other = self.account.with_key_of(u64::MAX, super::Curve::K256);
                commit.encode_signed(&other.sign(&message))
            }
            Some(CarFlaw::HighS) => commit.encode_signed(&self.account.sign_high_s(&message)),
            Some(CarFlaw::Unsigned) => commit.encode_signed(&[0; 64]),
            _ => head.block,
        };
        let root = Cid::of_cbor(&block);
        let mut nodes = BTreeMap::new();
        self.tree.blocks(&mut nodes);
        let tree = nodes.remove_entry(&head.data).expect("the tree's root");
        let mut blocks = vec![(root, block), tree];
        blocks.extend(nodes);
        blocks.extend(
            self.records
                .values()
                .map(|record| (Cid::of_cbor(record), record.clone())),
        );
        (root, blocks)
    }
}
