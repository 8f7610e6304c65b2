//! Records are stored once, in typed columns, and come back as they were.

use std::collections::BTreeSet;

use arrow::util::display::{ArrayFormatter, FormatOptions};
use atproto::cbor;
use bytes::Bytes;
use crdt::{Body, Change, Delivery, Micros, RecordChange};
use object_store::ObjectStoreExt;
use object_store::path::Path;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde_json::json;
use tables::schema::Catalog;
use tables::view::ReadView;
use testkit::repo::{Kind, Oddity, RecordMaker};

use crate::world::{Node, RECORDED_US, World, append, record_change, rows_equal_their_cids};

const GENERATED: i64 = 20_000;

#[tokio::test]
async fn hardly_any_record_needs_its_raw_bytes() {
    let world = World::in_memory().await;
    world.node.replay_recorded().await;
    append_generated(&world.node).await;
    world.node.flush().await;
    let view = ReadView::open(&world.node.tables).await.expect("a view");
    let (mut rows, mut raw) = (0, 0);
    for entry in view.segments().entries() {
        if let Some(column) = entry.columns.get("raw") {
            rows += entry.rows;
            raw += entry.rows - column.nulls;
        }
    }
    assert!(rows > 15_000, "{rows} records: profiles share their keys");
    assert!(
        raw * 1_000 <= rows,
        "{raw} of {rows} records keep their bytes"
    );
    let records = rows_equal_their_cids(&world.node).await;
    assert_eq!(records.len() as u64, rows, "every row is a record");
}

/// Records of all kinds, a tenth of them odd.
async fn append_generated(node: &Node) {
    let mut random = StdRng::seed_from_u64(11);
    let dids: Vec<String> = (0..50)
        .map(|number| format!("did:plc:{}{}", "a".repeat(22), number + 10))
        .collect();
    let mut maker = RecordMaker::new(dids.clone());
    let mut writer = node.writer();
    let mut changes = Vec::new();
    for number in 0..GENERATED {
        let at_us = RECORDED_US - 1_000_000_000 + number * 10_000;
        let did = dids.choose(&mut random).expect("some");
        let made = if random.random_bool(0.1) {
            let oddity = *Oddity::ALL.choose(&mut random).expect("some");
            maker.odd(oddity, at_us, &mut random)
        } else {
            let kind = *Kind::ALL.choose(&mut random).expect("some");
            maker.make(kind, at_us, &mut random)
        };
        let body = Body::of(Bytes::from(cbor::encode(&made.record)));
        maker.remember(did, &made, body.cid);
        changes.push(Change::Record(RecordChange {
            did: did.parse().expect("a DID"),
            collection: made.collection.parse().expect("an NSID"),
            rkey: made.rkey.parse().expect("a record key"),
            rev: atproto::Tid::new(at_us, 0).expect("a TID"),
            body: Some(body),
            delivery: Delivery {
                source: "generated".into(),
                seq: None,
                indexed_at: Micros(RECORDED_US),
                time: None,
                verification: atproto::Verification::Inverted,
            },
        }));
        if changes.len() == 1_000 {
            append(&mut writer, std::mem::take(&mut changes)).await;
        }
    }
}

#[tokio::test]
async fn the_text_of_a_post_stands_in_one_cell_of_one_segment() {
    let world = World::in_memory().await;
    world.node.replay_recorded().await;
    world.node.flush().await;
    let texts = world
        .node
        .rows("SELECT text FROM bsky.post WHERE length(text) >= 12")
        .await;
    let texts: BTreeSet<String> = texts
        .iter()
        .filter_map(|row| Some(row["text"].as_str()?.to_owned()))
        .collect();
    assert!(texts.len() >= 15, "{} texts", texts.len());
    let view = ReadView::open(&world.node.tables).await.expect("a view");
    let mut cells = Vec::new();
    for entry in view.segments().entries() {
        let path = Path::from(entry.path.as_str());
        let object = world.node.bucket().store().get(&path).await.expect("there");
        let bytes = object.bytes().await.expect("there");
        cells.extend(cells_of(bytes));
    }
    for text in texts {
        let holding = cells.iter().filter(|cell| cell.contains(&text)).count();
        assert_eq!(holding, 1, "{text}");
    }
}

/// Every cell of a Parquet object as text.
fn cells_of(parquet: Bytes) -> Vec<String> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(parquet).expect("Parquet");
    let mut cells = Vec::new();
    for batch in reader.build().expect("Parquet") {
        let batch = batch.expect("rows");
        for column in batch.columns() {
            let options = FormatOptions::default();
            let column = ArrayFormatter::try_new(column, &options);
            let column = column.expect("a formatter");
            cells.extend((0..batch.num_rows()).map(|row| column.value(row).to_string()));
        }
        // Bytes are shown in hexadecimal, so a text in `raw` would not be seen.
        let raw = batch.column_by_name("raw");
        assert!(raw.is_none_or(|raw| raw.null_count() == raw.len()));
    }
    cells
}

#[tokio::test]
async fn a_lexicon_of_ones_own_makes_a_table_of_its_own() {
    let lexicon = json!({
        "lexicon": 1,
        "id": "com.example.cafe.visit",
        "defs": {"main": {
            "type": "record",
            "key": "tid",
            "record": {
                "type": "object",
                "required": ["cafe", "createdAt"],
                "properties": {
                    "cafe": {"type": "string"},
                    "coffees": {"type": "integer"},
                    "friend": {"type": "string", "format": "did"},
                    "review": {"type": "ref", "ref": "com.atproto.repo.strongRef"},
                    "createdAt": {"type": "string", "format": "datetime"}
                }
            }
        }}
    });
    let world = World::in_memory().await;
    let catalog = Catalog::builtin()
        .with_lexicon(&lexicon)
        .expect("a Lexicon");
    let node = world.another_with(catalog).await;
    let did = format!("did:plc:{}", "a".repeat(24));
    let record = json!({
        "$type": "com.example.cafe.visit",
        "cafe": "Zum Löffel",
        "coffees": 3,
        "friend": did,
        "mood": "fine",
        "createdAt": "2026-07-04T12:00:00.000Z"
    });
    let mut writer = node.writer();
    let change = record_change(
        &did,
        "com.example.cafe.visit/3mptbyp63ih2m",
        1,
        Some(&record),
    );
    append(&mut writer, vec![change]).await;
    for step in ["in the tail", "in a segment"] {
        let typed = node
            .rows("SELECT cafe, coffees, friend, extra FROM atproto.\"com.example.cafe.visit\"")
            .await;
        let expected = json!({"cafe": "Zum Löffel", "coffees": 3, "friend": did, "extra": "{\"mood\":\"fine\"}"});
        assert_eq!(typed, [expected], "{step}");
        let records = rows_equal_their_cids(&node).await;
        assert!(records.values().eq([&record]), "{step}");
        let links = "SELECT count(*) FROM atproto.links WHERE path = 'friend'";
        assert_eq!(node.count(links).await, 1, "{step}");
        node.flush().await;
    }
}
