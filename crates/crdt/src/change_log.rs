//! Appends the batches of many callers to the log, as few objects as their latency allows.
//!
//! One task owns the log's writer and has one append under way. What comes meanwhile waits in a queue bounded in
//! batches and bytes; all that waits goes into the next object, once its first batch has waited for the flush
//! interval or there are [`Settings::flush_bytes`] of it. A batch is never split and never reordered after a later one
//! of the same caller. A caller is answered when its batch is durable, and nothing is written when nobody waits.

use std::sync::Arc;
use std::time::Duration;

use storage::{Bucket, LogWriter, Position, Section, WriterId};
use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::batch::ChangeBatch;
use crate::section::encode_sections;

/// The largest batch, in [`ChangeBatch::bytes`]: with what else may wait it stays far below a log object's limit.
pub const BATCH_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How many batches may wait. Their bytes are the real bound; this one is for batches of almost nothing.
const QUEUE_BATCHES_MAX: usize = 4096;

/// The unit in which waiting bytes are counted, so that their number fits a semaphore's.
const BUDGET_UNIT: usize = 1024;

/// When to flush, and how much may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long a batch waits for others at most.
    pub flush_interval: Duration,
    /// How many bytes flush at once: a trigger, not a limit.
    pub flush_bytes: usize,
    /// How many bytes may wait, be encoded or be under way; further callers wait outside.
    pub queue_bytes_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            flush_interval: Duration::from_millis(200),
            flush_bytes: 8 * 1024 * 1024,
            queue_bytes_max: 64 * 1024 * 1024,
        }
    }
}

/// Why a batch was not acknowledged.
#[derive(Clone, Debug, Error)]
pub enum AppendError {
    /// The log was closed before the batch was taken: nothing was written.
    #[error("change log is closed")]
    Closed,
    /// The batch is larger than one may be: nothing was written.
    #[error("batch of {bytes} bytes is larger than {max}")]
    TooLarge {
        /// The batch's size.
        bytes: usize,
        /// The largest size.
        max: usize,
    },
    /// The writer gave up; its error says whether something may have been written.
    #[error("append refused")]
    Refused {
        /// The writer's error, shared by all whose batches were in one object.
        #[source]
        source: Arc<storage::AppendError>,
    },
    /// The log's task ended in the middle: the batch may have been written.
    #[error("outcome of append unknown: the change log's task ended")]
    Unknown,
    /// The log's writer took another id than the one that the batch has to go under: it went under no other.
    #[error("the log's writer took a new id")]
    WriterChanged,
}

/// A handle to the task that appends; clones share it.
#[derive(Clone, Debug)]
pub struct ChangeLog {
    queue: mpsc::Sender<Waiting>,
    budget: Arc<Semaphore>,
    budget_max: u32,
    stop: CancellationToken,
    ended: CancellationToken,
}

impl ChangeLog {
    /// Starts the task with a writer id of its own. It ends when `stop` is cancelled, when [`close`](Self::close) is
    /// called, or when all handles are dropped; in each case what was taken by then is appended first.
    #[must_use]
    pub fn spawn(bucket: &Bucket, settings: Settings, stop: &CancellationToken) -> Self {
        let (queue, batches) = mpsc::channel(QUEUE_BATCHES_MAX);
        let units = (settings.queue_bytes_max / BUDGET_UNIT).clamp(1, Semaphore::MAX_PERMITS);
        let budget_max = u32::try_from(units).unwrap_or(u32::MAX);
        let log = Self {
            queue,
            budget: Arc::new(Semaphore::new(units)),
            budget_max,
            stop: stop.child_token(),
            ended: CancellationToken::new(),
        };
        let ended = log.ended.clone().drop_guard();
        let owner = Owner {
            writer: LogWriter::new(bucket.clone()),
            settings,
            batches,
            stop: log.stop.clone(),
        };
        tokio::spawn(async move {
            owner.run().await;
            drop(ended);
        });
        log
    }

    /// Appends `batch` and returns its position once it is durable. An empty batch is written like any other.
    ///
    /// Positions tell the writer id: two appends with one writer id are seen in their order by every reader, with two
    /// they may not be. Dropping the future leaves the outcome unknown.
    ///
    /// # Errors
    /// [`AppendError::Closed`] and [`AppendError::TooLarge`] if nothing was written; with the others it may have been.
    pub async fn append(&self, batch: ChangeBatch) -> Result<Position, AppendError> {
        self.send(batch, None).await
    }

    /// Appends `batch` under the writer id of `position`, behind it, or not at all.
    ///
    /// So every reader that sees it sees what is at `position` too. It is an object of its own.
    ///
    /// # Errors
    /// As [`append`](Self::append), and [`AppendError::WriterChanged`]: what depends on `position` begins again.
    pub async fn append_after(
        &self,
        position: Position,
        batch: ChangeBatch,
    ) -> Result<Position, AppendError> {
        self.send(batch, Some(position.writer)).await
    }

