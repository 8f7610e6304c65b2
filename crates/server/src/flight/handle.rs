//! What a prepared statement's handle holds: the statement, and its parameters once they are bound.
//!
//! Binding makes a new handle, which the client sends from then on. So no server keeps a statement, and any server
//! answers any handle. A handle is no secret and no right: it is checked like a query that just arrived.

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use bytes::Bytes;
use prost::Message as _;
use query::ScalarValue;

/// The most bytes that a statement and its parameters may take: a handle travels with each request.
pub(crate) const HANDLE_BYTES_MAX: usize = 1024 * 1024;

/// One prepared statement, as its handle says it.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Handle {
    /// The statement.
    #[prost(string, tag = "1")]
    pub(crate) sql: String,
    /// An Arrow IPC stream of one row whose columns are `$1`, `$2`, …; empty if nothing is bound.
    #[prost(bytes = "bytes", tag = "2")]
    parameters: Bytes,
}

/// Why a handle or a binding is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandleError {
    /// Not a handle of ours.
    #[error("this is no handle of a prepared statement")]
    Foreign(#[source] prost::DecodeError),
    /// Too long to travel with each request.
    #[error("a statement and its parameters take {bytes} bytes, more than {HANDLE_BYTES_MAX}")]
    TooLarge {
        /// What they would take.
        bytes: usize,
    },
    /// A binding is one row.
    #[error("{rows} rows of parameters were bound: bind one, and execute once for each")]
    Rows {
        /// What came.
        rows: usize,
    },
    /// The parameters do not decode.
    #[error("the parameters can't be read: {0}")]
    Parameters(#[from] ArrowError),
}

impl Handle {
    /// A statement with nothing bound.
    pub(crate) fn new(sql: String) -> Result<Handle, HandleError> {
        Handle {
            sql,
            parameters: Bytes::new(),
        }
        .bounded()
    }

    /// The same statement with the only row of `row` bound in place of what was.
    pub(crate) fn bind(&self, row: &RecordBatch) -> Result<Handle, HandleError> {
        if row.num_rows() != 1 {
            return Err(HandleError::Rows {
                rows: row.num_rows(),
            });
        }
        let mut writer = StreamWriter::try_new(Vec::new(), row.schema_ref())?;
        writer.write(row)?;
        let parameters = Bytes::from(writer.into_inner()?);
        Handle {
            sql: self.sql.clone(),
            parameters,
        }
        .bounded()
    }

    fn bounded(self) -> Result<Handle, HandleError> {
        match self.encoded_len() {
            bytes if bytes > HANDLE_BYTES_MAX => Err(HandleError::TooLarge { bytes }),
            _ => Ok(self),
        }
    }

    /// The handle's bytes, as a client keeps them.
    pub(crate) fn to_bytes(&self) -> Bytes {
        Bytes::from(self.encode_to_vec())
    }

    /// Reads a handle back.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Handle, HandleError> {
        Handle::decode(bytes).map_err(HandleError::Foreign)
    }

    /// Whether parameters are bound.
    pub(crate) fn is_bound(&self) -> bool {
        !self.parameters.is_empty()
    }

    /// The values of `$1`, `$2`, …; none if nothing is bound.
    pub(crate) fn parameters(&self) -> Result<Vec<ScalarValue>, HandleError> {
        if !self.is_bound() {
            return Ok(Vec::new());
        }
        let mut values = Vec::new();
        for batch in StreamReader::try_new(self.parameters.as_ref(), None)? {
            let batch = batch?;
            if batch.num_rows() != 1 {
                return Err(HandleError::Rows {
                    rows: batch.num_rows(),
                });
            }
            for column in batch.columns() {
                let value = ScalarValue::try_from_array(column, 0);
                values.push(value.map_err(|error| ArrowError::ExternalError(Box::new(error)))?);
            }
        }
        Ok(values)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use std::sync::Arc;

    use arrow::array::{Int64Array, StringArray};

    use super::*;

    fn row(texts: Vec<&str>) -> RecordBatch {
        let numbers = Int64Array::from_iter_values(0..texts.len() as i64);
        let columns = [
            ("0", Arc::new(StringArray::from(texts)) as _),
            ("1", Arc::new(numbers) as _),
        ];
        RecordBatch::try_from_iter(columns).unwrap()
    }

    #[test]
    fn a_handle_brings_back_its_statement_and_parameters() {
        let handle = Handle::new("SELECT $1, $2".to_owned())
            .unwrap()
            .bind(&row(vec!["a"]))
            .unwrap();
        let again = Handle::from_bytes(&handle.to_bytes()).unwrap();
        assert_eq!(again.sql, "SELECT $1, $2");
        assert_eq!(
            again.parameters().unwrap(),
            [ScalarValue::from("a"), ScalarValue::from(0_i64)]
        );
    }

    #[test]
    fn binding_again_replaces_what_was_bound() {
        let handle = Handle::new("SELECT $1, $2".to_owned()).unwrap();
        let handle = handle
            .bind(&row(vec!["a"]))
            .unwrap()
            .bind(&row(vec!["b"]))
            .unwrap();
        assert_eq!(
            handle.parameters().unwrap().first(),
            Some(&ScalarValue::from("b"))
        );
    }

    #[test]
    fn a_binding_is_one_row() {
        let handle = Handle::new("SELECT $1, $2".to_owned()).unwrap();
        assert!(matches!(
            handle.bind(&row(vec![])),
            Err(HandleError::Rows { rows: 0 })
        ));
        assert!(matches!(
            handle.bind(&row(vec!["a", "b"])),
            Err(HandleError::Rows { rows: 2 })
        ));
    }

    #[test]
    fn what_is_no_handle_is_refused() {
        assert!(matches!(
            Handle::from_bytes(b"\xff\xff"),
            Err(HandleError::Foreign(_))
        ));
        let broken = Handle {
            sql: "SELECT $1".to_owned(),
            parameters: Bytes::from_static(b"not arrow"),
        };
        assert!(matches!(
            broken.parameters(),
            Err(HandleError::Parameters(_))
        ));
    }

    #[test]
    fn a_statement_that_is_too_long_is_refused() {
        let sql = "x".repeat(HANDLE_BYTES_MAX);
        assert!(matches!(
            Handle::new(sql),
            Err(HandleError::TooLarge { .. })
        ));
    }
}
