//! A record's definition as columns.
//!
//! A property is one column named in snake_case. A strongRef is two, `_uri` and `_cid`, and so is each strongRef in an
//! object that holds nothing else (a post's `reply`). Other objects are structs, arrays are lists, unions and `unknown`
//! are JSON text, and so is what stands inside more than [`CONTAINERS_MAX`] lists and structs, or is too wide.
//! Columns only ever grow: a property that has a column keeps it when its Lexicon changes.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, TimeUnit};

use super::{Format, LexiconError, LexiconSet, ObjectDef, TypeDef};

/// Columns that every table of records has; a property of such a name gets [`TAKEN_PREFIX`].
pub(crate) const COMMON_COLUMNS: [&str; 13] = [
    "uri",
    "did",
    "rkey",
    "cid",
    "rev",
    "created_at",
    "time",
    "indexed_at",
    "source",
    "seq",
    "verification",
    "extra",
    "raw",
];

/// What stands before the name of a property whose own name is taken.
const TAKEN_PREFIX: &str = "record_";

/// How many lists and structs may stand around a value that is a column or part of one.
const CONTAINERS_MAX: usize = 4;

/// How many fields the structs and groups of one table may have together; built-in types have at most 20. Definitions
/// that hold one another could multiply into millions, so an object that does not fit is JSON text.
pub(super) const FIELDS_MAX: usize = 1_000;

const STRONG_REF: &str = "com.atproto.repo.strongRef";

/// How a column holds a value. A value of another shape is null in the column and stands in `extra`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ColumnKind {
    /// Text, as Utf8.
    Text,
    /// A datetime, as `Timestamp(Microsecond, "UTC")`.
    Datetime,
    /// An integer, as Int64.
    Integer,
    /// A boolean.
    Boolean,
    /// Bytes, as Binary.
    Bytes,
    /// A link, as the text of its CID.
    CidLink,
    /// A blob, as a struct of `cid`, `mime_type`, `size`.
    Blob,
    /// Any value, as its AT Protocol JSON.
    Json,
    /// A list.
    List(Box<ColumnKind>),
    /// An object with known fields, at least one.
    Struct(Vec<StructField>),
}

/// One field of a struct.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StructField {
    /// Its name in Arrow, in snake_case.
    pub name: String,
    /// Its name in the record.
    pub property: String,
    /// How it is held.
    pub kind: ColumnKind,
}

/// One column of a record's table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Where its value stands in the record: names of properties, outermost first.
    pub path: Vec<String>,
    /// How it is held.
    pub kind: ColumnKind,
}

/// What a property of a record, or of an object inside it, becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Node {
    /// The column of this number.
    Column(usize),
    /// An object that has no column of its own, only its fields have.
    Group(Vec<(String, Node)>),
}

/// A record type: its columns, and its definition.
#[derive(Debug, Clone)]
pub struct RecordType {
    collection: String,
    columns: Vec<Column>,
    fields: Vec<(String, Node)>,
    object: ObjectDef,
    lexicons: Arc<LexiconSet>,
}

impl RecordType {
    /// Returns the collection whose records these are, which is also their `$type`.
    #[must_use]
    pub fn collection(&self) -> &str {
        &self.collection
    }

    /// Returns the columns, in the order of the table. One named `created_at` is the common column of that name.
    #[must_use]
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// Returns the Lexicon's definition of the record.
    #[must_use]
    pub fn object(&self) -> &ObjectDef {
        &self.object
    }

    /// Returns the Lexicons in which the definition's references resolve.
    #[must_use]
    pub fn lexicons(&self) -> &Arc<LexiconSet> {
        &self.lexicons
    }

    pub(crate) fn fields(&self) -> &[(String, Node)] {
        &self.fields
    }
}

