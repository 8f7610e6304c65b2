//! One Lexicon's JSON as definitions, and a set of Lexicons that refer to one another.
//!
//! Definitions of procedures, queries, subscriptions and permission sets are passed over: no record is made of them. What
//! a newer Lexicon language adds reads as [`TypeDef::Unknown`], so such a field becomes JSON instead of an error.

use std::collections::BTreeMap;
use std::sync::Arc;

use crdt::atproto::Nsid;
use serde_json::Value as Json;

/// How deep definitions may be nested inside one another in one Lexicon.
const NESTING_MAX: usize = 32;

/// Why a Lexicon can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LexiconError {
    /// It is not a JSON object.
    #[error("a Lexicon is a JSON object")]
    NotAnObject,
    /// It is of another version of the language, or names none.
    #[error("not a Lexicon of version 1")]
    Language,
    /// Its `id` is no NSID.
    #[error("the Lexicon's id is not an NSID")]
    Id,
    /// It has no `defs`.
    #[error("Lexicon {id} has no defs")]
    NoDefs {
        /// The Lexicon.
        id: String,
    },
    /// A definition is not shaped as the Lexicon language says.
    #[error("definition {name} of Lexicon {id} is malformed")]
    Definition {
        /// The Lexicon.
        id: String,
        /// The name of the definition within it.
        name: String,
    },
    /// It defines no record, so no table can be made of it.
    #[error("Lexicon {id} defines no record")]
    NoRecord {
        /// The Lexicon.
        id: String,
    },
}

/// What a string promises to be, as far as columns and links care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Any text, or a format that is read as text.
    Plain,
    /// A point in time.
    Datetime,
    /// An `at://` URI.
    AtUri,
    /// A DID.
    Did,
    /// A DID or a handle.
    AtIdentifier,
    /// A URI of any scheme.
    Uri,
}

/// The type of a field, an array's item or a definition.
#[derive(Debug, Clone, PartialEq)]
pub enum TypeDef {
    /// `boolean`.
    Boolean,
    /// `integer`.
    Integer,
    /// `string`, and `token`, whose value is a string too.
    String(Format),
    /// `bytes`.
    Bytes,
    /// `cid-link`.
    CidLink,
    /// `blob`.
    Blob,
    /// `array`.
    Array(Box<TypeDef>),
    /// `object`.
    Object(ObjectDef),
    /// `ref`, as `nsid#name`.
    Ref(String),
    /// `union`, open or closed, of references as `nsid#name`.
    Union(Vec<String>),
    /// `unknown`, and whatever this version does not know.
    Unknown,
}

/// The fields of an object: the required ones first, in the order in which `required` names them, then the others by name.
///
/// The order is the order of columns, so it must not depend on how a JSON library orders an object.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ObjectDef {
    /// Name and type of each field.
    pub properties: Vec<(String, TypeDef)>,
}

impl ObjectDef {
    /// Returns the type of the field `name`.
    #[must_use]
    pub fn property(&self, name: &str) -> Option<&TypeDef> {
        self.properties
            .iter()
            .find(|(property, _)| property == name)
            .map(|(_, def)| def)
    }
}

/// One named definition.
#[derive(Debug, Clone, PartialEq)]
pub enum Def {
    /// A record.
    Record(ObjectDef),
    /// Something that records or other definitions refer to.
    Type(TypeDef),
}

/// One Lexicon, read.
#[derive(Debug, Clone, PartialEq)]
pub struct LexiconDoc {
    id: String,
    defs: BTreeMap<String, Def>,
    source: Json,
}

impl LexiconDoc {
    /// Reads a Lexicon's JSON.
    ///
    /// # Errors
    /// Says what is malformed. Unknown fields, types and formats are no error.
    pub fn parse(json: &Json) -> Result<Self, LexiconError> {
        let object = json.as_object().ok_or(LexiconError::NotAnObject)?;
        if object.get("lexicon").and_then(Json::as_i64) != Some(1) {
            return Err(LexiconError::Language);
        }
        let id = object.get("id").and_then(Json::as_str).unwrap_or_default();
        let id: Nsid = id.parse().map_err(|_| LexiconError::Id)?;
        let id = id.to_string();
        let defs = object
            .get("defs")
            .and_then(Json::as_object)
            .ok_or_else(|| LexiconError::NoDefs { id: id.clone() })?;
        let mut read = BTreeMap::new();
        for (name, def) in defs {
            let malformed = || LexiconError::Definition {
                id: id.clone(),
                name: name.clone(),
            };
            if let Some(def) = parse_def(&id, name, def).ok_or_else(malformed)? {
                read.insert(name.clone(), def);
            }
        }
        Ok(Self {
            id,
            defs: read,
            source: json.clone(),
        })
    }

    /// Returns the NSID that this Lexicon defines.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns the record that its `main` definition is, if it is one.
    #[must_use]
    pub fn record(&self) -> Option<&ObjectDef> {
        match self.defs.get("main") {
            Some(Def::Record(object)) => Some(object),
            _ => None,
        }
    }

