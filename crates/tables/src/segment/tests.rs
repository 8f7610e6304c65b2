//! Segments, their indexes and marks: golden bytes, damage, look-ups, statistics.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;

use arrow::array::RecordBatch;
use bytes::Bytes;
use crdt::atproto::Cid;
use crdt::{AccountChange, Change, Micros};
use object_store::ObjectStoreExt;
use object_store::path::Path;
use parquet::basic::Encoding;
use parquet::bloom_filter::Sbbf;
use prost::Message;
use roaring::RoaringBitmap;
use testkit::fault_store::FaultStore;

use super::*;
use crate::cache::decode_marks;
use crate::error::{FormatError, WriteError};
use crate::key::{keys, text_prefix};
use crate::proto;
use crate::rows::rows_of;
use crate::schema::{Catalog, TableDef};
use crate::shred::{RecordRow, Shredder};
use crate::world::{BLOCK, START_US, block, def, delivery, did, head};

/// Enough for seven blocks, and for more dids than a dictionary page of 1 MiB would hold.
const ROWS: usize = 50_000;

fn heads() -> Arc<TableDef> {
    def(&Catalog::builtin(), "system", "heads")
}

/// One head for every second number, so that there are keys between them.
fn many_heads() -> RecordBatch {
    let changes: Vec<Change> = (0..ROWS)
        .map(|number| head(2 * number, "s", number))
        .collect();
    rows_of(&heads(), &changes).unwrap()
}

fn write(def: &TableDef, batches: &[RecordBatch]) -> Written {
    let rows = batches.iter().map(RecordBatch::num_rows).sum();
    let mut writer = SegmentWriter::new(&def.schema, def.key, rows).unwrap();
    for batch in batches {
        writer.push(batch).unwrap();
    }
    writer.finish().unwrap().unwrap()
}

async fn reader(def: &TableDef, written: &Written) -> (FaultStore, SegmentReader) {
    let store = FaultStore::in_memory();
    let path = "tables/t/segment.parquet";
    store
        .put(&Path::from(path), written.parquet.clone().into())
        .await
        .unwrap();
    store.reset_counts();
    let bytes = written.parquet.len() as u64;
    let index = decode_index(&written.index, bytes, written.rows).unwrap();
    let span = Span {
        path: "system/pack".to_owned(),
        offset: 0,
        length: written.index.len() as u64,
        checksum: *blake3::hash(&written.index).as_bytes(),
    };
    let entry = SegmentEntry {
        path: path.to_owned(),
        table: crate::view::physical_name(def),
        kind: SegmentKind::Rows,
        partition: "h0".to_owned(),
        rows: written.rows,
        bytes,
        checksum: *blake3::hash(&written.parquet).as_bytes(),
        created_us: 0,
        key_min: written.key_min.clone(),
        key_max: written.key_max.clone(),
        columns: written.columns.clone(),
        index: span,
        marks: None,
    };
    let reader = SegmentReader {
        store: Arc::new(store.clone()),
        entry: Arc::new(entry),
        index: Arc::new(index),
    };
    (store, reader)
}

fn columns(def: &TableDef) -> Columns<'static> {
    Columns {
        key: def.key,
        order: def.order,
    }
}

fn key_of(number: usize, source: &str) -> Vec<u8> {
    let mut key = text_prefix(did(number).as_str());
    key.extend(text_prefix(source));
    key
}

#[test]
fn rows_out_of_order_are_refused_within_a_batch_and_between_two() {
    let def = heads();
    let batch = rows_of(&def, &[head(2, "s", 1), head(1, "s", 1)]).unwrap();
    let mut writer = SegmentWriter::new(&def.schema, def.key, 2).unwrap();
    assert!(matches!(writer.push(&batch), Err(WriteError::Unsorted)));

    let mut writer = SegmentWriter::new(&def.schema, def.key, 2).unwrap();
    let batch = rows_of(&def, &[head(1, "s", 1)]).unwrap();
    writer.push(&batch).unwrap();
    assert!(matches!(writer.push(&batch), Err(WriteError::Unsorted)));
    assert_eq!(writer.rows(), 1);
}

