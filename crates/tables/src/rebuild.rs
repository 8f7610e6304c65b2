//! Rows back into records: the inverse of [`crate::shred`].
//!
//! A record is its typed columns, then `extra` put over them, or `raw` where that is not null. Columns that a batch lacks
//! are taken for null, so a segment that is older than a column reads as it was written; columns of another Arrow type that
//! casts to the table's (views, dictionaries) are cast. A value that comes out here has the CID of the row's record:
//! that was checked when the row was made.

mod columns;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::array::{Array, BinaryArray, RecordBatch, StringArray, StringBuilder};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use crdt::atproto::{CborError, Map, Value, cbor, json};

use crate::lexicon::RecordType;
use crate::lexicon::columns::Node;
use crate::schema::{TableDef, TableKind};
use crate::shred::extra::{self, ExtraError};
use columns::ColumnReader;

/// Why a row does not give a record.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RebuildError {
    /// Rows of this table are not records.
    #[error("not a table of records")]
    NotRecords,
    /// A column is there, but of a type that can't be read as the table's.
    #[error("column {column} can't be read as {wanted}")]
    ColumnType {
        /// The column.
        column: String,
        /// The type that the table gives it.
        wanted: DataType,
        /// What is wrong.
        source: Box<ArrowError>,
    },
    /// Rows of the untyped table without the column that names their collection.
    #[error("the batch lacks the column collection")]
    NoCollection,
    /// `extra` can't be put over the columns.
    #[error("extra of row {row} is malformed")]
    Extra {
        /// The row in its batch.
        row: usize,
        /// What is wrong.
        source: ExtraError,
    },
    /// `raw` is not strict DAG-CBOR.
    #[error("raw bytes of row {row} are not DAG-CBOR")]
    Raw {
        /// The row in its batch.
        row: usize,
        /// What is wrong.
        source: CborError,
    },
    /// A typed column holds what is not the text of its kind.
    #[error("a typed column of row {row} is malformed")]
    Cell {
        /// The row in its batch.
        row: usize,
    },
}

/// Makes records of the rows of one table.
#[derive(Debug, Clone)]
pub struct Rebuilder {
    record: Option<Arc<RecordType>>,
    columns: Vec<String>,
}

impl Rebuilder {
    /// Returns the rebuilder of a table of records.
    ///
    /// # Errors
    /// [`RebuildError::NotRecords`] for another table.
    pub fn new(table: &TableDef) -> Result<Self, RebuildError> {
        let record = match &table.kind {
            TableKind::Record(record) => Some(Arc::clone(record)),
            TableKind::Untyped => None,
            _ => return Err(RebuildError::NotRecords),
        };
        let typed = record
            .iter()
            .flat_map(|record| record.columns())
            .map(|column| column.name.as_str());
        let named = record.is_none().then_some("collection");
        let columns = named
            .into_iter()
            .chain(typed)
            .chain(["extra", "raw"])
            .map(str::to_owned)
            .collect();
        Ok(Self { record, columns })
    }

    /// Returns the names of the columns that it reads; a batch needs no others.
    #[must_use]
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// Opens a batch. Cheap: arrays are shared, not copied, unless they have to be cast.
    ///
    /// # Errors
    /// [`RebuildError::ColumnType`] and [`RebuildError::NoCollection`].
    pub fn open(&self, batch: &RecordBatch) -> Result<Rows<'_>, RebuildError> {
        let columns = self
            .record
            .iter()
            .flat_map(|record| record.columns())
            .map(|column| {
                let wanted = column.kind.data_type();
                let array = array_of(batch, &column.name, &wanted)?;
                Ok(array.map_or(ColumnReader::Absent, |array| {
                    ColumnReader::new(&column.kind, array.as_ref())
                }))
            });
        let collection = match self.record {
            Some(_) => None,
            None => Some(text_column(batch, "collection")?.ok_or(RebuildError::NoCollection)?),
        };
        let raw = array_of(batch, "raw", &DataType::Binary)?;
        Ok(Rows {
            record: self.record.as_deref(),
            columns: columns.collect::<Result<_, _>>()?,
            collection,
            extra: text_column(batch, "extra")?,
            raw: raw.and_then(|array| array.as_any().downcast_ref::<BinaryArray>().cloned()),
        })
    }

    /// Returns the record of one row. For more than one, [`Rebuilder::open`] the batch once.
    ///
    /// # Errors
    /// Says what of the row can't be read.
    pub fn row(&self, batch: &RecordBatch, row: usize) -> Result<Value, RebuildError> {
        self.open(batch)?.record(row)
    }

    /// Returns each row's record as AT Protocol JSON.
    ///
    /// # Errors
    /// Says what of which row can't be read.
    pub fn json_column(&self, batch: &RecordBatch) -> Result<StringArray, RebuildError> {
        let rows = self.open(batch)?;
        let mut column = StringBuilder::new();
        for row in 0..batch.num_rows() {
            column.append_value(json::to_text(&rows.record(row)?));
        }
        Ok(column.finish())
    }
}

