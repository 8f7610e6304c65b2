//! The data model in JSON: `{"$link": …}` for links, `{"$bytes": …}` for bytes, all else as it looks.
//!
//! Typed objects such as blobs are plain maps. Reading is strict about the two special objects, about floats and about
//! depth. A map of CBOR whose own key is `$link` or `$bytes` has no JSON of its own: what is written for it reads
//! back as something else or not at all, so whoever needs losslessness compares CIDs.

use data_encoding::{BASE64, BASE64_NOPAD};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Value as Json;

use crate::cbor::{CONTAINER_MAX, DEPTH_MAX, KEY_BYTES_MAX};
use crate::{CidError, Map, Value};

const LINK: &str = "$link";
const BYTES: &str = "$bytes";

// Beyond 2^53 a float no longer says which integer is meant.
const FLOAT_INT_MAX: f64 = 9_007_199_254_740_992.0;

/// Returns the JSON of `value`.
#[must_use]
pub fn to_json(value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Bool(bool) => Json::Bool(*bool),
        Value::Int(int) => Json::from(*int),
        Value::Text(text) => Json::String(text.clone()),
        Value::Bytes(bytes) => special(BYTES, BASE64_NOPAD.encode(bytes)),
        Value::Link(cid) => special(LINK, cid.to_string()),
        Value::List(list) => Json::Array(list.iter().map(to_json).collect()),
        Value::Map(map) => Json::Object(
            map.iter()
                .map(|(key, value)| (key.to_owned(), to_json(value)))
                .collect(),
        ),
    }
}

fn special(key: &str, text: String) -> Json {
    Json::Object([(key.to_owned(), Json::String(text))].into_iter().collect())
}

/// Returns the JSON text of `value`, without blanks, keys in DAG-CBOR's order.
#[must_use]
pub fn to_text(value: &Value) -> String {
    // Writing to memory and serializing text keys can't fail.
    serde_json::to_string(&Spelled(value)).unwrap_or_default()
}

/// Reads the JSON of a value.
///
/// # Errors
/// Numbers that are no 64-bit integers, malformed `$link` and `$bytes` objects, and what is over the limits of
/// [`crate::cbor`].
pub fn from_json(json: &Json) -> Result<Value, JsonError> {
    read(json, DEPTH_MAX)
}

/// Reads the JSON text of a value.
///
/// # Errors
/// As [`from_json`], and [`JsonError::Text`] if it is not JSON.
pub fn from_text(text: &str) -> Result<Value, JsonError> {
    from_json(&serde_json::from_str(text)?)
}

fn read(json: &Json, depth: usize) -> Result<Value, JsonError> {
    Ok(match json {
        Json::Null => Value::Null,
        Json::Bool(bool) => Value::Bool(*bool),
        Json::Number(number) => Value::Int(int(number)?),
        Json::String(text) => Value::Text(text.clone()),
        Json::Array(list) => {
            let depth = below(depth, list.len())?;
            Value::List(
                list.iter()
                    .map(|item| read(item, depth))
                    .collect::<Result<_, _>>()?,
            )
        }
        Json::Object(object) => {
            let depth = below(depth, object.len())?;
            if let Some(link) = object.get(LINK) {
                return Ok(Value::Link(sole(link, object.len(), LINK)?.parse()?));
            }
            if let Some(bytes) = object.get(BYTES) {
                return Ok(Value::Bytes(base64(sole(bytes, object.len(), BYTES)?)?));
            }
            let mut entries = Vec::with_capacity(object.len());
            for (key, value) in object {
                if key.len() > KEY_BYTES_MAX {
                    return Err(JsonError::KeyTooLong);
                }
                entries.push((key.clone(), read(value, depth)?));
            }
            entries.sort_by(|left, right| crate::value::key_order(&left.0, &right.0));
            Value::Map(Map::from_ordered(entries))
        }
    })
}

fn below(depth: usize, entries: usize) -> Result<usize, JsonError> {
    if entries > CONTAINER_MAX {
        return Err(JsonError::ContainerTooLarge);
    }
    depth.checked_sub(1).ok_or(JsonError::TooDeep)
}

/// Returns the text of a special object, which has this one entry.
fn sole<'a>(json: &'a Json, entries: usize, key: &'static str) -> Result<&'a str, JsonError> {
    match json {
        Json::String(text) if entries == 1 => Ok(text),
        Json::String(_) => Err(JsonError::ExtraFields { key }),
        _ => Err(JsonError::NotText { key }),
    }
}