    /// Returns the JSON that it was read from.
    #[must_use]
    pub fn source(&self) -> &Json {
        &self.source
    }
}

/// Lexicons by NSID. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct LexiconSet {
    docs: BTreeMap<String, Arc<LexiconDoc>>,
}

impl LexiconSet {
    /// Adds a Lexicon, in place of an earlier one of the same NSID.
    pub fn insert(&mut self, doc: LexiconDoc) {
        self.docs.insert(doc.id().to_string(), Arc::new(doc));
    }

    /// Returns the Lexicon of an NSID.
    #[must_use]
    pub fn get(&self, nsid: &str) -> Option<&Arc<LexiconDoc>> {
        self.docs.get(nsid)
    }

    /// Returns all Lexicons by NSID.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<LexiconDoc>> {
        self.docs.values()
    }

    /// Returns the type that a full reference (`nsid#name`, or `nsid` for its `main`) names.
    #[must_use]
    pub fn resolve(&self, reference: &str) -> Option<&TypeDef> {
        let (nsid, name) = reference.split_once('#').unwrap_or((reference, "main"));
        match self.docs.get(nsid)?.defs.get(name)? {
            Def::Type(def) => Some(def),
            Def::Record(_) => None,
        }
    }

    /// Follows references until something else stands there; what can't be resolved is [`TypeDef::Unknown`].
    #[must_use]
    pub fn follow<'a>(&'a self, def: &'a TypeDef) -> &'a TypeDef {
        let mut def = def;
        for _ in 0..NESTING_MAX {
            let TypeDef::Ref(reference) = def else {
                return def;
            };
            match self.resolve(reference) {
                Some(next) => def = next,
                None => return &TypeDef::Unknown,
            }
        }
        &TypeDef::Unknown
    }
}

/// Returns `Some(None)` for a definition of which no record is made, `None` for a malformed one.
fn parse_def(id: &str, name: &str, json: &Json) -> Option<Option<Def>> {
    Some(match (json.get("type")?.as_str()?, name) {
        ("record", "main") => Some(Def::Record(parse_object(id, json.get("record")?, 0)?)),
        ("query" | "procedure" | "subscription" | "permission-set", _) => None,
        // Only `main` may be a record, and these two define nothing.
        ("record" | "ref" | "unknown", _) => return None,
        _ => Some(Def::Type(parse_type(id, json, 0)?)),
    })
}

fn parse_type(id: &str, json: &Json, depth: usize) -> Option<TypeDef> {
    if depth > NESTING_MAX {
        return None;
    }
    Some(match json.get("type")?.as_str()? {
        "boolean" => TypeDef::Boolean,
        "integer" => TypeDef::Integer,
        "string" => TypeDef::String(parse_format(json)),
        "token" => TypeDef::String(Format::Plain),
        "bytes" => TypeDef::Bytes,
        "cid-link" => TypeDef::CidLink,
        "blob" => TypeDef::Blob,
        "array" => TypeDef::Array(Box::new(parse_type(id, json.get("items")?, depth + 1)?)),
        "object" => TypeDef::Object(parse_object(id, json, depth + 1)?),
        "ref" => TypeDef::Ref(full_reference(id, json.get("ref")?.as_str()?)),
        "union" => {
            let refs = json.get("refs")?.as_array()?;
            TypeDef::Union(
                refs.iter()
                    .map(|r| Some(full_reference(id, r.as_str()?)))
                    .collect::<Option<_>>()?,
            )
        }
        _ => TypeDef::Unknown,
    })
}

fn parse_object(id: &str, json: &Json, depth: usize) -> Option<ObjectDef> {
    if json.get("type")?.as_str()? != "object" {
        return None;
    }
    let mut left: BTreeMap<&String, &Json> = match json.get("properties") {
        Some(properties) => properties.as_object()?.iter().collect(),
        None => BTreeMap::new(),
    };
    let mut ordered = Vec::with_capacity(left.len());
    for name in json
        .get("required")
        .and_then(Json::as_array)
        .into_iter()
        .flatten()
    {
        ordered.extend(left.remove_entry(&name.as_str()?.to_owned()));
    }
    ordered.extend(left);
    let properties = ordered
        .into_iter()
        .map(|(name, def)| Some((name.clone(), parse_type(id, def, depth + 1)?)));
    Some(ObjectDef {
        properties: properties.collect::<Option<_>>()?,
    })
}

fn parse_format(json: &Json) -> Format {
    match json.get("format").and_then(Json::as_str) {
        Some("datetime") => Format::Datetime,
        Some("at-uri") => Format::AtUri,
        Some("did") => Format::Did,
        Some("at-identifier") => Format::AtIdentifier,
        Some("uri") => Format::Uri,
        _ => Format::Plain,
    }
}

fn full_reference(id: &str, reference: &str) -> String {
    if reference.starts_with('#') {
        format!("{id}{reference}")
    } else {
        reference.to_owned()
    }
}
