//! What a process can be: a server, a compactor, a collector, each alone or several in one process.
//!
//! A role is one function: it works until it is told to stop, and ends what it has begun. Of each kind there may be
//! many on one store.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use query::{Engine, EngineSettings};
use server::{ServeConfig, Server};
use storage::{Bucket, Collected, Policy, Position};
use tables::cache::{Cache, CacheSettings};
use tables::compactor::{Compactor, CompactorSettings};
use tables::flush::{Blocked, FlushSettings};
use tables::schema::Catalog;
use tables::view::Tables;
use tokio_util::sync::CancellationToken;

use crate::config::{CollectArgs, CompactArgs, CompactEvery, ListenArgs, ServeArgs};
use crate::{database, token};

/// How long a role waits after a failed round before the next one.
const FAILURE_PAUSE: Duration = Duration::from_secs(5);

/// `alluvium serve`.
pub(crate) async fn serve(args: ServeArgs, stop: CancellationToken) -> Result<()> {
    let bucket = database::open_existing(&args.store.store, &args.store.times).await?;
    let server = bind(&tables_of(bucket), &args.listen).await?;
    eprintln!(
        "serving {} at grpc://{}",
        args.store.store,
        server.address()
    );
    server.run(stop).await?;
    eprintln!("stopped serving");
    Ok(())
}

/// `alluvium compact`.
pub(crate) async fn compact(args: CompactArgs, stop: CancellationToken) -> Result<()> {
    let bucket = database::open(&args.store.store, &args.store.times).await?;
    let tables = tables_of(bucket);
    if args.once {
        return compact_all(&tables, &stop).await;
    }
    eprintln!("compacting {}", args.store.store);
    compaction(tables, args.every, stop).await;
    eprintln!("stopped compacting; what was not yet merged stays in the log");
    Ok(())
}

/// `alluvium collect`.
pub(crate) async fn collect(args: CollectArgs, stop: CancellationToken) -> Result<()> {
    let bucket = database::open(&args.store.store, &args.store.times).await?;
    let tables = tables_of(bucket);
    if args.once {
        let collected = collect_once(&tables).await?;
        println!(
            "deleted {} log objects, {} segments and parts, {} manifests: {} bytes",
            collected.log_objects, collected.objects, collected.manifests, collected.bytes
        );
        return Ok(());
    }
    eprintln!("collecting in {}", args.store.store);
    collection(
        tables,
        Duration::from_millis(args.every.collect_interval_ms),
        stop,
    )
    .await;
    eprintln!("stopped collecting");
    Ok(())
}

/// A server that has its port and does not answer yet.
pub(crate) async fn bind(tables: &Tables, args: &ListenArgs) -> Result<Server> {
    let engine = Arc::new(engine(tables, Some(args.query_memory_mib_max))?);
    let token = token::required(&args.token)?;
    let config = ServeConfig {
        listen: args.listen.clone(),
        token,
        engine,
    };
    Ok(Server::bind(config).await?)
}

/// What all roles of one process share: decoded objects and the built-in tables.
pub(crate) fn tables_of(bucket: Bucket) -> Tables {
    Tables::new(
        bucket,
        Arc::new(Cache::new(CacheSettings::default())),
        Arc::new(Catalog::builtin()),
    )
}

/// What answers queries over these tables.
pub(crate) fn engine(tables: &Tables, memory_mib_max: Option<usize>) -> Result<Engine> {
    let mut settings = EngineSettings::default();
    if let Some(memory_mib_max) = memory_mib_max {
        settings.memory_bytes_max = memory_mib_max.saturating_mul(1024 * 1024);
    }
    Ok(Engine::over(tables.clone(), settings)?)
}

/// Flushes and merges what is due until `stop`. A round that fails is said and made again: nothing is lost by it.
pub(crate) async fn compaction(tables: Tables, every: CompactEvery, stop: CancellationToken) {
    let flush = FlushSettings {
        tail_age_us: i64::from(every.tail_age_ms) * 1_000,
        ..FlushSettings::default()
    };
    let settings = CompactorSettings {
        flush,
        ..CompactorSettings::default()
    };
    let compactor = Compactor::new(tables, committer(), settings);
    let interval = Duration::from_millis(every.compact_interval_ms);
    let mut said = BTreeSet::new();
    loop {
        let pause = match stop.run_until_cancelled(compactor.run_once()).await {
            None => return,
            Some(Ok(round)) => {
                say_blocked(&round.blocked, &mut said);
                round.root.map_or(interval, |_| Duration::ZERO)
            }
            Some(Err(error)) => {
                tracing::warn!(
                    error = crate::one_line(&error.into()),
                    "a round of compaction failed"
                );
                FAILURE_PAUSE
            }
        };
        if stop
            .run_until_cancelled(tokio::time::sleep(pause))
            .await
            .is_none()
        {
            return;
        }
    }
}

/// Says of each log object that stops its writer's merging why it does, once.
fn say_blocked(blocked: &[Blocked], said: &mut BTreeSet<Position>) {
    for blocked in blocked {
        if said.insert(blocked.position) {
            tracing::warn!(
                position = %blocked.position,
                error = %blocked.error,
                "a log object can't be read: what its writer wrote from there on waits in the log"
            );
        }
    }
}

/// Flushes and merges until nothing is left to do.
pub(crate) async fn compact_all(tables: &Tables, stop: &CancellationToken) -> Result<()> {
    let settings = CompactorSettings {
        flush: FlushSettings::at_once(),
        ..CompactorSettings::default()
    };
    let compactor = Compactor::new(tables.clone(), committer(), settings);
    let mut said = BTreeSet::new();
    loop {
        let Some(round) = stop.run_until_cancelled(compactor.run_once()).await else {
            return Ok(());
        };
        let round = round.context("compaction stopped")?;
        say_blocked(&round.blocked, &mut said);
        let Some(root) = round.root else {
            return Ok(());
        };
        eprintln!(
            "version {}: {} log objects flushed, {} merges",
            root.version, round.objects, round.merges
        );
    }
}

/// Deletes what nobody can need any more until `stop`.
pub(crate) async fn collection(tables: Tables, interval: Duration, stop: CancellationToken) {
    loop {
        let pause = match stop.run_until_cancelled(collect_once(&tables)).await {
            None => return,
            Some(Ok(_)) => interval,
            Some(Err(error)) => {
                tracing::warn!(
                    error = crate::one_line(&error),
                    "a round of collection failed"
                );
                FAILURE_PAUSE.max(interval)
            }
        };
        if stop
            .run_until_cancelled(tokio::time::sleep(pause))
            .await
            .is_none()
        {
            return;
        }
    }
}

async fn collect_once(tables: &Tables) -> Result<Collected> {
    let policy = Policy::from(tables.bucket().settings());
    let collected = storage::collect(
        tables.bucket(),
        tables.chain(),
        policy,
        &committer(),
        tables,
    )
    .await;
    collected.context("collection stopped")
}

/// The name that this process signs its commits with.
pub(crate) fn committer() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim();
    let host = if host.is_empty() { "host" } else { host };
    format!("{host}/{}", std::process::id())
}
