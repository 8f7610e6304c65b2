//! The engine: a bucket in, answers out.
//!
//! Every query reads one view. A `strong` query opens a view of its own, so whatever was acknowledged before it was
//! sent is in its answer; a query that permits some age may share the last one. A view whose objects are collected
//! before the first row is opened again; after the first row the stream ends with [`QueryError::ViewExpired`].
//! Holds nothing that is not in the bucket, except caches that may be dropped at any moment.

use crate::catalog::{CATALOG, DEFAULT_SCHEMA, TableInfo, ViewCatalog, with_catalog};
use crate::error::{QueryError, is_gone};
use crate::json_values;
use crate::scan::Snapshot;
use crate::statement;
use crate::suggest::suggestions;
use crate::view::{Bucket, Cache, CacheSettings, Catalog, ReadView, Tables};
use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::DataFusionError;
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::{SendableRecordBatchStream, SessionState, SessionStateBuilder};
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::prelude::{SQLOptions, SessionConfig, SessionContext};
use datafusion::sql::parser::Statement;
use futures::{StreamExt, TryStreamExt, stream};
use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How often a query opens a view before it gives up: each time the collector was faster.
const OPENINGS_MAX: usize = 3;

/// The address of the bucket inside DataFusion; its paths are relative to the bucket's root.
const STORE_URL: &str = "alluvium://bucket/";

/// What a node gives to its queries.
#[derive(Debug, Clone)]
pub struct EngineSettings {
    /// Memory that all queries together may use for sorting, joining and grouping; beyond it they spill, then fail.
    pub memory_bytes_max: usize,
    /// How many partitions a query is split into; normally the number of cores.
    pub partitions: usize,
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self {
            memory_bytes_max: 1024 * 1024 * 1024,
            partitions: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }
}

/// How old the view may be that answers a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Freshness {
    /// A new view: two rounds of LIST, a GET if there is a new manifest, and what is new.
    #[default]
    Strong,
    /// The last view if it is not older than this.
    Within(Duration),
}

/// Answers SQL over one bucket. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    tables: Tables,
    base: SessionState,
    latest: Mutex<Option<Latest>>,
}

/// The view that was opened last, and when its opening began.
#[derive(Clone)]
struct Latest {
    began: Instant,
    view: Arc<ReadView>,
}

/// A view with its names, ready to plan.
struct Context {
    session: SessionContext,
    catalog: Arc<ViewCatalog>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

impl Engine {
    /// An engine over `bucket`, with caches of its own. Costs no request.
    ///
    /// # Errors
    /// [`QueryError::Failed`] if the place where queries spill to cannot be made.
    pub fn new(bucket: Bucket, settings: EngineSettings) -> Result<Self, QueryError> {
        let cache = Arc::new(Cache::new(CacheSettings::default()));
        Self::over(
            Tables::new(bucket, cache, Arc::new(Catalog::builtin())),
            settings,
        )
    }

