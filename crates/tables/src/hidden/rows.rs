//! Which rows of a segment of records belong to hidden accounts.
//!
//! Nothing is marked in the bucket: these rows are kept in memory by segment, and only what changed of the set of
//! hidden accounts is looked up, by bloom filter and key prefix. Rows of one account are one run, since did is the
//! first column of every key.

use std::ops::Range;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use roaring::RoaringBitmap;

use super::dids::{Answers, ByDid, Dids};
use crate::error::TablesError;
use crate::segment::{SegmentEntry, visit_rows};
use crate::view::Tables;

/// Segments that are read at once.
const READS_MAX: usize = 8;

/// The rows of hidden accounts in one segment.
#[derive(Debug, Default)]
pub(super) struct HiddenRows {
    answers: Answers<Range<u32>>,
    rows: Arc<RoaringBitmap>,
}

impl HiddenRows {
    /// About how much memory it takes.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(self.answers.found()) + self.rows.serialized_size()
    }

    /// The rows of `hidden`, of which these are those of an earlier set.
    async fn turned(
        &self,
        tables: &Tables,
        entry: &Arc<SegmentEntry>,
        hidden: &Dids,
    ) -> Result<Self, TablesError> {
        let missing = self.answers.missing(hidden);
        let mut found: Vec<ByDid<Range<u32>>> = Vec::new();
        if !missing.is_empty() {
            let reader = tables.cache().reader(tables.bucket(), entry).await?;
            visit_rows(&reader, "did", &["did"], &missing, |visited| {
                let did = &missing[visited.probe];
                let place = |row| u32::try_from(visited.first_row + row).unwrap_or(u32::MAX);
                found.push((
                    Arc::clone(did),
                    place(visited.rows.start)..place(visited.rows.end),
                ));
                Ok(())
            })
            .await?;
        }
        let added: Vec<Range<u32>> = found.iter().map(|(_, rows)| rows.clone()).collect();
        let (answers, dropped) = self.answers.turned(hidden, found);
        let rows = if added.is_empty() && dropped.is_empty() {
            Arc::clone(&self.rows)
        } else {
            let mut rows = self.rows.as_ref().clone();
            for (_, range) in dropped {
                rows.remove_range(range);
            }
            for range in added {
                rows.insert_range(range);
            }
            Arc::new(rows)
        };
        Ok(Self { answers, rows })
    }
}

/// The rows of `hidden` in each of some segments, in their order.
pub(super) async fn rows_of(
    tables: &Tables,
    hidden: &Dids,
    segments: &[Arc<SegmentEntry>],
) -> Result<Vec<Arc<RoaringBitmap>>, TablesError> {
    if hidden.is_empty() {
        return Ok(vec![Arc::default(); segments.len()]);
    }
    let memo = &tables.cache().hidden().rows;
    let of_segment = |entry: Arc<SegmentEntry>| async move {
        let known = memo.get(&entry.path).await.unwrap_or_default();
        if known.answers.are_of(hidden) {
            return Ok(Arc::clone(&known.rows));
        }
        let turned = Arc::new(known.turned(tables, &entry, hidden).await?);
        memo.insert(entry.path.clone(), Arc::clone(&turned)).await;
        Ok(Arc::clone(&turned.rows))
    };
    futures::stream::iter(segments.iter().cloned().map(of_segment))
        .buffered(READS_MAX)
        .try_collect()
        .await
}
