//! What every record must look like, whatever its Lexicon says.
//!
//! These rules come on top of the encoding's: a record is a map, `$type` is a name wherever it stands, and a blob has
//! its three fields. A record that breaks them is intact all the same, so the verdict is for callers to act on.

use crate::Value;

/// Checks the rules that hold for records of all types.
///
/// # Errors
/// The first rule that `record` breaks.
pub fn check_record(record: &Value) -> Result<(), RecordError> {
    if record.as_map().is_none() {
        return Err(RecordError::NotMap);
    }
    check_types(record)
}

fn check_types(value: &Value) -> Result<(), RecordError> {
    match value {
        Value::List(list) => list.iter().try_for_each(check_types),
        Value::Map(map) => {
            match map.get("$type") {
                None => {}
                Some(Value::Text(name)) if name.is_empty() => return Err(RecordError::TypeEmpty),
                Some(Value::Text(name)) if name == "blob" && !is_blob(value) => {
                    return Err(RecordError::Blob);
                }
                Some(Value::Text(_)) => {}
                Some(_) => return Err(RecordError::TypeNotText),
            }
            map.iter().try_for_each(|(_, value)| check_types(value))
        }
        _ => Ok(()),
    }
}

fn is_blob(value: &Value) -> bool {
    matches!(value.get("ref"), Some(Value::Link(_)))
        && matches!(value.get("mimeType"), Some(Value::Text(_)))
        && matches!(value.get("size"), Some(Value::Int(0..)))
}

/// Which rule a record breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The record is no map.
    #[error("record is no map")]
    NotMap,
    /// A `$type` that is not text.
    #[error("$type is not text")]
    TypeNotText,
    /// A `$type` without a character.
    #[error("$type is empty")]
    TypeEmpty,
    /// A blob that lacks its link, its media type or its size.
    #[error("blob lacks a field or has one of another type")]
    Blob,
}