#[test]
fn a_segment_without_rows_is_none() {
    let def = heads();
    let writer = SegmentWriter::new(&def.schema, def.key, 0).unwrap();
    assert!(writer.finish().unwrap().is_none());
}

#[test]
fn every_page_of_a_key_or_order_column_is_a_block() {
    let def = heads();
    // In batches that do not end where blocks do.
    let rows = many_heads();
    let batches = [rows.slice(0, 5_000), rows.slice(5_000, ROWS - 5_000)];
    let written = write(&def, &batches);
    let bytes = written.parquet.len() as u64;
    let index = decode_index(&written.index, bytes, written.rows).unwrap();
    let offsets = index.metadata().offset_index().unwrap();
    for (place, column) in index.metadata().row_group(0).columns().iter().enumerate() {
        let name = column.column_path().string();
        if !def.key.contains(&name.as_str()) && !def.order.contains(&name.as_str()) {
            continue;
        }
        let pages = offsets[0][place].page_locations();
        let firsts: Vec<i64> = pages.iter().map(|page| page.first_row_index).collect();
        let blocks: Vec<i64> = (0..ROWS)
            .step_by(BLOCK_ROWS)
            .map(|row| i64::try_from(row).unwrap())
            .collect();
        assert_eq!(firsts, blocks, "pages of {name}");
    }
}

#[tokio::test]
async fn every_key_is_found_in_one_block_and_no_other_key() {
    let def = heads();
    let rows = many_heads();
    let written = write(&def, std::slice::from_ref(&rows));
    let (store, reader) = reader(&def, &written).await;
    let present = keys(&rows, def.key).unwrap();
    let probes: Vec<&[u8]> = present.iter().collect();
    let lookup = find_keys(&reader, columns(&def), &probes).await.unwrap();
    assert_eq!(lookup.blocks, ROWS.div_ceil(BLOCK_ROWS));
    let found: Vec<(usize, usize)> = lookup
        .found
        .iter()
        .map(|found| (found.probe, found.row as usize))
        .collect();
    assert_eq!(found, (0..ROWS).map(|row| (row, row)).collect::<Vec<_>>());

    for row in [0, BLOCK_ROWS - 1, BLOCK_ROWS, ROWS - 1] {
        store.reset_counts();
        let lookup = find_keys(&reader, columns(&def), &[present.get(row)]).await;
        let lookup = lookup.unwrap();
        assert_eq!((lookup.blocks, lookup.found.len()), (1, 1));
        assert_eq!(lookup.found[0].key, present.get(row));
        // Keys, `rev` and `commit`: a page each, and that of a dictionary for `source`.
        assert!(store.counts().get <= 6, "{:?}", store.counts());
    }

    let absent: Vec<Vec<u8>> = (0..2_000).map(|n| key_of(40 * n + 1, "s")).collect();
    let mut read = 0;
    for key in &absent {
        let lookup = find_keys(&reader, columns(&def), &[key]).await.unwrap();
        assert!(lookup.found.is_empty());
        assert!(lookup.blocks <= 1);
        read += lookup.blocks;
    }
    assert!(read <= 60, "the bloom filter said yes to {read} of 2000");
}

#[tokio::test]
async fn a_prefix_is_found_across_the_border_of_blocks() {
    let def = heads();
    let mut changes: Vec<Change> = (0..BLOCK_ROWS - 2).map(|n| head(n, "s", 1)).collect();
    let straddling = BLOCK_ROWS;
    for source in ["a", "b", "c", "d"] {
        changes.push(head(straddling, source, 1));
    }
    changes.push(head(straddling + 1, "a", 1));
    let written = write(&def, &[rows_of(&def, &changes).unwrap()]);
    let (_, reader) = reader(&def, &written).await;
    let prefix = |number| {
        let bytes = text_prefix(did(number).as_str());
        Prefix {
            first: bytes.len(),
            bytes,
        }
    };
    let prefixes = [
        prefix(straddling - 1),
        prefix(straddling),
        prefix(straddling + 1),
    ];
    let lookup = find_prefixes(&reader, columns(&def), &prefixes)
        .await
        .unwrap();
    let found: Vec<(usize, usize)> = lookup
        .found
        .iter()
        .map(|found| (found.probe, found.row as usize))
        .collect();
    let first = BLOCK_ROWS - 2;
    assert_eq!(
        found,
        [
            (1, first),
            (1, first + 1),
            (1, first + 2),
            (1, first + 3),
            (2, first + 4)
        ]
    );
    assert_eq!(lookup.blocks, 2);
}

