//! Replays recorded frames into the log.
//!
//! Reading, decoding, verifying and appending overlap, each at most one step ahead of the next. A batch carries the
//! cursor that covers it (`crate::batching`). A replay that was broken off goes on from there; what is appended twice
//! merges to the same.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crdt::storage::Clock;
use crdt::{AppendError, Micros};
use thiserror::Error;
use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::batching::{Batching, Counting, IntakeError};
use crate::intake::{Intake, name_of_file};
use crate::known::KnownError;
use crate::recording::{Recording, RecordingError};
use crate::standing::Standings;
use crate::stream::{Policy, Stream, StreamError};
use crate::summary::Summary;
use crate::window::{Decoded, Window, decode, overlapped};

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

impl From<IntakeError> for ReplayError {
    fn from(error: IntakeError) -> Self {
        match error {
            IntakeError::Known(error) => Self::Known(error),
            IntakeError::Append(source) => Self::Append { source },
        }
    }
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
        let cursor = self.known.cursor(source, slice).await?.unwrap_or_default();
        // A recording ends, and its repos with it: they are all kept in memory.
        let standings = Standings::new(usize::MAX);
        let stream = Stream::new(Policy::recorded(source), self, None, standings);
        let work = (slice.to_owned(), Counting::Frames);
        let mut batching = Batching::new(self, stream, work, cursor, None);
        let mut windows = self.windows(path.to_owned(), cursor.cursor);
        let mut ended = None;
        while let Some(read) = windows.recv().await {
            match read {
                Read::Skipped(frames) => batching.summary.skipped = frames,
                Read::Window(window) => {
                    let took = batching.take(window).await?;
                    if batching.is_full() {
                        batching.append().await?;
                    }
                    progress(&batching.summary);
                    if let Some(source) = took.error {
                        ended = Some(Ended::Stream(source));
                        break;
                    }
                }
                Read::Failed(source) => ended = Some(Ended::Recording(source)),
            }
        }
        batching.finish().await?;
        let summary = batching.summary;
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

    /// The decoded windows of a recording behind `cursor`.
    fn windows(&self, path: PathBuf, cursor: i64) -> mpsc::Receiver<Read<Vec<Decoded>>> {
        let read = read(path, cursor, Arc::clone(&self.clock));
        overlapped(read, async |read| match read {
            Read::Skipped(frames) => Read::Skipped(frames),
            Read::Window(window) => Read::Window(decode(window).await),
            Read::Failed(error) => Read::Failed(error),
        })
    }
}

enum Ended {
    Recording(RecordingError),
    Stream(StreamError),
}

/// What the reading thread hands over.
enum Read<W> {
    /// How many frames the cursor covers.
    Skipped(u64),
    Window(W),
    Failed(RecordingError),
}

/// Reads a recording behind `cursor`, one window ahead.
fn read(path: PathBuf, cursor: i64, clock: Arc<dyn Clock>) -> mpsc::Receiver<Read<Window>> {
    let (windows, read) = mpsc::channel(1);
    tokio::task::spawn_blocking(move || {
        let skip = u64::try_from(cursor).unwrap_or_default();
        let send = |read| windows.blocking_send(read).is_ok();
        let read_all = || -> Result<(), RecordingError> {
            let mut recording = Recording::open(&path)?;
            while recording.frames() < skip && recording.next_frame()?.is_some() {}
            let mut is_wanted = send(Read::Skipped(recording.frames()));
            while is_wanted {
                let (window, error) = next_window(&mut recording, clock.as_ref());
                let is_empty = window.is_empty();
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
fn next_window(recording: &mut Recording, clock: &dyn Clock) -> (Window, Option<RecordingError>) {
    let mut window = Window::behind(recording.frames());
    let error = loop {
        if window.is_full() {
            break None;
        }
        match recording.next_frame() {
            Ok(Some(frame)) => window.push(frame),
            Ok(None) => break None,
            Err(error) => break Some(error),
        }
    };
    window.at = Micros(clock.now_us());
    (window, error)
}

#[cfg(test)]
mod tests;
