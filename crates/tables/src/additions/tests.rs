//! Adding Lexicons over a bucket in memory: what is stored, what is passed over, what is refused.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use serde_json::{Value as Json, json};

use super::*;
use crate::view::ReadView;
use crate::world::World;

/// A Lexicon of a record with these properties, all text.
fn lexicon(id: &str, properties: &[&str]) -> LexiconDoc {
    let properties: serde_json::Map<String, Json> = properties
        .iter()
        .map(|name| ((*name).to_owned(), json!({"type": "string"})))
        .collect();
    let json = json!({"lexicon": 1, "id": id, "defs": {"main": {
        "type": "record", "record": {"type": "object", "properties": properties}}}});
    LexiconDoc::parse(&json).unwrap()
}

async fn columns(world: &World, collection: &str) -> Vec<String> {
    let view = ReadView::open(&world.tables).await.unwrap();
    let def = view.catalog().records_of(collection);
    let record = def.record_type();
    record.map_or_else(Vec::new, |record| {
        record.columns().iter().map(|c| c.name.clone()).collect()
    })
}

#[test]
fn a_catalog_is_the_one_that_buckets_hold() {
    let additions = vec![
        vec!["{}".to_owned(), "[1]".to_owned()],
        vec!["2".to_owned()],
    ];
    let bytes = encode_catalog(&additions);
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, "080112090a027b7d0a035b315d12030a0132");
    assert_eq!(decode_catalog(&bytes).unwrap(), additions);
}

#[test]
fn a_catalog_of_a_newer_format_is_refused() {
    let newer = decode_catalog(&[8, 2]).unwrap_err();
    assert!(matches!(
        newer,
        FormatError::Newer {
            format: 2,
            known: 1
        }
    ));
    assert!(newer.to_string().contains("use a newer alluvium"));
    assert!(matches!(
        decode_catalog(&[]),
        Err(FormatError::Field { .. })
    ));
    let nonsense = |text: &str| {
        let builtin = Catalog::builtin();
        tables_of(&builtin, &vec![vec![text.to_owned()]]).unwrap_err()
    };
    assert!(matches!(nonsense("{"), FormatError::Field { .. }));
    assert!(matches!(nonsense("{}"), FormatError::Lexicon { .. }));
}

#[tokio::test]
async fn what_was_added_is_there_in_every_process_and_only_once() {
    let world = World::new().await;
    let other = world.another(1).await;
    assert!(columns(&world, "com.example.note").await.is_empty());
    let docs = vec![lexicon("com.example.note", &["b", "a"])];
    let added = add(&world.tables, "test", docs.clone()).await.unwrap();
    assert_eq!(added.lexicons, ["com.example.note"]);
    assert!(added.root.is_some());
    for world in [&world, &other] {
        assert_eq!(columns(world, "com.example.note").await, ["a", "b"]);
    }
    let again = add(&other.tables, "test", docs).await.unwrap();
    assert!(again.root.is_none() && again.lexicons.is_empty());

    let changed = vec![
        lexicon("com.example.note", &["a", "c"]),
        lexicon("com.example.book", &["title"]),
    ];
    let added = add(&other.tables, "test", changed).await.unwrap();
    assert_eq!(added.lexicons, ["com.example.note", "com.example.book"]);
    for world in [&world, &other] {
        assert_eq!(columns(world, "com.example.note").await, ["a", "b", "c"]);
        assert_eq!(columns(world, "com.example.book").await, ["title"]);
    }
}

#[tokio::test]
async fn two_that_race_both_end_up_in_it() {
    let world = World::new().await;
    let other = world.another(1).await;
    let (first, second) = tokio::join!(
        add(&world.tables, "a", vec![lexicon("com.example.one", &["x"])]),
        add(&other.tables, "b", vec![lexicon("com.example.two", &["y"])]),
    );
    assert!(first.unwrap().root.is_some() && second.unwrap().root.is_some());
    assert_eq!(columns(&world, "com.example.one").await, ["x"]);
    assert_eq!(columns(&world, "com.example.two").await, ["y"]);
}

#[tokio::test]
async fn what_cant_be_held_is_refused_and_says_so() {
    let world = World::new().await;
    let twice = vec![
        lexicon("com.example.one", &[]),
        lexicon("com.example.one", &["x"]),
    ];
    let refused = add(&world.tables, "test", twice).await.unwrap_err();
    assert!(matches!(refused, AddError::Twice { id } if id == "com.example.one"));
    let names: Vec<String> = (0..1_001).map(|number| format!("p{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let wide = vec![lexicon("com.example.wide", &names)];
    let refused = add(&world.tables, "test", wide).await.unwrap_err();
    assert!(matches!(refused, AddError::TooWide { columns: 1_001, .. }));
    let many = (0..1_000).map(|number| lexicon(&format!("com.example.t{number}"), &["x"]));
    let refused = add(&world.tables, "test", many.collect())
        .await
        .unwrap_err();
    assert!(matches!(refused, AddError::TooMany { .. }), "{refused}");
    assert_eq!(
        world.tables.chain().newest_root().await.unwrap().version.0,
        0
    );
}
