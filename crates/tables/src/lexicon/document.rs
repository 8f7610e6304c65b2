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
    #[error("Lexicon {id} is malformed at {at}: {what}")]
    Definition {
        /// The Lexicon.
        id: String,
        /// The place, as names from the top of the Lexicon: `defs.main.record.properties.steps.items`.
        at: String,
        /// What is wrong there.
        what: Malformed,
    },
    /// It defines no record, so no table can be made of it.
    #[error("Lexicon {id} defines no record")]
    NoRecord {
        /// The Lexicon.
        id: String,
    },
}

/// What is wrong with a definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// A field that the language wants is not there.
    #[error("it has no {name}")]
    Missing {
        /// The field.
        name: &'static str,
    },
    /// Not a text.
    #[error("a text belongs here")]
    NoText,
    /// Not an array.
    #[error("an array belongs here")]
    NoArray,
    /// Not a JSON object.
    #[error("a JSON object belongs here")]
    NoObject,
    /// Another type than `object` where the language wants one.
    #[error("only the type object can be here")]
    NoObjectType,
    /// A record that is not the definition `main`.
    #[error("only the definition main can be a record")]
    RecordNotMain,
    /// A definition that defines nothing.
    #[error("a definition can't be of the types ref and unknown")]
    DefinesNothing,
    /// Too deep.
    #[error("definitions are nested more than {NESTING_MAX} deep")]
    Nested,
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
            match parse_def(&id, name, def) {
                Ok(Some(def)) => {
                    read.insert(name.clone(), def);
                }
                Ok(None) => {}
                Err(Wrong { at, what }) => return Err(LexiconError::Definition { id, at, what }),
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

    /// Calls `found` for each reference that a field of its record, or of what it defines, makes: its place and its target.
    pub(crate) fn references(&self, found: &mut dyn FnMut(&str, &str)) {
        for (name, def) in &self.defs {
            match def {
                Def::Record(object) => {
                    references(&TypeDef::Object(object.clone()), "", found);
                }
                Def::Type(def) => references(def, name, found),
            }
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

/// What is malformed in a definition, and where in it.
struct Wrong {
    at: String,
    what: Malformed,
}

fn wrong(at: &str, what: Malformed) -> Wrong {
    Wrong {
        at: at.to_owned(),
        what,
    }
}

/// The field `name` of what stands at `at`, which must be there.
fn needed<'a>(json: &'a Json, at: &str, name: &'static str) -> Result<&'a Json, Wrong> {
    json.get(name)
        .ok_or_else(|| wrong(at, Malformed::Missing { name }))
}

fn text<'a>(json: &'a Json, at: &str, name: &'static str) -> Result<&'a str, Wrong> {
    let text = needed(json, at, name)?.as_str();
    text.ok_or_else(|| wrong(&format!("{at}.{name}"), Malformed::NoText))
}

/// Returns `None` for a definition of which no record is made.
fn parse_def(id: &str, name: &str, json: &Json) -> Result<Option<Def>, Wrong> {
    let at = format!("defs.{name}");
    Ok(match (text(json, &at, "type")?, name) {
        ("record", "main") => {
            let record = needed(json, &at, "record")?;
            let object = parse_object(id, record, 0, &format!("{at}.record"))?;
            Some(Def::Record(object))
        }
        ("query" | "procedure" | "subscription" | "permission-set", _) => None,
        ("record", _) => return Err(wrong(&at, Malformed::RecordNotMain)),
        ("ref" | "unknown", _) => return Err(wrong(&at, Malformed::DefinesNothing)),
        _ => Some(Def::Type(parse_type(id, json, 0, &at)?)),
    })
}

fn parse_type(id: &str, json: &Json, depth: usize, at: &str) -> Result<TypeDef, Wrong> {
    if depth > NESTING_MAX {
        return Err(wrong(at, Malformed::Nested));
    }
    Ok(match text(json, at, "type")? {
        "boolean" => TypeDef::Boolean,
        "integer" => TypeDef::Integer,
        "string" => TypeDef::String(parse_format(json)),
        "token" => TypeDef::String(Format::Plain),
        "bytes" => TypeDef::Bytes,
        "cid-link" => TypeDef::CidLink,
        "blob" => TypeDef::Blob,
        "array" => {
            let items = needed(json, at, "items")?;
            let items = parse_type(id, items, depth + 1, &format!("{at}.items"))?;
            TypeDef::Array(Box::new(items))
        }
        "object" => TypeDef::Object(parse_object(id, json, depth + 1, at)?),
        "ref" => TypeDef::Ref(full_reference(id, text(json, at, "ref")?)),
        "union" => {
            let refs = needed(json, at, "refs")?.as_array();
            let refs = refs.ok_or_else(|| wrong(&format!("{at}.refs"), Malformed::NoArray))?;
            let refs = refs.iter().enumerate().map(|(number, reference)| {
                let reference = reference.as_str();
                reference
                    .map(|reference| full_reference(id, reference))
                    .ok_or_else(|| wrong(&format!("{at}.refs[{number}]"), Malformed::NoText))
            });
            TypeDef::Union(refs.collect::<Result<_, _>>()?)
        }
        _ => TypeDef::Unknown,
    })
}

fn parse_object(id: &str, json: &Json, depth: usize, at: &str) -> Result<ObjectDef, Wrong> {
    if text(json, at, "type")? != "object" {
        return Err(wrong(&format!("{at}.type"), Malformed::NoObjectType));
    }
    let properties_at = format!("{at}.properties");
    let mut left: BTreeMap<&String, &Json> = match json.get("properties") {
        Some(properties) => properties
            .as_object()
            .ok_or_else(|| wrong(&properties_at, Malformed::NoObject))?
            .iter()
            .collect(),
        None => BTreeMap::new(),
    };
    let mut ordered = Vec::with_capacity(left.len());
    let required = json.get("required").and_then(Json::as_array);
    for (number, name) in required.into_iter().flatten().enumerate() {
        let name = name
            .as_str()
            .ok_or_else(|| wrong(&format!("{at}.required[{number}]"), Malformed::NoText))?;
        ordered.extend(left.remove_entry(&name.to_owned()));
    }
    ordered.extend(left);
    let properties = ordered.into_iter().map(|(name, def)| {
        let def = parse_type(id, def, depth + 1, &format!("{properties_at}.{name}"))?;
        Ok((name.clone(), def))
    });
    Ok(ObjectDef {
        properties: properties.collect::<Result<_, _>>()?,
    })
}

/// Calls `found` for each reference in `def`, with the way to it.
fn references(def: &TypeDef, at: &str, found: &mut dyn FnMut(&str, &str)) {
    match def {
        TypeDef::Ref(reference) => found(at, reference),
        TypeDef::Array(items) => references(items, &format!("{at}[]"), found),
        TypeDef::Object(object) => {
            for (name, def) in &object.properties {
                let at = match at {
                    "" => name.clone(),
                    at => format!("{at}.{name}"),
                };
                references(def, &at, found);
            }
        }
        _ => {}
    }
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