    async fn send(
        &self,
        batch: ChangeBatch,
        writer: Option<WriterId>,
    ) -> Result<Position, AppendError> {
        let bytes = batch.bytes();
        if bytes > BATCH_BYTES_MAX {
            return Err(AppendError::TooLarge {
                bytes,
                max: BATCH_BYTES_MAX,
            });
        }
        let units = u32::try_from(bytes.div_ceil(BUDGET_UNIT)).unwrap_or(u32::MAX);
        let permit = Arc::clone(&self.budget)
            .acquire_many_owned(units.clamp(1, self.budget_max))
            .await
            .map_err(|_| AppendError::Closed)?;
        let (answer, answered) = oneshot::channel();
        let waiting = Waiting {
            batch,
            bytes,
            writer,
            since: Instant::now(),
            answer,
            _permit: permit,
        };
        self.queue
            .send(waiting)
            .await
            .map_err(|_| AppendError::Closed)?;
        answered.await.unwrap_or(Err(AppendError::Unknown))
    }

    /// Takes no further batches, appends those that wait, and returns when all are answered.
    pub async fn close(&self) {
        self.stop.cancel();
        self.ended.cancelled().await;
    }
}

/// A batch in the queue.
#[derive(Debug)]
struct Waiting {
    batch: ChangeBatch,
    bytes: usize,
    /// The id that it has to go under, if any.
    writer: Option<WriterId>,
    since: Instant,
    answer: oneshot::Sender<Result<Position, AppendError>>,
    /// Returned to the budget when the batch was answered.
    _permit: OwnedSemaphorePermit,
}

/// The task's state.
struct Owner {
    writer: LogWriter,
    settings: Settings,
    batches: mpsc::Receiver<Waiting>,
    stop: CancellationToken,
}

impl Owner {
    async fn run(mut self) {
        let mut taken = None;
        loop {
            let first = match taken.take() {
                Some(first) => first,
                None => match self.next(None).await {
                    Some(first) => first,
                    None => return,
                },
            };
            let deadline = first.since + self.settings.flush_interval;
            let (mut bytes, writer) = (first.bytes, first.writer);
            let mut object = vec![first];
            while writer.is_none() && bytes < self.settings.flush_bytes {
                match self.next(Some(deadline)).await {
                    Some(next) if next.writer.is_none() => {
                        bytes += next.bytes;
                        object.push(next);
                    }
                    // What has to go under one id goes alone.
                    bound => {
                        taken = bound;
                        break;
                    }
                }
            }
            self.append(object, bytes, writer).await;
        }
    }

    /// The next batch; none once `deadline` has passed and nothing waits, or when the log is closed and drained.
    async fn next(&mut self, deadline: Option<Instant>) -> Option<Waiting> {
        loop {
            let closed = self.batches.is_closed();
            tokio::select! {
                biased;
                () = self.stop.cancelled(), if !closed => self.batches.close(),
                next = self.batches.recv() => return next,
                () = async {
                    match deadline {
                        Some(deadline) => sleep_until(deadline).await,
                        None => std::future::pending().await,
                    }
                } => return None,
            }
        }
    }

    async fn append(&mut self, object: Vec<Waiting>, bytes: usize, writer: Option<WriterId>) {
        let (mut changes, mut answers) = (Vec::new(), Vec::new());
        for waiting in object {
            changes.extend(waiting.batch.changes);
            answers.push((waiting.answer, waiting._permit));
        }
        let count = changes.len();
        let outcome = match (encode(changes).await, writer) {
            (Some(sections), None) => self.writer.append(sections).await.map_err(refused),
            (Some(sections), Some(writer)) => match self.writer.append_as(writer, sections).await {
                Ok(position) => position.ok_or(AppendError::WriterChanged),
                Err(source) => Err(refused(source)),
            },
            (None, _) => Err(AppendError::Closed),
        };
        match &outcome {
            Ok(position) => debug!(%position, changes = count, bytes, "appended"),
            Err(error) => debug!(%error, changes = count, bytes, "append not acknowledged"),
        }
        for (answer, permit) in answers {
            // A caller that no longer waits has given up its answer, not its batch.
            let _ = answer.send(outcome.clone());
            drop(permit);
        }
    }
}

fn refused(source: storage::AppendError) -> AppendError {
    AppendError::Refused {
        source: Arc::new(source),
    }
}

/// Encodes off the task's thread: 8 MiB take tens of milliseconds. None if the runtime is shutting down.
async fn encode(changes: Vec<crate::Change>) -> Option<Vec<Section>> {
    match tokio::task::spawn_blocking(move || encode_sections(&changes)).await {
        Ok(sections) => Some(sections),
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => None,
        },
    }
}

#[cfg(test)]
mod tests;