fn int(number: &serde_json::Number) -> Result<i64, JsonError> {
    if let Some(int) = number.as_i64() {
        return Ok(int);
    }
    match number.as_f64() {
        _ if number.is_u64() => Err(JsonError::IntRange),
        Some(float) if float.fract() == 0.0 && float.abs() <= FLOAT_INT_MAX => Ok(float as i64),
        _ => Err(JsonError::Float),
    }
}

/// Reads base64 with or without its padding.
fn base64(text: &str) -> Result<Vec<u8>, JsonError> {
    let encoding = if text.ends_with('=') {
        BASE64
    } else {
        BASE64_NOPAD
    };
    encoding.decode(text.as_bytes()).map_err(JsonError::Base64)
}

struct Spelled<'a>(&'a Value);

impl Serialize for Spelled<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Null => serializer.serialize_unit(),
            Value::Bool(bool) => serializer.serialize_bool(*bool),
            Value::Int(int) => serializer.serialize_i64(*int),
            Value::Text(text) => serializer.serialize_str(text),
            Value::Bytes(bytes) => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry(BYTES, &BASE64_NOPAD.encode(bytes))?;
                map.end()
            }
            Value::Link(cid) => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry(LINK, &cid.to_string())?;
                map.end()
            }
            Value::List(list) => serializer.collect_seq(list.iter().map(Spelled)),
            Value::Map(map) => {
                serializer.collect_map(map.iter().map(|(key, value)| (key, Spelled(value))))
            }
        }
    }
}

/// Why some JSON is no value of the data model.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// Not JSON.
    #[error("not JSON")]
    Text(#[from] serde_json::Error),
    /// A number that is no integer.
    #[error("number is a float")]
    Float,
    /// An integer beyond 64 bits with sign.
    #[error("integer is out of range")]
    IntRange,
    /// More than [`DEPTH_MAX`] containers in each other.
    #[error("nested too deep")]
    TooDeep,
    /// More than [`CONTAINER_MAX`] entries.
    #[error("container has too many entries")]
    ContainerTooLarge,
    /// A key longer than [`KEY_BYTES_MAX`].
    #[error("key is too long")]
    KeyTooLong,
    /// `$link` or `$bytes` with something else than text.
    #[error("{key} is not text")]
    NotText {
        /// Which of the two.
        key: &'static str,
    },
    /// `$link` or `$bytes` beside other keys.
    #[error("{key} has other fields beside it")]
    ExtraFields {
        /// Which of the two.
        key: &'static str,
    },
    /// `$link` with text that is no CID of ours.
    #[error("$link is no CID")]
    Link(#[from] CidError),
    /// `$bytes` with text that is not base64.
    #[error("$bytes is not base64")]
    Base64(#[source] data_encoding::DecodeError),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cbor::tests::values;

    #[test]
    fn links_and_bytes_are_spelled_with_a_dollar() {
        let cid = crate::Cid::of_raw(b"");
        let map: Map = [("l", Value::Link(cid)), ("b", Value::Bytes(vec![1]))]
            .into_iter()
            .collect();
        let value = Value::Map(map);
        let text = format!(r#"{{"b":{{"$bytes":"AQ"}},"l":{{"$link":"{cid}"}}}}"#);
        assert_eq!(to_text(&value), text);
        assert_eq!(to_json(&value).to_string(), text);
        assert_eq!(from_text(&text).expect("valid"), value);
        assert_eq!(
            from_text(&text.replace("AQ", "AQ==")).expect("valid"),
            value
        );
    }

    #[test]
    fn numbers_are_integers_of_64_bits() {
        assert!(matches!(
            from_text("9223372036854775807"),
            Ok(Value::Int(i64::MAX))
        ));
        assert!(matches!(
            from_text("-9223372036854775808"),
            Ok(Value::Int(i64::MIN))
        ));
        assert!(matches!(
            from_text("9223372036854775808"),
            Err(JsonError::IntRange)
        ));
        assert!(matches!(from_text("123.0"), Ok(Value::Int(123))));
        assert!(matches!(from_text("0.5"), Err(JsonError::Float)));
        assert!(matches!(from_text("1e300"), Err(JsonError::Float)));
    }

    #[test]
    fn depth_is_bounded_as_in_cbor() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(from_text(&nested(DEPTH_MAX)).is_ok());
        assert!(matches!(
            from_text(&nested(DEPTH_MAX + 1)),
            Err(JsonError::TooDeep)
        ));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(value in values()) {
            prop_assert_eq!(&from_json(&to_json(&value)).expect("valid"), &value);
            prop_assert_eq!(&from_text(&to_text(&value)).expect("valid"), &value);
        }
    }
}
