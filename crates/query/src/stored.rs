//! A table that the bucket stores, as SQL sees it: its own columns, and for records the virtual `uri`.

use crate::scan::{Scan, Snapshot};
use crate::uri;
use crate::view::{TableDef, TableKind};
use arrow::array::{Array, AsArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::DFSchema;
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType, col};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::projection::ProjectionExec;
use std::collections::BTreeSet;
use std::sync::Arc;

/// One column of the table as SQL sees it.
#[derive(Debug, Clone)]
enum Shown {
    /// A column that is stored, by its place in the stored schema.
    Stored(usize),
    /// Computed from stored columns.
    Computed(Expr),
}

/// The provider of one stored table in one view.
#[derive(Debug)]
pub(crate) struct StoredTable {
    snapshot: Arc<Snapshot>,
    table: Arc<TableDef>,
    shown: Vec<Shown>,
    schema: SchemaRef,
}

impl StoredTable {
    /// The table with all its columns, `uri` in front if its rows are records.
    pub(crate) fn new(snapshot: Arc<Snapshot>, table: Arc<TableDef>) -> Self {
        let stored = &table.schema;
        let (mut fields, mut shown) = (Vec::new(), Vec::new());
        if let Some(uri) = uri_of(&table) {
            fields.push(Arc::new(Field::new(uri::URI, DataType::Utf8, true)));
            shown.push(Shown::Computed(uri));
        }
        for place in shown_places(&table) {
            fields.push(Arc::clone(&stored.fields()[place]));
            shown.push(Shown::Stored(place));
        }
        let schema = Arc::new(Schema::new(fields));
        Self {
            snapshot,
            table,
            shown,
            schema,
        }
    }

    /// The stored columns that `shown` needs, in the stored order.
    fn stored_columns(&self, shown: &[&Shown]) -> Result<Vec<usize>> {
        let mut needed = BTreeSet::new();
        for column in shown {
            match column {
                Shown::Stored(place) => {
                    needed.insert(*place);
                }
                Shown::Computed(expr) => {
                    for column in expr.column_refs() {
                        needed.insert(self.table.schema.index_of(&column.name)?);
                    }
                }
            }
        }
        Ok(needed.into_iter().collect())
    }
}

/// The expression of the virtual `uri`, if the table's rows are records.
pub(crate) fn uri_of(table: &TableDef) -> Option<Expr> {
    match &table.kind {
        TableKind::Record(record) => Some(uri::uri_expr(Some(record.collection()))),
        TableKind::Untyped => Some(uri::uri_expr(None)),
        _ => None,
    }
}

/// Events in the order in which one reads them; the columns of their key, `at` and `id`, mean nothing to a reader.
const EVENT_COLUMNS: [&str; 12] = [
    "time",
    "kind",
    "did",
    "operation",
    "collection",
    "rkey",
    "rev",
    "cid",
    "seq",
    "source",
    "indexed_at",
    "commit",
];

/// The stored columns that SQL shows, in the order in which it shows them.
fn shown_places(table: &TableDef) -> Vec<usize> {
    match table.kind {
        TableKind::Events => EVENT_COLUMNS
            .iter()
            .filter_map(|name| table.schema.index_of(name).ok())
            .collect(),
        _ => (0..table.schema.fields().len()).collect(),
    }
}

/// Columns that mean the same in every table of records.
const COMMON_COLUMNS: [&str; 10] = [
    "did",
    "rkey",
    "cid",
    "rev",
    "created_at",
    "time",
    "indexed_at",
    "source",
    "seq",
    "verification",
];
/// A column of the untyped table only: elsewhere a property may have this name.
pub(crate) const COLLECTION: &str = "collection";

/// Filters of a table's own columns in terms of what it stores; one of the virtual `uri` becomes what it implies.
fn stored_filters(table: &TableDef, filters: &[Expr]) -> Vec<Expr> {
    let stored = |filter: &&Expr| {
        filter
            .column_refs()
            .iter()
            .all(|c| table.schema.index_of(&c.name).is_ok())
    };
    let direct = filters
        .iter()
        .filter(|filter| !uri::names_uri(filter))
        .filter(stored)
        .cloned();
    direct.chain(implied_filters(table, filters)).collect()
}

