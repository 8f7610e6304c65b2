//! Nodes and trees, right and wrong, against a plain map.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::{Map, Value, cbor};

fn value(number: u8) -> Cid {
    Cid::of_cbor(&[0x18, 100 + number % 100])
}

fn entry(key: &str) -> NodeEntry {
    NodeEntry {
        key: key.to_owned(),
        value: value(0),
        right: None,
    }
}

/// Returns keys of layer `layer`, sorted.
fn keys(layer: u8, count: usize) -> Vec<String> {
    let mut keys: Vec<String> = (0..)
        .map(|number| format!("com.example.note/{number}"))
        .filter(|key| depth(key.as_bytes()) == layer)
        .take(count)
        .collect();
    keys.sort();
    keys
}

fn node(left: Option<Cid>, entries: Vec<NodeEntry>) -> Node {
    Node { left, entries }
}

/// Puts a node's block where trees find it, and returns its CID.
fn store(blocks: &mut BTreeMap<Cid, Vec<u8>>, node: &Node) -> Cid {
    let block = node.encode();
    let cid = Cid::of_cbor(&block);
    blocks.insert(cid, block);
    cid
}

#[test]
fn an_empty_tree_is_one_empty_node_of_a_known_cid() {
    let cid = "bafyreie5737gdxlw5i64vzichcalba3z2v5n6icifvx5xytvske7mr3hpm".parse::<Cid>();
    assert_eq!(Tree::default().root(), cid.expect("a CID"));
    let mut blocks = BTreeMap::new();
    let root = store(&mut blocks, &Node::default());
    let mut tree = Tree::load(root, &blocks).expect("an empty tree");
    assert_eq!(tree.get("a/b"), Ok(None));
    assert_eq!(tree.remove("a/b"), Ok(None));
    assert_eq!(
        walk(root, &blocks, &mut |_, _| panic!("no records")),
        Ok(())
    );
}

#[test]
fn a_node_is_the_same_dag_cbor_that_the_general_encoder_makes() {
    let keys = keys(0, 3);
    let node = node(
        Some(value(1)),
        vec![
            entry(&keys[0]),
            NodeEntry {
                right: Some(value(2)),
                ..entry(&keys[1])
            },
            entry(&keys[2]),
        ],
    );
    let block = node.encode();
    assert_eq!(
        cbor::encode(&cbor::decode(&block).expect("canonical")),
        block
    );
    assert_eq!(Node::decode(&block), Ok(node));
    let empty: Map = [("e", Value::List(Vec::new())), ("l", Value::Null)]
        .into_iter()
        .collect();
    assert_eq!(Node::default().encode(), cbor::encode(&Value::Map(empty)));
}

/// Encodes a node of `(prefix, suffix)` as they are given.
fn raw(entries: &[(i64, &str)]) -> Vec<u8> {
    let entries = entries.iter().map(|(prefix, suffix)| {
        let fields = [
            ("p", Value::from(*prefix)),
            ("k", Value::Bytes(suffix.as_bytes().to_vec())),
            ("v", Value::from(value(0))),
            ("t", Value::Null),
        ];
        Value::Map(fields.into_iter().collect())
    });
    let fields = [("e", Value::List(entries.collect())), ("l", Value::Null)];
    cbor::encode(&Value::Map(fields.into_iter().collect()))
}

