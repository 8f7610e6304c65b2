//! One attempt to fetch a repo and to merge it: from its marks to how it ended.
//!
//! The host is asked, what it gives is verified against the DID document's key, and what the filter covers goes into the
//! log with its floor, whose last object says too that the marks are done. A CAR that lacks blocks is incomplete, one
//! whose rev is below a mark's is behind: both are tried again. Nothing depends on how far an attempt came: a new one
//! does all of it, and merging the same twice changes nothing. Live commits go in meanwhile; those above the fetched rev
//! outlive its floor.

use std::sync::Arc;

use atproto::{CarError, Did, DidDocument, VerifiedRepo, VerifyError, verify_repo};
use bytes::Bytes;
use crdt::storage::Clock;
use crdt::{AppendError, Change, ChangeLog, Coverage, Micros, ResyncStep};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::{debug, info};

use super::Task;
use super::hosts::{HostError, Hosts};
use super::progress::Open;
use super::schedule::{Ending, Job};
use crate::identity::{Identities, ResolveError};
use crate::metrics;
use crate::outbound::{OutboundError, Retry};
use crate::repo::Arrival;
use crate::whole_repo::{append_in_order, arrival_of, blocking, changes_of};

/// The unit in which room for CARs is counted, so that their number fits a semaphore's.
const ROOM_UNIT: u64 = 1 << 16;

/// How much room a fetch has from the beginning: most repos are smaller.
const ROOM_MIN: u64 = 4 << 20;

/// What attempts need. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Context {
    pub(super) log: ChangeLog,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) identities: Identities,
    pub(super) hosts: Arc<dyn Hosts>,
    pub(super) coverage: Coverage,
    pub(super) room: Arc<Room>,
}

/// How an attempt ended, and until when its host wants to be left alone.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) ending: Ending,
    pub(super) parked: Option<Retry>,
}

/// Why an attempt came to nothing.
enum Failure {
    /// There is no such repo.
    Gone(&'static str),
    /// It may be better next time.
    Again(&'static str, Option<Retry>),
    /// There was no room; with so much there may be.
    NoRoom(u64),
    /// The log takes nothing more.
    Log(AppendError),
}

impl From<AppendError> for Failure {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::WriterChanged => Self::Again("writer_changed", None),
            error => Self::Log(error),
        }
    }
}

/// Looks up where a repo is; or ends the attempt.
pub(super) async fn resolve(
    context: &Context,
    job: &Job,
) -> Result<Result<Arc<str>, Ended>, AppendError> {
    let failure = match context.identities.resolve(&job.did).await {
        Ok(document) => match &document.pds {
            Some(pds) => return Ok(Ok(pds.as_str().into())),
            None => Failure::Again("no_pds", None),
        },
        Err(ResolveError::Tombstoned) => Failure::Gone(ResolveError::Tombstoned.reason()),
        Err(error) => Failure::Again(error.reason(), None),
    };
    end(context, job, failure).await.map(Err)
}

/// Fetches and merges a repo from the host that was looked up.
pub(super) async fn fetch(
    context: &Context,
    job: &Job,
    pds: &Arc<str>,
) -> Result<Ended, AppendError> {
    match try_fetch(context, job, pds).await {
        Ok(ending) => Ok(Ended {
            ending,
            parked: None,
        }),
        Err(failure) => end(context, job, failure).await,
    }
}

/// Tells how an attempt failed.
async fn end(context: &Context, job: &Job, failure: Failure) -> Result<Ended, AppendError> {
    let (step, reason, ending, parked) = match failure {
        Failure::Log(error) => return Err(error),
        Failure::NoRoom(bytes) => {
            debug!(did = %job.did, bytes, "no room for a repo now");
            return Ok(Ended {
                ending: Ending::NoRoom(bytes),
                parked: None,
            });
        }
        Failure::Gone(reason) => (ResyncStep::Gone, reason, Ending::Gone, None),
        Failure::Again(reason, parked) => (ResyncStep::Failed, reason, Ending::Failed, parked),
    };
    info!(did = %job.did, attempt = job.attempt, reason, "repo not fetched");
    metrics::resync_ended(reason);
    tell(context, job, step, Some(reason)).await?;
    Ok(Ended { ending, parked })
}

