//! Which segments a predicate can touch, judged by the statistics that the manifest's parts hold.
//!
//! Never drops a segment that could hold a matching row: where a statistic is missing, the segment stays.
//! Costs no I/O.

use crate::view::{ColumnStats, Scalar, SegmentScan};
use arrow::array::{ArrayRef, BooleanArray, UInt64Array};
use arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::{Column, ScalarValue};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_optimizer::pruning::{PruningPredicate, PruningPredicateBuilder};
use std::collections::HashSet;
use std::sync::Arc;

/// A predicate over containers of rows.
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
        Self {
            predicate,
            schema: Arc::clone(schema),
        }
    }

    /// The segments that may hold a row that satisfies the predicate.
    pub(crate) fn kept<'a>(&self, segments: &'a [SegmentScan]) -> Vec<&'a SegmentScan> {
        let keep = self.judge(&Segments {
            segments,
            schema: &self.schema,
        });
        let kept = segments
            .iter()
            .enumerate()
            .filter(|(place, _)| keep.get(*place).copied().unwrap_or(true));
        kept.map(|(_, segment)| segment).collect()
    }

    /// For each container whether it may hold a match; shorter than the containers where nothing is known.
    fn judge(&self, statistics: &Segments<'_>) -> Vec<bool> {
        // An error means that the statistics do not fit the predicate's types: then they prove nothing.
        self.predicate
            .as_ref()
            .and_then(|predicate| predicate.prune(statistics).ok())
            .unwrap_or_default()
    }
}

/// A statistic's value in the column's type, if it has one there.
pub(crate) fn scalar_value(value: &Scalar, data_type: &DataType) -> Option<ScalarValue> {
    match (value, data_type) {
        (Scalar::Int(value), DataType::Int64) => Some(ScalarValue::Int64(Some(*value))),
        (Scalar::Int(value), DataType::Timestamp(TimeUnit::Microsecond, zone)) => Some(
            ScalarValue::TimestampMicrosecond(Some(*value), zone.clone()),
        ),
        (Scalar::Text(value), DataType::Utf8) => Some(ScalarValue::Utf8(Some(value.clone()))),
        (Scalar::Boolean(value), DataType::Boolean) => Some(ScalarValue::Boolean(Some(*value))),
        _ => None,
    }
}

/// Segments' statistics as DataFusion asks for them.
struct Segments<'a> {
    segments: &'a [SegmentScan],
    schema: &'a SchemaRef,
}

impl Segments<'_> {
    fn bounds(
        &self,
        column: &Column,
        of: impl Fn(&ColumnStats) -> Option<&Scalar>,
    ) -> Option<ArrayRef> {
        let data_type = self.schema.field_with_name(&column.name).ok()?.data_type();
        let unknown = ScalarValue::try_from(data_type).ok()?;
        let values = self.segments.iter().map(|segment| {
            let value = segment.entry.columns.get(&column.name).and_then(&of);
            value
                .and_then(|value| scalar_value(value, data_type))
                .unwrap_or_else(|| unknown.clone())
        });
        ScalarValue::iter_to_array(values).ok()
    }
}

impl PruningStatistics for Segments<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bounds(column, |stats| stats.min.as_ref())
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bounds(column, |stats| stats.max.as_ref())
    }

    fn num_containers(&self) -> usize {
        self.segments.len()
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        let nulls = self
            .segments
            .iter()
            .map(|segment| segment.entry.columns.get(&column.name).map(|c| c.nulls));
        Some(Arc::new(UInt64Array::from_iter(nulls)))
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        Some(Arc::new(UInt64Array::from_iter_values(
            self.segments.iter().map(|segment| segment.entry.rows),
        )))
    }

    fn contained(&self, _column: &Column, _values: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}
