//! Committing: plan, upload, draft, create, doubt, confirm.
//!
//! Planning and its upload are one step, as are reading the newest manifest and applying the task to it. Between any two
//! steps the process may stall for ever. Only a collector deletes, after its commit is confirmed.

use super::bits::Bits;
use super::bucket::{Listing, Manifest, SEGMENTS, VERSIONS};
use super::protocol::Protocol;
use super::state::{
    Action, Chance, CommitPhase, Committer, DelayedCommit, FIRST_COLLECTOR, FlushPlan, MergePlan,
    OUTCOMES, Outcome, State, Task,
};
use super::step::{SafetyStep, Violation};

impl Protocol {
    pub(super) fn commit_actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (committer, process) in (0_u8..).zip(&state.committers) {
            match process.phase {
                CommitPhase::Idle => self.begin_actions(state, committer, actions),
                CommitPhase::Listing {
                    page,
                    listing,
                    first,
                } => {
                    if page < self.pages() && self.instance.flush_lists_pages {
                        actions.push(Action::ListPageForFlush { committer });
                    } else {
                        self.plan_actions(state, committer, &listing, first, actions);
                    }
                }
                CommitPhase::Drafting => actions.push(Action::Draft { committer }),
                CommitPhase::Creating { .. } => {
                    actions.extend(OUTCOMES.map(|outcome| Action::Create { committer, outcome }));
                }
                CommitPhase::Reading { .. } => actions.push(Action::ReadCommit { committer }),
                CommitPhase::Confirming { .. } => actions.push(Action::Confirm { committer }),
                CommitPhase::Deleting {
                    segments,
                    manifests,
                } => {
                    let segment = |index| Action::DeleteSegment {
                        committer,
                        segment: index as u8,
                    };
                    let manifest = |index| Action::DeleteManifest {
                        committer,
                        version: index as u8,
                    };
                    actions.extend(segments.iter().map(segment));
                    actions.extend(manifests.iter().map(manifest));
                }
            }
        }
        if state.delayed_commit.is_some() {
            actions.push(Action::ApplyDelayedCommit);
        }
    }

    fn begin_actions(&self, state: &State, committer: u8, actions: &mut Vec<Action>) {
        let index = usize::from(committer);
        let first = if index < FIRST_COLLECTOR {
            0
        } else {
            FIRST_COLLECTOR
        };
        let count = if index < FIRST_COLLECTOR {
            self.instance.compactors
        } else {
            self.instance.collectors
        };
        // Processes of one kind are alike and kept sorted, idle ones first: only the last idle one begins.
        let is_last_idle =
            index + 1 == first + 2 || state.committers[index + 1].phase != CommitPhase::Idle;
        let busy = (first..first + 2)
            .filter(|&other| state.committers[other].phase != CommitPhase::Idle)
            .count();
        if !is_last_idle || busy >= usize::from(count) {
            return;
        }
        let newest = state.bucket.newest() as u8;
        let manifest = state.bucket.manifests[usize::from(newest)];
        if index >= FIRST_COLLECTOR {
            if state.may(Chance::Collect) && newest + 1 < self.instance.versions {
                for floor in [newest, newest + 1]
                    .into_iter()
                    .filter(|&floor| floor > manifest.floor)
                {
                    actions.push(Action::BeginCollect {
                        committer,
                        floor,
                        upload_floor: floor,
                    });
                    if self.instance.upload_floor_lags {
                        actions.push(Action::BeginCollect {
                            committer,
                            floor,
                            upload_floor: manifest.upload_floor,
                        });
                    }
                }
            }
            return;
        }
        if state.may(Chance::Grant) && newest + 1 < self.instance.versions {
            actions.push(Action::BeginGrant { committer });
        }
        if usize::from(state.uploads) == SEGMENTS {
            return;
        }
        if state.may(Chance::Flush) {
            actions.push(Action::BeginFlush { committer });
        }
        if state.may(Chance::Merge) {
            for first in manifest.segments.iter() {
                let later = manifest.segments.iter().filter(|&second| second > first);
                actions.extend(later.map(|second| Action::BeginMerge {
                    committer,
                    inputs: [first as u8, second as u8],
                }));
            }
        }
    }

    fn plan_actions(
        &self,
        state: &State,
        committer: u8,
        listing: &Listing,
        first: Option<(u8, Manifest)>,
        actions: &mut Vec<Action>,
    ) {
        let (_, view) = first.unwrap_or_else(|| newest(state));
        let ends = self.tail_ends(listing, &view.merged);
        let writers: Bits = (0..ends.len())
            .filter(|&id| ends[id] > view.merged[id])
            .map(Bits::one)
            .collect();
        let choices = writers
            .nonempty_subsets()
            .filter(|&some| self.instance.flush_takes_subsets || some == writers);
        for writers in choices {
            actions.push(Action::PlanFlush {
                committer,
                writers,
                lost: false,
            });
            if !self.keeps(SafetyStep::GetAfterUnknownUpload) {
                actions.push(Action::PlanFlush {
                    committer,
                    writers,
                    lost: true,
                });
            }
        }
        if writers.is_empty() {
            actions.push(Action::PlanFlush {
                committer,
                writers,
                lost: false,
            });
        }
    }

    pub(super) fn begin_flush(&self, state: &mut State, index: usize) -> Option<()> {
        state.spend(Chance::Flush)?;
        let first = (!self.keeps(SafetyStep::LogListedFirst)).then(|| newest(state));
        let listing = if self.instance.flush_lists_pages {
            Listing::default()
        } else {
            state.bucket.list_log()
        };
        state.committers[index].phase = CommitPhase::Listing {
            page: 0,
            listing,
            first,
        };
        Some(())
    }

    pub(super) fn list_page_for_flush(&self, state: &mut State, index: usize) -> Option<()> {
        let CommitPhase::Listing { page, listing, .. } = &mut state.committers[index].phase else {
            return None;
        };
        self.list_page(&state.bucket, page, listing);
        Some(())
    }

    /// Reads the newest manifest and the tails of `writers`, and uploads their segment.
    pub(super) fn plan_flush(
        &self,
        state: &mut State,
        index: usize,
        writers: Bits,
        lost: bool,
    ) -> Option<()> {
        let CommitPhase::Listing { listing, first, .. } = state.committers[index].phase else {
            return None;
        };
        let (base, view) = first.unwrap_or_else(|| newest(state));
        let from = view.merged;
        let ends = self.tail_ends(&listing, &from);
        let to = std::array::from_fn(|id| if writers.has(id) { ends[id] } else { from[id] });
        let tail = state
            .bucket
            .read_log(&listing, &from, &to)
            .filter(|_| !writers.is_empty());
        let Some(changes) = tail else {
            // Nothing to do, or the tail is merged and gone: the view would be opened again.
            state.committers[index] = Committer::default();
            return Some(());
        };
        if lost {
            state.spend(Chance::Conflict)?;
        }
        let segment = state.uploads;
        state.uploads += 1;
        state.bucket.segments[usize::from(segment)] = self.flushed(changes, base);
        state.bucket.segments[usize::from(segment)].is_there = !lost;
        state.committers[index] = Committer {
            phase: CommitPhase::Drafting,
            task: Task::Flush(FlushPlan {
                segment,
                from,
                to,
                changes,
                judged: view.segments,
            }),
            commit: state.take_commit_id(),
            base,
            unknown_at: 0,
        };
        Some(())
    }

    /// Reads the newest manifest and two of its segments, and uploads what they merge into.
    pub(super) fn begin_merge(
        &self,
        state: &mut State,
        index: usize,
        inputs: [u8; 2],
    ) -> Option<()> {
        state.spend(Chance::Merge)?;
        let (base, view) = newest(state);
        let segment = state.uploads;
        state.uploads += 1;
        let (output, from_first) = self.merged(&state.bucket, &view, inputs, base);
        state.bucket.segments[usize::from(segment)] = output;
        state.committers[index] = Committer {
            phase: CommitPhase::Drafting,
            task: Task::Merge(MergePlan {
                segment,
                inputs,
                from_first,
            }),
            commit: state.take_commit_id(),
            base,
            unknown_at: 0,
        };
        Some(())
    }

    pub(super) fn begin_collect(
        &self,
        state: &mut State,
        index: usize,
        floor: u8,
        upload_floor: u8,
    ) -> Option<()> {
        state.spend(Chance::Collect)?;
        if !self.keeps(SafetyStep::CondemnBeforeDelete) {
            let (version, _) = newest(state);
            let (segments, manifests) = condemned(state, floor.min(version), upload_floor);
            state.committers[index].phase = CommitPhase::Deleting {
                segments,
                manifests,
            };
            return Some(());
        }
        self.begin_at_newest(
            state,
            index,
            Task::Collect {
                floor,
                upload_floor,
            },
        )
    }

    pub(super) fn begin_grant(&self, state: &mut State, index: usize) -> Option<()> {
        state.spend(Chance::Grant)?;
        self.begin_at_newest(state, index, Task::Grant)
    }

    /// Begins a task that uploads nothing, and drafts it at once.
    fn begin_at_newest(&self, state: &mut State, index: usize, task: Task) -> Option<()> {
        let commit = state.take_commit_id();
        state.committers[index] = Committer {
            phase: CommitPhase::Drafting,
            task,
            commit,
            base: 0,
            unknown_at: 0,
        };
        self.draft_commit(state, index)
    }

    /// Reads the newest manifest and applies the task to it, unless the chain shows that this has happened.
    pub(super) fn draft_commit(&self, state: &mut State, index: usize) -> Option<()> {
        let (version, manifest) = newest(state);
        let committer = state.committers[index];
        if committer.unknown_at > 0 && self.keeps(SafetyStep::SearchChainForCommit) {
            let is_ours = |&version: &u8| {
                state.bucket.manifests[usize::from(version)].commit == committer.commit
            };
            if let Some(version) = (manifest.floor..=version).find(is_ours) {
                state.committers[index].phase = CommitPhase::Confirming { version };
                return Some(());
            }
        }
        if self.is_past_knowing(&committer, &manifest) {
            state.committers[index] = Committer::default();
            return Some(());
        }
        match self.draft(&state.bucket, &committer, &manifest) {
            Some(_) if version + 1 >= self.instance.versions => return None,
            Some(draft) => {
                state.committers[index].phase = CommitPhase::Creating {
                    version: version + 1,
                    draft,
                };
            }
            None => self.give_up(state, index),
        }
        Some(())
    }

    /// Whether a grant may have been made by a version that is collected now: only its caller can say what to do.
    fn is_past_knowing(&self, committer: &Committer, newest: &Manifest) -> bool {
        committer.task == Task::Grant
            && committer.unknown_at > 0
            && committer.unknown_at < newest.floor
            && self.keeps(SafetyStep::UnknownBehindFloor)
    }

    /// Ends a task whose precondition does not hold any more. Its upload stays: a late PUT of its manifest may land yet.
    fn give_up(&self, state: &mut State, index: usize) {
        let committer = std::mem::take(&mut state.committers[index]);
        if let Task::Flush(FlushPlan { segment, .. }) | Task::Merge(MergePlan { segment, .. }) =
            committer.task
            && !self.keeps(SafetyStep::OnlyCollectorDeletes)
        {
            state.bucket.segments[usize::from(segment)].is_there = false;
        }
    }

    /// One PUT of the drafted manifest.
    pub(super) fn create(&self, state: &mut State, index: usize, outcome: Outcome) -> Option<()> {
        let CommitPhase::Creating { version, draft } = state.committers[index].phase else {
            return None;
        };
        let was_absent = !state.bucket.manifests[usize::from(version)].is_there();
        let applies = was_absent || !self.keeps(SafetyStep::CreateManifestIfAbsent);
        match outcome {
            Outcome::Answered if applies => {
                state.write_manifest(version, draft);
                state.committers[index].phase = CommitPhase::Confirming { version };
                return Some(());
            }
            Outcome::Answered => {}
            Outcome::AppliedUnanswered => {
                if !applies {
                    return None;
                }
                state.spend(Chance::LoseCommit)?;
                state.write_manifest(version, draft);
            }
            Outcome::DroppedUnanswered => state.spend(Chance::LoseCommit)?,
            Outcome::Delayed => {
                if state.delayed_commit.is_some() {
                    return None;
                }
                state.spend(Chance::DelayCommit)?;
                state.delayed_commit = Some(DelayedCommit {
                    version,
                    manifest: draft,
                });
            }
            Outcome::Conflicted => {
                if !was_absent {
                    return None;
                }
                state.spend(Chance::Conflict)?;
            }
        }
        let committer = &mut state.committers[index];
        if !self.keeps(SafetyStep::GetAfterUnknownCommit) {
            committer.phase = CommitPhase::Confirming { version };
            return Some(());
        }
        if !matches!(outcome, Outcome::Answered | Outcome::Conflicted) && committer.unknown_at == 0
        {
            committer.unknown_at = version;
        }
        committer.phase = CommitPhase::Reading { version };
        Some(())
    }

    /// The GET after a lost answer or `AlreadyExists`: ours only if it holds our commit id.
    pub(super) fn read_commit(&self, state: &mut State, index: usize) -> Option<()> {
        let committer = &mut state.committers[index];
        let CommitPhase::Reading { version } = committer.phase else {
            return None;
        };
        let is_ours = state.bucket.manifests[usize::from(version)].commit == committer.commit;
        committer.phase = if is_ours {
            CommitPhase::Confirming { version }
        } else {
            CommitPhase::Drafting
        };
        Some(())
    }

    /// Compares the created version with the newest floor. Below it the number may have been collected and used again:
    /// the task is applied again, and its own precondition says whether it had happened.
    pub(super) fn confirm(&self, state: &mut State, index: usize) -> Option<()> {
        let committer = state.committers[index];
        let CommitPhase::Confirming { version } = committer.phase else {
            return None;
        };
        let newest = if self.keeps(SafetyStep::NewestByList) {
            state.bucket.newest()
        } else {
            let follows =
                |next: &usize| *next < VERSIONS && state.bucket.manifests[*next].is_there();
            (usize::from(version) + 1..)
                .take_while(follows)
                .last()
                .unwrap_or(usize::from(version))
        };
        if version < state.bucket.manifests[newest].floor
            && self.keeps(SafetyStep::FloorCheckAfterCreate)
        {
            let unknown_at = if committer.unknown_at == 0 {
                version
            } else {
                committer.unknown_at.min(version)
            };
            state.committers[index] = Committer {
                phase: CommitPhase::Drafting,
                unknown_at,
                ..committer
            };
            return Some(());
        }
        if state.ghost.chain[usize::from(version)] != committer.commit {
            state.ghost.violation = Some(Violation::FalseBelief);
        }
        state.committers[index] = Committer::default();
        if matches!(committer.task, Task::Collect { .. }) {
            let own = state.bucket.manifests[usize::from(version)];
            let (segments, manifests) = condemned(state, own.floor, own.upload_floor);
            if !(segments | manifests).is_empty() {
                state.committers[index].phase = CommitPhase::Deleting {
                    segments,
                    manifests,
                };
            }
        }
        Some(())
    }

    /// Deletes one condemned object; a key that is gone already is deleted too.
    pub(super) fn delete_condemned(
        &self,
        state: &mut State,
        index: usize,
        gone: (Bits, Bits),
    ) -> Option<()> {
        let CommitPhase::Deleting {
            segments,
            manifests,
        } = &mut state.committers[index].phase
        else {
            return None;
        };
        *segments = *segments - gone.0;
        *manifests = *manifests - gone.1;
        if (*segments | *manifests).is_empty() {
            state.committers[index] = Committer::default();
        }
        for segment in gone.0.iter() {
            state.bucket.segments[segment].is_there = false;
        }
        for version in gone.1.iter() {
            state.bucket.manifests[version] = Manifest::default();
        }
        Some(())
    }

    pub(super) fn apply_delayed_commit(&self, state: &mut State) -> Option<()> {
        let DelayedCommit { version, manifest } = state.delayed_commit.take()?;
        let is_absent = !state.bucket.manifests[usize::from(version)].is_there();
        if is_absent || !self.keeps(SafetyStep::CreateManifestIfAbsent) {
            state.write_manifest(version, manifest);
        }
        Some(())
    }

    /// A commit that drops the `merged` entry of a writer whose log objects are all gone.
    pub(super) fn drop_merged(&self, state: &mut State, id: usize) -> Option<()> {
        state.spend(Chance::DropMerged)?;
        let (version, mut manifest) = newest(state);
        let is_silent = manifest.merged[id] > 0 && state.bucket.numbers(id).is_empty();
        if !is_silent || version + 1 >= self.instance.versions {
            return None;
        }
        manifest.merged[id] = 0;
        manifest.commit = state.take_commit_id();
        state.write_manifest(version + 1, manifest);
        Some(())
    }
}

/// The newest manifest and its version, as one LIST and one GET find it.
fn newest(state: &State) -> (u8, Manifest) {
    let version = state.bucket.newest();
    (version as u8, state.bucket.manifests[version])
}

/// What a collector may delete: uploads with a base below `upload_floor` that no manifest from `floor` on names, and
/// the manifests below `floor`.
fn condemned(state: &State, floor: u8, upload_floor: u8) -> (Bits, Bits) {
    let named: Bits = (usize::from(floor)..VERSIONS)
        .map(|version| state.bucket.manifests[version].segments)
        .collect();
    let is_unnamed = |&segment: &usize| {
        let object = state.bucket.segments[segment];
        object.is_there && object.base < upload_floor && !named.has(segment)
    };
    let segments = (0..SEGMENTS).filter(is_unnamed).map(Bits::one).collect();
    (segments, Bits::below(usize::from(floor)))
}
