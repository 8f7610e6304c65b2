//! `alluvium sql`: statements in, rows out, from a store read directly or from a server.

pub(crate) mod output;
mod repl;
mod text;

use std::io::{self, BufRead, IsTerminal as _, Write as _};

use anyhow::{Context as _, Result, bail};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use query::{Engine, Freshness, Named, QueryError};
use server::client::Client;

use crate::config::{Format, SqlArgs};
use crate::{database, roles, token};

/// Rows as they arrive, from wherever.
pub(crate) struct Rows {
    pub(crate) schema: SchemaRef,
    pub(crate) batches: BoxStream<'static, Result<RecordBatch>>,
}

/// Who answers.
pub(crate) enum Source {
    Store(Engine),
    Server(Box<Client>),
}

impl Source {
    /// Asks one statement; a `strong` query, so every acknowledged append is in its answer.
    pub(crate) async fn query(&mut self, sql: &str) -> Result<Rows> {
        self.query_with(sql, &[]).await
    }

    /// Asks one statement with the values of the parameters that it names.
    async fn query_with(&mut self, sql: &str, params: &[(String, String)]) -> Result<Rows> {
        let named = Named::parse(sql).map_err(told)?;
        let values = named.values(params).map_err(told)?;
        match self {
            Source::Store(engine) => {
                let values = match values.is_empty() {
                    true => Vec::new(),
                    false => {
                        let (_, types) = engine.plan_schema(named.sql()).await.map_err(told)?;
                        query::typed(&types, &values).map_err(told)?
                    }
                };
                let rows = engine
                    .query(named.sql(), values, Freshness::Strong)
                    .await
                    .map_err(told)?;
                let schema = rows.schema();
                let batches = rows
                    .map_err(|error| told(QueryError::from_stream(error)))
                    .boxed();
                Ok(Rows { schema, batches })
            }
            Source::Server(client) => {
                let answer = match values.is_empty() {
                    true => client.query(named.sql()).await?,
                    false => client.query_with(named.sql(), &values).await?,
                };
                Ok(Rows {
                    schema: answer.schema,
                    batches: answer.batches.map_err(Into::into).boxed(),
                })
            }
        }
    }

    async fn open(args: &SqlArgs) -> Result<Source> {
        if let Some(url) = &args.connect {
            let token = token::text(&args.token)?;
            let client = Client::connect(url, token.as_deref()).await?;
            return Ok(Source::Server(Box::new(client)));
        }
        let Some(url) = &args.store else {
            bail!("say what to ask: --store URL or --connect grpc://HOST:PORT");
        };
        let bucket = database::open_existing(url, &args.times).await?;
        Ok(Source::Store(roles::engine(
            &roles::tables_of(bucket),
            None,
        )?))
    }
}

/// The sentence that a server would send.
fn told(error: QueryError) -> anyhow::Error {
    anyhow::Error::msg(server::error::sentence(&error))
}

/// Answers the statement or the file's, or all that standard input holds, or a user at a terminal.
pub(crate) async fn run(args: SqlArgs) -> Result<()> {
    let mut source = Source::open(&args).await?;
    let statement = match (&args.statement, &args.file) {
        (Some(statement), _) => Some(statement.clone()),
        (None, Some(file)) => {
            let text = std::fs::read_to_string(file);
            Some(text.with_context(|| format!("{} can't be read", file.display()))?)
        }
        (None, None) => None,
    };
    match statement {
        Some(statement) => {
            let rows = source.query_with(&statement, &args.params).await?;
            print(rows, args.format).await.map(|_| ())
        }
        None if io::stdin().is_terminal() => repl::run(&mut source, args.format).await,
        None => answer_all(&mut source, io::stdin().lock(), args.format).await,
    }
}

/// Prints the answer to one statement and returns how many rows it has.
async fn answer(source: &mut Source, statement: &str, format: Format) -> Result<usize> {
    let rows = source.query(statement).await?;
    print(rows, format).await
}

async fn print(rows: Rows, format: Format) -> Result<usize> {
    let mut out = io::BufWriter::new(io::stdout());
    let count = output::print(rows, format, &mut out).await?;
    out.flush()?;
    Ok(count)
}

/// Answers each statement of `input` in turn, up to the first that fails.
async fn answer_all(source: &mut Source, input: impl BufRead, format: Format) -> Result<()> {
    let mut pending = String::new();
    for line in input.lines() {
        pending.push_str(&line.context("standard input can't be read")?);
        pending.push('\n');
        if is_complete(&pending) {
            answer(source, &pending, format).await?;
            pending.clear();
        }
    }
    if !pending.trim().is_empty() {
        answer(source, &pending, format).await?;
    }
    Ok(())
}

/// Whether a statement has come to its end: a line that ends in a semicolon.
fn is_complete(text: &str) -> bool {
    text.trim_end().ends_with(';')
}
