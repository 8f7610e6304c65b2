//! The bounded instances, each of which is explored whole.
//!
//! None holds everything at once; together they hold every pair of processes that share an object.

use super::bits::Bits;
use super::change::Change;
use super::situation::Situation;
use super::state::{CHANCES, Chance, WRITERS};

/// The bounds of one model.
#[derive(Clone, Debug)]
pub(super) struct Instance {
    pub name: &'static str,
    pub changes: Vec<Change>,
    /// Per writer: its batches.
    pub scripts: [Vec<Bits>; WRITERS],
    /// Per writer: the batch with which a resync begins; it goes on to the end of the script.
    pub resync: [Option<u8>; WRITERS],
    /// Whether the second writer runs on a clone of the first one's machine, under its id.
    pub clone: bool,
    /// Writer ids that may be minted, and numbers of each.
    pub ids: u8,
    pub numbers: u8,
    /// Versions of the manifest, genesis included.
    pub versions: u8,
    pub compactors: u8,
    pub collectors: u8,
    /// Whether a flush lists the log key by key; else in one instant.
    pub flush_lists_pages: bool,
    /// Whether a flush may take the tails of some of the writers; else it takes all that it saw.
    pub flush_takes_subsets: bool,
    /// Whether `upload_floor` may stay while `floor` rises.
    pub upload_floor_lags: bool,
    pub chances: [u8; CHANCES],
    /// The situations that this instance is there for.
    pub must_occur: Vec<Situation>,
}

impl Instance {
    fn with(self, chances: &[(Chance, u8)]) -> Instance {
        let mut all = [0; CHANCES];
        for &(chance, count) in chances {
            all[chance as usize] = count;
        }
        Instance {
            chances: all,
            ..self
        }
    }

    fn must_meet(self, situations: &[Situation]) -> Instance {
        Instance {
            must_occur: situations.to_vec(),
            ..self
        }
    }
}

/// A put, its late delete, another key, and a put after the delete.
fn four_changes() -> Vec<Change> {
    vec![
        Change::Put { key: 0, rev: 1 },
        Change::Delete { key: 0, rev: 2 },
        Change::Put { key: 1, rev: 1 },
        Change::Put { key: 0, rev: 3 },
    ]
}

fn batches(indices: &[usize]) -> Vec<Bits> {
    indices.iter().map(|&index| Bits::one(index)).collect()
}

fn plain(name: &'static str, first: &[usize], second: &[usize]) -> Instance {
    let scripts = [batches(first), batches(second)];
    Instance {
        name,
        changes: four_changes(),
        ids: if second.is_empty() { 1 } else { 2 },
        numbers: first.len().max(second.len()) as u8,
        scripts,
        resync: [None, None],
        clone: false,
        versions: 6,
        compactors: 1,
        collectors: 0,
        flush_lists_pages: false,
        flush_takes_subsets: false,
        upload_floor_lags: false,
        chances: [0; CHANCES],
        must_occur: Vec::new(),
    }
}

/// Two writers of two appends with every fault of a PUT and a crash, a flush, the deletion of log objects.
pub(super) fn append() -> Instance {
    Instance {
        ids: 3,
        ..plain("append", &[0, 3], &[1, 2])
    }
    .with(&[
        (Chance::LoseAppend, 1),
        (Chance::DelayAppend, 1),
        (Chance::Conflict, 1),
        (Chance::Crash, 1),
        (Chance::Flush, 2),
        (Chance::DeleteLog, 1),
    ])
    .must_meet(&[Situation::MergedNumberWritten])
}

/// Two writers of two appends, a flush that lists key by key.
pub(super) fn listing() -> Instance {
    Instance {
        flush_lists_pages: true,
        ..plain("listing", &[0, 3], &[1, 2])
    }
    .with(&[
        (Chance::DelayAppend, 1),
        (Chance::Flush, 2),
        (Chance::DeleteLog, 2),
        (Chance::DropMerged, 1),
    ])
    .must_meet(&[Situation::HoleListed, Situation::MergedNumberWritten])
}

/// Two writers of two appends, a reader that lists key by key, flushes and the deletion of log objects behind its back.
pub(super) fn view() -> Instance {
    plain("view", &[0, 3], &[1, 2])
        .with(&[
            (Chance::DelayAppend, 1),
            (Chance::Flush, 2),
            (Chance::DeleteLog, 1),
            (Chance::View, 1),
        ])
        .must_meet(&[Situation::HoleListed])
}

/// Two racing flushes and a merge, with every fault of a manifest's PUT, and a grant.
pub(super) fn race() -> Instance {
    Instance {
        compactors: 2,
        flush_takes_subsets: true,
        ..plain("race", &[0], &[1])
    }
    .with(&[
        (Chance::Flush, 2),
        (Chance::Merge, 1),
        (Chance::LoseCommit, 1),
        (Chance::DelayCommit, 1),
        (Chance::Conflict, 1),
        (Chance::Grant, 1),
    ])
    .must_meet(&[
        Situation::FlushesRace,
        Situation::RaceLost,
        Situation::CommitUnknown,
    ])
}

