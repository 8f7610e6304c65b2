//! One pass over a whole tree, in key order, without keeping it.

use super::MstError;
use super::branch::{check_place, read};
use super::node::Node;
use super::tree::Blocks;
use crate::Cid;

/// Calls `visit` with each key and its record's CID, in key order; all nodes must be there.
///
/// Each node is checked as [`Tree`](super::Tree) does. Layers only go down and keys only up, so it ends for any blocks.
///
/// # Errors
/// [`MstError`] for the first node that is missing or wrong.
pub fn walk(
    root: Cid,
    blocks: &dyn Blocks,
    visit: &mut dyn FnMut(&str, Cid),
) -> Result<(), MstError> {
    let node = read(root, blocks)?;
    match (node.layer(), node.left) {
        (Some(layer), _) => walk_node(root, &node, layer, (None, None), blocks, visit),
        (None, None) => Ok(()),
        (None, Some(_)) => Err(MstError::BareRoot { cid: root }),
    }
}

fn walk_node(
    cid: Cid,
    node: &Node,
    layer: u8,
    (mut after, before): (Option<&str>, Option<&str>),
    blocks: &dyn Blocks,
    visit: &mut dyn FnMut(&str, Cid),
) -> Result<(), MstError> {
    check_place(cid, node, layer, after, before)?;
    let below =
        |cid: Cid, after: Option<&str>, before: Option<&str>, visit: &mut dyn FnMut(&str, Cid)| {
            // A node with subtrees stands above layer 0, as was checked.
            walk_node(
                cid,
                &read(cid, blocks)?,
                layer - 1,
                (after, before),
                blocks,
                visit,
            )
        };
    let keys = node.entries.iter().map(|entry| Some(entry.key.as_str()));
    let nexts = keys.skip(1).chain([before]);
    if let Some(left) = node.left {
        below(
            left,
            after,
            node.entries
                .first()
                .map(|entry| entry.key.as_str())
                .or(before),
            visit,
        )?;
    }
    for (entry, next) in node.entries.iter().zip(nexts) {
        visit(&entry.key, entry.value);
        after = Some(&entry.key);
        if let Some(right) = entry.right {
            below(right, after, next, visit)?;
        }
    }
    Ok(())
}
