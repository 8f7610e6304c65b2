//! Prints rows as they arrive, in the format that was asked for.
//!
//! All but tables are written batch by batch, so an answer of any size passes in bounded memory. A table is lined up
//! as a whole, so it shows at most [`TABLE_ROWS_MAX`] rows and says when there were more.

use std::io::{self, Write};

use anyhow::Result;
use arrow::array::RecordBatch;
use arrow::csv::WriterBuilder as CsvBuilder;
use arrow::datatypes::SchemaRef;
use arrow::ipc::writer::StreamWriter;
use arrow::json::writer::{
    JsonArray, LineDelimited, Writer as JsonWriter, WriterBuilder as JsonBuilder,
};
use arrow::util::pretty::pretty_format_batches_with_schema;
use futures::TryStreamExt as _;

use super::Rows;
use crate::config::Format;

/// The most rows that a table shows.
const TABLE_ROWS_MAX: usize = 10_000;

/// Prints all of `rows` to `out` and returns how many there were.
///
/// # Errors
/// When the query fails in the middle, or when `out` can't be written; [`io::ErrorKind::BrokenPipe`] is for the
/// caller to take as an end.
pub(crate) async fn print(rows: Rows, format: Format, out: &mut impl Write) -> Result<usize> {
    let Rows {
        schema,
        mut batches,
    } = rows;
    let mut count = 0;
    let mut printer = Printer::new(format, &schema, out)?;
    while let Some(batch) = batches.try_next().await? {
        count += batch.num_rows();
        printer.write(batch)?;
    }
    printer.finish()?;
    Ok(count)
}

enum Printer<W: Write> {
    Table {
        schema: SchemaRef,
        shown: Vec<RecordBatch>,
        rows: usize,
        left_out: usize,
        out: W,
    },
    Csv {
        schema: SchemaRef,
        header: bool,
        out: W,
    },
    Json(JsonWriter<W, JsonArray>),
    Ndjson(JsonWriter<W, LineDelimited>),
    Arrow(Box<StreamWriter<W>>),
}

impl<W: Write> Printer<W> {
    fn new(format: Format, schema: &SchemaRef, out: W) -> Result<Self> {
        // Explicit nulls, so that each row has all columns.
        let json = || JsonBuilder::new().with_explicit_nulls(true);
        Ok(match format {
            Format::Table => Printer::Table {
                schema: SchemaRef::clone(schema),
                shown: Vec::new(),
                rows: 0,
                left_out: 0,
                out,
            },
            Format::Csv => Printer::Csv {
                schema: SchemaRef::clone(schema),
                header: true,
                out,
            },
            Format::Json => Printer::Json(json().build(out)),
            Format::Ndjson => Printer::Ndjson(json().build(out)),
            Format::Arrow => Printer::Arrow(Box::new(StreamWriter::try_new(out, schema)?)),
        })
    }

    fn write(&mut self, batch: RecordBatch) -> Result<()> {
        match self {
            Printer::Table {
                shown,
                rows,
                left_out,
                ..
            } => {
                let taken = batch.num_rows().min(TABLE_ROWS_MAX - *rows);
                *left_out += batch.num_rows() - taken;
                *rows += taken;
                if taken > 0 {
                    shown.push(batch.slice(0, taken));
                }
            }
            Printer::Csv { header, out, .. } => {
                CsvBuilder::new()
                    .with_header(*header)
                    .build(out)
                    .write(&super::text::flat(&batch)?)?;
                *header = false;
            }
            Printer::Json(writer) => writer.write(&batch)?,
            Printer::Ndjson(writer) => writer.write(&batch)?,
            Printer::Arrow(writer) => writer.write(&batch)?,
        }
        Ok(())
    }

