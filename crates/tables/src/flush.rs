//! Turns tails of some writers into segments and advances `merged`.
//!
//! Invariant: what a version's segments answer is the merge of all changes at or below its `merged`. A flush judges its
//! rows against the segments of the version that it read, and once more, both ways, against those that have come since
//! when it commits: two flushes from one base may bring a record and its delete. Two compactors may take the same
//! tail: the later one finds `merged` changed, and what it uploaded is garbage.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::TimestampMicrosecondType;
use async_trait::async_trait;
use futures::StreamExt;
use roaring::RoaringBitmap;
use storage::{Apply, ApplyError, CommitKind, Draft, LogListing, Position, Root, Took};

use crate::error::TablesError;
use crate::floors::Floors;
use crate::judge::columns_of;
use crate::judge::{News, Verdict, apply_floors, judge, judge_against, known_floors};
use crate::key::{keys, orders};
use crate::manifest::SegmentSet;
use crate::partition;
use crate::publish::{self, Edit, Placed, failed};
use crate::schema::{Catalog, TableDef, TableKind};
use crate::segment::{SegmentEntry, SegmentKind, SegmentWriter};
use crate::tail::{SortedRows, Tail, TailObject};
use crate::view::Tables;
use crate::waiting::WithoutTable;

/// When a tail is flushed, and how much at once.
#[derive(Clone, Copy, Debug)]
pub struct FlushSettings {
    /// A tail of at least this many bytes is flushed.
    pub tail_bytes: u64,
    /// A tail whose oldest object is older is flushed, µs.
    pub tail_age_us: i64,
    /// One flush takes about this many bytes of log objects at most.
    pub take_bytes_max: u64,
}

impl Default for FlushSettings {
    fn default() -> Self {
        // 30 s and 64 MiB: beyond that, every query pays for the tail.
        Self {
            tail_bytes: 16 << 20,
            tail_age_us: 30_000_000,
            take_bytes_max: 64 << 20,
        }
    }
}

impl FlushSettings {
    /// Flushes whatever there is.
    #[must_use]
    pub fn at_once() -> Self {
        Self {
            tail_bytes: 0,
            tail_age_us: 0,
            ..Self::default()
        }
    }
}

/// A log object that stops its writer's merging: it can't be read or decoded. Nothing of it is lost or deleted.
#[derive(Debug)]
pub struct Blocked {
    /// Where it stands.
    pub position: Position,
    /// Why.
    pub error: TablesError,
}

/// What a flush did.
#[derive(Debug, Default)]
pub struct Flushed {
    /// The version that it made; none if there was nothing to take, or another compactor took it.
    pub root: Option<Arc<Root>>,
    /// Log objects taken.
    pub objects: usize,
    /// Whether there is more to take.
    pub more: bool,
    /// What stops a writer's merging.
    pub blocked: Vec<Blocked>,
}

/// Flushes the tails that are due.
///
/// # Errors
/// [`TablesError`] from the store or because a segment is damaged. Nothing is lost: the tail stays where it is.
pub async fn flush(
    tables: &Tables,
    committer: &str,
    settings: FlushSettings,
) -> Result<Flushed, TablesError> {
    let (listing, root) = tables.list().await?;
    let Some((positions, more)) = due(&listing, &root, settings, tables.bucket().clock().now_us())
    else {
        return Ok(Flushed::default());
    };
    let Taken {
        objects,
        blocked,
        is_cut,
    } = take(tables, positions).await?;
    if objects.is_empty() {
        return Ok(Flushed {
            blocked,
            ..Flushed::default()
        });
    }
    let count = objects.len();
    let mut work = FlushWork::prepare(tables.clone(), root, Tail::new(objects)).await?;
    let base = work.base.version;
    match tables.chain().commit(base, committer, &mut work).await {
        Ok(root) => Ok(Flushed {
            root: Some(root),
            objects: count,
            more: more || is_cut,
            blocked,
        }),
        Err(storage::CommitError::Obsolete { .. }) => Ok(Flushed {
            blocked,
            more: true,
            ..Flushed::default()
        }),
        Err(error) => Err(error.into()),
    }
}