/// Two writers of two appends, two racing flushes, a merge, a collector.
pub(super) fn busy() -> Instance {
    Instance {
        compactors: 2,
        collectors: 1,
        ..plain("busy", &[0, 3], &[1, 2])
    }
    .with(&[
        (Chance::Flush, 2),
        (Chance::Merge, 1),
        (Chance::Collect, 1),
        (Chance::DeleteLog, 1),
    ])
    .must_meet(&[
        Situation::FlushesRace,
        Situation::RaceLost,
        Situation::UploadTooOld,
    ])
}

/// A delete that is flushed while its record's segment is merged, two merges of the same segments, a late put.
pub(super) fn marks() -> Instance {
    Instance {
        compactors: 2,
        flush_takes_subsets: true,
        versions: 7,
        ..plain("marks", &[0, 1], &[2])
    }
    .with(&[(Chance::Flush, 3), (Chance::Merge, 2)])
    .must_meet(&[
        Situation::FlushesRace,
        Situation::MergeOvertaken,
        Situation::MergeInputGone,
    ])
}

/// A put that arrives after its delete was merged.
pub(super) fn late_put() -> Instance {
    Instance {
        compactors: 1,
        flush_takes_subsets: true,
        ..plain("late put", &[1, 2], &[0])
    }
    .with(&[(Chance::Flush, 3), (Chance::Merge, 1)])
}

/// Two collectors, two compactors, numbers that are used again, late manifests.
pub(super) fn collect() -> Instance {
    Instance {
        compactors: 2,
        collectors: 1,
        upload_floor_lags: true,
        ..plain("collect", &[0], &[])
    }
    .with(&[
        (Chance::Flush, 2),
        (Chance::Collect, 2),
        (Chance::DelayCommit, 1),
        (Chance::DeleteLog, 1),
    ])
    .must_meet(&[
        Situation::RaceLost,
        Situation::CommitUnknown,
        Situation::UploadTooOld,
        Situation::NumberUsedAgain,
    ])
}

/// Two collectors at once.
pub(super) fn two_collectors() -> Instance {
    Instance {
        collectors: 2,
        upload_floor_lags: true,
        ..plain("two collectors", &[0], &[])
    }
    .with(&[
        (Chance::Flush, 2),
        (Chance::Collect, 2),
        (Chance::DeleteLog, 1),
    ])
    .must_meet(&[Situation::UploadTooOld, Situation::NumberUsedAgain])
}

/// All kinds of processes at once.
pub(super) fn all_kinds() -> Instance {
    Instance {
        compactors: 2,
        collectors: 1,
        versions: 5,
        ..plain("all kinds", &[0], &[1])
    }
    .with(&[
        (Chance::Flush, 2),
        (Chance::Merge, 1),
        (Chance::Collect, 1),
        (Chance::View, 1),
    ])
    .must_meet(&[
        Situation::FlushesRace,
        Situation::RaceLost,
        Situation::UploadTooOld,
    ])
}

/// A merge while its inputs are condemned.
pub(super) fn collect_merge() -> Instance {
    Instance {
        compactors: 2,
        collectors: 1,
        upload_floor_lags: true,
        ..plain("collect and merge", &[0], &[1])
    }
    .with(&[(Chance::Flush, 2), (Chance::Merge, 1), (Chance::Collect, 1)])
    .must_meet(&[Situation::MergeInputGone, Situation::UploadTooOld])
}

/// A reader while versions are collected and used again.
pub(super) fn collect_view() -> Instance {
    Instance {
        compactors: 2,
        collectors: 1,
        ..plain("collect and view", &[0], &[])
    }
    .with(&[
        (Chance::Flush, 2),
        (Chance::Collect, 1),
        (Chance::Grant, 1),
        (Chance::DeleteLog, 1),
        (Chance::View, 1),
    ])
    .must_meet(&[Situation::NumberUsedAgain, Situation::ChosenManifestGone])
}

/// A grant whose answer is lost, while versions are collected.
pub(super) fn grant() -> Instance {
    Instance {
        compactors: 2,
        collectors: 1,
        ..plain("grant", &[], &[])
    }
    .with(&[
        (Chance::Grant, 2),
        (Chance::Collect, 2),
        (Chance::DelayCommit, 1),
    ])
    .must_meet(&[Situation::CommitUnknown, Situation::NumberUsedAgain])
}

/// A machine was cloned: two processes append under one id.
pub(super) fn cloned() -> Instance {
    Instance {
        clone: true,
        ids: 3,
        ..plain("clone", &[0, 2, 3], &[1])
    }
    .with(&[
        (Chance::LoseAppend, 1),
        (Chance::DelayAppend, 1),
        (Chance::Flush, 2),
        (Chance::DeleteLog, 2),
        (Chance::DropMerged, 1),
    ])
    .must_meet(&[Situation::WriterOverdue, Situation::MergedNumberWritten])
}

/// A resync writes a record again, then the repo floor; its writer may crash or lose its id in the middle.
pub(super) fn resync() -> Instance {
    Instance {
        changes: vec![
            Change::Put { key: 0, rev: 1 },
            Change::Put { key: 0, rev: 5 },
            Change::RepoFloor {
                rev: 5,
                records: Bits::one(1),
            },
        ],
        resync: [Some(1), None],
        ids: 2,
        ..plain("resync", &[0, 1, 2], &[])
    }
    .with(&[
        (Chance::Conflict, 1),
        (Chance::Crash, 1),
        (Chance::Flush, 2),
        (Chance::DeleteLog, 1),
        (Chance::View, 1),
    ])
    .must_meet(&[Situation::RepoFloorMerged])
}
