//! Changes, and what a set of them answers: the law that every view is held to.
//!
//! Pure. The highest `rev` of a key wins, and a repo floor kills what is below it. A change is named by its
//! index in the instance's list, a set of changes is a [`Bits`].

use super::bits::Bits;

/// One change of the log.
#[derive(Clone, Copy, Debug)]
pub(super) enum Change {
    /// A record is created or updated.
    Put { key: u8, rev: u8 },
    /// A record is deleted.
    Delete { key: u8, rev: u8 },
    /// The end of a resync that wrote `records`: all that is below `rev` is dead.
    RepoFloor { rev: u8, records: Bits },
}

/// The changes of an instance, with what [`Changes::fold`] needs looked up once.
#[derive(Clone, Debug)]
pub(super) struct Changes {
    list: Vec<Change>,
    puts: Bits,
    deletes: Bits,
    repo_floors: Bits,
    /// Per change: the changes of its key with a higher `rev`.
    above: [Bits; 8],
    /// Per change: itself and the changes of its key with a higher `rev`.
    at_or_above: [Bits; 8],
}

impl Changes {
    pub(super) fn new(list: Vec<Change>) -> Changes {
        let kind = |wanted: fn(&Change) -> bool| -> Bits {
            list.iter()
                .enumerate()
                .filter(|(_, change)| wanted(change))
                .map(|(index, _)| Bits::one(index))
                .collect()
        };
        let mut changes = Changes {
            puts: kind(|change| matches!(change, Change::Put { .. })),
            deletes: kind(|change| matches!(change, Change::Delete { .. })),
            repo_floors: kind(|change| matches!(change, Change::RepoFloor { .. })),
            above: [Bits::EMPTY; 8],
            at_or_above: [Bits::EMPTY; 8],
            list,
        };
        for lower in (changes.puts | changes.deletes).iter() {
            for higher in (changes.puts | changes.deletes).iter() {
                if changes.key(lower) == changes.key(higher)
                    && changes.rev(higher) > changes.rev(lower)
                {
                    changes.above[lower] |= Bits::one(higher);
                }
            }
            changes.at_or_above[lower] = changes.above[lower] | Bits::one(lower);
        }
        changes
    }

    /// The rows that `set` stands for: last writer wins per key, nothing below the repo floor.
    pub(super) fn fold(&self, set: Bits) -> Bits {
        let repo_floor = self.repo_floor(set);
        self.keep(set & self.puts, |put| {
            !self.above[put].meets(set) && self.rev(put) >= repo_floor
        })
    }

    /// The rows and the tombstones of a segment made of `set`: one winner per key, repo floors aside.
    pub(super) fn winners(&self, set: Bits) -> (Bits, Bits) {
        let winners = self.keep(set & (self.puts | self.deletes), |change| {
            !self.above[change].meets(set)
        });
        (winners & self.puts, winners & self.deletes)
    }

    /// The highest repo floor in `set`, 0 if there is none.
    pub(super) fn repo_floor(&self, set: Bits) -> u8 {
        (set & self.repo_floors)
            .iter()
            .map(|floor| self.rev(floor))
            .max()
            .unwrap_or(0)
    }

    /// The members of `rows` that a change in `by` outdates.
    pub(super) fn outdated(&self, rows: Bits, by: Bits) -> Bits {
        self.keep(rows, |row| self.above[row].meets(by))
    }

    /// The members of `rows` that a change in `by` outdates or repeats.
    pub(super) fn outdated_or_repeated(&self, rows: Bits, by: Bits) -> Bits {
        self.keep(rows, |row| self.at_or_above[row].meets(by))
    }

    /// The members of `set` that are not below `repo_floor`.
    pub(super) fn not_below(&self, set: Bits, repo_floor: u8) -> Bits {
        if repo_floor == 0 {
            set
        } else {
            self.keep(set, |change| self.rev(change) >= repo_floor)
        }
    }

    /// Whether each repo floor in `set` stands there with the records of its resync.
    pub(super) fn floors_have_records(&self, set: Bits) -> bool {
        (set & self.repo_floors)
            .iter()
            .all(|index| match self.list[index] {
                Change::RepoFloor { records, .. } => records.is_within(set),
                Change::Put { .. } | Change::Delete { .. } => true,
            })
    }

    fn keep(&self, set: Bits, wanted: impl Fn(usize) -> bool) -> Bits {
        set.iter()
            .filter(|&index| wanted(index))
            .map(Bits::one)
            .collect()
    }

    fn rev(&self, index: usize) -> u8 {
        match self.list[index] {
            Change::Put { rev, .. }
            | Change::Delete { rev, .. }
            | Change::RepoFloor { rev, .. } => rev,
        }
    }

    fn key(&self, index: usize) -> Option<u8> {
        match self.list[index] {
            Change::Put { key, .. } | Change::Delete { key, .. } => Some(key),
            Change::RepoFloor { .. } => None,
        }
    }
}