/// The positions that a flush takes, in each writer's order, and whether it leaves some; none if nothing is due.
fn due(
    listing: &LogListing,
    root: &Root,
    settings: FlushSettings,
    now_us: i64,
) -> Option<(Vec<Position>, bool)> {
    let mut runs: Vec<_> = Vec::new();
    let (mut bytes, mut oldest_us) = (0, i64::MAX);
    for (&writer, objects) in &listing.writers {
        let mut run = Vec::new();
        for seq in listing.run(writer, root.merged.get(&writer).copied()) {
            let Some(info) = objects.get(&seq) else { break };
            bytes += info.size;
            oldest_us = oldest_us.min(info.last_modified_us);
            run.push((Position { writer, seq }, info.size));
        }
        runs.push(run.into_iter());
    }
    if bytes == 0
        || (bytes < settings.tail_bytes && now_us.saturating_sub(oldest_us) < settings.tail_age_us)
    {
        return None;
    }
    // One of each writer in turn, so that none waits behind another's backlog.
    let (mut taken, mut taken_bytes) = (Vec::new(), 0);
    loop {
        let round: Vec<_> = runs.iter_mut().filter_map(Iterator::next).collect();
        if round.is_empty() {
            return Some((taken, false));
        }
        for (position, size) in round {
            taken_bytes += size;
            taken.push(position);
        }
        if taken_bytes >= settings.take_bytes_max {
            return Some((taken, true));
        }
    }
}

/// Log objects that are read at once.
const READS_MAX: usize = 16;
/// Decoded bytes that one flush takes at most, but for the object that passes them: the log's compression varies.
const TAKE_DECODED_MAX: usize = 1 << 30;

/// Log objects that were read and decoded.
#[derive(Debug, Default)]
struct Taken {
    objects: Vec<Arc<TailObject>>,
    blocked: Vec<Blocked>,
    /// Whether some were left because those taken are large.
    is_cut: bool,
}

/// Reads and decodes log objects; a writer's run ends before the first that can't be.
async fn take(tables: &Tables, positions: Vec<Position>) -> Result<Taken, TablesError> {
    let mut taken = Taken::default();
    let mut decoded = 0;
    let reads = positions.into_iter().map(|position| async move {
        let object = tables.cache().tail_object(tables.bucket(), position).await;
        (position, object)
    });
    let mut reads = futures::stream::iter(reads).buffered(READS_MAX);
    while let Some((position, object)) = reads.next().await {
        if decoded > TAKE_DECODED_MAX {
            taken.is_cut = true;
            break;
        }
        if taken
            .blocked
            .iter()
            .any(|blocked| blocked.position.writer == position.writer)
        {
            continue;
        }
        match object {
            Ok(object) => match object.decode_all() {
                Ok(()) => {
                    decoded += object.bytes();
                    taken.objects.push(object);
                }
                Err(error) => taken.blocked.push(Blocked { position, error }),
            },
            // Merged and collected by another compactor since it was listed.
            Err(error) if error.is_expired() => {
                return Ok(Taken {
                    blocked: taken.blocked,
                    ..Taken::default()
                });
            }
            Err(error) if error.is_store() => return Err(error),
            Err(error) => taken.blocked.push(Blocked { position, error }),
        }
    }
    Ok(taken)
}

/// One new segment with its rows, which are judged again at the commit.
#[derive(Debug)]
struct Fresh {
    entry: Arc<SegmentEntry>,
    def: Arc<TableDef>,
    rows: SortedRows,
}

impl Fresh {
    fn news(&self) -> News<'_> {
        match self.entry.kind {
            SegmentKind::Rows => News {
                rows: Some(&self.rows),
                tombstones: None,
            },
            SegmentKind::Tombstones => News {
                rows: None,
                tombstones: Some(&self.rows),
            },
        }
    }
}

impl Fresh {
    /// Its rows by the keys of `untyped`, if rows of its collection may still stand there.
    fn without_table(&self, untyped: &TableDef, set: &SegmentSet) -> Option<WithoutTable> {
        let record = self.def.record_type()?;
        let is_waiting =
            matches!(untyped.kind, TableKind::Untyped) && set.is_waiting(record.collection());
        is_waiting.then(|| WithoutTable::new(record.collection(), self.news()))
    }
}

/// A flush that has uploaded its segments.
#[derive(Debug)]
struct FlushWork {
    tables: Tables,
    base: Arc<Root>,
    base_segments: Arc<SegmentSet>,
    catalog: Arc<Catalog>,
    took: Vec<Took>,
    floors: Floors,
    fresh: Vec<Fresh>,
    /// Rows of the base's segments that are dead by this flush.
    dead: BTreeMap<String, RoaringBitmap>,
}

