//! `alluvium ingest`, and the sources of `alluvium up`: relays and hosts that are followed into a store.
//!
//! All sources of a process share one log, one directory of identities and what fetches repos again. They stop in that
//! order: first the sources, so that what they read becomes durable, then the rest, the log last.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use crdt::{ChangeLog, Coverage, change_log};
use ingest::follow::Following;
use ingest::identity::{Identities, IdentitySettings};
use ingest::outbound::Outbound;
use ingest::resync::{ResyncSettings, ResyncSource, Resyncer, is_pds};
use ingest::{
    Endpoint, Filter, FollowError, FollowSettings, Follower, IdentityQueue, Intake, KnownByTables,
    ResyncQueue, SourceStatus,
};
use server::Server;
use storage::Clock;
use tables::view::Tables;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::config::{FollowArgs, IngestArgs, ResyncNew};
use crate::{database, ingestion, live, roles, token};

/// How long a batch waits for others: a relay can be read again, so fewer and larger objects win.
const FLUSH_INTERVAL: Duration = Duration::from_secs(1);

/// How many identities may wait to be looked up again.
const CHANGED_MAX: usize = 10_000;

/// How many marks may wait for whoever fetches repos; what does not fit is read from the bucket.
const MARKS_MAX: usize = 10_000;

/// How many repos' standings all sources together hold in each of two generations: about 170 MB in all.
const REPOS_MAX: usize = 500_000;

/// `alluvium ingest`.
pub(crate) async fn ingest(args: IngestArgs, stop: CancellationToken) -> Result<()> {
    let followed = endpoints(&args.relay)?;
    // Bound before any work, so that a missing token or a taken port is said at once.
    let server = match args.metrics_listen {
        Some(listen) => {
            let token = token::required(&args.token)?;
            Some(Server::bind_without_queries(listen, token).await?)
        }
        None => None,
    };
    let bucket = database::open(&args.store.store, &args.store.times).await?;
    let sources = Sources::open(roles::tables_of(bucket), followed, &args.follow).await?;
    for source in sources.statuses() {
        eprintln!("following {} into {}", source.source(), args.store.store);
    }
    let statuses = sources.statuses();
    let ended = match server {
        Some(server) => {
            eprintln!("metrics at http://{}/metrics", server.address());
            let (served, ended) = tokio::join!(server.run(stop.clone()), async {
                let ended = sources.run(stop.clone()).await;
                stop.cancel();
                ended
            });
            ended.and(Ok(served?))
        }
        None => sources.run(stop).await,
    };
    for source in statuses {
        let cursor = source.read(|state| state.durable);
        let cursor = cursor.map_or("nothing came".to_owned(), |cursor| {
            format!("cursor {cursor}")
        });
        eprintln!(
            "stopped following {} at {cursor}; all before it is kept",
            source.source()
        );
    }
    ended
}

/// The sources that an operator names.
pub(crate) fn endpoints(relays: &[String]) -> Result<Vec<Endpoint>> {
    let mut endpoints = Vec::<Endpoint>::new();
    for relay in relays {
        let endpoint = Endpoint::parse(relay)?;
        if endpoints
            .iter()
            .any(|other| other.name() == endpoint.name())
        {
            bail!("--relay {relay} names a source for the second time");
        }
        endpoints.push(endpoint);
    }
    Ok(endpoints)
}

/// The sources of a process, not yet followed.
pub(crate) struct Sources {
    log: ChangeLog,
    followers: Vec<Follower>,
    /// What works for all sources and stops after them.
    shared: JoinSet<Result<()>>,
    stop_shared: CancellationToken,
}

impl Sources {
    /// Prepares to follow `followed`; nothing is connected to yet.
    pub(crate) async fn open(
        tables: Tables,
        followed: Vec<Endpoint>,
        args: &FollowArgs,
    ) -> Result<Self> {
        let filter = filter(args)?;
        let settings = change_log::Settings {
            flush_interval: FLUSH_INTERVAL,
            ..change_log::Settings::default()
        };
        // Not the signal's token: a stop lets what was read become durable first.
        let log = ChangeLog::spawn(tables.bucket(), settings, &CancellationToken::new());
        let clock = Arc::clone(tables.bucket().clock());
        let outbound = Outbound::new(args.allow_private_addresses)?;
        let (stop_shared, mut shared) = (CancellationToken::new(), JoinSet::new());
        let recording = (log.clone(), stop_shared.clone());
        let (identities, changed) = identities(
            args,
            Arc::clone(&clock),
            &outbound,
            (recording, &mut shared),
        )?;
        let intake = Intake {
            log: log.clone(),
            clock,
            identities,
            known: Arc::new(KnownByTables::new(tables.clone())),
        };
        let (queue, tasks) = ResyncQueue::bounded(MARKS_MAX);
        let following = Following::new(intake.clone(), Some(queue.clone()), changed);
        let mut resyncing = ResyncSettings {
            coverage: filter.coverage.clone(),
            dids: filter.dids.clone(),
            ..ResyncSettings::default()
        };
        let mut followers = Vec::new();
        let repos_max = REPOS_MAX / followed.len().max(1);
        for endpoint in followed {
            let resync_new = resyncs_new(args.resync_new, &filter, &endpoint, &outbound).await;
            resyncing.sources.push(ResyncSource {
                name: Arc::clone(endpoint.name()),
                heads: filter.heads_of(endpoint.name()),
                marks_new: resync_new,
            });
            let settings = FollowSettings {
                filter: filter.clone(),
                cursor: args.cursor,
                resets: args.resets(&endpoint)?,
                resync_new,
                repos_max,
                ..FollowSettings::default()
            };
            followers.push(following.add(endpoint, settings));
        }
        let resyncer = Resyncer::new(&intake, tables.clone(), outbound, (queue, tasks), resyncing);
        let stop = stop_shared.clone();
        shared.spawn(async move {
            let ended = resyncer.run(stop).await;
            ended.context("nothing is resynced any more")
        });
        let statuses: Vec<_> = followers.iter().map(Follower::status).collect();
        shared.spawn(show(intake, tables, statuses, stop_shared.clone()));
        Ok(Self {
            log,
            followers,
            shared,
            stop_shared,
        })
    }

