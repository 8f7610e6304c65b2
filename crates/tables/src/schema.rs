//! Tables: their names, kinds, physical columns, keys and orders.
//!
//! A [`TableDef`] is what a segment of that table holds: one row per key, sorted by key. Of two rows with one key the one
//! with the higher order stays, compared column by column, null below all else, text and bytes bytewise.
//! What queries show (joins of states, `uri`, JSON) is made of these tables elsewhere.

mod columns;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use serde_json::Value as Json;

use crate::builtin_lexicons;
use crate::error::TablesError;
use crate::lexicon::{LexiconDoc, LexiconError, LexiconSet, RecordType, record_type};

/// The name of a table, as `schema.table` in SQL.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableName {
    /// The schema: `atproto`, `bsky` or `system`.
    pub schema: String,
    /// The table: for records the collection's NSID, or an alias.
    pub table: String,
}

impl TableName {
    /// Names a table.
    #[must_use]
    pub fn new(schema: impl Into<String>, table: impl Into<String>) -> Self {
        Self {
            schema: schema.into(),
            table: table.into(),
        }
    }
}

/// As SQL spells it: the table in double quotes where it needs them.
impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = |name: &str| {
            name.chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        };
        let quoted = self.table.replace('"', "\"\"");
        if plain(&self.table) {
            write!(f, "{}.{}", self.schema, self.table)
        } else {
            write!(f, "{}.\"{quoted}\"", self.schema)
        }
    }
}

/// What the rows of a table are.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum TableKind {
    /// Live records of one collection, with a column for each property of their Lexicon.
    Record(Arc<RecordType>),
    /// Live records of all collections that have no Lexicon here.
    Untyped,
    /// What happened, without content.
    Events,
    /// The status of an account as one source tells it.
    Accounts,
    /// The handle and host of an account as one source tells it.
    Identities,
    /// The last commit of a repository that a source delivered.
    Heads,
    /// What of a repository is dead below a `rev`.
    Floors,
    /// How far a source has been followed.
    Cursors,
    /// Rejections, resyncs and gaps.
    Notices,
}

/// One table.
#[derive(Debug, Clone)]
pub struct TableDef {
    /// Its canonical name.
    pub name: TableName,
    /// Other names for it.
    pub aliases: Vec<TableName>,
    /// What its rows are.
    pub kind: TableKind,
    /// All physical columns.
    pub schema: SchemaRef,
    /// The columns that identify a row, all not null; rows are sorted by them.
    pub key: &'static [&'static str],
    /// The columns that decide between two rows of one key; empty where such rows are the same.
    pub order: &'static [&'static str],
    /// Whether it is internal: queries see it only through other tables.
    pub hidden: bool,
}

impl TableDef {
    /// Whether rows are records, so that they may be deleted and have tombstones.
    #[must_use]
    pub fn is_records(&self) -> bool {
        matches!(self.kind, TableKind::Record(_) | TableKind::Untyped)
    }

    /// Returns the record type, if there is a Lexicon for these rows.
    #[must_use]
    pub fn record_type(&self) -> Option<&Arc<RecordType>> {
        if let TableKind::Record(record) = &self.kind {
            Some(record)
        } else {
            None
        }
    }

    /// Returns the columns of this table's tombstones: the key, `rev` and `indexed_at`, sorted by the key.
    ///
    /// A tombstone of an equal `rev` is below a record, since a delete is the smallest of all with one `rev`.
    #[must_use]
    pub fn tombstone_schema(&self) -> Option<SchemaRef> {
        self.is_records()
            .then(|| columns::tombstones(matches!(self.kind, TableKind::Untyped)))
    }

    fn new(name: TableName, kind: TableKind) -> Self {
        let (schema, key, order) = columns::of(&kind);
        let hidden = !matches!(kind, TableKind::Record(_) | TableKind::Events);
        Self {
            name,
            aliases: Vec::new(),
            kind,
            schema,
            key,
            order,
            hidden,
        }
    }
}

