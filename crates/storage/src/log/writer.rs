//! Appends to the log under an id that no other process holds.
//!
//! An append is acknowledged when its PUT returned success or a GET of its key returned the bytes that were
//! sent, and that answer came within half the grace of the last one. A writer takes a new id, and sends what
//! is unacknowledged there, when other bytes stand at its key, when answers are too far apart (a suspended
//! machine may have a twin whose objects were merged and deleted meanwhile), and after any append whose
//! outcome stayed unknown. What an old id may have left is a duplicate, and merging is idempotent.

use object_store::Error;
use tracing::{info, warn};

use crate::bucket::Bucket;
use crate::clock::is_overdue;
use crate::create::{Attempt, attempt};
use crate::ids::{Position, Seq, WriterId};
use crate::layout;
use crate::log::object::{Body, BodyTooLarge, Header, Section};
use crate::retry::Backoff;

// Above this the compression takes longer than an async task may hold its thread (about 1 ms).
const INLINE_BYTES_MAX: usize = 128 * 1024;

/// Under how many ids in a row one append is tried. Each had an answer that was too late, or met a twin.
const IDS_MAX: u32 = 8;

/// Why an append was not acknowledged.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// Nothing was written: the sections do not fit into one object.
    #[error("sections have {bytes} bytes, at most {bytes_max} fit into one log object")]
    TooLarge {
        /// How many bytes were given.
        bytes: u64,
        /// How many fit.
        bytes_max: u64,
    },
    /// The store refuses to write, or to read what we wrote. Asking again will not help.
    #[error("store refuses the append at {position}")]
    Refused {
        /// Where it was tried last.
        position: Position,
        /// The store's answer.
        source: Error,
    },
    /// The append may be in the log, or get there at any later moment. It may be appended again.
    #[error("outcome of append at {position} unknown")]
    Unknown {
        /// Where it was tried last.
        position: Position,
        /// The store's last answer; `None` when only the answers came too late.
        source: Option<Error>,
    },
}

impl From<BodyTooLarge> for AppendError {
    fn from(BodyTooLarge { bytes, bytes_max }: BodyTooLarge) -> Self {
        Self::TooLarge { bytes, bytes_max }
    }
}

/// Appends objects under its own prefix, one at a time.
#[derive(Debug)]
pub struct LogWriter {
    bucket: Bucket,
    writer: WriterId,
    next: Seq,
    /// When the last answer under this id was confirmed; at first when the id was minted.
    confirmed_us: i64,
    /// Whether something under this id may be written or not: then nothing else may be.
    is_unsure: bool,
}

/// What the attempts under one id came to.
enum Sent {
    Confirmed,
    /// The id can't be used any more, for this reason.
    NewId(&'static str),
}

impl LogWriter {
    /// A writer with a new id. Costs no request.
    pub fn new(bucket: Bucket) -> Self {
        let writer = WriterId(bucket.mint());
        let confirmed_us = bucket.clock().now_us();
        Self {
            bucket,
            writer,
            next: Seq::FIRST,
            confirmed_us,
            is_unsure: false,
        }
    }

    /// The id under which the next append is tried first; [`Position::writer`] tells where one went.
    pub fn writer(&self) -> WriterId {
        self.writer
    }

    /// Appends `sections` as one object and returns its position once it is durable.
    ///
    /// Costs one PUT where nothing goes wrong; tries each id for the bucket's `retry_for` otherwise. Dropping the
    /// future leaves the outcome unknown; the next append then goes under a new id.
    ///
    /// # Errors
    /// [`AppendError::TooLarge`] if nothing was written, [`AppendError::Unknown`] if it may have been.
    pub async fn append(&mut self, sections: Vec<Section>) -> Result<Position, AppendError> {
        let body = encode(sections).await?;
        if self.is_unsure {
            self.take_new_id("an earlier append has an unknown outcome");
        }
        let mut position = self.position();
        for _ in 0..IDS_MAX {
            if self.is_silent(self.bucket.clock().now_us()) {
                self.take_new_id("silent for half the grace");
            }
            position = self.position();
            match self.send(position, &body).await? {
                Sent::Confirmed => return Ok(position),
                Sent::NewId(why) => self.take_new_id(why),
            }
        }
        Err(AppendError::Unknown {
            position,
            source: None,
        })
    }

