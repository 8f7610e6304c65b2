//! Replays recorded frames into the log.
//!
//! Reading, verifying and appending overlap, each at most one step ahead of the next: a window is read while another is
//! verified while a batch is appended. A batch carries the cursor that covers it, and is sent only once the one before
//! is durable, so a cursor in the log never covers frames that are not. A replay that was broken off goes on from
//! there; what is appended twice merges to the same.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crdt::storage::Position;
use crdt::{AppendError, Change, ChangeBatch, CursorChange};
use thiserror::Error;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::{debug, info, warn};

use crate::intake::{Intake, name_of_file};
use crate::known::{KnownCursor, KnownError};
use crate::metrics;
use crate::recording::{Recording, RecordingError};
use crate::repo::{Fate, Outcome};
use crate::summary::Summary;
use crate::window::{Stream, StreamError, WINDOW_BYTES, WINDOW_FRAMES_MAX, Window};

/// From how many bytes on a batch is appended: what flushes the log at once.
const BATCH_BYTES: usize = 8 * 1024 * 1024;

/// Why a replay ended before the recording did.
#[derive(Debug, Error)]
pub enum ReplayError {
    /// The file can't be opened or read, or is no recording. What came before is durable.
    #[error("{}: {} frames went in", path.display(), summary.frames)]
    Recording {
        /// The file.
        path: PathBuf,
        /// What went in before.
        summary: Box<Summary>,
        /// What is wrong with it.
        source: RecordingError,
    },
    /// The recorded stream itself ends with an error. What came before is durable.
    #[error("{}: {} frames went in", path.display(), summary.frames)]
    Stream {
        /// The file.
        path: PathBuf,
        /// What went in before.
        summary: Box<Summary>,
        /// What is wrong with it.
        source: StreamError,
    },
    /// The file's name could not be made, since it can't be read. Nothing went in.
    #[error("{} can't be read", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The bucket does not say what it holds of the source. Replaying again goes on from the last cursor.
    #[error(transparent)]
    Known(#[from] KnownError),
    /// The log does not take any more. Replaying again goes on from the last cursor.
    #[error("replay is broken off")]
    Append {
        /// What the log says.
        #[from]
        source: AppendError,
    },
}

impl Intake {
    /// Replays the recording at `path`, from where the source's cursor stands, and returns when all is durable.
    ///
    /// The source is `source`, with one cursor per file, or else named by the file's BLAKE3: the same file twice is one
    /// source, and the second time nothing is appended. `progress` is called after each window.
    ///
    /// # Errors
    /// [`ReplayError`]; what was taken before is durable with its cursor.
    pub async fn replay(
        &self,
        path: &Path,
        source: Option<&str>,
        progress: &mut (dyn FnMut(&Summary) + Send),
    ) -> Result<Summary, ReplayError> {
        let name = name_of_file(path)
            .await
            .map_err(|error| ReplayError::Open {
                path: path.to_owned(),
                source: error,
            })?;
        let (source, slice) = match source {
            Some(source) => (source, name.as_str()),
            None => (name.as_str(), ""),
        };
        let mut replay = Replay::new(self, source, slice).await?;
        let mut windows = read(path.to_owned(), replay.cursor.cursor);
        let mut ended = None;
        while let Some(read) = windows.recv().await {
            match read {
                Read::Skipped(frames) => replay.summary.skipped = frames,
                Read::Window(window) => {
                    let error = replay.take(window).await?;
                    progress(&replay.summary);
                    if let Some(source) = error {
                        windows.close();
                        ended = Some(Ended::Stream(source));
                        break;
                    }
                }
                Read::Failed(source) => ended = Some(Ended::Recording(source)),
            }
        }
        let summary = replay.finish().await?;
        info!(source = %summary.source, frames = summary.frames, skipped = summary.skipped, "replayed");
        if summary.rejections() > 0 {
            warn!(source = %summary.source, rejected = ?summary.rejected, "some of it was refused");
        }
        let (path, boxed) = (path.to_owned(), Box::new(summary.clone()));
        match ended {
            None => Ok(summary),
            Some(Ended::Recording(source)) => Err(ReplayError::Recording {
                path,
                summary: boxed,
                source,
            }),
            Some(Ended::Stream(source)) => Err(ReplayError::Stream {
                path,
                summary: boxed,
                source,
            }),
        }
    }
}

enum Ended {
    Recording(RecordingError),
    Stream(StreamError),
}

/// A replay on its way.
struct Replay<'a> {
    intake: &'a Intake,
    stream: Stream,
    slice: String,
    cursor: KnownCursor,
    /// Whether the cursor stands further than the last batch says.
    is_ahead: bool,
    batch: ChangeBatch,
    batch_bytes: usize,
    append: Option<JoinHandle<Result<Position, AppendError>>>,
    summary: Summary,
}

