//! The names of one view: schemas, tables, aliases.
//!
//! A catalog belongs to one view and dies with it, so all tables of a query read one cut.

use crate::scan::Snapshot;
use crate::stored::StoredTable;
use crate::view::TableName;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, SchemaProvider, TableProvider};
use datafusion::error::Result;
use datafusion::logical_expr::TableType;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The name of the only catalog.
pub const CATALOG: &str = "alluvium";
/// The schema in which unqualified names are looked for.
pub const DEFAULT_SCHEMA: &str = "bsky";

/// One table as a client's metadata request sees it.
#[derive(Debug, Clone)]
pub struct TableInfo {
    /// Always [`CATALOG`].
    pub catalog: String,
    /// The schema: `bsky`, `atproto`, `system`, ….
    pub schema: String,
    /// The table's name, without quotes.
    pub table: String,
    /// `TABLE`, `VIEW` or `SYSTEM TABLE`.
    pub kind: &'static str,
    /// Its columns, as a scan gives them.
    pub arrow_schema: SchemaRef,
}

/// The tables of one view by schema and name.
#[derive(Debug, Default)]
pub(crate) struct ViewCatalog {
    schemas: BTreeMap<String, Arc<ViewSchema>>,
}

#[derive(Debug, Default)]
struct ViewSchema {
    tables: BTreeMap<String, Arc<dyn TableProvider>>,
}

impl ViewCatalog {
    /// All tables of `snapshot`'s view.
    pub(crate) fn new(snapshot: &Arc<Snapshot>) -> Self {
        let mut named: BTreeMap<String, ViewSchema> = BTreeMap::new();
        let mut put = |name: &TableName, table: Arc<dyn TableProvider>| {
            named
                .entry(name.schema.clone())
                .or_default()
                .tables
                .insert(name.table.clone(), table);
        };
        for table in snapshot.view.catalog().tables() {
            let provider: Arc<dyn TableProvider> =
                Arc::new(StoredTable::new(Arc::clone(snapshot), Arc::clone(table)));
            put(&table.name, Arc::clone(&provider));
            for alias in &table.aliases {
                put(alias, Arc::clone(&provider));
            }
        }
        let schemas = named
            .into_iter()
            .map(|(name, schema)| (name, Arc::new(schema)))
            .collect();
        Self { schemas }
    }

    /// All tables, sorted by schema and name.
    pub(crate) fn tables(&self) -> Vec<TableInfo> {
        let mut all = Vec::new();
        for (schema, tables) in &self.schemas {
            for (table, provider) in &tables.tables {
                all.push(TableInfo {
                    catalog: CATALOG.to_owned(),
                    schema: schema.clone(),
                    table: table.clone(),
                    kind: kind_of(schema, provider.table_type()),
                    arrow_schema: provider.schema(),
                });
            }
        }
        all
    }

    /// Whether there is such a table.
    pub(crate) fn has(&self, schema: &str, table: &str) -> bool {
        self.schemas
            .get(schema)
            .is_some_and(|found| found.tables.contains_key(table))
    }

    /// The names of all tables, sorted.
    pub(crate) fn names(&self) -> impl Iterator<Item = (&str, &str)> {
        self.schemas.iter().flat_map(|(schema, found)| {
            found
                .tables
                .keys()
                .map(move |table| (schema.as_str(), table.as_str()))
        })
    }
}

fn kind_of(schema: &str, kind: TableType) -> &'static str {
    match kind {
        _ if schema == "system" => "SYSTEM TABLE",
        TableType::View => "VIEW",
        TableType::Base | TableType::Temporary => "TABLE",
    }
}

impl CatalogProvider for ViewCatalog {
    fn schema_names(&self) -> Vec<String> {
        self.schemas.keys().cloned().collect()
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        self.schemas
            .get(name)
            .map(|schema| Arc::clone(schema) as Arc<dyn SchemaProvider>)
    }
}

#[async_trait]
impl SchemaProvider for ViewSchema {
    fn table_names(&self) -> Vec<String> {
        self.tables.keys().cloned().collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        Ok(self.tables.get(name).cloned())
    }

    fn table_exist(&self, name: &str) -> bool {
        self.tables.contains_key(name)
    }
}
