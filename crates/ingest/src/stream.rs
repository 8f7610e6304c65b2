//! A source's frames, window by window: checked for their order, sorted by repo, verified on all cores.
//!
//! Frames of one repo are taken in their order by one thread; the outcomes come back in the source's order. Before a
//! thread begins it is given all that it needs: what is known of the repo, and its DID document. Where a signature
//! fails the document is asked for anew, once, and the repo's remaining frames are taken with that.

mod resolve;

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use atproto::{Did, DidDocument, Frame, FrameError};
use crdt::storage::Clock;
use crdt::{Change, NoticeChange, NoticeKind};
use futures::{StreamExt, TryStreamExt, stream};
use thiserror::Error;

use crate::filter::Filter;
use crate::identity::{Identities, IdentityQueue, ResolveError};
use crate::intake::Intake;
use crate::known::{Known, KnownError};
use crate::repo::{Arrival, Fate, Outcome, Repo, Taken, hash_of, notice};
use crate::standing::{Standing, Standings};
use crate::window::{Decoded, cores, joined};

use resolve::Doubtful;

/// How many look-ups of one kind are under way at once.
const LOOKUPS_MAX: usize = 32;

/// Why a source's work has to be compared with what it lists: what it still had did not reach back to our cursor.
pub(crate) const OUTDATED_CURSOR: &str = "outdated_cursor";

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
    /// A frame's number is not above the one before.
    #[error("frame {index} (counted from 0) has seq {seq} behind {last}")]
    Seq {
        /// Which frame.
        index: u64,
        /// Its number.
        seq: i64,
        /// The number before.
        last: i64,
    },
}

impl StreamError {
    /// The place of the frame that ended the source, from 0.
    #[must_use]
    pub fn index(&self) -> u64 {
        match self {
            Self::Frame { index, .. } | Self::Closed { index, .. } | Self::Seq { index, .. } => {
                *index
            }
        }
    }

    /// A stable word for counting.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Frame { source, .. } => source.reason(),
            Self::Closed { error, .. } => match error.as_str() {
                "ConsumerTooSlow" => "consumer_too_slow",
                "FutureCursor" => "future_cursor",
                _ => "ended_by_source",
            },
            Self::Seq { seq, last, .. } if seq == last => "seq_repeated",
            Self::Seq { .. } => "seq_backwards",
        }
    }
}

/// How the frames of a source are taken.
#[derive(Debug)]
pub(crate) struct Policy {
    /// The source's name.
    pub(crate) source: Arc<str>,
    /// The name under which heads are kept: another one where only a part of the source is taken.
    pub(crate) heads: Arc<str>,
    /// What is taken.
    pub(crate) filter: Filter,
    /// Whether a repo that was never met has to be fetched.
    pub(crate) marks_new: bool,
    /// Whether frames come from the source itself: what it says of our cursor is about us then, and its numbers must
    /// rise.
    pub(crate) is_live: bool,
}

impl Policy {
    /// All of a recording.
    pub(crate) fn recorded(source: &str) -> Self {
        let source: Arc<str> = source.into();
        Self {
            heads: Arc::clone(&source),
            source,
            filter: Filter::default(),
            marks_new: false,
            is_live: false,
        }
    }
}

/// A source's state between its windows, and what it needs to take them.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) policy: Arc<Policy>,
    identities: Identities,
    changed: Option<IdentityQueue>,
    known: Arc<dyn Known>,
    clock: Arc<dyn Clock>,
    pub(crate) standings: Standings,
    doubtful: Doubtful,
    order: Order,
    /// Whether broken frames are refused like others, instead of ending the source.
    pub(crate) forgives: bool,
    /// Gives each repo its thread.
    shard_of: RandomState,
}

/// The numbers of a live source since it was connected to.
#[derive(Clone, Copy, Debug, Default)]
struct Order {
    resumed_at: Option<i64>,
    last: Option<i64>,
}

type Frames = Vec<(Arrival, Frame)>;

/// A repo's document, or why there is none.
pub(crate) type Document = Result<Arc<DidDocument>, ResolveError>;

/// A repo's frames in a window, and what is needed to take them.
struct Told {
    did: Did,
    document: Document,
    standing: Standing,
    frames: Frames,
    /// Whether the document is as new as it gets.
    is_fresh: bool,
}

/// What became of a repo's frames.
#[derive(Default)]
struct Verified {
    outcomes: Vec<Outcome>,
    standings: Vec<(Did, Standing)>,
    /// Those whose document may be old.
    stuck: Vec<Told>,
}

impl Stream {
    pub(crate) fn new(
        policy: Policy,
        intake: &Intake,
        changed: Option<IdentityQueue>,
        standings: Standings,
    ) -> Self {
        Self {
            policy: Arc::new(policy),
            identities: intake.identities.clone(),
            changed,
            known: Arc::clone(&intake.known),
            clock: Arc::clone(&intake.clock),
            standings,
            doubtful: Doubtful::default(),
            order: Order::default(),
            forgives: false,
            shard_of: RandomState::new(),
        }
    }

