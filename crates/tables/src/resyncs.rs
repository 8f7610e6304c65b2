//! The resyncs that a view says are not done: the work of whoever fetches repositories again.
//!
//! Costs the blocks of the notices' segments in which resyncs stand, done ones included. What comes back is paged by
//! key, so that what is held has a bound however much there is to do.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use crdt::{Micros, NoticeChange, NoticeKind, ResyncStep};
use futures::TryStreamExt;

use crate::error::TablesError;
use crate::key::{keys, text_prefix};
use crate::schema::{TableDef, TableName};
use crate::segment::segment_error;
use crate::view::{ReadView, SegmentScan};

/// Some of the resyncs that are not done, in the order of their keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpenResyncs {
    /// Their notices.
    pub notices: Vec<NoticeChange>,
    /// Where to go on, if there are more.
    pub next: Option<Vec<u8>>,
}

/// The first notices behind a key, never more than a number of them.
struct Page<'a> {
    after: Option<&'a [u8]>,
    notices_max: usize,
    found: BTreeMap<Vec<u8>, NoticeChange>,
    is_cut: bool,
}

impl ReadView {
    /// At most `notices_max` resyncs that are not done, those behind the key `after`.
    ///
    /// # Errors
    /// [`TablesError`] if a segment can't be read; [`TablesError::Expired`] if the view has been collected.
    pub async fn open_resyncs(
        &self,
        after: Option<&[u8]>,
        notices_max: usize,
    ) -> Result<OpenResyncs, TablesError> {
        let name = TableName::new("system", "notices");
        let def = self
            .catalog()
            .table(&name)
            .ok_or_else(|| TablesError::UnknownTable {
                table: name.to_string(),
            })?;
        let scan = self.scan(def).await?;
        let mut page = Page {
            after,
            notices_max,
            found: BTreeMap::new(),
            is_cut: false,
        };
        page.take(def, &scan.tail, |_| true)?;
        for segment in &scan.segments {
            self.resyncs_of_segment(def, segment, &mut page).await?;
        }
        let next = if page.is_cut {
            page.found.last_key_value().map(|(key, _)| key.clone())
        } else {
            None
        };
        Ok(OpenResyncs {
            notices: page.found.into_values().collect(),
            next,
        })
    }

    async fn resyncs_of_segment(
        &self,
        def: &Arc<TableDef>,
        segment: &SegmentScan,
        page: &mut Page<'_>,
    ) -> Result<(), TablesError> {
        let prefix = text_prefix(NoticeKind::Resync.as_str());
        if !segment.entry.spans_prefix(&prefix) {
            return Ok(());
        }
        let tables = self.tables();
        let reader = tables
            .cache()
            .reader(tables.bucket(), &segment.entry)
            .await?;
        let rows = usize::try_from(segment.entry.rows).unwrap_or(usize::MAX);
        let blocks = reader.index.blocks_of_prefix(&prefix);
        let ranges: Vec<Range<usize>> = blocks
            .map(|block| reader.index.rows_of(block, rows))
            .collect();
        let Some(mut row) = ranges.first().map(|range| range.start) else {
            return Ok(());
        };
        // The blocks of one prefix stand one behind the other.
        let mut batches = reader.stream(None, Some(&ranges))?;
        loop {
            let batch = batches.try_next().await;
            let batch = batch.map_err(|source| segment_error(&segment.entry.path, source))?;
            let Some(batch) = batch else {
                return Ok(());
            };
            let is_live = |at: usize| match u32::try_from(row + at) {
                Ok(row) => !segment.dead.contains(row),
                Err(_) => true,
            };
            page.take(def, &batch, is_live)?;
            row += batch.num_rows();
        }
    }
}

impl Page<'_> {
    /// Takes the rows of `batch` that are live, resyncs, and not done.
    fn take(
        &mut self,
        def: &TableDef,
        batch: &RecordBatch,
        is_live: impl Fn(usize) -> bool,
    ) -> Result<(), TablesError> {
        let prefix = text_prefix(NoticeKind::Resync.as_str());
        let keys = keys(batch, def.key)?;
        let Some(columns) = Columns::of(batch) else {
            return Ok(());
        };
        for (row, key) in keys.iter().enumerate() {
            let is_behind = self.after.is_none_or(|after| key > after);
            if !is_behind || !key.starts_with(&prefix) || !is_live(row) || columns.is_done(row) {
                continue;
            }
            let Some(notice) = columns.notice(row) else {
                continue;
            };
            self.found.insert(key.to_vec(), notice);
            if self.found.len() > self.notices_max {
                self.found.pop_last();
                self.is_cut = true;
            }
        }
        Ok(())
    }
}

/// The columns of notices.
struct Columns<'a> {
    batch: &'a RecordBatch,
    attempt: &'a arrow::array::Int64Array,
    step: &'a arrow::array::Int64Array,
}

