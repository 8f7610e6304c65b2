//! Records that came before their table: where they stand until they are moved, and how they are judged meanwhile.
//!
//! Invariant: from the version on that adds a table for a collection, no row of the collection comes to stand among the
//! records without a Lexicon, so what stands there only gets less. Until nothing of it is left the collection is
//! *waiting*: its table's news are judged against these segments too, and a scan of its table reads them. So
//! every record is in exactly one table at every version, and the table is whole from the beginning.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::AsArray;
use futures::TryStreamExt;
use roaring::RoaringBitmap;

use crate::error::TablesError;
use crate::judge::News;
use crate::key::{Keys, split_text, text_prefix};
use crate::manifest::SegmentSet;
use crate::schema::{TableDef, TableKind};
use crate::segment::{Scalar, SegmentEntry, SegmentReader, segment_error};
use crate::tail::SortedRows;
use crate::view::{Tables, physical_name};

/// The rows of each collection in one segment of records without a Lexicon, marked ones included.
#[derive(Clone, Debug, Default)]
pub struct CollectionRows(BTreeMap<String, RoaringBitmap>);

impl CollectionRows {
    /// The rows of one collection.
    #[must_use]
    pub fn of(&self, collection: &str) -> Option<&RoaringBitmap> {
        self.0.get(collection)
    }

    /// About how much memory it takes.
    pub(crate) fn bytes(&self) -> usize {
        let entries = self.0.iter();
        entries
            .map(|(name, rows)| name.len() + rows.serialized_size() + 96)
            .sum()
    }

    /// Reads the column that names the collections.
    pub(crate) async fn read(reader: &SegmentReader) -> Result<Self, TablesError> {
        let mut rows: BTreeMap<String, RoaringBitmap> = BTreeMap::new();
        let mut stream = reader.stream(Some(&["collection"]), None)?;
        let mut at = 0_u32;
        let fail = |source| segment_error(&reader.entry.path, source);
        while let Some(batch) = stream.try_next().await.map_err(fail)? {
            let names = batch
                .column_by_name("collection")
                .and_then(|array| array.as_string_opt::<i32>())
                .ok_or(TablesError::Row {
                    column: "collection",
                })?;
            for name in names {
                let name = name.unwrap_or_default();
                match rows.get_mut(name) {
                    Some(rows) => rows.insert(at),
                    None => rows.entry(name.to_owned()).or_default().insert(at),
                };
                at = at.saturating_add(1);
            }
        }
        Ok(Self(rows))
    }
}

/// Whether a segment of records without a Lexicon may hold rows of `collection`, as far as its statistics tell.
pub(crate) fn may_hold(entry: &SegmentEntry, collection: &str) -> bool {
    let Some(stats) = entry.columns.get("collection") else {
        return true;
    };
    let above = |bound: &Scalar| matches!(bound, Scalar::Text(text) if text.as_str() > collection);
    let below = |bound: &Scalar| matches!(bound, Scalar::Text(text) if text.as_str() < collection);
    !stats.min.as_ref().is_some_and(above) && !stats.max.as_ref().is_some_and(below)
}

/// The rows of `collections` in one segment of records without a Lexicon.
pub(crate) async fn rows_of(
    tables: &Tables,
    entry: &Arc<SegmentEntry>,
    collections: &BTreeSet<String>,
) -> Result<RoaringBitmap, TablesError> {
    let mut rows = RoaringBitmap::new();
    if !collections.iter().any(|name| may_hold(entry, name)) {
        return Ok(rows);
    }
    let held = tables.cache().collections(tables.bucket(), entry).await?;
    for collection in collections {
        if let Some(more) = held.of(collection) {
            rows |= more;
        }
    }
    Ok(rows)
}

/// The segments among which records of `def` may still stand that came before it.
pub(crate) fn segments_before<'a>(
    tables: &Tables,
    set: &'a SegmentSet,
    def: &TableDef,
) -> &'a [Arc<SegmentEntry>] {
    match &def.kind {
        TableKind::Record(record) if set.is_waiting(record.collection()) => {
            set.of_table(&physical_name(tables.builtin().untyped()))
        }
        _ => &[],
    }
}

/// A table's news as if they had no table: by the keys of records without a Lexicon.
#[derive(Debug)]
pub(crate) struct WithoutTable {
    rows: Option<SortedRows>,
    tombstones: Option<SortedRows>,
}

impl WithoutTable {
    /// The news of the table of `collection`.
    pub(crate) fn new(collection: &str, news: News<'_>) -> Self {
        let collection = text_prefix(collection);
        let moved = |sorted: &SortedRows| SortedRows {
            batch: sorted.batch.clone(),
            keys: with_collection(&sorted.keys, &collection),
            orders: sorted.orders.clone(),
        };
        Self {
            rows: news.rows.map(moved),
            tombstones: news.tombstones.map(moved),
        }
    }

    /// As news of the table of records without a Lexicon; only their keys and orders are that.
    pub(crate) fn news(&self) -> News<'_> {
        News {
            rows: self.rows.as_ref(),
            tombstones: self.tombstones.as_ref(),
        }
    }
}

/// Keys (`did`, `rkey`) as (`did`, `collection`, `rkey`): one collection between them keeps their order.
fn with_collection(keys: &Keys, collection: &[u8]) -> Keys {
    let mut with = Keys::default();
    for key in keys.iter() {
        let rest = split_text(key).map_or(&[][..], |(_, rest)| rest);
        let (did, rkey) = key.split_at(key.len() - rest.len());
        with.push(&[did, collection, rkey].concat());
    }
    with
}
