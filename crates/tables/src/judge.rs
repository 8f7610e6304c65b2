//! Judges new rows and tombstones against segments, both ways: what of the segments is dead by the new, and what of
//! the new is outdated already.
//!
//! One rule for all tables: of two rows of one key the higher order stays, and of equal ones the one that is there.
//! Repo floors kill records and tombstones whose rev is below them, on both sides. A row that is marked already is
//! judged like any other: what superseded it supersedes what is older still. Judging reads at most one block for each
//! key and segment whose bloom filter says yes, and changes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use crdt::atproto::Tid;
use crdt::{Coverage, Pattern};
use futures::{StreamExt, TryStreamExt};
use roaring::RoaringBitmap;
use storage::Bucket;

use crate::cache::Cache;
use crate::error::{FormatError, TablesError};
use crate::floors::Floors;
use crate::key::{split_text, text_prefix};
use crate::manifest::SegmentSet;
use crate::schema::{TableDef, TableKind};
use crate::segment::{
    Columns, Found, Prefix, SegmentEntry, SegmentKind, SegmentReader, find_keys, find_prefixes,
};
use crate::tail::{SortedRows, TOMBSTONE_ORDER};
use crate::view::{Tables, physical_name};
use crate::waiting::{WithoutTable, segments_before};

/// Segments that are read at once.
const READS_MAX: usize = 8;

/// What is new of one table.
#[derive(Clone, Copy, Debug, Default)]
pub struct News<'a> {
    /// New rows.
    pub rows: Option<&'a SortedRows>,
    /// New tombstones.
    pub tombstones: Option<&'a SortedRows>,
}

/// What comes of judging one table's news.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// Rows of segments that are dead by the news, by the segment's path.
    pub dead: BTreeMap<String, RoaringBitmap>,
    /// New rows that are outdated, by their place.
    pub outdated_rows: RoaringBitmap,
    /// New tombstones that are outdated, by their place.
    pub outdated_tombstones: RoaringBitmap,
    /// Blocks of key columns that were read.
    pub blocks: usize,
}

impl Verdict {
    /// Takes over all of another verdict on the same news.
    fn add(&mut self, other: Self) {
        for (path, rows) in other.dead {
            *self.dead.entry(path).or_default() |= rows;
        }
        self.outdated_rows |= other.outdated_rows;
        self.outdated_tombstones |= other.outdated_tombstones;
        self.blocks += other.blocks;
    }
}

/// The news of one table as one ascending list of keys.
struct Probes<'a> {
    keys: Vec<&'a [u8]>,
    /// Which of the news: a row or a tombstone, its place, its order.
    news: Vec<(bool, u32, &'a [u8])>,
}

impl<'a> Probes<'a> {
    fn new(news: &News<'a>) -> Self {
        let mut all: Vec<(&[u8], bool, u32, &[u8])> = Vec::new();
        for (is_row, sorted) in [(true, news.rows), (false, news.tombstones)] {
            let Some(sorted) = sorted else { continue };
            for (place, key) in sorted.keys.iter().enumerate() {
                all.push((
                    key,
                    is_row,
                    u32::try_from(place).unwrap_or(u32::MAX),
                    sorted.orders.get(place),
                ));
            }
        }
        all.sort_unstable();
        Self {
            keys: all.iter().map(|(key, ..)| *key).collect(),
            news: all
                .iter()
                .map(|&(_, is_row, place, order)| (is_row, place, order))
                .collect(),
        }
    }
}

