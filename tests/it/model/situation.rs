//! Situations that an instance must bring about: a model that never meets the danger proves nothing.

use super::bits::Bits;
use super::bucket::{IDS, Manifest};
use super::protocol::Protocol;
use super::state::{CommitPhase, Committer, ReadPhase, State, Task};
use stateright::Property;

/// A dangerous situation that the protocol as written survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Situation {
    /// A process has listed a number, but not the one before it, which is above `merged`.
    HoleListed,
    /// A log object stands at or below `merged`.
    MergedNumberWritten,
    /// A writer that shares its id had no confirmed answer for half the grace.
    WriterOverdue,
    /// Two flushes of one tail are under way.
    FlushesRace,
    /// A committer creates a version that is there already.
    RaceLost,
    /// A committer drafts again without knowing whether its commit was made.
    CommitUnknown,
    /// A row was marked that a merge under way has taken.
    MergeOvertaken,
    /// A merge is under way whose input is named no more.
    MergeInputGone,
    /// An upload is under way whose base is below `upload_floor`.
    UploadTooOld,
    /// A version that was collected is there again, beside the chain.
    NumberUsedAgain,
    /// A reader gets a manifest that is gone, or another than it had listed.
    ChosenManifestGone,
    /// A repo floor is in the chain.
    RepoFloorMerged,
}

impl Situation {
    /// The property that `self` occurs.
    pub(super) fn property(self) -> Property<Protocol> {
        match self {
            Situation::HoleListed => {
                Property::sometimes("hole listed", |_, state: &State| hole_listed(state))
            }
            Situation::MergedNumberWritten => {
                Property::sometimes("merged number written", |_, state: &State| {
                    let merged = newest(state).merged;
                    (0..IDS).any(|id| {
                        state
                            .bucket
                            .numbers(id)
                            .meets(Bits::below(usize::from(merged[id])))
                    })
                })
            }
            Situation::WriterOverdue => {
                Property::sometimes("writer overdue", |_, state: &State| {
                    state.writers.iter().any(|writer| writer.is_overdue)
                })
            }
            Situation::FlushesRace => {
                Property::sometimes("flushes race", |_, state: &State| flushes_race(state))
            }
            Situation::RaceLost => Property::sometimes("race lost", |_, state: &State| {
                state
                    .committers
                    .iter()
                    .any(|committer| match committer.phase {
                        CommitPhase::Creating { version, .. } => {
                            state.bucket.manifests[usize::from(version)].is_there()
                        }
                        _ => false,
                    })
            }),
            Situation::CommitUnknown => {
                Property::sometimes("commit unknown", |_, state: &State| {
                    drafting(state).any(|committer| committer.unknown_at > 0)
                })
            }
            Situation::MergeOvertaken => {
                Property::sometimes("merge overtaken", |_, state: &State| {
                    let newest = newest(state);
                    drafting(state).any(|committer| match committer.task {
                        Task::Merge(plan) => {
                            newest.marks[usize::from(plan.inputs[0])].meets(plan.from_first)
                        }
                        _ => false,
                    })
                })
            }
            Situation::MergeInputGone => {
                Property::sometimes("merge input gone", |_, state: &State| {
                    let named = newest(state).segments;
                    drafting(state).any(|committer| match committer.task {
                        Task::Merge(plan) => plan
                            .inputs
                            .iter()
                            .any(|&input| !named.has(usize::from(input))),
                        _ => false,
                    })
                })
            }
            Situation::UploadTooOld => Property::sometimes("upload too old", |_, state: &State| {
                let uploads = |committer: &&Committer| {
                    matches!(committer.task, Task::Flush(_) | Task::Merge(_))
                };
                drafting(state)
                    .filter(uploads)
                    .any(|committer| committer.base < newest(state).upload_floor)
            }),
            Situation::NumberUsedAgain => {
                Property::sometimes("number used again", |_, state: &State| {
                    let manifests = state.bucket.manifests.iter().zip(state.ghost.chain);
                    manifests
                        .into_iter()
                        .any(|(manifest, commit)| manifest.is_there() && manifest.commit != commit)
                })
            }
            Situation::ChosenManifestGone => {
                Property::sometimes("chosen manifest gone", |_, state: &State| {
                    match state.reader.phase {
                        ReadPhase::Getting { version, etag } => {
                            state.bucket.manifests[usize::from(version)].commit != etag
                        }
                        _ => false,
                    }
                })
            }
            Situation::RepoFloorMerged => {
                Property::sometimes("repo floor merged", |_, state: &State| {
                    newest(state).repo_floor > 0
                })
            }
        }
    }
}

fn newest(state: &State) -> &Manifest {
    &state.bucket.manifests[usize::from(state.ghost.top)]
}

fn drafting(state: &State) -> impl Iterator<Item = &Committer> {
    state
        .committers
        .iter()
        .filter(|committer| committer.phase == CommitPhase::Drafting)
}

fn hole_listed(state: &State) -> bool {
    let merged = newest(state).merged;
    let listings = state
        .committers
        .iter()
        .filter_map(|committer| match committer.phase {
            CommitPhase::Listing { listing, .. } => Some(listing),
            _ => None,
        });
    listings.chain([state.reader.listing]).any(|listing| {
        (0..IDS).any(|id| {
            let before = listing[id].iter().last().map_or(Bits::EMPTY, Bits::below);
            !(before - Bits::below(usize::from(merged[id])) - listing[id]).is_empty()
        })
    })
}

fn flushes_race(state: &State) -> bool {
    let taken = state
        .committers
        .iter()
        .filter_map(|committer| match committer.task {
            Task::Flush(plan) => Some(plan.changes),
            _ => None,
        });
    let mut all = Bits::EMPTY;
    taken.into_iter().any(|changes| {
        let again = all.meets(changes);
        all |= changes;
        again
    })
}
