//! Puts a whole repository into the log: its records as writes at its rev, and behind them the floor.
//!
//! A floor must never be seen without its records, so all of them go under one writer id: in one object where they fit,
//! else one behind the other, again from the beginning if the log's writer takes a new id in between. Where the
//! repository came from, and whether it may go in, is for the caller to know.

use std::sync::Arc;

use atproto::{Car, Commit, Did, VerifiedRepo, VerifyError};
use crdt::storage::Position;
use crdt::{
    AppendError, Change, ChangeBatch, ChangeLog, Coverage, Delivery, Micros, NoticeChange,
    changes_of_repo,
};
use tracing::warn;

use crate::repo::{Arrival, hash_of, notice};
use crate::window::broken_off;

/// How many bytes of changes are one batch, and so one log object: half of what a batch may be.
const BATCH_BYTES: usize = crdt::change_log::BATCH_BYTES_MAX / 2;

/// How often it begins again when the writer's id changes under it.
const ATTEMPTS_MAX: u32 = 5;

/// Whose repository a CAR says that it is: that decides which key it is verified with.
pub(crate) fn did_of(car: &[u8]) -> Result<Did, VerifyError> {
    let car = Car::parse(car)?;
    let cid = car.root();
    let block = car.get(&cid).ok_or(VerifyError::MissingBlock { cid })?;
    Ok(Commit::decode(block)?.did)
}

/// How a CAR arrived.
pub(crate) fn arrival_of(car: &[u8], at: Micros) -> Arrival {
    Arrival {
        index: 0,
        seq: None,
        bytes: car.len() as u64,
        hash: hash_of(car),
        at,
    }
}

/// The changes of what `coverage` covers of a repository that came from `source`: what is no record first, the floor
/// last.
pub(crate) fn changes_of(
    repo: &VerifiedRepo,
    coverage: &Coverage,
    source: &Arc<str>,
    arrival: Arrival,
) -> Vec<Change> {
    let delivery = Delivery {
        source: Arc::clone(source),
        seq: None,
        indexed_at: arrival.at,
        time: None,
        verification: repo.verification(),
    };
    let mut changes = problems(repo, source, arrival);
    changes.extend(changes_of_repo(repo, coverage, &delivery));
    changes
}

/// A notice for each path of the tree that holds no record.
fn problems(repo: &VerifiedRepo, source: &Arc<str>, arrival: Arrival) -> Vec<Change> {
    let notice = |refused: &atproto::RefusedRecord| {
        let arrival = Arrival {
            hash: hash_of(&[arrival.hash.as_slice(), refused.path.as_bytes()].concat()),
            ..arrival
        };
        Change::Notice(NoticeChange {
            did: Some(repo.did().clone()),
            rev: Some(repo.rev()),
            ..notice(source, arrival, refused.problem.reason())
        })
    };
    repo.refused().iter().map(notice).collect()
}

/// Appends `changes` under one writer id, in their order; `appended` hears of each object.
///
/// # Errors
/// [`AppendError::WriterChanged`] if the writer took a new id each time: then no floor went in.
pub(crate) async fn append_in_order(
    log: &ChangeLog,
    changes: Vec<Change>,
    appended: &mut (dyn FnMut(Position) + Send),
) -> Result<(), AppendError> {
    let mut batches = batches_of(changes);
    if batches.len() == 1
        && let Some(batch) = batches.pop()
    {
        appended(log.append(batch).await?);
        return Ok(());
    }
    let mut attempts = 1;
    loop {
        match append_once(log, &batches, appended).await {
            Err(AppendError::WriterChanged) if attempts < ATTEMPTS_MAX => {
                warn!("the log's writer took a new id: the repository begins again");
                attempts += 1;
            }
            outcome => return outcome,
        }
    }
}

async fn append_once(
    log: &ChangeLog,
    batches: &[ChangeBatch],
    appended: &mut (dyn FnMut(Position) + Send),
) -> Result<(), AppendError> {
    let mut last: Option<Position> = None;
    for batch in batches {
        let position = match last {
            None => log.append(batch.clone()).await?,
            Some(last) => log.append_after(last, batch.clone()).await?,
        };
        appended(position);
        last = Some(position);
    }
    Ok(())
}

fn batches_of(changes: Vec<Change>) -> Vec<ChangeBatch> {
    let mut batches = vec![ChangeBatch::default()];
    let mut bytes = 0;
    for change in changes {
        let change = ChangeBatch::from(vec![change]);
        bytes += change.bytes();
        if bytes > BATCH_BYTES {
            batches.push(ChangeBatch::default());
            bytes = change.bytes();
        }
        if let Some(last) = batches.last_mut() {
            last.changes.extend(change.changes);
        }
    }
    batches
}

/// Runs `work` where it may take long; a panic in it goes on here.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => broken_off(error).await,
    }
}

#[cfg(test)]
mod tests;
