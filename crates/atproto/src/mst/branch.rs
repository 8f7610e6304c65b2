//! The nodes of a tree in memory: what [`Tree`](super::Tree) does, it does here, one node at a time.
//!
//! A node knows neither its layer nor its range: both follow from where its parent has it, and are passed along.

use std::collections::BTreeMap;

use super::MstError;
use super::node::{Node, NodeEntry};
use super::tree::Blocks;
use crate::{Cid, Codec};

#[derive(Debug, Clone)]
pub(super) enum Subtree {
    /// Not loaded yet.
    Stored(Cid),
    Loaded(Branch),
}

/// A node in memory. Never two subtrees side by side, all leaves in the node's layer, subtrees one layer below.
#[derive(Debug, Clone)]
pub(super) struct Branch {
    pub(super) slots: Vec<Slot>,
    /// The node's CID while it is unchanged.
    stored: Option<Cid>,
}

#[derive(Debug, Clone)]
pub(super) enum Slot {
    Leaf { key: String, value: Cid },
    Subtree(Subtree),
}

/// Where a key is, or would be, in a branch.
pub(super) enum Place {
    Leaf(usize),
    /// Within the subtree of this slot.
    Subtree(usize),
    /// Before the slot of this index, where no subtree is.
    Gap(usize),
}

/// The keys between which a node stands, both exclusive.
#[derive(Debug, Clone, Copy)]
pub(super) struct Range<'k> {
    pub(super) after: Option<&'k str>,
    pub(super) before: Option<&'k str>,
}

impl Range<'_> {
    pub(super) const ALL: Range<'static> = Range {
        after: None,
        before: None,
    };

    fn contains(&self, key: &str) -> bool {
        self.after.is_none_or(|after| after < key) && self.before.is_none_or(|before| key < before)
    }
}

/// Which ways a proof follows in a node: to the key, or along one edge to its neighbour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    First,
    Both,
    Last,
}

impl Subtree {
    pub(super) fn of(slots: Vec<Slot>) -> Self {
        Self::Loaded(Branch {
            slots,
            stored: None,
        })
    }

    /// Leaves an empty branch behind.
    pub(super) fn take(&mut self) -> Self {
        std::mem::replace(self, Self::of(Vec::new()))
    }

    /// Puts nodes without keys above this one, from its layer to `to`.
    pub(super) fn lifted(self, layer: u8, to: u8) -> Self {
        (layer..to).fold(self, |subtree, _| Self::of(vec![Slot::Subtree(subtree)]))
    }

    pub(super) fn open(
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

    pub(super) fn insert(
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
    pub(super) fn split(
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

    pub(super) fn remove(
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

    pub(super) fn seal(&mut self) -> Cid {
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

    pub(super) fn prove(
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

    pub(super) fn collect(&mut self, blocks: &mut BTreeMap<Cid, Vec<u8>>) {
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
    pub(super) fn of_node(
        cid: Cid,
        node: Node,
        layer: u8,
        range: Range<'_>,
    ) -> Result<Self, MstError> {
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

    pub(super) fn value(&self, at: usize) -> Option<Cid> {
        match self.slots.get(at) {
            Some(Slot::Leaf { value, .. }) => Some(*value),
            _ => None,
        }
    }

    pub(super) fn place(&self, key: &str) -> Place {
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
    pub(super) fn subtree<'s>(
        &'s mut self,
        at: usize,
        range: Range<'s>,
    ) -> (&'s mut Subtree, Range<'s>) {
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
