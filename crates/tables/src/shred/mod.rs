//! Records into rows: typed columns, and in `extra` what they can't hold.
//!
//! A [`Shredder`] writes one DAG-CBOR record after another straight into Arrow builders. When it finishes, every row is
//! rebuilt from the columns that were made of it, and its CID compared: a row that does not come back exactly keeps its
//! bytes in `raw`. So what a finished batch says is what was put in, whatever it was; see [`extra`] for the encoding.
//!
//! This module does not know keys, orders or merging: rows come out in the order in which they went in.

mod columns;
pub mod extra;
mod observed;
#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, RecordBatch, StringBuilder, TimestampMicrosecondBuilder,
};
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use crdt::atproto::{Cid, Did, Nsid, RecordKey, Tid, Value, cbor, datetime};
use crdt::{Delivery, RecordChange};

use crate::lexicon::RecordType;
use crate::rebuild::Rebuilder;
use crate::schema::{TableDef, TableKind};
use columns::{ColumnBuilder, push_fields};
use extra::Leftovers;
use observed::Observed;

/// The most bytes of records in one batch. Their JSON may be some times longer, and Arrow's offsets end at 2 GiB.
pub const BATCH_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Why a record can't be pushed; nothing was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShredError {
    /// Rows of this table are not records.
    #[error("not a table of records")]
    NotRecords,
    /// The record would take the batch above [`BATCH_BYTES_MAX`]: finish it and begin another.
    #[error("the batch is full")]
    Full,
}

/// One live record, as a row is made of it.
#[derive(Debug, Clone, Copy)]
pub struct RecordRow<'a> {
    /// The repo.
    pub did: &'a Did,
    /// The collection.
    pub collection: &'a Nsid,
    /// The record key.
    pub rkey: &'a RecordKey,
    /// The revision that wrote it.
    pub rev: Tid,
    /// The CID that `cbor` has to come back with.
    pub cid: Cid,
    /// The record.
    pub cbor: &'a Bytes,
    /// Who delivered it and when.
    pub delivery: &'a Delivery,
}

impl<'a> RecordRow<'a> {
    /// Returns the row of a change, unless it is a delete.
    #[must_use]
    pub fn of(change: &'a RecordChange) -> Option<Self> {
        let body = change.body.as_ref()?;
        Some(Self {
            did: &change.did,
            collection: &change.collection,
            rkey: &change.rkey,
            rev: change.rev,
            cid: body.cid,
            cbor: &body.cbor,
            delivery: &change.delivery,
        })
    }
}

/// What a [`Shredder`] made.
#[derive(Debug, Clone)]
pub struct Shredded {
    /// One row per record, in the order of pushing.
    pub batch: RecordBatch,
    /// How many rows keep their bytes in `raw`.
    pub raw: usize,
}

/// Makes rows of one table of records.
#[derive(Debug)]
pub struct Shredder {
    schema: SchemaRef,
    record: Option<Arc<RecordType>>,
    rebuilder: Rebuilder,
    observed: Observed,
    created_at: TimestampMicrosecondBuilder,
    columns: Vec<ColumnBuilder>,
    extra: StringBuilder,
    cids: Vec<Cid>,
    bodies: Vec<Bytes>,
    bytes: usize,
}

impl Shredder {
    /// Begins a batch of a table of records.
    ///
    /// # Errors
    /// [`ShredError::NotRecords`] for another table.
    pub fn new(table: &TableDef) -> Result<Self, ShredError> {
        let record = match &table.kind {
            TableKind::Record(record) => Some(Arc::clone(record)),
            TableKind::Untyped => None,
            _ => return Err(ShredError::NotRecords),
        };
        let columns = record.iter().flat_map(|record| record.columns());
        Ok(Self {
            schema: Arc::clone(&table.schema),
            rebuilder: Rebuilder::new(table).map_err(|_| ShredError::NotRecords)?,
            observed: Observed::new(record.is_none()),
            created_at: TimestampMicrosecondBuilder::new().with_timezone("UTC"),
            columns: columns
                .map(|column| ColumnBuilder::new(&column.kind))
                .collect(),
            record,
            extra: StringBuilder::new(),
            cids: Vec::new(),
            bodies: Vec::new(),
            bytes: 0,
        })
    }

