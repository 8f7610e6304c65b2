//! How the work on a source stands, for whoever shows it: a status line, metrics, logs.
//!
//! The follower writes it once a window, not once a frame; whoever reads it takes a copy. Nothing here decides anything.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use atproto::Nsid;
use crdt::{Change, EventKind, Micros};

use crate::silence::Watch;
use crate::summary::Summary;

/// How a source is connected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Connection {
    /// Not yet, or being made.
    #[default]
    Connecting,
    /// Since then.
    Connected {
        /// When it was made.
        since: Micros,
    },
    /// It ended, and another is made later.
    Waiting {
        /// Why it ended, a stable word.
        reason: &'static str,
        /// When another is made.
        until: Micros,
    },
    /// No other is made until somebody starts the source again.
    Stopped {
        /// Why, a stable word.
        reason: &'static str,
    },
}

/// How the work on a source stands.
#[derive(Clone, Debug, Default)]
pub struct SourceState {
    /// How it is connected.
    pub connection: Connection,
    /// How often a connection was made.
    pub connections: u64,
    /// How far its frames were taken, by its own numbers; none before the first.
    pub cursor: Option<i64>,
    /// How far they are durable.
    pub durable: Option<i64>,
    /// When the newest frame says that it was made.
    pub frame_time: Option<Micros>,
    /// When the last frame arrived.
    pub arrived: Option<Micros>,
    /// What became of its frames since the start.
    pub summary: Summary,
    /// Commits that another source of this process had delivered first.
    pub duplicates: u64,
}

impl SourceState {
    /// How far behind the source the newest frame is, µs; none before the first.
    #[must_use]
    pub fn lag_us(&self, now: Micros) -> Option<i64> {
        let time = self.frame_time?;
        Some(now.0.saturating_sub(time.0).max(0))
    }
}

/// How the work on a source stands: shared between the follower and whoever shows it.
#[derive(Debug)]
pub struct SourceStatus {
    source: Arc<str>,
    slice: String,
    state: Mutex<SourceState>,
    watch: Mutex<Watch>,
}

impl SourceStatus {
    pub(crate) fn new(source: &Arc<str>, slice: String) -> Self {
        Self {
            source: Arc::clone(source),
            slice,
            state: Mutex::default(),
            watch: Mutex::default(),
        }
    }

    /// The source's name.
    #[must_use]
    pub fn source(&self) -> &Arc<str> {
        &self.source
    }

    /// The part of it that is taken, in words; empty for all.
    #[must_use]
    pub fn slice(&self) -> &str {
        &self.slice
    }

    /// How it stands now.
    #[must_use]
    pub fn state(&self) -> SourceState {
        self.lock().clone()
    }

    /// Looks at how it stands now, without a copy. The follower waits meanwhile.
    pub fn read<T>(&self, look: impl FnOnce(&SourceState) -> T) -> T {
        look(&self.lock())
    }

    /// Looks at which collections are heard. The follower waits meanwhile.
    pub fn watch<T>(&self, look: impl FnOnce(&mut Watch) -> T) -> T {
        look(&mut self.watch.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Hears of a window's operations, which arrived at `at`.
    pub(crate) fn hear(&self, changes: &[Change], at: Micros) {
        let mut counts = HashMap::<&Nsid, u32>::new();
        for change in changes {
            if let Change::Event(event) = change
                && let (EventKind::Commit, Some(collection)) = (event.kind, &event.collection)
            {
                *counts.entry(collection).or_default() += 1;
            }
        }
        self.watch(|watch| {
            for (collection, count) in counts {
                watch.hear(collection, count, at.0);
            }
        });
    }

    pub(crate) fn update(&self, change: impl FnOnce(&mut SourceState)) {
        change(&mut self.lock());
    }

    fn lock(&self) -> MutexGuard<'_, SourceState> {
        // A reader that panicked changed nothing.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
