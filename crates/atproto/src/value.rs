//! The AT Protocol data model: what a DAG-CBOR block or a record in JSON says, independent of the spelling.
//!
//! A [`Map`] keeps its keys unique and in DAG-CBOR's canonical order, so encoding a [`Value`] is one pass and equal
//! values have equal bytes. There are no floats: the data model has none.

use std::cmp::Ordering;

use crate::Cid;

/// One value of the data model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Null.
    Null,
    /// A boolean.
    Bool(bool),
    /// A 64-bit signed integer.
    Int(i64),
    /// Unicode text.
    Text(String),
    /// Bytes; `{"$bytes": …}` in JSON.
    Bytes(Vec<u8>),
    /// A link to a block; `{"$link": …}` in JSON.
    Link(Cid),
    /// Values in order.
    List(Vec<Value>),
    /// Named values.
    Map(Map),
}

impl Value {
    /// Returns the text, if this is text.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        if let Self::Text(text) = self {
            Some(text)
        } else {
            None
        }
    }

    /// Returns the integer, if this is one.
    #[must_use]
    pub fn as_int(&self) -> Option<i64> {
        if let Self::Int(int) = self {
            Some(*int)
        } else {
            None
        }
    }

    /// Returns the boolean, if this is one.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        if let Self::Bool(bool) = self {
            Some(*bool)
        } else {
            None
        }
    }

    /// Returns the bytes, if this is bytes.
    #[must_use]
    pub fn as_bytes(&self) -> Option<&[u8]> {
        if let Self::Bytes(bytes) = self {
            Some(bytes)
        } else {
            None
        }
    }

    /// Returns the CID, if this is a link.
    #[must_use]
    pub fn as_link(&self) -> Option<Cid> {
        if let Self::Link(cid) = self {
            Some(*cid)
        } else {
            None
        }
    }

    /// Returns the items, if this is a list.
    #[must_use]
    pub fn as_list(&self) -> Option<&[Value]> {
        if let Self::List(list) = self {
            Some(list)
        } else {
            None
        }
    }

    /// Returns the map, if this is one.
    #[must_use]
    pub fn as_map(&self) -> Option<&Map> {
        if let Self::Map(map) = self {
            Some(map)
        } else {
            None
        }
    }

    /// Whether this is null.
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// Returns what `key` names, if this is a map that has it.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.as_map()?.get(key)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Value {
    fn from(int: i64) -> Self {
        Self::Int(int)
    }
}

impl From<bool> for Value {
    fn from(bool: bool) -> Self {
        Self::Bool(bool)
    }
}

impl From<Cid> for Value {
    fn from(cid: Cid) -> Self {
        Self::Link(cid)
    }
}

impl From<Vec<Value>> for Value {
    fn from(list: Vec<Value>) -> Self {
        Self::List(list)
    }
}

impl From<Map> for Value {
    fn from(map: Map) -> Self {
        Self::Map(map)
    }
}

/// Compares map keys as DAG-CBOR orders them: the shorter first, then by bytes.
#[must_use]
pub fn key_order(left: &str, right: &str) -> Ordering {
    left.len()
        .cmp(&right.len())
        .then_with(|| left.as_bytes().cmp(right.as_bytes()))
}

/// Named values, each name once, in the order of [`key_order`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Map(Vec<(String, Value)>);

impl Map {
    /// Returns an empty map.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes entries that are in order already.
    pub(crate) fn from_ordered(entries: Vec<(String, Value)>) -> Self {
        debug_assert!(
            entries
                .windows(2)
                .all(|pair| key_order(&pair[0].0, &pair[1].0).is_lt())
        );
        Self(entries)
    }

    /// Returns what `key` names.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.find(key).ok().map(|at| &self.0[at].1)
    }

    /// Returns what `key` names, to be changed.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut Value> {
        let at = self.find(key).ok()?;
        Some(&mut self.0[at].1)
    }

    /// Whether there is a value named `key`.
    #[must_use]
    pub fn contains_key(&self, key: &str) -> bool {
        self.find(key).is_ok()
    }

    /// Puts `value` at `key` and returns what was there.
    pub fn insert(&mut self, key: impl Into<String>, value: impl Into<Value>) -> Option<Value> {
        let (key, value) = (key.into(), value.into());
        match self.find(&key) {
            Ok(at) => Some(std::mem::replace(&mut self.0[at].1, value)),
            Err(at) => {
                self.0.insert(at, (key, value));
                None
            }
        }
    }

    /// Takes out what `key` names.
    pub fn remove(&mut self, key: &str) -> Option<Value> {
        let at = self.find(key).ok()?;
        Some(self.0.remove(at).1)
    }

    /// Returns how many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the entries in canonical order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value))
    }

    fn find(&self, key: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(other, _)| key_order(other, key))
    }
}

impl IntoIterator for Map {
    type Item = (String, Value);
    type IntoIter = std::vec::IntoIter<(String, Value)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<K: Into<String>, V: Into<Value>> FromIterator<(K, V)> for Map {
    /// Of entries with one key the last is kept.
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut map = Self::new();
        for (key, value) in entries {
            map.insert(key, value);
        }
        map
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_orders_by_length_then_bytes() {
        let map: Map = [("bb", 1_i64), ("a", 2), ("aaa", 3), ("ab", 4)]
            .into_iter()
            .collect();
        let keys: Vec<&str> = map.iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["a", "ab", "bb", "aaa"]);
    }

    #[test]
    fn a_key_names_one_value() {
        let mut map = Map::new();
        assert_eq!(map.insert("a", 1_i64), None);
        assert_eq!(map.insert("a", 2_i64), Some(Value::Int(1)));
        assert_eq!(map.len(), 1);
        assert_eq!(map.remove("a"), Some(Value::Int(2)));
        assert_eq!(map.get("a"), None);
    }
}