#[test]
fn statistics_count_nulls_and_keep_no_long_text() {
    let def = def(&Catalog::builtin(), "atproto", "account_states");
    let account = |number: usize, seq: Option<i64>, status: Option<&str>| {
        Change::Account(AccountChange {
            did: did(number),
            time: Micros(START_US + i64::try_from(number).unwrap()),
            seq,
            active: number == 0,
            status: status.map(str::to_owned),
            delivery: delivery(),
        })
    };
    let changes = [
        account(0, None, None),
        account(1, Some(-3), Some("deleted")),
        account(2, Some(9), Some("takendown")),
    ];
    let written = write(&def, &[rows_of(&def, &changes).unwrap()]);
    let stats = |name: &str| &written.columns[name];
    let bounds = |min, max| (Some(min), Some(max));
    let of = |name: &str| (stats(name).min.clone(), stats(name).max.clone());
    assert_eq!(of("seq"), bounds(Scalar::Int(-3), Scalar::Int(9)));
    assert_eq!(stats("seq").nulls, 1);
    assert_eq!(
        of("time"),
        bounds(Scalar::Int(START_US), Scalar::Int(START_US + 2))
    );
    assert_eq!(
        of("active"),
        bounds(Scalar::Boolean(false), Scalar::Boolean(true))
    );
    let text = |text: &str| Scalar::Text(text.to_owned());
    assert_eq!(of("status"), bounds(text("deleted"), text("takendown")));
    assert_eq!(
        of("did"),
        bounds(text(did(0).as_str()), text(did(2).as_str()))
    );

    let long = [changes[1].clone(), account(2, None, Some(&"z".repeat(41)))];
    let written = write(&def, &[rows_of(&def, &long).unwrap()]);
    assert_eq!(
        (
            &written.columns["status"].min,
            &written.columns["status"].max
        ),
        (&None, &None)
    );
    let nulls = [account(0, None, None)];
    let written = write(&def, &[rows_of(&def, &nulls).unwrap()]);
    assert_eq!(written.columns["status"].nulls, 1);
    assert_eq!(written.columns["status"].min, None);
}

/// Three blocks of accounts, as a segment.
fn blocks() -> (Arc<TableDef>, Written) {
    let def = def(&Catalog::builtin(), "atproto", BLOCK);
    let mut shredder = Shredder::new(&def).unwrap();
    for number in 0..3 {
        let Change::Record(record) = block(number, number) else {
            unreachable!("a record");
        };
        shredder.push(&RecordRow::of(&record).unwrap()).unwrap();
    }
    let written = write(&def, &[shredder.finish().batch]);
    (def, written)
}

