//! Moves records that came before their table into it: rows and tombstones of a collection that stand among the records
//! without a Lexicon become segments of the collection's own table.
//!
//! Invariant: moving changes no answer. One commit adds the rows to the table and marks them where they stood; what was
//! marked there meanwhile (an update, a delete, a floor, another that moved them) is marked in the new segment too. It
//! commits only what it read from segments that are still there. A kill leaves uploads that nobody names, and the marks
//! of the commits before it, from which the next goes on. When nothing of a collection is left it waits no more, and
//! its table is judged by its own segments alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use async_trait::async_trait;
use futures::StreamExt;
use roaring::RoaringBitmap;
use storage::{Apply, ApplyError, CommitError, CommitKind, Draft, Root};

use crate::error::{FormatError, TablesError};
use crate::manifest::{CatalogRef, SegmentSet};
use crate::publish::{self, Edit, Placed, failed};
use crate::reshred::Reshredder;
use crate::schema::{Catalog, TableDef};
use crate::segment::{SegmentEntry, SegmentKind, SegmentWriter, read_live};
use crate::view::{Tables, physical_name};
use crate::waiting::may_hold;

/// How much one commit moves.
#[derive(Clone, Copy, Debug)]
pub struct ReprojectSettings {
    /// Segments of about this many bytes are read for one commit, and one at least.
    pub bytes_max: u64,
}

impl Default for ReprojectSettings {
    fn default() -> Self {
        // The outputs are in memory until they are uploaded.
        Self {
            bytes_max: 64 << 20,
        }
    }
}

/// Collections that are moved out of one segment by one commit at most: each has a writer with a bloom filter of its own.
const COLLECTIONS_MAX: usize = 32;

/// What one commit moved.
#[derive(Debug)]
pub struct Reprojected {
    /// The version that it made.
    pub root: Arc<Root>,
    /// Records that were moved.
    pub records: u64,
    /// Tombstones that were moved.
    pub tombstones: u64,
}

/// Moves some of what waits, in one commit; none if nothing waits or the race was lost.
///
/// A segment that can't be read is passed over while others can.
///
/// # Errors
/// [`TablesError`] from the store, or because nothing that waits can be read.
pub async fn reproject_once(
    tables: &Tables,
    committer: &str,
    settings: &ReprojectSettings,
) -> Result<Option<Reprojected>, TablesError> {
    let root = tables.chain().newest_root().await?;
    let set = tables.cache().segments(tables.bucket(), &root).await?;
    let Some(waiting) = set.catalog().map(|catalog| &catalog.waiting) else {
        return Ok(None);
    };
    if waiting.is_empty() {
        return Ok(None);
    }
    let catalog = tables.catalog(&set).await?;
    let mut work = Work {
        tables: tables.clone(),
        moves: Vec::new(),
    };
    let broken = work.prepare(&root, &set, &catalog, settings).await?;
    match tables
        .chain()
        .commit(root.version, committer, &mut work)
        .await
    {
        Ok(root) => Ok(Some(work.reprojected(root))),
        Err(CommitError::Obsolete { .. }) => match broken {
            Some(error) if work.moves.is_empty() => Err(error),
            _ => Ok(None),
        },
        Err(error) => Err(error.into()),
    }
}

/// The rows of one collection in one segment, and the segment that they became.
#[derive(Debug)]
struct Move {
    input: Arc<SegmentEntry>,
    rows: RoaringBitmap,
    output: Arc<SegmentEntry>,
    /// Of `rows`, those that the last attempt to commit moved; none if the input was gone.
    moved: u64,
}

/// Moves that have uploaded their segments.
#[derive(Debug)]
struct Work {
    tables: Tables,
    moves: Vec<Move>,
}

impl Work {
    /// Reads what waits, as much as one commit takes, and uploads it; returns why a segment was passed over.
    async fn prepare(
        &mut self,
        base: &Root,
        set: &SegmentSet,
        catalog: &Catalog,
        settings: &ReprojectSettings,
    ) -> Result<Option<TablesError>, TablesError> {
        let mut bytes = 0;
        let mut broken = None;
        let (mut placed, mut taken) = (Vec::new(), Vec::new());
        let mut segments: Vec<_> = segments_of(&self.tables, set).iter().collect();
        // By age, so that two compactors that begin again go on in the same order.
        segments.sort_by(|a, b| a.path.cmp(&b.path));
        for entry in segments {
            if bytes >= settings.bytes_max {
                break;
            }
            match self.take(entry, set, catalog).await {
                Ok(shredded) if shredded.is_empty() => {}
                Ok(shredded) => {
                    bytes += entry.bytes;
                    for (rows, segment) in shredded {
                        placed.push(segment);
                        taken.push((Arc::clone(entry), rows));
                    }
                }
                Err(error) if error.is_store() || error.is_expired() => return Err(error),
                Err(error) => {
                    tracing::warn!(%error, "records can't be moved into their table");
                    broken = Some(error);
                }
            }
        }
        let outputs = publish::upload(&self.tables, base.version, placed).await?;
        let moves = taken.into_iter().zip(outputs);
        self.moves = moves
            .map(|((input, rows), output)| Move {
                input,
                rows,
                output: Arc::new(output),
                moved: 0,
            })
            .collect();
        Ok(broken)
    }

