//! SQL answers over the recorded frames, readable without running them: `tests/sql/*.slt`.
//!
//! Each file runs twice, over the log's tail and after compaction: both must give the same rows. What only holds of
//! segments (plans, `system.segments`) is in `tests/sql/compacted`. A query that is written as a command, `alluvium sql
//! --file examples/NAME.sql -p NAME=VALUE …`, is the text of that file with those parameters.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::DataType;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use crdt::{ChangeLog, change_log};
use futures::TryStreamExt;
use ingest::{DidDocs, Identities, Intake, NothingKnown};
use object_store::memory::InMemory;
use query::{Engine, EngineSettings, Freshness, Named, QueryError, ScalarValue};
use sqllogictest::{AsyncDB, DBOutput, DefaultColumnType, Runner};
use storage::{Bucket, Settings, SystemClock};
use tables::cache::{Cache, CacheSettings};
use tables::compactor::{Compactor, CompactorSettings};
use tables::flush::FlushSettings;
use tables::schema::Catalog;
use tables::view::Tables;
use tokio_util::sync::CancellationToken;

#[tokio::test(flavor = "multi_thread")]
async fn the_recorded_frames_answer_alike_from_the_tail_and_from_segments() {
    let tables = replayed().await;
    run_all("tests/sql", &tables).await;
    compact(&tables).await;
    run_all("tests/sql", &tables).await;
    run_all("tests/sql/compacted", &tables).await;
}

/// Makes segments of all that is in the log.
pub(crate) async fn compact(tables: &Tables) {
    let settings = CompactorSettings {
        flush: FlushSettings::at_once(),
        ..CompactorSettings::default()
    };
    let compactor = Compactor::new(tables.clone(), "slt".to_owned(), settings);
    compactor.run_once().await.expect("compacts");
}

/// A database in memory into which the recorded frames went, as `alluvium replay` puts them there.
pub(crate) async fn replayed() -> Tables {
    let bucket = Bucket::open(
        Arc::new(InMemory::new()),
        Arc::new(SystemClock),
        Settings::default(),
    );
    let bucket = bucket.await.expect("opens");
    let log = ChangeLog::spawn(
        &bucket,
        change_log::Settings::default(),
        &CancellationToken::new(),
    );
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/atproto/firehose");
    let docs = DidDocs::open(&fixtures.join("did_docs.json.zst")).expect("documents");
    let clock = Arc::clone(bucket.clock());
    let intake = Intake {
        log: log.clone(),
        clock,
        identities: Identities::fixed(docs),
        known: Arc::new(NothingKnown),
    };
    let frames = fixtures.join("frames.bin.zst");
    intake
        .replay(&frames, Some("wss://relay.example"), &mut |_| {})
        .await
        .expect("replays");
    log.close().await;
    let cache = Arc::new(Cache::new(CacheSettings::default()));
    Tables::new(bucket, cache, Arc::new(Catalog::builtin()))
}

/// Runs each `.slt` file of `folder`.
pub(crate) async fn run_all(folder: &str, tables: &Tables) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
        .expect("lists")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "slt"));
    files.sort();
    assert!(!files.is_empty(), "{} has .slt files", folder.display());
    for file in files {
        run(&file, tables).await;
    }
}

/// Runs one file, named from the repository's root.
pub(crate) async fn run_file(file: &str, tables: &Tables) {
    run(&Path::new(env!("CARGO_MANIFEST_DIR")).join(file), tables).await;
}

async fn run(file: &Path, tables: &Tables) {
    // Two partitions everywhere: a plan must not depend on the machine.
    let settings = EngineSettings {
        partitions: 2,
        ..EngineSettings::default()
    };
    let engine = Engine::over(tables.clone(), settings).expect("an engine");
    let mut runner = Runner::new(|| async { Ok(Asked(engine.clone())) });
    if let Err(error) = runner.run_file_async(file).await {
        panic!("{}: {}", file.display(), error.display(false));
    }
}