    /// Appends `sections` under the id `writer` or not at all; none if the id is no longer this writer's.
    ///
    /// After none they may be in the log, but under `writer` only. Costs one PUT where nothing goes wrong.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub async fn append_as(
        &mut self,
        writer: WriterId,
        sections: Vec<Section>,
    ) -> Result<Option<Position>, AppendError> {
        let body = encode(sections).await?;
        if self.is_unsure {
            self.take_new_id("an earlier append has an unknown outcome");
        }
        if self.is_silent(self.bucket.clock().now_us()) {
            self.take_new_id("silent for half the grace");
        }
        if self.writer != writer {
            return Ok(None);
        }
        let position = self.position();
        match self.send(position, &body).await? {
            Sent::Confirmed => Ok(Some(position)),
            Sent::NewId(why) => {
                self.take_new_id(why);
                Ok(None)
            }
        }
    }

    /// Sends one object under one key until its outcome is known.
    async fn send(&mut self, position: Position, body: &Body) -> Result<Sent, AppendError> {
        let path = layout::wal_object(position);
        let bytes = body.seal(&Header {
            database: self.bucket.database(),
            position,
            nonce: self.bucket.nonce(),
            created_us: self.bucket.clock().now_us(),
        });
        self.is_unsure = true;
        let mut backoff = Backoff::new(&self.bucket, self.bucket.settings().retry_for);
        loop {
            let answer = attempt(self.bucket.store(), &path, &bytes).await;
            // From the last confirmed answer to the arrival of this one, retries included.
            let now_us = self.bucket.clock().now_us();
            if self.is_silent(now_us) {
                return Ok(Sent::NewId(
                    "the answer came more than half the grace after the last confirmed one",
                ));
            }
            let source = match answer {
                Attempt::Created | Attempt::Found => {
                    self.confirmed_us = now_us;
                    self.next = position.seq.next();
                    self.is_unsure = false;
                    return Ok(Sent::Confirmed);
                }
                Attempt::Taken => return Ok(Sent::NewId("other bytes stand at our key")),
                Attempt::Refused(source) | Attempt::Unreadable(source) => {
                    return Err(AppendError::Refused { position, source });
                }
                Attempt::Open(source) => source,
            };
            if !backoff.wait(&self.bucket, "append", &path, &source).await {
                return Err(AppendError::Unknown {
                    position,
                    source: Some(source),
                });
            }
        }
    }

    fn position(&self) -> Position {
        Position {
            writer: self.writer,
            seq: self.next,
        }
    }

    fn is_silent(&self, now_us: i64) -> bool {
        is_overdue(
            self.confirmed_us,
            now_us,
            self.bucket.settings().half_grace(),
        )
    }

    fn take_new_id(&mut self, why: &'static str) {
        let old = self.writer;
        self.writer = WriterId(self.bucket.mint());
        self.next = Seq::FIRST;
        self.confirmed_us = self.bucket.clock().now_us();
        if self.is_unsure {
            warn!(%old, new = %self.writer, why, "writer takes a new id");
        } else {
            info!(%old, new = %self.writer, why, "writer takes a new id");
        }
        self.is_unsure = false;
    }
}

async fn encode(sections: Vec<Section>) -> Result<Body, AppendError> {
    let raw: usize = sections.iter().map(|section| section.payload.len()).sum();
    if raw <= INLINE_BYTES_MAX {
        return Ok(Body::encode(&sections)?);
    }
    match tokio::task::spawn_blocking(move || Body::encode(&sections)).await {
        Ok(body) => Ok(body?),
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Never started, since the runtime shuts down: so does whoever waits for us.
            Err(_) => std::future::pending().await,
        },
    }
}

#[cfg(test)]
#[path = "writer/tests.rs"]
mod tests;