    /// What waits in one segment, as a segment for each collection.
    async fn take(
        &self,
        entry: &Arc<SegmentEntry>,
        set: &SegmentSet,
        catalog: &Catalog,
    ) -> Result<Vec<(RoaringBitmap, Placed)>, TablesError> {
        let mut waiting = self.waiting(entry, set, &RoaringBitmap::new()).await?;
        let mut writers = BTreeMap::new();
        while waiting.len() > COLLECTIONS_MAX {
            waiting.pop_last();
        }
        let mut dead = RoaringBitmap::new();
        dead.insert_range(0..u32::try_from(entry.rows).unwrap_or(u32::MAX));
        for (collection, rows) in &waiting {
            dead -= rows;
            let def = Arc::clone(catalog.records_of(collection));
            if def.record_type().is_some() {
                writers.insert(
                    collection.clone(),
                    Output::new(def, entry.kind, rows, catalog)?,
                );
            }
        }
        if writers.is_empty() {
            return Ok(Vec::new());
        }
        let reader = self
            .tables
            .cache()
            .reader(self.tables.bucket(), entry)
            .await?;
        let mut live = Box::pin(read_live(&reader, &dead).await?);
        while let Some((batch, _)) = live.next().await.transpose()? {
            for (collection, part) in by_collection(&batch)? {
                if let Some(writer) = writers.get_mut(&collection) {
                    writer.push(&part)?;
                }
            }
        }
        let mut shredded = Vec::new();
        for (collection, writer) in writers {
            let rows = waiting.remove(&collection).unwrap_or_default();
            let placed = writer.finish(&entry.partition, &rows, entry)?;
            shredded.push((rows, placed));
        }
        Ok(shredded)
    }

    /// The rows of waiting collections in one segment that are neither marked nor in `more`.
    async fn waiting(
        &self,
        entry: &Arc<SegmentEntry>,
        set: &SegmentSet,
        more: &RoaringBitmap,
    ) -> Result<BTreeMap<String, RoaringBitmap>, TablesError> {
        let (bucket, cache) = (self.tables.bucket(), self.tables.cache());
        let mut found = BTreeMap::new();
        let names: Vec<&String> = waiting_of(set)
            .filter(|name| may_hold(entry, name))
            .collect();
        if names.is_empty() {
            return Ok(found);
        }
        let marks = cache.marks(bucket, entry).await?;
        if marks.len() + more.len() >= entry.rows && (marks.as_ref() | more).len() == entry.rows {
            return Ok(found);
        }
        let held = cache.collections(bucket, entry).await?;
        for name in names {
            if let Some(rows) = held.of(name) {
                let rows = rows - marks.as_ref() - more;
                if !rows.is_empty() {
                    found.insert(name.clone(), rows);
                }
            }
        }
        Ok(found)
    }

    /// The collections of which something is left in `set` once `marks` are set.
    async fn left(
        &self,
        set: &SegmentSet,
        marks: &BTreeMap<String, RoaringBitmap>,
    ) -> Result<BTreeSet<String>, TablesError> {
        let mut left = BTreeSet::new();
        let none = RoaringBitmap::new();
        for entry in segments_of(&self.tables, set) {
            if waiting_of(set).all(|name| left.contains(name)) {
                break;
            }
            let more = marks.get(&entry.path).unwrap_or(&none);
            match self.waiting(entry, set, more).await {
                Ok(waiting) => left.extend(waiting.into_keys()),
                Err(error) if error.is_store() || error.is_expired() => return Err(error),
                // Nobody can tell what is in it, so it may hold anything.
                Err(_) => {
                    left.extend(
                        waiting_of(set)
                            .filter(|name| may_hold(entry, name))
                            .cloned(),
                    );
                }
            }
        }
        Ok(left)
    }

    /// The edit that moves what can be moved in `set`; none if nothing changes by it.
    async fn edit(&mut self, set: &SegmentSet) -> Result<Option<Edit>, TablesError> {
        let Some(named) = set.catalog() else {
            return Ok(None);
        };
        // An earlier attempt that nobody answered for may have been this very commit.
        if self.moves.iter().any(|one| set.has(&one.output.path)) {
            return Ok(None);
        }
        let newest: BTreeMap<&str, &Arc<SegmentEntry>> = segments_of(&self.tables, set)
            .iter()
            .map(|entry| (entry.path.as_str(), entry))
            .collect();
        let mut edit = Edit::default();
        for one in &mut self.moves {
            one.moved = 0;
            let Some(entry) = newest.get(one.input.path.as_str()) else {
                continue;
            };
            let marks = self
                .tables
                .cache()
                .marks(self.tables.bucket(), entry)
                .await?;
            let lost = marks.as_ref() & &one.rows;
            one.moved = one.rows.len() - lost.len();
            if one.moved == 0 {
                continue;
            }
            let places = lost.iter().map(|row| place_of(&one.rows, row));
            edit.marks.insert(one.output.path.clone(), places.collect());
            *edit.marks.entry(one.input.path.clone()).or_default() |= &one.rows;
            edit.added.push(Arc::clone(&one.output));
        }
        let waiting = self.left(set, &edit.marks).await?;
        if edit.added.is_empty() && waiting == named.waiting {
            return Ok(None);
        }
        edit.catalog = Some(CatalogRef {
            waiting,
            ..named.clone()
        });
        Ok(Some(edit))
    }

