//! System tables that describe the view itself: they are made in memory when they are scanned.
//!
//! `system.segments` and `system.wal` cost no request beyond the view; `system.manifests` reads the roots that are
//! still there, of which a process reads each once.

use crate::scan::Snapshot;
use crate::view::{ChainError, Root};
use arrow::array::{
    ArrayRef, BooleanBuilder, Int64Builder, ListBuilder, RecordBatch, StringBuilder, StructBuilder,
    TimestampMicrosecondBuilder,
};
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use async_trait::async_trait;
use datafusion::catalog::memory::{DataSourceExec, MemorySourceConfig};
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use futures::{StreamExt, TryStreamExt, stream};
use std::sync::Arc;

/// Roots that are read at once.
const READS_MAX: usize = 16;

/// One of these tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Described {
    /// One row per segment of the view's version.
    Segments,
    /// One row per log object that the view's LIST showed.
    Wal,
    /// One row per manifest version that is still there, newest first.
    Manifests,
}

impl Described {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::Segments, Self::Wal, Self::Manifests];

    /// The table's name.
    pub(crate) fn table(self) -> &'static str {
        match self {
            Self::Segments => "segments",
            Self::Wal => "wal",
            Self::Manifests => "manifests",
        }
    }

    fn schema(self) -> SchemaRef {
        let text = |name: &str| Field::new(name, DataType::Utf8, false);
        let count = |name: &str| Field::new(name, DataType::Int64, false);
        let time = |name: &str| {
            Field::new(
                name,
                DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
                false,
            )
        };
        let flag = |name: &str| Field::new(name, DataType::Boolean, false);
        let fields = match self {
            Self::Segments => vec![
                text("table"),
                text("kind"),
                text("partition"),
                text("path"),
                count("rows"),
                count("live_rows"),
                count("bytes"),
                time("created_at"),
            ],
            Self::Wal => vec![
                text("writer"),
                count("seq"),
                count("bytes"),
                time("created_at"),
                flag("merged"),
                flag("in_view"),
            ],
            Self::Manifests => vec![
                count("version"),
                text("commit"),
                text("committer"),
                text("kind"),
                time("committed_at"),
                count("floor"),
                count("upload_floor"),
                Field::new("took", took_type(), false),
            ],
        };
        Arc::new(Schema::new(fields))
    }
}

fn took_fields() -> Fields {
    Fields::from(vec![
        Field::new("writer", DataType::Utf8, false),
        Field::new("from_seq", DataType::Int64, false),
        Field::new("to_seq", DataType::Int64, false),
    ])
}

fn took_type() -> DataType {
    DataType::List(Arc::new(Field::new(
        "item",
        DataType::Struct(took_fields()),
        true,
    )))
}

/// The provider of one of these tables in one view.
#[derive(Debug)]
pub(crate) struct DescribedTable {
    snapshot: Arc<Snapshot>,
    what: Described,
    schema: SchemaRef,
}

impl DescribedTable {
    /// The table `what` of `snapshot`'s view.
    pub(crate) fn new(snapshot: Arc<Snapshot>, what: Described) -> Self {
        Self {
            snapshot,
            what,
            schema: what.schema(),
        }
    }

    async fn rows(&self) -> Result<RecordBatch> {
        let columns = match self.what {
            Described::Segments => self.segments(),
            Described::Wal => self.wal(),
            Described::Manifests => manifests(&self.roots().await?),
        };
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }

    fn segments(&self) -> Vec<ArrayRef> {
        let (mut table, mut kind, mut partition, mut path) = (
            StringBuilder::new(),
            StringBuilder::new(),
            StringBuilder::new(),
            StringBuilder::new(),
        );
        let (mut rows, mut live, mut bytes) = (
            Int64Builder::new(),
            Int64Builder::new(),
            Int64Builder::new(),
        );
        let mut created = times();
        for entry in self.snapshot.view.segments().entries() {
            table.append_value(&entry.table);
            kind.append_value(entry.kind.as_str());
            partition.append_value(&entry.partition);
            path.append_value(&entry.path);
            rows.append_value(entry.rows as i64);
            live.append_value(entry.live_rows() as i64);
            bytes.append_value(entry.bytes as i64);
            created.append_value(entry.created_us);
        }
        vec![
            Arc::new(table.finish()),
            Arc::new(kind.finish()),
            Arc::new(partition.finish()),
            Arc::new(path.finish()),
            Arc::new(rows.finish()),
            Arc::new(live.finish()),
            Arc::new(bytes.finish()),
            Arc::new(created.finish()),
        ]
    }

