//! Compares what a source lists with what the bucket holds of it, and marks what is behind.
//!
//! Where a source has forgotten frames that were not taken, its list says which repos went on without us. A repo that
//! was never met is marked where the source's new repos shall be fetched. Marks are durable, then handed over. A list
//! that was broken off begins again; a mark of the same comparison is the same mark.

use std::collections::BTreeSet;
use std::sync::Arc;

use atproto::{Did, Tid};
use crdt::{AppendError, Change, Micros, ResyncStep};
use tables::error::TablesError;
use tables::view::Tables;
use tracing::{info, warn};

use super::attempt::Context;
use super::hosts::HostError;
use super::progress::Open;
use super::stored::{Scope, Stored};
use super::{Mark, Reconcile, ResyncQueue, ResyncSource, Task};
use crate::outbound::Retry;
use crate::repo::hash_of;

/// Why a repo that was never met is marked.
pub(super) const FIRST_SIGHTING: &str = "first_sighting";

/// Why a source that is new is compared.
const FIRST_START: &str = "first_start";

/// How many marks one append holds.
const MARKS_MAX: usize = 1024;

/// What a comparison needs beside the source.
#[derive(Clone, Debug)]
pub(super) struct Comparison {
    pub(super) context: Context,
    pub(super) tables: Tables,
    pub(super) queue: ResyncQueue,
    /// The repos that are taken; empty for all.
    pub(super) dids: Arc<BTreeSet<Did>>,
}

/// How a comparison ended: done, or to be tried again, perhaps not before a time.
#[derive(Clone, Copy, Debug)]
pub(super) enum Compared {
    Done,
    Again(Option<Retry>),
}

/// Why a comparison was broken off.
enum Broken {
    Host(HostError),
    Tables(TablesError),
    /// The list leads back to where it was.
    Circle,
}

impl Comparison {
    /// Compares, marks, and tells how far it came.
    pub(super) async fn run(
        &self,
        open: &Open,
        reconcile: &Reconcile,
        source: &ResyncSource,
    ) -> Result<Compared, AppendError> {
        let attempt = open.attempt + 1;
        let tell = |step: ResyncStep, failure: Option<&str>| {
            let at = Micros(self.context.clock.now_us());
            let told = open.told(attempt, step, failure, at);
            self.context.log.append(vec![told].into())
        };
        tell(ResyncStep::Fetching, None).await?;
        let outcome = if self.dids.is_empty() {
            self.compare(reconcile, source).await?
        } else if reconcile.reason == FIRST_START {
            // Listed repos of which nothing is known are marked at every start.
            Ok(0)
        } else {
            // A handful: asking for each costs less than a list of all.
            let marks = self.dids.iter().map(|did| (did.clone(), None));
            self.mark(reconcile, &reconcile.reason, marks.collect())
                .await?;
            Ok(self.dids.len())
        };
        match outcome {
            Ok(marked) => {
                info!(source = %reconcile.source, marked, "compared with the source's list");
                tell(ResyncStep::Synchronized, None).await?;
                Ok(Compared::Done)
            }
            Err(broken) => {
                let (reason, retry) = match &broken {
                    Broken::Host(error @ HostError::Busy { retry, .. }) => (error.reason(), *retry),
                    Broken::Host(error) => (error.reason(), None),
                    Broken::Tables(error) => {
                        warn!(%error, "what the bucket holds can't be read");
                        ("bucket_unavailable", None)
                    }
                    Broken::Circle => ("list_in_circles", None),
                };
                warn!(source = %reconcile.source, reason, "comparison with the source's list broken off");
                tell(ResyncStep::Failed, Some(reason)).await?;
                Ok(Compared::Again(retry))
            }
        }
    }

    /// Pages through the list; gives how many repos were marked.
    async fn compare(
        &self,
        reconcile: &Reconcile,
        source: &ResyncSource,
    ) -> Result<Result<usize, Broken>, AppendError> {
        let coverage = self.context.coverage.to_string();
        let scope = Scope {
            heads: &source.heads,
            coverage: &coverage,
        };
        let mut stored = Stored::new(self.tables.clone());
        let (mut cursor, mut marked) = (None::<String>, 0);
        loop {
            let hosts = &self.context.hosts;
            let page = match hosts.list(&reconcile.source, cursor.as_deref()).await {
                Ok(page) => page,
                Err(error) => return Ok(Err(Broken::Host(error))),
            };
            let dids: Vec<Did> = page.repos.iter().map(|repo| repo.did.clone()).collect();
            let known = match stored.revs(&dids, scope).await {
                Ok(known) => known,
                Err(error) => return Ok(Err(Broken::Tables(error))),
            };
            let (mut behind, mut new) = (Vec::new(), Vec::new());
            for (repo, known) in page.repos.into_iter().zip(known) {
                match known {
                    Some(known) if known < repo.rev => behind.push((repo.did, Some(repo.rev))),
                    None if source.marks_new => new.push((repo.did, Some(repo.rev))),
                    _ => {}
                }
            }
            marked += behind.len() + new.len();
            self.mark(reconcile, &reconcile.reason, behind).await?;
            self.mark(reconcile, FIRST_SIGHTING, new).await?;
            match page.cursor {
                None => return Ok(Ok(marked)),
                next if next == cursor => return Ok(Err(Broken::Circle)),
                next => cursor = next,
            }
        }
    }

    /// Marks repos, each at the rev that it should have.
    async fn mark(
        &self,
        reconcile: &Reconcile,
        reason: &str,
        repos: Vec<(Did, Option<Tid>)>,
    ) -> Result<(), AppendError> {
        let marks: Vec<Mark> = repos
            .into_iter()
            .map(|(did, rev)| Mark {
                source: Arc::clone(&reconcile.source),
                // One comparison marks a repo once, however often its list is read.
                frame_hash: hash_of(&[&reconcile.frame_hash, did.as_str().as_bytes()].concat()),
                did,
                rev,
                seq: None,
                reason: reason.to_owned(),
            })
            .collect();
        mark_all(&self.context, &self.queue, marks).await
    }
}

/// Makes marks durable, then hands them over.
pub(super) async fn mark_all(
    context: &Context,
    queue: &ResyncQueue,
    marks: Vec<Mark>,
) -> Result<(), AppendError> {
    for some in marks.chunks(MARKS_MAX) {
        let at = Micros(context.clock.now_us());
        let told: Vec<Change> = some
            .iter()
            .map(|mark| {
                let open = Open::new(Task::Mark(mark.clone()), at);
                open.told(0, ResyncStep::Waiting, None, at)
            })
            .collect();
        context.log.append(told.into()).await?;
        some.iter().cloned().for_each(|mark| queue.mark(mark));
    }
    Ok(())
}