    fn reprojected(&self, root: Arc<Root>) -> Reprojected {
        let moved = |kind: SegmentKind| {
            let of_kind = self.moves.iter().filter(|one| one.input.kind == kind);
            of_kind.map(|one| one.moved).sum()
        };
        Reprojected {
            root,
            records: moved(SegmentKind::Rows),
            tombstones: moved(SegmentKind::Tombstones),
        }
    }
}

/// Where a row stands among those that were taken of its segment.
fn place_of(taken: &RoaringBitmap, row: u32) -> u32 {
    u32::try_from(taken.rank(row).saturating_sub(1)).unwrap_or(u32::MAX)
}

/// The segments of records without a Lexicon, of both kinds.
fn segments_of<'a>(tables: &Tables, set: &'a SegmentSet) -> &'a [Arc<SegmentEntry>] {
    set.of_table(&physical_name(tables.builtin().untyped()))
}

fn waiting_of(set: &SegmentSet) -> impl Iterator<Item = &String> {
    set.catalog().into_iter().flat_map(|named| &named.waiting)
}

/// The rows of a batch by their collection, each in the order of the batch.
fn by_collection(batch: &RecordBatch) -> Result<Vec<(String, RecordBatch)>, TablesError> {
    let names = batch
        .column_by_name("collection")
        .and_then(|array| array.as_string_opt::<i32>())
        .ok_or(TablesError::Row {
            column: "collection",
        })?;
    let mut places: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
    for (place, name) in names.iter().enumerate() {
        let place = u32::try_from(place).unwrap_or(u32::MAX);
        places
            .entry(name.unwrap_or_default())
            .or_default()
            .push(place);
    }
    let parts = places.into_iter().map(|(name, rows)| {
        let rows = take_record_batch(batch, &UInt32Array::from(rows))?;
        Ok((name.to_owned(), rows))
    });
    parts.collect()
}

/// One segment of a collection's own table, while it is written.
struct Output {
    def: Arc<TableDef>,
    kind: SegmentKind,
    /// None for tombstones, which have the same columns in every table but for the collection's name.
    reshredder: Option<Reshredder>,
    writer: SegmentWriter,
}

impl Output {
    fn new(
        def: Arc<TableDef>,
        kind: SegmentKind,
        rows: &RoaringBitmap,
        catalog: &Catalog,
    ) -> Result<Self, TablesError> {
        let rows_max = usize::try_from(rows.len()).unwrap_or(usize::MAX);
        let (schema, reshredder) = match (kind, def.tombstone_schema()) {
            (SegmentKind::Tombstones, Some(schema)) => (schema, None),
            _ => (
                Arc::clone(&def.schema),
                Some(Reshredder::new(catalog.untyped(), &def)?),
            ),
        };
        let writer = SegmentWriter::new(&schema, def.key, rows_max)?;
        Ok(Self {
            def,
            kind,
            reshredder,
            writer,
        })
    }

    fn push(&mut self, rows: &RecordBatch) -> Result<(), TablesError> {
        let rows = match &self.reshredder {
            Some(reshredder) => reshredder.rows(rows)?,
            None => {
                let mut rows = rows.clone();
                if let Ok(place) = rows.schema().index_of("collection") {
                    rows.remove_column(place);
                }
                rows
            }
        };
        Ok(self.writer.push(&rows)?)
    }

    fn finish(
        self,
        partition: &str,
        rows: &RoaringBitmap,
        entry: &SegmentEntry,
    ) -> Result<Placed, TablesError> {
        let written = self.writer.finish()?;
        let found = written.as_ref().map_or(0, |written| written.rows);
        match written {
            Some(written) if found == rows.len() => Ok(Placed {
                def: self.def,
                kind: self.kind,
                partition: partition.to_owned(),
                written,
            }),
            _ => Err(TablesError::Damaged {
                path: entry.path.clone(),
                source: FormatError::Length {
                    expected: rows.len(),
                    found,
                },
            }),
        }
    }
}

#[async_trait]
impl Apply for Work {
    async fn apply(&mut self, newest: &Root) -> Result<Draft, ApplyError> {
        let bucket = self.tables.bucket().clone();
        let set = self.tables.cache().segments(&bucket, newest).await;
        let set = set.map_err(failed)?;
        let edit = self.edit(&set).await.map_err(failed)?;
        let Some(edit) = edit else {
            return Err(ApplyError::Obsolete);
        };
        let body = publish::apply(&self.tables, newest, edit)
            .await
            .map_err(failed)?;
        Ok(Draft {
            body,
            ..Draft::following(newest, CommitKind::Merge)
        })
    }
}

#[cfg(test)]
mod tests;
