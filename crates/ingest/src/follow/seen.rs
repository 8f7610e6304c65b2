//! Which commits were delivered by which source of this process lately: so that what several deliver is counted.
//!
//! It decides nothing: every source's commits go in, and merging makes them one. It knows a commit by eight bytes of its
//! hash, and forgets old ones, so the count is a good estimate and no more.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

/// How many commits a generation holds, about 20 bytes each: half an hour of today's network.
const COMMITS_MAX: usize = 1_000_000;

/// Commits of several sources.
#[derive(Debug, Default)]
pub(super) struct Seen {
    sources: AtomicU32,
    commits: Mutex<Generations>,
}

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<u64, u32>,
    old: HashMap<u64, u32>,
}

impl Seen {
    /// A number for one more source.
    pub(super) fn add(&self) -> u32 {
        self.sources.fetch_add(1, Ordering::Relaxed)
    }

    /// How many of `commits`, which `source` delivered now, another source delivered before.
    pub(super) fn count(&self, source: u32, commits: &[u64]) -> u64 {
        if self.sources.load(Ordering::Relaxed) < 2 {
            return 0;
        }
        // Within the lock nothing can panic but for want of memory.
        let mut seen = self.commits.lock().unwrap_or_else(PoisonError::into_inner);
        let mut duplicates = 0;
        for commit in commits {
            let first = seen.young.get(commit).or_else(|| seen.old.get(commit));
            match first {
                Some(first) if *first != source => duplicates += 1,
                Some(_) => {}
                None => {
                    if seen.young.len() >= COMMITS_MAX {
                        seen.old = std::mem::take(&mut seen.young);
                    }
                    seen.young.insert(*commit, source);
                }
            }
        }
        duplicates
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_another_source_delivered_is_a_duplicate() {
        let seen = Seen::default();
        let (first, second) = (seen.add(), seen.add());
        assert_eq!((first, second), (0, 1));
        assert_eq!(seen.count(0, &[1, 2, 3]), 0);
        assert_eq!(seen.count(0, &[1, 4]), 0);
        assert_eq!(seen.count(1, &[2, 4, 5]), 2);
        assert_eq!(seen.count(0, &[5]), 1);
    }
}