    fn finish(self) -> Result<()> {
        match self {
            Printer::Table {
                schema,
                shown,
                left_out,
                mut out,
                ..
            } => {
                writeln!(
                    out,
                    "{}",
                    pretty_format_batches_with_schema(schema, &shown)?
                )?;
                if left_out > 0 {
                    eprintln!(
                        "… and {left_out} more rows; --format csv, json, ndjson or arrow prints all"
                    );
                }
                out.flush()?;
            }
            Printer::Csv {
                schema,
                header,
                mut out,
            } => {
                if header {
                    let empty = super::text::flat(&RecordBatch::new_empty(schema))?;
                    CsvBuilder::new()
                        .with_header(true)
                        .build(&mut out)
                        .write(&empty)?;
                }
                out.flush()?;
            }
            Printer::Json(mut writer) => {
                writer.finish()?;
                let mut out = writer.into_inner();
                writeln!(out)?;
                out.flush()?;
            }
            Printer::Ndjson(mut writer) => {
                writer.finish()?;
                writer.into_inner().flush()?;
            }
            Printer::Arrow(mut writer) => {
                writer.finish()?;
                writer.into_inner()?.flush()?;
            }
        }
        Ok(())
    }
}

/// Whether an error is that nobody reads our output any more.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let io = cause.downcast_ref::<io::Error>();
        let arrow = cause.downcast_ref::<arrow::error::ArrowError>();
        io.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
            || arrow.is_some_and(|error| {
                matches!(error, arrow::error::ArrowError::IoError(_, error) if error.kind() == io::ErrorKind::BrokenPipe)
            })
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use std::sync::Arc;

    use arrow::array::{Int64Array, ListArray, StringArray};
    use arrow::datatypes::Int32Type;
    use futures::StreamExt as _;

    use super::*;

    fn rows(batches: usize) -> Rows {
        let lists =
            ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None]), None]);
        let batch = RecordBatch::try_from_iter_with_nullable([
            ("n", Arc::new(Int64Array::from(vec![1, 2])) as _, false),
            (
                "text",
                Arc::new(StringArray::from(vec![Some("a, \"b\""), None])) as _,
                true,
            ),
            ("list", Arc::new(lists) as _, true),
        ])
        .unwrap();
        let schema = batch.schema();
        Rows {
            schema,
            batches: futures::stream::iter(vec![batch; batches].into_iter().map(Ok)).boxed(),
        }
    }

    async fn printed(format: Format, batches: usize) -> (usize, Vec<u8>) {
        let mut out = Vec::new();
        let count = print(rows(batches), format, &mut out).await.unwrap();
        (count, out)
    }

    #[tokio::test]
    async fn csv_has_one_header_and_quotes_what_needs_it() {
        let (count, out) = printed(Format::Csv, 2).await;
        assert_eq!(count, 4);
        let text = String::from_utf8(out).unwrap();
        let once = "1,\"a, \"\"b\"\"\",\"[1,null]\"\n2,,\n";
        assert_eq!(text, format!("n,text,list\n{once}{once}"));
        assert_eq!(printed(Format::Csv, 0).await.1, b"n,text,list\n");
    }

    #[tokio::test]
    async fn json_is_one_array_and_ndjson_one_object_a_line() {
        let (_, out) = printed(Format::Json, 2).await;
        let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(value.as_array().unwrap().len(), 4);
        assert_eq!(
            value[1],
            serde_json::json!({"n": 2, "text": null, "list": null})
        );
        assert_eq!(printed(Format::Json, 0).await.1, b"[]\n");
        let (_, out) = printed(Format::Ndjson, 1).await;
        assert_eq!(String::from_utf8(out).unwrap().lines().count(), 2);
    }

    #[tokio::test]
    async fn arrow_is_read_back_as_it_was() {
        let (_, out) = printed(Format::Arrow, 2).await;
        let read: Vec<_> = arrow::ipc::reader::StreamReader::try_new(out.as_slice(), None)
            .unwrap()
            .collect();
        assert_eq!(read.len(), 2);
    }

    #[tokio::test]
    async fn a_table_of_nothing_still_names_its_columns() {
        let (count, out) = printed(Format::Table, 0).await;
        assert_eq!(count, 0);
        assert!(
            String::from_utf8(out)
                .unwrap()
                .contains("| n | text | list |")
        );
    }

    #[tokio::test]
    async fn a_table_shows_only_so_many_rows() {
        let (count, out) = printed(Format::Table, TABLE_ROWS_MAX).await;
        assert_eq!(count, 2 * TABLE_ROWS_MAX);
        assert_eq!(
            String::from_utf8(out).unwrap().lines().count(),
            TABLE_ROWS_MAX + 4
        );
    }
}