impl FlushWork {
    async fn prepare(tables: Tables, base: Arc<Root>, tail: Tail) -> Result<Self, TablesError> {
        let base_segments = tables.cache().segments(tables.bucket(), &base).await?;
        let catalog = tables.catalog(&base_segments).await?;
        let floors = tail.floors()?;
        let took = tail
            .runs()
            .into_iter()
            .map(|(writer, (from, to))| Took { writer, from, to })
            .collect();
        let mut dead = BTreeMap::new();
        let (mut placed, mut fresh_rows) = (Vec::new(), Vec::new());
        for def in touched(&catalog, &tail, &floors, &base_segments)? {
            let new = tail.table(&catalog, &def, &floors)?;
            let news = News {
                rows: Some(&new.rows),
                tombstones: new.tombstones.as_ref(),
            };
            let mut verdict = judge_against(&tables, &def, news, &floors, &base_segments).await?;
            // Two tables may mark one segment: that of records without a Lexicon, while some of them wait.
            for (path, rows) in std::mem::take(&mut verdict.dead) {
                *dead.entry(path).or_insert_with(RoaringBitmap::new) |= rows;
            }
            for (sorted, outdated, kind) in [
                (Some(&new.rows), &verdict.outdated_rows, SegmentKind::Rows),
                (
                    new.tombstones.as_ref(),
                    &verdict.outdated_tombstones,
                    SegmentKind::Tombstones,
                ),
            ] {
                let Some(sorted) = sorted else { continue };
                for (partition, rows) in split(&def, sorted, outdated)? {
                    let mut writer =
                        SegmentWriter::new(rows.batch.schema_ref(), def.key, rows.keys.len())?;
                    writer.push(&rows.batch)?;
                    let Some(written) = writer.finish()? else {
                        continue;
                    };
                    placed.push(Placed {
                        def: Arc::clone(&def),
                        kind,
                        partition,
                        written,
                    });
                    fresh_rows.push((Arc::clone(&def), rows));
                }
            }
        }
        let entries = publish::upload(&tables, base.version, placed).await?;
        let fresh = entries
            .into_iter()
            .zip(fresh_rows)
            .map(|(entry, (def, rows))| Fresh {
                entry: Arc::new(entry),
                def,
                rows,
            })
            .collect();
        Ok(Self {
            tables,
            base,
            base_segments,
            catalog,
            took,
            floors,
            fresh,
            dead,
        })
    }

    /// What is dead by this flush in the segments of `newest`, its own included.
    async fn marks(
        &self,
        newest: &SegmentSet,
    ) -> Result<BTreeMap<String, RoaringBitmap>, TablesError> {
        let (bucket, cache) = (self.tables.bucket(), self.tables.cache());
        // Of segments that went since the base nothing needs to be remembered: their rows are found again in those
        // that came.
        let mut marks: BTreeMap<String, RoaringBitmap> = self
            .dead
            .iter()
            .filter(|(path, _)| newest.has(path))
            .map(|(path, rows)| (path.clone(), rows.clone()))
            .collect();
        let came: Vec<&str> = newest.tables().collect();
        for table in came {
            let since: Vec<Arc<SegmentEntry>> = newest
                .of_table(table)
                .iter()
                .filter(|entry| !self.base_segments.has(&entry.path))
                .cloned()
                .collect();
            if since.is_empty() {
                continue;
            }
            let def = Arc::clone(self.catalog.physical(table)?);
            for fresh in &self.fresh {
                let moved = fresh.without_table(&def, newest);
                let news = match &moved {
                    Some(moved) => moved.news(),
                    None if fresh.def.name == def.name => fresh.news(),
                    None => continue,
                };
                let none = Floors::default();
                let verdict = judge(bucket, cache, &def, news, &none, &since).await?;
                add(&mut marks, verdict, Some(fresh));
            }
            let verdict = judge(bucket, cache, &def, News::default(), &self.floors, &since).await?;
            add(&mut marks, verdict, None);
            if matches!(def.kind, TableKind::Floors) {
                for fresh in self.fresh.iter().filter(|fresh| fresh.def.is_records()) {
                    let known = known_floors(bucket, cache, &def, &since, &[fresh.news()]).await?;
                    let mut verdict = Verdict::default();
                    apply_floors(&fresh.def, fresh.news(), &known, &mut verdict);
                    add(&mut marks, verdict, Some(fresh));
                }
            }
        }
        Ok(marks)
    }
}

