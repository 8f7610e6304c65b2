//! One stored table of a view as an execution plan: Parquet segments without their dead rows, and the tail's batches.
//!
//! Guarantees that each live row comes once and no dead row comes at all: dead rows are cut out by a row selection
//! that rides on each file, so Parquet never decodes them. Row counts are exact, so `count(*)` reads no data.
//! Segments that came before their table, or its newest columns, are shredded anew while they are read.
//! Filters are used to read less, never to decide: the plan above filters again.
//! Knows nothing of virtual columns; [`crate::stored`] adds them.

use crate::derive::{Derivation, DeriveExec};
use crate::prune::{Pruner, scalar_value};
use crate::segments::SegmentFiles;
use crate::view::{ColumnStats, ReadView, Reshred, Reshredder, Scalar, SegmentScan, TableDef};
use arrow::array::RecordBatch;
use arrow::datatypes::{Field, SchemaRef};
use datafusion::catalog::Session;
use datafusion::catalog::memory::{DataSourceExec, MemorySourceConfig};
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, DFSchema, Statistics};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::ParquetRowSelection;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::utils::conjunction;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::union::UnionExec;
use parquet::arrow::arrow_reader::{RowSelection, RowSelector};
use std::sync::Arc;

/// A view and what it takes to read its objects.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    pub(crate) view: Arc<ReadView>,
    pub(crate) store_url: ObjectStoreUrl,
}

/// What to read of a stored table.
#[derive(Debug)]
pub(crate) struct Scan<'a> {
    pub(crate) table: &'a Arc<TableDef>,
    /// Columns of the table's own schema, in the order of the output.
    pub(crate) projection: Vec<usize>,
    /// Filters over columns of the table's own schema.
    pub(crate) filters: Vec<Expr>,
    pub(crate) limit: Option<usize>,
}

impl Snapshot {
    /// The plan that reads `scan`, or nothing when no segment and no batch is left to read.
    pub(crate) async fn plan_if_any(
        &self,
        state: &dyn Session,
        scan: Scan<'_>,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let schema = Arc::clone(&scan.table.schema);
        let predicate = physical_predicate(state, &scan.filters, &schema)?;
        let pruner = Pruner::new(predicate.as_ref(), &schema);
        let found = self
            .view
            .scan(scan.table)
            .await
            .map_err(|error| DataFusionError::External(Box::new(error)))?;
        let segments: Vec<&SegmentScan> = pruner
            .kept(&found.segments)
            .into_iter()
            .filter(|segment| live_rows(segment) > 0)
            .collect();
        let mut parts: Vec<Arc<dyn ExecutionPlan>> = Vec::new();
        if !segments.is_empty() {
            parts.push(self.segments(state, &scan, &segments, predicate)?);
        }
        for from in sources(&found.reshred) {
            parts.push(self.reshred(state, &scan, from, &found.reshred)?);
        }
        if found.tail.num_rows() > 0 {
            parts.push(tail(&found.tail, &schema, &scan)?);
        }
        Ok(match parts.len() {
            0 => None,
            1 => parts.pop(),
            _ => Some(UnionExec::try_new(parts)?),
        })
    }

    /// The plan that reads `scan`.
    pub(crate) async fn plan(
        &self,
        state: &dyn Session,
        scan: Scan<'_>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = Arc::new(scan.table.schema.project(&scan.projection)?);
        Ok(self
            .plan_if_any(state, scan)
            .await?
            .unwrap_or_else(|| Arc::new(EmptyExec::new(schema))))
    }

    /// The plan that shreds anew those segments of `found` that have the columns of `from`.
    fn reshred(
        &self,
        state: &dyn Session,
        scan: &Scan<'_>,
        from: &Arc<TableDef>,
        found: &[Reshred],
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let rows = ReshredRows::new(from, scan.table)?;
        let fields = from.schema.fields().iter().enumerate();
        let stored = Scan {
            table: from,
            projection: fields
                .filter(|(_, field)| rows.reshredder.reads(field.name()))
                .map(|(place, _)| place)
                .collect(),
            filters: Vec::new(),
            limit: None,
        };
        let segments: Vec<&SegmentScan> = found
            .iter()
            .filter(|reshred| reshred.from.name == from.name)
            .map(|reshred| &reshred.segment)
            .collect();
        let input = self.segments(state, &stored, &segments, None)?;
        let shredded = Arc::new(DeriveExec::new(input, Arc::new(rows)));
        let columns = scan.projection.iter().map(|place| {
            let name = scan.table.schema.field(*place).name();
            let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new(name, *place));
            (column, name.clone())
        });
        let columns: Vec<_> = columns.collect();
        Ok(Arc::new(ProjectionExec::try_new(columns, shredded)?))
    }

    fn segments(
        &self,
        state: &dyn Session,
        scan: &Scan<'_>,
        segments: &[&SegmentScan],
        predicate: Option<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = &scan.table.schema;
        let files: Vec<PartitionedFile> = segments.iter().map(|segment| file_of(segment)).collect();
        let readers = SegmentFiles::new(self.view.tables(), segments);
        let options = state.table_options().parquet.clone();
        let mut source = ParquetSource::new(Arc::clone(schema))
            .with_table_parquet_options(options)
            .with_parquet_file_reader_factory(Arc::new(readers));
        if let Some(predicate) = predicate {
            source = source.with_predicate(predicate);
        }
        let groups = FileGroup::new(files).split_files(state.config().target_partitions());
        let config = FileScanConfigBuilder::new(self.store_url.clone(), Arc::new(source))
            .with_file_groups(groups)
            .with_statistics(statistics(segments, schema, &scan.projection))
            .with_limit(scan.limit)
            .with_projection_indices(Some(scan.projection.clone()))?
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }
}

