//! Follows sources: their frames go through verification into the log, and on, for as long as the process runs.
//!
//! One connection at a time, read into windows (`reader`), which go the one way of all frames (`crate::batching`).
//! However a connection ends, what was read of it becomes durable first; the next one begins behind that. So the cursor
//! is always the durable one, nothing is lost, and what comes twice merges. If the log refuses what was sent, all that
//! follows from it is forgotten and read again.
//!
//! A source that says that our cursor is in its future is not followed on: somebody has to decide that. All other
//! trouble is waited out, longer each time, until something goes in again.

mod reader;
mod seen;
mod session;

use std::sync::Arc;
use std::time::Duration;

use crdt::AppendError;
use thiserror::Error;
use tokio_util::sync::CancellationToken;

use crate::filter::Filter;
use crate::identity::IdentityQueue;
use crate::intake::Intake;
use crate::resync::ResyncQueue;
use crate::status::SourceStatus;
use crate::subscribe::{BackoffSettings, Endpoint, SubscribeSettings};

use seen::Seen;
use session::Session;

/// How a source is followed.
#[derive(Clone, Debug)]
pub struct FollowSettings {
    /// What is taken.
    pub filter: Filter,
    /// Where to begin if the bucket holds no cursor of the source; none for what is new.
    pub cursor: Option<i64>,
    /// Whether the cursor in the bucket is given up.
    pub resets: bool,
    /// Whether repos that were never met are fetched.
    pub resync_new: bool,
    /// How many repos' standings each of two generations holds, some 170 bytes each.
    pub repos_max: usize,
    /// How long a cursor may stand still in the bucket while nothing goes in that is worth writing.
    pub cursor_interval: Duration,
    /// How long a connection waits for what.
    pub subscribe: SubscribeSettings,
    /// How long is waited between connections.
    pub backoff: BackoffSettings,
}

impl Default for FollowSettings {
    fn default() -> Self {
        Self {
            filter: Filter::default(),
            cursor: None,
            resets: false,
            resync_new: false,
            repos_max: 500_000,
            cursor_interval: Duration::from_secs(10),
            subscribe: SubscribeSettings::default(),
            backoff: BackoffSettings::default(),
        }
    }
}

/// Why a source is not followed on.
#[derive(Debug, Error)]
pub enum FollowError {
    /// The source never gave the number that our cursor is: it was rebuilt, or another one has its name.
    #[error(
        "{source_name} says that cursor {cursor} is in its future: it began anew, or another source has its name. To go \
         on from what it has now, start once with --reset-cursor={source_name}; what it lists is compared then"
    )]
    FutureCursor {
        /// The source.
        source_name: Arc<str>,
        /// The cursor.
        cursor: i64,
    },
    /// The log takes nothing any more. What is durable stays; following again goes on from there.
    #[error("{source_name} is not followed on: the log takes nothing more")]
    Log {
        /// The source.
        source_name: Arc<str>,
        /// What the log says.
        #[source]
        source: AppendError,
    },
}

/// What several sources of one process share. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Following {
    /// Where their frames go.
    pub intake: Intake,
    /// Where repos to be fetched are handed over; without it their marks stay in the bucket.
    pub resyncs: Option<ResyncQueue>,
    /// Where changed identities are handed over; without it they are looked up when they are used.
    pub changed: Option<IdentityQueue>,
    seen: Arc<Seen>,
}

impl Following {
    /// Sources that are followed into `intake`.
    #[must_use]
    pub fn new(
        intake: Intake,
        resyncs: Option<ResyncQueue>,
        changed: Option<IdentityQueue>,
    ) -> Self {
        Self {
            intake,
            resyncs,
            changed,
            seen: Arc::default(),
        }
    }

    /// Adds a source, which is followed once [`Follower::run`] is called.
    pub fn add(&self, endpoint: Endpoint, settings: FollowSettings) -> Follower {
        let number = self.seen.add();
        let status = SourceStatus::new(endpoint.name(), settings.filter.slice());
        Follower {
            shared: self.clone(),
            number,
            endpoint,
            settings,
            status: Arc::new(status),
        }
    }
}

/// One source.
#[derive(Debug)]
pub struct Follower {
    shared: Following,
    number: u32,
    endpoint: Endpoint,
    settings: FollowSettings,
    status: Arc<SourceStatus>,
}

impl Follower {
    /// How it stands, from now on.
    #[must_use]
    pub fn status(&self) -> Arc<SourceStatus> {
        Arc::clone(&self.status)
    }

    /// Follows the source until `stop`; then what was read is durable, and the cursor in the bucket says where it ends.
    ///
    /// # Errors
    /// [`FollowError`]; what was taken before is durable.
    pub async fn run(self, stop: CancellationToken) -> Result<(), FollowError> {
        Box::pin(Session::run(self, stop)).await
    }
}

#[cfg(test)]
mod tests;