    fn wal(&self) -> Vec<ArrayRef> {
        let view = &self.snapshot.view;
        let runs = view.tail().runs();
        let mut writers = StringBuilder::new();
        let (mut seqs, mut bytes, mut created) =
            (Int64Builder::new(), Int64Builder::new(), times());
        let (mut merged, mut in_view) = (BooleanBuilder::new(), BooleanBuilder::new());
        for (writer, objects) in &view.listing().writers {
            let merged_to = view.root().merged.get(writer);
            let run = runs.get(writer);
            for (seq, object) in objects {
                writers.append_value(writer.to_string());
                seqs.append_value(seq.0 as i64);
                bytes.append_value(object.size as i64);
                created.append_value(object.last_modified_us);
                merged.append_value(merged_to.is_some_and(|last| seq <= last));
                in_view.append_value(run.is_some_and(|(first, last)| first <= seq && seq <= last));
            }
        }
        vec![
            Arc::new(writers.finish()),
            Arc::new(seqs.finish()),
            Arc::new(bytes.finish()),
            Arc::new(created.finish()),
            Arc::new(merged.finish()),
            Arc::new(in_view.finish()),
        ]
    }

    /// The roots up to the view's version that can still be read.
    async fn roots(&self) -> Result<Vec<Arc<Root>>> {
        let view = &self.snapshot.view;
        let chain = view.tables().chain();
        let failed = |error: ChainError| DataFusionError::External(Box::new(error));
        let versions = chain.versions().await.map_err(failed)?;
        let versions = versions
            .into_iter()
            .filter(|listed| listed.version <= view.version());
        let loads = stream::iter(versions).map(|listed| async move { chain.load(&listed).await });
        let roots = loads.buffered(READS_MAX).map(|root| match root {
            Ok(root) => Ok(Some(root)),
            // Collected since the LIST: it is not there any more.
            Err(ChainError::Collected { .. }) => Ok(None),
            Err(error) => Err(failed(error)),
        });
        let mut roots: Vec<Arc<Root>> = roots
            .try_filter_map(|root| async move { Ok(root) })
            .try_collect()
            .await?;
        roots.sort_by_key(|root| std::cmp::Reverse(root.version));
        Ok(roots)
    }
}

fn times() -> TimestampMicrosecondBuilder {
    TimestampMicrosecondBuilder::new().with_timezone("UTC")
}

fn manifests(roots: &[Arc<Root>]) -> Vec<ArrayRef> {
    let (mut versions, mut commits, mut committers, mut kinds) = (
        Int64Builder::new(),
        StringBuilder::new(),
        StringBuilder::new(),
        StringBuilder::new(),
    );
    let (mut committed, mut floors, mut upload_floors) =
        (times(), Int64Builder::new(), Int64Builder::new());
    let mut took = ListBuilder::new(StructBuilder::from_fields(took_fields(), 0));
    for root in roots {
        versions.append_value(root.version.0 as i64);
        commits.append_value(root.commit.to_string());
        committers.append_value(&root.committer);
        kinds.append_value(root.kind.as_str());
        committed.append_value(root.committed_us);
        floors.append_value(root.floor.0 as i64);
        upload_floors.append_value(root.upload_floor.0 as i64);
        for taken in &root.took {
            let row = took.values();
            let cells = [taken.from.0 as i64, taken.to.0 as i64];
            if let Some(writer) = row.field_builder::<StringBuilder>(0) {
                writer.append_value(taken.writer.to_string());
            }
            for (place, cell) in cells.into_iter().enumerate() {
                if let Some(seq) = row.field_builder::<Int64Builder>(place + 1) {
                    seq.append_value(cell);
                }
            }
            row.append(true);
        }
        took.append(true);
    }
    vec![
        Arc::new(versions.finish()),
        Arc::new(commits.finish()),
        Arc::new(committers.finish()),
        Arc::new(kinds.finish()),
        Arc::new(committed.finish()),
        Arc::new(floors.finish()),
        Arc::new(upload_floors.finish()),
        Arc::new(took.finish()),
    ]
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
        let source =
            MemorySourceConfig::try_new(&[vec![rows]], self.schema(), projection.cloned())?;
        Ok(DataSourceExec::from_data_source(source.with_limit(limit)))
    }
}
