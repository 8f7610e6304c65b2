//! `atproto.records`: every live record of every type, the record itself as JSON.
//!
//! Nothing is stored twice: the rows are those of the typed tables, and the JSON is rebuilt from their columns, only
//! when `record` is asked for. A filter on `collection` or `uri` leaves tables of other collections unread.

use crate::derive::{Derivation, DeriveExec};
use crate::scan::{Scan, Snapshot};
use crate::stored::{
    COLLECTION, collection_fits, common_filters, is_of_collection, project, uri_of,
};
use crate::uri::URI;
use crate::view::{Rebuilder, TableDef, TableName};
use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::DFSchema;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType, col, lit};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::union::UnionExec;
use std::collections::BTreeSet;
use std::sync::Arc;

const RECORD: &str = "record";

/// The provider of `atproto.records` in one view.
#[derive(Debug)]
pub(crate) struct RecordsTable {
    snapshot: Arc<Snapshot>,
    schema: SchemaRef,
}

impl RecordsTable {
    /// The records of all types.
    pub(crate) fn new(snapshot: Arc<Snapshot>) -> Self {
        let text = |name: &str, null| Field::new(name, DataType::Utf8, null);
        let time = |name: &str| {
            Field::new(
                name,
                DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
                true,
            )
        };
        // All columns may be null here, since a union of tables is only as strict as its laxest.
        let schema = Schema::new(vec![
            text(URI, true),
            text("did", true),
            text(COLLECTION, true),
            text("rkey", true),
            text("cid", true),
            text("rev", true),
            time("created_at"),
            time("time"),
            time("indexed_at"),
            text("source", true),
            Field::new("seq", DataType::Int64, true),
            text("verification", true),
            text(RECORD, true),
        ]);
        Self {
            snapshot,
            schema: Arc::new(schema),
        }
    }

    /// The rows of one table in the columns of `output`, or nothing if it has none.
    async fn part(
        &self,
        state: &dyn Session,
        table: &Arc<TableDef>,
        output: &SchemaRef,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let wants_record = output.column_with_name(RECORD).is_some();
        let rebuilder =
            Rebuilder::new(table).map_err(|error| DataFusionError::External(Box::new(error)))?;
        let mut projection = common_columns(table, output)?;
        if wants_record {
            for column in rebuilder.columns() {
                projection.insert(table.schema.index_of(column)?);
            }
        }
        // Where the table has one collection, it was chosen by these filters; else its rows have to pass them.
        let of_collection = match table.record_type() {
            Some(_) => None,
            None => conjunction(
                filters
                    .iter()
                    .filter(|filter| is_of_collection(filter))
                    .cloned(),
            ),
        };
        if of_collection.is_some() {
            projection.insert(table.schema.index_of(COLLECTION)?);
        }
        let projection = projection.into_iter().collect();
        let limit = limit.filter(|_| of_collection.is_none());
        let scan = Scan {
            table,
            projection,
            filters: common_filters(table, filters),
            limit,
        };
        let Some(mut input) = self.snapshot.plan_if_any(state, scan).await? else {
            return Ok(None);
        };
        if let Some(filter) = of_collection {
            let schema = DFSchema::try_from(input.schema())?;
            input = Arc::new(FilterExec::try_new(
                state.create_physical_expr(filter, &schema)?,
                input,
            )?);
        }
        let input: Arc<dyn ExecutionPlan> = if wants_record {
            let json = RecordJson::new(table, rebuilder, &input.schema());
            Arc::new(DeriveExec::new(input, Arc::new(json)))
        } else {
            input
        };
        let expressions = output
            .fields()
            .iter()
            .map(|field| (expression(table, field.name()), field.name().clone()));
        project(state, input, expressions.collect()).map(Some)
    }
}

/// The expression of a column of `atproto.records` over the columns of `table`.
fn expression(table: &TableDef, column: &str) -> Expr {
    match (column, table.record_type()) {
        (URI, _) => uri_of(table).unwrap_or_else(|| lit("")),
        (COLLECTION, Some(record)) => lit(record.collection()),
        _ => col(column),
    }
}

/// The stored columns that the columns of `output` are made of.
fn common_columns(table: &TableDef, output: &SchemaRef) -> Result<BTreeSet<usize>> {
    let mut places = BTreeSet::new();
    for field in output
        .fields()
        .iter()
        .filter(|field| field.name() != RECORD)
    {
        for column in expression(table, field.name()).column_refs() {
            places.insert(table.schema.index_of(&column.name)?);
        }
    }
    Ok(places)
}

/// The record tables that `filters` leave something to answer.
pub(crate) fn tables_that_fit(
    snapshot: &Snapshot,
    state: &dyn Session,
    filters: &[Expr],
) -> Result<Vec<Arc<TableDef>>> {
    let mut fitting = Vec::new();
    for table in snapshot
        .view
        .catalog()
        .tables()
        .filter(|table| table.is_records())
    {
        let fits = match table.record_type() {
            Some(record) => collection_fits(state, record.collection(), filters)?,
            None => true,
        };
        if fits {
            fitting.push(Arc::clone(table));
        }
    }
    Ok(fitting)
}

#[async_trait]
impl TableProvider for RecordsTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        let exact = |filter: &&Expr| match is_of_collection(filter) {
            true => TableProviderFilterPushDown::Exact,
            false => TableProviderFilterPushDown::Inexact,
        };
        Ok(filters.iter().map(exact).collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let output = match projection {
            Some(projection) => Arc::new(self.schema.project(projection)?),
            None => Arc::clone(&self.schema),
        };
        let mut parts = Vec::new();
        for table in tables_that_fit(&self.snapshot, state, filters)? {
            parts.extend(self.part(state, &table, &output, filters, limit).await?);
        }
        union(parts, output)
    }
}

/// All rows of `parts`, which have the columns of `output`.
pub(crate) fn union(
    mut parts: Vec<Arc<dyn ExecutionPlan>>,
    output: SchemaRef,
) -> Result<Arc<dyn ExecutionPlan>> {
    match parts.len() {
        0 => Ok(Arc::new(EmptyExec::new(output))),
        1 => Ok(parts.remove(0)),
        _ => UnionExec::try_new(parts),
    }
}

/// Adds the column `record` to columns of a table.
#[derive(Debug)]
struct RecordJson {
    table: TableName,
    rebuilder: Rebuilder,
    schema: SchemaRef,
}

impl RecordJson {
    fn new(table: &TableDef, rebuilder: Rebuilder, input: &Schema) -> Self {
        let mut fields = input.fields().to_vec();
        // A property may be called `record` too: the derived column takes its place.
        fields.retain(|field| field.name() != RECORD);
        fields.push(Arc::new(Field::new(RECORD, DataType::Utf8, false)));
        Self {
            table: table.name.clone(),
            rebuilder,
            schema: Arc::new(Schema::new(fields)),
        }
    }
}

impl Derivation for RecordJson {
    fn label(&self) -> String {
        format!("record as JSON, {}", self.table)
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn derive(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let json = self
            .rebuilder
            .json_column(batch)
            .map_err(|error| DataFusionError::External(Box::new(error)))?;
        let stored = batch.schema();
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.schema.fields().len());
        for (field, column) in stored.fields().iter().zip(batch.columns()) {
            if field.name() != RECORD {
                columns.push(Arc::clone(column));
            }
        }
        columns.push(Arc::new(json));
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        Ok(RecordBatch::try_new_with_options(
            Arc::clone(&self.schema),
            columns,
            &options,
        )?)
    }
}