/// Appends the notices of a step that all marks of a job have come to.
async fn tell(
    context: &Context,
    job: &Job,
    step: ResyncStep,
    failure: Option<&str>,
) -> Result<(), AppendError> {
    let at = Micros(context.clock.now_us());
    let told = job
        .marks
        .iter()
        .map(|open| open.told(job.attempt, step, failure, at));
    context.log.append(told.collect::<Vec<_>>().into()).await?;
    Ok(())
}

async fn try_fetch(context: &Context, job: &Job, pds: &Arc<str>) -> Result<Ending, Failure> {
    let mut held = context.room.take(job.reserve.max(ROOM_MIN)).await;
    tell(context, job, ResyncStep::Fetching, None).await?;
    let mut room = |bytes| held.grow(bytes);
    let asked = context.hosts.repo(pds, &job.did, &mut room);
    let car = match asked.await {
        Ok(car) => car,
        Err(error) => return Err(of_host(context, &job.did, pds, error).await),
    };
    metrics::resync_fetched(car.len() as u64);
    let (repo, arrival) = verified(context, &job.did, pds, car).await?;
    let is_answered = |open: &Open| match &open.task {
        Task::Mark(mark) => mark.rev.is_none_or(|rev| rev <= repo.rev()),
        Task::Reconcile(_) => false,
    };
    if !job.marks.iter().any(is_answered) {
        return Err(Failure::Again("behind", None));
    }
    tell(context, job, ResyncStep::Fetched, None).await?;
    let (rev, coverage, pds) = (repo.rev(), context.coverage.clone(), Arc::clone(pds));
    let (marks, attempt) = (job.marks.clone(), job.attempt);
    let told: Vec<Change> = marks
        .iter()
        .map(|open| match is_answered(open) {
            true => open.told(attempt, ResyncStep::Synchronized, None, arrival.at),
            false => open.told(attempt, ResyncStep::Failed, Some("behind"), arrival.at),
        })
        .collect();
    let changes = blocking(move || {
        let mut changes = changes_of(&repo, &coverage, &pds, arrival);
        changes.iter_mut().for_each(of_repo);
        changes.extend(told);
        changes
    })
    .await;
    let records = changes.len();
    append_in_order(&context.log, changes, &mut |_| {}).await?;
    info!(did = %job.did, %rev, attempt, records, "repo fetched and merged");
    metrics::resync_ended("synchronized");
    drop(held);
    Ok(Ending::Synchronized(rev))
}

/// Puts a fetched head under a name of its own.
///
/// Its host may be followed too, and then the head of that stream is another: were it this one, commits that the stream
/// has yet to deliver would be taken for replays, and their events would be missing.
fn of_repo(change: &mut Change) {
    if let Change::Head(head) = change {
        head.delivery.source = format!("{}#repo", head.delivery.source).into();
    }
}

/// Verifies a CAR with the key at hand, and once more with a new one if the signature is not of that.
async fn verified(
    context: &Context,
    did: &Did,
    pds: &str,
    car: Bytes,
) -> Result<(VerifiedRepo, Arrival), Failure> {
    let arrival = arrival_of(&car, Micros(context.clock.now_us()));
    let document = context.identities.resolve(did).await.map_err(again)?;
    let repo = match verify(car.clone(), &document, arrival.at).await? {
        Err(VerifyError::Signature(_)) => {
            let renewed = context.identities.refresh(did).await.map_err(again)?;
            if renewed.pds.as_deref() != Some(pds) {
                return Err(Failure::Again("moved", None));
            }
            verify(car, &renewed, arrival.at).await?
        }
        repo => repo,
    };
    match repo {
        Ok(repo) if repo.did() == did => Ok((repo, arrival)),
        Ok(_) => Err(Failure::Again("other_repo", None)),
        Err(error) => Err(Failure::Again(reason(&error), None)),
    }
}

/// Why a CAR is not taken. Blocks that are not there, and bytes that end early, are one thing: it was cut.
fn reason(error: &VerifyError) -> &'static str {
    match error {
        VerifyError::MissingBlock { .. } | VerifyError::Car(CarError::Truncated { .. }) => {
            "incomplete"
        }
        error => match error.reason() {
            // What the tree's walk says of a node that is not there.
            "missing_block" => "incomplete",
            reason => reason,
        },
    }
}