/// All tables that a view knows. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Catalog {
    lexicons: Arc<LexiconSet>,
    added: Vec<Arc<LexiconDoc>>,
    tables: BTreeMap<TableName, Arc<TableDef>>,
    aliases: BTreeMap<TableName, TableName>,
}

impl Catalog {
    /// Returns the tables that are there without anybody's doing: those of the built-in Lexicons, and the internal ones.
    ///
    /// # Panics
    /// If a Lexicon that is compiled in is malformed, which a test rules out.
    #[must_use]
    pub fn builtin() -> Self {
        let mut catalog = Self {
            lexicons: Arc::default(),
            added: Vec::new(),
            tables: BTreeMap::new(),
            aliases: BTreeMap::new(),
        };
        for (schema, table, kind) in internal_tables() {
            let def = TableDef::new(TableName::new(schema, table), kind);
            catalog.tables.insert(def.name.clone(), Arc::new(def));
        }
        let docs = builtin_lexicons::DOCS.iter().map(|json| {
            let json: Json = serde_json::from_str(json).expect("built-in Lexicons are JSON");
            LexiconDoc::parse(&json).expect("built-in Lexicons are well formed")
        });
        catalog.with_docs(docs.collect())
    }

    /// Returns this catalog with one more Lexicon, or a newer one of an NSID that is there.
    ///
    /// A record becomes a table; definitions only serve other Lexicons, those that are added after them. Existing
    /// columns stay as they are, so adding the same Lexicons in the same order gives the same tables everywhere.
    ///
    /// # Errors
    /// Says what is malformed in the Lexicon.
    pub fn with_lexicon(&self, json: &Json) -> Result<Self, LexiconError> {
        Ok(self.with_lexicons(vec![LexiconDoc::parse(json)?]))
    }

    /// Returns this catalog with more Lexicons, which may refer to one another; see [`Catalog::with_lexicon`].
    #[must_use]
    pub fn with_lexicons(&self, docs: Vec<LexiconDoc>) -> Self {
        let mut catalog = self.clone();
        catalog.added.extend(docs.iter().cloned().map(Arc::new));
        catalog.with_docs(docs)
    }

    /// Returns the Lexicon of an NSID, the last one that was added.
    #[must_use]
    pub fn lexicon(&self, nsid: &str) -> Option<&Arc<LexiconDoc>> {
        self.lexicons.get(nsid)
    }

    /// Returns the Lexicons that were added to the built-in ones, in the order of their adding.
    #[must_use]
    pub fn added_lexicons(&self) -> &[Arc<LexiconDoc>] {
        &self.added
    }

    /// Returns the references of `doc` that lead to nothing here, each with the place where it stands.
    #[must_use]
    pub fn missing_references(&self, doc: &LexiconDoc) -> Vec<(String, String)> {
        let mut missing = Vec::new();
        doc.references(&mut |at, reference| {
            if self.lexicons.resolve(reference).is_none() {
                missing.push((at.to_owned(), reference.to_owned()));
            }
        });
        missing
    }

    /// Returns all tables, by name.
    pub fn tables(&self) -> impl Iterator<Item = &Arc<TableDef>> {
        self.tables.values()
    }

    /// Returns the table of this name or alias.
    #[must_use]
    pub fn table(&self, name: &TableName) -> Option<&Arc<TableDef>> {
        self.tables.get(self.aliases.get(name).unwrap_or(name))
    }

    /// Returns the table with this physical name, as segments have it.
    ///
    /// # Errors
    /// [`TablesError::UnknownTable`] if a newer version made it.
    pub fn physical(&self, name: &str) -> Result<&Arc<TableDef>, TablesError> {
        name.split_once('.')
            .and_then(|(schema, table)| self.tables.get(&TableName::new(schema, table)))
            .ok_or_else(|| TablesError::UnknownTable {
                table: name.to_owned(),
            })
    }

    /// Returns the collections that have a table of their own.
    pub fn collections(&self) -> impl Iterator<Item = &str> {
        let records = self.tables.values().filter_map(|def| def.record_type());
        records.map(|record| record.collection())
    }