/// Judges `news` of `def`, and the new repo floors `floors`, against `segments` of that table.
///
/// # Errors
/// [`TablesError`] if a segment can't be read.
pub async fn judge(
    bucket: &Bucket,
    cache: &Cache,
    def: &TableDef,
    news: News<'_>,
    floors: &Floors,
    segments: &[Arc<SegmentEntry>],
) -> Result<Verdict, TablesError> {
    let probes = Probes::new(&news);
    let (prefixes, covered) = floor_prefixes(def, floors);
    let mut verdict = Verdict::default();
    if probes.keys.is_empty() && prefixes.is_empty() {
        return Ok(verdict);
    }
    let read = |entry: Arc<SegmentEntry>| {
        let (probes, prefixes) = (&probes, &prefixes);
        async move {
            if !may_touch(&entry, probes, prefixes) {
                return Ok(None);
            }
            let reader = cache.reader(bucket, &entry).await?;
            let columns = columns_of(def, entry.kind);
            let keys = find_keys(&reader, columns, &probes.keys).await?;
            let fronts = find_prefixes(&reader, columns, prefixes).await?;
            Ok::<_, TablesError>(Some((entry, keys, fronts)))
        }
    };
    let reads = segments.iter().cloned().map(read);
    let mut found = futures::stream::iter(reads).buffer_unordered(READS_MAX);
    while let Some(next) = found.try_next().await? {
        let Some((entry, keys, fronts)) = next else {
            continue;
        };
        verdict.blocks += keys.blocks + fronts.blocks;
        let mut dead = RoaringBitmap::new();
        for found in keys.found {
            let (is_row, place, order) = probes.news[found.probe];
            if order > found.order.as_slice() {
                dead.insert(found.row);
            } else if is_row {
                verdict.outdated_rows.insert(place);
            } else {
                verdict.outdated_tombstones.insert(place);
            }
        }
        for found in fronts.found {
            if covered[found.probe].kills(def, &found) {
                dead.insert(found.row);
            }
        }
        if !dead.is_empty() {
            *verdict.dead.entry(entry.path.clone()).or_default() |= dead;
        }
    }
    Ok(verdict)
}

/// Judges the news of `def` against all that `set` holds: its segments, and the repo floors that were merged.
///
/// `floors` are those that come with the news. A view and a flush judge by this alone, so that they answer alike.
///
/// # Errors
/// [`TablesError`] if a segment can't be read.
pub async fn judge_against(
    tables: &Tables,
    def: &TableDef,
    news: News<'_>,
    floors: &Floors,
    set: &SegmentSet,
) -> Result<Verdict, TablesError> {
    let (bucket, cache) = (tables.bucket(), tables.cache());
    let segments = set.of_table(&physical_name(def));
    let mut verdict = judge(bucket, cache, def, news, floors, segments).await?;
    if def.is_records() {
        let table = tables.builtin().floors();
        let merged = set.of_table(&physical_name(table));
        let known = known_floors(bucket, cache, table, merged, &[news]).await?;
        apply_floors(def, news, &known, &mut verdict);
    }
    let before = segments_before(tables, set, def);
    if let Some(record) = def.record_type()
        && !before.is_empty()
    {
        let moved = WithoutTable::new(record.collection(), news);
        let untyped = tables.builtin().untyped();
        verdict.add(judge(bucket, cache, untyped, moved.news(), floors, before).await?);
    }
    Ok(verdict)
}

/// Drops from a verdict's news what is below `floors`, which are known already.
pub fn apply_floors(def: &TableDef, news: News<'_>, floors: &Floors, verdict: &mut Verdict) {
    if floors.is_empty() || !def.is_records() {
        return;
    }
    for (sorted, outdated) in [
        (news.rows, &mut verdict.outdated_rows),
        (news.tombstones, &mut verdict.outdated_tombstones),
    ] {
        let Some(sorted) = sorted else { continue };
        for (place, key) in sorted.keys.iter().enumerate() {
            let Some((did, rest)) = split_text(key) else {
                continue;
            };
            let floor = match &def.kind {
                TableKind::Untyped => {
                    split_text(rest).and_then(|(collection, _)| floors.of(&did, &collection))
                }
                _ => floors.of(&did, def.name.table.as_str()),
            };
            if floor.is_some_and(|floor| {
                sorted.orders.get(place) < text_prefix(&floor.to_string()).as_slice()
            }) {
                outdated.insert(u32::try_from(place).unwrap_or(u32::MAX));
            }
        }
    }
}