fn add(marks: &mut BTreeMap<String, RoaringBitmap>, verdict: Verdict, fresh: Option<&Fresh>) {
    for (path, rows) in verdict.dead {
        *marks.entry(path).or_default() |= rows;
    }
    let outdated = verdict.outdated_rows | verdict.outdated_tombstones;
    if let Some(fresh) = fresh
        && !outdated.is_empty()
    {
        *marks.entry(fresh.entry.path.clone()).or_default() |= outdated;
    }
}

#[async_trait]
impl Apply for FlushWork {
    async fn apply(&mut self, newest: &Root) -> Result<Draft, ApplyError> {
        let mut merged = newest.merged.clone();
        for took in &self.took {
            if newest.merged.get(&took.writer) != self.base.merged.get(&took.writer) {
                return Err(ApplyError::Obsolete);
            }
            merged.insert(took.writer, took.to);
        }
        let set = self
            .tables
            .cache()
            .segments(self.tables.bucket(), newest)
            .await
            .map_err(failed)?;
        // A table may have been added for records that were taken as such without one: taken again, they stand in it.
        let catalog_of = |set: &SegmentSet| set.catalog().map(|catalog| catalog.path.clone());
        if catalog_of(&set) != catalog_of(&self.base_segments) {
            return Err(ApplyError::Obsolete);
        }
        let marks = self.marks(&set).await.map_err(failed)?;
        let added = self
            .fresh
            .iter()
            .map(|fresh| Arc::clone(&fresh.entry))
            .collect();
        let edit = Edit {
            marks,
            added,
            ..Edit::default()
        };
        let body = publish::apply(&self.tables, newest, edit)
            .await
            .map_err(failed)?;
        Ok(Draft {
            took: self.took.clone(),
            merged,
            body,
            ..Draft::following(newest, CommitKind::Flush)
        })
    }
}

/// The tables that a tail concerns: those of its changes, and where it raises a repo floor, all of records.
fn touched(
    catalog: &Catalog,
    tail: &Tail,
    floors: &Floors,
    segments: &SegmentSet,
) -> Result<Vec<Arc<TableDef>>, TablesError> {
    let mut touched = tail.tables(catalog);
    if !floors.is_empty() {
        for table in segments.tables() {
            let def = catalog.physical(table)?;
            if def.is_records() && !touched.iter().any(|other| other.name == def.name) {
                touched.push(Arc::clone(def));
            }
        }
    }
    Ok(touched)
}

/// The rows that are not outdated, by partition, each still in key order.
fn split(
    def: &TableDef,
    sorted: &SortedRows,
    outdated: &RoaringBitmap,
) -> Result<BTreeMap<String, SortedRows>, TablesError> {
    let kind = if sorted.batch.schema_ref() == &def.schema {
        SegmentKind::Rows
    } else {
        SegmentKind::Tombstones
    };
    let columns = columns_of(def, kind);
    let mut places: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for (row, partition) in partitions(def, &sorted.batch).into_iter().enumerate() {
        let row = u32::try_from(row).unwrap_or(u32::MAX);
        if !outdated.contains(row) {
            places.entry(partition).or_default().push(row);
        }
    }
    let mut split = BTreeMap::new();
    for (partition, rows) in places {
        let batch = take_record_batch(&sorted.batch, &UInt32Array::from(rows))?;
        let rows = SortedRows {
            keys: keys(&batch, columns.key)?,
            orders: orders(&batch, columns.order)?,
            batch,
        };
        split.insert(partition, rows);
    }
    Ok(split)
}

/// The partition of each row.
fn partitions(def: &TableDef, batch: &RecordBatch) -> Vec<String> {
    let text = |name: &str| {
        batch
            .column_by_name(name)
            .and_then(|array| array.as_string_opt::<i32>())
    };
    let rows = 0..batch.num_rows();
    match &def.kind {
        TableKind::Record(_) | TableKind::Untyped => {
            let Some((dids, rkeys)) = text("did").zip(text("rkey")) else {
                return Vec::new();
            };
            rows.map(|row| partition::of_record(dids.value(row), rkeys.value(row)))
                .collect()
        }
        TableKind::Events => {
            let times = batch
                .column_by_name("at")
                .and_then(|array| array.as_primitive_opt::<TimestampMicrosecondType>());
            let Some((times, dids)) = times.zip(text("did")) else {
                return Vec::new();
            };
            rows.map(|row| partition::of_time(times.value(row), dids.value(row)))
                .collect()
        }
        _ => {
            let Some(first) = def.key.first().and_then(|name| text(name)) else {
                return Vec::new();
            };
            rows.map(|row| partition::of_text(first.value(row)))
                .collect()
        }
    }
}

#[cfg(test)]
mod tests;
