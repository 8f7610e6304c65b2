//! The physical columns of each kind of table, their keys and orders.
//!
//! Strings are Utf8, times `Timestamp(Microsecond, "UTC")`, counts Int64. Where a key has nothing to say for a column
//! (a notice without a did) it holds the empty string, so that keys have no nulls.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

use super::TableKind;
use crate::lexicon::RecordType;

type Names = &'static [&'static str];

/// Returns schema, key and order of a kind of table.
pub(super) fn of(kind: &TableKind) -> (SchemaRef, Names, Names) {
    let (fields, key, order): (Vec<Field>, Names, Names) = match kind {
        TableKind::Record(record) => (records(Some(record)), &["did", "rkey"], &["rev", "cid"]),
        TableKind::Untyped => (
            records(None),
            &["did", "collection", "rkey"],
            &["rev", "cid"],
        ),
        TableKind::Events => (events(), &["at", "did", "id"], &[]),
        TableKind::Accounts => (accounts(), &["did", "source"], &["at", "seq", "tie"]),
        TableKind::Identities => (identities(), &["did", "source"], &["at", "seq", "tie"]),
        TableKind::Heads => (heads(), &["did", "source"], &["rev", "commit"]),
        TableKind::Floors => (floors(), &["did", "scope"], &["rev"]),
        TableKind::Cursors => (cursors(), &["source", "slice"], &["generation", "cursor"]),
        TableKind::Notices => (
            notices(),
            &["kind", "source", "did", "rev", "frame_hash"],
            &["attempt", "step", "reason", "bytes"],
        ),
    };
    (Arc::new(Schema::new(fields)), key, order)
}

/// Returns the columns of tombstones.
pub(super) fn tombstones(untyped: bool) -> SchemaRef {
    let mut fields = vec![text("did")];
    fields.extend(untyped.then(|| text("collection")));
    fields.extend([text("rkey"), text("rev"), time("indexed_at")]);
    Arc::new(Schema::new(fields))
}

fn records(record: Option<&Arc<RecordType>>) -> Vec<Field> {
    let mut fields = vec![text("did")];
    fields.extend(record.is_none().then(|| text("collection")));
    fields.extend([
        text("rkey"),
        text("rev"),
        text("cid"),
        null(time("created_at")),
        null(time("time")),
        time("indexed_at"),
        text("source"),
        null(int("seq")),
        text("verification"),
    ]);
    let typed = record
        .into_iter()
        .flat_map(|record| record.columns())
        .filter(|column| column.name != "created_at");
    fields.extend(typed.map(|column| Field::new(&column.name, column.kind.data_type(), true)));
    fields.extend([
        null(text("extra")),
        null(Field::new("raw", DataType::Binary, false)),
    ]);
    fields
}

fn events() -> Vec<Field> {
    vec![
        time("at"),
        text("did"),
        Field::new("id", DataType::FixedSizeBinary(16), false),
        time("time"),
        text("kind"),
        null(text("operation")),
        null(text("collection")),
        null(text("rkey")),
        null(text("rev")),
        null(text("cid")),
        null(int("seq")),
        text("source"),
        time("indexed_at"),
        null(text("commit")),
    ]
}

fn accounts() -> Vec<Field> {
    vec![
        text("did"),
        text("source"),
        time("time"),
        time("at"),
        null(int("seq")),
        Field::new("tie", DataType::Binary, false),
        Field::new("active", DataType::Boolean, false),
        null(text("status")),
        time("indexed_at"),
    ]
}

fn identities() -> Vec<Field> {
    vec![
        text("did"),
        text("source"),
        time("time"),
        time("at"),
        null(int("seq")),
        Field::new("tie", DataType::Binary, false),
        null(text("handle")),
        null(text("pds")),
        time("indexed_at"),
    ]
}

fn heads() -> Vec<Field> {
    vec![
        text("did"),
        text("source"),
        text("rev"),
        text("data"),
        text("commit"),
        Field::new("commit_block", DataType::Binary, false),
        time("indexed_at"),
    ]
}

fn floors() -> Vec<Field> {
    vec![
        text("did"),
        text("scope"),
        text("rev"),
        text("source"),
        text("verification"),
        time("indexed_at"),
    ]
}

fn cursors() -> Vec<Field> {
    vec![
        text("source"),
        text("slice"),
        int("generation"),
        int("cursor"),
        time("indexed_at"),
    ]
}

fn notices() -> Vec<Field> {
    vec![
        text("kind"),
        text("source"),
        text("did"),
        text("rev"),
        Field::new("frame_hash", DataType::FixedSizeBinary(16), false),
        int("attempt"),
        int("step"),
        text("reason"),
        null(int("seq")),
        int("bytes"),
        time("indexed_at"),
    ]
}

fn text(name: &str) -> Field {
    Field::new(name, DataType::Utf8, false)
}

fn int(name: &str) -> Field {
    Field::new(name, DataType::Int64, false)
}

fn time(name: &str) -> Field {
    Field::new(
        name,
        DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        false,
    )
}

fn null(field: Field) -> Field {
    field.with_nullable(true)
}
