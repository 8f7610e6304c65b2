//! Repo floors as tables hold them: by did, each with the collections that it covers.

use std::collections::{BTreeMap, HashMap};

use crdt::Coverage;
use crdt::atproto::Tid;

/// Some repo floors. Of several that cover a collection of one repo the highest counts.
#[derive(Clone, Debug, Default)]
pub struct Floors {
    by_did: HashMap<String, BTreeMap<Coverage, Tid>>,
}

impl Floors {
    /// Raises the floor of `did` for `coverage` to `rev`.
    pub fn raise(&mut self, did: &str, coverage: Coverage, rev: Tid) {
        let floor = self
            .by_did
            .entry(did.to_owned())
            .or_default()
            .entry(coverage)
            .or_insert(rev);
        *floor = (*floor).max(rev);
    }

    /// The floor below which records of `did` in `collection` are dead.
    #[must_use]
    pub fn of(&self, did: &str, collection: &str) -> Option<Tid> {
        let floors = self.by_did.get(did)?.iter();
        floors
            .filter(|(coverage, _)| coverage.covers(collection))
            .map(|(_, rev)| *rev)
            .max()
    }

    /// Every floor, as (did, coverage, rev).
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Coverage, Tid)> {
        self.by_did.iter().flat_map(|(did, floors)| {
            floors
                .iter()
                .map(|(coverage, rev)| (did.as_str(), coverage, *rev))
        })
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_did.is_empty()
    }
}
