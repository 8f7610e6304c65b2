//! Watches sources that are followed: tells metrics and the log how they stand, and the bucket which collections fell
//! silent.
//!
//! Reads [`SourceStatus`] every few seconds and decides nothing. What it tells the bucket is one notice for each
//! collection of a source, when it is heard first after a start, falls silent, or is heard again: so
//! `system.collections` answers in any process, and a silence whose end nobody saw ends with the next start.

use std::sync::Arc;
use std::time::Duration;

use crdt::{Change, ChangeBatch, ChangeLog, Micros, NoticeChange, NoticeKind};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::intake::Intake;
use crate::metrics;
use crate::repo::hash_of;
use crate::silence::Silence;
use crate::status::{Connection, SourceState, SourceStatus};

/// How often the sources are looked at.
const INTERVAL: Duration = Duration::from_secs(5);

/// How often the log says how they stand.
const SAID_INTERVAL: Duration = Duration::from_secs(60);

/// Watches `sources` until `stop`. Append errors are logged: a silence that could not be told is no reason to end.
pub async fn run(intake: Intake, sources: Vec<Arc<SourceStatus>>, stop: CancellationToken) {
    let mut watched: Vec<Watched> = sources.into_iter().map(Watched::new).collect();
    let mut said_us = intake.clock.now_us();
    while stop
        .run_until_cancelled(tokio::time::sleep(INTERVAL))
        .await
        .is_some()
    {
        let now = intake.now();
        let is_to_say = now.0 - said_us >= micros(SAID_INTERVAL);
        if is_to_say {
            said_us = now.0;
        }
        for source in &mut watched {
            let state = source.status.state();
            let changes = source.look(&state, now);
            if is_to_say {
                source.say(&state, now);
            }
            source.tell(&intake.log, changes, now).await;
        }
    }
}

/// One source and what was said of it so far.
#[derive(Debug)]
struct Watched {
    status: Arc<SourceStatus>,
    frames_said: u64,
    said: Option<Micros>,
}

impl Watched {
    fn new(status: Arc<SourceStatus>) -> Self {
        Self {
            status,
            frames_said: 0,
            said: None,
        }
    }

    /// Sets the gauges, and gives the collections that are heard first, or again, or not any more.
    fn look(&self, state: &SourceState, now: Micros) -> Vec<Silence> {
        let source = self.status.source();
        let (changes, silent) = self
            .status
            .watch(|watch| (watch.changes(), watch.silent().len()));
        metrics::source(source, state, silent, now);
        for change in changes.iter().filter(|change| !change.is_over) {
            warn!(
                %source,
                collection = %change.collection,
                silent_seconds = seconds(Micros(change.since_us), now),
                "a collection has fallen silent while its source tells of others"
            );
        }
        changes
    }

    /// Tells the bucket of collections that changed.
    async fn tell(&self, log: &ChangeLog, changes: Vec<Silence>, now: Micros) {
        let source = self.status.source();
        if changes.is_empty() {
            return;
        }
        let notices: Vec<Change> = changes
            .iter()
            .map(|change| notice(source, change, now))
            .collect();
        if let Err(error) = log.append(ChangeBatch::from(notices)).await {
            warn!(%source, %error, "which collections are heard could not be told to the bucket");
        }
    }

    /// Says how the source stands.
    fn say(&mut self, state: &SourceState, now: Micros) {
        let frames = state.summary.frames;
        let seconds = self
            .said
            .map_or(SAID_INTERVAL.as_secs(), |said| seconds(said, now))
            .max(1);
        let rate = frames.saturating_sub(self.frames_said) / seconds;
        (self.frames_said, self.said) = (frames, Some(now));
        info!(
            source = %self.status.source(),
            frames,
            frames_per_second = rate,
            lag_ms = state.lag_us(now).map(|lag| lag / 1_000),
            durable = state.durable,
            rejected = state.summary.rejections(),
            gaps = state.summary.gaps,
            duplicates = state.duplicates,
            silent = self.status.watch(|watch| watch.silent().len()),
            connection = word(&state.connection),
            "following"
        );
    }
}

/// How a source is connected, as a stable word.
#[must_use]
pub fn word(connection: &Connection) -> &'static str {
    match connection {
        Connection::Connecting => "connecting",
        Connection::Connected { .. } => "connected",
        Connection::Waiting { reason, .. } | Connection::Stopped { reason } => reason,
    }
}

fn notice(source: &Arc<str>, change: &Silence, now: Micros) -> Change {
    Change::Notice(NoticeChange {
        kind: NoticeKind::Silence,
        reason: change.collection.as_str().to_owned(),
        source: Arc::clone(source),
        did: None,
        rev: None,
        seq: None,
        frame_hash: hash_of(change.collection.as_str().as_bytes()),
        bytes: 0,
        attempt: u32::try_from(now.0 / 1_000_000).unwrap_or_default(),
        step: u32::from(change.is_over),
        indexed_at: now,
    })
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

fn seconds(from: Micros, to: Micros) -> u64 {
    u64::try_from(to.0.saturating_sub(from.0) / 1_000_000).unwrap_or_default()
}
