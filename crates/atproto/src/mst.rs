//! The Merkle search tree of a repository: its keys, its nodes, and the tree over them.
//!
//! A tree's shape follows from its keys alone, so two repositories with the same records have the same root CID. That
//! is what lets a commit be checked: undo its operations, and the root must be that of the commit before.
//!
//! Nodes are read strictly: only the one encoding that a correct writer makes is accepted, so a node that was loaded
//! and not changed keeps its CID, and one that was changed gets the CID that every other implementation computes.
//! [`Tree`] loads nodes when it needs them; a block that is missing matters only then.
//! The tree does not check that blocks hash to their CIDs: [`Car`](crate::Car) does.

mod branch;
mod key;
mod node;
mod tree;
mod walk;

use crate::Cid;

pub use key::{DEPTH_MAX, KEY_BYTES_MAX, KeyError, check_key, common_prefix, depth};
pub use node::{NODE_ENTRIES_MAX, Node, NodeEntry, NodeError};
pub use tree::{Blocks, Tree};
pub use walk::walk;

/// Why a tree cannot answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MstError {
    /// A node that is needed is not among the blocks.
    #[error("MST node {cid} is missing")]
    Missing {
        /// The node.
        cid: Cid,
    },
    /// A node is named as if it were a blob.
    #[error("MST node {cid} is named by a raw CID")]
    Codec {
        /// The node.
        cid: Cid,
    },
    /// A node that is needed is no canonical node.
    #[error("MST node {cid}")]
    Node {
        /// The node.
        cid: Cid,
        /// What is wrong with it.
        source: NodeError,
    },
    /// A node's keys belong to another layer than the node stands in.
    #[error("MST node {cid} stands in layer {layer}, its keys do not")]
    Layer {
        /// The node.
        cid: Cid,
        /// Where it stands.
        layer: u8,
    },
    /// A node's keys are not between those that its parent keeps it between.
    #[error("MST node {cid} has keys out of its range")]
    Range {
        /// The node.
        cid: Cid,
    },
    /// A node without entries that is neither the whole tree nor a link between two layers.
    #[error("MST node {cid} is empty")]
    Empty {
        /// The node.
        cid: Cid,
    },
    /// The root has no entries of its own but a subtree.
    #[error("MST root {cid} has no entries")]
    BareRoot {
        /// The root.
        cid: Cid,
    },
    /// A key that trees do not have.
    #[error("MST key")]
    Key(#[from] KeyError),
}

impl MstError {
    /// Returns a stable word for counting.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "missing_block",
            Self::Codec { .. } => "mst_codec",
            Self::Node { .. } => "mst_node",
            Self::Layer { .. } => "mst_layer",
            Self::Range { .. } => "mst_range",
            Self::Empty { .. } => "mst_empty_node",
            Self::BareRoot { .. } => "mst_bare_root",
            Self::Key(_) => "mst_key",
        }
    }
}

#[cfg(test)]
mod tests;
