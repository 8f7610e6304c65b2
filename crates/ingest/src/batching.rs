//! From a source's windows to acknowledged appends: the one way that replayed and followed frames go.
//!
//! A batch holds whole windows and the cursor that covers them, and is sent only once the one before is durable, so a
//! cursor in the log never covers frames that are not. While one batch is under way the next is gathered, and no more
//! than that: who gives windows faster than the log takes them waits. What asks for a resync is handed on when it is
//! durable.

use std::sync::Arc;

use crdt::storage::Position;
use crdt::{AppendError, Change, ChangeBatch, CursorChange};
use thiserror::Error;
use tokio::task::JoinHandle;
use tracing::debug;

use crate::intake::Intake;
use crate::known::{KnownCursor, KnownError};
use crate::metrics;
use crate::repo::{Fate, Outcome};
use crate::resync::{ResyncQueue, Task};
use crate::stream::{Stream, StreamError};
use crate::summary::Summary;
use crate::window::{Decoded, broken_off};

/// From how many bytes on a batch is full: what flushes the log at once.
const BATCH_BYTES: usize = 8 * 1024 * 1024;

/// Why a window did not go in.
#[derive(Debug, Error)]
pub(crate) enum IntakeError {
    /// The bucket does not say what it holds of the source: the window was not taken.
    #[error(transparent)]
    Known(#[from] KnownError),
    /// The log does not take what was sent before.
    #[error(transparent)]
    Append(#[from] AppendError),
}

/// What a source's cursor counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counting {
    /// Frames, from 1: a recording's.
    Frames,
    /// The source's own numbers.
    Seqs,
}

/// A source on its way into the log.
pub(crate) struct Batching {
    intake: Intake,
    pub(crate) stream: Stream,
    slice: String,
    counting: Counting,
    /// How far frames were taken.
    cursor: KnownCursor,
    /// How far they are durable.
    durable: KnownCursor,
    batch: Batch,
    sent: Option<Sent>,
    /// The number of the batch that is gathered.
    number: u64,
    /// The batch that was gathered when the standings' young generation was begun.
    turned: u64,
    resyncs: Option<ResyncQueue>,
    pub(crate) summary: Summary,
}

/// What is gathered.
#[derive(Default)]
struct Batch {
    changes: Vec<Change>,
    bytes: usize,
    tasks: Vec<Task>,
    /// Whether the cursor stands further than the last batch says.
    is_ahead: bool,
}

/// A batch under way.
struct Sent {
    append: JoinHandle<Result<Position, AppendError>>,
    cursor: KnownCursor,
    tasks: Vec<Task>,
}

/// What became of a window.
pub(crate) struct Took {
    /// What ended the source in it.
    pub(crate) error: Option<StreamError>,
    /// The commits that went in, shortened.
    pub(crate) commits: Vec<u64>,
    /// Where its changes begin in what is gathered.
    pub(crate) first: usize,
}

impl Batching {
    pub(crate) fn new(
        intake: &Intake,
        stream: Stream,
        (slice, counting): (String, Counting),
        cursor: KnownCursor,
        resyncs: Option<ResyncQueue>,
    ) -> Self {
        Self {
            summary: Summary::of(&stream.policy.source),
            intake: intake.clone(),
            stream,
            slice,
            counting,
            cursor,
            durable: cursor,
            batch: Batch::default(),
            sent: None,
            number: 0,
            turned: 0,
            resyncs,
        }
    }

    /// How far frames were taken.
    pub(crate) fn cursor(&self) -> KnownCursor {
        self.cursor
    }

    /// How far they are durable.
    pub(crate) fn durable(&self) -> KnownCursor {
        self.durable
    }

    /// What is gathered.
    pub(crate) fn gathered(&self) -> &[Change] {
        &self.batch.changes
    }

    /// Begins behind a number that nobody had to reach.
    pub(crate) fn begin_behind(&mut self, cursor: i64) {
        self.cursor.cursor = cursor;
        self.durable.cursor = cursor;
    }

    /// Takes a window. With an error it was not taken; what was taken before is as it was.
    pub(crate) async fn take(&mut self, window: Vec<Decoded>) -> Result<Took, IntakeError> {
        if self.stream.standings.is_full() {
            self.turn().await?;
        }
        let before = self.summary.clone();
        let (outcomes, error) = self.stream.take(window).await?;
        let (first, mut commits) = (self.batch.changes.len(), Vec::new());
        for outcome in outcomes {
            // What ended the source is not behind us: who goes on from the cursor shall meet it again.
            let is_end = error
                .as_ref()
                .is_some_and(|error| error.index() == outcome.arrival.index);
            self.count(&outcome);
            commits.extend(outcome.commit);
            if !is_end {
                self.pass(&outcome);
            }
            self.push(outcome.changes);
        }
        metrics::count(&before, &self.summary);
        Ok(Took {
            error,
            commits,
            first,
        })
    }