/// The tables whose columns the segments have, each once.
fn sources(found: &[Reshred]) -> Vec<&Arc<TableDef>> {
    let mut sources: Vec<&Arc<TableDef>> = Vec::new();
    for reshred in found.iter().filter(|found| live_rows(&found.segment) > 0) {
        if !sources.iter().any(|from| from.name == reshred.from.name) {
            sources.push(&reshred.from);
        }
    }
    sources
}

/// Rows of a table, made of rows that came before it or before its newest columns.
#[derive(Debug)]
struct ReshredRows {
    table: Arc<TableDef>,
    reshredder: Reshredder,
}

impl ReshredRows {
    fn new(from: &TableDef, table: &Arc<TableDef>) -> Result<Self> {
        let reshredder = Reshredder::new(from, table)
            .map_err(|error| DataFusionError::External(Box::new(error)))?;
        Ok(Self {
            table: Arc::clone(table),
            reshredder,
        })
    }
}

impl Derivation for ReshredRows {
    fn label(&self) -> String {
        format!("shredded anew, {}", self.table.name)
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.table.schema)
    }

    fn derive(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        self.reshredder
            .rows(batch)
            .map_err(|error| DataFusionError::External(Box::new(error)))
    }
}

fn live_rows(segment: &SegmentScan) -> u64 {
    segment.rows()
}

/// What is known of the segments without reading them: rows exactly, bounds and nulls exactly where no row is dead.
fn statistics(segments: &[&SegmentScan], schema: &SchemaRef, projection: &[usize]) -> Statistics {
    let rows: u64 = segments.iter().map(|segment| live_rows(segment)).sum();
    let bytes: u64 = segments.iter().map(|segment| segment.entry.bytes).sum();
    let mut statistics = Statistics::new_unknown(schema);
    statistics.num_rows = usize::try_from(rows).map_or(Precision::Absent, Precision::Exact);
    statistics.total_byte_size =
        usize::try_from(bytes).map_or(Precision::Absent, Precision::Inexact);
    let exact = segments.iter().all(|segment| segment.dead.is_empty());
    for place in projection {
        let known = column_statistics(segments, schema.field(*place));
        statistics.column_statistics[*place] = if exact { known } else { known.to_inexact() };
    }
    statistics
}

fn column_statistics(segments: &[&SegmentScan], field: &Field) -> ColumnStatistics {
    let of_segments: Option<Vec<_>> = segments
        .iter()
        .map(|scan| scan.entry.columns.get(field.name()))
        .collect();
    let Some(columns) = of_segments else {
        return ColumnStatistics::new_unknown();
    };
    let value = |bound: Option<&Scalar>| {
        let value = bound.and_then(|bound| scalar_value(bound, field.data_type()));
        value.map_or(Precision::Absent, Precision::Exact)
    };
    let all = |of: fn(&ColumnStats) -> Option<&Scalar>| -> Option<Vec<&Scalar>> {
        // A segment of nulls has no bounds and does not take part in them.
        let with_values = segments
            .iter()
            .zip(&columns)
            .filter(|(scan, column)| column.nulls < scan.entry.rows);
        with_values.map(|(_, column)| of(column)).collect()
    };
    let by = |a: &&Scalar, b: &&Scalar| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal);
    let min = all(|column| column.min.as_ref()).and_then(|bounds| bounds.into_iter().min_by(by));
    let max = all(|column| column.max.as_ref()).and_then(|bounds| bounds.into_iter().max_by(by));
    let nulls: u64 = columns.iter().map(|column| column.nulls).sum();
    let mut statistics = ColumnStatistics::new_unknown();
    statistics.null_count = usize::try_from(nulls).map_or(Precision::Absent, Precision::Exact);
    statistics.min_value = value(min);
    statistics.max_value = value(max);
    statistics
}

fn file_of(segment: &SegmentScan) -> PartitionedFile {
    let file = PartitionedFile::new(segment.entry.path.as_str(), segment.entry.bytes);
    if segment.dead.is_empty() {
        return file;
    }
    file.with_extension(ParquetRowSelection::new(without_dead(segment)))
}

/// All rows of the segment but the dead ones, as runs.
fn without_dead(segment: &SegmentScan) -> RowSelection {
    let rows = usize::try_from(segment.entry.rows).unwrap_or(usize::MAX);
    let mut runs: Vec<RowSelector> = Vec::new();
    let mut next = 0usize;
    for row in segment.dead.iter() {
        let row = row as usize;
        if row >= rows {
            break;
        }
        if row > next {
            runs.push(RowSelector::select(row - next));
        }
        match runs.last_mut() {
            Some(run) if run.skip && row == next => run.row_count += 1,
            _ => runs.push(RowSelector::skip(1)),
        }
        next = row + 1;
    }
    if next < rows {
        runs.push(RowSelector::select(rows - next));
    }
    RowSelection::from(runs)
}

fn tail(rows: &RecordBatch, schema: &SchemaRef, scan: &Scan<'_>) -> Result<Arc<dyn ExecutionPlan>> {
    let source = MemorySourceConfig::try_new(
        &[vec![rows.clone()]],
        Arc::clone(schema),
        Some(scan.projection.clone()),
    )?
    .with_limit(scan.limit);
    Ok(DataSourceExec::from_data_source(source))
}

fn physical_predicate(
    state: &dyn Session,
    filters: &[Expr],
    schema: &SchemaRef,
) -> Result<Option<Arc<dyn PhysicalExpr>>> {
    let Some(predicate) = conjunction(filters.iter().cloned()) else {
        return Ok(None);
    };
    let schema = DFSchema::try_from(Arc::clone(schema))?;
    state.create_physical_expr(predicate, &schema).map(Some)
}