/// The rows of SQL or of a command, as `.slt` files write them.
pub(crate) async fn rows_of(engine: &Engine, text: &str) -> Vec<Vec<String>> {
    match Asked(engine.clone()).run(text).await {
        Ok(DBOutput::Rows { rows, .. }) => rows,
        Ok(_) => panic!("{text} has no rows"),
        Err(error) => panic!("{text}: {error}"),
    }
}

/// The engine as the runner of `.slt` files asks it.
struct Asked(Engine);

#[async_trait::async_trait]
impl AsyncDB for Asked {
    type Error = QueryError;
    type ColumnType = DefaultColumnType;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>, QueryError> {
        let (sql, values) = match command(sql) {
            Some(command) => command.bind(&self.0).await?,
            None => (sql.to_owned(), Vec::new()),
        };
        let rows = self.0.query(&sql, values, Freshness::Strong).await?;
        let types = rows
            .schema()
            .fields()
            .iter()
            .map(|field| column_type(field.data_type()))
            .collect();
        let batches: Vec<RecordBatch> =
            rows.try_collect().await.map_err(QueryError::from_stream)?;
        Ok(DBOutput::Rows {
            types,
            rows: batches.iter().flat_map(texts).collect(),
        })
    }

    async fn shutdown(&mut self) {}
}

/// A query that is written as the command that asks it.
pub(crate) struct Command {
    pub(crate) file: String,
    pub(crate) params: Vec<(String, String)>,
}

/// Reads a query as a command; `None` if it is SQL.
pub(crate) fn command(text: &str) -> Option<Command> {
    let mut words = text
        .trim()
        .strip_prefix("alluvium sql ")?
        .split_whitespace();
    let (mut file, mut params) = (None, Vec::new());
    while let Some(flag) = words.next() {
        let value = words.next().expect("a value behind each flag");
        match flag {
            "--file" => file = Some(value.to_owned()),
            "-p" => {
                let (name, value) = value.split_once('=').expect("NAME=VALUE");
                params.push((name.to_owned(), value.trim_matches('\'').to_owned()));
            }
            other => panic!("{other} is no flag that an .slt file has"),
        }
    }
    let file = file.expect("a file");
    Some(Command { file, params })
}

impl Command {
    /// The file's text and its parameters, as the command line binds them.
    pub(crate) async fn bind(
        &self,
        engine: &Engine,
    ) -> Result<(String, Vec<ScalarValue>), QueryError> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(&self.file);
        let text = std::fs::read_to_string(&path);
        let text = text.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let named = Named::parse(&text)?;
        let values = named.values(&self.params)?;
        let (_, types) = engine.plan_schema(named.sql()).await?;
        Ok((named.sql().to_owned(), query::typed(&types, &values)?))
    }
}

fn column_type(data_type: &DataType) -> DefaultColumnType {
    match data_type {
        _ if data_type.is_integer() => DefaultColumnType::Integer,
        _ if data_type.is_floating() => DefaultColumnType::FloatingPoint,
        _ => DefaultColumnType::Text,
    }
}

fn texts(batch: &RecordBatch) -> Vec<Vec<String>> {
    let options = FormatOptions::default().with_null("NULL");
    let columns: Vec<ArrayFormatter<'_>> = batch
        .columns()
        .iter()
        .map(|column| {
            ArrayFormatter::try_new(column.as_ref(), &options).expect("a column with a text form")
        })
        .collect();
    let cell = |column: &ArrayFormatter<'_>, row| match column.value(row).to_string() {
        empty if empty.is_empty() => "(empty)".to_owned(),
        text => without_object_ids(&text.replace('\n', "\\n")),
    };
    (0..batch.num_rows())
        .map(|row| columns.iter().map(|column| cell(column, row)).collect())
        .collect()
}

/// Plans name segments, whose ids differ in each run.
fn without_object_ids(text: &str) -> String {
    const ID_BYTES: usize = 26;
    let mut pieces: Vec<&str> = text.split(".parquet").collect();
    let last = pieces.pop().unwrap_or_default();
    let named = pieces.into_iter().map(|piece| {
        let kept = piece.len().saturating_sub(ID_BYTES);
        format!("{}….parquet", piece.get(..kept).unwrap_or(piece))
    });
    named.chain([last.to_owned()]).collect()
}
