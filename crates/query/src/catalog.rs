//! The names of one view: schemas, tables, aliases.
//!
//! A catalog belongs to one view and dies with it, so all tables of a query read one cut.

use crate::links::LinksTable;
use crate::records::RecordsTable;
use crate::scan::Snapshot;
use crate::stored::StoredTable;
use crate::system::{Described, DescribedTable};
use crate::views::{SQL_VIEWS, SqlView};
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{
    CatalogProvider, CatalogProviderList, MemoryCatalogProviderList, SchemaProvider, TableProvider,
};
use datafusion::datasource::ViewTable;
use datafusion::error::Result;
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::TableType;
use std::collections::BTreeMap;
use std::fmt;
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
#[derive(Debug)]
pub(crate) struct ViewCatalog {
    schemas: BTreeMap<String, Arc<ViewSchema>>,
}

#[derive(Debug, Default)]
struct ViewSchema {
    tables: BTreeMap<String, Named>,
}

/// What a name stands for.
#[derive(Clone)]
enum Named {
    Table(Arc<dyn TableProvider>),
    /// A query, planned by `planner` when it is asked for.
    View {
        view: SqlView,
        planner: Arc<SessionState>,
    },
}

impl fmt::Debug for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Table(table) => table.fmt(f),
            Self::View { view, .. } => view.fmt(f),
        }
    }
}

impl ViewCatalog {
    /// All tables of `snapshot`'s view; `base` has the functions and settings of the engine.
    pub(crate) fn new(snapshot: &Arc<Snapshot>, base: &SessionState) -> Self {
        let planner = Arc::new(planner(snapshot, base));
        let mut named: BTreeMap<String, ViewSchema> = BTreeMap::new();
        let mut put = |schema: &str, table: &str, what: Named| {
            named
                .entry(schema.to_owned())
                .or_default()
                .tables
                .insert(table.to_owned(), what);
        };
        for table in snapshot
            .view
            .catalog()
            .tables()
            .filter(|table| !table.hidden)
        {
            let provider = Named::Table(Arc::new(StoredTable::new(
                Arc::clone(snapshot),
                Arc::clone(table),
            )));
            put(&table.name.schema, &table.name.table, provider.clone());
            for alias in &table.aliases {
                put(&alias.schema, &alias.table, provider.clone());
            }
        }
        put(
            "atproto",
            "records",
            Named::Table(Arc::new(RecordsTable::new(Arc::clone(snapshot)))),
        );
        put(
            "atproto",
            "links",
            Named::Table(Arc::new(LinksTable::new(Arc::clone(snapshot)))),
        );
        for what in Described::ALL {
            let table = DescribedTable::new(Arc::clone(snapshot), what);
            put("system", what.table(), Named::Table(Arc::new(table)));
        }
        for view in SQL_VIEWS {
            put(
                view.schema,
                view.table,
                Named::View {
                    view,
                    planner: Arc::clone(&planner),
                },
            );
        }
        let schemas = named
            .into_iter()
            .map(|(name, schema)| (name, Arc::new(schema)))
            .collect();
        Self { schemas }
    }

    /// All tables, sorted by schema and name.
    pub(crate) async fn tables(&self) -> Result<Vec<TableInfo>> {
        let mut all = Vec::new();
        for (schema, tables) in &self.schemas {
            for (table, named) in &tables.tables {
                let provider = named.provider().await?;
                all.push(TableInfo {
                    catalog: CATALOG.to_owned(),
                    schema: schema.clone(),
                    table: table.clone(),
                    kind: kind_of(schema, provider.table_type()),
                    arrow_schema: provider.schema(),
                });
            }
        }
        Ok(all)
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

/// A state that finds the stored tables by their last name, hidden ones too: what the SQL of views is written against.
fn planner(snapshot: &Arc<Snapshot>, base: &SessionState) -> SessionState {
    let stored = snapshot.view.catalog().tables().map(|table| {
        let provider = Arc::new(StoredTable::new(Arc::clone(snapshot), Arc::clone(table)));
        (table.name.table.clone(), Named::Table(provider))
    });
    let schema = Arc::new(ViewSchema {
        tables: stored.collect(),
    });
    let catalog = ViewCatalog {
        schemas: BTreeMap::from([(DEFAULT_SCHEMA.to_owned(), schema)]),
    };
    with_catalog(base, Arc::new(catalog))
}

/// `base` with `catalog` as its only catalog.
pub(crate) fn with_catalog(base: &SessionState, catalog: Arc<ViewCatalog>) -> SessionState {
    let list = MemoryCatalogProviderList::new();
    list.register_catalog(CATALOG.to_owned(), catalog);
    SessionStateBuilder::new_from_existing(base.clone())
        .with_catalog_list(Arc::new(list))
        .build()
}

fn kind_of(schema: &str, kind: TableType) -> &'static str {
    match kind {
        _ if schema == "system" => "SYSTEM TABLE",
        TableType::View => "VIEW",
        TableType::Base | TableType::Temporary => "TABLE",
    }
}

impl Named {
    async fn provider(&self) -> Result<Arc<dyn TableProvider>> {
        match self {
            Self::Table(table) => Ok(Arc::clone(table)),
            Self::View { view, planner } => {
                let plan = planner.create_logical_plan(view.sql).await?;
                Ok(Arc::new(ViewTable::new(plan, None)))
            }
        }
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
        match self.tables.get(name) {
            Some(named) => named.provider().await.map(Some),
            None => Ok(None),
        }
    }

    fn table_exist(&self, name: &str) -> bool {
        self.tables.contains_key(name)
    }
}