    /// Begins a connection behind `cursor`.
    pub(crate) fn resume(&mut self, cursor: Option<i64>) {
        self.order = Order {
            resumed_at: cursor,
            last: None,
        };
    }

    /// Takes a window. With an error the outcomes are those of the frames up to it.
    pub(crate) async fn take(
        &mut self,
        window: Vec<Decoded>,
    ) -> Result<(Vec<Outcome>, Option<StreamError>), KnownError> {
        let (mut outcomes, repos, error) = self.sort(window);
        let standings = self.look_up(&repos).await?;
        let told = self.told(repos, standings).await;
        let mut verified = self.verify(told).await;
        if !verified.stuck.is_empty() {
            let told = self.refreshed(std::mem::take(&mut verified.stuck)).await;
            verified.extend(self.verify(told).await);
        }
        for (did, standing) in verified.standings {
            self.standings.set(did, standing);
        }
        outcomes.extend(verified.outcomes);
        outcomes.sort_unstable_by_key(|outcome| outcome.arrival.index);
        Ok((outcomes, error))
    }

    /// Sorts decoded frames by their repos; gives an outcome to those that have none, and stops at a broken one.
    fn sort(
        &mut self,
        window: Vec<Decoded>,
    ) -> (Vec<Outcome>, HashMap<Did, Frames>, Option<StreamError>) {
        let mut outcomes = Vec::new();
        let mut repos = HashMap::<Did, Frames>::new();
        let done = |arrival, fate, changes| Outcome {
            arrival,
            fate,
            changes,
            commit: None,
        };
        for (arrival, frame) in window {
            let index = arrival.index;
            match self.place(arrival) {
                Place::Next => {}
                Place::Known => {
                    outcomes.push(done(arrival, Fate::Skipped, Vec::new()));
                    continue;
                }
                // Not taken: it is met again behind the cursor, where it belongs.
                Place::Behind(error) => return (outcomes, repos, Some(error)),
            }
            match frame {
                Ok(frame) => match did_of(&frame) {
                    Some(did) if !self.policy.filter.lists(did) => {
                        outcomes.push(done(arrival, Fate::Filtered, Vec::new()));
                    }
                    Some(did) => match repos.get_mut(did) {
                        Some(frames) => frames.push((arrival, frame)),
                        None => {
                            repos.insert(did.clone(), vec![(arrival, frame)]);
                        }
                    },
                    None => {
                        let (changes, error) = self.remark(arrival, frame);
                        outcomes.push(done(arrival, Fate::Ignored, changes));
                        if error.is_some() {
                            return (outcomes, repos, error);
                        }
                    }
                },
                Err(source) => {
                    let notice = notice(&self.policy.source, arrival, source.reason());
                    outcomes.push(done(arrival, Fate::Rejected, vec![Change::Notice(notice)]));
                    if source.ends_source() && !self.forgives {
                        return (outcomes, repos, Some(StreamError::Frame { index, source }));
                    }
                }
            }
        }
        (outcomes, repos, None)
    }

    /// Where a frame's number stands among those of a live source.
    fn place(&mut self, arrival: Arrival) -> Place {
        let Some(seq) = arrival.seq.filter(|_| self.policy.is_live) else {
            return Place::Next;
        };
        // Sources disagree on whether a cursor is the last message known or the first one wanted.
        if self.order.last.is_none() && self.order.resumed_at == Some(seq) {
            return Place::Known;
        }
        match self.order.last.or(self.order.resumed_at) {
            Some(last) if seq <= last => Place::Behind(StreamError::Seq {
                index: arrival.index,
                seq,
                last,
            }),
            _ => {
                self.order.last = Some(seq);
                Place::Next
            }
        }
    }

    /// What a frame about no repo says.
    fn remark(&self, arrival: Arrival, frame: Frame) -> (Vec<Change>, Option<StreamError>) {
        match frame {
            Frame::Error { error, message } => {
                tracing::warn!(source = %self.policy.source, error, message, "the source ends its stream");
                let index = arrival.index;
                (Vec::new(), Some(StreamError::Closed { index, error }))
            }
            Frame::Info { name, message } => {
                tracing::info!(source = %self.policy.source, name, message, "the source remarks");
                let is_outdated = self.policy.is_live && name == "OutdatedCursor";
                let changes = is_outdated.then(|| self.outdated(arrival));
                (changes.unwrap_or_default(), None)
            }
            _ => (Vec::new(), None),
        }
    }

    /// What the source had between our cursor and its window is lost here: a gap of the source, and work.
    fn outdated(&self, arrival: Arrival) -> Vec<Change> {
        let cursor = self.order.resumed_at.unwrap_or_default().to_be_bytes();
        // The remark is the same each time; each outage is a notice of its own.
        let arrival = Arrival {
            hash: hash_of(&[arrival.hash.as_slice(), &cursor].concat()),
            ..arrival
        };
        gap_of_source(&self.policy.source, arrival, OUTDATED_CURSOR)
    }

