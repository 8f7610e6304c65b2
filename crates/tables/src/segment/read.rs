//! Reads rows of a segment. The footer comes from the index, so a read costs the pages that it touches.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use bytes::Bytes;
use futures::{Stream, StreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, RowSelection};
use parquet::arrow::async_reader::{ParquetRecordBatchStream, ParquetRecordBatchStreamBuilder};
use parquet::errors::ParquetError;
use roaring::RoaringBitmap;

use super::entry::SegmentEntry;
use super::index::KeyIndex;
use super::object::SegmentObject;
use crate::error::{FormatError, TablesError};

/// Rows in a batch that a merge reads.
const BATCH_ROWS: usize = 8_192;

/// One segment, ready to be read.
#[derive(Clone, Debug)]
pub struct SegmentReader {
    /// Where it is.
    pub store: Arc<dyn ObjectStore>,
    /// Its entry.
    pub entry: Arc<SegmentEntry>,
    /// Its index.
    pub index: Arc<KeyIndex>,
}

impl SegmentReader {
    /// A stream of the columns `columns` (all if none) of the rows in `ranges`, in row order.
    ///
    /// # Errors
    /// [`TablesError`] if the Parquet footer does not hold such columns.
    pub fn stream(
        &self,
        columns: Option<&[&str]>,
        ranges: Option<&[Range<usize>]>,
    ) -> Result<ParquetRecordBatchStream<SegmentObject>, TablesError> {
        let fail = |source| segment_error(&self.entry.path, source);
        let object = SegmentObject::new(
            Arc::clone(&self.store),
            Arc::clone(&self.entry),
            Arc::clone(&self.index),
        );
        let metadata = ArrowReaderMetadata::try_new(
            Arc::clone(self.index.metadata()),
            ArrowReaderOptions::new(),
        )
        .map_err(fail)?;
        let mut builder = ParquetRecordBatchStreamBuilder::new_with_metadata(object, metadata)
            .with_batch_size(BATCH_ROWS);
        if let Some(columns) = columns {
            let mask = ProjectionMask::columns(builder.parquet_schema(), columns.iter().copied());
            builder = builder.with_projection(mask);
        }
        if let Some(ranges) = ranges {
            let rows = usize::try_from(self.entry.rows).unwrap_or(usize::MAX);
            builder = builder.with_row_selection(RowSelection::from_consecutive_ranges(
                ranges.iter().cloned(),
                rows,
            ));
        }
        builder.build().map_err(fail)
    }
}

/// The rows of a segment that are not in `dead`, batch by batch, each with its row numbers.
///
/// The whole object is fetched and its checksum compared first: a merge never carries damage on.
///
/// # Errors
/// [`TablesError::Expired`] if it is gone, [`TablesError::Damaged`] if it is not what was written.
pub async fn read_live(
    reader: &SegmentReader,
    dead: &RoaringBitmap,
) -> Result<
    impl Stream<Item = Result<(RecordBatch, Vec<u32>), TablesError>> + Send + use<>,
    TablesError,
> {
    let path = reader.entry.path.clone();
    let location = Path::from(path.as_str());
    let bytes = fetch(reader.store.as_ref(), &location).await?;
    if blake3::hash(&bytes).as_bytes() != &reader.entry.checksum {
        return Err(TablesError::Damaged {
            path,
            source: FormatError::Checksum,
        });
    }
    let memory = Arc::new(object_store::memory::InMemory::new());
    memory
        .put(&location, bytes.into())
        .await
        .map_err(|source| TablesError::Store {
            path: path.clone(),
            source,
        })?;
    let whole = SegmentReader {
        store: memory,
        entry: Arc::clone(&reader.entry),
        index: Arc::clone(&reader.index),
    };
    let mut next_row = 0_u32;
    let dead = dead.clone();
    Ok(whole.stream(None, None)?.map(move |batch| {
        let batch = batch.map_err(|source| segment_error(&path, source))?;
        let rows = u32::try_from(batch.num_rows()).unwrap_or(u32::MAX);
        let numbers = next_row..next_row.saturating_add(rows);
        next_row = numbers.end;
        let live: BooleanArray = numbers
            .clone()
            .map(|row| Some(!dead.contains(row)))
            .collect();
        let batch = filter_record_batch(&batch, &live)?;
        Ok((batch, numbers.filter(|row| !dead.contains(*row)).collect()))
    }))
}

/// The whole of an object.
pub(crate) async fn fetch(store: &dyn ObjectStore, path: &Path) -> Result<Bytes, TablesError> {
    let fail = |source| store_error(path.as_ref(), source);
    store
        .get(path)
        .await
        .map_err(fail)?
        .bytes()
        .await
        .map_err(fail)
}

/// A store's error on `path`: gone is [`TablesError::Expired`].
pub(crate) fn store_error(path: &str, source: object_store::Error) -> TablesError {
    match source {
        object_store::Error::NotFound { .. } => TablesError::Expired {
            path: path.to_owned(),
        },
        source => TablesError::Store {
            path: path.to_owned(),
            source,
        },
    }
}

/// Parquet's error on `path`: what [`SegmentObject`] said where it comes from there.
pub(crate) fn segment_error(path: &str, source: ParquetError) -> TablesError {
    match source {
        ParquetError::External(inner) => match inner.downcast() {
            Ok(error) => *error,
            Err(inner) => TablesError::Segment {
                path: path.to_owned(),
                source: ParquetError::External(inner),
            },
        },
        source => TablesError::Segment {
            path: path.to_owned(),
            source,
        },
    }
}