    /// Returns the table in which the records of a collection stand.
    #[must_use]
    pub fn records_of(&self, collection: &str) -> &Arc<TableDef> {
        self.tables
            .get(&TableName::new("atproto", collection))
            .filter(|def| def.is_records())
            .unwrap_or_else(|| self.untyped())
    }

    /// Returns the table of records without a Lexicon.
    #[must_use]
    pub fn untyped(&self) -> &Arc<TableDef> {
        &self.tables[&TableName::new("atproto", "records_untyped")]
    }

    /// Returns the table of repo floors.
    #[must_use]
    pub fn floors(&self) -> &Arc<TableDef> {
        &self.tables[&TableName::new("system", "floors")]
    }

    /// Returns the internal table that holds changes of this kind; records stand in many, see [`Catalog::records_of`].
    #[must_use]
    pub fn table_of(&self, change: &crdt::Change) -> &Arc<TableDef> {
        let (schema, table) = match change {
            crdt::Change::Record(record) => return self.records_of(record.collection.as_str()),
            crdt::Change::Event(_) => ("atproto", "events"),
            crdt::Change::Account(_) => ("atproto", "account_states"),
            crdt::Change::Identity(_) => ("atproto", "identities"),
            crdt::Change::Head(_) => ("system", "heads"),
            crdt::Change::Floor(_) => ("system", "floors"),
            crdt::Change::Cursor(_) => ("system", "cursors"),
            crdt::Change::Notice(_) => ("system", "notices"),
        };
        &self.tables[&TableName::new(schema, table)]
    }

    /// Adds Lexicons that may refer to one another, then makes the tables of their records.
    fn with_docs(mut self, docs: Vec<LexiconDoc>) -> Self {
        let records: Vec<String> = docs
            .iter()
            .filter(|doc| doc.record().is_some())
            .map(|doc| doc.id().to_owned())
            .collect();
        let lexicons = Arc::make_mut(&mut self.lexicons);
        docs.into_iter().for_each(|doc| lexicons.insert(doc));
        for collection in records {
            let name = TableName::new("atproto", &collection);
            let earlier = self.tables.get(&name).and_then(|def| def.record_type());
            let Ok(record) = record_type(&self.lexicons, &collection, earlier.map(Arc::as_ref))
            else {
                continue;
            };
            let mut def = TableDef::new(name.clone(), TableKind::Record(Arc::new(record)));
            def.aliases = self.alias(&collection, &name).into_iter().collect();
            self.tables.insert(name, Arc::new(def));
        }
        self
    }

    /// Finds the alias of a record type and takes it: an alias once given stays with its table.
    fn alias(&mut self, collection: &str, name: &TableName) -> Option<TableName> {
        if let Some((alias, _)) = self.aliases.iter().find(|(_, of)| *of == name) {
            return Some(alias.clone());
        }
        let alias = bsky_aliases(collection)?
            .into_iter()
            .find(|alias| !self.aliases.contains_key(alias))?;
        self.aliases.insert(alias.clone(), name.clone());
        Some(alias)
    }
}

/// Returns the aliases that a collection may have, best first: `bsky.post`, then with its group, `bsky.feed_post`.
fn bsky_aliases(collection: &str) -> Option<[TableName; 2]> {
    let rest = collection
        .strip_prefix("app.bsky.")
        .or_else(|| collection.strip_prefix("chat.bsky."))?;
    let (groups, last) = rest.rsplit_once('.')?;
    let last = last.to_lowercase();
    let group = groups.replace('.', "_").to_lowercase();
    Some([
        TableName::new("bsky", &last),
        TableName::new("bsky", format!("{group}_{last}")),
    ])
}

fn internal_tables() -> [(&'static str, &'static str, TableKind); 8] {
    [
        ("atproto", "records_untyped", TableKind::Untyped),
        ("atproto", "events", TableKind::Events),
        ("atproto", "account_states", TableKind::Accounts),
        ("atproto", "identities", TableKind::Identities),
        ("system", "heads", TableKind::Heads),
        ("system", "floors", TableKind::Floors),
        ("system", "cursors", TableKind::Cursors),
        ("system", "notices", TableKind::Notices),
    ]
}