#[test]
fn a_segments_parquet_is_the_one_that_buckets_hold() {
    let (_, written) = blocks();
    let bytes = written.parquet.len() as u64;
    let index = decode_index(&written.index, bytes, 3).unwrap();
    let metadata = index.metadata();
    assert_eq!(
        (
            metadata.num_row_groups(),
            metadata.file_metadata().num_rows()
        ),
        (1, 3)
    );
    let group = metadata.row_group(0);
    let sorting: Vec<(i32, bool)> = group
        .sorting_columns()
        .unwrap()
        .iter()
        .map(|column| (column.column_idx, column.descending))
        .collect();
    assert_eq!(sorting, [(0, false), (1, false)], "did, rkey");
    let columns: Vec<String> = group
        .columns()
        .iter()
        .map(|column| {
            let plain = if column.dictionary_page_offset().is_some() {
                "dictionary"
            } else if column.encodings().any(|e| e == Encoding::DELTA_BYTE_ARRAY) {
                "delta bytes"
            } else if column
                .encodings()
                .any(|e| e == Encoding::DELTA_BINARY_PACKED)
            {
                "delta ints"
            } else {
                "plain"
            };
            let leaf = column.column_descr();
            let optional = if leaf.max_def_level() > 0 {
                " null"
            } else {
                ""
            };
            let name = column.column_path().string();
            format!("{name} {}{optional}: {plain}", leaf.physical_type())
        })
        .collect();
    assert_eq!(
        columns,
        [
            "did BYTE_ARRAY: delta bytes",
            "rkey BYTE_ARRAY: delta bytes",
            "rev BYTE_ARRAY: delta bytes",
            "cid BYTE_ARRAY: delta bytes",
            "created_at INT64 null: delta ints",
            "time INT64 null: delta ints",
            "indexed_at INT64: delta ints",
            "source BYTE_ARRAY: dictionary",
            "seq INT64 null: delta ints",
            "verification BYTE_ARRAY: dictionary",
            "subject BYTE_ARRAY null: dictionary",
            "extra BYTE_ARRAY null: dictionary",
            "raw BYTE_ARRAY null: dictionary",
        ]
    );
    let offsets = metadata.offset_index().unwrap();
    assert!(
        offsets[0]
            .iter()
            .all(|column| column.page_locations().len() == 1)
    );
    assert!(metadata.column_index().is_some());
}

#[test]
fn an_index_comes_back_as_it_was_written() {
    let (_, written) = blocks();
    let index = proto::Index::decode(written.index.clone()).unwrap();
    assert_eq!((index.format, index.block_rows), (1, 8_192));
    assert_eq!(index.first_keys, [Bytes::from(written.key_min.clone())]);
    assert_eq!(index.encode_to_vec(), written.index);
    assert!(written.parquet.ends_with(&index.footer));
}

#[test]
fn an_index_is_the_one_that_buckets_hold() {
    let mut bloom = Sbbf::new(&[0; 32]);
    bloom.insert(b"key".as_slice());
    let index = index::encode_index(
        &bloom,
        4,
        vec![Bytes::from_static(b"a"), Bytes::from_static(b"b")],
        Bytes::from_static(b"footer"),
        Bytes::from_static(b"12345678"),
    );
    assert_eq!(hex(&index.unwrap()), GOLDEN_INDEX);
}

const GOLDEN_INDEX: &str = "\
    08011220000000404000000000000800000100000000040000000020400000000020000018042201612201622a06666f6f74\
    65723220df73ed30dfca8453d22dadd125c496d6fd823b0d6dd7e9772083606d2774569c3a083132333435363738";

#[test]
fn damaged_indexes_are_refused() {
    let (_, written) = blocks();
    let bytes = written.parquet.len() as u64;
    let whole = proto::Index::decode(written.index.clone()).unwrap();
    let refused = |change: &dyn Fn(&mut proto::Index), rows: u64| {
        let mut index = whole.clone();
        change(&mut index);
        decode_index(&index.encode_to_vec().into(), bytes, rows).unwrap_err()
    };
    let field = |error: FormatError| match error {
        FormatError::Field { field } => field,
        other => panic!("{other}"),
    };
    assert!(matches!(
        refused(&|index| index.format = 2, 3),
        FormatError::Newer {
            format: 2,
            known: 1
        }
    ));
    assert_eq!(field(refused(&|index| index.format = 0, 3)), "index.format");
    assert_eq!(
        field(refused(&|index| index.bloom = Bytes::new(), 3)),
        "index.bloom"
    );
    assert_eq!(
        field(refused(&|index| index.bloom.truncate(31), 3)),
        "index.bloom"
    );
    assert_eq!(
        field(refused(&|index| index.block_rows = 0, 3)),
        "index.block_rows"
    );
    assert_eq!(
        field(refused(&|index| index.block_rows = 2, 3)),
        "index.block_rows"
    );
    assert_eq!(
        field(refused(&|_| {}, 4)),
        "index.footer",
        "other rows than Parquet's"
    );
    let twice = |index: &mut proto::Index| {
        index.block_rows = 2;
        index.first_keys.push(index.first_keys[0].clone());
    };
    assert_eq!(field(refused(&twice, 3)), "index.first_keys");
    let flipped = |index: &mut proto::Index| {
        let mut footer = index.footer.to_vec();
        footer[20] ^= 1;
        index.footer = footer.into();
    };
    assert!(matches!(refused(&flipped, 3), FormatError::Checksum));
    // A list of 2^31 row groups, with a checksum that holds for it.
    let empty = |index: &mut proto::Index| {
        index.footer = Bytes::from_static(b"PAR1");
        index.footer_checksum = blake3::hash(b"PAR1").as_bytes().to_vec().into();
    };
    assert!(matches!(refused(&empty, 3), FormatError::Parquet { .. }));
    let long = decode_index(&written.index, 10, 3).unwrap_err();
    assert_eq!(field(long), "index.footer", "longer than its object");
    for length in 0..written.index.len() {
        assert!(decode_index(&written.index.slice(..length), bytes, 3).is_err());
    }
}

