//! Which collections of a source have fallen silent: a source may look healthy and still have lost a part of what it
//! tells.
//!
//! A collection is silent when nothing of it has come for much longer than its own past lets expect, while the source
//! went on telling of others. Pure: times are handed in. Memory is bounded by [`COLLECTIONS_MAX`]; what lies beyond is
//! counted, not watched. It knows no reason: a network may just have grown tired of a collection.

use std::collections::HashMap;
use std::time::Duration;

use atproto::Nsid;

/// How many collections of one source are watched.
pub const COLLECTIONS_MAX: usize = 4096;

/// How many events make a past that something can be expected from.
const EVENTS_MIN: f64 = 30.0;

/// How many mean gaps long nothing has to come. If events come independently of each other, so long a gap is chance
/// once in half a billion.
const GAPS_MIN: f64 = 20.0;

/// However frequent a collection is, so long a silence is not yet one.
const SILENCE_MIN: Duration = Duration::from_secs(300);

/// In what time the weight of the past halves, so that what was usual last week does not count as usual.
const HALF_LIFE: Duration = Duration::from_secs(3600);

/// A collection that fell silent, or is heard, for the first time or again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Silence {
    /// The collection.
    pub collection: Nsid,
    /// When the last event before the silence came, µs since the epoch; where there was none, the first one.
    pub since_us: i64,
    /// Whether it is heard.
    pub is_over: bool,
}

/// Watches the collections of one source.
#[derive(Debug, Default)]
pub struct Watch {
    collections: HashMap<Nsid, Heard>,
    /// The last time that anything came.
    last_us: i64,
    unwatched: u64,
    /// Collections that were heard first, or again, since changes were taken last.
    heard: Vec<Silence>,
}

/// What was heard of one collection.
#[derive(Clone, Copy, Debug)]
struct Heard {
    /// Events, each with the weight that its age leaves it.
    weight: f64,
    /// The time over which they were heard, weighted alike, in seconds.
    span: f64,
    last_us: i64,
    is_silent: bool,
}

impl Watch {
    /// Takes `count` events of `collection` that came at `at_us`.
    pub fn hear(&mut self, collection: &Nsid, count: u32, at_us: i64) {
        self.last_us = self.last_us.max(at_us);
        let is_full = self.collections.len() >= COLLECTIONS_MAX;
        let since_us = match self.collections.get_mut(collection) {
            Some(heard) if heard.is_silent => {
                let since_us = heard.last_us;
                // The silence is no part of what is usual.
                *heard = Heard::new(count, at_us);
                since_us
            }
            Some(heard) => return heard.add(count, at_us),
            None if is_full => {
                self.unwatched += u64::from(count);
                return;
            }
            None => {
                let heard = Heard::new(count, at_us);
                self.collections.insert(collection.clone(), heard);
                at_us
            }
        };
        self.heard.push(Silence {
            collection: collection.clone(),
            since_us,
            is_over: true,
        });
    }

    /// What changed since this was asked last: collections that are heard, then those that fell silent by now.
    pub fn changes(&mut self) -> Vec<Silence> {
        let mut changes = std::mem::take(&mut self.heard);
        changes.extend(self.fell_silent());
        changes
    }

    /// The collections that fell silent by now, each told once.
    fn fell_silent(&mut self) -> Vec<Silence> {
        // The source's own silence is told elsewhere and makes none of its collections suspect.
        let now_us = self.last_us;
        let mut fallen: Vec<Silence> = self
            .collections
            .iter_mut()
            .filter(|(_, heard)| !heard.is_silent && heard.is_suspect(now_us))
            .map(|(collection, heard)| {
                heard.is_silent = true;
                Silence {
                    collection: collection.clone(),
                    since_us: heard.last_us,
                    is_over: false,
                }
            })
            .collect();
        fallen.sort_by(|a, b| a.collection.cmp(&b.collection));
        fallen
    }

    /// The collections that are silent now, sorted.
    #[must_use]
    pub fn silent(&self) -> Vec<&Nsid> {
        let silent = self
            .collections
            .iter()
            .filter(|(_, heard)| heard.is_silent)
            .map(|(collection, _)| collection);
        let mut silent: Vec<&Nsid> = silent.collect();
        silent.sort();
        silent
    }

    /// How many events belonged to collections beyond those that are watched.
    #[must_use]
    pub fn unwatched(&self) -> u64 {
        self.unwatched
    }
}

impl Heard {
    fn new(count: u32, at_us: i64) -> Self {
        Self {
            weight: f64::from(count),
            span: 0.0,
            last_us: at_us,
            is_silent: false,
        }
    }

