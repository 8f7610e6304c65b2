//! How Parquet's reader opens the segments of a scan: through their indexes and checksums.
//!
//! Opening costs no request when the index is cached: it holds the footer. Every page is checked before it is decoded.

use crate::view::{SegmentEntry, SegmentScan, Tables};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::ParquetFileReaderFactory;
use datafusion::error::{DataFusionError, Result};
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use parquet::arrow::async_reader::AsyncFileReader;
use std::collections::HashMap;
use std::sync::Arc;
use tables::segment::SegmentObject;

/// The segments of one scan, by path.
#[derive(Debug)]
pub(crate) struct SegmentFiles {
    tables: Tables,
    entries: HashMap<String, Arc<SegmentEntry>>,
}

impl SegmentFiles {
    /// Opens `segments` of `tables`.
    pub(crate) fn new(tables: &Tables, segments: &[&SegmentScan]) -> Self {
        let entries = segments
            .iter()
            .map(|scan| (scan.entry.path.clone(), Arc::clone(&scan.entry)))
            .collect();
        Self {
            tables: tables.clone(),
            entries,
        }
    }
}

impl ParquetFileReaderFactory for SegmentFiles {
    fn create_reader(
        &self,
        _partition_index: usize,
        file: PartitionedFile,
        _metadata_size_hint: Option<usize>,
        _metrics: &ExecutionPlanMetricsSet,
    ) -> Result<Box<dyn AsyncFileReader + Send>> {
        let path = file.object_meta.location.as_ref();
        let entry = self.entries.get(path).ok_or_else(|| {
            DataFusionError::Internal(format!("{path} is no segment of this scan"))
        })?;
        Ok(Box::new(SegmentObject::lazy(
            &self.tables,
            Arc::clone(entry),
        )))
    }
}