async fn verify(
    car: Bytes,
    document: &DidDocument,
    at: Micros,
) -> Result<Result<VerifiedRepo, VerifyError>, Failure> {
    // Only what is signed may raise a floor.
    let Some(key) = document.signing_key.clone() else {
        return Err(Failure::Again("no_signing_key", None));
    };
    Ok(blocking(move || verify_repo(&car, Some(&key), at.0)).await)
}

fn again(error: ResolveError) -> Failure {
    Failure::Again(error.reason(), None)
}

/// What a host's error means. That it has no such repo is believed if the account still lives there.
async fn of_host(context: &Context, did: &Did, pds: &str, error: HostError) -> Failure {
    match error {
        HostError::Gone { reason } => match context.identities.refresh(did).await {
            Ok(document) if document.pds.as_deref() == Some(pds) => Failure::Gone(reason),
            Ok(_) => Failure::Again("moved", None),
            Err(ResolveError::Tombstoned) => Failure::Gone(ResolveError::Tombstoned.reason()),
            Err(error) => again(error),
        },
        HostError::Outbound(OutboundError::NoRoom { bytes }) => Failure::NoRoom(bytes * 2),
        HostError::Busy { retry, status } => {
            debug!(%did, pds, status, "host wants to be left alone");
            Failure::Again(
                "host_busy",
                Some(retry.unwrap_or(Retry::After(super::PARKED))),
            )
        }
        error => {
            debug!(%did, pds, %error, "no repo from its host");
            Failure::Again(error.reason(), None)
        }
    }
}

/// Room for the CARs that are held at once.
#[derive(Debug)]
pub(super) struct Room {
    units: Arc<Semaphore>,
    units_max: u32,
}

/// Some room, given back when it is dropped.
#[derive(Debug)]
struct Held {
    room: Arc<Semaphore>,
    units_max: u32,
    permits: OwnedSemaphorePermit,
}

impl Room {
    /// Room for so many bytes.
    pub(super) fn new(bytes: u64) -> Self {
        let units = u32::try_from(bytes / ROOM_UNIT).unwrap_or(u32::MAX).max(1);
        // A semaphore holds less than a u32 may say where `usize` is short.
        let units = units.min(u32::try_from(Semaphore::MAX_PERMITS).unwrap_or(u32::MAX));
        Self {
            units: Arc::new(Semaphore::new(units as usize)),
            units_max: units,
        }
    }

    /// Waits for room for `bytes`, at most for all there is.
    async fn take(&self, bytes: u64) -> Held {
        let units = units(bytes).clamp(1, self.units_max);
        match Arc::clone(&self.units).acquire_many_owned(units).await {
            Ok(permits) => Held {
                room: Arc::clone(&self.units),
                units_max: self.units_max,
                permits,
            },
            // Nobody closes it.
            Err(_) => std::future::pending().await,
        }
    }
}

impl Held {
    /// Whether there is room for `bytes` in all. Whoever needs more than there is now comes again and waits for it: if
    /// all waited with what they have, nobody would go on.
    fn grow(&mut self, bytes: u64) -> bool {
        let held = u32::try_from(self.permits.num_permits()).unwrap_or(u32::MAX);
        let wanted = units(bytes);
        if wanted <= held {
            return true;
        }
        // Twice as much at a time, so that a large one asks seldom.
        for target in [held.saturating_mul(2).min(self.units_max), wanted] {
            let more = target.saturating_sub(held);
            if target >= wanted
                && let Ok(permits) = Arc::clone(&self.room).try_acquire_many_owned(more)
            {
                self.permits.merge(permits);
                return true;
            }
        }
        false
    }
}

fn units(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(ROOM_UNIT)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn room_grows_while_there_is_some_and_comes_back() {
        let room = Room::new(100 * ROOM_UNIT);
        let mut one = room.take(10 * ROOM_UNIT).await;
        let mut two = room.take(10 * ROOM_UNIT).await;
        assert!(one.grow(10 * ROOM_UNIT));
        assert!(one.grow(11 * ROOM_UNIT));
        assert_eq!(one.permits.num_permits(), 20);
        assert!(one.grow(75 * ROOM_UNIT));
        assert!(two.grow(25 * ROOM_UNIT));
        assert!(!two.grow(26 * ROOM_UNIT));
        drop(one);
        assert!(two.grow(26 * ROOM_UNIT));
        drop(two);
        assert_eq!(room.take(u64::MAX).await.permits.num_permits(), 100);
    }
}
