//! Puts what directories tell into the log: who an account is, by the directory's own word.
//!
//! Each document becomes a [`Change::Identity`] with the directory's URL as its source, and with the handle that leads
//! back to the DID; `handle.invalid` where it was asked and does not; none where nobody could be asked. A slow name server
//! holds up nothing else: checks are bounded in number, and where too many documents wait their handles are not checked,
//! which is counted. DIDs of which a source says that they changed are asked for anew here.

use std::sync::Arc;

use atproto::{Did, Handle};
use crdt::{AppendError, Change, ChangeBatch, ChangeLog, Delivery, IdentityChange};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::directory::Told;
use super::{HandleCheck, INVALID_HANDLE, Identities};
use crate::metrics;

/// How many handles are checked at once.
const CHECKS_MAX: usize = 64;

/// From how many waiting documents on handles are not checked.
const WAITING_MAX: usize = 4096;

/// How many changed DIDs are being asked for at once; each may wait up to a minute for its turn.
const RENEWALS_MAX: usize = 1024;

/// How many documents one append holds.
const BATCH_MAX: usize = 1024;

/// Records what directories tell.
#[derive(Debug)]
pub struct IdentityRecorder {
    identities: Identities,
    told: mpsc::Receiver<Told>,
}

impl IdentityRecorder {
    pub(super) fn new(identities: Identities, told: mpsc::Receiver<Told>) -> Self {
        Self { identities, told }
    }

    /// Runs until `stop`; what was told by then goes in, with unchecked handles.
    ///
    /// # Errors
    /// If the log does not take it. Documents are asked for again by the next run.
    pub async fn run(
        mut self,
        log: ChangeLog,
        mut changed: mpsc::Receiver<Did>,
        stop: CancellationToken,
    ) -> Result<(), AppendError> {
        let mut checks = FuturesUnordered::new();
        let mut renewals = FuturesUnordered::new();
        let mut appends = FuturesUnordered::new();
        let mut ready: Vec<Change> = Vec::new();
        let mut is_fed = true;
        loop {
            if appends.is_empty() && !ready.is_empty() {
                let batch = ChangeBatch::from(std::mem::take(&mut ready));
                appends.push(log.append(batch));
            }
            let has_room = checks.len() < CHECKS_MAX && ready.len() < BATCH_MAX;
            tokio::select! {
                () = stop.cancelled() => break,
                Some(told) = self.told.recv(), if has_room => {
                    if self.told.len() >= WAITING_MAX {
                        metrics::handle_unchecked();
                        ready.push(change(&told, None));
                    } else {
                        checks.push(checked(self.identities.clone(), told, stop.clone()));
                    }
                }
                did = changed.recv(), if is_fed && renewals.len() < RENEWALS_MAX => match did {
                    Some(did) => renewals.push(renewed(self.identities.clone(), did)),
                    None => is_fed = false,
                },
                Some(change) = checks.next() => ready.push(change),
                Some(()) = renewals.next() => {}
                Some(appended) = appends.next() => {
                    appended?;
                }
                else => break,
            }
        }
        while let Some(appended) = appends.next().await {
            appended?;
        }
        while let Some(change) = checks.next().await {
            ready.push(change);
        }
        while let Ok(told) = self.told.try_recv() {
            metrics::handle_unchecked();
            ready.push(change(&told, None));
        }
        if !ready.is_empty() {
            log.append(ready.into()).await?;
        }
        Ok(())
    }
}

/// Asks anew for a DID that is said to have changed; the answer comes by way of [`Told`].
async fn renewed(identities: Identities, did: Did) {
    if let Err(error) = identities.renew(&did).await {
        // The document stays forgotten, so whoever needs it next asks.
        debug!(%did, reason = error.reason(), "no document of a DID that changed");
    }
}

async fn checked(identities: Identities, told: Told, stop: CancellationToken) -> Change {
    let check = stop.run_until_cancelled(identities.handle(&told.document));
    let (handle, outcome) = match check.await {
        Some(HandleCheck::Verified(handle)) => (Some(handle), "verified"),
        Some(HandleCheck::Invalid) => (INVALID_HANDLE.parse().ok(), "invalid"),
        Some(HandleCheck::Unknown) => (None, "unknown"),
        None => (None, "stopped"),
    };
    metrics::handle_checked(outcome);
    change(&told, handle)
}

fn change(told: &Told, handle: Option<Handle>) -> Change {
    Change::Identity(IdentityChange {
        did: told.document.id.clone(),
        time: told.at,
        seq: None,
        handle,
        pds: told.document.pds.clone(),
        delivery: Delivery {
            source: Arc::clone(&told.source),
            seq: None,
            indexed_at: told.at,
            time: Some(told.at),
            // Nobody signs a directory's answer.
            verification: atproto::Verification::Archive,
        },
    })
}

#[cfg(test)]
mod tests;
