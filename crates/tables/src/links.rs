//! The references that a record makes: the edges of the social graph, and what a backlink index is made of.
//!
//! A reference is an at-uri, a DID or a URL. Where a Lexicon describes a value, its formats say what is a reference, so
//! a link in a post's text is none. What no Lexicon describes (no Lexicon, fields that it does not know, objects of an
//! unknown type) is searched whole: each string that parses as an at-uri or a DID, or starts with `https://`.
//! A strongRef is one reference: its CID is none. Nor are blobs, and nor is a record's own `$type`.

#[cfg(test)]
mod tests;

use std::collections::HashSet;

use arrow::array::RecordBatch;
use crdt::atproto::{AtUri, Did, Map, Value};

use crate::lexicon::{Format, LexiconSet, ObjectDef, RecordType, TypeDef};
use crate::rebuild::{RebuildError, Rebuilder};
use crate::schema::TableDef;

/// One reference.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Link {
    /// The at-uri, DID or URL, as the record spells it.
    pub target: String,
    /// The repo that it leads to: the DID itself, or the authority of an at-uri if that is a DID.
    pub target_did: Option<String>,
    /// The collection that an at-uri leads to.
    pub target_collection: Option<String>,
    /// Where it stands, `[]` for any item of a list: `subject.uri`, `facets[].features[].did`.
    pub path: String,
}

/// Returns the references of a record in the order in which they stand in it, those of one path and target once.
#[must_use]
pub fn links_of(record: &Value, lexicon: Option<&RecordType>) -> Vec<Link> {
    let mut walk = Walk {
        lexicons: lexicon.map(|lexicon| &**lexicon.lexicons()),
        seen: HashSet::new(),
        links: Vec::new(),
    };
    match (record, lexicon) {
        (Value::Map(map), Some(lexicon)) => walk.object(map, lexicon.object(), ""),
        _ => walk.anything(record, ""),
    }
    walk.links
}

/// Returns the references of each row's record. `batch` needs only the columns that [`Rebuilder::columns`] names.
///
/// # Errors
/// Says what of which row can't be read.
pub fn links_of_rows(
    table: &TableDef,
    batch: &RecordBatch,
) -> Result<Vec<Vec<Link>>, RebuildError> {
    let rebuilder = Rebuilder::new(table)?;
    let rows = rebuilder.open(batch)?;
    let lexicon = table.record_type().map(|record| &**record);
    (0..batch.num_rows())
        .map(|row| Ok(links_of(&rows.record(row)?, lexicon)))
        .collect()
}

struct Walk<'a> {
    lexicons: Option<&'a LexiconSet>,
    seen: HashSet<(String, String)>,
    links: Vec<Link>,
}

impl<'a> Walk<'a> {
    fn object(&mut self, map: &Map, object: &'a ObjectDef, path: &str) {
        for (name, value) in map.iter().filter(|(name, _)| *name != "$type") {
            let path = field(path, name);
            match object.property(name) {
                Some(def) => self.typed(value, def, &path),
                None => self.anything(value, &path),
            }
        }
    }

    fn typed(&mut self, value: &Value, def: &'a TypeDef, path: &str) {
        let def = self.lexicons.map_or(def, |lexicons| lexicons.follow(def));
        match (def, value) {
            (TypeDef::String(format), Value::Text(text)) => self.text(text, *format, path),
            (TypeDef::Array(item), Value::List(list)) => {
                let path = format!("{path}[]");
                list.iter().for_each(|value| self.typed(value, item, &path));
            }
            (TypeDef::Object(object), Value::Map(map)) => self.object(map, object, path),
            (TypeDef::Union(_), Value::Map(map)) => match self.member(map) {
                Some(def) => self.typed(value, def, path),
                None => self.anything(value, path),
            },
            _ => self.anything(value, path),
        }
    }

    /// Finds the definition that an object of a union names. It need not be one that the union lists: unions are open.
    fn member(&self, map: &Map) -> Option<&'a TypeDef> {
        match self.lexicons?.resolve(map.get("$type")?.as_text()?)? {
            // A definition of another shape than an object describes no object, and one that names itself never ends.
            def @ TypeDef::Object(_) => Some(def),
            _ => None,
        }
    }

    fn anything(&mut self, value: &Value, path: &str) {
        match value {
            Value::Text(text) if text.starts_with("https://") => self.push(text, None, None, path),
            Value::Text(text) => self.at_uri_or_did(text, path),
            Value::List(list) => {
                let path = format!("{path}[]");
                list.iter().for_each(|value| self.anything(value, &path));
            }
            Value::Map(map) if map.get("$type").and_then(Value::as_text) != Some("blob") => {
                for (name, value) in map.iter().filter(|(name, _)| *name != "$type") {
                    self.anything(value, &field(path, name));
                }
            }
            _ => {}
        }
    }

    fn text(&mut self, text: &str, format: Format, path: &str) {
        match format {
            Format::Plain | Format::Datetime => {}
            Format::AtUri | Format::Did | Format::AtIdentifier => self.at_uri_or_did(text, path),
            Format::Uri if text.starts_with("at://") || text.starts_with("did:") => {
                self.at_uri_or_did(text, path)
            }
            Format::Uri if text.contains("://") => self.push(text, None, None, path),
            Format::Uri => {}
        }
    }

    fn at_uri_or_did(&mut self, text: &str, path: &str) {
        if text.starts_with("did:") {
            if text.parse::<Did>().is_ok() {
                self.push(text, Some(text), None, path);
            }
        } else if text.starts_with("at://")
            && let Ok(uri) = text.parse::<AtUri>()
        {
            let did = Some(uri.authority()).filter(|authority| authority.starts_with("did:"));
            self.push(text, did, uri.collection(), path);
        }
    }

    fn push(&mut self, target: &str, did: Option<&str>, collection: Option<&str>, path: &str) {
        if self.seen.insert((path.to_owned(), target.to_owned())) {
            self.links.push(Link {
                target: target.to_owned(),
                target_did: did.map(str::to_owned),
                target_collection: collection.map(str::to_owned),
                path: path.to_owned(),
            });
        }
    }
}

fn field(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}
