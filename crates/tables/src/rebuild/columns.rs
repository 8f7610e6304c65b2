//! Readers of typed columns: the value that stands in a slot, as the record had it.

use std::ops::Range;

use arrow::array::{
    Array, AsArray, BinaryArray, BooleanArray, Int64Array, ListArray, StringArray,
    TimestampMicrosecondArray,
};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use crdt::atproto::{Cid, Map, Value, datetime, json};

use crate::lexicon::ColumnKind;

/// One column, or one field of it.
#[derive(Debug)]
pub(super) enum ColumnReader {
    /// The batch is older than the column.
    Absent,
    Text(StringArray),
    Datetime(TimestampMicrosecondArray),
    Integer(Int64Array),
    Boolean(BooleanArray),
    Bytes(BinaryArray),
    CidLink(StringArray),
    Blob(Box<BlobReader>),
    Json(StringArray),
    List(ListArray, Box<ColumnReader>),
    Struct {
        valid: Option<NullBuffer>,
        fields: Vec<(String, ColumnReader)>,
    },
}

#[derive(Debug)]
pub(super) struct BlobReader {
    valid: Option<NullBuffer>,
    cid: StringArray,
    mime_type: StringArray,
    size: Int64Array,
}

impl ColumnReader {
    /// Opens an array of the kind's own type.
    pub(super) fn new(kind: &ColumnKind, array: &dyn Array) -> Self {
        match kind {
            ColumnKind::Text => Self::Text(array.as_string().clone()),
            ColumnKind::Datetime => {
                Self::Datetime(array.as_primitive::<TimestampMicrosecondType>().clone())
            }
            ColumnKind::Integer => Self::Integer(array.as_primitive::<Int64Type>().clone()),
            ColumnKind::Boolean => Self::Boolean(array.as_boolean().clone()),
            ColumnKind::Bytes => Self::Bytes(array.as_binary().clone()),
            ColumnKind::CidLink => Self::CidLink(array.as_string().clone()),
            ColumnKind::Json => Self::Json(array.as_string().clone()),
            ColumnKind::Blob => {
                let array = array.as_struct();
                Self::Blob(Box::new(BlobReader {
                    valid: array.nulls().cloned(),
                    cid: array.column(0).as_string().clone(),
                    mime_type: array.column(1).as_string().clone(),
                    size: array.column(2).as_primitive::<Int64Type>().clone(),
                }))
            }
            ColumnKind::List(items) => {
                let array: &ListArray = array.as_list();
                Self::List(
                    array.clone(),
                    Box::new(Self::new(items, array.values().as_ref())),
                )
            }
            ColumnKind::Struct(fields) => {
                let array = array.as_struct();
                let readers = fields.iter().zip(array.columns());
                let readers = readers.map(|(field, array)| {
                    (
                        field.property.clone(),
                        Self::new(&field.kind, array.as_ref()),
                    )
                });
                Self::Struct {
                    valid: array.nulls().cloned(),
                    fields: readers.collect(),
                }
            }
        }
    }

    /// Returns the value of a slot, `Some(None)` for null, `None` for what is not of the kind.
    pub(super) fn value(&self, slot: usize) -> Option<Option<Value>> {
        Some(match self {
            Self::Absent => None,
            Self::Text(array) => cell(array, slot).map(|()| Value::from(array.value(slot))),
            Self::Integer(array) => cell(array, slot).map(|()| Value::Int(array.value(slot))),
            Self::Boolean(array) => cell(array, slot).map(|()| Value::Bool(array.value(slot))),
            Self::Bytes(array) => {
                cell(array, slot).map(|()| Value::Bytes(array.value(slot).to_vec()))
            }
            Self::Datetime(array) => {
                cell(array, slot).map(|()| Value::Text(datetime::canonical(array.value(slot))))
            }
            Self::CidLink(array) => match cell(array, slot) {
                Some(()) => Some(Value::Link(array.value(slot).parse().ok()?)),
                None => None,
            },
            Self::Json(array) => match cell(array, slot) {
                Some(()) => Some(json::from_text(array.value(slot)).ok()?),
                None => None,
            },
            Self::Blob(blob) => {
                if !is_valid(blob.valid.as_ref(), slot) {
                    return Some(None);
                }
                let link: Cid = blob.cid.value(slot).parse().ok()?;
                let mut map = Map::new();
                map.insert("ref", link);
                map.insert("size", blob.size.value(slot));
                map.insert("$type", "blob");
                map.insert("mimeType", blob.mime_type.value(slot));
                Some(Value::Map(map))
            }
            Self::List(array, items) => {
                if cell(array, slot).is_none() {
                    return Some(None);
                }
                let offsets = array.value_offsets();
                let range: Range<usize> = usize::try_from(offsets[slot]).ok()?
                    ..usize::try_from(offsets[slot + 1]).ok()?;
                // An item that is null here has its value in `extra`.
                let items = range.map(|slot| Some(items.value(slot)?.unwrap_or(Value::Null)));
                Some(Value::List(items.collect::<Option<_>>()?))
            }
            Self::Struct { valid, fields } => {
                if !is_valid(valid.as_ref(), slot) {
                    return Some(None);
                }
                let mut map = Map::new();
                for (name, field) in fields {
                    if let Some(value) = field.value(slot)? {
                        map.insert(name.as_str(), value);
                    }
                }
                Some(Value::Map(map))
            }
        })
    }
}

fn cell(array: &dyn Array, slot: usize) -> Option<()> {
    array.is_valid(slot).then_some(())
}

fn is_valid(valid: Option<&NullBuffer>, slot: usize) -> bool {
    valid.is_none_or(|valid| valid.is_valid(slot))
}
