//! Imports a repository's CAR.
//!
//! With its DID's key the records come in as writes at the repository's rev, and a floor behind them kills what is
//! older. Without, they are an archive: rows, but no floor. A floor must never be seen without its records, so all of
//! them go under one writer id: in one object where they fit, else one behind the other, again from the beginning if
//! the log's writer takes a new id in between.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use atproto::{Car, Commit, Did, PublicKey, VerifiedRepo, VerifyError, verify_repo};
use crdt::storage::WriterId;
use crdt::{
    AppendError, Change, ChangeBatch, Coverage, Delivery, Micros, NoticeChange, changes_of_repo,
};
use thiserror::Error;
use tracing::{info, warn};

use crate::intake::{Intake, name_of_file};
use crate::recording::unpacked;
use crate::repo::{Arrival, hash_of, notice};
use crate::summary::Summary;

/// The longest CAR: it is held in memory while its tree is walked.
pub const CAR_BYTES_MAX: u64 = 1 << 30;

/// How many bytes of changes are one batch, and so one log object: half of what a batch may be.
const BATCH_BYTES: usize = crdt::change_log::BATCH_BYTES_MAX / 2;

/// How often an import begins again when the writer's id changes under it.
const ATTEMPTS_MAX: u32 = 5;

/// Why a CAR was not imported.
#[derive(Debug, Error)]
pub enum ImportError {
    /// The file can't be read. Nothing went in.
    #[error("{} can't be read", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file is longer than [`CAR_BYTES_MAX`]. Nothing went in.
    #[error("{} is longer than {CAR_BYTES_MAX} bytes", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// The file is no repository that may go in; a notice says so in the log, and nothing else went in.
    #[error("{} is refused ({})", path.display(), source.reason())]
    Refused {
        /// The file.
        path: PathBuf,
        /// Why.
        source: VerifyError,
    },
    /// The log does not take it. Importing again does no harm.
    #[error("import is broken off")]
    Append {
        /// What the log says.
        #[from]
        source: AppendError,
    },
    /// The log's writer took a new id each time. Importing again does no harm.
    #[error("import given up: the log's writer took a new id {ATTEMPTS_MAX} times")]
    WriterChanged,
}

impl Intake {
    /// Imports the repository in the CAR at `path` and returns when all is durable.
    ///
    /// The source is `source`, or else named by the file's BLAKE3. A repository whose DID has a document with a key is
    /// verified against it; for others the rows are an archive's, which raise no floor.
    ///
    /// # Errors
    /// [`ImportError`].
    pub async fn import_car(
        &self,
        path: &Path,
        source: Option<&str>,
    ) -> Result<Summary, ImportError> {
        let open = |source| ImportError::Open {
            path: path.to_owned(),
            source,
        };
        let source: Arc<str> = match source {
            Some(source) => source.into(),
            None => name_of_file(path).await.map_err(open)?.into(),
        };
        let of = path.to_owned();
        let (bytes, did) = blocking(move || {
            let bytes = read(&of)?;
            let did = did_of(&bytes);
            Ok::<_, ImportError>((bytes, did))
        })
        .await?;
        // Without a document, or without a key of a known kind in it, the signature can't be checked.
        let key = match &did {
            Ok(did) => self.identities.resolve(did).await.ok(),
            Err(_) => None,
        };
        let key = key.and_then(|document| document.signing_key.clone());
        let (name, now) = (Arc::clone(&source), self.now());
        let (arrival, changes) =
            blocking(move || changes_of_car(&bytes, did, key.as_ref(), (&name, now))).await;
        let mut summary = Summary::of(&source);
        summary.bytes = arrival.bytes;
        let changes = match changes {
            Ok(changes) => changes,
            Err((notice, refused)) => {
                self.log
                    .append(vec![Change::Notice(*notice)].into())
                    .await?;
                return Err(ImportError::Refused {
                    path: path.to_owned(),
                    source: refused,
                });
            }
        };
        changes.iter().for_each(|change| summary.count(change));
        self.append_in_order(changes, &mut summary).await?;
        info!(source = %summary.source, records = summary.records, floors = summary.floors, "imported");
        Ok(summary)
    }

    /// Appends `changes` under one writer id, in their order.
    async fn append_in_order(
        &self,
        changes: Vec<Change>,
        summary: &mut Summary,
    ) -> Result<(), ImportError> {
        let batches = batches_of(changes);
        for _ in 0..ATTEMPTS_MAX {
            if self.append_once(&batches, summary).await? {
                return Ok(());
            }
            warn!(source = %summary.source, "the log's writer took a new id: the import begins again");
        }
        Err(ImportError::WriterChanged)
    }

    /// Whether all batches went under one writer id; the last, with the floor, is not sent when others did not.
    async fn append_once(
        &self,
        batches: &[ChangeBatch],
        summary: &mut Summary,
    ) -> Result<bool, AppendError> {
        let mut writer: Option<WriterId> = None;
        for batch in batches {
            let position = self.log.append(batch.clone()).await?;
            summary.appended(position);
            if *writer.get_or_insert(position.writer) != position.writer {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// The notice that a CAR leaves, and why.
type Refusal = (Box<NoticeChange>, VerifyError);

/// Verifies and converts a CAR: the changes, with the floor last, or the notice and why it is refused.
fn changes_of_car(
    bytes: &[u8],
    did: Result<Did, VerifyError>,
    key: Option<&PublicKey>,
    (source, at): (&Arc<str>, Micros),
) -> (Arrival, Result<Vec<Change>, Refusal>) {
    let arrival = Arrival {
        index: 0,
        bytes: bytes.len() as u64,
        hash: hash_of(bytes),
        at,
    };
    let refused = |did: Option<Did>, error: VerifyError| {
        let reason = error.reason();
        warn!(%source, reason, "repository refused");
        let notice = NoticeChange {
            did,
            ..notice(source, arrival, reason)
        };
        (arrival, Err((Box::new(notice), error)))
    };
    let did = match did {
        Ok(did) => did,
        Err(error) => return refused(None, error),
    };
    let repo = match verify_repo(bytes, key, at.0) {
        Ok(repo) => repo,
        Err(error) => return refused(Some(did), error),
    };
    let delivery = Delivery {
        source: Arc::clone(source),
        seq: None,
        indexed_at: at,
        time: None,
        verification: repo.verification(),
    };
    let mut changes = problems(&repo, source, arrival);
    changes.extend(changes_of_repo(&repo, &Coverage::default(), &delivery));
    (arrival, Ok(changes))
}

/// Runs `work` where it may take long; a panic in it goes on here.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
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

fn read(path: &Path) -> Result<Vec<u8>, ImportError> {
    let read = || -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        unpacked(File::open(path)?)?
            .take(CAR_BYTES_MAX + 1)
            .read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let path = path.to_owned();
    match read() {
        Ok(bytes) if bytes.len() as u64 > CAR_BYTES_MAX => Err(ImportError::TooLong { path }),
        Ok(bytes) => Ok(bytes),
        Err(source) => Err(ImportError::Open { path, source }),
    }
}

/// Whose repository a CAR says that it is: that decides which key it is verified with.
fn did_of(car: &[u8]) -> Result<Did, VerifyError> {
    let car = Car::parse(car)?;
    let cid = car.root();
    let block = car.get(&cid).ok_or(VerifyError::MissingBlock { cid })?;
    Ok(Commit::decode(block)?.did)
}

#[cfg(test)]
mod tests;
