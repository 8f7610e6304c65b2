//! Keys and orders as bytes that compare as the values do.
//!
//! A table's key names a row, its order says which of two rows of one key wins. Both are columns of the row; this
//! module turns them into bytes whose lexicographic order is the order of the values, so that segments of every table
//! are searched and merged by one piece of code. The encoding is persisted (segment entries and indexes hold keys):
//! changing it is a new format.
//!
//! Text and binary: the bytes with 0x00 as 0x00 0xFF, then 0x00 0x00. Integers and timestamps: eight bytes, big endian,
//! sign flipped. Booleans: one byte. Fixed-size binary: its bytes. A column that may be null has a byte in front,
//! 0 for null and 1 for a value. A CID in an order is its 36 bytes, since base32 does not sort as bytes do.

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, FixedSizeBinaryArray, Int64Array,
    RecordBatch, StringArray, TimestampMicrosecondArray, UInt64Array,
};
use arrow::datatypes::{DataType, TimeUnit};
use crdt::atproto::Cid;

/// Why a batch has no keys.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The batch lacks a key column.
    #[error("no column {column}")]
    NoColumn {
        /// The column.
        column: String,
    },
    /// The column's type can't be part of a key.
    #[error("column {column} of type {data_type} can't be part of a key")]
    Type {
        /// The column.
        column: String,
        /// Its type.
        data_type: DataType,
    },
    /// A null where the schema promises none.
    #[error("null in key column {column}, row {row}")]
    Null {
        /// The column.
        column: String,
        /// The row in its batch.
        row: usize,
    },
}

/// The encoded keys (or orders) of a batch's rows, one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keys {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Keys {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The key of row `row`; empty beyond the end.
    #[must_use]
    pub fn get(&self, row: usize) -> &[u8] {
        let start = if row == 0 {
            0
        } else {
            self.ends.get(row - 1).copied().unwrap_or(self.bytes.len())
        };
        let end = self.ends.get(row).copied().unwrap_or(self.bytes.len());
        &self.bytes[start..end.max(start)]
    }

    /// Adds the key of one more row.
    pub(crate) fn push(&mut self, key: &[u8]) {
        self.bytes.extend_from_slice(key);
        self.ends.push(self.bytes.len());
    }

    /// All keys in row order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).map(|row| self.get(row))
    }

    /// How many keys at the front satisfy `holds`, which holds for a front and for nothing behind it.
    pub fn partition_point(&self, mut holds: impl FnMut(&[u8]) -> bool) -> usize {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if holds(self.get(middle)) {
                low = middle + 1
            } else {
                high = middle
            }
        }
        low
    }

    /// Whether each key is above the one before it.
    #[must_use]
    pub fn are_strictly_ascending(&self) -> bool {
        (1..self.len()).all(|row| self.get(row - 1) < self.get(row))
    }
}

