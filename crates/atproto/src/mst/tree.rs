//! The tree as a value that can be asked and changed, over blocks that need not all be there.

use std::collections::BTreeMap;
use std::fmt;

use super::key::{self, DEPTH_MAX, KeyError};
use super::node::{Node, NodeEntry};
use super::{MstError, check_key};
use crate::{Cid, Codec};

/// Where a tree finds its nodes.
pub trait Blocks: fmt::Debug + Sync {
    /// Returns the block that `cid` names, if it is here.
    fn block(&self, cid: &Cid) -> Option<&[u8]>;
}

/// A tree that was made in memory has all its nodes there.
impl Blocks for () {
    fn block(&self, _: &Cid) -> Option<&[u8]> {
        None
    }
}

impl<Block: AsRef<[u8]> + fmt::Debug + Sync> Blocks for BTreeMap<Cid, Block> {
    fn block(&self, cid: &Cid) -> Option<&[u8]> {
        self.get(cid).map(AsRef::as_ref)
    }
}

/// A Merkle search tree from record paths to record CIDs.
///
/// Every node is checked when it is loaded: canonical, in its layer, its keys within its range. Looking up loads too,
/// so it needs `&mut self`. After an error in a change the tree may have lost a part of itself: throw it away.
#[derive(Debug, Clone)]
pub struct Tree<'b> {
    blocks: &'b dyn Blocks,
    root: Option<Root>,
}

#[derive(Debug, Clone)]
struct Root {
    layer: u8,
    subtree: Subtree,
}

#[derive(Debug, Clone)]
enum Subtree {
    /// Not loaded yet.
    Stored(Cid),
    Loaded(Branch),
}

/// A node in memory. Never two subtrees side by side, all leaves in the node's layer, subtrees one layer below.
#[derive(Debug, Clone)]
struct Branch {
    slots: Vec<Slot>,
    /// The node's CID while it is unchanged.
    stored: Option<Cid>,
}

#[derive(Debug, Clone)]
enum Slot {
    Leaf { key: String, value: Cid },
    Subtree(Subtree),
}

/// Where a key is, or would be, in a branch.
enum Place {
    Leaf(usize),
    /// Within the subtree of this slot.
    Subtree(usize),
    /// Before the slot of this index, where no subtree is.
    Gap(usize),
}

/// The keys between which a node stands, both exclusive.
#[derive(Debug, Clone, Copy)]
struct Range<'k> {
    after: Option<&'k str>,
    before: Option<&'k str>,
}

impl Range<'_> {
    const ALL: Range<'static> = Range {
        after: None,
        before: None,
    };

    fn contains(&self, key: &str) -> bool {
        self.after.is_none_or(|after| after < key) && self.before.is_none_or(|before| key < before)
    }
}

impl Default for Tree<'static> {
    fn default() -> Self {
        Self {
            blocks: &(),
            root: None,
        }
    }
}

impl<'b> Tree<'b> {
    /// Loads the tree of which `root` is the root node, which must be among the blocks; all else is loaded when needed.
    ///
    /// # Errors
    /// [`MstError`] if the root node is missing or wrong.
    pub fn load(root: Cid, blocks: &'b dyn Blocks) -> Result<Self, MstError> {
        let node = read(root, blocks)?;
        let Some(layer) = node.layer() else {
            return match node.left {
                None => Ok(Self { blocks, root: None }),
                Some(_) => Err(MstError::BareRoot { cid: root }),
            };
        };
        let branch = Branch::of_node(root, node, layer, Range::ALL)?;
        Ok(Self {
            blocks,
            root: Some(Root {
                layer,
                subtree: Subtree::Loaded(branch),
            }),
        })
    }

    /// Returns the CID of the record at `key`.
    ///
    /// # Errors
    /// [`MstError`] if a node on the way is missing or wrong.
    pub fn get(&mut self, key: &str) -> Result<Option<Cid>, MstError> {
        let Some(root) = &mut self.root else {
            return Ok(None);
        };
        let (mut layer, mut subtree, mut range) = (root.layer, &mut root.subtree, Range::ALL);
        loop {
            let branch = subtree.open(layer, range, self.blocks)?;
            match branch.place(key) {
                Place::Leaf(at) => return Ok(branch.value(at)),
                Place::Gap(_) => return Ok(None),
                Place::Subtree(at) => {
                    (subtree, range) = branch.subtree(at, range);
                    layer -= 1;
                }
            }
        }
    }

