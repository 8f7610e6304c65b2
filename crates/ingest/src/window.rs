//! A window of a source's frames, decoded and verified on all cores.
//!
//! Frames of one repo are taken in their order by one thread; the outcomes come back in the source's order. A window is
//! small enough to hold and large enough to keep every core busy.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::thread::available_parallelism;

use atproto::{Did, DidDocument, Frame, FrameError};
use bytes::Bytes;
use crdt::{Change, Micros};
use futures::future::try_join_all;
use futures::{StreamExt, TryStreamExt, stream};
use thiserror::Error;
use tokio::task::JoinHandle;

use crate::identity::{Identities, ResolveError};
use crate::known::{Known, KnownError, KnownHead};
use crate::repo::{Arrival, Fate, Outcome, Repo, hash_of, notice};

/// How many frames a window holds at most.
pub(crate) const WINDOW_FRAMES_MAX: usize = 1024;

/// From how many bytes on a window is full.
pub(crate) const WINDOW_BYTES: usize = 8 * 1024 * 1024;

/// How many look-ups of heads are under way at once.
const LOOKUPS_MAX: usize = 32;

/// What ends a source before its end.
#[derive(Debug, Error)]
pub enum StreamError {
    /// A frame whose framing or CBOR is broken.
    #[error("frame {index} (counted from 0) is broken")]
    Frame {
        /// Which frame.
        index: u64,
        /// What is wrong with it.
        source: FrameError,
    },
    /// The sender ended the stream with an error.
    #[error("the sender ended the stream at frame {index} (counted from 0): {error}")]
    Closed {
        /// Which frame.
        index: u64,
        /// The error's name.
        error: String,
    },
}

impl StreamError {
    /// The place of the frame that ended the source, from 0.
    #[must_use]
    pub fn index(&self) -> u64 {
        match self {
            Self::Frame { index, .. } | Self::Closed { index, .. } => *index,
        }
    }
}

/// Frames that follow each other in a source.
#[derive(Debug, Default)]
pub(crate) struct Window {
    /// The place of the first, from 0.
    pub(crate) first: u64,
    pub(crate) frames: Vec<Bytes>,
}

/// A repo's frames in a window, and what is needed to take them.
struct Told {
    did: Did,
    document: Document,
    head: Option<KnownHead>,
    frames: Frames,
}

/// A source's state between its windows, and what it needs to take them.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) source: Arc<str>,
    pub(crate) identities: Identities,
    pub(crate) known: Arc<dyn Known>,
    /// The head of every repo that was met, about 150 bytes each: the bucket is asked once.
    pub(crate) heads: HashMap<Did, Option<KnownHead>>,
    /// Gives each repo its thread.
    pub(crate) shard_of: RandomState,
}

type Frames = Vec<(Arrival, Frame)>;
type Document = Result<Arc<DidDocument>, ResolveError>;
type Decoded = (Arrival, Result<Frame, FrameError>);

impl Stream {
    /// Takes a window that arrived at `at`. With an error the outcomes are those of the frames up to it.
    pub(crate) async fn take(
        &mut self,
        window: Window,
        at: Micros,
    ) -> Result<(Vec<Outcome>, Option<StreamError>), KnownError> {
        let (mut outcomes, repos, error) = self.sort(decode(window, at).await);
        self.look_up(&repos).await?;
        let mut shards: Vec<Vec<Told>> = Vec::new();
        shards.resize_with(cores(), Vec::new);
        for (did, document, frames) in self.resolve(repos).await {
            let shard = self.shard_of.hash_one(&did) as usize % shards.len();
            let head = self.heads.get(&did).copied().flatten();
            shards[shard].push(Told {
                did,
                document,
                head,
                frames,
            });
        }
        shards.retain(|shard| !shard.is_empty());
        let tasks = shards.into_iter().map(|shard| {
            let source = Arc::clone(&self.source);
            tokio::task::spawn_blocking(move || verify(&source, shard))
        });
        for (taken, heads) in joined(tasks).await {
            outcomes.extend(taken);
            self.heads.extend(heads);
        }
        outcomes.sort_by_key(|outcome| outcome.arrival.index);
        Ok((outcomes, error))
    }

