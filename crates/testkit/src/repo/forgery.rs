//! What senders and owners can do to a commit, each with the reason for which it has to be rejected.

use std::collections::BTreeMap;

use atproto::mst::Node;
use atproto::{Action, Car, Cid, CommitFrame, Map, RepoOp, Tid, Value, car, cbor};

use super::Account;

/// One way to forge a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Forgery {
    /// The sender leaves an operation out.
    OpDropped,
    /// The sender adds a delete of a record that never was.
    DeleteAdded,
    /// The sender says another CID in an operation.
    CidChanged,
    /// The sender says another path in an operation.
    PathChanged,
    /// The sender says another `prev` in an update or delete.
    PrevChanged,
    /// The sender says an update to be a create.
    UpdateAsCreate,
    /// The sender says a create to be an update of something.
    CreateAsUpdate,
    /// The sender says an operation twice.
    PathRepeated,
    /// The sender says a path that names no record.
    PathNoRecord,
    /// The sender says another `prevData`.
    PrevDataChanged,
    /// The sender says another repository.
    RepoChanged,
    /// The sender says another revision.
    RevChanged,
    /// The sender says another commit.
    CommitChanged,
    /// The sender leaves the commit block out.
    CommitMissing,
    /// The sender leaves the tree's root out.
    TreeMissing,
    /// The sender leaves a record out.
    RecordMissing,
    /// The sender changes a byte of a record.
    RecordChanged,
    /// The sender cuts the blocks short.
    BlocksTruncated,
    /// The sender says `tooBig`.
    TooBig,
    /// The sender says `rebase`.
    Rebase,
    /// Signed with another key.
    OtherKey,
    /// Signed by the right key in the wrong form.
    HighS,
    /// The owner signs a revision of tomorrow.
    RevInFuture,
    /// The owner signs a commit of an old version.
    OldVersion,
    /// The owner signs a commit without `prev`.
    PrevAbsent,
    /// The owner signs a tree with a node that has a field more.
    NodeField,
    /// The owner signs a tree with a node out of order.
    NodeOrder,
    /// The owner signs a tree with a key that is not allowed.
    NodeKey,
    /// The owner signs a tree with an entry in the wrong layer.
    NodeLayer,
    /// The owner signs a tree whose node names itself as far as that is possible: by a hash that is wrong.
    NodeCycle,
}

impl Forgery {
    /// All of them.
    pub const ALL: [Self; 30] = [
        Self::OpDropped,
        Self::DeleteAdded,
        Self::CidChanged,
        Self::PathChanged,
        Self::PrevChanged,
        Self::UpdateAsCreate,
        Self::CreateAsUpdate,
        Self::PathRepeated,
        Self::PathNoRecord,
        Self::PrevDataChanged,
        Self::RepoChanged,
        Self::RevChanged,
        Self::CommitChanged,
        Self::CommitMissing,
        Self::TreeMissing,
        Self::RecordMissing,
        Self::RecordChanged,
        Self::BlocksTruncated,
        Self::TooBig,
        Self::Rebase,
        Self::OtherKey,
        Self::HighS,
        Self::RevInFuture,
        Self::OldVersion,
        Self::PrevAbsent,
        Self::NodeField,
        Self::NodeOrder,
        Self::NodeKey,
        Self::NodeLayer,
        Self::NodeCycle,
    ];

