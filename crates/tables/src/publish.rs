//! Uploads what a commit names: segments and their pack, marks, parts. All are created, never overwritten.
//!
//! An upload that no commit comes to name is garbage, and the collector's: nothing here deletes.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::{StreamExt, TryStreamExt};
use roaring::RoaringBitmap;
use storage::{ApplyError, Root, Version, layout};

use crate::error::{FormatError, TablesError};
use crate::manifest::{Body, CatalogRef, PartRef, encode_body, encode_part, regroup};
use crate::schema::TableDef;
use crate::segment::{Marks, SegmentEntry, SegmentKind, Span, Written};
use crate::view::{Tables, physical_name};

/// Objects that are uploaded at once.
const UPLOADS_MAX: usize = 4;

/// A segment that is written, with where it belongs.
#[derive(Debug)]
pub(crate) struct Placed {
    pub(crate) def: Arc<TableDef>,
    pub(crate) kind: SegmentKind,
    pub(crate) partition: String,
    pub(crate) written: Written,
}

/// Uploads segments, and their indexes in one pack; gives their entries in the same order.
pub(crate) async fn upload(
    tables: &Tables,
    base: Version,
    placed: Vec<Placed>,
) -> Result<Vec<SegmentEntry>, TablesError> {
    if placed.is_empty() {
        return Ok(Vec::new());
    }
    let pack_path = layout::system_object(base, tables.bucket().mint(), "pack");
    let created_us = tables.bucket().clock().now_us();
    let mut pack = BytesMut::new();
    let mut entries = Vec::with_capacity(placed.len());
    let mut objects = Vec::with_capacity(placed.len());
    for Placed {
        def,
        kind,
        partition,
        written,
    } in placed
    {
        let table = physical_name(&def);
        let path = layout::table_object(&table, base, tables.bucket().mint(), "parquet");
        entries.push(SegmentEntry {
            path: path.to_string(),
            table,
            kind,
            partition,
            rows: written.rows,
            bytes: written.parquet.len() as u64,
            checksum: *blake3::hash(&written.parquet).as_bytes(),
            created_us,
            key_min: written.key_min,
            key_max: written.key_max,
            columns: written.columns,
            index: Span {
                path: pack_path.to_string(),
                offset: pack.len() as u64,
                length: written.index.len() as u64,
                checksum: *blake3::hash(&written.index).as_bytes(),
            },
            marks: None,
        });
        pack.extend_from_slice(&written.index);
        objects.push((path, written.parquet));
    }
    objects.push((pack_path, pack.freeze()));
    futures::stream::iter(objects)
        .map(|(path, bytes)| async move { storage::create(tables.bucket(), &path, bytes).await })
        .buffer_unordered(UPLOADS_MAX)
        .try_collect::<Vec<()>>()
        .await?;
    Ok(entries)
}

/// How the segments of one version become those of the next.
#[derive(Debug, Default)]
pub(crate) struct Edit {
    /// Segments that go.
    pub(crate) removed: HashSet<String>,
    /// Rows that are marked beyond those that are, by the segment's path; of `added` ones too.
    pub(crate) marks: BTreeMap<String, RoaringBitmap>,
    /// Segments that come.
    pub(crate) added: Vec<Arc<SegmentEntry>>,
    /// Another catalog, or the same with other collections waiting.
    pub(crate) catalog: Option<CatalogRef>,
}

/// Applies `edit` to the segments of `newest`: uploads marks and the parts that it touches; gives the new root's body.
///
/// A segment whose rows are all marked goes.
pub(crate) async fn apply(
    tables: &Tables,
    newest: &Root,
    edit: Edit,
) -> Result<Bytes, TablesError> {
    let set = tables.cache().segments(tables.bucket(), newest).await?;
    let base = newest.version;
    let mut removed = edit.removed;
    let mut marked: Vec<(Arc<SegmentEntry>, RoaringBitmap)> = Vec::new();
    for entry in set.entries().chain(&edit.added) {
        let Some(more) = edit.marks.get(&entry.path) else {
            continue;
        };
        if removed.contains(&entry.path) {
            continue;
        }
        let marks = tables.cache().marks(tables.bucket(), entry).await?;
        let all = marks.as_ref() | more;
        if all.len() == entry.rows {
            removed.insert(entry.path.clone());
        } else if all.len() > marks.len() {
            marked.push((Arc::clone(entry), all));
        }
    }
    let replaced = upload_marks(tables, base, marked).await?;
    let current = |entry: &Arc<SegmentEntry>| match replaced.get(&entry.path) {
        _ if removed.contains(&entry.path) => None,
        Some(entry) => Some(Arc::clone(entry)),
        None => Some(Arc::clone(entry)),
    };
    let added = edit.added.iter().filter_map(current).collect();
    let regrouped = regroup(set.parts(), current, added);
    let mut parts = regrouped.kept;
    for entries in &regrouped.written {
        let bytes = encode_part(entries);
        let path = layout::system_object(base, tables.bucket().mint(), "part");
        parts.push(PartRef {
            path: path.to_string(),
            segments: u32::try_from(entries.len()).unwrap_or(u32::MAX),
            bytes: bytes.len() as u64,
            checksum: *blake3::hash(&bytes).as_bytes(),
        });
        storage::create(tables.bucket(), &path, bytes).await?;
    }
    Ok(encode_body(&Body {
        parts,
        catalog: edit.catalog.or_else(|| set.catalog().cloned()),
    }))
}

/// Uploads the marks of several segments as one object; gives their new entries by path.
async fn upload_marks(
    tables: &Tables,
    base: Version,
    marked: Vec<(Arc<SegmentEntry>, RoaringBitmap)>,
) -> Result<BTreeMap<String, Arc<SegmentEntry>>, TablesError> {
    if marked.is_empty() {
        return Ok(BTreeMap::new());
    }
    let path = layout::system_object(base, tables.bucket().mint(), "marks");
    let mut object = Vec::new();
    let mut replaced = BTreeMap::new();
    for (entry, rows) in marked {
        let offset = object.len();
        rows.serialize_into(&mut object)
            .map_err(|source| TablesError::Damaged {
                path: path.to_string(),
                source: FormatError::Bitmap { source },
            })?;
        let bytes = &object[offset..];
        let bitmap = Span {
            path: path.to_string(),
            offset: offset as u64,
            length: bytes.len() as u64,
            checksum: *blake3::hash(bytes).as_bytes(),
        };
        let marks = Some(Marks {
            bitmap,
            rows: rows.len(),
        });
        replaced.insert(
            entry.path.clone(),
            Arc::new(SegmentEntry {
                marks,
                ..entry.as_ref().clone()
            }),
        );
    }
    storage::create(tables.bucket(), &path, object.into()).await?;
    Ok(replaced)
}

/// Why a commit could not be worked out.
pub(crate) fn failed(error: TablesError) -> ApplyError {
    ApplyError::Failed(Box::new(error))
}
