//! The one owner of all resyncs of a process: takes what is marked, starts what may start, and goes on after a restart.
//!
//! Everything that it does can be done again, and by two at once: what is to be done is in the bucket, what was done is
//! in the log. So it stops in the middle without harm, and what finds no place in its memory is read from the bucket
//! when there is room.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use atproto::Did;
use crdt::storage::Clock;
use crdt::{AppendError, Coverage, Micros};
use tables::error::TablesError;
use tables::view::Tables;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::attempt::{Context, Ended, Room, fetch, resolve};
use super::hosts::{Hosts, HttpHosts};
use super::progress::Open;
use super::reconcile::{Compared, Comparison, FIRST_SIGHTING, mark_all};
use super::schedule::{Added, Pace, Schedule, Start, micros};
use super::stored::{Scope, Stored};
use super::{Mark, ResyncQueue, ResyncTasks, Task};
use crate::intake::Intake;
use crate::metrics;
use crate::outbound::{Limits, Outbound};
use crate::repo::hash_of;

/// How many marks are read from the bucket at once.
const PAGE: usize = 4096;

/// How long after a failure the bucket is read again.
const READ_AGAIN: Duration = Duration::from_secs(10);

/// How long a comparison with a source's list is put off after it failed, at most.
const COMPARE_AGAIN_MAX: Duration = Duration::from_secs(3600);

/// A source whose repos are resynced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResyncSource {
    /// Its name: its URL.
    pub name: Arc<str>,
    /// The name under which its heads are kept.
    pub heads: Arc<str>,
    /// Whether repos of its list that were never met are fetched.
    pub marks_new: bool,
}

/// What is fetched, and how much at once.
#[derive(Clone, Debug)]
pub struct ResyncSettings {
    /// The collections that go in.
    pub coverage: Coverage,
    /// The repos that are taken, of which each is fetched once; empty for all.
    pub dids: BTreeSet<Did>,
    /// The sources that are followed.
    pub sources: Vec<ResyncSource>,
    /// How much is done at once.
    pub pace: Pace,
    /// How many bytes one repo's CAR may have.
    pub car_bytes_max: u64,
    /// How many bytes of CARs are held at once. Turned into changes they take about four times as much.
    pub cars_bytes_max: u64,
    /// How long one repo's fetch may take.
    pub fetch_time: Duration,
}

impl Default for ResyncSettings {
    fn default() -> Self {
        Self {
            coverage: Coverage::default(),
            dids: BTreeSet::new(),
            sources: Vec::new(),
            pace: Pace::default(),
            car_bytes_max: 256 << 20,
            cars_bytes_max: 256 << 20,
            fetch_time: Duration::from_secs(15 * 60),
        }
    }
}

/// What a started task came to.
enum Finished {
    Resolved(Did, Result<Result<Arc<str>, Ended>, AppendError>),
    Fetched(Did, Arc<str>, Result<Ended, AppendError>),
    Compared(Open, Result<Compared, AppendError>),
}

/// Fetches what is marked.
#[derive(Debug)]
pub struct Resyncer {
    context: Context,
    settings: ResyncSettings,
    tables: Tables,
    tasks: ResyncTasks,
    queue: ResyncQueue,
    schedule: Schedule,
    running: JoinSet<Finished>,
    /// Comparisons, each with when it is due; one at a time is under way.
    comparisons: Vec<(Micros, Open)>,
    is_comparing: bool,
    /// When the bucket has to be read for marks that are not held.
    read_at: Option<Micros>,
    /// Whether the bucket has more of them than there was room for.
    has_more: bool,
}

impl Resyncer {
    /// One that takes from `tasks`, the other end of `queue`, and merges into `intake`'s log, which is of `tables`.
    #[must_use]
    pub fn new(
        intake: &Intake,
        tables: Tables,
        outbound: Outbound,
        (queue, tasks): (ResyncQueue, ResyncTasks),
        settings: ResyncSettings,
    ) -> Self {
        let limits = Limits {
            bytes_max: settings.car_bytes_max,
            time: settings.fetch_time,
            idle: Duration::from_secs(30),
        };
        let hosts = Arc::new(HttpHosts::new(outbound, limits));
        Self::with_hosts(intake, tables, hosts, (queue, tasks), settings)
    }