    fn add(&mut self, count: u32, at_us: i64) {
        let passed = seconds(self.last_us, at_us);
        let kept = 0.5_f64.powf(passed / HALF_LIFE.as_secs_f64());
        self.weight = self.weight * kept + f64::from(count);
        self.span = self.span * kept + passed;
        self.last_us = self.last_us.max(at_us);
    }

    fn is_suspect(&self, now_us: i64) -> bool {
        let silence = seconds(self.last_us, now_us);
        let gap = self.span / self.weight.max(1.0);
        self.weight >= EVENTS_MIN
            && silence >= SILENCE_MIN.as_secs_f64()
            && silence >= GAPS_MIN * gap
    }
}

#[allow(
    clippy::cast_precision_loss,
    reason = "a difference of times, of which seconds matter"
)]
fn seconds(from_us: i64, to_us: i64) -> f64 {
    to_us.saturating_sub(from_us).max(0) as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    const SECOND_US: i64 = 1_000_000;

    #[test]
    fn a_collection_that_stops_is_silent_while_others_go_on() {
        let mut watch = Watch::default();
        for second in 0..600 {
            watch.hear(&like(), 10, second * SECOND_US);
            watch.hear(&post(), 1, second * SECOND_US);
        }
        assert_eq!(watch.fell_silent(), []);
        for second in 600..899 {
            watch.hear(&post(), 1, second * SECOND_US);
            assert_eq!(watch.fell_silent(), [], "after {second} s");
        }
        watch.hear(&post(), 1, 900 * SECOND_US);
        let since_us = 599 * SECOND_US;
        let fell = Silence {
            collection: like(),
            since_us,
            is_over: false,
        };
        assert_eq!(watch.fell_silent(), std::slice::from_ref(&fell));
        assert_eq!(watch.fell_silent(), [], "it is told once");
        assert_eq!(watch.silent(), [&like()]);
        let over = Silence {
            is_over: true,
            ..fell
        };
        let first = |collection| Silence {
            collection,
            since_us: 0,
            is_over: true,
        };
        assert_eq!(watch.changes(), [first(like()), first(post())]);
        watch.hear(&like(), 1, 1000 * SECOND_US);
        assert_eq!(watch.changes(), [over]);
        assert_eq!(watch.silent(), [] as [&Nsid; 0]);
    }

    #[test]
    fn a_source_that_is_silent_as_a_whole_suspects_no_collection() {
        let mut watch = Watch::default();
        for second in 0..600 {
            watch.hear(&like(), 10, second * SECOND_US);
        }
        // Nothing comes for a day: the watch has no other clock than what comes.
        assert_eq!(watch.fell_silent(), []);
        watch.hear(&like(), 1, 86_400 * SECOND_US);
        assert_eq!(watch.fell_silent(), []);
    }

    #[test]
    fn what_is_rare_is_given_time_and_what_has_no_past_is_not_judged() {
        let mut watch = Watch::default();
        for minute in 0..300 {
            watch.hear(&post(), 60, minute * 60 * SECOND_US);
            if minute % 5 == 0 && minute < 200 {
                watch.hear(&like(), 1, minute * 60 * SECOND_US);
            }
            if minute == 100 {
                watch.hear(&"com.example.once".parse().expect("valid"), 1, 0);
            }
            let fallen = watch.fell_silent();
            // Twenty gaps of five minutes, and its last event came at minute 195.
            assert_eq!(fallen, [], "at minute {minute}");
        }
    }

    #[test]
    fn independent_events_at_any_rate_raise_no_false_alarm() {
        let mut random = StdRng::seed_from_u64(7);
        for rate in [0.05, 0.5, 5.0, 50.0] {
            let mut watch = Watch::default();
            let mut fallen = 0;
            for second in 0..40_000 {
                watch.hear(&post(), 1, second * SECOND_US);
                if random.random_bool(f64::min(rate, 1.0)) {
                    watch.hear(&like(), (rate as u32).max(1), second * SECOND_US);
                }
                fallen += watch.fell_silent().len();
            }
            assert_eq!(fallen, 0, "at {rate} events a second");
        }
    }

    #[test]
    fn no_more_than_so_many_collections_are_watched() {
        let mut watch = Watch::default();
        for number in 0..COLLECTIONS_MAX + 3 {
            let collection = format!("com.example.c{number}");
            watch.hear(&collection.parse().expect("valid"), 2, 0);
        }
        assert_eq!(watch.unwatched(), 6);
    }

    fn like() -> Nsid {
        "app.bsky.feed.like".parse().expect("valid")
    }

    fn post() -> Nsid {
        "app.bsky.feed.post".parse().expect("valid")
    }
}