    /// Returns how many rows there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.cids.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.cids.is_empty()
    }

    /// Adds a row. A record that is no map, or no strict DAG-CBOR, is a row too: its bytes are in `raw`.
    ///
    /// # Errors
    /// [`ShredError::Full`] if the batch can't take it.
    pub fn push(&mut self, row: &RecordRow<'_>) -> Result<(), ShredError> {
        if !self.is_empty() && self.bytes + row.cbor.len() > BATCH_BYTES_MAX {
            return Err(ShredError::Full);
        }
        self.bytes += row.cbor.len();
        self.observed.push(row);
        self.cids.push(row.cid);
        self.bodies.push(row.cbor.clone());
        let value = cbor::decode(row.cbor).ok();
        let created_at = value
            .as_ref()
            .and_then(|value| value.get("createdAt"))
            .and_then(Value::as_text);
        self.created_at
            .append_option(created_at.and_then(|text| datetime::parse(text).ok()));

        let fields = self
            .record
            .as_ref()
            .map_or(&[][..], |record| record.fields());
        let Some(Value::Map(map)) = &value else {
            self.columns.iter_mut().for_each(ColumnBuilder::push_null);
            self.extra.append_null();
            return Ok(());
        };
        let mut left = Leftovers::default();
        left.record_type(map.get(extra::TYPE), row.collection.as_str());
        push_fields(fields, map, None, &mut self.columns, &mut left);
        self.extra.append_option(left.into_text());
        Ok(())
    }

    /// Ends the batch: makes the columns, rebuilds each row and keeps the bytes of those that differ.
    #[must_use]
    pub fn finish(mut self) -> Shredded {
        let rows = self.len();
        let mut arrays = self.observed.finish(self.created_at.finish());
        let typed = self.record.iter().flat_map(|record| record.columns());
        for (column, builder) in typed.zip(&mut self.columns) {
            let array = builder.finish();
            if column.name != "created_at" {
                arrays.push(array);
            }
        }
        arrays.push(Arc::new(self.extra.finish()));
        arrays.push(nulls(rows));
        let batch = batch_of(&self.schema, arrays.clone());
        let differing = differing_rows(&self.rebuilder, &batch, &self.cids);
        if differing.is_empty() {
            return Shredded { batch, raw: 0 };
        }
        let mut raw = BinaryBuilder::new();
        let mut next = differing.iter().copied().peekable();
        for (row, body) in self.bodies.iter().enumerate() {
            raw.append_option(next.next_if_eq(&row).map(|_| body));
        }
        arrays.pop();
        arrays.push(Arc::new(raw.finish()));
        Shredded {
            batch: batch_of(&self.schema, arrays),
            raw: differing.len(),
        }
    }
}

/// Returns the rows that don't come back with their CID, ascending.
fn differing_rows(rebuilder: &Rebuilder, batch: &RecordBatch, cids: &[Cid]) -> Vec<usize> {
    let Ok(rows) = rebuilder.open(batch) else {
        return (0..cids.len()).collect();
    };
    let mut bytes = Vec::new();
    let mut comes_back = |row: usize, cid: Cid| match rows.record(row) {
        Ok(value) => {
            bytes.clear();
            cbor::encode_into(&value, &mut bytes);
            Cid::of_cbor(&bytes) == cid
        }
        Err(_) => false,
    };
    cids.iter()
        .enumerate()
        .filter(|&(row, &cid)| !comes_back(row, cid))
        .map(|(row, _)| row)
        .collect()
}

fn nulls(rows: usize) -> ArrayRef {
    let mut builder = BinaryBuilder::new();
    (0..rows).for_each(|_| builder.append_null());
    Arc::new(builder.finish())
}

/// Columns and schema come from one table definition, so that they differ is our own mistake.
fn batch_of(schema: &SchemaRef, arrays: Vec<ArrayRef>) -> RecordBatch {
    RecordBatch::try_new(Arc::clone(schema), arrays).expect("the columns are those of the table")
}
