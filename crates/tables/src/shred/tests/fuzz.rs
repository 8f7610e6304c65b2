//! Any bytes, in a table of any Lexicon: nothing panics, and what went in comes out.

use crdt::RecordChange;
use crdt::atproto::cbor;
use serde_json::Value as Json;

use super::generate::{self, Dice};
use super::{assert_comes_back, change_of, shred};
use crate::schema::Catalog;

/// Flips, drops and repeats a few bytes.
fn damage_bytes(dice: &mut Dice, bytes: &mut Vec<u8>) {
    for _ in 0..=dice.below(3) {
        if bytes.is_empty() {
            return;
        }
        let at = dice.below(bytes.len());
        match dice.below(3) {
            0 => bytes[at] ^= 1 << dice.below(8),
            1 => drop(bytes.drain(at..bytes.len().min(at + 1 + dice.below(4)))),
            _ => bytes.insert(at, bytes[dice.below(bytes.len())]),
        }
    }
}

#[test]
fn damaged_bytes_come_back_as_they_are() {
    let catalog = Catalog::builtin();
    for table in catalog.tables().filter(|table| table.is_records()) {
        let collection = table
            .record_type()
            .map_or("com.example.thing", |record| record.collection());
        let mut dice = Dice::new(7, collection);
        let damaged = |_| {
            let mut bytes = cbor::encode(&generate::record(&mut dice, table));
            damage_bytes(&mut dice, &mut bytes);
            change_of(collection, "a", bytes.into())
        };
        let changes: Vec<RecordChange> = (0..200).map(damaged).collect();
        let shredded = shred(table, &changes);
        assert_comes_back(table, &shredded.batch, &changes);
        assert!(shredded.raw > 0, "not all damage can be decoded");
    }
}

/// Puts something else in one place of a Lexicon.
fn damage_json(dice: &mut Dice, json: &mut Json, others: &[Json]) {
    let deeper = dice.below(5) > 0;
    match json {
        Json::Object(object) if deeper && !object.is_empty() => {
            let at = dice.below(object.len());
            if let Some((_, inner)) = object.iter_mut().nth(at) {
                damage_json(dice, inner, others);
            }
        }
        Json::Array(list) if deeper && !list.is_empty() => {
            let at = dice.below(list.len());
            damage_json(dice, &mut list[at], others);
        }
        other => *other = others[dice.below(others.len())].clone(),
    }
}

#[test]
fn records_come_back_whatever_became_of_their_lexicon() {
    let catalog = Catalog::builtin();
    let types = [
        "string", "integer", "array", "object", "blob", "bytes", "cid-link", "unknown", "union",
        "ref", "boolean",
    ];
    let mut others: Vec<Json> = types
        .iter()
        .map(|name| {
            serde_json::json!({"type": name, "items": {"type": "string"},
        "properties": {"a": {"type": "integer"}}, "refs": ["#x"], "ref": "#main"})
        })
        .collect();
    others.extend(types.iter().map(|name| Json::from(*name)));
    others.extend([
        Json::Null,
        Json::from(1),
        serde_json::json!([]),
        serde_json::json!({}),
    ]);
    let mut taken = 0;
    for table in catalog
        .tables()
        .filter(|table| table.record_type().is_some())
    {
        let collection = table.name.table.as_str();
        let mut dice = Dice::new(11, collection);
        let source = table
            .record_type()
            .and_then(|record| record.lexicons().get(collection))
            .map(|doc| doc.source().clone());
        for _ in 0..40 {
            let mut source = source.clone().unwrap_or_default();
            damage_json(&mut dice, &mut source, &others);
            // As a new type, since one that is there keeps its columns.
            if source["id"].is_string() {
                source["id"] = Json::from("org.example.damaged");
            }
            let Ok(damaged) = catalog.with_lexicon(&source) else {
                continue;
            };
            taken += 1;
            let changes: Vec<RecordChange> = (0..10)
                .map(|_| {
                    change_of(
                        "org.example.damaged",
                        "a",
                        cbor::encode(&generate::record(&mut dice, table)).into(),
                    )
                })
                .collect();
            let table = damaged.records_of("org.example.damaged");
            let shredded = shred(table, &changes);
            assert_comes_back(table, &shredded.batch, &changes);
            assert_eq!(shredded.raw, 0);
        }
    }
    assert!(taken >= 100, "{taken}");
}