#[test]
fn marks_are_those_that_buckets_hold() {
    let marks = RoaringBitmap::from_iter([1_u32, 2, 70_000]);
    let mut bytes = Vec::new();
    marks.serialize_into(&mut bytes).unwrap();
    assert_eq!(hex(&bytes), GOLDEN_MARKS);
    assert_eq!(decode_marks(&bytes, 70_001).unwrap(), marks);
}

const GOLDEN_MARKS: &str = "\
    3a300000020000000000010001000000180000001c000000010002007011";

#[test]
fn damaged_marks_are_refused() {
    let marks = RoaringBitmap::from_iter(0..10_u32);
    let mut bytes = Vec::new();
    marks.serialize_into(&mut bytes).unwrap();
    assert!(matches!(
        decode_marks(&bytes, 9),
        Err(FormatError::Field { field: "marks" })
    ));
    for length in 0..bytes.len() {
        assert!(decode_marks(&bytes[..length], 10).is_err());
    }
    bytes.push(0);
    assert!(matches!(
        decode_marks(&bytes, 10),
        Err(FormatError::Length { .. })
    ));
    // A cookie that promises 65,536 containers.
    assert!(decode_marks(&[0x3a, 0x30, 0, 0, 0, 0, 1, 0], 10).is_err());
}

#[tokio::test]
async fn a_segment_that_is_damaged_is_not_merged_on() {
    let (def, mut written) = blocks();
    let (_, whole) = reader(&def, &written).await;
    let mut parquet = written.parquet.to_vec();
    parquet[10] ^= 1;
    written.parquet = parquet.into();
    let (_, damaged) = reader(&def, &written).await;
    let damaged = SegmentReader {
        entry: whole.entry,
        ..damaged
    };
    let read = read_live(&damaged, &RoaringBitmap::new()).await;
    assert!(matches!(
        read.map(drop),
        Err(crate::error::TablesError::Damaged {
            source: FormatError::Checksum,
            ..
        })
    ));
}

#[tokio::test]
async fn no_damaged_page_is_ever_decoded() {
    use futures::TryStreamExt;
    let (def, written) = blocks();
    let data = written.parquet.len()
        - proto::Index::decode(written.index.clone())
            .unwrap()
            .footer
            .len();
    for at in 4..data {
        let mut damaged = written.parquet.to_vec();
        damaged[at] ^= 1 << (at % 8);
        let damaged = Written {
            parquet: damaged.into(),
            index: written.index.clone(),
            key_min: written.key_min.clone(),
            key_max: written.key_max.clone(),
            columns: written.columns.clone(),
            rows: written.rows,
        };
        let (_, reader) = reader(&def, &damaged).await;
        let rows: Result<Vec<RecordBatch>, _> =
            reader.stream(None, None).unwrap().try_collect().await;
        let error = segment_error(&reader.entry.path, rows.unwrap_err());
        assert!(
            matches!(error, crate::error::TablesError::Damaged { .. }),
            "byte {at}: {error}"
        );
    }
}

#[test]
fn a_cid_in_an_order_is_its_bytes() {
    let def = heads();
    let orders = crate::key::orders(&rows_of(&def, &[head(1, "s", 1)]).unwrap(), def.order);
    let orders = orders.unwrap();
    assert!(orders.get(0).ends_with(Cid::of_cbor(b"commit").as_bytes()));
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
