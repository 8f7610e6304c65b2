//! Which repo is fetched when: after its failures, and as its host can bear. Pure: time is an argument.
//!
//! All marks of one repo are one job, since one fetch answers them all. A job waits until it is due, then its host is
//! looked up, then it waits for a place at that host: at most so many at once, not more often than an interval, not
//! while the host asked to be left alone. What it holds is bounded; a mark that finds no place is found in the bucket.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use atproto::{Did, Tid};
use crdt::{Micros, ResyncStep};

use super::Task;
use super::progress::Open;

/// How long after its first failure a repo is fetched again; twice as long after each further one.
const BACKOFF_MIN: Duration = Duration::from_secs(10);
const BACKOFF_MAX: Duration = Duration::from_secs(6 * 3600);

/// How many marks one job holds.
const MARKS_MAX: usize = 64;

/// How much is done at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Repos that are looked up or fetched at once.
    pub running_max: usize,
    /// Repos that are fetched from one host at once.
    pub of_host_max: usize,
    /// From one fetch's start to the next at one host, at least.
    pub host_interval: Duration,
    /// Repos whose marks are held in memory; others wait in the bucket.
    pub repos_max: usize,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            running_max: 32,
            of_host_max: 2,
            host_interval: Duration::from_millis(200),
            repos_max: 20_000,
        }
    }
}

/// What is to be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// Where the repo is has to be looked up.
    Resolve(Job),
    /// It has to be fetched from this host.
    Fetch(Job, Arc<str>),
}

/// A repo to be fetched, and the marks that ask for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Job {
    pub(crate) did: Did,
    pub(crate) marks: Vec<Open>,
    /// The attempt that this is, from 1.
    pub(crate) attempt: u32,
    /// How many bytes its last attempt had no room for.
    pub(crate) reserve: u64,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The repo at this rev is in the log.
    Synchronized(Tid),
    /// There is none.
    Gone,
    /// It has to be tried again.
    Failed,
    /// Again soon, with this much room: it is no failure.
    NoRoom(u64),
}

/// Whether a mark found its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Added {
    Held,
    Known,
    Full,
}

/// Where a job stands.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    Due(Micros),
    /// With so many of its marks, those at the front.
    Resolving(usize),
    AtHost,
    /// With so many of its marks, those at the front.
    Fetching(usize, Arc<str>),
}

#[derive(Debug)]
struct Waiting {
    marks: Vec<Open>,
    phase: Phase,
    reserve: u64,
}

#[derive(Debug, Default)]
struct Host {
    running: usize,
    next_at: Micros,
    waiting: VecDeque<Did>,
}

/// All jobs.
#[derive(Debug)]
pub(crate) struct Schedule {
    pace: Pace,
    jobs: HashMap<Did, Waiting>,
    due: BTreeSet<(Micros, Did)>,
    hosts: HashMap<Arc<str>, Host>,
    /// Hosts where a job waits and has a place, by when the next may start.
    open_hosts: BTreeSet<(Micros, Arc<str>)>,
    running: usize,
}

impl Schedule {
    pub(crate) fn new(pace: Pace) -> Self {
        Self {
            pace,
            jobs: HashMap::new(),
            due: BTreeSet::new(),
            hosts: HashMap::new(),
            open_hosts: BTreeSet::new(),
            running: 0,
        }
    }

    /// How many repos are held.
    pub(crate) fn len(&self) -> usize {
        self.jobs.len()
    }

    /// Whether something is to be done about a repo.
    pub(crate) fn holds(&self, did: &Did) -> bool {
        self.jobs.contains_key(did)
    }

    /// Whether marks that found no place may find one now.
    pub(crate) fn has_room(&self) -> bool {
        self.jobs.len() <= self.pace.repos_max / 2
    }

    /// Adds a mark; none of another kind.
    pub(crate) fn add(&mut self, open: Open, now: Micros) -> Added {
        let Task::Mark(mark) = &open.task else {
            return Added::Known;
        };
        let did = mark.did.clone();
        let due = match open.attempt {
            0 => now,
            attempt => open.at.saturating_add(micros(backoff(&did, attempt))),
        };
        if let Some(job) = self.jobs.get_mut(&did) {
            if job.marks.iter().any(|other| other.is_same(&open)) {
                return Added::Known;
            }
            if job.marks.len() >= MARKS_MAX {
                return Added::Full;
            }
            job.marks.push(open);
            return Added::Held;
        }
        if self.jobs.len() >= self.pace.repos_max {
            return Added::Full;
        }
        let job = Waiting {
            marks: vec![open],
            phase: Phase::Due(due),
            reserve: 0,
        };
        self.due.insert((due, did.clone()));
        self.jobs.insert(did, job);
        Added::Held
    }

    /// What may start now, if anything.
    pub(crate) fn next(&mut self, now: Micros) -> Option<Start> {
        if self.running >= self.pace.running_max {
            return None;
        }
        // Hosts first: what waits there was due before.
        if let Some((at, host)) = self.open_hosts.first()
            && *at <= now
        {
            let host = Arc::clone(host);
            if let Some(job) = self.take_at(&host, now) {
                return Some(Start::Fetch(job, host));
            }
        }
        let (at, did) = self.due.first()?;
        if *at > now {
            return None;
        }
        let did = did.clone();
        self.due.pop_first();
        let job = self.jobs.get_mut(&did)?;
        job.phase = Phase::Resolving(job.marks.len());
        self.running += 1;
        Some(Start::Resolve(job_of(&did, job)))
    }

    /// When something may start next, if there is a place for it.
    pub(crate) fn wake_at(&self) -> Option<Micros> {
        if self.running >= self.pace.running_max {
            return None;
        }
        let due = self.due.first().map(|(at, _)| *at);
        let host = self.open_hosts.first().map(|(at, _)| *at);
        due.into_iter().chain(host).min()
    }

