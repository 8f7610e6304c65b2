//! The times that the protocol's safety and its promises rest on, and the order between them.
//!
//! All processes of one bucket must run with the same `grace`; nothing here can check that.

use std::time::Duration;

use crate::ids::DatabaseId;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

/// What the processes of one bucket agree on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The database that must be there; `None` takes whichever is.
    pub database: Option<DatabaseId>,
    /// The longest that a query may run.
    pub query_max: Duration,
    /// How long what no new view can need is still left alone.
    pub grace: Duration,
    /// How far back `AS OF` answers.
    pub retention: Duration,
    /// Within which no byte of erased content is left.
    pub erasure_window: Duration,
    /// The longest that a change may wait in the log for compaction.
    pub compaction_lag_max: Duration,
    /// How long a request that fails is made again before its caller is told.
    pub retry_for: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            database: None,
            query_max: 10 * MINUTE,
            grace: 30 * MINUTE,
            retention: 6 * HOUR,
            erasure_window: 24 * HOUR,
            compaction_lag_max: HOUR,
            retry_for: 2 * MINUTE,
        }
    }
}

/// Settings that contradict each other. Each sentence says which to change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// A time is zero.
    #[error("{name} is zero; give it a length")]
    Zero {
        /// The setting's name.
        name: &'static str,
    },
    /// A query might outlive what it reads.
    #[error(
        "the longest query ({query_max:?}) is longer than half the grace ({grace:?}); opening its view may take the other half: raise the grace or shorten the query"
    )]
    QueryOutlivesGrace {
        /// As set.
        query_max: Duration,
        /// As set.
        grace: Duration,
    },
    /// A version might go while a view of it is read.
    #[error(
        "the retention ({retention:?}) is shorter than the grace ({grace:?}); raise the retention or lower the grace"
    )]
    GraceOutlivesRetention {
        /// As set.
        grace: Duration,
        /// As set.
        retention: Duration,
    },
    /// A request that is made again would always be too late to acknowledge anything.
    #[error(
        "requests are retried for {retry_for:?}, which is not below half the grace ({grace:?}); shorten the one or raise the other"
    )]
    RetriesOutliveGrace {
        /// As set.
        retry_for: Duration,
        /// As set.
        grace: Duration,
    },
    /// Erased content could still be there when the window is over.
    #[error(
        "retention, grace and compaction lag together ({together:?}) are not below the erasure window ({erasure_window:?}); shorten the retention or raise the window"
    )]
    RetentionOutlivesErasure {
        /// The sum.
        together: Duration,
        /// As set.
        erasure_window: Duration,
    },
}

impl Settings {
    /// Checks the orders that must hold.
    ///
    /// # Errors
    /// The first order that is broken.
    pub fn check(&self) -> Result<(), SettingsError> {
        let Self {
            query_max,
            grace,
            retention,
            erasure_window,
            compaction_lag_max,
            retry_for,
            ..
        } = *self;
        let named = [
            ("query_max", query_max),
            ("grace", grace),
            ("retention", retention),
            ("erasure_window", erasure_window),
        ];
        if let Some((name, _)) = named.into_iter().find(|(_, time)| time.is_zero()) {
            return Err(SettingsError::Zero { name });
        }
        // A view that is opened in the first half of the grace must be read to its end before the whole is over.
        if query_max > self.half_grace() {
            return Err(SettingsError::QueryOutlivesGrace { query_max, grace });
        }
        if retry_for >= self.half_grace() {
            return Err(SettingsError::RetriesOutliveGrace { retry_for, grace });
        }
        if retention < grace {
            return Err(SettingsError::GraceOutlivesRetention { grace, retention });
        }
        let together = retention
            .saturating_add(grace)
            .saturating_add(compaction_lag_max);
        if together >= erasure_window {
            return Err(SettingsError::RetentionOutlivesErasure {
                together,
                erasure_window,
            });
        }
        Ok(())
    }

    /// How old the last confirmed answer may be for the next one to count, and how long an opening may take.
    pub fn half_grace(&self) -> Duration {
        self.grace / 2
    }
}
