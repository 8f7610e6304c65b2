//! System tables that describe the view itself: they are made in memory when they are scanned.

use crate::scan::Snapshot;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::memory::{DataSourceExec, MemorySourceConfig};
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use std::sync::Arc;

/// One of these tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Described {}

/// The provider of one of these tables in one view.
#[derive(Debug)]
pub(crate) struct DescribedTable {
    snapshot: Arc<Snapshot>,
    what: Described,
    schema: SchemaRef,
}

impl DescribedTable {
    async fn rows(&self) -> Result<RecordBatch> {
        let _ = &self.snapshot;
        match self.what {}
    }
}

#[async_trait]
impl TableProvider for DescribedTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let rows = self.rows().await?;
        let source = MemorySourceConfig::try_new(&[vec![rows]], self.schema(), projection.cloned())?;
        Ok(DataSourceExec::from_data_source(source.with_limit(limit)))
    }
}