impl<'a> Columns<'a> {
    fn of(batch: &'a RecordBatch) -> Option<Self> {
        Some(Self {
            batch,
            attempt: batch.column_by_name("attempt")?.as_primitive_opt()?,
            step: batch.column_by_name("step")?.as_primitive_opt()?,
        })
    }

    fn is_done(&self, row: usize) -> bool {
        let step = u32::try_from(self.step.value(row)).ok();
        // A step of a newer version is that version's to go on with.
        step.and_then(ResyncStep::of)
            .is_none_or(ResyncStep::is_final)
    }

    fn text(&self, column: &str, row: usize) -> Option<&'a str> {
        Some(
            self.batch
                .column_by_name(column)?
                .as_string_opt::<i32>()?
                .value(row),
        )
    }

    fn int(&self, column: &str, row: usize) -> Option<i64> {
        let values = self.batch.column_by_name(column)?;
        let values = values.as_primitive_opt::<Int64Type>()?;
        values.is_valid(row).then(|| values.value(row))
    }

    fn notice(&self, row: usize) -> Option<NoticeChange> {
        let hash = self.batch.column_by_name("frame_hash")?;
        let time = self.batch.column_by_name("indexed_at")?;
        Some(NoticeChange {
            kind: NoticeKind::Resync,
            reason: self.text("reason", row)?.to_owned(),
            source: self.text("source", row)?.into(),
            did: self.text("did", row)?.parse().ok(),
            rev: self.text("rev", row)?.parse().ok(),
            seq: self.int("seq", row),
            frame_hash: hash
                .as_fixed_size_binary_opt()?
                .value(row)
                .try_into()
                .ok()?,
            bytes: u64::try_from(self.int("bytes", row)?).ok()?,
            attempt: u32::try_from(self.attempt.value(row)).ok()?,
            step: u32::try_from(self.step.value(row)).ok()?,
            indexed_at: Micros(
                time.as_primitive_opt::<TimestampMicrosecondType>()?
                    .value(row),
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use crdt::Change;

    use super::*;
    use crate::world::{START_US, World, did, tid};

    #[tokio::test]
    async fn what_is_not_done_comes_back_from_the_tail_and_from_segments() {
        let mut world = World::new().await;
        let started: Vec<Change> = (0..6).map(|number| resync(number, 0, 0)).collect();
        world.append(started).await;
        world
            .append(vec![other(NoticeKind::Rejection), other(NoticeKind::Gap)])
            .await;
        world.flush().await;
        world
            .append(vec![
                resync(0, 1, 3),
                resync(1, 1, 4),
                resync(2, 1, 5),
                resync(3, 1, 1),
            ])
            .await;
        for _ in 0..2 {
            let view = ReadView::open(&world.tables).await.unwrap();
            let open = view.open_resyncs(None, 100).await.unwrap();
            let states: Vec<_> = open
                .notices
                .iter()
                .map(|notice| (notice.did.clone().unwrap(), notice.attempt, notice.step))
                .collect();
            assert_eq!(
                states,
                [
                    (did(2), 1, 5),
                    (did(3), 1, 1),
                    (did(4), 0, 0),
                    (did(5), 0, 0)
                ]
            );
            assert_eq!(open.next, None);
            let Change::Notice(expected) = resync(4, 0, 0) else {
                unreachable!()
            };
            assert_eq!(open.notices[2], expected);
            // The second time from segments alone.
            world.flush().await;
        }
    }

    #[tokio::test]
    async fn pages_follow_each_other_and_hold_everything_once() {
        let mut world = World::new().await;
        world
            .append((0..7).map(|number| resync(number, 0, 0)).collect())
            .await;
        world.flush().await;
        world
            .append((7..10).map(|number| resync(number, 2, 5)).collect())
            .await;
        let view = ReadView::open(&world.tables).await.unwrap();
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = view.open_resyncs(after.as_deref(), 4).await.unwrap();
            assert!(page.notices.len() <= 4);
            found.extend(page.notices.into_iter().map(|notice| notice.did.unwrap()));
            match page.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        assert_eq!(found, (0..10).map(did).collect::<Vec<_>>());
    }

    fn resync(number: usize, attempt: u32, step: u32) -> Change {
        Change::Notice(NoticeChange {
            kind: NoticeKind::Resync,
            reason: "since_mismatch".to_owned(),
            source: "wss://relay.example".into(),
            did: Some(did(number)),
            rev: (!number.is_multiple_of(2)).then(|| tid(number)),
            seq: Some(7),
            frame_hash: [u8::try_from(number).unwrap(); 16],
            bytes: 99,
            attempt,
            step,
            indexed_at: Micros(START_US + 5),
        })
    }

    fn other(kind: NoticeKind) -> Change {
        let Change::Notice(notice) = resync(1, 0, 0) else {
            unreachable!()
        };
        Change::Notice(NoticeChange { kind, ..notice })
    }
}
