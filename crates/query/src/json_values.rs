//! JSON values in an answer: sent as their text.
//!
//! `record -> 'x'` is a union of the types that JSON has, for which neither CSV nor most clients have a form. Inside a
//! query it stays one, so that casts and comparisons read the value itself.

use arrow::datatypes::{DataType, Field};
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, cast};
use datafusion_functions_json::{JSON_UNION_DATA_TYPE, udfs};

/// The same plan with each column of JSON values as JSON text.
pub(crate) fn as_text(plan: LogicalPlan) -> Result<LogicalPlan> {
    let is_json = |field: &Field| field.data_type() == &*JSON_UNION_DATA_TYPE;
    if !plan.schema().fields().iter().any(|field| is_json(field)) {
        return Ok(plan);
    }
    let columns: Vec<Expr> = plan
        .schema()
        .iter()
        .map(|(qualifier, field)| {
            let column = Expr::Column((qualifier, field).into());
            match is_json(field) {
                // Text is Utf8 everywhere else too.
                true => cast(
                    udfs::json_union_to_text_udf().call(vec![column]),
                    DataType::Utf8,
                )
                .alias_qualified(qualifier.cloned(), field.name()),
                false => column,
            }
        })
        .collect();
    LogicalPlanBuilder::from(plan).project(columns)?.build()
}
