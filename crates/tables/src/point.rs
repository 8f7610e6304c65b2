//! Point look-ups: one row by its key, from the tail or from the one segment that holds it.
//!
//! Costs a block of key columns for each segment whose bloom filter says yes, and one read of the row. What comes back
//! are values, so that callers need no Arrow.

use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use crdt::atproto::{Cid, Did, Tid};
use futures::TryStreamExt;

use crate::error::TablesError;
use crate::judge::columns_of;
use crate::key::{keys, text_prefix};
use crate::schema::{TableDef, TableName};
use crate::segment::{SegmentKind, find_keys, segment_error};
use crate::view::ReadView;

/// The last commit of a repo that a source delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredHead {
    /// Its rev.
    pub rev: Tid,
    /// The root of its MST.
    pub data: Cid,
}

/// How far a source was followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredCursor {
    /// The generation.
    pub generation: u64,
    /// The position.
    pub cursor: i64,
}

impl ReadView {
    /// The last commit of `did` that `source` delivered, as far as this view holds it.
    ///
    /// # Errors
    /// [`TablesError`] if a segment can't be read; [`TablesError::Expired`] if the view has been collected.
    pub async fn head(&self, did: &Did, source: &str) -> Result<Option<StoredHead>, TablesError> {
        let row = self.row("heads", &[did.as_str(), source]).await?;
        Ok(row.and_then(|row| {
            Some(StoredHead {
                rev: text(&row, "rev")?.parse().ok()?,
                data: text(&row, "data")?.parse().ok()?,
            })
        }))
    }

    /// How far `slice` of `source` was followed, as far as this view holds it.
    ///
    /// # Errors
    /// As [`ReadView::head`].
    pub async fn cursor(
        &self,
        source: &str,
        slice: &str,
    ) -> Result<Option<StoredCursor>, TablesError> {
        let row = self.row("cursors", &[source, slice]).await?;
        Ok(row.and_then(|row| {
            Some(StoredCursor {
                generation: u64::try_from(int(&row, "generation")?).ok()?,
                cursor: int(&row, "cursor")?,
            })
        }))
    }

    /// The row of an internal table with this key, all of whose columns are text; as a batch of one row.
    async fn row(&self, table: &str, key: &[&str]) -> Result<Option<RecordBatch>, TablesError> {
        let name = TableName::new("system", table);
        let def = self
            .catalog()
            .table(&name)
            .ok_or_else(|| TablesError::UnknownTable {
                table: name.to_string(),
            })?;
        let key: Vec<u8> = key.iter().flat_map(|text| text_prefix(text)).collect();
        let scan = self.scan(def).await?;
        let in_tail = keys(&scan.tail, def.key)?;
        let place = in_tail.partition_point(|other| other < key.as_slice());
        if place < in_tail.len() && in_tail.get(place) == key.as_slice() {
            return Ok(Some(scan.tail.slice(place, 1)));
        }
        for segment in &scan.segments {
            if let Some(row) = self.row_of_segment(def, segment, &key).await? {
                return Ok(Some(row));
            }
        }
        Ok(None)
    }

    async fn row_of_segment(
        &self,
        def: &Arc<TableDef>,
        segment: &crate::view::SegmentScan,
        key: &[u8],
    ) -> Result<Option<RecordBatch>, TablesError> {
        if !segment.entry.spans(key) {
            return Ok(None);
        }
        let tables = self.tables();
        let reader = tables
            .cache()
            .reader(tables.bucket(), &segment.entry)
            .await?;
        let lookup = find_keys(&reader, columns_of(def, SegmentKind::Rows), &[key]).await?;
        let Some(found) = lookup
            .found
            .into_iter()
            .find(|found| !segment.dead.contains(found.row))
        else {
            return Ok(None);
        };
        let row = found.row as usize;
        let batches: Vec<RecordBatch> = reader
            .stream(None, Some(std::slice::from_ref(&(row..row + 1))))?
            .try_collect()
            .await
            .map_err(|source| segment_error(&segment.entry.path, source))?;
        Ok(batches.into_iter().find(|batch| batch.num_rows() == 1))
    }
}

fn text<'a>(row: &'a RecordBatch, column: &str) -> Option<&'a str> {
    Some(row.column_by_name(column)?.as_string_opt::<i32>()?.value(0))
}

fn int(row: &RecordBatch, column: &str) -> Option<i64> {
    Some(
        row.column_by_name(column)?
            .as_primitive_opt::<Int64Type>()?
            .value(0),
    )
}
