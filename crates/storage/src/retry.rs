//! What an error of the store means for the next step, and how long to wait before it.
//!
//! object_store retries a request a few times by itself; this is the second line, for outages of seconds to
//! minutes. Refusals (no permission, no such operation) are never retried.

use std::future::Future;
use std::time::Duration;

use object_store::Error;
use object_store::path::Path;
use tracing::warn;

use crate::bucket::Bucket;
use crate::clock::is_overdue;

const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// Whether the same request may succeed later.
pub fn is_transient(error: &Error) -> bool {
    matches!(error, Error::Generic { .. } | Error::JoinError { .. })
}

/// Whether the store refuses us, whatever we do again.
pub fn is_denied(error: &Error) -> bool {
    matches!(
        error,
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. }
    )
}

/// Exponential backoff with jitter, bounded by a time after which the caller gives up.
#[derive(Debug)]
pub(crate) struct Backoff {
    started_us: i64,
    retry_for: Duration,
    next: Duration,
    attempts: u32,
}

impl Backoff {
    pub(crate) fn new(bucket: &Bucket, retry_for: Duration) -> Self {
        Self {
            started_us: bucket.clock().now_us(),
            retry_for,
            next: BACKOFF_MIN,
            attempts: 0,
        }
    }

    /// Says why, then waits; `false`, at once, when the time is over.
    pub(crate) async fn wait(
        &mut self,
        bucket: &Bucket,
        what: &'static str,
        path: &Path,
        error: &(dyn std::fmt::Display + Sync),
    ) -> bool {
        self.attempts += 1;
        if is_overdue(self.started_us, bucket.clock().now_us(), self.retry_for) {
            warn!(what, %path, attempts = self.attempts, %error, "giving up");
            return false;
        }
        let wait = self.next.mul_f64(bucket.random_in(0.5..1.0));
        warn!(what, %path, attempts = self.attempts, wait_ms = wait.as_millis(), %error, "trying again");
        self.next = (self.next * 2).min(BACKOFF_MAX);
        bucket.clock().sleep(wait).await;
        true
    }
}

/// Runs `request` until it succeeds, is refused, or the bucket's `retry_for` is over.
pub(crate) async fn retrying<T, F>(
    bucket: &Bucket,
    what: &'static str,
    path: &Path,
    mut request: impl FnMut() -> F,
) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    let mut backoff = Backoff::new(bucket, bucket.settings().retry_for);
    loop {
        match request().await {
            Err(error) if is_transient(&error) => {
                if !backoff.wait(bucket, what, path, &error).await {
                    return Err(error);
                }
            }
            done => return done,
        }
    }
}
