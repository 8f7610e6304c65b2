//! Rows of records made anew for a table: rebuilt as the record, and shredded into the columns that the table has now.
//!
//! This is how a record that came before its Lexicon, or before a newer one, gets a cell in every column. Rows keep their
//! order, their CID and what was observed of them; a record never changes by it, wherever its parts stand.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, new_null_array,
};
use arrow::array::{PrimitiveArray, TimestampMicrosecondArray};
use arrow::compute::concat_batches;
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use bytes::Bytes;
use crdt::atproto::{Cid, Did, Nsid, RecordKey, Tid, Verification};
use crdt::{Delivery, Micros};

use crate::error::TablesError;
use crate::rebuild::{RebuildError, Rebuilder, Rows};
use crate::schema::TableDef;
use crate::segment::{SegmentEntry, SegmentKind};
use crate::shred::{RecordRow, ShredError, Shredder};

/// The columns of what was observed, which no Lexicon changes.
const OBSERVED: [&str; 9] = [
    "did",
    "rkey",
    "rev",
    "cid",
    "time",
    "indexed_at",
    "source",
    "seq",
    "verification",
];

/// Makes rows of one table of those of another, or of an older form of itself.
#[derive(Debug, Clone)]
pub struct Reshredder {
    rebuilder: Rebuilder,
    to: Arc<TableDef>,
    collection: Nsid,
}

impl Reshredder {
    /// Makes rows of `to`, a table of one collection, of rows of `from`, which are all of that collection.
    ///
    /// # Errors
    /// [`RebuildError::NotRecords`] if one of them has no records, or `to` those of many collections.
    pub fn new(from: &TableDef, to: &Arc<TableDef>) -> Result<Self, RebuildError> {
        let record = to.record_type().ok_or(RebuildError::NotRecords)?;
        Ok(Self {
            rebuilder: Rebuilder::new(from)?,
            collection: record
                .collection()
                .parse()
                .map_err(|_| RebuildError::NotRecords)?,
            to: Arc::clone(to),
        })
    }

    /// Whether it reads this column; a batch needs no others.
    #[must_use]
    pub fn reads(&self, column: &str) -> bool {
        OBSERVED.contains(&column) || self.rebuilder.columns().iter().any(|name| name == column)
    }

    /// Returns the rows of `batch` in the columns of the table.
    ///
    /// # Errors
    /// [`TablesError`] if a row is none that the table could have held.
    pub fn rows(&self, batch: &RecordBatch) -> Result<RecordBatch, TablesError> {
        let records = self.rebuilder.open(batch)?;
        let observed = Observed::of(batch)?;
        let mut done = Vec::new();
        let mut shredder = Shredder::new(&self.to)?;
        for row in 0..batch.num_rows() {
            let record = observed.row(row, &records)?;
            let record = record.row(&self.collection);
            if matches!(shredder.push(&record), Err(ShredError::Full)) {
                let full = std::mem::replace(&mut shredder, Shredder::new(&self.to)?);
                done.push(full.finish().batch);
                shredder.push(&record)?;
            }
        }
        done.push(shredder.finish().batch);
        Ok(concat_batches(&self.to.schema, &done)?)
    }
}

/// Whether a segment of `def` holds values that its table has columns for and it has not: they stand in `extra`.
///
/// One that lacks columns and has no such values is as good as new: what it lacks is null.
#[must_use]
pub fn is_outdated(entry: &SegmentEntry, def: &TableDef) -> bool {
    if entry.kind != SegmentKind::Rows || def.record_type().is_none() {
        return false;
    }
    let has_values = |name: &str| {
        entry
            .columns
            .get(name)
            .is_none_or(|column| column.nulls < entry.rows)
    };
    // A segment has the first columns of its table, since those that are added stand behind them.
    let lacks = entry.columns.len() < def.schema.fields().len();
    lacks && (has_values("extra") || has_values("raw"))
}