    /// Puts the record at `key` and returns the CID that was there.
    ///
    /// # Errors
    /// [`MstError`] if trees may not have `key`, or a node on the way is missing or wrong.
    pub fn insert(&mut self, key: &str, value: Cid) -> Result<Option<Cid>, MstError> {
        check_key(key)?;
        let depth = key::depth(key.as_bytes());
        if depth > DEPTH_MAX {
            return Err(KeyError::TooHigh { depth }.into());
        }
        let leaf = Slot::Leaf {
            key: key.to_owned(),
            value,
        };
        match self.root.take() {
            None => {
                self.root = Some(Root {
                    layer: depth,
                    subtree: Subtree::of(vec![leaf]),
                })
            }
            Some(root) if root.layer < depth => {
                let (left, right) = root
                    .subtree
                    .split(root.layer, Range::ALL, key, self.blocks)?;
                let lift = |side: Option<Subtree>| {
                    side.map(|side| Slot::Subtree(side.lifted(root.layer, depth - 1)))
                };
                let slots = lift(left)
                    .into_iter()
                    .chain([leaf])
                    .chain(lift(right))
                    .collect();
                self.root = Some(Root {
                    layer: depth,
                    subtree: Subtree::of(slots),
                });
            }
            Some(root) => {
                let root = self.root.insert(root);
                return root
                    .subtree
                    .insert(root.layer, Range::ALL, key, depth, value, self.blocks);
            }
        }
        Ok(None)
    }

    /// Takes the record at `key` out and returns its CID.
    ///
    /// # Errors
    /// [`MstError`] if a node on the way, or one that has to be joined with its neighbour, is missing or wrong.
    pub fn remove(&mut self, key: &str) -> Result<Option<Cid>, MstError> {
        let Some(root) = &mut self.root else {
            return Ok(None);
        };
        let removed = root
            .subtree
            .remove(root.layer, Range::ALL, key, self.blocks)?;
        if removed.is_some() {
            self.trim()?;
        }
        Ok(removed)
    }

