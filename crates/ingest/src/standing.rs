//! Where the repos of one source stand, as far as memory holds it; what it does not hold, the bucket is asked for.
//!
//! Two generations of bounded size: what is asked for moves to the young one, and when that is full it becomes the old
//! one, whose predecessor is dropped. So what was asked for lately stays, at a hash a look-up and no list of uses. The
//! owner must see to it that what is dropped can be found in the bucket: see [`Standings::is_full`].

use std::collections::HashMap;

use atproto::Did;

use crate::known::KnownHead;

/// Where one repo stands: what the bucket, or a frame since, said of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Its last commit; the outer none: nobody asked yet.
    pub(crate) head: Option<Option<KnownHead>>,
    /// Whether the account is active; the outer none: nobody asked yet.
    pub(crate) is_active: Option<Option<bool>>,
}

impl Standing {
    /// Whether the source delivered a commit of it before.
    pub(crate) fn is_met(&self) -> bool {
        self.head.flatten().is_some()
    }
}

/// The standings of a source's repos.
#[derive(Debug)]
pub(crate) struct Standings {
    young: HashMap<Did, Standing>,
    old: HashMap<Did, Standing>,
    repos_max: usize,
}

impl Standings {
    /// Holds about `repos_max` repos in each generation, some 170 bytes each.
    pub(crate) fn new(repos_max: usize) -> Self {
        Self {
            young: HashMap::new(),
            old: HashMap::new(),
            repos_max,
        }
    }

    /// What is known of a repo.
    pub(crate) fn get(&self, did: &Did) -> Standing {
        let known = self.young.get(did).or_else(|| self.old.get(did));
        known.copied().unwrap_or_default()
    }

    /// Sets what is known of a repo.
    pub(crate) fn set(&mut self, did: Did, standing: Standing) {
        self.young.insert(did, standing);
    }

    /// Whether a generation has to be dropped before more is set. What is in the old one was last set before the
    /// last [`turn`](Self::turn): it must be durable, and whoever is asked for it next must see it.
    pub(crate) fn is_full(&self) -> bool {
        self.young.len() >= self.repos_max
    }

    /// Drops the old generation.
    pub(crate) fn turn(&mut self) {
        self.old = std::mem::take(&mut self.young);
    }

    /// Forgets all.
    pub(crate) fn clear(&mut self) {
        self.young = HashMap::new();
        self.old = HashMap::new();
    }

    /// How many repos are held.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_the_rest_is_bounded() {
        let mut standings = Standings::new(10);
        let used = did(0);
        for number in 1..1000 {
            if standings.is_full() {
                standings.turn();
            }
            let standing = standings.get(&used);
            standings.set(used.clone(), active(true));
            assert!(number == 1 || standing == active(true), "{number}");
            standings.set(did(number), active(false));
            assert!(standings.len() <= 22, "{}", standings.len());
        }
        assert_eq!(standings.get(&did(1)), Standing::default());
        assert_eq!(standings.get(&did(999)), active(false));
        standings.clear();
        assert_eq!(standings.get(&used), Standing::default());
    }

    fn active(is_active: bool) -> Standing {
        Standing {
            is_active: Some(Some(is_active)),
            ..Standing::default()
        }
    }

    fn did(number: u32) -> Did {
        format!("did:web:a{number}.example").parse().expect("a DID")
    }
}
