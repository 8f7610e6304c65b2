//! Sets of dids, and what a segment holds for each did that it was asked for.
//!
//! A segment never changes, so what it was asked once it needs not be asked again: when the set changes, only the
//! difference is looked up.

use std::sync::Arc;

/// Some dids, sorted, each once. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Dids(Arc<Vec<Arc<str>>>);

impl Dids {
    /// The dids in `dids`, however often and in whatever order.
    #[must_use]
    pub fn new(mut dids: Vec<Arc<str>>) -> Self {
        // They come as a few sorted runs, which a stable sort merges.
        dids.sort();
        dids.dedup();
        Self(Arc::new(dids))
    }

    /// Whether `did` is one of them.
    #[must_use]
    pub fn contains(&self, did: &str) -> bool {
        self.0.binary_search_by(|other| (**other).cmp(did)).is_ok()
    }

    /// All of them, ascending.
    #[must_use]
    pub fn as_slice(&self) -> &[Arc<str>] {
        &self.0
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those that are not in `other`.
    pub(super) fn without(&self, other: &Self) -> Vec<Arc<str>> {
        if Arc::ptr_eq(&self.0, &other.0) {
            return Vec::new();
        }
        let mut others = other.0.iter().peekable();
        let mut rest = Vec::new();
        for did in self.0.iter() {
            while others.next_if(|other| *other < did).is_some() {}
            if others.peek() != Some(&did) {
                rest.push(Arc::clone(did));
            }
        }
        rest
    }

    /// These, or `known` if it holds the same: so that sets that are equal are one.
    pub(super) fn or_same(self, known: &Self) -> Self {
        if self.0 == known.0 {
            known.clone()
        } else {
            self
        }
    }

    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || (self.is_empty() && other.is_empty())
    }
}

/// What is held for one did.
pub(super) type ByDid<T> = (Arc<str>, T);

/// What one segment holds for each of some dids.
#[derive(Debug)]
pub(super) struct Answers<T> {
    asked: Dids,
    /// By did, ascending; those of which it holds nothing are left out.
    found: Arc<Vec<ByDid<T>>>,
}

impl<T> Default for Answers<T> {
    fn default() -> Self {
        Self {
            asked: Dids::default(),
            found: Arc::default(),
        }
    }
}

impl<T: Clone> Answers<T> {
    /// What it holds, by did.
    pub(super) fn found(&self) -> &[ByDid<T>] {
        &self.found
    }

    /// Whether it was asked for exactly `wanted`.
    pub(super) fn are_of(&self, wanted: &Dids) -> bool {
        self.asked.is(wanted)
    }

    /// The dids in `wanted` that it was not asked for.
    pub(super) fn missing(&self, wanted: &Dids) -> Vec<Arc<str>> {
        wanted.without(&self.asked)
    }

    /// The answers for `wanted`: `found` for those that were missing, ascending; also what is dropped of the old ones.
    pub(super) fn turned(&self, wanted: &Dids, found: Vec<ByDid<T>>) -> (Self, Vec<ByDid<T>>) {
        let unwanted = self.asked.without(wanted);
        let is_unwanted = |did: &Arc<str>| unwanted.binary_search(did).is_ok();
        let dropped: Vec<ByDid<T>> = match unwanted.is_empty() {
            true => Vec::new(),
            false => self
                .found
                .iter()
                .filter(|(did, _)| is_unwanted(did))
                .cloned()
                .collect(),
        };
        let found = if found.is_empty() && dropped.is_empty() {
            Arc::clone(&self.found)
        } else {
            let kept = self.found.iter().filter(|(did, _)| !is_unwanted(did));
            let mut all: Vec<ByDid<T>> = kept.cloned().chain(found).collect();
            all.sort_by(|(a, _), (b, _)| a.cmp(b));
            Arc::new(all)
        };
        let answers = Self {
            asked: wanted.clone(),
            found,
        };
        (answers, dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dids(names: &[&str]) -> Dids {
        Dids::new(names.iter().map(|name| Arc::from(*name)).collect())
    }

    fn texts(dids: &[Arc<str>]) -> Vec<&str> {
        dids.iter().map(|did| &**did).collect()
    }

    #[test]
    fn a_difference_is_what_only_the_one_holds() {
        let (a, b) = (dids(&["d", "a", "b", "a"]), dids(&["c", "b", "e"]));
        assert_eq!(texts(a.as_slice()), ["a", "b", "d"]);
        assert_eq!(texts(&a.without(&b)), ["a", "d"]);
        assert_eq!(texts(&b.without(&a)), ["c", "e"]);
        assert!(a.without(&a.clone()).is_empty());
        assert!(a.contains("b") && !a.contains("c"));
    }

    #[test]
    fn only_what_was_not_asked_is_missing() {
        let (first, second) = (dids(&["a", "b", "c"]), dids(&["b", "c", "d"]));
        let none = Answers::<u32>::default();
        assert_eq!(texts(&none.missing(&first)), ["a", "b", "c"]);
        let found = vec![(Arc::from("a"), 1), (Arc::from("c"), 3)];
        let (answers, dropped) = none.turned(&first, found);
        assert!(answers.are_of(&first) && dropped.is_empty());
        assert_eq!(texts(&answers.missing(&second)), ["d"]);
        let (answers, dropped) = answers.turned(&second, vec![(Arc::from("d"), 4)]);
        assert_eq!(dropped, [(Arc::from("a"), 1)]);
        assert_eq!(answers.found(), [(Arc::from("c"), 3), (Arc::from("d"), 4)]);
    }
}