    pub(super) fn with_hosts(
        intake: &Intake,
        tables: Tables,
        hosts: Arc<dyn Hosts>,
        (queue, tasks): (ResyncQueue, ResyncTasks),
        settings: ResyncSettings,
    ) -> Self {
        let context = Context {
            log: intake.log.clone(),
            clock: Arc::clone(&intake.clock),
            identities: intake.identities.clone(),
            hosts,
            coverage: settings.coverage.clone(),
            room: Arc::new(Room::new(
                settings.cars_bytes_max.max(settings.car_bytes_max),
            )),
        };
        Self {
            context,
            tables,
            tasks,
            queue,
            schedule: Schedule::new(settings.pace),
            running: JoinSet::new(),
            comparisons: Vec::new(),
            is_comparing: false,
            read_at: Some(Micros(i64::MIN)),
            has_more: false,
            settings,
        }
    }

    /// Runs until `stop`. What is under way then is given up, and done again by the next run.
    ///
    /// # Errors
    /// If the log takes nothing more.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), AppendError> {
        let mut is_first = !self.settings.dids.is_empty();
        loop {
            self.read_if_due().await;
            if is_first && self.read_at.is_none() {
                self.mark_listed().await?;
                is_first = false;
            }
            self.start();
            metrics::resyncs_waiting(self.schedule.len());
            let wake = self.wake();
            let clock = Arc::clone(&self.context.clock);
            tokio::select! {
                () = stop.cancelled() => break,
                Some(finished) = self.running.join_next() => match finished {
                    Ok(finished) => self.finish(finished)?,
                    Err(error) => match error.try_into_panic() {
                        Ok(panic) => std::panic::resume_unwind(panic),
                        Err(_) => debug!("a resync was cancelled"),
                    },
                },
                Some(task) = self.tasks.recv() => self.take(task),
                () = until(clock.as_ref(), wake) => {}
            }
        }
        self.running.shutdown().await;
        Ok(())
    }

    fn now(&self) -> Micros {
        Micros(self.context.clock.now_us())
    }

    /// How long until something is due; none if only others can go on.
    fn wake(&self) -> Option<Duration> {
        let compare = self.comparisons.iter().map(|(at, _)| *at).min();
        let due = [
            self.schedule.wake_at(),
            compare.filter(|_| !self.is_comparing),
            self.read_at,
        ];
        let at = due.into_iter().flatten().min()?;
        let micros = at.0.saturating_sub(self.now().0);
        Some(Duration::from_micros(
            u64::try_from(micros).unwrap_or_default(),
        ))
    }

    /// Starts what may start.
    fn start(&mut self) {
        let now = self.now();
        while let Some(start) = self.schedule.next(now) {
            let context = self.context.clone();
            match start {
                Start::Resolve(job) => self.running.spawn(async move {
                    let outcome = resolve(&context, &job).await;
                    Finished::Resolved(job.did, outcome)
                }),
                Start::Fetch(job, host) => self.running.spawn(async move {
                    let outcome = fetch(&context, &job, &host).await;
                    Finished::Fetched(job.did, host, outcome)
                }),
            };
        }
        let due = self.comparisons.iter().position(|(at, _)| *at <= now);
        if let Some(place) = due.filter(|_| !self.is_comparing) {
            let (_, open) = self.comparisons.swap_remove(place);
            self.compare(open);
        }
    }

    fn compare(&mut self, open: Open) {
        let Task::Reconcile(reconcile) = open.task.clone() else {
            return;
        };
        self.is_comparing = true;
        let source = self.source(&reconcile.source);
        let comparison = Comparison {
            context: self.context.clone(),
            tables: self.tables.clone(),
            queue: self.queue.clone(),
            dids: Arc::new(self.settings.dids.clone()),
        };
        self.running.spawn(async move {
            let outcome = Box::pin(comparison.run(&open, &reconcile, &source)).await;
            Finished::Compared(open, outcome)
        });
    }

    /// What is known of a source; one that is not followed any more is compared all the same.
    fn source(&self, name: &Arc<str>) -> ResyncSource {
        let known = self
            .settings
            .sources
            .iter()
            .find(|source| source.name == *name);
        known.cloned().unwrap_or_else(|| ResyncSource {
            name: Arc::clone(name),
            heads: Arc::clone(name),
            marks_new: false,
        })
    }

    fn finish(&mut self, finished: Finished) -> Result<(), AppendError> {
        let now = self.now();
        match finished {
            Finished::Resolved(did, outcome) => match outcome? {
                Ok(host) => self.schedule.resolved(&did, &host),
                Err(ended) => self.schedule.ended(&did, &ended.ending, now),
            },
            Finished::Fetched(did, host, outcome) => {
                let ended = outcome?;
                if let Some(retry) = ended.parked {
                    let wait = retry.wait(now).min(super::PARKED_MAX);
                    self.schedule.park(&host, now.saturating_add(micros(wait)));
                }
                self.schedule.ended(&did, &ended.ending, now);
            }
            Finished::Compared(mut open, outcome) => {
                self.is_comparing = false;
                if let Compared::Again(retry) = outcome? {
                    open.attempt += 1;
                    let wait = retry.map_or(Duration::ZERO, |retry| retry.wait(now));
                    let wait = wait.max(self.put_off(&open)).min(COMPARE_AGAIN_MAX);
                    self.comparisons
                        .push((now.saturating_add(micros(wait)), open));
                }
            }
        }
        if self.has_more && self.schedule.has_room() {
            self.read_at = Some(now);
        }
        Ok(())
    }

    fn put_off(&self, open: &Open) -> Duration {
        let doublings = open.attempt.saturating_sub(1).min(16);
        Duration::from_secs(10)
            .saturating_mul(1 << doublings)
            .min(COMPARE_AGAIN_MAX)
    }

    /// Takes a task that is durable and not begun.
    fn take(&mut self, task: Task) {
        let now = self.now();
        self.hold(Open::new(task, now), now);
        if self.tasks.take_overflow() {
            self.read_at = Some(now);
        }
    }

    /// Holds what is to be done; says whether there was a place.
    fn hold(&mut self, open: Open, now: Micros) -> bool {
        match &open.task {
            Task::Reconcile(_) => {
                let is_known = self
                    .comparisons
                    .iter()
                    .any(|(_, other)| other.is_same(&open));
                if !is_known {
                    let at = match open.attempt {
                        0 => now,
                        _ => open.at.saturating_add(micros(self.put_off(&open))),
                    };
                    self.comparisons.push((at, open));
                }
                true
            }
            Task::Mark(_) => {
                let is_held = self.schedule.add(open, now) != Added::Full;
                // What has no place is read from the bucket when others are done.
                self.has_more |= !is_held;
                is_held
            }
        }
    }

    /// Reads the bucket if it is time to.
    async fn read_if_due(&mut self) {
        let now = self.now();
        if self.read_at.is_none_or(|at| at > now) {
            return;
        }
        (self.read_at, self.has_more) = (None, false);
        match self.read(now).await {
            Ok(0) => {}
            Ok(read) => info!(
                read,
                held = self.schedule.len(),
                "resyncs go on that are not done"
            ),
            Err(error) => {
                warn!(%error, "what has to be resynced can't be read from the bucket now");
                self.read_at = Some(self.now().saturating_add(micros(READ_AGAIN)));
            }
        }
    }

    /// Reads what is not done, as far as there is room for it.
    async fn read(&mut self, now: Micros) -> Result<usize, TablesError> {
        let mut stored = Stored::new(self.tables.clone());
        let (mut after, mut read) = (None::<Vec<u8>>, 0);
        loop {
            let page = stored.open_resyncs(after.as_deref(), PAGE).await?;
            for notice in page.notices {
                let Some(open) = Open::of(notice) else {
                    continue;
                };
                if !self.hold(open, now) {
                    return Ok(read);
                }
                read += 1;
            }
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(read),
            }
        }
    }

    /// Marks each listed repo of which nothing is known.
    async fn mark_listed(&mut self) -> Result<(), AppendError> {
        let Some(first) = self.settings.sources.first() else {
            return Ok(());
        };
        let dids: Vec<Did> = self.settings.dids.iter().cloned().collect();
        let coverage = self.settings.coverage.to_string();
        let mut stored = Stored::new(self.tables.clone());
        let mut known = vec![false; dids.len()];
        for source in &self.settings.sources {
            let scope = Scope {
                heads: &source.heads,
                coverage: &coverage,
            };
            match stored.revs(&dids, scope).await {
                Ok(revs) => {
                    for (known, rev) in known.iter_mut().zip(revs) {
                        *known |= rev.is_some();
                    }
                }
                Err(error) => {
                    // Fetching what is known already costs a request a repo; not fetching what is not costs the repo.
                    warn!(%error, "which listed repos are known can't be read: all are fetched");
                }
            }
        }
        let at = self.now();
        let unknown = dids.into_iter().zip(known).filter(|(_, known)| !known);
        let marks: Vec<Mark> = unknown
            .filter(|(did, _)| !self.schedule.holds(did))
            .map(|(did, _)| Mark {
                source: Arc::clone(&first.name),
                frame_hash: hash_of(&[&at.0.to_be_bytes()[..], did.as_str().as_bytes()].concat()),
                did,
                rev: None,
                seq: None,
                reason: FIRST_SIGHTING.to_owned(),
            })
            .collect();
        mark_all(&self.context, &self.queue, marks).await
    }
}

/// Waits for `wait`, or for ever.
async fn until(clock: &dyn Clock, wait: Option<Duration>) {
    match wait {
        Some(wait) => clock.sleep(wait).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
