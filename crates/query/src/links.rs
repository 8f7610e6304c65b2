//! `atproto.links`: every reference that a record makes, one row each, derived while the records are read.
//!
//! A filter on `did`, `collection`, `rkey` or `uri` (where a link comes from) reads less; one on a target does not.

use crate::derive::{Derivation, DeriveExec};
use crate::records::{tables_that_fit, union};
use crate::scan::{Scan, Snapshot};
use crate::stored::{project, stored_filters};
use crate::uri::{URI, names_uri};
use crate::view::{LinkRows, LinkSource, Rebuilder, TableDef, links_of, links_schema};
use arrow::array::{Array, AsArray, RecordBatch, StringArray};
use arrow::datatypes::{SchemaRef, TimestampMicrosecondType};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType, col};
use datafusion::physical_plan::ExecutionPlan;
use std::sync::Arc;

/// Columns of a link that are columns of the record it stands in.
const ORIGIN: [&str; 5] = ["did", "collection", "rkey", URI, "created_at"];

/// The provider of `atproto.links` in one view.
#[derive(Debug)]
pub(crate) struct LinksTable {
    snapshot: Arc<Snapshot>,
    schema: SchemaRef,
}

impl LinksTable {
    /// The links of all records.
    pub(crate) fn new(snapshot: Arc<Snapshot>) -> Self {
        Self { snapshot, schema: links_schema() }
    }
}

/// Whether a filter speaks only of where links come from: `created_at` and the rest mean the same in both.
fn is_of_origin(filter: &Expr) -> bool {
    names_uri(filter) || filter.column_refs().iter().all(|column| ORIGIN.contains(&column.name.as_str()))
}

#[async_trait]
impl TableProvider for LinksTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let filters: Vec<Expr> = filters.iter().filter(|filter| is_of_origin(filter)).cloned().collect();
        let mut parts: Vec<Arc<dyn ExecutionPlan>> = Vec::new();
        for table in tables_that_fit(&self.snapshot, state, &filters)? {
            let links = Links::new(Arc::clone(&table))?;
            let scan = Scan {
                table: &table,
                projection: links.columns(),
                filters: stored_filters(&table, &filters),
                limit: None, // A record may have no link at all.
            };
            if let Some(input) = self.snapshot.plan_if_any(state, scan).await? {
                parts.push(Arc::new(DeriveExec::new(input, Arc::new(links))));
            }
        }
        let all = union(parts, Arc::clone(&self.schema))?;
        let Some(projection) = projection else {
            return Ok(all);
        };
        let output = projection.iter().map(|place| self.schema.field(*place).name());
        project(state, all, output.map(|name| (col(name), name.clone())).collect())
    }
}

/// The links of one table's records.
#[derive(Debug)]
struct Links {
    table: Arc<TableDef>,
    rebuilder: Rebuilder,
    schema: SchemaRef,
}

impl Links {
    /// Columns of the record itself that a link repeats.
    const ORIGIN: [&'static str; 4] = ["did", "collection", "rkey", "created_at"];

    fn new(table: Arc<TableDef>) -> Result<Self> {
        let rebuilder = Rebuilder::new(&table).map_err(|error| DataFusionError::External(Box::new(error)))?;
        Ok(Self { table, rebuilder, schema: links_schema() })
    }

    /// The stored columns that links are derived from.
    fn columns(&self) -> Vec<usize> {
        let needed = |name: &str| Self::ORIGIN.contains(&name) || self.rebuilder.columns().iter().any(|c| c == name);
        let fields = self.table.schema.fields().iter().enumerate();
        fields.filter(|(_, field)| needed(field.name())).map(|(place, _)| place).collect()
    }
}

impl Derivation for Links {
    fn label(&self) -> String {
        format!("links, {}", self.table.name)
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn derive(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let records = self.rebuilder.open(batch).map_err(|error| DataFusionError::External(Box::new(error)))?;
        let (dids, rkeys) = (text_column(batch, "did")?, text_column(batch, "rkey")?);
        let lexicon = self.table.record_type();
        let collections = if lexicon.is_some() { None } else { Some(text_column(batch, "collection")?) };
        let created = batch
            .column_by_name("created_at")
            .and_then(|column| column.as_primitive_opt::<TimestampMicrosecondType>())
            .ok_or_else(|| DataFusionError::Internal("records have created_at".to_owned()))?;
        let mut rows = LinkRows::default();
        for row in 0..batch.num_rows() {
            let record = records.record(row).map_err(|error| DataFusionError::External(Box::new(error)))?;
            let links = links_of(&record, lexicon.map(Arc::as_ref));
            let collection = match (lexicon, collections) {
                (Some(record), _) => record.collection(),
                (None, Some(collections)) => collections.value(row),
                (None, None) => "",
            };
            let source = LinkSource {
                did: dids.value(row),
                collection,
                rkey: rkeys.value(row),
                created_at_us: created.is_valid(row).then(|| created.value(row)),
            };
            rows.push(&source, &links);
        }
        Ok(rows.finish())
    }
}

fn text_column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a StringArray> {
    let column = batch.column_by_name(name).and_then(|column| column.as_string_opt::<i32>());
    column.ok_or_else(|| DataFusionError::Internal(format!("{name} is a text column of records")))
}