/// Filters of columns that all records have, in terms of what `table` stores.
///
/// Others are left out, though the table may store a column of that name: there it is a property of the record.
pub(crate) fn common_filters(table: &TableDef, filters: &[Expr]) -> Vec<Expr> {
    let common = |filter: &&Expr| {
        filter
            .column_refs()
            .iter()
            .all(|column| is_common(table, &column.name))
    };
    filters
        .iter()
        .filter(common)
        .cloned()
        .chain(implied_filters(table, filters))
        .collect()
}

fn implied_filters(table: &TableDef, filters: &[Expr]) -> impl Iterator<Item = Expr> {
    let implied = uri_of(table)
        .map(|_| uri::implied(filters))
        .unwrap_or_default();
    let common = |filter: &Expr| {
        filter
            .column_refs()
            .iter()
            .all(|column| is_common(table, &column.name))
    };
    implied.into_iter().filter(common)
}

fn is_common(table: &TableDef, column: &str) -> bool {
    COMMON_COLUMNS.contains(&column)
        || (column == COLLECTION && matches!(table.kind, TableKind::Untyped))
}

/// Whether a filter speaks of the collection and nothing else, so that a table of one collection decides it whole.
pub(crate) fn is_of_collection(filter: &Expr) -> bool {
    let columns = filter.column_refs();
    !columns.is_empty()
        && columns.iter().all(|column| column.name == COLLECTION)
        && !filter.is_volatile()
}

/// Whether the rows of `collection` satisfy all of `filters` that speak of the collection.
pub(crate) fn collection_fits(
    state: &dyn Session,
    collection: &str,
    filters: &[Expr],
) -> Result<bool> {
    let schema = Arc::new(Schema::new(vec![Field::new(
        COLLECTION,
        DataType::Utf8,
        false,
    )]));
    let df_schema = DFSchema::try_from(Arc::clone(&schema))?;
    let row = RecordBatch::try_new(schema, vec![Arc::new(StringArray::from(vec![collection]))])?;
    for filter in filters
        .iter()
        .chain(&uri::implied(filters))
        .filter(|filter| is_of_collection(filter))
    {
        let filter = state.create_physical_expr(filter.clone(), &df_schema)?;
        let verdict = filter.evaluate(&row)?.into_array(1)?;
        if !verdict
            .as_boolean_opt()
            .is_some_and(|verdict| verdict.is_valid(0) && verdict.value(0))
        {
            return Ok(false);
        }
    }
    Ok(true)
}

#[async_trait]
impl TableProvider for StoredTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let all: Vec<usize> = (0..self.shown.len()).collect();
        let wanted = projection.unwrap_or(&all);
        let shown: Vec<&Shown> = wanted.iter().map(|place| &self.shown[*place]).collect();
        let columns = match shown
            .iter()
            .map(|column| stored_place(column))
            .collect::<Option<Vec<usize>>>()
        {
            Some(columns) => columns,
            None => self.stored_columns(&shown)?,
        };
        let input = self
            .snapshot
            .plan(
                state,
                Scan {
                    table: &self.table,
                    projection: columns,
                    filters: stored_filters(&self.table, filters),
                    limit,
                },
            )
            .await?;
        if shown.iter().all(|column| stored_place(column).is_some()) {
            return Ok(input);
        }
        let expressions = shown.iter().zip(wanted).map(|(column, place)| {
            let field = self.schema.field(*place);
            let expr = match column {
                Shown::Stored(_) => col(format!("\"{}\"", field.name())),
                Shown::Computed(expr) => expr.clone(),
            };
            Ok((expr, field.name().clone()))
        });
        project(state, input, expressions.collect::<Result<Vec<_>>>()?)
    }
}

fn stored_place(column: &Shown) -> Option<usize> {
    match column {
        Shown::Stored(place) => Some(*place),
        Shown::Computed(_) => None,
    }
}

/// A projection of `input` by logical expressions over its columns.
pub(crate) fn project(
    state: &dyn Session,
    input: Arc<dyn ExecutionPlan>,
    expressions: Vec<(Expr, String)>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let schema = DFSchema::try_from(input.schema())?;
    let expressions = expressions
        .into_iter()
        .map(|(expr, name)| Ok((state.create_physical_expr(expr, &schema)?, name)))
        .collect::<Result<Vec<(Arc<dyn PhysicalExpr>, String)>>>()?;
    Ok(Arc::new(ProjectionExec::try_new(expressions, input)?))
}
