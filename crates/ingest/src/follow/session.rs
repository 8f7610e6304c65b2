//! One source from its first connection to its last.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use crdt::{AppendError, Micros};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::reader::{Read, windows};
use super::{FollowError, Follower};
use crate::batching::{Batching, Counting, IntakeError};
use crate::known::{KnownCursor, KnownError};
use crate::repo::{Arrival, hash_of, notice};
use crate::standing::Standings;
use crate::status::Connection;
use crate::stream::{Policy, Stream, StreamError, gap_of_source};
use crate::subscribe::{Backoff, ConnectError, Disconnect, Subscription};
use crate::window::{Decoded, time_of};

/// How often a source may break at one place before the frame there is refused like any other.
const BREAKS_MAX: u32 = 3;

/// Why a source's list is compared: its cursor was given up.
const CURSOR_RESET: &str = "cursor_reset";

/// Why a source's list is compared: it is followed for the first time.
const FIRST_START: &str = "first_start";

/// A source that is followed.
pub(super) struct Session {
    follower: Follower,
    batching: Batching,
    backoff: Backoff,
    /// Whether the source was given numbers already: else a connection begins with what is new.
    has_cursor: bool,
    frames: u64,
    breaks: Breaks,
    sent_at: Instant,
    /// What the start asks for and is not durable.
    owed: Vec<crdt::Change>,
}

/// How often the stream broke in a row, and behind which cursor.
#[derive(Default)]
struct Breaks {
    cursor: i64,
    count: u32,
}

/// Why a connection is not read on.
enum End {
    Stopped,
    Again(Again),
    Final(FollowError),
}

/// Why another connection has to be made.
struct Again {
    /// A stable word.
    reason: &'static str,
    /// How long the source asks to wait.
    asked: Option<Duration>,
    /// What an operator might look at.
    hint: Option<&'static str>,
    error: Box<dyn Error + Send + Sync>,
}

impl End {
    fn again(reason: &'static str, error: impl Error + Send + Sync + 'static) -> Self {
        Self::Again(Again {
            reason,
            asked: None,
            hint: None,
            error: Box::new(error),
        })
    }
}

impl Session {
    pub(super) async fn run(
        follower: Follower,
        stop: CancellationToken,
    ) -> Result<(), FollowError> {
        let source = Arc::clone(follower.endpoint.name());
        let status = follower.status();
        let begun = stop.run_until_cancelled(Self::begin(follower)).await;
        let Some(mut session) = begun else {
            return Ok(());
        };
        let ended = session.follow(&stop).await;
        let durable = session.batching.durable().cursor;
        match &ended {
            Ok(()) => {
                info!(%source, cursor = durable, "no longer followed; all that was read is durable")
            }
            Err(why) => error!(%source, cursor = durable, error = %why, "no longer followed"),
        }
        let reason = match &ended {
            Ok(()) => "asked",
            Err(FollowError::FutureCursor { .. }) => "future_cursor",
            Err(FollowError::Log { .. }) => "log_closed",
        };
        status.update(|state| state.connection = Connection::Stopped { reason });
        ended
    }

    /// Reads from the bucket where the source stands, for as long as that takes.
    async fn begin(follower: Follower) -> Self {
        let mut backoff = Backoff::new(follower.settings.backoff, rand::random());
        let cursor = loop {
            match Self::known_cursor(&follower).await {
                Ok(cursor) => break cursor,
                Err(error) => {
                    let wait = backoff.failed(None);
                    warn!(source = %follower.endpoint.name(), error = chain(&error), "the source's cursor can't be read; it is tried again");
                    follower.wait(wait, "bucket_unavailable").await;
                }
            }
        };
        backoff.went_on();
        let (settings, shared) = (&follower.settings, &follower.shared);
        let source = follower.endpoint.name();
        let policy = Policy {
            source: Arc::clone(source),
            heads: settings.filter.heads_of(source),
            filter: settings.filter.clone(),
            marks_new: settings.resync_new,
            is_live: true,
        };
        let standings = Standings::new(settings.repos_max);
        let stream = Stream::new(policy, &shared.intake, shared.changed.clone(), standings);
        let work = (settings.filter.slice(), Counting::Seqs);
        let resyncs = shared.resyncs.clone();
        let (start, has_cursor) = start(settings.cursor, settings.resets, cursor);
        let mut session = Self {
            batching: Batching::new(&shared.intake, stream, work, start, resyncs),
            backoff,
            has_cursor,
            frames: 0,
            breaks: Breaks::default(),
            sent_at: Instant::now(),
            owed: Vec::new(),
            follower,
        };
        session.note_start(cursor);
        session
    }

    async fn known_cursor(follower: &Follower) -> Result<Option<KnownCursor>, KnownError> {
        let known = &follower.shared.intake.known;
        let slice = follower.settings.filter.slice();
        known.cursor(follower.endpoint.name(), &slice).await
    }