    /// Adds changes to the batch.
    pub(crate) fn push(&mut self, changes: Vec<Change>) {
        let changes = ChangeBatch::from(changes);
        self.batch.bytes += changes.bytes();
        self.batch.changes.extend(changes.changes);
    }

    /// Moves the cursor behind a frame.
    fn pass(&mut self, outcome: &Outcome) {
        let place = match self.counting {
            Counting::Frames => i64::try_from(outcome.arrival.index + 1).ok(),
            Counting::Seqs => outcome.arrival.seq,
        };
        if let Some(place) = place.filter(|place| *place > self.cursor.cursor) {
            self.cursor.cursor = place;
            self.batch.is_ahead = true;
        }
    }

    /// Drops the standings' old generation, once the bucket can be asked for what was in it.
    async fn turn(&mut self) -> Result<(), IntakeError> {
        // What is in the old generation was set before the last turn, so at the latest in the batch gathered then.
        if self.number <= self.turned {
            self.append().await?;
        }
        if self.sent.is_some() && self.number == self.turned + 1 {
            self.settle().await?;
        }
        self.intake.known.renew().await;
        self.stream.standings.turn();
        self.turned = self.number;
        Ok(())
    }

    fn count(&mut self, outcome: &Outcome) {
        let summary = &mut self.summary;
        summary.frames += 1;
        summary.bytes += outcome.arrival.bytes;
        match outcome.fate {
            Fate::Commit => summary.commits += 1,
            Fate::Sync => summary.syncs += 1,
            Fate::Identity => summary.identities += 1,
            Fate::Account => summary.accounts += 1,
            Fate::Replay => summary.replays += 1,
            Fate::Skipped => summary.skipped += 1,
            Fate::Filtered => summary.filtered += 1,
            Fate::Ignored => summary.ignored += 1,
            // Counted by the reason in its notice.
            Fate::Rejected => {}
        }
        for change in &outcome.changes {
            summary.count(change);
            if let Change::Notice(notice) = change {
                let did = notice.did.as_ref().map(atproto::Did::as_str);
                debug!(kind = notice.kind.as_str(), reason = %notice.reason, did, "noticed");
            }
        }
    }

    /// Whether there is something to send.
    pub(crate) fn has_news(&self) -> bool {
        !self.batch.changes.is_empty()
    }

    /// Whether there is something to send, be it the cursor alone.
    pub(crate) fn is_behind(&self) -> bool {
        self.batch.is_ahead || self.has_news()
    }

    /// Whether the batch must be sent before more is taken.
    pub(crate) fn is_full(&self) -> bool {
        self.batch.bytes >= BATCH_BYTES
    }

    /// Whether a batch is under way.
    pub(crate) fn is_sending(&self) -> bool {
        self.sent.is_some()
    }

    /// Sends what was gathered, with its cursor, once what was sent before is durable.
    pub(crate) async fn append(&mut self) -> Result<(), AppendError> {
        self.settle().await?;
        let mut batch = std::mem::take(&mut self.batch);
        let notices = batch.changes.iter().filter_map(|change| match change {
            Change::Notice(notice) => Task::of(notice),
            _ => None,
        });
        batch.tasks = match self.resyncs {
            Some(_) => notices.collect(),
            None => Vec::new(),
        };
        // Before a source's first frame there is nothing to go on from.
        if self.cursor.cursor > 0 {
            batch.changes.push(Change::Cursor(CursorChange {
                source: Arc::clone(&self.stream.policy.source),
                slice: self.slice.clone(),
                generation: self.cursor.generation,
                cursor: self.cursor.cursor,
                indexed_at: self.intake.now(),
            }));
        }
        let log = self.intake.log.clone();
        let changes = batch.changes.into();
        self.number += 1;
        self.sent = Some(Sent {
            append: tokio::spawn(async move { log.append(changes).await }),
            cursor: self.cursor,
            tasks: batch.tasks,
        });
        Ok(())
    }

    /// Waits until what was sent is durable. Dropping the future loses nothing.
    pub(crate) async fn settle(&mut self) -> Result<(), AppendError> {
        let Some(sent) = &mut self.sent else {
            return Ok(());
        };
        let ended = (&mut sent.append).await;
        let sent = self.sent.take();
        let position = match ended {
            Ok(position) => position?,
            Err(error) => broken_off(error).await,
        };
        if let Some(sent) = sent {
            self.durable = sent.cursor;
            if let Some(resyncs) = &self.resyncs {
                sent.tasks.into_iter().for_each(|task| resyncs.push(task));
            }
        }
        if self.counting == Counting::Frames {
            self.summary.appended(position);
        }
        Ok(())
    }

    /// Sends what is left and waits until all is durable.
    pub(crate) async fn finish(&mut self) -> Result<(), AppendError> {
        if self.is_behind() {
            self.append().await?;
        }
        self.settle().await
    }

    /// Forgets what is not durable, and all that follows from it: the source has to be read again from there.
    pub(crate) async fn forget(&mut self) {
        self.batch = Batch::default();
        self.sent = None;
        self.cursor = self.durable;
        self.stream.standings.clear();
        self.intake.known.renew().await;
    }
}