/// Returns rows of a segment of `def` in all columns that the table has now.
///
/// # Errors
/// [`TablesError::UnknownColumn`] if the segment has a column that this version does not know.
pub(crate) fn widen(
    def: &Arc<TableDef>,
    kind: SegmentKind,
    batch: RecordBatch,
) -> Result<RecordBatch, TablesError> {
    let stored = batch.schema();
    if kind == SegmentKind::Tombstones || def.record_type().is_none() {
        return Ok(batch);
    }
    if let Some(unknown) = stored
        .fields()
        .iter()
        .find(|field| def.schema.column_with_name(field.name()).is_none())
    {
        return Err(TablesError::UnknownColumn {
            table: def.name.to_string(),
            column: unknown.name().clone(),
        });
    }
    if stored.fields().len() == def.schema.fields().len() {
        return Ok(batch);
    }
    let is_null = |name: &str| {
        batch
            .column_by_name(name)
            .is_some_and(|array| array.null_count() == array.len())
    };
    if !is_null("extra") || !is_null("raw") {
        return Reshredder::new(def, def)?.rows(&batch);
    }
    let columns = def.schema.fields().iter().map(|field| {
        let stored = batch.column_by_name(field.name()).map(Arc::clone);
        stored.unwrap_or_else(|| new_null_array(field.data_type(), batch.num_rows()))
    });
    Ok(RecordBatch::try_new(
        Arc::clone(&def.schema),
        columns.collect(),
    )?)
}

/// What was observed of the rows of a batch.
struct Observed<'a> {
    did: &'a StringArray,
    rkey: &'a StringArray,
    rev: &'a StringArray,
    cid: &'a StringArray,
    time: &'a TimestampMicrosecondArray,
    indexed_at: &'a TimestampMicrosecondArray,
    source: &'a StringArray,
    seq: &'a Int64Array,
    verification: &'a StringArray,
}

impl<'a> Observed<'a> {
    fn of(batch: &'a RecordBatch) -> Result<Self, TablesError> {
        let column = |name: &'static str| -> Result<&'a ArrayRef, TablesError> {
            let column = batch.column_by_name(name);
            column.ok_or(TablesError::Row { column: name })
        };
        let text = |name| {
            let text = column(name)?.as_string_opt::<i32>();
            text.ok_or(TablesError::Row { column: name })
        };
        let time = |name| {
            let time = column(name)?.as_primitive_opt::<TimestampMicrosecondType>();
            time.ok_or(TablesError::Row { column: name })
        };
        let seq: Option<&PrimitiveArray<Int64Type>> = column("seq")?.as_primitive_opt();
        Ok(Self {
            did: text("did")?,
            rkey: text("rkey")?,
            rev: text("rev")?,
            cid: text("cid")?,
            time: time("time")?,
            indexed_at: time("indexed_at")?,
            source: text("source")?,
            seq: seq.ok_or(TablesError::Row { column: "seq" })?,
            verification: text("verification")?,
        })
    }

    fn row(&self, row: usize, records: &Rows<'_>) -> Result<Owned, TablesError> {
        fn parse<T: std::str::FromStr>(
            array: &StringArray,
            row: usize,
            column: &'static str,
        ) -> Result<T, TablesError> {
            let parsed = array.value(row).parse();
            parsed.map_err(|_| TablesError::Row { column })
        }
        Ok(Owned {
            did: parse(self.did, row, "did")?,
            rkey: parse(self.rkey, row, "rkey")?,
            rev: parse(self.rev, row, "rev")?,
            cid: parse(self.cid, row, "cid")?,
            cbor: records.cbor(row)?.into(),
            delivery: Delivery {
                source: self.source.value(row).into(),
                seq: self.seq.is_valid(row).then(|| self.seq.value(row)),
                indexed_at: Micros(self.indexed_at.value(row)),
                time: self
                    .time
                    .is_valid(row)
                    .then(|| Micros(self.time.value(row))),
                verification: parse::<Verification>(self.verification, row, "verification")?,
            },
        })
    }
}

/// One record, as its row told.
struct Owned {
    did: Did,
    rkey: RecordKey,
    rev: Tid,
    cid: Cid,
    cbor: Bytes,
    delivery: Delivery,
}

impl Owned {
    fn row<'a>(&'a self, collection: &'a Nsid) -> RecordRow<'a> {
        RecordRow {
            did: &self.did,
            collection,
            rkey: &self.rkey,
            rev: self.rev,
            cid: self.cid,
            cbor: &self.cbor,
            delivery: &self.delivery,
        }
    }
}
