//! Time as the crate sees it: a wall clock in µs and a way to wait.
//!
//! Ages between two answers of the store are measured on the wall clock, since the monotonic clock of a
//! suspended machine does not see the gap. A clock that went backwards counts as a gap of any length.

use std::fmt::Debug;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::future::BoxFuture;

/// A wall clock.
pub trait Clock: Debug + Send + Sync {
    /// µs since the epoch, UTC.
    fn now_us(&self) -> i64;

    /// Waits for `duration`. A clock of tests passes the time instead.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_us(&self) -> i64 {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => micros(since),
            Err(before) => -micros(before.duration()),
        }
    }
}

/// A clock that stands still until it is told to go on, and that passes what a sleeper waits for at once.
#[derive(Debug)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// A clock that stands at `now_us`.
    pub fn new(now_us: i64) -> Self {
        Self(AtomicI64::new(now_us))
    }

    /// Lets `duration` pass.
    pub fn advance(&self, duration: Duration) {
        self.0.fetch_add(micros(duration), Ordering::SeqCst);
    }

    /// Sets the clock, backwards too.
    pub fn set(&self, now_us: i64) {
        self.0.store(now_us, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now_us(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.advance(duration);
        Box::pin(tokio::task::yield_now())
    }
}

/// `duration` in µs, at most [`i64::MAX`].
pub(crate) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// Whether more than `limit` lies between `since_us` and `now_us`, or the clock went backwards.
pub(crate) fn is_overdue(since_us: i64, now_us: i64, limit: Duration) -> bool {
    now_us < since_us || now_us.saturating_sub(since_us) > micros(limit)
}
