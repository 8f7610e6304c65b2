//! `extra`: what the typed columns of a row can't hold, as one JSON object in AT Protocol's JSON (`$link`, `$bytes`).
//!
//! A record is its typed columns, then the entries of `extra` put over them. An entry's key says where:
//! - `name`: the record's own field `name`, whole.
//! - `/name/3/other`: a JSON Pointer (RFC 6901) to a field or an item inside; all that stands around it is in the columns.
//!   A field of the record whose own name begins with `/` or `-/` is written as a pointer too.
//! - `-/$type`: the record has no `$type`. One that equals the collection is not written at all.
//!
//! Entries never stand inside one another, so their order has no meaning. What is an entry: fields that the Lexicon
//! does not know; values of another type than the Lexicon's, nulls too (the column is null, an item of a list is null); a
//! datetime that is not spelled as the column's canonical form (the column has the instant, if there is one); an object
//! without columns of its own none of whose columns has a value. `extra` is null if there are none.

use crdt::atproto::{Map, Value, json};

/// The field that names a record's type.
pub(crate) const TYPE: &str = "$type";

/// The key that says that the record has no [`TYPE`].
const NO_TYPE: &str = "-/$type";

/// A step from a value to one inside it.
#[derive(Debug, Clone, Copy)]
enum Step<'a> {
    Field(&'a str),
    Item(usize),
}

/// A place in a record, as the way to it. It lives on the stack, so that a way is spelled only where it is needed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct At<'a> {
    outer: Option<&'a At<'a>>,
    step: Step<'a>,
}

impl<'a> At<'a> {
    /// The field `name` of what stands at `outer`, or of the record.
    pub(crate) fn field(outer: Option<&'a At<'a>>, name: &'a str) -> Self {
        Self {
            outer,
            step: Step::Field(name),
        }
    }

    /// The item `number` of the list at `outer`.
    pub(crate) fn item(outer: &'a At<'a>, number: usize) -> Self {
        Self {
            outer: Some(outer),
            step: Step::Item(number),
        }
    }

    fn key(&self) -> String {
        match (self.outer, self.step) {
            (None, Step::Field(name)) if !name.starts_with('/') && !name.starts_with("-/") => {
                name.to_owned()
            }
            _ => self.pointer(),
        }
    }

    fn pointer(&self) -> String {
        let outer = self.outer.map_or_else(String::new, At::pointer);
        match self.step {
            Step::Field(name) => format!("{outer}/{}", name.replace('~', "~0").replace('/', "~1")),
            Step::Item(number) => format!("{outer}/{number}"),
        }
    }
}

/// The entries of one record's `extra`, while the record is taken apart.
#[derive(Debug, Default)]
pub(crate) struct Leftovers<'v> {
    entries: Vec<(String, &'v Value)>,
    no_type: bool,
}

impl<'v> Leftovers<'v> {
    /// Leaves the record's type, unless it is its collection.
    pub(crate) fn record_type(&mut self, value: Option<&'v Value>, collection: &str) {
        match value {
            None => self.no_type = true,
            Some(Value::Text(text)) if text == collection => {}
            Some(other) => self.leave(&At::field(None, TYPE), other),
        }
    }

    /// Leaves `value`, which stands at `at`.
    pub(crate) fn leave(&mut self, at: &At<'_>, value: &'v Value) {
        self.entries.push((at.key(), value));
    }

    /// Returns how many entries there are.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Forgets all entries after the first `len`.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.entries.truncate(len);
    }

    /// Returns the column's text, if there is anything to say.
    pub(crate) fn into_text(self) -> Option<String> {
        if self.entries.is_empty() && !self.no_type {
            return None;
        }
        let mut text = String::from("{");
        let mut entry = |key: &str, value: &Value| {
            if text.len() > 1 {
                text.push(',');
            }
            text.push_str(&json::to_text(&Value::from(key)));
            text.push(':');
            text.push_str(&json::to_text(value));
        };
        if self.no_type {
            entry(NO_TYPE, &Value::Bool(true));
        }
        for (key, value) in self.entries {
            entry(&key, value);
        }
        text.push('}');
        Some(text)
    }
}

/// Why an `extra` can't be put over a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExtraError {
    /// It is no JSON object.
    #[error("extra is no JSON object")]
    NotAnObject,
    /// The value of an entry is not AT Protocol JSON.
    #[error("an entry of extra is not AT Protocol JSON")]
    Value,
    /// The columns have no such place.
    #[error("an entry of extra points to where nothing is")]
    Place,
}

/// Puts the entries of an `extra` over a record that was made of typed columns.
///
/// # Errors
/// Says what is wrong with the text; `record` is then half done.
pub(crate) fn put_over(text: &str, record: &mut Map) -> Result<(), ExtraError> {
    let Ok(serde_json::Value::Object(entries)) = serde_json::from_str(text) else {
        return Err(ExtraError::NotAnObject);
    };
    for (key, value) in &entries {
        if key == NO_TYPE {
            record.remove(TYPE);
            continue;
        }
        let value = json::from_json(value).map_err(|_| ExtraError::Value)?;
        if let Some(pointer) = key.strip_prefix('/') {
            put_at(record, pointer, value)?;
        } else {
            record.insert(key.as_str(), value);
        }
    }
    Ok(())
}

fn put_at(record: &mut Map, pointer: &str, value: Value) -> Result<(), ExtraError> {
    let (way, last) = match pointer.rsplit_once('/') {
        Some((way, last)) => (Some(way), last),
        None => (None, pointer),
    };
    let Some(way) = way else {
        record.insert(unescape(last), value);
        return Ok(());
    };
    let mut steps = way.split('/');
    let first = steps.next().unwrap_or_default();
    let mut place = record.get_mut(&unescape(first)).ok_or(ExtraError::Place)?;
    for step in steps {
        place = match place {
            Value::Map(map) => map.get_mut(&unescape(step)),
            Value::List(list) => step
                .parse::<usize>()
                .ok()
                .and_then(|number| list.get_mut(number)),
            _ => None,
        }
        .ok_or(ExtraError::Place)?;
    }
    match place {
        Value::Map(map) => {
            map.insert(unescape(last), value);
        }
        Value::List(list) => {
            let number: usize = last.parse().map_err(|_| ExtraError::Place)?;
            *list.get_mut(number).ok_or(ExtraError::Place)? = value;
        }
        _ => return Err(ExtraError::Place),
    }
    Ok(())
}

fn unescape(step: &str) -> String {
    step.replace("~1", "/").replace("~0", "~")
}
