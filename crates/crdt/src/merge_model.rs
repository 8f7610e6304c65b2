//! The merge of all kinds of changes in its plainest form: one map from keys to winners.
//!
//! It holds everything in memory and scans where an index would be faster, so that it can be read at a glance.
//! Segments, tails and compactions are right when they answer as this does, whatever happened on the way.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use atproto::{Did, Nsid, Tid};

use crate::change::{AccountChange, Change, FloorChange, IdentityChange, RecordChange};
use crate::coverage::Coverage;
use crate::merge::{MergeKey, Order, shown_account, shown_host};

/// The state that some changes add up to, in whatever order and however often they were applied.
#[derive(Clone, Debug, Default)]
pub struct Model {
    winners: BTreeMap<MergeKey, Change>,
}

impl Model {
    /// Merges a change: it becomes the state of its key if its order is higher than the state's.
    ///
    /// A second delivery of the same change is dropped whole, so a row shows the first.
    pub fn apply(&mut self, change: &Change) {
        match self.winners.entry(change.key()) {
            Entry::Vacant(vacant) => {
                vacant.insert(change.clone());
            }
            Entry::Occupied(mut occupied) => {
                if change.order() > occupied.get().order() {
                    occupied.insert(change.clone());
                }
            }
        }
    }

    /// Merges all that another model holds.
    pub fn merge(&mut self, other: &Self) {
        other.winners.values().for_each(|change| self.apply(change));
    }

    /// Forgets what a floor has killed; every answer stays the same.
    pub fn compact(&mut self) {
        let dead: Vec<MergeKey> = self
            .all_records()
            .filter(|record| !self.stands(record))
            .map(RecordChange::key)
            .collect();
        for key in dead {
            self.winners.remove(&key);
        }
    }

    /// The visible rows of all kinds: live records of accounts that are not hidden, and the winners of every other key.
    pub fn rows(&self) -> impl Iterator<Item = &Change> {
        self.winners.values().filter(|change| match change {
            Change::Record(record) => self.is_live(record) && !self.is_hidden(&record.did),
            _ => true,
        })
    }

    /// The visible rows by what is the same in every delivery: equal maps are equal states.
    #[must_use]
    pub fn state(&self) -> BTreeMap<MergeKey, Order> {
        self.rows()
            .map(|change| (change.key(), change.order()))
            .collect()
    }

    /// The visible records: those that live, of accounts that are not hidden.
    pub fn records(&self) -> impl Iterator<Item = &RecordChange> {
        self.all_records()
            .filter(|record| self.is_live(record) && !self.is_hidden(&record.did))
    }

    /// Whether an account's records are in no answer, because the state that is shown is not active.
    #[must_use]
    pub fn is_hidden(&self, did: &Did) -> bool {
        let host = shown_host(self.identities(did));
        let states = self.states(did);
        shown_account(states, host).is_some_and(|state| !state.active)
    }

    /// The deletes that no floor has made superfluous.
    pub fn tombstones(&self) -> impl Iterator<Item = &RecordChange> {
        self.all_records()
            .filter(|record| record.body.is_none() && self.stands(record))
    }

    /// The floor of a repo for one collection, if any was raised.
    #[must_use]
    pub fn floor(&self, did: &Did, collection: &Nsid) -> Option<Tid> {
        self.floors(did)
            .filter(|floor| floor.coverage.covers(collection.as_str()))
            .map(|floor| floor.rev)
            .max()
    }

    fn is_live(&self, record: &RecordChange) -> bool {
        record.body.is_some() && self.stands(record)
    }

    /// What sources say of an account's state.
    fn states(&self, did: &Did) -> impl Iterator<Item = &AccountChange> {
        let least = MergeKey::Account {
            did: did.clone(),
            source: Arc::from(""),
        };
        self.winners
            .range(least..)
            .map_while(move |(_, change)| match change {
                Change::Account(state) if state.did == *did => Some(state),
                _ => None,
            })
    }

    /// What sources say of who an account is.
    fn identities(&self, did: &Did) -> impl Iterator<Item = &IdentityChange> {
        let least = MergeKey::Identity {
            did: did.clone(),
            source: Arc::from(""),
        };
        self.winners
            .range(least..)
            .map_while(move |(_, change)| match change {
                Change::Identity(identity) if identity.did == *did => Some(identity),
                _ => None,
            })
    }

    /// Whether no floor covers `record`.
    fn stands(&self, record: &RecordChange) -> bool {
        !self.floors(&record.did).any(|floor| floor.covers(record))
    }

    fn floors(&self, did: &Did) -> impl Iterator<Item = &FloorChange> {
        let least = MergeKey::Floor {
            did: did.clone(),
            coverage: Coverage::default(),
        };
        self.winners
            .range(least..)
            .map_while(move |(_, change)| match change {
                Change::Floor(floor) if floor.did == *did => Some(floor),
                _ => None,
            })
    }

    fn all_records(&self) -> impl Iterator<Item = &RecordChange> {
        self.winners.values().filter_map(|change| match change {
            Change::Record(record) => Some(record),
            _ => None,
        })
    }
}

impl<'a> FromIterator<&'a Change> for Model {
    fn from_iter<I: IntoIterator<Item = &'a Change>>(changes: I) -> Self {
        let mut model = Self::default();
        changes.into_iter().for_each(|change| model.apply(change));
        model
    }
}

#[cfg(test)]
mod tests;