/// The repo floors that `segments` (of the table of floors) hold for the dids of `news`.
///
/// # Errors
/// [`TablesError`] if a segment can't be read.
pub async fn known_floors(
    bucket: &Bucket,
    cache: &Cache,
    def: &TableDef,
    segments: &[Arc<SegmentEntry>],
    news: &[News<'_>],
) -> Result<Floors, TablesError> {
    let mut floors = Floors::default();
    if segments.is_empty() {
        return Ok(floors);
    }
    let sorted = news
        .iter()
        .flat_map(|news| [news.rows, news.tombstones])
        .flatten();
    let mut dids: Vec<String> = sorted
        .flat_map(|rows| rows.keys.iter())
        .filter_map(|key| Some(split_text(key)?.0))
        .collect();
    dids.sort_unstable();
    dids.dedup();
    let prefixes: Vec<Prefix> = dids.iter().map(|did| first_column(did)).collect();
    for entry in segments {
        let reader: SegmentReader = cache.reader(bucket, entry).await?;
        let lookup = find_prefixes(&reader, columns_of(def, entry.kind), &prefixes).await?;
        for found in lookup.found {
            let coverage = split_text(&found.key)
                .and_then(|(_, rest)| split_text(rest))
                .and_then(|(scope, _)| Coverage::from_canonical(&scope));
            let rev = split_text(&found.order).and_then(|(rev, _)| rev.parse::<Tid>().ok());
            let (Some(coverage), Some(rev)) = (coverage, rev) else {
                return Err(TablesError::Damaged {
                    path: entry.path.clone(),
                    source: FormatError::Field { field: "scope" },
                });
            };
            floors.raise(&dids[found.probe], coverage, rev);
        }
    }
    Ok(floors)
}

/// By which columns a table's segments of one kind are searched.
pub(crate) fn columns_of(def: &TableDef, kind: SegmentKind) -> Columns<'static> {
    match kind {
        SegmentKind::Rows => Columns {
            key: def.key,
            order: def.order,
        },
        SegmentKind::Tombstones => Columns {
            key: def.key,
            order: TOMBSTONE_ORDER,
        },
    }
}

fn first_column(text: &str) -> Prefix {
    let bytes = text_prefix(text);
    Prefix {
        first: bytes.len(),
        bytes,
    }
}

/// What a floor kills among the rows that one of its prefixes finds.
struct Covered<'a> {
    coverage: &'a Coverage,
    /// The floor's rev as an order.
    rev: Vec<u8>,
}

impl Covered<'_> {
    fn kills(&self, def: &TableDef, found: &Found) -> bool {
        let is_covered = match &def.kind {
            TableKind::Untyped => split_text(&found.key)
                .and_then(|(_, rest)| split_text(rest))
                .is_some_and(|(collection, _)| self.coverage.covers(&collection)),
            // A table of one collection, and the floor was taken because it covers that.
            _ => true,
        };
        is_covered && found.order < self.rev
    }
}

/// For each new floor that concerns `def`: the fronts of the keys among which it kills, and which.
fn floor_prefixes<'a>(def: &TableDef, floors: &'a Floors) -> (Vec<Prefix>, Vec<Covered<'a>>) {
    let (mut prefixes, mut covered) = (Vec::new(), Vec::new());
    if !def.is_records() {
        return (prefixes, covered);
    }
    for (did, coverage, rev) in floors.iter() {
        let is_untyped = matches!(def.kind, TableKind::Untyped);
        let fronts: Vec<Vec<u8>> = if is_untyped && !coverage.include().is_empty() {
            coverage.include().iter().map(front_of).collect()
        } else if is_untyped || coverage.covers(&def.name.table) {
            vec![Vec::new()]
        } else {
            continue;
        };
        for front in fronts {
            let mut prefix = first_column(did);
            prefix.bytes.extend(front);
            prefixes.push(prefix);
            covered.push(Covered {
                coverage,
                rev: text_prefix(&rev.to_string()),
            });
        }
    }
    (prefixes, covered)
}

/// The front of a key's column `collection` where a pattern matches.
fn front_of(pattern: &Pattern) -> Vec<u8> {
    match pattern {
        Pattern::Collection(nsid) => text_prefix(nsid.as_str()),
        // Text without its end: what begins with it. An NSID has no byte that the encoding changes.
        Pattern::Prefix(front) => front.as_bytes().to_vec(),
    }
}

fn may_touch(entry: &SegmentEntry, probes: &Probes<'_>, prefixes: &[Prefix]) -> bool {
    let first = probes
        .keys
        .partition_point(|key| *key < entry.key_min.as_slice());
    probes
        .keys
        .get(first)
        .is_some_and(|key| *key <= entry.key_max.as_slice())
        || prefixes
            .iter()
            .any(|prefix| entry.spans_prefix(&prefix.bytes))
}

#[cfg(test)]
mod tests;
