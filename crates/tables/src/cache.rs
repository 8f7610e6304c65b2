//! Decoded immutable objects, by budget: parts, indexes, marks and the log's tail.
//!
//! Everything here is named by a path that is written once, so nothing can be stale; dropping the cache costs requests,
//! never correctness. Manifests and LISTs are not cached here.

use std::sync::Arc;

use bytes::Bytes;
use moka::future::Cache as Moka;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use roaring::RoaringBitmap;
use storage::{Bucket, CommitId, Position, Root};

use crate::error::{FormatError, TablesError};
use crate::hidden::HiddenMemo;
use crate::manifest::{Part, PartRef, SegmentSet, decode_body, decode_part};
use crate::segment::{
    KeyIndex, Marks, SegmentEntry, SegmentReader, Span, decode_index, fetch, store_error,
};
use crate::tail::TailObject;
use crate::waiting::CollectionRows;

/// Sizes of a [`Cache`], bytes.
#[derive(Clone, Copy, Debug)]
pub struct CacheSettings {
    /// Parts: some 5 KB a segment, most of it statistics.
    pub parts_bytes_max: u64,
    /// Indexes and marks of segments.
    pub indexes_bytes_max: u64,
    /// Log objects of the tail, encoded and decoded.
    pub tail_bytes_max: u64,
    /// What is known of hidden accounts: some 100 B for each and segment that holds it.
    pub hidden_bytes_max: u64,
}

impl Default for CacheSettings {
    fn default() -> Self {
        Self {
            parts_bytes_max: 1 << 30,
            indexes_bytes_max: 256 << 20,
            tail_bytes_max: 256 << 20,
            hidden_bytes_max: 256 << 20,
        }
    }
}

/// Decoded immutable objects of one bucket.
#[derive(Debug)]
pub struct Cache {
    parts: Moka<String, Arc<Vec<Arc<SegmentEntry>>>>,
    indexes: Moka<String, Arc<KeyIndex>>,
    marks: Moka<(String, u64), Arc<RoaringBitmap>>,
    collections: Moka<String, Arc<CollectionRows>>,
    sets: Moka<CommitId, Arc<SegmentSet>>,
    tail: Moka<Position, Arc<TailObject>>,
    hidden: HiddenMemo,
}

/// About what a segment's entry takes in memory (benches/manifest.rs).
const ENTRY_BYTES: usize = 5 * 1024;
/// Versions whose lists of segments are kept: the newest, and some that queries still read.
const SETS_MAX: u64 = 4;

impl Cache {
    /// An empty cache.
    #[must_use]
    pub fn new(settings: CacheSettings) -> Self {
        let weight = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
        Self {
            parts: Moka::builder()
                .max_capacity(settings.parts_bytes_max)
                .weigher(move |path: &String, entries: &Arc<Vec<_>>| {
                    weight(path.len() + entries.len() * ENTRY_BYTES)
                })
                .build(),
            indexes: Moka::builder()
                .max_capacity(settings.indexes_bytes_max)
                .weigher(move |path: &String, index: &Arc<KeyIndex>| {
                    weight(path.len() + index.bytes())
                })
                .build(),
            marks: Moka::builder()
                .max_capacity(settings.indexes_bytes_max / 4)
                .weigher(
                    move |(path, _): &(String, u64), marks: &Arc<RoaringBitmap>| {
                        weight(path.len() + marks.serialized_size())
                    },
                )
                .build(),
            collections: Moka::builder()
                .max_capacity(settings.indexes_bytes_max / 4)
                .weigher(move |path: &String, rows: &Arc<CollectionRows>| {
                    weight(path.len() + rows.bytes())
                })
                .build(),
            sets: Moka::builder().max_capacity(SETS_MAX).build(),
            tail: Moka::builder()
                .max_capacity(settings.tail_bytes_max)
                .weigher(move |_: &Position, object: &Arc<TailObject>| weight(object.bytes()))
                .build(),
            hidden: HiddenMemo::new(settings.hidden_bytes_max),
        }
    }

    /// What is known of hidden accounts.
    pub(crate) fn hidden(&self) -> &HiddenMemo {
        &self.hidden
    }

    /// All segments that `root` names. Costs one GET for each part that is not cached.
    ///
    /// # Errors
    /// [`TablesError`] if a part is gone, damaged or unreadable.
    pub async fn segments(
        &self,
        bucket: &Bucket,
        root: &Root,
    ) -> Result<Arc<SegmentSet>, TablesError> {
        let load = async {
            let body = decode_body(&root.body).map_err(|source| TablesError::Damaged {
                path: storage::layout::manifest(root.version).to_string(),
                source,
            })?;
            // In parallel, but not a hundred requests at once.
            let loads = body
                .parts
                .into_iter()
                .map(|reference| self.part(bucket, reference));
            let parts = futures::future::try_join_all(loads).await?;
            Ok(Arc::new(SegmentSet::new(parts, body.catalog)))
        };
        self.sets
            .try_get_with(root.commit, load)
            .await
            .map_err(shared)
    }

    async fn part(&self, bucket: &Bucket, reference: PartRef) -> Result<Part, TablesError> {
        let load = async {
            let bytes = fetch(
                bucket.store().as_ref(),
                &Path::from(reference.path.as_str()),
            )
            .await?;
            let damaged = |source| TablesError::Damaged {
                path: reference.path.clone(),
                source,
            };
            if blake3::hash(&bytes).as_bytes() != &reference.checksum {
                return Err(damaged(FormatError::Checksum));
            }
            let entries = decode_part(&bytes).map_err(damaged)?;
            if entries.len() != reference.segments as usize {
                return Err(damaged(FormatError::Field {
                    field: "part.segments",
                }));
            }
            Ok(Arc::new(entries))
        };
        let entries = self
            .parts
            .try_get_with_by_ref(&reference.path, load)
            .await
            .map_err(shared)?;
        Ok(Part { reference, entries })
    }