    /// Returns the reasons for which it may be rejected.
    #[must_use]
    pub fn reasons(self) -> &'static [&'static str] {
        match self {
            Self::OpDropped | Self::DeleteAdded | Self::PrevChanged | Self::PrevDataChanged => {
                &["inversion_mismatch"]
            }
            Self::UpdateAsCreate | Self::CreateAsUpdate => {
                &["inversion_mismatch", "inversion_failed"]
            }
            Self::CidChanged | Self::PathChanged => &["op_not_included"],
            Self::PathRepeated => &["op_path_repeated"],
            Self::PathNoRecord => &["op_path"],
            Self::RepoChanged => &["did_mismatch"],
            Self::RevChanged => &["rev_mismatch"],
            Self::CommitChanged => &["commit_root_mismatch"],
            Self::CommitMissing | Self::TreeMissing | Self::RecordMissing => &["missing_block"],
            Self::RecordChanged | Self::NodeCycle => &["car_block_hash"],
            Self::BlocksTruncated => &["car_truncated"],
            Self::TooBig => &["too_big"],
            Self::Rebase => &["rebase"],
            Self::OtherKey | Self::HighS => &["signature"],
            Self::RevInFuture => &["rev_in_future"],
            Self::OldVersion => &["commit_version"],
            Self::PrevAbsent => &["commit_field_missing"],
            Self::NodeField | Self::NodeOrder | Self::NodeKey | Self::NodeLayer => &["mst_node"],
        }
    }

    /// Returns the forged commit, or none if this commit does not have what is to be forged.
    ///
    /// `account` signs where the forgery needs it, so it must own the repository.
    #[must_use]
    pub fn of(self, frame: &CommitFrame, account: &Account) -> Option<CommitFrame> {
        match self {
            Self::OtherKey
            | Self::HighS
            | Self::RevInFuture
            | Self::OldVersion
            | Self::PrevAbsent
            | Self::NodeField
            | Self::NodeOrder
            | Self::NodeKey
            | Self::NodeLayer => self.signed(frame, account),
            Self::CommitMissing
            | Self::TreeMissing
            | Self::RecordMissing
            | Self::RecordChanged
            | Self::BlocksTruncated
            | Self::NodeCycle => self.blocks(frame),
            _ => self.fields(frame),
        }
    }

    fn fields(self, frame: &CommitFrame) -> Option<CommitFrame> {
        let mut frame = frame.clone();
        let other = Cid::of_cbor(b"another");
        let position = |wanted: fn(&RepoOp) -> bool| frame.ops.iter().position(wanted);
        match self {
            Self::OpDropped => {
                // An update to what was there already changes nothing, so it may be left out.
                let at = position(|op| op.cid != op.prev)?;
                frame.ops.remove(at);
            }
            Self::DeleteAdded => {
                // No other path can stand between the two, so the way to it is here too.
                let path = format!("{}-", frame.ops.first()?.path);
                frame.ops.push(RepoOp {
                    action: Action::Delete,
                    path,
                    cid: None,
                    prev: Some(other),
                });
            }
            Self::CidChanged => {
                let at = position(|op| op.cid.is_some())?;
                frame.ops[at].cid = Some(other);
            }
            Self::PathChanged => {
                let at = position(|op| op.cid.is_some())?;
                frame.ops[at].path.push('-');
            }
            Self::PrevChanged => {
                let at = position(|op| op.prev.is_some())?;
                frame.ops[at].prev = Some(other);
            }
            Self::UpdateAsCreate => {
                let at = position(|op| op.action == Action::Update)?;
                frame.ops[at].action = Action::Create;
                frame.ops[at].prev = None;
            }
            Self::CreateAsUpdate => {
                let at = position(|op| op.action == Action::Create)?;
                frame.ops[at].action = Action::Update;
                frame.ops[at].prev = Some(other);
            }
            Self::PathRepeated => frame.ops.push(frame.ops.first()?.clone()),
            Self::PathNoRecord => frame.ops.first_mut()?.path = "app.bsky/..".to_owned(),
            Self::PrevDataChanged => frame.prev_data = Some(other),
            Self::RepoChanged => frame.repo = "did:web:example.com".parse().ok()?,
            Self::RevChanged => frame.rev = Tid::from_value(frame.rev.value() + 1),
            Self::CommitChanged => frame.commit = other,
            Self::TooBig => frame.too_big = true,
            Self::Rebase => frame.rebase = true,
            _ => return None,
        }
        Some(frame)
    }

    fn blocks(self, frame: &CommitFrame) -> Option<CommitFrame> {
        let record = frame.ops.iter().find_map(|op| op.cid);
        let mut frame = frame.clone();
        let mut blocks = owned(&frame.blocks)?;
        match self {
            Self::CommitMissing => drop(blocks.remove(&frame.commit)?),
            Self::TreeMissing if frame.ops.is_empty() => return None,
            Self::TreeMissing => drop(blocks.remove(&data(blocks.get(&frame.commit)?)?)?),
            Self::RecordMissing => drop(blocks.remove(&record?)?),
            Self::RecordChanged => *blocks.get_mut(&record?)?.last_mut()? ^= 0x20,
            Self::NodeCycle => {
                let root = data(blocks.get(&frame.commit)?)?;
                let mut node = Node::decode(blocks.get(&root)?).ok()?;
                node.left = Some(root);
                blocks.insert(root, node.encode());
            }
            Self::BlocksTruncated => {
                frame.blocks.pop();
                return Some(frame);
            }
            _ => return None,
        }
        frame.blocks = encoded(frame.commit, &blocks);
        Some(frame)
    }

    fn signed(self, frame: &CommitFrame, account: &Account) -> Option<CommitFrame> {
        let mut frame = frame.clone();
        let mut sign: fn(&Account, &[u8]) -> [u8; 64] = Account::sign;
        let mut blocks = owned(&frame.blocks)?;
        let mut commit = commit_fields(blocks.get(&frame.commit)?)?;
        match self {
            Self::OtherKey => {
                sign = |account, message| {
                    account
                        .with_key_of(u64::MAX, super::Curve::K256)
                        .sign(message)
                }
            }
            Self::HighS => sign = Account::sign_high_s,
            Self::RevInFuture => {
                frame.rev = Tid::new(frame.rev.micros() + 24 * 3_600 * 1_000_000, 0)?;
                commit.insert("rev", frame.rev.to_string());
            }
            Self::OldVersion => drop(commit.insert("version", 2)),
            Self::PrevAbsent => drop(commit.remove("prev")?),
            // Only a commit with operations has readers of its tree.
            _ if frame.ops.is_empty() => return None,
            _ => {
                let root = commit.get("data")?.as_link()?;
                let block = self.node(blocks.get(&root)?)?;
                commit.insert("data", Cid::of_cbor(&block));
                blocks.insert(Cid::of_cbor(&block), block);
            }
        }
        resign(&mut frame, blocks, commit, &|message| {
            sign(account, message)
        });
        Some(frame)
    }

    /// Returns the block of a tree's root with something wrong.
    fn node(self, block: &[u8]) -> Option<Vec<u8>> {
        let mut node = Node::decode(block).ok()?;
        match self {
            Self::NodeField => {
                let Value::Map(mut map) = cbor::decode(block).ok()? else {
                    return None;
                };
                map.insert("x", Value::Null);
                return Some(cbor::encode(&Value::Map(map)));
            }
            Self::NodeOrder if node.entries.len() > 1 => node.entries.reverse(),
            Self::NodeKey => node.entries.last_mut()?.key.push('!'),
            Self::NodeLayer => {
                let layer = node.layer()?;
                let mut entry = node.entries.last()?.clone();
                while atproto::mst::depth(entry.key.as_bytes()) == layer {
                    entry.key.push('z');
                }
                node.entries.push(entry);
            }
            _ => return None,
        }
        Some(node.encode())
    }
}

