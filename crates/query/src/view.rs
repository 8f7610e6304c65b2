//! The one place where this crate meets the `tables` crate: what a query reads, by name.
//!
//! Stands in for the read view until that lands; the names and signatures are the ones it will have.
//!
//! Everything else here says `crate::view::…`, so that what the tables promise can be read off one page.

#![allow(missing_docs, clippy::missing_errors_doc, reason = "replaced by the read view of `tables`")]

use arrow::array::RecordBatch;
use object_store::ObjectStore;
use roaring::RoaringBitmap;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub use tables::schema::{Catalog, TableDef, TableKind, TableName};

pub type Seeded = Arc<BTreeMap<TableName, Vec<RecordBatch>>>;

/// STUB Bucket
#[derive(Debug, Clone)]
pub struct Bucket {
    /// store
    pub store: Arc<dyn ObjectStore>,
    /// in-memory tables
    pub seeded: Seeded,
}
impl Bucket {
    pub fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }
    pub fn query_max(&self) -> Duration {
        Duration::from_secs(600)
    }
}

/// STUB error
#[derive(Debug, thiserror::Error)]
#[error("view")]
pub struct ViewError;

/// A value of a column, as statistics keep it. Timestamps are µs since the epoch.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd)]
pub enum Scalar {
    /// An integer or a timestamp.
    Int(i64),
    /// A text.
    Text(String),
    /// A boolean.
    Boolean(bool),
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct ColumnStats {
    pub nulls: u64,
    pub min: Option<Scalar>,
    pub max: Option<Scalar>,
}

/// STUB entry
#[derive(Debug)]
pub struct SegmentEntry {
    pub path: String,
    pub rows: u64,
    pub bytes: u64,
    pub columns: BTreeMap<String, ColumnStats>,
}

/// STUB scan
#[derive(Debug)]
pub struct SegmentScan {
    pub entry: Arc<SegmentEntry>,
    pub dead: Arc<RoaringBitmap>,
}
/// STUB scan
#[derive(Debug)]
pub struct TableScan {
    pub segments: Vec<SegmentScan>,
    pub tail: Vec<RecordBatch>,
}

/// STUB view
#[derive(Debug)]
pub struct ReadView {
    catalog: Arc<Catalog>,
    seeded: Seeded,
}
#[derive(Debug, Default)]
pub struct ViewCache {}
impl ReadView {
    pub async fn open(bucket: &Bucket, _cache: &ViewCache) -> Result<Self, ViewError> {
        Ok(Self { catalog: Arc::new(Catalog::builtin()), seeded: Arc::clone(&bucket.seeded) })
    }
    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }
    pub async fn scan(
        &self,
        table: &TableDef,
        _prune: &(dyn Fn(&SegmentEntry) -> bool + Send + Sync),
    ) -> Result<TableScan, ViewError> {
        Ok(TableScan { segments: Vec::new(), tail: self.seeded.get(&table.name).cloned().unwrap_or_default() })
    }
}

/// STUB links
#[derive(Debug)]
pub struct Link {
    pub target: String,
    pub target_did: Option<String>,
    pub target_collection: Option<String>,
    pub path: String,
}

/// The record of each row, as JSON text.
pub fn json_of_rows(_table: &TableDef, batch: &RecordBatch) -> Result<Vec<String>, ViewError> {
    Ok(vec!["{}".to_owned(); batch.num_rows()])
}

/// The links of each row.
pub fn links_of_rows(_table: &TableDef, batch: &RecordBatch) -> Result<Vec<Vec<Link>>, ViewError> {
    Ok((0..batch.num_rows()).map(|_| Vec::new()).collect())
}