#[test]
fn each_wrong_node_is_refused_by_name() {
    let low = keys(0, 2);
    let (first, second) = (low[0].as_str(), low[1].as_str());
    let shared = common_prefix(first.as_bytes(), second.as_bytes());
    let suffix = &second[shared..];
    let decode = |entries: &[(i64, &str)]| Node::decode(&raw(entries)).map(drop);
    assert_eq!(decode(&[(0, first), (shared as i64, suffix)]), Ok(()));
    // A prefix longer than the key before, or longer than anything; one that shares too little.
    assert!(matches!(
        decode(&[(1, first)]),
        Err(NodeError::Prefix { .. })
    ));
    assert!(matches!(
        decode(&[(0, first), (1000, "x")]),
        Err(NodeError::Prefix { .. })
    ));
    assert!(matches!(
        decode(&[(0, first), (i64::MAX, "x")]),
        Err(NodeError::Shape { .. })
    ));
    assert!(matches!(
        decode(&[(-1, first)]),
        Err(NodeError::Shape { .. })
    ));
    assert!(matches!(
        decode(&[(0, first), (0, second)]),
        Err(NodeError::Prefix { .. })
    ));
    // Out of order, and the same key twice.
    assert!(matches!(
        decode(&[(0, second), (0, first)]),
        Err(NodeError::KeyOrder { .. })
    ));
    assert!(matches!(
        decode(&[(0, first), (first.len() as i64, "")]),
        Err(NodeError::KeyOrder { .. })
    ));
    assert!(matches!(
        decode(&[(0, "")]),
        Err(NodeError::KeyOrder { .. })
    ));
    // Keys that are not allowed.
    for key in ["no-slash", "a/b/c", "/b", "a/", "a/ü", "a/b c", "a/b\0"] {
        assert!(
            matches!(decode(&[(0, key)]), Err(NodeError::Key { .. })),
            "{key}"
        );
    }
    let long = format!("a/{}", "x".repeat(KEY_BYTES_MAX));
    assert!(matches!(
        decode(&[(0, &long)]),
        Err(NodeError::Key {
            source: KeyError::TooLong { .. }
        })
    ));
    // Keys of two layers.
    let higher = keys(1, 1).remove(0);
    let mut both = [first, higher.as_str()];
    both.sort_unstable();
    let mixed = node(None, both.map(entry).to_vec());
    assert_eq!(Node::decode(&mixed.encode()), Err(NodeError::Layers));
}

#[test]
fn a_node_of_another_shape_is_refused() {
    let good = node(
        Some(value(1)),
        vec![NodeEntry {
            right: Some(value(2)),
            ..entry(&keys(0, 1)[0])
        }],
    )
    .encode();
    assert!(Node::decode(&good).is_ok());
    for length in 0..good.len() {
        assert!(Node::decode(&good[..length]).is_err(), "cut at {length}");
    }
    assert!(matches!(
        Node::decode(&[good.as_slice(), b"\0"].concat()),
        Err(NodeError::Shape { .. })
    ));
    // A field more, a field less, another order, a longer integer.
    let Ok(Value::Map(map)) = cbor::decode(&good) else {
        panic!("a map")
    };
    let mut more = map.clone();
    more.insert("x", Value::Null);
    let mut less = map;
    less.remove("l");
    for other in [more, less, Map::new()] {
        assert!(Node::decode(&cbor::encode(&Value::Map(other))).is_err());
    }
    assert!(Node::decode(b"\xa2\x61l\xf6\x61e\x80").is_err());
    assert!(Node::decode(b"\xa2\x61e\x98\x00\x61l\xf6").is_err());
    assert!(Node::decode(b"\xa2\x61e\x80\x61l\xf6").is_ok());
    // A blob's link prefix, another codec.
    let codec = good
        .windows(2)
        .position(|window| window == b"\x01\x71")
        .expect("a CID")
        + 1;
    let mut other = good;
    other[codec] = 0x70;
    assert!(matches!(Node::decode(&other), Err(NodeError::Link { .. })));
}

#[test]
fn a_node_has_a_bounded_number_of_entries() {
    let full = node(
        None,
        keys(0, NODE_ENTRIES_MAX)
            .iter()
            .map(|key| entry(key))
            .collect(),
    );
    assert!(Node::decode(&full.encode()).is_ok());
    let over = node(
        None,
        keys(0, NODE_ENTRIES_MAX + 1)
            .iter()
            .map(|key| entry(key))
            .collect(),
    );
    assert_eq!(
        Node::decode(&over.encode()),
        Err(NodeError::TooManyEntries {
            count: NODE_ENTRIES_MAX + 1
        })
    );
}