    /// How the sources stand, for whoever shows it: a status line, metrics, logs.
    pub(crate) fn statuses(&self) -> Vec<Arc<SourceStatus>> {
        self.followers.iter().map(Follower::status).collect()
    }

    /// Follows all sources until `stop`, or until none can be followed on; then all that was read is durable.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> Result<()> {
        let mut followed: JoinSet<Result<(), FollowError>> = JoinSet::new();
        for follower in self.followers {
            followed.spawn(follower.run(stop.clone()));
        }
        let mut outcome = Ok(());
        loop {
            tokio::select! {
                ended = followed.join_next() => match ended {
                    // The others go on: what one source says is no reason to lose what others tell.
                    Some(ended) => {
                        let ended = ended.context("a source's task panicked");
                        outcome = outcome.and(ended.and_then(|ended| Ok(ended?)));
                    }
                    None => break,
                },
                Some(ended) = self.shared.join_next(), if !self.stop_shared.is_cancelled() => {
                    outcome = outcome.and(ended.context("a task panicked").flatten());
                    stop.cancel();
                }
            }
        }
        self.stop_shared.cancel();
        while let Some(ended) = self.shared.join_next().await {
            outcome = outcome.and(ended.context("a task panicked").flatten());
        }
        self.log.close().await;
        outcome
    }
}

/// Recorded documents, or directories, whose answers are recorded by a task of `shared` until its stop.
#[allow(
    clippy::type_complexity,
    reason = "both tuples have one maker and one reader"
)]
fn identities(
    args: &FollowArgs,
    clock: Arc<dyn Clock>,
    outbound: &Outbound,
    ((log, stop), shared): ((ChangeLog, CancellationToken), &mut JoinSet<Result<()>>),
) -> Result<(Identities, Option<IdentityQueue>)> {
    if let Some(path) = &args.did_docs {
        let docs = ingestion::did_docs(Some(path))?;
        return Ok((Identities::fixed(docs), None));
    }
    let settings = IdentitySettings {
        handle_resolver: args.handle_resolver.clone(),
        ..IdentitySettings::of(args.plc_url.clone())
    };
    let (identities, recorder) = Identities::directory(outbound.clone(), clock, &settings);
    let (queue, changed) = IdentityQueue::bounded(CHANGED_MAX);
    shared.spawn(async move {
        let recorded = recorder.run(log, changed, stop).await;
        recorded.context("identities are not recorded any more")
    });
    Ok((identities, Some(queue)))
}

/// Shows how sources stand until `stop`: in metrics, in the log, in the bucket, and on a terminal.
async fn show(
    intake: Intake,
    tables: Tables,
    sources: Vec<Arc<SourceStatus>>,
    stop: CancellationToken,
) -> Result<()> {
    ingest::metrics::describe();
    tokio::join!(
        ingest::watch::run(intake, sources.clone(), stop.clone()),
        live::run(sources, tables, stop),
    );
    Ok(())
}

fn filter(args: &FollowArgs) -> Result<Filter> {
    let coverage = Coverage::new(args.collection.clone(), args.exclude.clone())?;
    let dids = args.did.iter().cloned().collect();
    Ok(Filter { coverage, dids })
}

/// Whether repos that a source tells of for the first time are fetched whole.
async fn resyncs_new(
    asked: ResyncNew,
    filter: &Filter,
    endpoint: &Endpoint,
    outbound: &Outbound,
) -> bool {
    match asked {
        ResyncNew::On => true,
        ResyncNew::Off => false,
        ResyncNew::Auto => !filter.dids.is_empty() || is_host(endpoint, outbound).await,
    }
}

/// Whether a source is a host of accounts. One that does not answer is taken for a relay.
async fn is_host(endpoint: &Endpoint, outbound: &Outbound) -> bool {
    match is_pds(outbound, endpoint.name()).await {
        Ok(is_pds) => is_pds,
        Err(error) => {
            let source = endpoint.name();
            tracing::warn!(%source, %error, "can't ask whether this is a PDS: repos that it tells of for the first time are not fetched; --resync-new on fetches them");
            false
        }
    }
}
