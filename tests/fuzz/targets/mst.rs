//! Merkle search trees: nodes have one spelling, and a tree over blocks that lie about their CIDs still ends.
//!
//! The input is blocks, each after its length in two bytes. No hash is checked, so any link may lead to any block,
//! to its own too: what a hash would prevent, the tree has to find out.

use atproto::mst::{self, Blocks, Node, Tree};
use atproto::{Cid, cbor};

/// Blocks that answer to every CID, each to some.
#[derive(Debug)]
struct Lying<'d>(Vec<&'d [u8]>);

impl Blocks for Lying<'_> {
    fn block(&self, cid: &Cid) -> Option<&[u8]> {
        let number = usize::from(*cid.digest().first()?);
        self.0.get(number % self.0.len().max(1)).copied()
    }
}

/// Fuzzes `Node::decode`, `walk` and `Tree`.
pub(crate) fn mst(data: &[u8]) {
    let mut blocks = Vec::new();
    let mut rest = data;
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_le_bytes(*length)).min(after.len());
        let (block, after) = after.split_at(length);
        blocks.push(block);
        rest = after;
    }
    for block in &blocks {
        if let Ok(node) = Node::decode(block) {
            assert_eq!(node.encode(), *block);
            assert!(cbor::decode(block).is_ok());
        }
    }
    let root = Cid::of_cbor(data);
    let lying = Lying(blocks);
    let mut keys = vec![
        "a/a".to_owned(),
        "com.example.note/5".to_owned(),
        "z/z".to_owned(),
    ];
    let walked = mst::walk(root, &lying, &mut |key, _| keys.push(key.to_owned()));
    if walked.is_ok() {
        assert!(keys[3..].is_sorted_by(|left, right| left < right));
    }
    for key in &keys {
        let Ok(mut tree) = Tree::load(root, &lying) else {
            return;
        };
        let found = tree.get(key);
        if let (Ok(found), Ok(before)) = (&found, tree.clone().insert(key, root)) {
            assert_eq!(*found, before);
        }
        if let (Ok(found), Ok(before)) = (&found, tree.remove(key)) {
            assert_eq!(*found, before);
            assert_eq!(tree.get(key), Ok(None));
        }
        tree.root();
    }
}
