//! A segment's bytes as Parquet's reader asks for them.
//!
//! Neighbouring ranges come in one GET, the footer comes from the segment's index, and every page is compared with its
//! checksum before the reader sees it: a damaged object gives an error that names it, never a wrong row.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use object_store::ObjectStore;
use object_store::path::Path;
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use tokio::sync::OnceCell;

use super::entry::SegmentEntry;
use super::index::KeyIndex;
use super::read::store_error;
use crate::error::{FormatError, TablesError};
use crate::view::Tables;

/// One segment, read through its checksums.
#[derive(Debug)]
pub struct SegmentObject {
    store: Arc<dyn ObjectStore>,
    path: Path,
    entry: Arc<SegmentEntry>,
    index: OnceCell<Arc<KeyIndex>>,
    tables: Option<Tables>,
}

impl SegmentObject {
    /// A segment whose index is at hand.
    #[must_use]
    pub fn new(
        store: Arc<dyn ObjectStore>,
        entry: Arc<SegmentEntry>,
        index: Arc<KeyIndex>,
    ) -> Self {
        let path = Path::from(entry.path.as_str());
        let index = OnceCell::new_with(Some(index));
        Self {
            store,
            path,
            entry,
            index,
            tables: None,
        }
    }

    /// A segment of `tables` whose index is read, or found in the cache, when the first byte is asked for.
    #[must_use]
    pub fn lazy(tables: &Tables, entry: Arc<SegmentEntry>) -> Self {
        let path = Path::from(entry.path.as_str());
        let store = Arc::clone(tables.bucket().store());
        Self {
            store,
            path,
            entry,
            index: OnceCell::new(),
            tables: Some(tables.clone()),
        }
    }

    async fn index(&self) -> Result<&Arc<KeyIndex>, ParquetError> {
        let load = async {
            let tables = self
                .tables
                .as_ref()
                .ok_or_else(|| damaged(&self.entry, FormatError::Field { field: "index" }))?;
            let reader = tables.cache().reader(tables.bucket(), &self.entry).await?;
            Ok(reader.index)
        };
        self.index.get_or_try_init(|| load).await.map_err(external)
    }

    async fn pages(&self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, ParquetError> {
        let pages = self.index().await?.pages();
        let mut around = Vec::with_capacity(ranges.len());
        for range in ranges {
            around.push(pages.around(range).ok_or_else(|| {
                external(damaged(&self.entry, FormatError::Field { field: "page" }))
            })?);
        }
        let read = self.store.get_ranges(&self.path, &around).await;
        let read = read.map_err(|source| external(store_error(&self.entry.path, source)))?;
        let mut wanted = Vec::with_capacity(ranges.len());
        for ((range, around), bytes) in ranges.iter().zip(&around).zip(read) {
            if !pages.hold(around, &bytes) {
                return Err(external(damaged(&self.entry, FormatError::Checksum)));
            }
            let start = usize::try_from(range.start - around.start).unwrap_or(usize::MAX);
            let length = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
            // Inside: `around` holds the range, and its pages are as long as they should be.
            wanted.push(bytes.slice(start..start + length));
        }
        Ok(wanted)
    }
}

impl AsyncFileReader for SegmentObject {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, ParquetError>> {
        async move { Ok(self.pages(&[range]).await?.pop().unwrap_or_default()) }.boxed()
    }

    fn get_byte_ranges(
        &mut self,
        ranges: Vec<Range<u64>>,
    ) -> BoxFuture<'_, Result<Vec<Bytes>, ParquetError>> {
        async move { self.pages(&ranges).await }.boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        _options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>, ParquetError>> {
        async move { Ok(Arc::clone(self.index().await?.metadata())) }.boxed()
    }
}

fn damaged(entry: &SegmentEntry, source: FormatError) -> TablesError {
    TablesError::Damaged {
        path: entry.path.clone(),
        source,
    }
}

fn external(error: TablesError) -> ParquetError {
    ParquetError::External(Box::new(error))
}