/// One column of a key, by its type.
enum Column<'a> {
    Text(&'a StringArray),
    Cid(&'a StringArray),
    Binary(&'a BinaryArray),
    Fixed(&'a FixedSizeBinaryArray),
    Int(&'a Int64Array),
    Unsigned(&'a UInt64Array),
    Time(&'a TimestampMicrosecondArray),
    Boolean(&'a BooleanArray),
}

fn column<'a>(name: &str, array: &'a ArrayRef, is_order: bool) -> Result<Column<'a>, KeyError> {
    Ok(match array.data_type() {
        DataType::Utf8 if is_order && (name == "cid" || name == "commit") => {
            Column::Cid(array.as_string())
        }
        DataType::Utf8 => Column::Text(array.as_string()),
        DataType::Binary => Column::Binary(array.as_binary()),
        DataType::FixedSizeBinary(_) => Column::Fixed(array.as_fixed_size_binary()),
        DataType::Int64 => Column::Int(array.as_primitive()),
        DataType::UInt64 => Column::Unsigned(array.as_primitive()),
        DataType::Timestamp(TimeUnit::Microsecond, _) => Column::Time(array.as_primitive()),
        DataType::Boolean => Column::Boolean(array.as_boolean()),
        other => {
            return Err(KeyError::Type {
                column: name.to_owned(),
                data_type: other.clone(),
            });
        }
    })
}

impl Column<'_> {
    fn is_null(&self, row: usize) -> bool {
        match self {
            Self::Text(array) | Self::Cid(array) => array.is_null(row),
            Self::Binary(array) => array.is_null(row),
            Self::Fixed(array) => array.is_null(row),
            Self::Int(array) => array.is_null(row),
            Self::Unsigned(array) => array.is_null(row),
            Self::Time(array) => array.is_null(row),
            Self::Boolean(array) => array.is_null(row),
        }
    }

    fn push(&self, row: usize, out: &mut Vec<u8>) {
        match self {
            Self::Text(array) => push_bytes(array.value(row).as_bytes(), out),
            Self::Cid(array) => match array.value(row).parse::<Cid>() {
                Ok(cid) => out.extend_from_slice(cid.as_bytes()),
                // No CID of ours: text sorts behind every CID, so that it is at least in some order.
                Err(_) => {
                    out.push(0xFF);
                    push_bytes(array.value(row).as_bytes(), out);
                }
            },
            Self::Binary(array) => push_bytes(array.value(row), out),
            Self::Fixed(array) => out.extend_from_slice(array.value(row)),
            Self::Int(array) => push_int(array.value(row), out),
            Self::Unsigned(array) => out.extend_from_slice(&array.value(row).to_be_bytes()),
            Self::Time(array) => push_int(array.value(row), out),
            Self::Boolean(array) => out.push(u8::from(array.value(row))),
        }
    }
}

fn push_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    for &byte in bytes {
        out.push(byte);
        if byte == 0 {
            out.push(0xFF);
        }
    }
    out.extend_from_slice(&[0, 0]);
}

fn push_int(value: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(&(value ^ i64::MIN).to_be_bytes());
}

/// A text as the first part of a key: every key whose first column is `text` starts with it.
#[must_use]
pub fn text_prefix(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 2);
    push_bytes(text.as_bytes(), &mut out);
    out
}

/// The text at the front of an encoded key or order, and what stands behind it; none if no text is there.
#[must_use]
pub fn split_text(encoded: &[u8]) -> Option<(String, &[u8])> {
    let mut text = Vec::new();
    let mut at = 0;
    loop {
        match (encoded.get(at)?, encoded.get(at + 1)) {
            (0, Some(0)) => return Some((String::from_utf8(text).ok()?, &encoded[at + 2..])),
            (0, Some(0xFF)) => {
                text.push(0);
                at += 2;
            }
            (0, _) => return None,
            (&byte, _) => {
                text.push(byte);
                at += 1;
            }
        }
    }
}

/// The keys of `batch`'s rows, made of `columns`.
///
/// # Errors
/// [`KeyError`] if a column is missing, has a type that does not sort, or holds a null that its schema excludes.
pub fn keys(batch: &RecordBatch, columns: &[&str]) -> Result<Keys, KeyError> {
    encode(batch, columns, false)
}

/// The orders of `batch`'s rows: which of two rows of one key is the later one.
///
/// # Errors
/// As [`keys`].
pub fn orders(batch: &RecordBatch, columns: &[&str]) -> Result<Keys, KeyError> {
    encode(batch, columns, true)
}

fn encode(batch: &RecordBatch, columns: &[&str], is_order: bool) -> Result<Keys, KeyError> {
    let mut parts = Vec::with_capacity(columns.len());
    for name in columns {
        let (index, field) =
            batch
                .schema_ref()
                .column_with_name(name)
                .ok_or_else(|| KeyError::NoColumn {
                    column: (*name).to_owned(),
                })?;
        parts.push((
            name,
            field.is_nullable(),
            column(name, batch.column(index), is_order)?,
        ));
    }
    let mut keys = Keys {
        bytes: Vec::with_capacity(batch.num_rows() * 48),
        ends: Vec::with_capacity(batch.num_rows()),
    };
    for row in 0..batch.num_rows() {
        for (name, nullable, part) in &parts {
            let null = part.is_null(row);
            if null && !nullable {
                return Err(KeyError::Null {
                    column: (**name).to_owned(),
                    row,
                });
            }
            if *nullable {
                keys.bytes.push(u8::from(!null));
            }
            if !null {
                part.push(row, &mut keys.bytes);
            }
        }
        keys.ends.push(keys.bytes.len());
    }
    Ok(keys)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, RecordBatch, StringArray};
    use arrow::datatypes::{Field, Schema};

    use super::*;

    fn batch(texts: &[&str], ints: &[Option<i64>]) -> RecordBatch {
        let schema = Schema::new(vec![
            Field::new("a", DataType::Utf8, false),
            Field::new("b", DataType::Int64, true),
        ]);
        RecordBatch::try_new(
            Arc::new(schema),
            vec![
                Arc::new(StringArray::from(texts.to_vec())),
                Arc::new(Int64Array::from(ints.to_vec())),
            ],
        )
        .unwrap()
    }

    #[test]
    fn bytes_sort_as_the_values_do() {
        let batch = batch(
            &["", "a", "a", "a", "a\0", "a\0b", "ab", "b"],
            &[
                Some(1),
                None,
                Some(-5),
                Some(7),
                Some(0),
                Some(0),
                Some(i64::MIN),
                Some(i64::MAX),
            ],
        );
        let keys = keys(&batch, &["a", "b"]).unwrap();
        assert_eq!(keys.len(), 8);
        assert!(keys.are_strictly_ascending());
    }

    #[test]
    fn a_text_prefix_starts_only_its_own_keys() {
        let batch = batch(&["did:a", "did:ab"], &[None, None]);
        let keys = keys(&batch, &["a", "b"]).unwrap();
        let prefix = text_prefix("did:a");
        assert!(keys.get(0).starts_with(&prefix));
        assert!(!keys.get(1).starts_with(&prefix));
    }

    #[test]
    fn a_text_is_split_off_again() {
        let mut encoded = text_prefix("a\0b");
        encoded.extend(text_prefix("c"));
        let (text, rest) = split_text(&encoded).unwrap();
        assert_eq!(text, "a\0b");
        assert_eq!(split_text(rest).unwrap(), ("c".to_owned(), &[][..]));
        assert_eq!(split_text(b"no end"), None);
    }

    #[test]
    fn the_encoding_is_the_one_that_buckets_hold() {
        let batch = batch(&["a\0"], &[Some(-1)]);
        let keys = keys(&batch, &["a", "b"]).unwrap();
        assert_eq!(
            keys.get(0),
            [
                b'a', 0, 0xFF, 0, 0, 1, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF
            ]
        );
    }

    #[test]
    fn a_missing_column_is_an_error() {
        assert!(matches!(
            keys(&batch(&["a"], &[None]), &["c"]),
            Err(KeyError::NoColumn { column }) if column == "c"
        ));
    }
}