    /// Finds what is known of repos, in memory or in the bucket.
    async fn look_up(
        &self,
        repos: &HashMap<Did, Frames>,
    ) -> Result<HashMap<Did, Standing>, KnownError> {
        let (policy, known) = (&self.policy, &self.known);
        let (mut headless, mut unheard) = (Vec::new(), Vec::new());
        let mut standings = HashMap::with_capacity(repos.len());
        for (did, frames) in repos {
            let standing = self.standings.get(did);
            let is_told = |frame: &Frame| matches!(frame, Frame::Commit(_) | Frame::Sync(_));
            if standing.head.is_none() && frames.iter().any(|(_, frame)| is_told(frame)) {
                headless.push(did.clone());
            }
            let is_heard = |frame: &Frame| matches!(frame, Frame::Account(_));
            if standing.is_active.is_none() && frames.iter().any(|(_, frame)| is_heard(frame)) {
                unheard.push(did.clone());
            }
            standings.insert(did.clone(), standing);
        }
        if !headless.is_empty() {
            let heads = known.heads(&policy.heads, &headless).await?;
            for (did, head) in headless.iter().zip(heads) {
                if let Some(standing) = standings.get_mut(did) {
                    standing.head = Some(head);
                }
            }
        }
        let heard: Vec<(Did, Option<bool>)> = stream::iter(unheard)
            .map(|did| async move {
                let is_active = known.is_active(&policy.source, &did).await?;
                Ok((did, is_active))
            })
            .buffer_unordered(LOOKUPS_MAX)
            .try_collect()
            .await?;
        for (did, is_active) in heard {
            if let Some(standing) = standings.get_mut(&did) {
                standing.is_active = Some(is_active);
            }
        }
        Ok(standings)
    }

    /// Verifies repos on all cores.
    async fn verify(&self, told: Vec<Told>) -> Verified {
        let mut shards: Vec<Vec<Told>> = Vec::new();
        shards.resize_with(cores(), Vec::new);
        for told in told {
            let shard = self.shard_of.hash_one(&told.did) as usize % shards.len();
            shards[shard].push(told);
        }
        shards.retain(|shard| !shard.is_empty());
        let tasks = shards.into_iter().map(|shard| {
            let policy = Arc::clone(&self.policy);
            tokio::task::spawn_blocking(move || verify(&policy, shard))
        });
        let mut all = Verified::default();
        for verified in joined(tasks).await {
            all.extend(verified);
        }
        all
    }
}

impl Verified {
    fn extend(&mut self, other: Self) {
        self.outcomes.extend(other.outcomes);
        self.standings.extend(other.standings);
        self.stuck.extend(other.stuck);
    }
}

/// Where a frame's number stands.
enum Place {
    Next,
    /// It is the one that the source was resumed at.
    Known,
    Behind(StreamError),
}

/// A gap of a whole source, and what it asks for.
pub(crate) fn gap_of_source(
    source: &Arc<str>,
    arrival: Arrival,
    reason: &'static str,
) -> Vec<Change> {
    let notice = |kind| {
        Change::Notice(NoticeChange {
            kind,
            ..notice(source, arrival, reason)
        })
    };
    vec![notice(NoticeKind::Gap), notice(NoticeKind::Resync)]
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

/// Takes the frames of some repos, one repo after the other.
fn verify(policy: &Policy, repos: Vec<Told>) -> Verified {
    let mut verified = Verified::default();
    for told in repos {
        let first = verified.outcomes.len();
        let mut repo = Repo {
            policy,
            did: &told.did,
            document: &told.document,
            standing: told.standing,
            is_fresh: told.is_fresh,
        };
        let mut frames = told.frames.into_iter();
        let mut rest = None;
        for (arrival, frame) in frames.by_ref() {
            match repo.take(arrival, &frame) {
                Taken::Done(outcome) => verified.outcomes.push(outcome),
                Taken::OldKey => {
                    rest = Some((arrival, frame));
                    break;
                }
            }
        }
        let standing = repo.standing;
        keep_last_head(policy, &mut verified.outcomes[first..]);
        match rest {
            None => verified.standings.push((told.did, standing)),
            Some(next) => verified.stuck.push(Told {
                standing,
                frames: std::iter::once(next).chain(frames).collect(),
                did: told.did,
                document: told.document,
                is_fresh: true,
            }),
        }
    }
    verified
}

/// Leaves a repo one head in a window, the last: all of a window is in one batch, so nobody sees the others.
fn keep_last_head(policy: &Policy, outcomes: &mut [Outcome]) {
    let mut is_last = true;
    for outcome in outcomes.iter_mut().rev() {
        outcome.changes.retain_mut(|change| match change {
            Change::Head(head) => {
                head.delivery.source = Arc::clone(&policy.heads);
                std::mem::replace(&mut is_last, false)
            }
            _ => true,
        });
    }
}
