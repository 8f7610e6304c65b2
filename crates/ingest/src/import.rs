//! Imports a repository's CAR from a file.
//!
//! With its DID's key the records come in as writes at the repository's rev, and a floor behind them kills what is
//! older. Without, they are an archive: rows, but no floor. How they get into the log is said in `crate::whole_repo`.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use atproto::{Did, PublicKey, VerifyError, verify_repo};
use crdt::{AppendError, Change, Coverage, Micros, NoticeChange};
use thiserror::Error;
use tracing::{info, warn};

use crate::intake::{Intake, name_of_file};
use crate::recording::unpacked;
use crate::repo::{Arrival, notice};
use crate::summary::Summary;
use crate::whole_repo::{append_in_order, arrival_of, blocking, changes_of, did_of};

/// The longest CAR: it is held in memory while its tree is walked.
pub const CAR_BYTES_MAX: u64 = 1 << 30;

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
        let mut appended = |position| summary.appended(position);
        append_in_order(&self.log, changes, &mut appended).await?;
        info!(source = %summary.source, records = summary.records, floors = summary.floors, "imported");
        Ok(summary)
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
    let arrival = arrival_of(bytes, at);
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
    let changes = changes_of(&repo, &Coverage::default(), source, arrival);
    (arrival, Ok(changes))
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

#[cfg(test)]
mod tests;