/// Returns what loading all of a tree says, and checks that a walk says the same.
fn load_all(root: Cid, blocks: &BTreeMap<Cid, Vec<u8>>) -> Result<usize, MstError> {
    let mut keys = Vec::new();
    let walked = walk(root, blocks, &mut |key, _| keys.push(key.to_owned()));
    let asked = Tree::load(root, blocks).and_then(|mut tree| {
        // Below, between and above all keys, so that every edge is loaded.
        ["a/a", "com.example.note/5", "z/z"]
            .into_iter()
            .try_for_each(|key| tree.get(key).map(drop))
    });
    assert_eq!(walked, asked);
    walked.map(|()| keys.len())
}

#[test]
fn each_wrong_place_of_a_node_is_refused_by_name() {
    let mut blocks = BTreeMap::new();
    let low = keys(0, 100);
    let high = keys(2, 5).remove(4);
    let before = |key: &str| key < high.as_str();
    let low: Vec<String> = low.into_iter().filter(|key| before(key)).take(1).collect();
    assert_eq!(low.len(), 1, "a low key before the high one");
    let leaf = store(&mut blocks, &node(None, vec![entry(&low[0])]));
    let link = store(&mut blocks, &node(Some(leaf), vec![]));
    let top = |left: Cid| node(Some(left), vec![entry(&high)]);

    let good = store(&mut blocks, &top(link));
    assert_eq!(load_all(good, &blocks), Ok(2));
    // The node between is left out: layers are skipped.
    let skipped = store(&mut blocks, &top(leaf));
    assert_eq!(
        load_all(skipped, &blocks),
        Err(MstError::Layer {
            cid: leaf,
            layer: 1
        })
    );
    // A node between the leaf and nothing.
    let deeper = store(&mut blocks, &node(Some(link), vec![]));
    let too_deep = store(&mut blocks, &top(deeper));
    assert_eq!(
        load_all(too_deep, &blocks),
        Err(MstError::Layer {
            cid: link,
            layer: 0
        })
    );
    // The keys before the entry come after it.
    let after = node(
        None,
        vec![NodeEntry {
            right: Some(link),
            ..entry(&high)
        }],
    );
    let after = store(&mut blocks, &after);
    let mut tree = Tree::load(after, &blocks).expect("a root");
    assert_eq!(tree.get("z/z"), Err(MstError::Range { cid: leaf }));
    assert_eq!(
        walk(after, &blocks, &mut |_, _| {}),
        Err(MstError::Range { cid: leaf })
    );
    // An empty node below, and a root without entries above.
    let empty = store(&mut blocks, &Node::default());
    let over_empty = store(&mut blocks, &top(empty));
    assert_eq!(
        load_all(over_empty, &blocks),
        Err(MstError::Empty { cid: empty })
    );
    let bare = store(&mut blocks, &node(Some(good), vec![]));
    assert_eq!(
        load_all(bare, &blocks),
        Err(MstError::BareRoot { cid: bare })
    );
    // A node that is not there, or is named as a blob.
    let missing = Cid::of_cbor(b"missing");
    let over_missing = store(&mut blocks, &top(missing));
    assert_eq!(
        load_all(over_missing, &blocks),
        Err(MstError::Missing { cid: missing })
    );
    let raw = Cid::of_raw(&blocks[&link]);
    let over_raw = store(&mut blocks, &top(raw));
    assert_eq!(
        load_all(over_raw, &blocks),
        Err(MstError::Codec { cid: raw })
    );
}

#[test]
fn a_cycle_of_nodes_ends_with_an_error() {
    // No hash is checked here, so a block may name itself: blocks that lie about their CIDs.
    let mut blocks = BTreeMap::new();
    let high = keys(3, 1).remove(0);
    let itself = Cid::of_cbor(b"itself");
    blocks.insert(itself, node(Some(itself), vec![entry(&high)]).encode());
    assert_eq!(
        load_all(itself, &blocks),
        Err(MstError::Layer {
            cid: itself,
            layer: 2
        })
    );
    let link = Cid::of_cbor(b"link");
    blocks.insert(link, node(Some(link), vec![]).encode());
    let root = store(&mut blocks, &node(Some(link), vec![entry(&high)]));
    assert_eq!(
        load_all(root, &blocks),
        Err(MstError::Layer {
            cid: link,
            layer: 0
        })
    );
}

