//! `mst/` and `firehose/`: heights of keys, trees over them, and what proves a change of a tree.

use std::collections::BTreeMap;

use atproto::Cid;
use atproto::mst::{self, Tree};
use serde_json::Value;

use super::{read, read_list};

fn text<'v>(value: &'v Value, field: &str) -> &'v str {
    value[field]
        .as_str()
        .unwrap_or_else(|| panic!("{field} in {value}"))
}

fn number(value: &Value, field: &str) -> u64 {
    value[field]
        .as_u64()
        .unwrap_or_else(|| panic!("{field} in {value}"))
}

fn list<'v>(value: &'v Value, field: &str) -> Vec<&'v str> {
    let list = value[field]
        .as_array()
        .unwrap_or_else(|| panic!("{field} in {value}"));
    list.iter()
        .map(|item| item.as_str().expect("text"))
        .collect()
}

fn cid(value: &Value, field: &str) -> Cid {
    text(value, field).parse().expect("a CID")
}

#[test]
fn keys_stand_as_high_as_they_should() {
    let vectors = read_list("mst/key_heights.json");
    for vector in &vectors {
        let key = text(vector, "key");
        assert_eq!(
            u64::from(mst::depth(key.as_bytes())),
            number(vector, "height"),
            "{key}"
        );
    }
    assert_eq!(vectors.len(), 9);
}

#[test]
fn prefixes_are_shared_as_far_as_they_go() {
    let vectors = read_list("mst/common_prefix.json");
    for vector in &vectors {
        let shared = mst::common_prefix(
            text(vector, "left").as_bytes(),
            text(vector, "right").as_bytes(),
        );
        assert_eq!(shared as u64, number(vector, "len"), "{vector}");
    }
    assert_eq!(vectors.len(), 13);
}

#[test]
fn the_example_keys_make_one_tree_in_any_order() {
    let keys = read("mst/example_keys.txt");
    let keys: Vec<&str> = keys.lines().collect();
    assert_eq!(keys.len(), 156);
    let value = Cid::of_cbor(b"\xa0");
    let mut forwards = Tree::default();
    let mut backwards = Tree::default();
    for key in &keys {
        // The digit after the letter is the key's layer.
        assert_eq!(
            mst::depth(key.as_bytes()),
            key.as_bytes()[1] - b'0',
            "{key}"
        );
        assert_eq!(forwards.insert(key, value), Ok(None));
    }
    for key in keys.iter().rev() {
        assert_eq!(backwards.insert(key, value), Ok(None));
    }
    assert_eq!(forwards.root(), backwards.root());
    let mut blocks = BTreeMap::new();
    forwards.blocks(&mut blocks);
    let mut walked = Vec::new();
    mst::walk(forwards.root(), &blocks, &mut |key, _| {
        walked.push(key.to_owned())
    })
    .expect("a whole tree");
    let mut sorted = keys.clone();
    sorted.sort_unstable();
    assert_eq!(walked, sorted);
    for key in &keys {
        assert_eq!(forwards.remove(key), Ok(Some(value)));
    }
    assert_eq!(forwards.root(), Tree::default().root());
}

#[test]
fn commit_proofs_hold_what_is_needed_to_undo_their_commit() {
    let vectors = read_list("firehose/commit-proof-fixtures.json");
    for vector in &vectors {
        let comment = text(vector, "comment");
        let (value, before, after) = (
            cid(vector, "leafValue"),
            cid(vector, "rootBeforeCommit"),
            cid(vector, "rootAfterCommit"),
        );
        let mut tree = Tree::default();
        for key in list(vector, "keys") {
            tree.insert(key, value).expect("a key");
        }
        assert_eq!(tree.root(), before, "{comment}");
        let (adds, dels) = (list(vector, "adds"), list(vector, "dels"));
        for key in &adds {
            assert_eq!(tree.insert(key, value), Ok(None), "{comment}");
        }
        for key in &dels {
            assert_eq!(tree.remove(key), Ok(Some(value)), "{comment}");
        }
        assert_eq!(tree.root(), after, "{comment}");

        let mut proof = BTreeMap::new();
        for key in adds.iter().chain(&dels) {
            tree.prove(key, &mut proof).expect("a whole tree");
        }
        let listed: Vec<Cid> = list(vector, "blocksInProof")
            .into_iter()
            .map(|cid| cid.parse().expect("a CID"))
            .collect();
        for cid in &listed {
            assert!(
                proof.contains_key(cid),
                "{comment}: {cid} is not in our proof"
            );
        }
        // The listed blocks alone are enough, in either order.
        proof.retain(|cid, _| listed.contains(cid));
        for backwards in [false, true] {
            let mut undone = Tree::load(after, &proof).expect("a root");
            let mut undo: Vec<(&str, bool)> = adds.iter().map(|key| (*key, true)).collect();
            undo.extend(dels.iter().map(|key| (*key, false)));
            if backwards {
                undo.reverse();
            }
            for (key, added) in undo {
                match added {
                    true => assert_eq!(undone.remove(key), Ok(Some(value)), "{comment}"),
                    false => assert_eq!(undone.insert(key, value), Ok(None), "{comment}"),
                }
            }
            assert_eq!(undone.root(), before, "{comment}");
        }
    }
    assert_eq!(vectors.len(), COMMIT_PROOFS);
}

const COMMIT_PROOFS: usize = 6;