    /// Owes what a start asks for: after a reset, and at a source that is new and whose repos shall be fetched.
    fn note_start(&mut self, known: Option<KnownCursor>) {
        let settings = &self.follower.settings;
        let source = self.follower.endpoint.name();
        let at = self.follower.shared.intake.now();
        let arrival = Arrival {
            index: 0,
            seq: None,
            bytes: 0,
            hash: hash_of(&at.0.to_be_bytes()),
            at,
        };
        match known {
            Some(known) if settings.resets => {
                warn!(%source, cursor = known.cursor, "the cursor is given up");
                self.owed = gap_of_source(source, arrival, CURSOR_RESET);
            }
            None if settings.resync_new => {
                let notice = crdt::NoticeChange {
                    kind: crdt::NoticeKind::Resync,
                    ..notice(source, arrival, FIRST_START)
                };
                self.owed = vec![crdt::Change::Notice(notice)];
            }
            _ => {}
        }
    }

    /// Makes durable what the start asks for, before anything is read: a cursor behind it would hide that it is missing,
    /// and a source that is silent must not put it off.
    async fn settle_start(&mut self) -> Result<(), AppendError> {
        if !self.owed.is_empty() {
            self.batching.push(self.owed.clone());
            self.batching.append().await?;
            self.batching.settle().await?;
            self.owed.clear();
        }
        Ok(())
    }

    async fn follow(&mut self, stop: &CancellationToken) -> Result<(), FollowError> {
        loop {
            let before = self.batching.durable();
            let end = match stop.run_until_cancelled(self.connect()).await {
                None => End::Stopped,
                Some(Ok(subscription)) => self.read(subscription, stop).await,
                Some(Err(error)) => self.unconnected(error),
            };
            let end = match self.batching.finish().await {
                Ok(()) => end,
                Err(error) => self.refused(error).await,
            };
            self.show();
            if self.batching.durable() != before {
                self.backoff.went_on();
            }
            let again = match end {
                End::Stopped => return Ok(()),
                End::Final(error) => return Err(error),
                End::Again(again) => again,
            };
            let wait = self.backoff.failed(again.asked);
            let source = self.follower.endpoint.name();
            let cursor = self.batching.durable().cursor;
            let error = chain(again.error.as_ref());
            let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
            warn!(%source, reason = again.reason, cursor, error, hint = again.hint, wait_ms, "disconnected");
            let wait = self.follower.wait(wait, again.reason);
            if stop.run_until_cancelled(wait).await.is_none() {
                return Ok(());
            }
        }
    }

    /// The cursor to connect behind.
    fn resume_at(&self) -> Option<i64> {
        self.has_cursor.then(|| self.batching.cursor().cursor)
    }

    async fn connect(&mut self) -> Result<Subscription, ConnectError> {
        let cursor = self.resume_at();
        self.follower
            .status
            .update(|state| state.connection = Connection::Connecting);
        let endpoint = &self.follower.endpoint;
        let settings = self.follower.settings.subscribe;
        let subscription = Subscription::connect(endpoint, cursor, settings).await?;
        info!(source = %endpoint.name(), cursor, "connected");
        let since = self.follower.shared.intake.now();
        self.follower.status.update(|state| {
            state.connection = Connection::Connected { since };
            state.connections += 1;
        });
        Ok(subscription)
    }

    /// What a failed connection leads to.
    fn unconnected(&self, error: ConnectError) -> End {
        let now = self.follower.shared.intake.now();
        let asked = match &error {
            ConnectError::Status { retry, .. } => retry.map(|retry| retry.wait(now)),
            _ => None,
        };
        End::Again(Again {
            reason: error.reason(),
            asked,
            hint: Some(error.hint()),
            error: Box::new(error),
        })
    }

    /// Reads a connection until it ends, or the work has to.
    async fn read(&mut self, subscription: Subscription, stop: &CancellationToken) -> End {
        let resumed_at = self.resume_at();
        self.batching.stream.resume(resumed_at);
        self.batching.stream.forgives =
            self.breaks.count >= BREAKS_MAX && self.breaks.cursor == self.batching.cursor().cursor;
        match stop.run_until_cancelled(self.settle_start()).await {
            None => return End::Stopped,
            Some(Ok(())) => {}
            Some(Err(error)) => return self.refused(error).await,
        }
        let clock = Arc::clone(&self.follower.shared.intake.clock);
        let mut windows = windows(subscription, clock, self.frames);
        loop {
            let step = tokio::select! {
                biased;
                () = stop.cancelled() => return End::Stopped,
                settled = self.batching.settle(), if self.batching.is_sending() => match settled {
                    Ok(()) => {
                        self.show();
                        self.send().await
                    }
                    Err(error) => Err(IntakeError::Append(error)),
                },
                () = sleep_until(self.sent_at + self.follower.settings.cursor_interval), if self.is_late() => {
                    self.send_now().await
                }
                read = windows.recv() => match read {
                    Some(Read::Window(window)) => {
                        let Some(taken) = stop.run_until_cancelled(self.take(window)).await else {
                            return End::Stopped;
                        };
                        match taken {
                            Ok(None) => Ok(()),
                            Ok(Some(error)) => return self.broken(error),
                            Err(error) => Err(error),
                        }
                    }
                    Some(Read::Ended(why)) => return End::again(why.reason(), why),
                    // The reader ended without a word: the runtime is shutting down.
                    None => return End::again("closed", Disconnect::Closed { code: 1006 }),
                },
            };
            match step {
                Ok(()) => {}
                Err(IntakeError::Known(error)) => return End::again("bucket_unavailable", error),
                Err(IntakeError::Append(error)) => return self.refused(error).await,
            }
        }
    }

