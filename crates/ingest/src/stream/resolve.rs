//! Finds the DID documents of a window's repos.
//!
//! Most are at hand. For others the window waits, and with it its source: that is back-pressure, and a directory that
//! is out for a while costs time and nothing else. But one DID that can't be told must not hold up all others, so once
//! it was waited for it is not waited for again soon: its frames are refused, and the repo is marked to be fetched.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use atproto::{Did, Frame};
use futures::{StreamExt, stream};

use super::{Document, Frames, LOOKUPS_MAX, Stream, Told};
use crate::identity::ResolveError;
use crate::standing::Standing;

/// How long is waited before what nobody could tell is asked for again: two and a half minutes in all.
const WAITS: [Duration; 8] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
    Duration::from_secs(15),
    Duration::from_secs(30),
    Duration::from_secs(45),
    Duration::from_secs(45),
];

/// How many DIDs are remembered as doubtful; then all are forgotten, and may be waited for once more.
const DOUBTFUL_MAX: usize = 10_000;

/// DIDs that were waited for in vain.
#[derive(Debug, Default)]
pub(super) struct Doubtful(HashSet<Did>);

impl Doubtful {
    fn add(&mut self, did: &Did) {
        if self.0.len() >= DOUBTFUL_MAX {
            self.0.clear();
        }
        self.0.insert(did.clone());
    }
}

impl Stream {
    /// Gives each repo what is known of it and its document.
    pub(super) async fn told(
        &mut self,
        repos: HashMap<Did, Frames>,
        mut standings: HashMap<Did, Standing>,
    ) -> Vec<Told> {
        let (mut all, mut missing) = (Vec::with_capacity(repos.len()), Vec::new());
        for (did, frames) in repos {
            let is_news = |frame: &Frame| matches!(frame, Frame::Identity(_));
            if frames.iter().any(|(_, frame)| is_news(frame)) {
                self.identities.forget(&did);
                let is_queued = self
                    .changed
                    .as_ref()
                    .is_none_or(|changed| changed.changed(did.clone()));
                if !is_queued {
                    tracing::debug!(%did, "too many identities change at once: this one is looked up when it is used");
                }
            }
            let document = self.identities.at_hand(&did).await;
            let standing = standings.remove(&did).unwrap_or_default();
            let is_checked = |frame: &Frame| match frame {
                Frame::Commit(frame) => standing.is_met() || self.policy.filter.touches(frame),
                Frame::Sync(_) => true,
                _ => false,
            };
            if document.is_none() && frames.iter().any(|(_, frame)| is_checked(frame)) {
                missing.push(all.len());
            }
            all.push(Told {
                standing,
                document: document.ok_or(ResolveError::NotFound),
                did,
                frames,
                is_fresh: false,
            });
        }
        self.resolve(&mut all, missing).await;
        all
    }

    /// Asks for the documents of the repos at `missing`.
    async fn resolve(&mut self, told: &mut [Told], mut missing: Vec<usize>) {
        let mut waits = WAITS.iter();
        while !missing.is_empty() {
            let identities = &self.identities;
            let dids: Vec<(usize, Did)> = missing
                .iter()
                .map(|place| (*place, told[*place].did.clone()))
                .collect();
            let asked = dids.len();
            let found: Vec<(usize, Document)> = stream::iter(dids)
                .map(|(place, did)| async move { (place, identities.resolve(&did).await) })
                .buffer_unordered(LOOKUPS_MAX)
                .collect()
                .await;
            missing.clear();
            for (place, document) in found {
                if matches!(&document, Err(error) if error.is_transient()) {
                    missing.push(place);
                }
                told[place].document = document;
            }
            // One answer shows that it is not the directory that is out. A host of its own tells only of itself.
            let is_out = missing.len() == asked
                && missing.iter().any(|place| {
                    let did = &told[*place].did;
                    did.as_str().starts_with("did:plc:") && !self.doubtful.0.contains(did)
                });
            let wait = waits.next().filter(|_| is_out);
            let Some(wait) = wait else {
                for place in missing {
                    self.doubtful.add(&told[place].did);
                }
                return;
            };
            tracing::warn!(source = %self.policy.source, dids = missing.len(), "no directory answers: the source waits");
            self.clock.sleep(*wait).await;
        }
    }

    /// Asks anew for the documents of repos whose signatures failed.
    pub(super) async fn refreshed(&self, stuck: Vec<Told>) -> Vec<Told> {
        let identities = &self.identities;
        stream::iter(stuck)
            .map(|mut told| async move {
                told.document = identities.refresh(&told.did).await;
                told
            })
            .buffer_unordered(LOOKUPS_MAX)
            .collect()
            .await
    }
}
