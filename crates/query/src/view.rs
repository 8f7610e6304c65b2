//! The one place where this crate meets the `tables` crate: what a query reads, by name.
//!
//! Stands in for the read view until that lands; the names and signatures are the ones it will have.
//!
//! Everything else here says `crate::view::…`, so that what the tables promise can be read off one page.

#![allow(
    missing_docs,
    clippy::missing_errors_doc,
    reason = "replaced by the read view of `tables`"
)]

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::SchemaRef;
use object_store::ObjectStore;
use object_store::path::Path;
use roaring::RoaringBitmap;
use std::sync::Arc;
use std::time::Duration;

/// STUB Bucket
#[derive(Debug, Clone)]
pub struct Bucket {
    /// store
    pub store: Arc<dyn ObjectStore>,
    /// in-memory tables
    pub seeded: Arc<Vec<(Arc<TableDef>, Vec<RecordBatch>)>>,
}
impl Bucket {
    pub fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }
    pub fn now_us(&self) -> i64 {
        0
    }
    pub fn query_max(&self) -> Duration {
        Duration::from_secs(600)
    }
}

/// STUB error
#[derive(Debug, thiserror::Error)]
#[error("view")]
pub struct ViewError;

/// STUB name
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableName {
    pub schema: String,
    pub table: String,
}

/// STUB kind
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TableKind {
    Record { collection: String },
    Untyped,
    Events,
    Accounts,
    Identities,
    Heads,
    Floors,
    Cursors,
    Notices,
}

/// STUB def
#[derive(Debug, Clone)]
pub struct TableDef {
    pub name: TableName,
    pub aliases: Vec<TableName>,
    pub kind: TableKind,
    pub schema: SchemaRef,
}

/// STUB catalog
#[derive(Debug, Clone)]
pub struct Catalog {
    tables: Vec<Arc<TableDef>>,
}
impl Catalog {
    pub fn tables(&self) -> &[Arc<TableDef>] {
        &self.tables
    }
}

/// STUB entry
#[derive(Debug)]
pub struct SegmentEntry {
    pub path: Path,
    pub rows: u64,
    pub bytes: u64,
}
impl SegmentEntry {
    pub fn bounds(
        &self,
        _column: &str,
    ) -> Option<(Option<ArrayRef>, Option<ArrayRef>, Option<u64>)> {
        None
    }
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
    pub tail_exact: bool,
}

/// STUB view
#[derive(Debug)]
pub struct ReadView {
    catalog: Arc<Catalog>,
    seeded: Arc<Vec<(Arc<TableDef>, Vec<RecordBatch>)>>,
}
#[derive(Debug, Default)]
pub struct ViewCache {}
impl ReadView {
    pub async fn open(bucket: &Bucket, _cache: &ViewCache) -> Result<Self, ViewError> {
        let tables = bucket
            .seeded
            .iter()
            .map(|(def, _)| Arc::clone(def))
            .collect();
        Ok(Self {
            catalog: Arc::new(Catalog { tables }),
            seeded: Arc::clone(&bucket.seeded),
        })
    }
    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }
    pub async fn scan(
        &self,
        table: &TableDef,
        _prune: &(dyn Fn(&SegmentEntry) -> bool + Send + Sync),
    ) -> Result<TableScan, ViewError> {
        let tail = self
            .seeded
            .iter()
            .filter(|(def, _)| def.name == table.name)
            .flat_map(|(_, batches)| batches.iter().cloned())
            .collect();
        Ok(TableScan {
            segments: Vec::new(),
            tail,
            tail_exact: true,
        })
    }
}
