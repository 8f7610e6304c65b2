//! Each kind of change as a row of its table.

#![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]

use std::sync::Arc;

use arrow::array::{Array, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use arrow::util::display::array_value_to_string;
use crdt::atproto::{Action, Cid, Tid, Verification};
use crdt::{
    AccountChange, Change, CursorChange, Delivery, EventChange, EventKind, FloorChange, HeadChange,
    IdentityChange, Micros, NoticeChange, NoticeKind, RecordChange,
};

use super::{RowsError, rows_of, tombstones_of};
use crate::schema::Catalog;

fn delivery() -> Delivery {
    Delivery {
        source: Arc::from("wss://relay"),
        seq: Some(5),
        indexed_at: Micros(1_000_000_000),
        time: Some(Micros(900_000_000)),
        verification: Verification::Signature,
    }
}

fn rev() -> Tid {
    Tid::new(1_760_000_000_000_000, 7).unwrap()
}

/// Returns `column=value` of each row, times as microseconds, nulls as nothing.
fn told(batch: &RecordBatch) -> Vec<String> {
    let cell = |column: &Arc<dyn Array>, row| {
        let column = match column.data_type() {
            DataType::Timestamp(..) => cast(column, &DataType::Int64).unwrap(),
            _ => Arc::clone(column),
        };
        array_value_to_string(&column, row).unwrap()
    };
    let row = |row| {
        let schema = batch.schema();
        let cells = schema.fields().iter().zip(batch.columns());
        cells
            .map(|(field, column)| format!("{}={}", field.name(), cell(column, row)))
            .collect::<Vec<_>>()
            .join(" ")
    };
    (0..batch.num_rows()).map(row).collect()
}

fn told_of(change: Change) -> Vec<String> {
    let catalog = Catalog::builtin();
    told(&rows_of(catalog.table_of(&change), [&change]).unwrap())
}

#[test]
fn a_commit_event_is_at_the_time_of_its_rev() {
    let event = EventChange {
        kind: EventKind::Commit,
        did: "did:plc:a".parse().unwrap(),
        time: Micros(900_000_000),
        rev: Some(rev()),
        commit: Some(Cid::of_cbor(b"c")),
        op_index: 0,
        operation: Some(Action::Delete),
        collection: Some("app.bsky.feed.like".parse().unwrap()),
        rkey: Some("k".parse().unwrap()),
        cid: None,
        handle: None,
        active: None,
        status: None,
        delivery: delivery(),
    };
    let id: String = event
        .id()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let commit = Cid::of_cbor(b"c");
    assert_eq!(
        told_of(Change::Event(event)),
        [format!(
            "at=1760000000000000 did=did:plc:a id={id} time=900000000 kind=commit operation=delete collection=app.bsky.feed.like \
             rkey=k rev=3m2qrrgw2222b cid= seq=5 source=wss://relay indexed_at=1000000000 commit={commit}"
        )]
    );
}

#[test]
fn a_state_from_a_clock_that_runs_ahead_is_ordered_by_its_arrival() {
    let account = AccountChange {
        did: "did:plc:a".parse().unwrap(),
        time: Micros(9_000_000_000),
        seq: None,
        active: false,
        status: Some("takendown".to_owned()),
        delivery: delivery(),
    };
    let [row] = told_of(Change::Account(account)).try_into().unwrap();
    assert!(
        row.starts_with(
            "did=did:plc:a source=wss://relay time=9000000000 at=1300000000 seq= tie=00"
        ),
        "{row}"
    );
    assert!(
        row.ends_with("active=false status=takendown indexed_at=1000000000"),
        "{row}"
    );

    let identity = IdentityChange {
        did: "did:plc:a".parse().unwrap(),
        time: Micros(1),
        seq: Some(7),
        handle: Some("a.example".parse().unwrap()),
        pds: None,
        delivery: delivery(),
    };
    let [row] = told_of(Change::Identity(identity)).try_into().unwrap();
    assert!(
        row.starts_with("did=did:plc:a source=wss://relay time=1 at=1 seq=7 tie=0000"),
        "{row}"
    );
    assert!(
        row.ends_with("handle=a.example pds= indexed_at=1000000000"),
        "{row}"
    );
}

#[test]
fn a_floor_is_a_row_with_its_coverages_text() {
    let floor = |coverage: &str| {
        told_of(Change::Floor(FloorChange {
            did: "did:plc:a".parse().unwrap(),
            rev: rev(),
            coverage: coverage.parse().unwrap(),
            delivery: delivery(),
        }))
    };
    let row = |scope: &str| {
        format!(
            "did=did:plc:a scope={scope} rev=3m2qrrgw2222b source=wss://relay verification=signature indexed_at=1000000000"
        )
    };
    assert_eq!(floor(""), [row("")]);
    assert_eq!(
        floor("b.* a.b.d !b.c.d"),
        [row("a.b.d b.* !b.c.d")],
        "one row, whatever it covers"
    );
}

#[test]
fn heads_cursors_and_notices_are_rows() {
    let (data, commit) = (Cid::of_cbor(b"d"), Cid::of_cbor(b"c"));
    let head = HeadChange {
        did: "did:plc:a".parse().unwrap(),
        rev: rev(),
        data,
        commit,
        commit_block: vec![1, 255].into(),
        delivery: delivery(),
    };
    assert_eq!(
        told_of(Change::Head(head)),
        [format!(
            "did=did:plc:a source=wss://relay rev=3m2qrrgw2222b data={data} commit={commit} commit_block=01ff indexed_at=1000000000"
        )]
    );
    let cursor = CursorChange {
        source: Arc::from("wss://relay"),
        slice: String::new(),
        generation: u64::MAX,
        cursor: -1,
        indexed_at: Micros(3),
    };
    assert_eq!(
        told_of(Change::Cursor(cursor)),
        [format!(
            "source=wss://relay slice= generation={} cursor=-1 indexed_at=3",
            i64::MAX
        )]
    );
    let notice = NoticeChange {
        kind: NoticeKind::Rejection,
        reason: "bad_signature".to_owned(),
        source: Arc::from("wss://relay"),
        did: None,
        rev: None,
        seq: None,
        frame_hash: [1; 16],
        bytes: 12,
        attempt: 0,
        step: 0,
        indexed_at: Micros(3),
    };
    let hash = "01".repeat(16);
    assert_eq!(
        told_of(Change::Notice(notice)),
        [format!(
            "kind=rejection source=wss://relay did= rev= frame_hash={hash} attempt=0 step=0 reason=bad_signature seq= bytes=12 \
             indexed_at=3"
        )]
    );
}

#[test]
fn a_delete_is_a_tombstone_that_names_its_collection_only_among_records_without_a_lexicon() {
    let catalog = Catalog::builtin();
    let delete = |collection: &str| RecordChange {
        did: "did:plc:a".parse().unwrap(),
        collection: collection.parse().unwrap(),
        rkey: "k".parse().unwrap(),
        rev: rev(),
        body: None,
        delivery: delivery(),
    };
    let typed = delete("app.bsky.feed.like");
    let table = catalog.records_of("app.bsky.feed.like");
    assert_eq!(
        told(&tombstones_of(table, [&typed]).unwrap()),
        ["did=did:plc:a rkey=k rev=3m2qrrgw2222b indexed_at=1000000000"]
    );
    let untyped = delete("a.b.c");
    assert_eq!(
        told(&tombstones_of(catalog.records_of("a.b.c"), [&untyped]).unwrap()),
        ["did=did:plc:a collection=a.b.c rkey=k rev=3m2qrrgw2222b indexed_at=1000000000"]
    );
    assert_eq!(
        rows_of(table, [&Change::Record(typed)]).err(),
        Some(RowsError::Records)
    );
}

#[test]
fn a_change_of_another_kind_is_refused() {
    let catalog = Catalog::builtin();
    let cursor = Change::Cursor(CursorChange {
        source: Arc::from("s"),
        slice: String::new(),
        generation: 0,
        cursor: 0,
        indexed_at: Micros(0),
    });
    for table in catalog.tables().filter(|table| !table.is_records()) {
        let expected = if table.name == catalog.table_of(&cursor).name {
            None
        } else {
            Some(RowsError::OtherKind)
        };
        assert_eq!(rows_of(table, [&cursor]).err(), expected, "{}", table.name);
        assert_eq!(rows_of(table, []).unwrap().num_rows(), 0);
    }
}
