//! `alluvium status`: what a store holds and how far its work has come, mostly from the tables that SQL reads.
//!
//! Writes nothing. A log object that can't be read stops its writer's merging; it is named first, since queries that
//! need it fail as well.

use std::io::Write;

use anyhow::{Context as _, Result};
use crdt::ChangeBatch;
use storage::Position;
use tables::view::Tables;

use crate::config::{Format, StatusArgs};
use crate::sql::{Source, output};
use crate::{database, one_line, roles};

/// What is asked, under the heading that it answers.
const QUESTIONS: [(&str, &str); 7] = [
    (
        "newest version",
        "SELECT version, kind, committer, committed_at, floor FROM system.manifests ORDER BY version DESC LIMIT 1",
    ),
    (
        "log",
        "SELECT count(DISTINCT writer) AS writers, count(*) AS objects, count(*) FILTER (WHERE NOT merged) AS waiting, \
         coalesce(sum(bytes) FILTER (WHERE NOT merged), 0) AS waiting_bytes, \
         count(*) FILTER (WHERE NOT merged AND NOT in_view) AS behind_a_hole FROM system.wal",
    ),
    (
        "tables",
        "SELECT \"table\", count(*) AS segments, sum(live_rows) AS rows, sum(bytes) AS bytes FROM system.segments \
         WHERE kind = 'rows' GROUP BY 1 ORDER BY 1",
    ),
    (
        "sources",
        "SELECT source, slice, cursor, indexed_at, rejected, resyncs_open, collections_silent FROM system.sources \
         ORDER BY source, slice",
    ),
    (
        "silent collections",
        "SELECT source, collection, since FROM system.collections WHERE silent ORDER BY source, collection",
    ),
    (
        "rejected",
        "SELECT source, reason, count(*) AS frames FROM system.rejections GROUP BY 1, 2 ORDER BY 1, 2",
    ),
    (
        "gaps and resyncs",
        "SELECT source, kind, reason, state, error, count(*) AS repos, max(attempt) AS attempts FROM system.resyncs \
         GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5",
    ),
];

/// Prints one table per question.
pub(crate) async fn run(args: StatusArgs) -> Result<()> {
    let bucket = database::open_existing(&args.store.store, &args.store.times).await?;
    let mut out = std::io::stdout();
    writeln!(
        out,
        "store     {}\ndatabase  {}",
        args.store.store,
        bucket.database()
    )?;
    let tables = roles::tables_of(bucket);
    for (position, why) in blocked(&tables).await? {
        writeln!(
            out,
            "blocked   log object {position} can't be read, so nothing of its writer is merged: {why}"
        )?;
    }
    let mut source = Source::Store(roles::engine(&tables, None)?);
    for (heading, sql) in QUESTIONS {
        let rows = source
            .query(sql)
            .await
            .with_context(|| format!("can't tell about {heading}"))?;
        let mut table = Vec::new();
        match output::print(rows, Format::Table, &mut table).await? {
            0 => writeln!(out, "\n{heading}: none")?,
            _ => {
                writeln!(out, "\n{heading}")?;
                out.write_all(&table)?;
            }
        }
    }
    Ok(())
}

/// The log objects that stop their writers' merging: of each writer, the first that is not merged yet.
async fn blocked(tables: &Tables) -> Result<Vec<(Position, String)>> {
    let root = tables
        .chain()
        .newest_root()
        .await
        .context("the newest version can't be read")?;
    let listing = storage::list_log(tables.bucket(), &root.merged)
        .await
        .context("the log can't be listed")?;
    let mut found = Vec::new();
    for &writer in listing.writers.keys() {
        let mut waiting = listing
            .run(writer, root.merged.get(&writer).copied())
            .into_iter();
        let Some(seq) = waiting.next() else { continue };
        let position = Position { writer, seq };
        let read = async {
            let object = storage::read_log(tables.bucket(), position).await?;
            ChangeBatch::decode(&object)?;
            anyhow::Ok(())
        };
        if let Err(error) = read.await {
            found.push((position, one_line(&error)));
        }
    }
    Ok(found)
}
