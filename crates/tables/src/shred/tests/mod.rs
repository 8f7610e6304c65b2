//! Whatever a record is, its row gives it back; and what a row looks like.

#![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]

mod fuzz;
mod generate;
mod recorded;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use arrow::datatypes::TimestampMicrosecondType;
use arrow::util::display::array_value_to_string;
use bytes::Bytes;
use crdt::atproto::{Cid, Map, Tid, Value, Verification, cbor, json};
use crdt::{Body, Delivery, Micros, RecordChange};

use super::{RecordRow, ShredError, Shredded, Shredder};
use crate::rebuild::Rebuilder;
use crate::schema::{Catalog, TableDef, TableName};
use generate::Dice;

/// A change that writes `cbor` to `collection`.
pub(crate) fn change_of(collection: &str, rkey: &str, cbor: Bytes) -> RecordChange {
    RecordChange {
        did: "did:plc:ewvi7nxzyoun6zhxrhs64oiz".parse().unwrap(),
        collection: collection.parse().unwrap(),
        rkey: rkey.parse().unwrap(),
        rev: Tid::new(1_760_000_000_000_000, 7).unwrap(),
        body: Some(Body {
            cid: Cid::of_cbor(&cbor),
            cbor,
        }),
        delivery: Delivery {
            source: Arc::from("wss://relay.example"),
            seq: Some(5),
            indexed_at: Micros(1_760_000_000_500_000),
            time: None,
            verification: Verification::Inverted,
        },
    }
}

pub(crate) fn shred(table: &TableDef, changes: &[RecordChange]) -> Shredded {
    let mut shredder = Shredder::new(table).unwrap();
    for change in changes {
        shredder.push(&RecordRow::of(change).unwrap()).unwrap();
    }
    shredder.finish()
}

/// Checks that each row gives back its record as CBOR, as a value and as JSON.
pub(crate) fn assert_comes_back(table: &TableDef, batch: &RecordBatch, changes: &[RecordChange]) {
    let rebuilder = Rebuilder::new(table).unwrap();
    let rows = rebuilder.open(batch).unwrap();
    assert_eq!(batch.num_rows(), changes.len());
    for (row, change) in changes.iter().enumerate() {
        let body = change.body.as_ref().unwrap();
        let back = rows.cbor(row).unwrap();
        assert_eq!(
            Cid::of_cbor(&back),
            body.cid,
            "{:?}",
            cbor::decode(&body.cbor)
        );
        assert_eq!(back, body.cbor);
    }
}

fn record(json: serde_json::Value) -> Value {
    json::from_json(&json).unwrap()
}

/// Shreds one record and returns its row, having checked that it comes back without `raw`.
fn row_of(table: &TableDef, value: &Value) -> RecordBatch {
    let collection = table
        .record_type()
        .map_or("com.example.thing", |record| record.collection());
    let change = change_of(collection, "3mbabnqbn5k2a", cbor::encode(value).into());
    let shredded = shred(table, std::slice::from_ref(&change));
    assert_comes_back(table, &shredded.batch, &[change]);
    assert_eq!(shredded.raw, 0, "{value:?}");
    shredded.batch
}

fn text_at(batch: &RecordBatch, column: &str) -> Option<String> {
    let column = batch.column_by_name(column).unwrap().as_string::<i32>();
    column.is_valid(0).then(|| column.value(0).to_owned())
}

/// Times as microseconds: Arrow prints only those with an offset for a zone.
fn cell(batch: &RecordBatch, column: &str) -> String {
    let column = batch.column_by_name(column).unwrap();
    let column = match column.data_type() {
        DataType::Timestamp(..) => cast(column, &DataType::Int64).unwrap(),
        _ => Arc::clone(column),
    };
    array_value_to_string(&column, 0).unwrap()
}

fn bsky(table: &str) -> Arc<TableDef> {
    Arc::clone(
        Catalog::builtin()
            .table(&TableName::new("bsky", table))
            .unwrap(),
    )
}

