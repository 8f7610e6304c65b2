//! `alluvium up`: sources, compaction, collection and the server in one process.

use std::time::Duration;

use anyhow::{Context as _, Result};
use server::Server;
use tables::view::Tables;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::config::UpArgs;
use crate::sources::{self, Sources};
use crate::{database, demo, roles};

/// Serves until `stop`, then says what was kept. With `--demo` the sample comes first; with `--once` it is all.
pub(crate) async fn run(args: UpArgs, stop: CancellationToken) -> Result<()> {
    let followed = sources::endpoints(&args.relay)?;
    let bucket = database::open(&args.store, &args.times).await?;
    let tables = roles::tables_of(bucket);
    // Bound before any work, so that a missing token or a taken port is said at once.
    let server = if args.once {
        None
    } else {
        Some(roles::bind(&tables, &args.listen).await?)
    };
    if args.demo {
        demo::run(&tables, &stop).await?;
    }
    if let Some(server) = server {
        announce(&args, &server);
        let sources = match followed.is_empty() {
            true => None,
            false => Some(Sources::open(tables.clone(), followed, &args.follow).await?),
        };
        work(&args, &tables, (server, sources), stop).await?;
    }
    keep(&args, &tables).await
}

/// Runs all roles until `stop`; the first that fails ends the others.
async fn work(
    args: &UpArgs,
    tables: &Tables,
    (server, sources): (Server, Option<Sources>),
    stop: CancellationToken,
) -> Result<()> {
    let collect_interval = Duration::from_millis(args.collect.collect_interval_ms);
    let mut roles = JoinSet::new();
    roles.spawn(finish(roles::compaction(
        tables.clone(),
        args.compact,
        stop.clone(),
    )));
    roles.spawn(finish(roles::collection(
        tables.clone(),
        collect_interval,
        stop.clone(),
    )));
    if let Some(sources) = sources {
        roles.spawn(follow(sources, stop.clone()));
    }
    let serving = server.run(stop.clone());
    roles.spawn(async move { Ok(serving.await?) });
    let mut outcome = Ok(());
    while let Some(ended) = roles.join_next().await {
        let ended = ended.context("a role panicked").flatten();
        stop.cancel();
        outcome = outcome.and(ended);
    }
    outcome
}

/// Follows sources until `stop`. That none can be followed on is said, and ends nothing else.
async fn follow(sources: Sources, stop: CancellationToken) -> Result<()> {
    if let Err(error) = sources.run(stop.child_token()).await {
        tracing::error!(
            error = crate::one_line(&error),
            "sources are not followed on"
        );
    }
    stop.cancelled().await;
    Ok(())
}

async fn finish(role: impl Future<Output = ()>) -> Result<()> {
    role.await;
    Ok(())
}

fn announce(args: &UpArgs, server: &Server) {
    let address = server.address();
    eprintln!();
    eprintln!("data      {}", args.store);
    for relay in &args.relay {
        eprintln!("following {relay}");
    }
    eprintln!("SQL       grpc://{address}  (Arrow Flight SQL)");
    eprintln!("health    http://{address}/healthz, /readyz, /metrics");
    eprintln!();
    eprintln!("in another terminal:  alluvium sql --connect grpc://{address}");
    eprintln!("Ctrl-C stops; the data stays");
}

/// Flushes what is still in the log only, and says what is there for the next start.
async fn keep(args: &UpArgs, tables: &Tables) -> Result<()> {
    // Not stopped by the signal that brought us here; a second one ends the process.
    let flushed = roles::compact_all(tables, &CancellationToken::new()).await;
    if let Err(error) = flushed {
        eprintln!(
            "the log was not flushed ({}); the next start does it",
            crate::one_line(&error)
        );
    }
    let root = tables
        .chain()
        .newest_root()
        .await
        .context("what was kept can't be read")?;
    eprintln!("kept in {}: version {}", args.store, root.version);
    Ok(())
}
