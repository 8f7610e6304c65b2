//! How long to wait before the next connection.
//!
//! The wait doubles with every failure and lies between half of that and all of it, so that many who lost one source do
//! not come back together. A source that says when to come back is obeyed, within reason.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// The longest wait that a source may ask for.
const ASKED_MAX: Duration = Duration::from_secs(3600);

/// How the waits grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackoffSettings {
    /// The first wait at most.
    pub min: Duration,
    /// The longest wait.
    pub max: Duration,
}

impl Default for BackoffSettings {
    fn default() -> Self {
        Self {
            min: Duration::from_secs(1),
            max: Duration::from_secs(60),
        }
    }
}

/// The waits of one source.
#[derive(Debug)]
pub(crate) struct Backoff {
    settings: BackoffSettings,
    failures: u32,
    random: StdRng,
}

impl Backoff {
    pub(crate) fn new(settings: BackoffSettings, seed: u64) -> Self {
        Self {
            settings,
            failures: 0,
            random: StdRng::seed_from_u64(seed),
        }
    }

    /// The wait after one more failure; `asked` is what the source asks for.
    pub(crate) fn failed(&mut self, asked: Option<Duration>) -> Duration {
        let doubled = self.settings.min.saturating_mul(1 << self.failures.min(20));
        self.failures = self.failures.saturating_add(1);
        let wait = doubled.min(self.settings.max);
        let wait = wait.mul_f64(self.random.random_range(0.5..=1.0));
        asked.map_or(wait, |asked| wait.max(asked.min(ASKED_MAX)))
    }

    /// Work went on: the next failure is a first one.
    pub(crate) fn went_on(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_begin_again() {
        let mut backoff = Backoff::new(BackoffSettings::default(), 1);
        for at_most in [1, 2, 4, 8, 16, 32, 60, 60] {
            let wait = backoff.failed(None).as_secs_f64();
            let at_most = f64::from(at_most);
            assert!(
                wait >= at_most / 2.0 && wait <= at_most,
                "{wait} of {at_most}"
            );
        }
        backoff.went_on();
        assert!(backoff.failed(None) <= Duration::from_secs(1));
    }

    #[test]
    fn two_sources_do_not_wait_alike() {
        let wait = |seed| Backoff::new(BackoffSettings::default(), seed).failed(None);
        assert_ne!(wait(1), wait(2));
    }

    #[test]
    fn a_source_s_own_wish_is_obeyed_within_reason() {
        let mut backoff = Backoff::new(BackoffSettings::default(), 1);
        let wish = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(backoff.failed(wish(30)), Duration::from_secs(30));
        assert_eq!(backoff.failed(wish(86_400)), ASKED_MAX);
    }
}
