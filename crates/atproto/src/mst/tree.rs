//! The tree as a value that can be asked and changed, over blocks that need not all be there.

use std::collections::BTreeMap;
use std::fmt;

use super::branch::{Branch, Place, Range, Side, Slot, Subtree, read};
use super::key::{self, DEPTH_MAX, KeyError};
use super::node::Node;
use super::{MstError, check_key};
use crate::Cid;

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