    /// Sorts decoded frames by their repos; gives an outcome to those that have none, and stops at a broken one.
    fn sort(
        &self,
        decoded: Vec<Decoded>,
    ) -> (Vec<Outcome>, HashMap<Did, Frames>, Option<StreamError>) {
        let mut outcomes = Vec::new();
        let mut repos = HashMap::<Did, Frames>::new();
        for (arrival, frame) in decoded {
            let index = arrival.index;
            let (fate, changes, error) = match frame {
                Ok(frame) => match did_of(&frame) {
                    Some(did) => {
                        repos.entry(did.clone()).or_default().push((arrival, frame));
                        continue;
                    }
                    None => match frame {
                        Frame::Error { error, .. } => {
                            let error = StreamError::Closed { index, error };
                            (Fate::Ignored, Vec::new(), Some(error))
                        }
                        _ => (Fate::Ignored, Vec::new(), None),
                    },
                },
                Err(source) => {
                    let notice = Change::Notice(notice(&self.source, arrival, source.reason()));
                    let error = source
                        .ends_source()
                        .then_some(StreamError::Frame { index, source });
                    (Fate::Rejected, vec![notice], error)
                }
            };
            outcomes.push(Outcome {
                arrival,
                fate,
                changes,
            });
            if error.is_some() {
                return (outcomes, repos, error);
            }
        }
        (outcomes, repos, None)
    }

    /// Asks the bucket for the heads of repos that were not met before.
    async fn look_up(&mut self, repos: &HashMap<Did, Frames>) -> Result<(), KnownError> {
        let (source, known) = (&self.source, &self.known);
        let new = repos.keys().filter(|did| !self.heads.contains_key(*did));
        let found: Vec<(Did, Option<KnownHead>)> = stream::iter(new.cloned().collect::<Vec<_>>())
            .map(|did| async move {
                let head = known.head(source, &did).await?;
                Ok((did, head))
            })
            .buffer_unordered(LOOKUPS_MAX)
            .try_collect()
            .await?;
        self.heads.extend(found);
        Ok(())
    }

    /// Finds the documents of all repos.
    async fn resolve(&self, repos: HashMap<Did, Frames>) -> Vec<(Did, Document, Frames)> {
        let identities = &self.identities;
        stream::iter(repos)
            .map(|(did, frames)| async move {
                let document = identities.resolve(&did).await;
                (did, document, frames)
            })
            .buffer_unordered(LOOKUPS_MAX)
            .collect()
            .await
    }
}

fn did_of(frame: &Frame) -> Option<&Did> {
    match frame {
        Frame::Commit(frame) => Some(&frame.repo),
        Frame::Sync(frame) => Some(&frame.did),
        Frame::Identity(frame) => Some(&frame.did),
        Frame::Account(frame) => Some(&frame.did),
        Frame::Info { .. } | Frame::Error { .. } | Frame::Unknown { .. } => None,
    }
}

/// Decodes a window's frames on all cores, in their order.
async fn decode(window: Window, at: Micros) -> Vec<Decoded> {
    let chunk = window.frames.len().div_ceil(cores()).max(1);
    let mut tasks = Vec::new();
    let mut first = window.first;
    let mut frames = window.frames.into_iter();
    loop {
        let chunk: Vec<Bytes> = frames.by_ref().take(chunk).collect();
        if chunk.is_empty() {
            break;
        }
        let start = first;
        first += chunk.len() as u64;
        tasks.push(tokio::task::spawn_blocking(move || {
            let decode = |(index, bytes): (u64, Bytes)| {
                let arrival = Arrival {
                    index,
                    bytes: bytes.len() as u64,
                    hash: hash_of(&bytes),
                    at,
                };
                (arrival, Frame::decode(&bytes))
            };
            (start..).zip(chunk).map(decode).collect::<Vec<_>>()
        }));
    }
    joined(tasks).await.into_iter().flatten().collect()
}

/// Takes the frames of some repos, one repo after the other.
fn verify(source: &Arc<str>, repos: Vec<Told>) -> (Vec<Outcome>, Vec<(Did, Option<KnownHead>)>) {
    let (mut outcomes, mut heads) = (Vec::new(), Vec::new());
    for told in repos {
        let mut repo = Repo {
            source,
            did: &told.did,
            document: &told.document,
            head: told.head,
        };
        for (arrival, frame) in told.frames {
            outcomes.push(repo.take(arrival, &frame));
        }
        let head = repo.head;
        heads.push((told.did, head));
    }
    (outcomes, heads)
}

/// The results of blocking tasks, in their order; a panic in one goes on here.
async fn joined<T>(tasks: impl IntoIterator<Item = JoinHandle<T>>) -> Vec<T> {
    match try_join_all(tasks).await {
        Ok(results) => results,
        // A blocking task that runs can't be cancelled, so it panicked.
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

fn cores() -> usize {
    available_parallelism().map_or(1, usize::from)
}