    /// Takes a window, and sends what was gathered if nothing is under way, or there is too much of it.
    async fn take(
        &mut self,
        (at, window): (Micros, Vec<Decoded>),
    ) -> Result<Option<StreamError>, IntakeError> {
        if self.batching.is_full() {
            self.send_now().await?;
        }
        self.frames += window.len() as u64;
        if !self.has_cursor
            && let Some(seq) = window.iter().find_map(|(arrival, _)| arrival.seq)
        {
            // Where what is new began: if nothing of it becomes durable, it is read from there again.
            self.batching.begin_behind(seq - 1);
            self.has_cursor = true;
        }
        let time = time_of(&window);
        let took = self.batching.take(window).await?;
        let (seen, number) = (&self.follower.shared.seen, self.follower.number);
        let duplicates = seen.count(number, &took.commits);
        self.follower.status.update(|state| {
            state.arrived = Some(at);
            state.frame_time = state.frame_time.max(time);
            state.duplicates += duplicates;
        });
        let taken = &self.batching.gathered()[took.first..];
        self.follower.status.hear(taken, at);
        self.show();
        if !self.batching.is_sending() {
            self.send().await?;
        }
        Ok(took.error)
    }

    /// Sends what was gathered, if it is worth an object of the log.
    async fn send(&mut self) -> Result<(), IntakeError> {
        if self.batching.has_news() {
            self.send_now().await?;
        }
        Ok(())
    }

    async fn send_now(&mut self) -> Result<(), IntakeError> {
        self.batching.append().await?;
        self.sent_at = Instant::now();
        Ok(())
    }

    /// Whether only the cursor is to be sent, at some time.
    fn is_late(&self) -> bool {
        !self.batching.is_sending() && self.batching.is_behind()
    }

    /// What a source that broke its stream leads to.
    fn broken(&mut self, error: StreamError) -> End {
        let cursor = self.batching.cursor().cursor;
        let source = self.follower.endpoint.name();
        match &error {
            StreamError::Closed { error: name, .. } if name == "FutureCursor" => {
                return End::Final(FollowError::FutureCursor {
                    source_name: Arc::clone(source),
                    cursor,
                });
            }
            StreamError::Frame { .. } => {
                if self.breaks.cursor != cursor {
                    self.breaks = Breaks { cursor, count: 0 };
                }
                self.breaks.count += 1;
            }
            StreamError::Closed { .. } | StreamError::Seq { .. } => {}
        }
        End::again(error.reason(), error)
    }

    /// What a log that refused leads to: everything behind the durable cursor is read again.
    async fn refused(&mut self, error: AppendError) -> End {
        self.batching.forget().await;
        match error {
            AppendError::Closed | AppendError::TooLarge { .. } => End::Final(FollowError::Log {
                source_name: Arc::clone(self.follower.endpoint.name()),
                source: error,
            }),
            AppendError::Refused { .. } | AppendError::Unknown | AppendError::WriterChanged => {
                End::again("append_refused", error)
            }
        }
    }

    /// Shows how far the work came.
    fn show(&self) {
        let seen = |cursor: KnownCursor| (cursor.cursor > 0).then_some(cursor.cursor);
        let (cursor, durable) = (self.batching.cursor(), self.batching.durable());
        self.follower.status.update(|state| {
            state.cursor = seen(cursor);
            state.durable = seen(durable);
            state.summary.clone_from(&self.batching.summary);
        });
    }
}

impl Follower {
    async fn wait(&self, wait: Duration, reason: &'static str) {
        let clock = &self.shared.intake.clock;
        let micros = i64::try_from(wait.as_micros()).unwrap_or(i64::MAX);
        let until = Micros(clock.now_us()).saturating_add(micros);
        self.status
            .update(|state| state.connection = Connection::Waiting { reason, until });
        clock.sleep(wait).await;
    }
}

/// Where to begin, and whether that is a number to connect behind.
fn start(asked: Option<i64>, resets: bool, known: Option<KnownCursor>) -> (KnownCursor, bool) {
    let (generation, cursor) = match known {
        Some(known) if !resets => return (known, true),
        Some(known) => (known.generation + 1, asked),
        None => (0, asked),
    };
    let start = KnownCursor {
        generation,
        cursor: asked.unwrap_or_default(),
    };
    (start, cursor.is_some())
}

/// An error and its causes in one line.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