    /// An engine over `tables`, whose caches it shares with other roles of this process. Costs no request.
    ///
    /// # Errors
    /// [`QueryError::Failed`] if the place where queries spill to cannot be made.
    pub fn over(tables: Tables, settings: EngineSettings) -> Result<Self, QueryError> {
        let runtime = runtime(tables.bucket(), &settings).map_err(QueryError::running)?;
        let mut config = SessionConfig::new()
            .with_information_schema(true)
            .with_create_default_catalog_and_schema(false)
            .with_default_catalog_and_schema(CATALOG, DEFAULT_SCHEMA)
            .with_target_partitions(settings.partitions.max(1));
        // Stored text is Utf8: a cast to VARCHAR must not give clients a second type for it.
        config.options_mut().sql_parser.map_string_types_to_utf8view = false;
        let mut base = SessionStateBuilder::new()
            .with_config(config)
            .with_runtime_env(runtime)
            .with_default_features()
            .build();
        datafusion_functions_json::register_all(&mut base).map_err(QueryError::running)?;
        let inner = Inner {
            tables,
            base,
            latest: Mutex::new(None),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Runs one statement and returns its rows as they come.
    ///
    /// `params` are the values of `$1`, `$2`, … (or of each `?`). Returns once the first batch is there, so a failure
    /// before it is an error here; one after it is an error of the stream ([`QueryError::from_stream`]).
    /// Dropping the future or the stream ends the query.
    ///
    /// # Errors
    /// Any [`QueryError`].
    pub async fn query(
        &self,
        sql: &str,
        params: Vec<ScalarValue>,
        freshness: Freshness,
    ) -> Result<SendableRecordBatchStream, QueryError> {
        let statement = statement::parse(sql)?;
        let limit = self.query_max();
        let deadline = Instant::now() + limit;
        let mut freshness = freshness;
        let mut opening = 1;
        loop {
            let attempt = self.attempt(&statement, &params, freshness, deadline);
            let outcome = tokio::time::timeout_at(deadline, attempt).await;
            match outcome.unwrap_or(Err(QueryError::TooLong { limit })) {
                Err(error) if opening < OPENINGS_MAX && is_gone(&error) => {
                    tracing::info!(
                        opening,
                        "the view expired before the first row; opening another"
                    );
                    opening += 1;
                    freshness = Freshness::Strong;
                }
                outcome => return outcome,
            }
        }
    }

    /// The schemas of a statement's result and of its parameters, without running it.
    ///
    /// Parameters are named `$1`, `$2`, …; one whose type nothing determines is text.
    ///
    /// # Errors
    /// [`QueryError::Invalid`], [`QueryError::Refused`], [`QueryError::UnknownTable`] or [`QueryError::Open`].
    pub async fn plan_schema(&self, sql: &str) -> Result<(SchemaRef, SchemaRef), QueryError> {
        let statement = statement::parse(sql)?;
        let context = self.context(METADATA_FRESHNESS).await?;
        let plan = context.plan(statement).await?;
        let params = parameters(&plan)?;
        // The analyzer settles the types of unions and views; it cannot, while a parameter has no type.
        let settled = context.session.state().optimize(&plan).unwrap_or(plan);
        Ok((
            Arc::clone(settled.schema().inner()),
            Arc::new(Schema::new(params)),
        ))
    }

    /// All tables, sorted by schema and name.
    ///
    /// # Errors
    /// [`QueryError::Open`] if the bucket cannot be read.
    pub async fn tables(&self) -> Result<Vec<TableInfo>, QueryError> {
        self.context(METADATA_FRESHNESS)
            .await?
            .catalog
            .tables()
            .await
            .map_err(QueryError::planning)
    }

    /// One try at a query: a view, a plan, a stream with its first batch.
    async fn attempt(
        &self,
        statement: &Statement,
        params: &[ScalarValue],
        freshness: Freshness,
        deadline: Instant,
    ) -> Result<SendableRecordBatchStream, QueryError> {
        let context = self.context(freshness).await?;
        let plan = context.plan(statement.clone()).await?;
        let plan = bind(plan, params)?;
        let frame = context
            .session
            .execute_logical_plan(plan)
            .await
            .map_err(QueryError::planning)?;
        let mut rows = frame.execute_stream().await.map_err(QueryError::planning)?;
        let first = rows.next().await.transpose().map_err(QueryError::running)?;
        Ok(guarded(first, rows, deadline, self.query_max()))
    }

    async fn context(&self, freshness: Freshness) -> Result<Context, QueryError> {
        let view = self.view(freshness).await?;
        let snapshot = Arc::new(Snapshot {
            view,
            store_url: ObjectStoreUrl::parse(STORE_URL).map_err(QueryError::running)?,
        });
        let catalog = Arc::new(ViewCatalog::new(&snapshot, &self.inner.base));
        let session =
            SessionContext::new_with_state(with_catalog(&self.inner.base, Arc::clone(&catalog)));
        Ok(Context { session, catalog })
    }

    async fn view(&self, freshness: Freshness) -> Result<Arc<ReadView>, QueryError> {
        let began = Instant::now();
        if let Freshness::Within(age_max) = freshness
            && let Some(latest) = self.latest()
            && began.duration_since(latest.began) <= age_max
        {
            return Ok(latest.view);
        }
        let view = ReadView::open(&self.inner.tables)
            .await
            .map_err(|source| QueryError::Open {
                source: Box::new(source),
            })?;
        let view = Arc::new(view);
        let mut latest = self
            .inner
            .latest
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if latest.as_ref().is_none_or(|known| known.began < began) {
            *latest = Some(Latest {
                began,
                view: Arc::clone(&view),
            });
        }
        Ok(view)
    }

    fn query_max(&self) -> Duration {
        self.inner.tables.bucket().settings().query_max
    }

    fn latest(&self) -> Option<Latest> {
        self.inner
            .latest
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// Names and types change with the catalog only, so clients that list tables need no new view for each.
const METADATA_FRESHNESS: Freshness = Freshness::Within(Duration::from_secs(10));

impl Context {
    /// The plan of `statement`, checked once more to read only.
    async fn plan(&self, statement: Statement) -> Result<LogicalPlan, QueryError> {
        let state = self.session.state();
        let plan = match state.statement_to_plan(statement.clone()).await {
            Ok(plan) => plan,
            Err(error) => {
                return Err(self
                    .unknown_table(&state, &statement)
                    .unwrap_or(QueryError::planning(error)));
            }
        };
        let read_only = SQLOptions::new()
            .with_allow_ddl(false)
            .with_allow_dml(false)
            .with_allow_statements(false);
        read_only.verify_plan(&plan).map_err(QueryError::planning)?;
        json_values::as_text(plan).map_err(QueryError::planning)
    }

    /// The first table of `statement` that does not exist.
    fn unknown_table(&self, state: &SessionState, statement: &Statement) -> Option<QueryError> {
        let references = state.resolve_table_references(statement).ok()?;
        references.into_iter().find_map(|reference| {
            let named = reference.to_string();
            let resolved = reference.resolve(CATALOG, DEFAULT_SCHEMA);
            let known = resolved.schema.as_ref() == "information_schema"
                || (resolved.catalog.as_ref() == CATALOG
                    && self.catalog.has(&resolved.schema, &resolved.table));
            (!known).then(|| QueryError::UnknownTable {
                table: named.into(),
                suggestions: suggestions(&resolved.schema, &resolved.table, self.catalog.names()),
            })
        })
    }
}

fn runtime(
    bucket: &Bucket,
    settings: &EngineSettings,
) -> datafusion::error::Result<Arc<RuntimeEnv>> {
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(FairSpillPool::new(settings.memory_bytes_max)))
        .build_arc()?;
    let url = ObjectStoreUrl::parse(STORE_URL)?;
    runtime.register_object_store(url.as_ref(), Arc::clone(bucket.store()));
    Ok(runtime)
}

/// The fields of a plan's parameters, in their order.
fn parameters(plan: &LogicalPlan) -> Result<Vec<Field>, QueryError> {
    let types = plan.get_parameter_types().map_err(QueryError::planning)?;
    let counts = parameters_of_limits(plan).map_err(QueryError::planning)?;
    let mut numbered: Vec<(usize, Field)> = Vec::new();
    for (name, data_type) in types {
        let number = name
            .strip_prefix('$')
            .and_then(|number| number.parse().ok());
        let Some(number) = number else {
            let problem = format!("parameters are written $1, $2, … or ?, not {name}");
            return Err(QueryError::planning(DataFusionError::Plan(problem)));
        };
        let untyped = match counts.contains(&name) {
            true => DataType::Int64,
            false => DataType::Utf8,
        };
        numbered.push((number, Field::new(name, data_type.unwrap_or(untyped), true)));
    }
    numbered.sort_by_key(|(number, _)| *number);
    let gapless = numbered
        .iter()
        .enumerate()
        .all(|(place, (number, _))| place + 1 == *number);
    if !gapless {
        let problem = "parameters are numbered from $1 without gaps".to_owned();
        return Err(QueryError::planning(DataFusionError::Plan(problem)));
    }
    Ok(numbered.into_iter().map(|(_, field)| field).collect())
}

/// The names of parameters that stand in `LIMIT` or `OFFSET`, where the planner leaves them without a type.
fn parameters_of_limits(plan: &LogicalPlan) -> datafusion::error::Result<HashSet<String>> {
    let mut found = HashSet::new();
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::Limit(limit) = node {
            for count in limit.skip.iter().chain(&limit.fetch) {
                count.apply(|expr| {
                    if let Expr::Placeholder(parameter) = expr {
                        found.insert(parameter.id.clone());
                    }
                    Ok(TreeNodeRecursion::Continue)
                })?;
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found)
}

fn bind(plan: LogicalPlan, params: &[ScalarValue]) -> Result<LogicalPlan, QueryError> {
    let expected = parameters(&plan)?.len();
    if expected != params.len() {
        return Err(QueryError::Parameters {
            expected,
            given: params.len(),
        });
    }
    if params.is_empty() {
        return Ok(plan);
    }
    plan.with_param_values(params.to_vec())
        .map_err(QueryError::planning)
}

/// `first`, then `rows` until the deadline; what fails now can't be begun again unseen.
fn guarded(
    first: Option<RecordBatch>,
    rows: SendableRecordBatchStream,
    deadline: Instant,
    limit: Duration,
) -> SendableRecordBatchStream {
    let schema = rows.schema();
    let rest = stream::unfold(Some(rows), move |rows| async move {
        let mut rows = rows?;
        match tokio::time::timeout_at(deadline, rows.next()).await {
            Ok(Some(Ok(batch))) => Some((Ok(batch), Some(rows))),
            Ok(Some(Err(error))) => Some((Err(failed_late(error)), None)),
            Ok(None) => None,
            Err(_elapsed) => Some((Err(QueryError::TooLong { limit }), None)),
        }
    });
    let ended = first.is_none();
    let rows = stream::iter(first.map(Ok))
        .chain(rest)
        .take_while(move |_| std::future::ready(!ended));
    Box::pin(RecordBatchStreamAdapter::new(
        schema,
        rows.map_err(QueryError::into_stream),
    ))
}

fn failed_late(error: DataFusionError) -> QueryError {
    if is_gone(&error) {
        return QueryError::ViewExpired {
            source: Box::new(error),
        };
    }
    QueryError::running(error)
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod watched;