/// Makes `commit`, the fields of a commit block without `sig`, the commit of `frame`, signed by `sign`.
///
/// The blocks of `frame` become `blocks` and the new commit block; its other fields stay as they are.
pub fn resign(
    frame: &mut CommitFrame,
    mut blocks: BTreeMap<Cid, Vec<u8>>,
    mut commit: Map,
    sign: &dyn Fn(&[u8]) -> [u8; 64],
) {
    blocks.remove(&frame.commit);
    let signature = sign(&cbor::encode(&Value::Map(commit.clone())));
    commit.insert("sig", Value::Bytes(signature.to_vec()));
    let block = cbor::encode(&Value::Map(commit));
    frame.commit = Cid::of_cbor(&block);
    blocks.insert(frame.commit, block);
    frame.blocks = encoded(frame.commit, &blocks);
}

fn owned(car: &[u8]) -> Option<BTreeMap<Cid, Vec<u8>>> {
    Some(
        Car::parse(car)
            .ok()?
            .iter()
            .map(|(cid, block)| (cid, block.to_vec()))
            .collect(),
    )
}

fn encoded(root: Cid, blocks: &BTreeMap<Cid, Vec<u8>>) -> Vec<u8> {
    car::encode(
        &[root],
        blocks.iter().map(|(cid, block)| (*cid, block.as_slice())),
    )
}

fn commit_fields(block: &[u8]) -> Option<Map> {
    let Value::Map(mut map) = cbor::decode(block).ok()? else {
        return None;
    };
    map.remove("sig");
    Some(map)
}

fn data(commit: &[u8]) -> Option<Cid> {
    commit_fields(commit)?.get("data")?.as_link()
}