    /// The repo is at `host`: it waits there for its place.
    pub(crate) fn resolved(&mut self, did: &Did, host: &Arc<str>) {
        let Some(job) = self.jobs.get_mut(did) else {
            return;
        };
        self.running -= 1;
        job.phase = Phase::AtHost;
        let at = self.hosts.entry(Arc::clone(host)).or_default();
        at.waiting.push_back(did.clone());
        self.note(host);
    }

    /// An attempt ended, at its host or before one was known.
    pub(crate) fn ended(&mut self, did: &Did, ending: &Ending, now: Micros) {
        let Some(job) = self.jobs.get_mut(did) else {
            return;
        };
        let (taken, host) = match std::mem::replace(&mut job.phase, Phase::AtHost) {
            Phase::Fetching(taken, host) => (taken, Some(host)),
            Phase::Resolving(taken) => (taken, None),
            Phase::Due(_) | Phase::AtHost => (0, None),
        };
        self.running -= 1;
        let attempt = job_of(did, job).attempt;
        let mut at = 0;
        job.marks.retain_mut(|open| {
            let is_taken = at < taken;
            at += 1;
            let is_done = match (ending, &open.task) {
                // What came while it was fetched asks for what may not have been there yet.
                (Ending::Synchronized(rev), Task::Mark(mark)) => {
                    is_taken && mark.rev.is_none_or(|of_mark| of_mark <= *rev)
                }
                (Ending::Gone, _) => is_taken,
                _ => false,
            };
            if is_taken && !matches!(ending, Ending::NoRoom(_)) {
                (open.attempt, open.step, open.at) = (attempt, ResyncStep::Failed, now);
            }
            !is_done
        });
        let due = match ending {
            Ending::NoRoom(reserve) => {
                job.reserve = *reserve;
                now.saturating_add(1_000_000)
            }
            Ending::Failed => now.saturating_add(micros(backoff(did, attempt))),
            // Marks that are left came meanwhile, or are ahead of what the host has.
            Ending::Synchronized(_) | Ending::Gone => match job.marks.first() {
                Some(open) if open.attempt > 0 => {
                    now.saturating_add(micros(backoff(did, open.attempt)))
                }
                _ => now,
            },
        };
        if job.marks.is_empty() {
            self.jobs.remove(did);
        } else {
            job.phase = Phase::Due(due);
            self.due.insert((due, did.clone()));
        }
        if let Some(host) = host {
            if let Some(at) = self.hosts.get_mut(&host) {
                at.running -= 1;
            }
            self.note(&host);
            self.forget_idle(&host, now);
        }
    }

    /// Leaves a host alone until `until`.
    pub(crate) fn park(&mut self, host: &Arc<str>, until: Micros) {
        let at = self.hosts.entry(Arc::clone(host)).or_default();
        self.open_hosts.remove(&(at.next_at, Arc::clone(host)));
        at.next_at = at.next_at.max(until);
        self.note(host);
    }

    /// Gives the host's first job its place.
    fn take_at(&mut self, host: &Arc<str>, now: Micros) -> Option<Job> {
        self.open_hosts.pop_first();
        let at = self.hosts.get_mut(host)?;
        let did = at.waiting.pop_front();
        if did.is_some() {
            at.running += 1;
            at.next_at = now.saturating_add(micros(self.pace.host_interval));
        }
        self.note(host);
        let did = did?;
        let job = self.jobs.get_mut(&did)?;
        job.phase = Phase::Fetching(job.marks.len(), Arc::clone(host));
        self.running += 1;
        Some(job_of(&did, job))
    }

    /// Notes whether something may start at a host.
    fn note(&mut self, host: &Arc<str>) {
        let Some(at) = self.hosts.get(host) else {
            return;
        };
        let entry = (at.next_at, Arc::clone(host));
        if at.waiting.is_empty() || at.running >= self.pace.of_host_max {
            self.open_hosts.remove(&entry);
        } else {
            self.open_hosts.insert(entry);
        }
    }

    /// Forgets a host at which nothing happens, so that hosts do not add up.
    fn forget_idle(&mut self, host: &Arc<str>, now: Micros) {
        let is_idle =
            |host: &Host| host.running == 0 && host.waiting.is_empty() && host.next_at <= now;
        if self.hosts.get(host).is_some_and(is_idle) {
            self.hosts.remove(host);
        }
        // Those that had to be left alone a moment longer are forgotten in passing.
        if self.hosts.len() > self.pace.repos_max {
            self.hosts.retain(|_, host| !is_idle(host));
        }
    }
}

fn job_of(did: &Did, job: &Waiting) -> Job {
    let begun = job.marks.iter().map(|open| open.attempt).max();
    Job {
        did: did.clone(),
        marks: job.marks.clone(),
        attempt: begun.unwrap_or_default().saturating_add(1),
        reserve: job.reserve,
    }
}

/// How long after its attempt `attempt` a repo is fetched again: doubled each time, and up to a quarter more, which is
/// the same after a restart but not the same for all repos of a host.
pub(crate) fn backoff(did: &Did, attempt: u32) -> Duration {
    let doublings = attempt.saturating_sub(1).min(16);
    let wait = BACKOFF_MIN.saturating_mul(1 << doublings).min(BACKOFF_MAX);
    let mut hash = blake3::Hasher::new();
    hash.update(did.as_str().as_bytes());
    hash.update(&attempt.to_le_bytes());
    let byte = hash.finalize().as_bytes()[0];
    wait + wait / 4 * u32::from(byte) / 255
}

pub(crate) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