impl ColumnKind {
    /// Returns the Arrow type.
    #[must_use]
    pub fn data_type(&self) -> DataType {
        match self {
            Self::Text | Self::CidLink | Self::Json => DataType::Utf8,
            Self::Datetime => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Self::Integer => DataType::Int64,
            Self::Boolean => DataType::Boolean,
            Self::Bytes => DataType::Binary,
            Self::Blob => DataType::Struct(blob_fields()),
            Self::List(items) => DataType::List(list_item(items)),
            Self::Struct(fields) => DataType::Struct(struct_fields(fields)),
        }
    }
}

/// Returns the field of a list's items.
pub(crate) fn list_item(items: &ColumnKind) -> Arc<Field> {
    Arc::new(Field::new("item", items.data_type(), true))
}

/// Returns the Arrow fields of a struct.
pub(crate) fn struct_fields(fields: &[StructField]) -> Fields {
    fields
        .iter()
        .map(|field| Field::new(&field.name, field.kind.data_type(), true))
        .collect()
}

/// Returns the Arrow fields of a blob.
pub(crate) fn blob_fields() -> Fields {
    Fields::from(vec![
        Field::new("cid", DataType::Utf8, true),
        Field::new("mime_type", DataType::Utf8, true),
        Field::new("size", DataType::Int64, true),
    ])
}

/// Derives the columns of a record type.
///
/// `earlier` is the type as tables have it so far: its columns stay as they are, new ones are added behind them.
///
/// # Errors
/// [`LexiconError::NoRecord`] if the set does not define `nsid` as a record.
pub fn record_type(
    set: &Arc<LexiconSet>,
    nsid: &str,
    earlier: Option<&RecordType>,
) -> Result<RecordType, LexiconError> {
    let missing = || LexiconError::NoRecord {
        id: nsid.to_owned(),
    };
    let doc = set.get(nsid).ok_or_else(missing)?;
    let object = doc.record().ok_or_else(missing)?.clone();
    let mut deriving = Deriving {
        set,
        taken: COMMON_COLUMNS.iter().map(|&name| name.to_owned()).collect(),
        columns: earlier.map_or_else(Vec::new, |earlier| earlier.columns.clone()),
        fields_left: FIELDS_MAX,
    };
    deriving
        .taken
        .extend(deriving.columns.iter().map(|column| column.name.clone()));
    let mut fields = earlier.map_or_else(Vec::new, |earlier| earlier.fields.clone());
    for (property, def) in &object.properties {
        // The record's own `$type` says which table it is in.
        if property == "$type" || fields.iter().any(|(name, _)| name == property) {
            continue;
        }
        fields.push((property.clone(), deriving.node(&[property], def)));
    }
    let columns = deriving.columns;
    Ok(RecordType {
        collection: doc.id().to_owned(),
        columns,
        fields,
        object,
        lexicons: Arc::clone(set),
    })
}

struct Deriving<'a> {
    set: &'a LexiconSet,
    taken: HashSet<String>,
    columns: Vec<Column>,
    fields_left: usize,
}