#[test]
fn one_subtree_in_two_places_is_refused_at_the_second() {
    let mut blocks = BTreeMap::new();
    let leaf = store(&mut blocks, &node(None, vec![entry("com.example.note/0a")]));
    let high = keys(1, 2);
    let entries = vec![
        NodeEntry {
            right: Some(leaf),
            ..entry(&high[0])
        },
        entry(&high[1]),
    ];
    let twice = store(&mut blocks, &node(Some(leaf), entries));
    assert_eq!(depth(b"com.example.note/0a"), 0);
    assert_eq!(
        walk(twice, &blocks, &mut |_, _| {}),
        Err(MstError::Range { cid: leaf })
    );
}

#[test]
fn keys_that_trees_may_not_have_are_not_inserted() {
    let mut tree = Tree::default();
    for key in ["", "a", "a/b/c", "a/", "/b", "a/ü", "a/\0"] {
        assert!(
            matches!(tree.insert(key, value(0)), Err(MstError::Key(_))),
            "{key}"
        );
    }
    assert_eq!(tree.root(), Tree::default().root());
}

fn changes() -> impl Strategy<Value = Vec<(u16, Option<u8>)>> {
    let key = prop_oneof![0..12_u16, 0..2_000_u16];
    prop::collection::vec((key, prop::option::weighted(0.6, any::<u8>())), 1..150)
}

fn path(key: u16) -> String {
    format!(
        "com.example.{}/{key}",
        ["note", "list", "like"][usize::from(key % 3)]
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_changes_give_the_tree_of_the_map_they_give(changes in changes()) {
        let mut tree = Tree::default();
        let mut model = BTreeMap::new();
        for (key, change) in changes {
            let path = path(key);
            match change {
                Some(number) => {
                    let before = model.insert(path.clone(), value(number));
                    prop_assert_eq!(tree.insert(&path, value(number)), Ok(before));
                }
                None => prop_assert_eq!(tree.remove(&path), Ok(model.remove(&path))),
            }
            prop_assert_eq!(tree.get(&path), Ok(model.get(&path).copied()));
        }
        let mut fresh = Tree::default();
        for (path, value) in &model {
            prop_assert_eq!(fresh.insert(path, *value), Ok(None));
        }
        prop_assert_eq!(tree.root(), fresh.root());
        let mut blocks = BTreeMap::new();
        tree.blocks(&mut blocks);
        let mut walked = BTreeMap::new();
        let visited = walk(tree.root(), &blocks, &mut |key, cid| {
            walked.insert(key.to_owned(), cid);
        });
        prop_assert_eq!(visited, Ok(()));
        prop_assert_eq!(walked, model);
    }

    #[test]
    fn a_proof_alone_lets_any_change_be_undone(before in changes(), after in changes()) {
        let mut tree = Tree::default();
        for (key, change) in before {
            match change {
                Some(number) => drop(tree.insert(&path(key), value(number))),
                None => drop(tree.remove(&path(key))),
            }
        }
        let root = tree.root();
        let mut undo = BTreeMap::new();
        for (key, change) in after {
            let path = path(key);
            let prior = match change {
                Some(number) => tree.insert(&path, value(number)).expect("a key"),
                None => tree.remove(&path).expect("a key"),
            };
            undo.entry(path).or_insert(prior);
        }
        let mut proof = BTreeMap::new();
        for path in undo.keys() {
            tree.prove(path, &mut proof).expect("a whole tree");
        }
        let mut partial = Tree::load(tree.root(), &proof).expect("a root");
        for (path, prior) in undo {
            match prior {
                Some(cid) => partial.insert(&path, cid).map(drop),
                None => partial.remove(&path).map(drop),
            }
            .expect("all that is needed");
        }
        prop_assert_eq!(partial.root(), root);
    }
}
