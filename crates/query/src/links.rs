//! `atproto.links`: every reference that a record makes, one row each, derived while the records are read.
//!
//! A filter on `did`, `collection`, `rkey` or `uri` (where a link comes from) reads less; one on a target does not.

use crate::derive::{Derivation, DeriveExec};
use crate::records::{tables_that_fit, union};
use crate::scan::{Scan, Snapshot};
use crate::stored::{common_filters, project};
use crate::uri::{URI, names_uri};
use crate::view::{Link, Rebuilder, TableDef, links_of_rows};
use arrow::array::{ArrayRef, AsArray, RecordBatch, StringArray, StringBuilder, UInt64Builder};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType, col};
use datafusion::physical_plan::ExecutionPlan;
use std::sync::Arc;

/// Columns of a link that are columns of the record it stands in.
const ORIGIN: [&str; 5] = ["did", "collection", "rkey", URI, "created_at"];

/// The provider of `atproto.links` in one view.
#[derive(Debug)]
pub(crate) struct LinksTable {
    snapshot: Arc<Snapshot>,
    schema: SchemaRef,
}

impl LinksTable {
    /// The links of all records.
    pub(crate) fn new(snapshot: Arc<Snapshot>) -> Self {
        Self {
            snapshot,
            schema: links_schema(),
        }
    }
}

fn links_schema() -> SchemaRef {
    let text = |name: &str, null| Field::new(name, DataType::Utf8, null);
    Arc::new(Schema::new(vec![
        text("target", false),
        text("target_did", true),
        text("target_collection", true),
        text("path", false),
        text("did", false),
        text("collection", false),
        text("rkey", false),
        text(URI, false),
        Field::new(
            "created_at",
            DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            true,
        ),
    ]))
}

/// Whether a filter speaks only of where links come from: `created_at` and the rest mean the same in both.
fn is_of_origin(filter: &Expr) -> bool {
    names_uri(filter)
        || filter
            .column_refs()
            .iter()
            .all(|column| ORIGIN.contains(&column.name.as_str()))
}

#[async_trait]
impl TableProvider for LinksTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let filters: Vec<Expr> = filters
            .iter()
            .filter(|filter| is_of_origin(filter))
            .cloned()
            .collect();
        let mut parts: Vec<Arc<dyn ExecutionPlan>> = Vec::new();
        for table in tables_that_fit(&self.snapshot, state, &filters)? {
            let links = Links::new(Arc::clone(&table))?;
            let scan = Scan {
                table: &table,
                projection: links.columns.clone(),
                filters: common_filters(&table, &filters),
                limit: None, // A record may have no link at all.
            };
            if let Some(input) = self.snapshot.plan_if_any(state, scan).await? {
                parts.push(Arc::new(DeriveExec::new(input, Arc::new(links))));
            }
        }
        let all = union(parts, Arc::clone(&self.schema))?;
        let Some(projection) = projection else {
            return Ok(all);
        };
        let output = projection
            .iter()
            .map(|place| self.schema.field(*place).name());
        project(
            state,
            all,
            output.map(|name| (col(name), name.clone())).collect(),
        )
    }
}

/// The links of one table's records.
#[derive(Debug)]
struct Links {
    table: Arc<TableDef>,
    /// The stored columns that links are derived from.
    columns: Vec<usize>,
    schema: SchemaRef,
}

impl Links {
    /// Columns of the record itself that a link repeats.
    const ORIGIN: [&'static str; 4] = ["did", "collection", "rkey", "created_at"];

    fn new(table: Arc<TableDef>) -> Result<Self> {
        let rebuilder =
            Rebuilder::new(&table).map_err(|error| DataFusionError::External(Box::new(error)))?;
        let needed = |name: &str| {
            Self::ORIGIN.contains(&name) || rebuilder.columns().iter().any(|c| c == name)
        };
        let fields = table.schema.fields().iter().enumerate();
        let columns = fields
            .filter(|(_, field)| needed(field.name()))
            .map(|(place, _)| place)
            .collect();
        Ok(Self {
            table,
            columns,
            schema: links_schema(),
        })
    }
}

impl Derivation for Links {
    fn label(&self) -> String {
        format!("links, {}", self.table.name)
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn derive(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let links = links_of_rows(&self.table, batch)
            .map_err(|error| DataFusionError::External(Box::new(error)))?;
        let (dids, rkeys) = (text_column(batch, "did")?, text_column(batch, "rkey")?);
        let lexicon = self.table.record_type();
        let collections = if lexicon.is_some() {
            None
        } else {
            Some(text_column(batch, "collection")?)
        };
        let created = batch
            .column_by_name("created_at")
            .ok_or_else(|| DataFusionError::Internal("records have created_at".to_owned()))?;
        let mut columns = LinkColumns::default();
        let mut origins = UInt64Builder::new();
        for (row, links) in links.iter().enumerate() {
            let collection = match (lexicon, collections) {
                (Some(record), _) => record.collection(),
                (None, Some(collections)) => collections.value(row),
                (None, None) => "",
            };
            for link in links {
                columns.push(link, dids.value(row), collection, rkeys.value(row));
                origins.append_value(row as u64);
            }
        }
        let created = take(created, &origins.finish(), None)?;
        Ok(RecordBatch::try_new(
            Arc::clone(&self.schema),
            columns.finish(created),
        )?)
    }
}

fn text_column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a StringArray> {
    let column = batch
        .column_by_name(name)
        .and_then(|column| column.as_string_opt::<i32>());
    column.ok_or_else(|| DataFusionError::Internal(format!("{name} is a text column of records")))
}

/// The columns of links while they grow.
#[derive(Debug, Default)]
struct LinkColumns {
    target: StringBuilder,
    target_did: StringBuilder,
    target_collection: StringBuilder,
    path: StringBuilder,
    did: StringBuilder,
    collection: StringBuilder,
    rkey: StringBuilder,
    uri: StringBuilder,
}

impl LinkColumns {
    fn push(&mut self, link: &Link, did: &str, collection: &str, rkey: &str) {
        self.target.append_value(&link.target);
        self.target_did.append_option(link.target_did.as_deref());
        self.target_collection
            .append_option(link.target_collection.as_deref());
        self.path.append_value(&link.path);
        self.did.append_value(did);
        self.collection.append_value(collection);
        self.rkey.append_value(rkey);
        self.uri
            .append_value(format!("at://{did}/{collection}/{rkey}"));
    }

    fn finish(mut self, created: ArrayRef) -> Vec<ArrayRef> {
        let texts = [
            &mut self.target,
            &mut self.target_did,
            &mut self.target_collection,
            &mut self.path,
            &mut self.did,
            &mut self.collection,
            &mut self.rkey,
            &mut self.uri,
        ];
        let texts = texts
            .into_iter()
            .map(|column| Arc::new(column.finish()) as ArrayRef);
        texts.chain([created]).collect()
    }
}