impl Deriving<'_> {
    fn node(&mut self, path: &[&str], def: &TypeDef) -> Node {
        if is_strong_ref(self.set, def) {
            let part = |deriving: &mut Self, name: &'static str| {
                (
                    name.to_owned(),
                    deriving.column(&[path, &[name]].concat(), ColumnKind::Text),
                )
            };
            return Node::Group(vec![part(self, "uri"), part(self, "cid")]);
        }
        let set = self.set;
        if let TypeDef::Object(object) = set.follow(def)
            && !object.properties.is_empty()
            && object
                .properties
                .iter()
                .all(|(_, def)| is_strong_ref(set, def))
            && self.take_fields(object)
        {
            let fields = object
                .properties
                .iter()
                .map(|(name, def)| (name.clone(), self.node(&[path, &[name]].concat(), def)));
            return Node::Group(fields.collect());
        }
        let kind = self.kind(def, 0);
        self.column(path, kind)
    }

    fn take_fields(&mut self, object: &ObjectDef) -> bool {
        let left = self.fields_left.checked_sub(object.properties.len());
        self.fields_left = left.unwrap_or(self.fields_left);
        left.is_some()
    }

    fn kind(&mut self, def: &TypeDef, containers: usize) -> ColumnKind {
        match self.set.follow(def) {
            TypeDef::Boolean => ColumnKind::Boolean,
            TypeDef::Integer => ColumnKind::Integer,
            TypeDef::String(Format::Datetime) => ColumnKind::Datetime,
            TypeDef::String(_) => ColumnKind::Text,
            TypeDef::Bytes => ColumnKind::Bytes,
            TypeDef::CidLink => ColumnKind::CidLink,
            TypeDef::Blob => ColumnKind::Blob,
            TypeDef::Array(items) if containers < CONTAINERS_MAX => {
                ColumnKind::List(Box::new(self.kind(items, containers + 1)))
            }
            TypeDef::Object(object) if containers < CONTAINERS_MAX => {
                self.object(object, containers)
            }
            _ => ColumnKind::Json,
        }
    }

    fn object(&mut self, object: &ObjectDef, containers: usize) -> ColumnKind {
        // Parquet has no struct without fields.
        if object.properties.is_empty() || !self.take_fields(object) {
            return ColumnKind::Json;
        }
        let mut taken = HashSet::new();
        let field = |(property, def): &(String, TypeDef)| StructField {
            name: free_name(snake_case(property), &mut taken),
            property: property.clone(),
            kind: self.kind(def, containers + 1),
        };
        ColumnKind::Struct(object.properties.iter().map(field).collect())
    }

    fn column(&mut self, path: &[&str], kind: ColumnKind) -> Node {
        let name = path
            .iter()
            .map(|name| snake_case(name))
            .collect::<Vec<_>>()
            .join("_");
        let name =
            if path == ["createdAt"] && kind == ColumnKind::Datetime && !self.has_created_at() {
                name
            } else {
                free_name(name, &mut self.taken)
            };
        self.columns.push(Column {
            name,
            path: path.iter().map(|&name| name.to_owned()).collect(),
            kind,
        });
        Node::Column(self.columns.len() - 1)
    }

    fn has_created_at(&self) -> bool {
        self.columns
            .iter()
            .any(|column| column.name == "created_at")
    }
}

fn is_strong_ref(set: &LexiconSet, def: &TypeDef) -> bool {
    let mut def = def;
    // Two hops are what a definition that names a definition needs; a longer chain is a struct, which is as good.
    for _ in 0..2 {
        let TypeDef::Ref(reference) = def else {
            return false;
        };
        if reference.strip_suffix("#main").unwrap_or(reference) == STRONG_REF {
            return true;
        }
        let Some(next) = set.resolve(reference) else {
            return false;
        };
        def = next;
    }
    false
}

/// Returns `name`, made unlike all in `taken`, and takes it.
fn free_name(name: String, taken: &mut HashSet<String>) -> String {
    let mut free = name.clone();
    if taken.contains(&free) {
        free = format!("{TAKEN_PREFIX}{name}");
    }
    let mut number = 2;
    while taken.contains(&free) {
        free = format!("{TAKEN_PREFIX}{name}_{number}");
        number += 1;
    }
    taken.insert(free.clone());
    free
}

/// Spells a property's name in snake_case: `detachedEmbeddingUris` is `detached_embedding_uris`, `avatarURL` is `avatar_url`.
#[must_use]
pub fn snake_case(name: &str) -> String {
    let letters: Vec<char> = name.chars().collect();
    let mut snake = String::with_capacity(name.len() + 4);
    for (at, &letter) in letters.iter().enumerate() {
        if !letter.is_alphanumeric() {
            snake.push('_');
            continue;
        }
        let after_word = at > 0 && (letters[at - 1].is_lowercase() || letters[at - 1].is_numeric());
        let ends_acronym = at > 0
            && letters[at - 1].is_uppercase()
            && letters.get(at + 1).is_some_and(|next| next.is_lowercase());
        if letter.is_uppercase() && (after_word || ends_acronym) {
            snake.push('_');
        }
        snake.extend(letter.to_lowercase());
    }
    snake
}
