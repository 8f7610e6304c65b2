//! An execution plan that computes rows from rows by a pure function of each batch.
//!
//! `atproto.records` and `atproto.links` are not stored: they are derived from the typed tables while they are read.
//! Keeps the partitions of its input, holds one batch at a time, and ends when its stream is dropped.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties,
};
use futures::StreamExt;
use std::fmt;
use std::sync::Arc;

/// A function from a batch of stored rows to a batch of derived rows.
pub(crate) trait Derivation: fmt::Debug + Send + Sync {
    /// What the plan is called in `EXPLAIN`.
    fn label(&self) -> String;

    /// The schema of the derived rows.
    fn schema(&self) -> SchemaRef;

    /// The derived rows of `batch`.
    fn derive(&self, batch: &RecordBatch) -> Result<RecordBatch>;
}

/// The plan: `derivation` over each batch of `input`.
#[derive(Debug)]
pub(crate) struct DeriveExec {
    input: Arc<dyn ExecutionPlan>,
    derivation: Arc<dyn Derivation>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl DeriveExec {
    /// A plan that applies `derivation` to each batch of `input`.
    pub(crate) fn new(input: Arc<dyn ExecutionPlan>, derivation: Arc<dyn Derivation>) -> Self {
        let partitioning = datafusion::physical_expr::Partitioning::UnknownPartitioning(
            input.output_partitioning().partition_count(),
        );
        let properties = Arc::new(PlanProperties::new(
            EquivalenceProperties::new(derivation.schema()),
            partitioning,
            input.pipeline_behavior(),
            input.boundedness(),
        ));
        Self {
            input,
            derivation,
            properties,
            metrics: ExecutionPlanMetricsSet::new(),
        }
    }
}

impl DisplayAs for DeriveExec {
    fn fmt_as(&self, _kind: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeriveExec: {}", self.derivation.label())
    }
}

impl ExecutionPlan for DeriveExec {
    fn name(&self) -> &'static str {
        "DeriveExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _visit: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let (Some(input), true) = (children.pop(), children.is_empty()) else {
            return Err(DataFusionError::Internal(
                "a derivation has one input".to_owned(),
            ));
        };
        Ok(Arc::new(Self::new(input, Arc::clone(&self.derivation))))
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let derivation = Arc::clone(&self.derivation);
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let rows = self.input.execute(partition, context)?.map(move |batch| {
            let _timer = metrics.elapsed_compute().timer();
            let derived = derivation.derive(&batch?)?;
            metrics.output_rows().add(derived.num_rows());
            Ok(derived)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(
            self.derivation.schema(),
            rows,
        )))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}
