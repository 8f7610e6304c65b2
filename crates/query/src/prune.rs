//! Which segments a predicate can touch, judged by the statistics that the manifest's parts hold.
//!
//! Never drops a segment that could hold a matching row: where a statistic is missing, the segment stays.
//! Costs no I/O.

use crate::view::{ColumnStats, Scalar, SegmentEntry};
use arrow::array::{ArrayRef, BooleanArray, UInt64Array};
use arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::{Column, ScalarValue};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_optimizer::pruning::{PruningPredicate, PruningPredicateBuilder};
use std::collections::HashSet;
use std::sync::Arc;

/// A predicate over segments.
#[derive(Debug)]
pub(crate) struct Pruner {
    predicate: Option<PruningPredicate>,
    schema: SchemaRef,
}

impl Pruner {
    /// A pruner for rows of `schema` that must satisfy `predicate`.
    ///
    /// A predicate that says nothing about minima and maxima keeps everything.
    pub(crate) fn new(predicate: Option<&Arc<dyn PhysicalExpr>>, schema: &SchemaRef) -> Self {
        let predicate = predicate
            .and_then(|predicate| {
                let builder = PruningPredicateBuilder::new().with_file_schema(Arc::clone(schema));
                builder.try_build(Arc::clone(predicate)).ok()
            })
            .filter(|predicate| !predicate.always_true());
        Self { predicate, schema: Arc::clone(schema) }
    }

    /// Whether `entry` may hold a row that satisfies the predicate.
    pub(crate) fn keeps(&self, entry: &SegmentEntry) -> bool {
        self.keeps_container(&OneSegment { entry, schema: &self.schema })
    }

    /// Whether anything described by `statistics` (one container) may satisfy the predicate.
    pub(crate) fn keeps_container(&self, statistics: &impl PruningStatistics) -> bool {
        let Some(predicate) = &self.predicate else {
            return true;
        };
        // An error means that the statistics do not fit the predicate's types: then they prove nothing.
        predicate
            .prune(statistics)
            .map_or(true, |keep| keep.first().copied().unwrap_or(true))
    }
}

/// One segment's statistics as DataFusion asks for them.
struct OneSegment<'a> {
    entry: &'a SegmentEntry,
    schema: &'a SchemaRef,
}

impl OneSegment<'_> {
    fn bound(&self, column: &Column, of: impl Fn(&ColumnStats) -> Option<&Scalar>) -> Option<ArrayRef> {
        let value = of(self.entry.columns.get(&column.name)?)?;
        let data_type = self.schema.field_with_name(&column.name).ok()?.data_type();
        scalar_value(value, data_type)?.to_array().ok()
    }
}

/// A statistic's value in the column's type, if it has one there.
pub(crate) fn scalar_value(value: &Scalar, data_type: &DataType) -> Option<ScalarValue> {
    match (value, data_type) {
        (Scalar::Int(value), DataType::Int64) => Some(ScalarValue::Int64(Some(*value))),
        (Scalar::Int(value), DataType::Timestamp(TimeUnit::Microsecond, zone)) => {
            Some(ScalarValue::TimestampMicrosecond(Some(*value), zone.clone()))
        }
        (Scalar::Text(value), DataType::Utf8) => Some(ScalarValue::Utf8(Some(value.clone()))),
        (Scalar::Boolean(value), DataType::Boolean) => Some(ScalarValue::Boolean(Some(*value))),
        _ => None,
    }
}

impl PruningStatistics for OneSegment<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bound(column, |stats| stats.min.as_ref())
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bound(column, |stats| stats.max.as_ref())
    }

    fn num_containers(&self) -> usize {
        1
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        let nulls = self.entry.columns.get(&column.name)?.nulls;
        Some(Arc::new(UInt64Array::from(vec![nulls])))
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        Some(Arc::new(UInt64Array::from(vec![self.entry.rows])))
    }

    fn contained(&self, _column: &Column, _values: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}

/// A container in which one column has one value: a table of one collection.
pub(crate) struct OneValue<'a> {
    pub(crate) column: &'a str,
    pub(crate) value: &'a str,
}

impl OneValue<'_> {
    fn bound(&self, column: &Column) -> Option<ArrayRef> {
        (column.name == self.column)
            .then(|| ScalarValue::from(self.value).to_array().ok())
            .flatten()
    }
}

impl PruningStatistics for OneValue<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bound(column)
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bound(column)
    }

    fn num_containers(&self) -> usize {
        1
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        (column.name == self.column).then(|| Arc::new(UInt64Array::from(vec![0])) as ArrayRef)
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        None
    }

    fn contained(&self, column: &Column, values: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        if column.name != self.column {
            return None;
        }
        let holds = values
            .iter()
            .any(|value| value.try_as_str().flatten() == Some(self.value));
        Some(BooleanArray::from(vec![holds]))
    }
}