    /// A segment, ready to be read. Costs one GET if its index is not cached.
    ///
    /// # Errors
    /// [`TablesError`] if its pack is gone, damaged or unreadable.
    pub async fn reader(
        &self,
        bucket: &Bucket,
        entry: &Arc<SegmentEntry>,
    ) -> Result<SegmentReader, TablesError> {
        let load = async {
            let bytes = fetch_span(bucket.store().as_ref(), &entry.index).await?;
            let index = decode_index(&bytes, entry.bytes, entry.rows).map_err(|source| {
                TablesError::Damaged {
                    path: entry.index.path.clone(),
                    source,
                }
            })?;
            Ok(Arc::new(index))
        };
        let index = self
            .indexes
            .try_get_with_by_ref(&entry.path, load)
            .await
            .map_err(shared)?;
        Ok(SegmentReader {
            store: Arc::clone(bucket.store()),
            entry: Arc::clone(entry),
            index,
        })
    }

    /// The rows of each collection in a segment of records without a Lexicon. Costs the pages of one column if they are
    /// not cached.
    ///
    /// # Errors
    /// [`TablesError`] if the column is gone, damaged or unreadable.
    pub async fn collections(
        &self,
        bucket: &Bucket,
        entry: &Arc<SegmentEntry>,
    ) -> Result<Arc<CollectionRows>, TablesError> {
        let load = async {
            let reader = self.reader(bucket, entry).await?;
            CollectionRows::read(&reader).await.map(Arc::new)
        };
        self.collections
            .try_get_with_by_ref(&entry.path, load)
            .await
            .map_err(shared)
    }

    /// The marked rows of a segment. Costs one GET if they are not cached.
    ///
    /// # Errors
    /// [`TablesError`] if they are gone, damaged or unreadable.
    pub async fn marks(
        &self,
        bucket: &Bucket,
        entry: &SegmentEntry,
    ) -> Result<Arc<RoaringBitmap>, TablesError> {
        let Some(Marks { bitmap, rows }) = &entry.marks else {
            return Ok(Arc::default());
        };
        let load = async {
            let bytes = fetch_span(bucket.store().as_ref(), bitmap).await?;
            let damaged = |source| TablesError::Damaged {
                path: bitmap.path.clone(),
                source,
            };
            let marks = decode_marks(&bytes, entry.rows).map_err(damaged)?;
            if marks.len() != *rows {
                return Err(damaged(FormatError::Field {
                    field: "marks.rows",
                }));
            }
            Ok(Arc::new(marks))
        };
        self.marks
            .try_get_with((bitmap.path.clone(), bitmap.offset), load)
            .await
            .map_err(shared)
    }

    /// A log object of the tail. Costs one GET if it is not cached.
    ///
    /// # Errors
    /// [`TablesError`] if it is gone or damaged.
    pub async fn tail_object(
        &self,
        bucket: &Bucket,
        position: Position,
    ) -> Result<Arc<TailObject>, TablesError> {
        let load = async {
            let object =
                storage::read_log(bucket, position)
                    .await
                    .map_err(|source| match source {
                        storage::ReadError::Missing { .. } => TablesError::Expired {
                            path: storage::layout::wal_object(position).to_string(),
                        },
                        // Not the object's fault: nothing may be said of it, let alone its writer be stopped.
                        storage::ReadError::Store { source, .. } => TablesError::Store {
                            path: storage::layout::wal_object(position).to_string(),
                            source,
                        },
                        source => TablesError::Log { source },
                    })?;
            Ok(Arc::new(TailObject::new(object)))
        };
        self.tail.try_get_with(position, load).await.map_err(shared)
    }
}

/// Decodes the marked rows of a segment with `rows` rows.
///
/// # Errors
/// [`FormatError`] if they are no bitmap, name rows that are not there, or do not end where the bytes do.
pub fn decode_marks(bytes: &[u8], rows: u64) -> Result<RoaringBitmap, FormatError> {
    let mut rest = bytes;
    let marks = RoaringBitmap::deserialize_from(&mut rest)
        .map_err(|source| FormatError::Bitmap { source })?;
    if !rest.is_empty() {
        return Err(FormatError::Length {
            expected: (bytes.len() - rest.len()) as u64,
            found: bytes.len() as u64,
        });
    }
    if marks.max().is_some_and(|max| u64::from(max) >= rows) {
        return Err(FormatError::Field { field: "marks" });
    }
    Ok(marks)
}

async fn fetch_span(store: &dyn ObjectStore, span: &Span) -> Result<Bytes, TablesError> {
    let path = Path::from(span.path.as_str());
    let bytes = store
        .get_range(&path, span.offset..span.offset + span.length)
        .await
        .map_err(|source| store_error(&span.path, source))?;
    let damaged = |source| TablesError::Damaged {
        path: span.path.clone(),
        source,
    };
    if bytes.len() as u64 != span.length {
        return Err(damaged(FormatError::Length {
            expected: span.length,
            found: bytes.len() as u64,
        }));
    }
    if blake3::hash(&bytes).as_bytes() != &span.checksum {
        return Err(damaged(FormatError::Checksum));
    }
    Ok(bytes)
}

/// An error that several waiters of one load share.
fn shared(error: Arc<TablesError>) -> TablesError {
    Arc::try_unwrap(error).unwrap_or_else(|error| TablesError::Shared { source: error })
}
