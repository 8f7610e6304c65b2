//! Point look-ups: rows by their keys, from the tail or from the one segment that holds each.
//!
//! Many keys are looked up at once: then the tail's keys are encoded once, and neighbours share reads. Costs a block of
//! key columns for each segment whose bloom filter says yes, and one read of the row. What comes back are values, so
//! that callers need no Arrow.

use std::ops::Range;
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
use crate::view::{ReadView, SegmentScan};

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
    /// The last commits of `dids` that `source` delivered, one answer each, as far as this view holds them.
    ///
    /// # Errors
    /// [`TablesError`] if a segment can't be read; [`TablesError::Expired`] if the view has been collected.
    pub async fn heads(
        &self,
        dids: &[Did],
        source: &str,
    ) -> Result<Vec<Option<StoredHead>>, TablesError> {
        let keys = dids.iter().map(|did| key_of(&[did.as_str(), source]));
        let rows = self
            .rows(&TableName::new("system", "heads"), keys.collect())
            .await?;
        let head = |row: &RecordBatch| {
            Some(StoredHead {
                rev: text(row, "rev")?.parse().ok()?,
                data: text(row, "data")?.parse().ok()?,
            })
        };
        Ok(rows.iter().map(|row| row.as_ref().and_then(head)).collect())
    }

    /// Whether `source` said last that the account is active, as far as this view holds it; none if it never said.
    ///
    /// # Errors
    /// As [`ReadView::heads`].
    pub async fn is_active(&self, did: &Did, source: &str) -> Result<Option<bool>, TablesError> {
        let keys = vec![key_of(&[did.as_str(), source])];
        let rows = self
            .rows(&TableName::new("atproto", "account_states"), keys)
            .await?;
        let active = |row: &RecordBatch| {
            let column = row.column_by_name("active")?;
            Some(column.as_boolean_opt()?.value(0))
        };
        Ok(rows.iter().flatten().find_map(active))
    }

    /// How far `slice` of `source` was followed, as far as this view holds it.
    ///
    /// # Errors
    /// As [`ReadView::heads`].
    pub async fn cursor(
        &self,
        source: &str,
        slice: &str,
    ) -> Result<Option<StoredCursor>, TablesError> {
        let keys = vec![key_of(&[source, slice])];
        let rows = self
            .rows(&TableName::new("system", "cursors"), keys)
            .await?;
        let cursor = |row: &RecordBatch| {
            Some(StoredCursor {
                generation: u64::try_from(int(row, "generation")?).ok()?,
                cursor: int(row, "cursor")?,
            })
        };
        Ok(rows.iter().flatten().find_map(cursor))
    }

    /// The revs of repos' floors for the collections that `scope` names, one answer each, as far as this view holds
    /// them.
    ///
    /// # Errors
    /// As [`ReadView::heads`].
    pub async fn floors(&self, dids: &[Did], scope: &str) -> Result<Vec<Option<Tid>>, TablesError> {
        let keys = dids.iter().map(|did| key_of(&[did.as_str(), scope]));
        let rows = self
            .rows(&TableName::new("system", "floors"), keys.collect())
            .await?;
        let floor = |row: &RecordBatch| text(row, "rev")?.parse().ok();
        Ok(rows
            .iter()
            .map(|row| row.as_ref().and_then(floor))
            .collect())
    }

    /// The rows of an internal table with these keys, all of whose columns are text: for each a batch of one row.
    async fn rows(
        &self,
        table: &TableName,
        wanted: Vec<Vec<u8>>,
    ) -> Result<Vec<Option<RecordBatch>>, TablesError> {
        let def = self
            .catalog()
            .table(table)
            .ok_or_else(|| TablesError::UnknownTable {
                table: table.to_string(),
            })?;
        let scan = self.scan(def).await?;
        let in_tail = keys(&scan.tail, def.key)?;
        let mut rows = vec![None; wanted.len()];
        for (key, row) in wanted.iter().zip(&mut rows) {
            let place = in_tail.partition_point(|other| other < key.as_slice());
            if place < in_tail.len() && in_tail.get(place) == key.as_slice() {
                *row = Some(scan.tail.slice(place, 1));
            }
        }
        // Look-ups want their probes in order, and one segment holds a key at most.
        let mut missing: Vec<usize> = (0..wanted.len()).collect();
        missing.sort_by_key(|place| &wanted[*place]);
        for segment in &scan.segments {
            missing.retain(|place| rows[*place].is_none());
            if missing.is_empty() {
                break;
            }
            let probes: Vec<&[u8]> = missing
                .iter()
                .map(|place| wanted[*place].as_slice())
                .collect();
            for (probe, row) in self.rows_of_segment(def, segment, &probes).await? {
                rows[missing[probe]] = Some(row);
            }
        }
        Ok(rows)
    }

    /// Which probe finds which live row of a segment.
    async fn rows_of_segment(
        &self,
        def: &Arc<TableDef>,
        segment: &SegmentScan,
        probes: &[&[u8]],
    ) -> Result<Vec<(usize, RecordBatch)>, TablesError> {
        if !probes.iter().any(|key| segment.entry.spans(key)) {
            return Ok(Vec::new());
        }
        let tables = self.tables();
        let reader = tables
            .cache()
            .reader(tables.bucket(), &segment.entry)
            .await?;
        let lookup = find_keys(&reader, columns_of(def, SegmentKind::Rows), probes).await?;
        let mut found: Vec<(u32, usize)> = lookup
            .found
            .into_iter()
            .filter(|found| !segment.dead.contains(found.row))
            .map(|found| (found.row, found.probe))
            .collect();
        if found.is_empty() {
            return Ok(Vec::new());
        }
        found.sort_unstable();
        let ranges: Vec<Range<usize>> = found
            .iter()
            .map(|(row, _)| *row as usize..*row as usize + 1)
            .collect();
        let batches: Vec<RecordBatch> = reader
            .stream(None, Some(&ranges))?
            .try_collect()
            .await
            .map_err(|source| segment_error(&segment.entry.path, source))?;
        let rows = batches
            .iter()
            .flat_map(|batch| (0..batch.num_rows()).map(|row| batch.slice(row, 1)));
        Ok(found.iter().map(|(_, probe)| *probe).zip(rows).collect())
    }
}

/// A key all of whose columns are text.
fn key_of(columns: &[&str]) -> Vec<u8> {
    columns.iter().flat_map(|text| text_prefix(text)).collect()
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