impl<'a> Replay<'a> {
    async fn new(intake: &'a Intake, source: &str, slice: &str) -> Result<Self, KnownError> {
        let cursor = intake.known.cursor(source, slice).await?;
        Ok(Self {
            intake,
            stream: Stream {
                source: source.into(),
                identities: intake.identities.clone(),
                known: Arc::clone(&intake.known),
                heads: HashMap::new(),
                shard_of: std::hash::RandomState::new(),
            },
            slice: slice.to_owned(),
            cursor: cursor.unwrap_or_default(),
            is_ahead: false,
            batch: ChangeBatch::default(),
            batch_bytes: 0,
            append: None,
            summary: Summary::of(source),
        })
    }

    async fn take(&mut self, window: Window) -> Result<Option<StreamError>, ReplayError> {
        let before = self.summary.clone();
        let (outcomes, error) = self.stream.take(window, self.intake.now()).await?;
        for outcome in outcomes {
            self.count(&outcome);
            let bytes = ChangeBatch::from(outcome.changes);
            self.batch_bytes += bytes.bytes();
            self.batch.changes.extend(bytes.changes);
            // What ended the source is not behind us: who replays again shall meet it again.
            let index = outcome.arrival.index;
            if error.as_ref().is_none_or(|error| error.index() != index) {
                self.cursor.cursor = i64::try_from(index + 1).unwrap_or(i64::MAX);
                self.is_ahead = true;
            }
            if self.batch_bytes >= BATCH_BYTES {
                self.append().await?;
            }
        }
        metrics::count(&before, &self.summary);
        Ok(error)
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

    /// Sends what was gathered, with its cursor, once what was sent before is durable.
    async fn append(&mut self) -> Result<(), ReplayError> {
        self.settle().await?;
        let mut batch = std::mem::take(&mut self.batch);
        self.batch_bytes = 0;
        batch.changes.push(Change::Cursor(CursorChange {
            source: Arc::clone(&self.stream.source),
            slice: self.slice.clone(),
            generation: self.cursor.generation,
            cursor: self.cursor.cursor,
            indexed_at: self.intake.now(),
        }));
        self.is_ahead = false;
        let log = self.intake.log.clone();
        self.append = Some(tokio::spawn(async move { log.append(batch).await }));
        Ok(())
    }

    async fn settle(&mut self) -> Result<(), ReplayError> {
        if let Some(append) = self.append.take() {
            let position = match append.await {
                Ok(position) => position?,
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            };
            self.summary.appended(position);
        }
        Ok(())
    }

    async fn finish(mut self) -> Result<Summary, ReplayError> {
        if self.is_ahead || !self.batch.changes.is_empty() {
            self.append().await?;
        }
        self.settle().await?;
        Ok(self.summary)
    }
}

/// What the reading thread hands over.
enum Read {
    /// How many frames the cursor covers.
    Skipped(u64),
    Window(Window),
    Failed(RecordingError),
}

/// Reads a recording behind `cursor`, one window ahead.
fn read(path: PathBuf, cursor: i64) -> mpsc::Receiver<Read> {
    let (windows, read) = mpsc::channel(1);
    tokio::task::spawn_blocking(move || {
        let skip = u64::try_from(cursor).unwrap_or_default();
        let send = |read| windows.blocking_send(read).is_ok();
        let read_all = || -> Result<(), RecordingError> {
            let mut recording = Recording::open(&path)?;
            while recording.frames() < skip && recording.next_frame()?.is_some() {}
            let mut is_wanted = send(Read::Skipped(recording.frames()));
            while is_wanted {
                let (window, error) = next_window(&mut recording);
                let is_empty = window.frames.is_empty();
                is_wanted = !is_empty && send(Read::Window(window));
                if let Some(error) = error {
                    return Err(error);
                }
            }
            Ok(())
        };
        if let Err(error) = read_all() {
            send(Read::Failed(error));
        }
    });
    read
}

/// The next window, empty at the end; with an error it holds the frames before it.
fn next_window(recording: &mut Recording) -> (Window, Option<RecordingError>) {
    let mut window = Window {
        first: recording.frames(),
        frames: Vec::new(),
    };
    let mut bytes = 0;
    while window.frames.len() < WINDOW_FRAMES_MAX && bytes < WINDOW_BYTES {
        match recording.next_frame() {
            Ok(Some(frame)) => {
                bytes += frame.len();
                window.frames.push(frame);
            }
            Ok(None) => break,
            Err(error) => return (window, Some(error)),
        }
    }
    (window, None)
}

#[cfg(test)]
mod tests;