/// The records of one opened batch.
#[derive(Debug)]
pub struct Rows<'a> {
    record: Option<&'a RecordType>,
    columns: Vec<ColumnReader>,
    collection: Option<StringArray>,
    extra: Option<StringArray>,
    raw: Option<BinaryArray>,
}

impl Rows<'_> {
    /// Returns the record of row `row`, which must be one of the batch.
    ///
    /// # Errors
    /// Says what of the row can't be read.
    pub fn record(&self, row: usize) -> Result<Value, RebuildError> {
        if let Some(raw) = self.raw(row) {
            return cbor::decode(raw).map_err(|source| RebuildError::Raw { row, source });
        }
        let mut map = Map::new();
        let own_type = match (self.record, &self.collection) {
            (Some(record), _) => record.collection(),
            (None, Some(collection)) => collection.value(row),
            (None, None) => return Err(RebuildError::NoCollection),
        };
        map.insert(extra::TYPE, own_type);
        let fields = self.record.map_or(&[][..], RecordType::fields);
        self.fields(fields, row, &mut map)
            .ok_or(RebuildError::Cell { row })?;
        if let Some(extra) = self.extra.as_ref().filter(|extra| extra.is_valid(row)) {
            extra::put_over(extra.value(row), &mut map)
                .map_err(|source| RebuildError::Extra { row, source })?;
        }
        Ok(Value::Map(map))
    }

    /// Returns the record of row `row` as DAG-CBOR, whose CID is the row's.
    ///
    /// # Errors
    /// Says what of the row can't be read.
    pub fn cbor(&self, row: usize) -> Result<Vec<u8>, RebuildError> {
        match self.raw(row) {
            Some(raw) => Ok(raw.to_vec()),
            None => Ok(cbor::encode(&self.record(row)?)),
        }
    }

    fn raw(&self, row: usize) -> Option<&[u8]> {
        self.raw
            .as_ref()
            .filter(|raw| raw.is_valid(row))
            .map(|raw| raw.value(row))
    }

    /// Puts the fields that have a value into `map`; `None` if a cell can't be read.
    fn fields(&self, fields: &[(String, Node)], row: usize, map: &mut Map) -> Option<()> {
        for (name, node) in fields {
            match node {
                Node::Column(column) => {
                    if let Some(value) = self.columns[*column].value(row)? {
                        map.insert(name.as_str(), value);
                    }
                }
                Node::Group(inner) => {
                    let mut object = Map::new();
                    self.fields(inner, row, &mut object)?;
                    if !object.is_empty() {
                        map.insert(name.as_str(), object);
                    }
                }
            }
        }
        Some(())
    }
}

fn text_column(batch: &RecordBatch, name: &str) -> Result<Option<StringArray>, RebuildError> {
    let array = array_of(batch, name, &DataType::Utf8)?;
    Ok(array.and_then(|array| array.as_any().downcast_ref::<StringArray>().cloned()))
}

/// Returns the column `name` as `wanted`, if the batch has it.
fn array_of(
    batch: &RecordBatch,
    name: &str,
    wanted: &DataType,
) -> Result<Option<Arc<dyn Array>>, RebuildError> {
    let Some(array) = batch.column_by_name(name) else {
        return Ok(None);
    };
    if array.data_type() == wanted {
        return Ok(Some(Arc::clone(array)));
    }
    let array = cast(array, wanted).map_err(|source| RebuildError::ColumnType {
        column: name.to_owned(),
        wanted: wanted.clone(),
        source: Box::new(source),
    })?;
    Ok(Some(array))
}