#[test]
fn a_plain_record_needs_no_extra() {
    let like = record(serde_json::json!({
        "$type": "app.bsky.feed.like",
        "subject": {"uri": "at://did:plc:a/app.bsky.feed.post/3k", "cid": "bafyreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a"},
        "createdAt": "2026-07-20T10:11:12.123Z"}));
    let batch = row_of(&bsky("like"), &like);
    let told: Vec<String> = batch
        .schema()
        .fields()
        .iter()
        .map(|field| format!("{}={}", field.name(), cell(&batch, field.name())))
        .collect();
    assert_eq!(
        told.join(" "),
        "did=did:plc:ewvi7nxzyoun6zhxrhs64oiz rkey=3mbabnqbn5k2a rev=3m2qrrgw2222b \
         cid=bafyreiebdwjjhhx7wvyimpx2aj2v3njdohzysldbyiotfgozhujnvhon6a created_at=1784542272123000 time= \
         indexed_at=1760000000500000 source=wss://relay.example seq=5 verification=inverted \
         subject_uri=at://did:plc:a/app.bsky.feed.post/3k \
         subject_cid=bafyreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a via_uri= via_cid= extra= raw="
    );
}

#[test]
fn what_columns_cannot_hold_stands_in_extra_under_its_place() {
    let cases = [
        (serde_json::json!({"text": "a"}), r#"{"-/$type":true}"#),
        (
            serde_json::json!({"$type": "app.bsky.feed.like"}),
            r#"{"$type":"app.bsky.feed.like"}"#,
        ),
        (serde_json::json!({"$type": null}), r#"{"$type":null}"#),
        (
            serde_json::json!({"$type": "app.bsky.feed.post", "text": 5}),
            r#"{"text":5}"#,
        ),
        (
            serde_json::json!({"$type": "app.bsky.feed.post", "text": null}),
            r#"{"text":null}"#,
        ),
        (
            serde_json::json!({"$type": "app.bsky.feed.post", "reply": {}}),
            r#"{"reply":{}}"#,
        ),
        (
            serde_json::json!({"$type": "app.bsky.feed.post", "reply": {"root": {"uri": 1}}}),
            r#"{"reply":{"root":{"uri":1}}}"#,
        ),
        (
            serde_json::json!({"$type": "app.bsky.feed.post", "reply": {"root": {"uri": "x", "cid": 1}, "parent": {}, "via": "y"}}),
            r#"{"/reply/root/cid":1,"/reply/parent":{},"/reply/via":"y"}"#,
        ),
        (
            serde_json::json!({"$type": "app.bsky.feed.post", "langs": ["en", 7, null]}),
            r#"{"/langs/1":7,"/langs/2":null}"#,
        ),
        (
            serde_json::json!({"$type": "app.bsky.feed.post", "facets": [
                {"$type": "app.bsky.richtext.facet", "index": {"byteStart": 1, "byteEnd": "2"}, "features": []}, 4]}),
            r#"{"/facets/0/index/byteEnd":"2","/facets/0/$type":"app.bsky.richtext.facet","/facets/1":4}"#,
        ),
        (
            serde_json::json!({"$type": "app.bsky.feed.post", "/a~b": 1, "-/c": 2}),
            r#"{"/-~1c":2,"/~1a~0b":1}"#,
        ),
        (
            serde_json::json!({"$type": "app.bsky.feed.post", "": 1}),
            r#"{"":1}"#,
        ),
        (
            serde_json::json!({"$type": "app.bsky.feed.post", "more": {"bytes": {"$bytes": "AQI"}}}),
            r#"{"more":{"bytes":{"$bytes":"AQI"}}}"#,
        ),
    ];
    let post = bsky("post");
    for (json, extra) in cases {
        let batch = row_of(&post, &record(json));
        assert_eq!(text_at(&batch, "extra").as_deref(), Some(extra));
    }
}

#[test]
fn present_and_empty_is_not_absent() {
    let post = bsky("post");
    for json in [
        serde_json::json!({"$type": "app.bsky.feed.post", "text": "", "tags": [], "facets": [], "embed": null}),
        serde_json::json!({"$type": "app.bsky.feed.post", "embed": {}, "facets": [{}], "langs": [""]}),
    ] {
        let batch = row_of(&post, &record(json));
        assert_eq!(text_at(&batch, "extra"), None);
    }
}

#[test]
fn a_datetime_keeps_its_instant_in_the_column_and_its_own_spelling_in_extra() {
    let cases = [
        (
            "2026-07-20T10:11:12.123Z",
            Some(1_784_542_272_123_000),
            None,
        ),
        (
            "2026-07-20T12:11:12.123456+02:00",
            Some(1_784_542_272_123_456),
            Some(()),
        ),
        (
            "2026-07-20T10:11:12Z",
            Some(1_784_542_272_000_000),
            Some(()),
        ),
        ("yesterday", None, Some(())),
        ("2026-02-30T00:00:00.000Z", None, Some(())),
    ];
    let post = bsky("post");
    for (text, us, kept) in cases {
        let batch = row_of(
            &post,
            &record(serde_json::json!({"$type": "app.bsky.feed.post", "createdAt": text})),
        );
        let column = batch
            .column_by_name("created_at")
            .unwrap()
            .as_primitive::<TimestampMicrosecondType>();
        assert_eq!(column.is_valid(0).then(|| column.value(0)), us, "{text}");
        assert_eq!(
            text_at(&batch, "extra"),
            kept.map(|()| format!(r#"{{"createdAt":"{text}"}}"#))
        );
    }
}

#[test]
fn a_blob_is_a_struct_and_an_old_one_stands_in_extra() {
    let cid = "bafkreibme22gw2h7y2h7tg2fhqotaqjucnbc24deqo72b6mkl2egezxhvy";
    let profile = bsky("profile");
    let blob = serde_json::json!({"$type": "blob", "ref": {"$link": cid}, "mimeType": "image/png", "size": 12});
    let batch = row_of(
        &profile,
        &record(serde_json::json!({"$type": "app.bsky.actor.profile", "avatar": blob})),
    );
    assert_eq!(text_at(&batch, "extra"), None);
    assert_eq!(
        batch
            .column_by_name("avatar")
            .unwrap()
            .as_struct()
            .column(0)
            .as_string::<i32>()
            .value(0),
        cid
    );

    let old = serde_json::json!({"cid": cid, "mimeType": "image/png"});
    let batch = row_of(
        &profile,
        &record(serde_json::json!({"$type": "app.bsky.actor.profile", "avatar": old})),
    );
    assert_eq!(
        text_at(&batch, "extra"),
        Some(format!(r#"{{"avatar":{old}}}"#))
    );
}

#[test]
fn a_record_without_a_lexicon_is_all_extra() {
    let untyped = Arc::clone(Catalog::builtin().untyped());
    let value = record(
        serde_json::json!({"$type": "com.example.thing", "createdAt": "2026-07-20T10:11:12.123Z", "n": [1, {"$link":
        "bafkreibme22gw2h7y2h7tg2fhqotaqjucnbc24deqo72b6mkl2egezxhvy"}]}),
    );
    let batch = row_of(&untyped, &value);
    assert_eq!(
        text_at(&batch, "collection").as_deref(),
        Some("com.example.thing")
    );
    let created_at = batch.column_by_name("created_at").unwrap();
    assert_eq!(
        created_at
            .as_primitive::<TimestampMicrosecondType>()
            .value(0),
        1_784_542_272_123_000
    );
    assert_eq!(
        Rebuilder::new(&untyped)
            .unwrap()
            .json_column(&batch)
            .unwrap()
            .value(0),
        json::to_text(&value)
    );
}

#[test]
fn what_json_cannot_say_keeps_its_bytes() {
    let lookalike: Map = [("$link", Value::from("no CID"))].into_iter().collect();
    let post: Map = [
        ("$type", Value::from("app.bsky.feed.post")),
        ("embed", lookalike.into()),
    ]
    .into_iter()
    .collect();
    let records = [
        cbor::encode(&post.into()),
        cbor::encode(&Value::List(vec![Value::Int(1)])),
        cbor::encode(&Value::Null),
        vec![0xff],
        vec![0xf9, 0x3c, 0x00],
    ];
    let changes: Vec<RecordChange> = records
        .into_iter()
        .map(|cbor| change_of("app.bsky.feed.post", "a", cbor.into()))
        .collect();
    for table in [bsky("post"), Arc::clone(Catalog::builtin().untyped())] {
        let shredded = shred(&table, &changes);
        assert_eq!(shredded.raw, changes.len());
        assert_comes_back(&table, &shredded.batch, &changes);
    }
}

#[test]
fn bytes_that_are_not_canonical_are_kept_as_they_are() {
    // {"b": 1, "a": 2}: not in order, so no strict decoder takes it.
    let cbor = Bytes::from_static(&[0xa2, 0x61, b'b', 1, 0x61, b'a', 2]);
    let change = change_of("com.example.thing", "a", cbor);
    let shredded = shred(Catalog::builtin().untyped(), std::slice::from_ref(&change));
    assert_eq!(shredded.raw, 1);
    assert_comes_back(Catalog::builtin().untyped(), &shredded.batch, &[change]);
}

#[test]
fn a_table_of_other_rows_takes_no_records() {
    let catalog = Catalog::builtin();
    let events = catalog.table(&TableName::new("atproto", "events")).unwrap();
    assert_eq!(Shredder::new(events).err(), Some(ShredError::NotRecords));
    assert!(Rebuilder::new(events).is_err());
}

#[test]
fn an_empty_batch_has_all_columns() {
    for table in Catalog::builtin()
        .tables()
        .filter(|table| table.is_records())
    {
        let shredded = shred(table, &[]);
        assert_eq!(
            (shredded.batch.num_rows(), shredded.batch.schema()),
            (0, Arc::clone(&table.schema))
        );
    }
}

/// 20 seeds of 100 records for each table: valid ones, valid ones that were damaged, and any values.
#[test]
fn every_record_comes_back_and_hardly_any_needs_raw() {
    let catalog = Catalog::builtin();
    let mut counted: BTreeMap<&'static str, usize> = BTreeMap::new();
    for seed in 0..20 {
        for table in catalog.tables().filter(|table| table.is_records()) {
            let collection = table
                .record_type()
                .map_or("com.example.thing", |record| record.collection());
            let mut dice = Dice::new(seed, collection);
            let changes: Vec<RecordChange> = (0..100)
                .map(|_| {
                    change_of(
                        collection,
                        "a",
                        cbor::encode(&generate::record(&mut dice, table)).into(),
                    )
                })
                .collect();
            let shredded = shred(table, &changes);
            assert_comes_back(table, &shredded.batch, &changes);
            *counted.entry("records").or_default() += changes.len();
            *counted.entry("raw").or_default() += shredded.raw;
            for extra in shredded
                .batch
                .column_by_name("extra")
                .unwrap()
                .as_string::<i32>()
            {
                count_situations(extra, &mut counted);
            }
        }
    }
    println!("{counted:?}");
    let (records, raw) = (counted["records"], counted["raw"]);
    assert!(
        raw * 1000 <= records,
        "{raw} of {records} records keep their bytes"
    );
    for situation in ["no extra", "own fields", "places inside", "no $type"] {
        assert!(counted[situation] >= 100, "{situation}: {counted:?}");
    }
}

fn count_situations(extra: Option<&str>, counted: &mut BTreeMap<&'static str, usize>) {
    let mut count = |situation: &'static str, occurs: bool| {
        *counted.entry(situation).or_default() += usize::from(occurs)
    };
    count("no extra", extra.is_none());
    let Some(extra) = extra else { return };
    let entries: serde_json::Map<String, serde_json::Value> = serde_json::from_str(extra).unwrap();
    count("no $type", entries.contains_key("-/$type"));
    count(
        "places inside",
        entries
            .keys()
            .any(|key| key.starts_with('/') && key[1..].contains('/')),
    );
    count(
        "own fields",
        entries.keys().any(|key| !key.starts_with(['/', '-'])),
    );
}
