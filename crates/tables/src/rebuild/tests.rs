//! Rows as other readers hand them over: projected, older than a column, with other string types, damaged.

#![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray, StructArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema};
use crdt::atproto::{cbor, json};
use serde_json::json;

use super::{RebuildError, Rebuilder};
use crate::schema::{Catalog, TableDef, TableName};
use crate::shred::tests::{change_of, shred};

fn post() -> Arc<TableDef> {
    Arc::clone(
        Catalog::builtin()
            .table(&TableName::new("bsky", "post"))
            .unwrap(),
    )
}

fn record() -> serde_json::Value {
    json!({"$type": "app.bsky.feed.post", "text": "a", "langs": ["en"], "odd": 1, "createdAt": "2026-07-20T10:11:12.123Z",
        "facets": [{"index": {"byteStart": 0, "byteEnd": 1}, "features": [{"$type": "x", "y": "z"}]}]})
}

fn batch() -> RecordBatch {
    let cbor = cbor::encode(&json::from_json(&record()).unwrap());
    shred(
        &post(),
        &[change_of("app.bsky.feed.post", "a", cbor.into())],
    )
    .batch
}

fn with_column(batch: &RecordBatch, name: &str, array: ArrayRef) -> RecordBatch {
    let schema = batch.schema();
    let columns = schema
        .fields()
        .iter()
        .zip(batch.columns())
        .map(|(field, column)| {
            let array = if field.name() == name {
                Arc::clone(&array)
            } else {
                Arc::clone(column)
            };
            (
                Field::new(field.name(), array.data_type().clone(), true),
                array,
            )
        });
    let (fields, arrays): (Vec<Field>, Vec<ArrayRef>) = columns.unzip();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).unwrap()
}

fn back(batch: &RecordBatch) -> serde_json::Value {
    json::to_json(&Rebuilder::new(&post()).unwrap().row(batch, 0).unwrap())
}

#[test]
fn the_columns_that_a_rebuilder_names_are_enough() {
    let batch = batch();
    let rebuilder = Rebuilder::new(&post()).unwrap();
    let places: Vec<usize> = rebuilder
        .columns()
        .iter()
        .map(|name| batch.schema().index_of(name).unwrap())
        .collect();
    assert!(places.len() < batch.num_columns());
    assert_eq!(back(&batch.project(&places).unwrap()), record());
}

#[test]
fn a_column_that_is_not_there_is_null() {
    let batch = batch();
    let places: Vec<usize> = (0..batch.num_columns())
        .filter(|&place| !["langs", "raw"].contains(&batch.schema().field(place).name().as_str()))
        .collect();
    let mut without = record();
    without.as_object_mut().unwrap().remove("langs");
    assert_eq!(back(&batch.project(&places).unwrap()), without);
}

#[test]
fn columns_of_another_string_type_are_cast() {
    let mut batch = batch();
    let dictionary = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    for (name, to) in [
        ("text", DataType::Utf8View),
        ("extra", DataType::LargeUtf8),
        ("raw", DataType::BinaryView),
        ("embed", dictionary),
    ] {
        let array = cast(batch.column_by_name(name).unwrap(), &to).unwrap();
        batch = with_column(&batch, name, array);
    }
    let views = DataType::List(Arc::new(Field::new("element", DataType::Utf8View, true)));
    let array = cast(batch.column_by_name("langs").unwrap(), &views).unwrap();
    assert_eq!(back(&with_column(&batch, "langs", array)), record());
}

#[test]
fn a_damaged_row_is_named_and_gives_no_record() {
    let batch = batch();
    let rebuilder = Rebuilder::new(&post()).unwrap();
    let row = |column: &str, text: &str| {
        let array: ArrayRef = Arc::new(StringArray::from(vec![text]));
        rebuilder
            .row(&with_column(&batch, column, array), 0)
            .unwrap_err()
    };
    for extra in [
        "",
        "[]",
        "{\"/facets/9/a\":1}",
        "{\"/nothing/a\":1}",
        "{\"/text/a\":1}",
        "{\"/facets/x\":1}",
        "{\"a\":1.5}",
    ] {
        assert!(
            matches!(row("extra", extra), RebuildError::Extra { row: 0, .. }),
            "{extra}"
        );
    }
    assert!(matches!(row("embed", "{"), RebuildError::Cell { row: 0 }));
    let text: ArrayRef = Arc::new(StringArray::from(vec!["a"]));
    let other: ArrayRef = Arc::new(StructArray::from(vec![(
        Arc::new(Field::new("a", DataType::Utf8, true)),
        text,
    )]));
    let error = rebuilder
        .row(&with_column(&batch, "text", other), 0)
        .unwrap_err();
    assert!(matches!(error, RebuildError::ColumnType { .. }));
}
