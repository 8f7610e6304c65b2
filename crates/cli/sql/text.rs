//! Makes text of what CSV has no form for: lists and structs become JSON, bytes become hexadecimal.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, StringArray, StringBuilder, StructArray};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::error::ArrowError;
use arrow::json::LineDelimitedWriter;

/// The same rows, with every nested column as JSON text.
pub(crate) fn flat(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let mut fields = Vec::with_capacity(batch.num_columns());
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(batch.num_columns());
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        if column.data_type().is_nested() {
            fields.push(Field::new(field.name(), DataType::Utf8, true));
            columns.push(Arc::new(json_text(column)?));
        } else {
            fields.push(field.as_ref().clone());
            columns.push(Arc::clone(column));
        }
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
}

/// One JSON text per value of `column`, null where it is null.
fn json_text(column: &ArrayRef) -> Result<StringArray, ArrowError> {
    const KEY: &str = "v";
    let field = Arc::new(Field::new(KEY, column.data_type().clone(), true));
    let wrapped = RecordBatch::from(StructArray::from(vec![(field, Arc::clone(column))]));
    let mut lines = LineDelimitedWriter::new(Vec::new());
    lines.write(&wrapped)?;
    lines.finish()?;
    let lines = lines.into_inner();
    let mut texts = StringBuilder::new();
    // Each line is `{"v":…}`; a null has no `v`.
    let whole = String::from_utf8_lossy(&lines);
    let mut lines = whole.lines();
    for row in 0..column.len() {
        let line = lines.next().unwrap_or_default();
        let value = line
            .strip_prefix("{\"v\":")
            .and_then(|rest| rest.strip_suffix('}'));
        texts.append_option(value.filter(|_| column.is_valid(row)));
    }
    Ok(texts.finish())
}