    /// Drops what stands above the highest key.
    fn trim(&mut self) -> Result<(), MstError> {
        while let Some(mut root) = self.root.take() {
            let bare = match &mut root.subtree {
                // A root that is not here is taken as it is: whether it is the right one shows in its CID.
                Subtree::Stored(cid) if self.blocks.block(cid).is_none() => None,
                subtree => match subtree
                    .open(root.layer, Range::ALL, self.blocks)?
                    .slots
                    .as_mut_slice()
                {
                    [] => return Ok(()),
                    [Slot::Subtree(only)] => Some(only.take()),
                    _ => None,
                },
            };
            match bare {
                Some(subtree) => {
                    self.root = Some(Root {
                        layer: root.layer - 1,
                        subtree,
                    })
                }
                None => {
                    self.root = Some(root);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Returns the CID of the root node. Costs an encoding and a hash for each node that was changed since.
    pub fn root(&mut self) -> Cid {
        match &mut self.root {
            None => Cid::of_cbor(&Node::default().encode()),
            Some(root) => root.subtree.seal(),
        }
    }

    /// Adds the nodes that prove what is at `key`, and what stands on both sides of it, to `blocks`.
    ///
    /// These are the nodes on the ways to `key`, to the key before it and to the key after it: with them, a reader who
    /// has nothing else can undo a change of `key`.
    ///
    /// # Errors
    /// [`MstError`] if a node on the way is missing or wrong.
    pub fn prove(
        &mut self,
        key: &str,
        blocks: &mut BTreeMap<Cid, Vec<u8>>,
    ) -> Result<(), MstError> {
        let cid = self.root();
        match &mut self.root {
            None => {
                blocks.insert(cid, Node::default().encode());
                Ok(())
            }
            Some(root) => {
                root.subtree
                    .prove(root.layer, Range::ALL, key, Side::Both, self.blocks, blocks)
            }
        }
    }

    /// Adds all nodes that are loaded to `blocks`: for a tree made in memory, all of it.
    pub fn blocks(&mut self, blocks: &mut BTreeMap<Cid, Vec<u8>>) {
        let cid = self.root();
        match &mut self.root {
            None => {
                blocks.insert(cid, Node::default().encode());
            }
            Some(root) => root.subtree.collect(blocks),
        }
    }
}

/// Which ways a proof follows in a node: to the key, or along one edge to its neighbour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    First,
    Both,
    Last,
}

impl Subtree {
    fn of(slots: Vec<Slot>) -> Self {
        Self::Loaded(Branch {
            slots,
            stored: None,
        })
    }

    /// Leaves an empty branch behind.
    fn take(&mut self) -> Self {
        std::mem::replace(self, Self::of(Vec::new()))
    }

    /// Puts nodes without keys above this one, from its layer to `to`.
    fn lifted(self, layer: u8, to: u8) -> Self {
        (layer..to).fold(self, |subtree, _| Self::of(vec![Slot::Subtree(subtree)]))
    }

    fn open(
        &mut self,
        layer: u8,
        range: Range<'_>,
        blocks: &dyn Blocks,
    ) -> Result<&mut Branch, MstError> {
        if let Self::Stored(cid) = *self {
            *self = Self::Loaded(Branch::of_node(cid, read(cid, blocks)?, layer, range)?);
        }
        match self {
            Self::Loaded(branch) => Ok(branch),
            Self::Stored(cid) => Err(MstError::Missing { cid: *cid }),
        }
    }

    fn insert(
        &mut self,
        layer: u8,
        range: Range<'_>,
        key: &str,
        depth: u8,
        value: Cid,
        blocks: &dyn Blocks,
    ) -> Result<Option<Cid>, MstError> {
        let branch = self.open(layer, range, blocks)?;
        branch.stored = None;
        let leaf = Slot::Leaf {
            key: key.to_owned(),
            value,
        };
        match branch.place(key) {
            Place::Leaf(at) => {
                let before = branch.value(at);
                branch.slots[at] = leaf;
                return Ok(before);
            }
            Place::Subtree(at) if layer == depth => {
                let (subtree, range) = branch.subtree(at, range);
                let (left, right) = subtree.take().split(layer - 1, range, key, blocks)?;
                let left = left.map(Slot::Subtree).into_iter();
                branch
                    .slots
                    .splice(at..=at, left.chain([leaf]).chain(right.map(Slot::Subtree)));
            }
            Place::Gap(at) if layer == depth => branch.slots.insert(at, leaf),
            Place::Subtree(at) => {
                let (subtree, range) = branch.subtree(at, range);
                return subtree.insert(layer - 1, range, key, depth, value, blocks);
            }
            Place::Gap(at) => {
                let subtree = Self::of(vec![leaf]).lifted(depth, layer - 1);
                branch.slots.insert(at, Slot::Subtree(subtree));
            }
        }
        Ok(None)
    }

    /// Parts the keys before `key`, which stands above this layer, from those after it.
    fn split(
        mut self,
        layer: u8,
        range: Range<'_>,
        key: &str,
        blocks: &dyn Blocks,
    ) -> Result<(Option<Self>, Option<Self>), MstError> {
        let branch = self.open(layer, range, blocks)?;
        let (left, right) = match branch.place(key) {
            // A key stands in one layer only, and this one is below it.
            Place::Leaf(at) | Place::Gap(at) => {
                let right = branch.slots.split_off(at);
                (std::mem::take(&mut branch.slots), right)
            }
            Place::Subtree(at) => {
                let (subtree, range) = branch.subtree(at, range);
                let (inner_left, inner_right) =
                    subtree.take().split(layer - 1, range, key, blocks)?;
                let after = branch.slots.split_off(at + 1);
                branch.slots.truncate(at);
                let mut left = std::mem::take(&mut branch.slots);
                left.extend(inner_left.map(Slot::Subtree));
                (
                    left,
                    inner_right
                        .map(Slot::Subtree)
                        .into_iter()
                        .chain(after)
                        .collect(),
                )
            }
        };
        let side = |slots: Vec<Slot>| (!slots.is_empty()).then(|| Self::of(slots));
        Ok((side(left), side(right)))
    }

    fn remove(
        &mut self,
        layer: u8,
        range: Range<'_>,
        key: &str,
        blocks: &dyn Blocks,
    ) -> Result<Option<Cid>, MstError> {
        let branch = self.open(layer, range, blocks)?;
        match branch.place(key) {
            Place::Gap(_) => Ok(None),
            Place::Leaf(at) => {
                let value = branch.value(at);
                branch.slots.remove(at);
                branch.stored = None;
                branch.join(at, layer, range, key, blocks)?;
                Ok(value)
            }
            Place::Subtree(at) => {
                let (subtree, range) = branch.subtree(at, range);
                let removed = subtree.remove(layer - 1, range, key, blocks)?;
                if removed.is_some() {
                    let empty = matches!(subtree, Self::Loaded(inner) if inner.slots.is_empty());
                    if empty {
                        branch.slots.remove(at);
                    }
                    branch.stored = None;
                }
                Ok(removed)
            }
        }
    }

    /// Makes one node of this one and `right`, which stand on both sides of `key`, which is gone.
    fn merge(
        mut self,
        mut right: Self,
        layer: u8,
        range: Range<'_>,
        key: &str,
        blocks: &dyn Blocks,
    ) -> Result<Self, MstError> {
        let before = Range {
            before: Some(key),
            ..range
        };
        let after = Range {
            after: Some(key),
            ..range
        };
        let mut slots = std::mem::take(&mut self.open(layer, before, blocks)?.slots);
        let seam = slots.len();
        slots.append(&mut right.open(layer, after, blocks)?.slots);
        let mut branch = Branch {
            slots,
            stored: None,
        };
        branch.join(seam, layer, range, key, blocks)?;
        Ok(Self::Loaded(branch))
    }

    fn seal(&mut self) -> Cid {
        match self {
            Self::Stored(cid) => *cid,
            Self::Loaded(branch) => match branch.stored {
                Some(cid) => cid,
                None => {
                    let cid = Cid::of_cbor(&branch.node().encode());
                    branch.stored = Some(cid);
                    cid
                }
            },
        }
    }

    fn prove(
        &mut self,
        layer: u8,
        range: Range<'_>,
        key: &str,
        side: Side,
        blocks: &dyn Blocks,
        proof: &mut BTreeMap<Cid, Vec<u8>>,
    ) -> Result<(), MstError> {
        let branch = self.open(layer, range, blocks)?;
        let node = branch.node().encode();
        proof.insert(Cid::of_cbor(&node), node);
        let is_subtree = |at: usize| matches!(branch.slots.get(at), Some(Slot::Subtree(_)));
        let mut ways = Vec::new();
        match (side, branch.place(key)) {
            (Side::Both, Place::Subtree(at)) => ways.push((at, Side::Both)),
            (Side::Both, Place::Leaf(at)) => {
                ways.extend(
                    at.checked_sub(1)
                        .filter(|at| is_subtree(*at))
                        .map(|at| (at, Side::Last)),
                );
                ways.extend(
                    Some(at + 1)
                        .filter(|at| is_subtree(*at))
                        .map(|at| (at, Side::First)),
                );
            }
            (Side::Both, Place::Gap(_)) => {}
            (Side::First, _) => ways.extend(
                Some(0)
                    .filter(|at| is_subtree(*at))
                    .map(|at| (at, Side::First)),
            ),
            (Side::Last, _) => {
                let last = branch.slots.len().checked_sub(1);
                ways.extend(last.filter(|at| is_subtree(*at)).map(|at| (at, Side::Last)));
            }
        }
        for (at, side) in ways {
            let (subtree, range) = branch.subtree(at, range);
            subtree.prove(layer - 1, range, key, side, blocks, proof)?;
        }
        Ok(())
    }

    fn collect(&mut self, blocks: &mut BTreeMap<Cid, Vec<u8>>) {
        if let Self::Loaded(branch) = self {
            let block = branch.node().encode();
            blocks.insert(Cid::of_cbor(&block), block);
            for slot in &mut branch.slots {
                if let Slot::Subtree(subtree) = slot {
                    subtree.collect(blocks);
                }
            }
        }
    }
}

impl Branch {
    fn of_node(cid: Cid, node: Node, layer: u8, range: Range<'_>) -> Result<Self, MstError> {
        check_place(cid, &node, layer, range.after, range.before)?;
        let mut slots: Vec<Slot> = node
            .left
            .map(|cid| Slot::Subtree(Subtree::Stored(cid)))
            .into_iter()
            .collect();
        for entry in node.entries {
            slots.push(Slot::Leaf {
                key: entry.key,
                value: entry.value,
            });
            slots.extend(entry.right.map(|cid| Slot::Subtree(Subtree::Stored(cid))));
        }
        Ok(Self {
            slots,
            stored: Some(cid),
        })
    }

    fn node(&mut self) -> Node {
        let mut node = Node::default();
        for slot in &mut self.slots {
            match slot {
                Slot::Leaf { key, value } => {
                    node.entries.push(NodeEntry {
                        key: key.clone(),
                        value: *value,
                        right: None,
                    });
                }
                Slot::Subtree(subtree) => {
                    let cid = Some(subtree.seal());
                    match node.entries.last_mut() {
                        Some(entry) => entry.right = cid,
                        None => node.left = cid,
                    }
                }
            }
        }
        node
    }

    fn value(&self, at: usize) -> Option<Cid> {
        match self.slots.get(at) {
            Some(Slot::Leaf { value, .. }) => Some(*value),
            _ => None,
        }
    }

    fn place(&self, key: &str) -> Place {
        let mut gap = self.slots.len();
        for (at, slot) in self.slots.iter().enumerate() {
            if let Slot::Leaf { key: leaf, .. } = slot {
                if leaf == key {
                    return Place::Leaf(at);
                }
                if leaf.as_str() > key {
                    gap = at;
                    break;
                }
            }
        }
        match gap.checked_sub(1) {
            Some(before) if matches!(self.slots[before], Slot::Subtree(_)) => {
                Place::Subtree(before)
            }
            _ => Place::Gap(gap),
        }
    }

    /// Returns the subtree in slot `at`, which must be one, and the keys between which it stands.
    fn subtree<'s>(&'s mut self, at: usize, range: Range<'s>) -> (&'s mut Subtree, Range<'s>) {
        let (before, rest) = self.slots.split_at_mut(at);
        let (slot, after) = rest.split_first_mut().expect("a slot that was found");
        let Slot::Subtree(subtree) = slot else {
            unreachable!("a slot that was found to be a subtree")
        };
        let key = |slot: Option<&'s Slot>| match slot {
            Some(Slot::Leaf { key, .. }) => Some(key.as_str()),
            _ => None,
        };
        let range = Range {
            after: key(before.last()).or(range.after),
            before: key(after.first()).or(range.before),
        };
        (subtree, range)
    }

    /// Joins the slots on both sides of index `seam` if both are subtrees, now that `key` no longer parts them.
    fn join(
        &mut self,
        seam: usize,
        layer: u8,
        range: Range<'_>,
        key: &str,
        blocks: &dyn Blocks,
    ) -> Result<(), MstError> {
        let Some(at) = seam.checked_sub(1) else {
            return Ok(());
        };
        if !matches!(
            self.slots.get(at..=seam),
            Some([Slot::Subtree(_), Slot::Subtree(_)])
        ) {
            return Ok(());
        }
        let (right, _) = self.subtree(seam, range);
        let right = right.take();
        self.slots.remove(seam);
        let (left, range) = self.subtree(at, range);
        let merged = left.take().merge(right, layer - 1, range, key, blocks)?;
        self.slots[at] = Slot::Subtree(merged);
        Ok(())
    }
}

/// Reads the node that `cid` names.
pub(super) fn read(cid: Cid, blocks: &dyn Blocks) -> Result<Node, MstError> {
    if cid.codec() != Codec::DagCbor {
        return Err(MstError::Codec { cid });
    }
    let block = blocks.block(&cid).ok_or(MstError::Missing { cid })?;
    Node::decode(block).map_err(|source| MstError::Node { cid, source })
}

/// Checks a node that was read against the place where its parent has it.
pub(super) fn check_place(
    cid: Cid,
    node: &Node,
    layer: u8,
    after: Option<&str>,
    before: Option<&str>,
) -> Result<(), MstError> {
    if node.entries.is_empty() && node.left.is_none() {
        return Err(MstError::Empty { cid });
    }
    let linked = node.left.is_some() || node.entries.iter().any(|entry| entry.right.is_some());
    if node.layer().is_some_and(|keys| keys != layer) || (layer == 0 && linked) {
        return Err(MstError::Layer { cid, layer });
    }
    let range = Range { after, before };
    let ends = [node.entries.first(), node.entries.last()];
    if ends
        .into_iter()
        .flatten()
        .any(|entry| !range.contains(&entry.key))
    {
        return Err(MstError::Range { cid });
    }
    Ok(())
}
