//! The protocol with some of its steps in force, as a model that `stateright` can check.

use super::bits::Bits;
use super::bucket::{Bucket, GENESIS};
use super::change::Changes;
use super::instance::Instance;
use super::state::{Action, FIRST_COLLECTOR, Ghost, State, WRITERS, Writer, WriterPhase};
use super::step::SafetyStep;
use stateright::{Model, Property};

/// The name of the one property: the judge finds nothing wrong.
pub(super) const INVARIANTS: &str = "the invariants hold";

/// An instance of the protocol, with at most one step switched off.
#[derive(Clone, Debug)]
pub(super) struct Protocol {
    pub instance: Instance,
    pub changes: Changes,
    /// Per writer: the batches that it appends.
    pub scripts: [Vec<Bits>; WRITERS],
    off: Option<SafetyStep>,
}

impl Protocol {
    /// `instance` with all steps in force but `off`; without one of them it need not bring its situations about.
    pub(super) fn new(mut instance: Instance, off: Option<SafetyStep>) -> Protocol {
        if off.is_some() {
            instance.must_occur.clear();
        }
        let mut scripts = instance.scripts.clone();
        if off == Some(SafetyStep::RepoFloorAfterRecords) {
            for (script, resync) in scripts.iter_mut().zip(instance.resync) {
                if let Some(resync) = resync {
                    script[usize::from(resync)..].reverse();
                }
            }
        }
        Protocol {
            changes: Changes::new(instance.changes.clone()),
            scripts,
            instance,
            off,
        }
    }

    /// Whether `step` is in force.
    pub(super) fn keeps(&self, step: SafetyStep) -> bool {
        self.off != Some(step)
    }

    fn initial(&self) -> State {
        let mut ghost = Ghost::default();
        ghost.chain[0] = GENESIS;
        let mut ids_minted = 0;
        let writers = std::array::from_fn(|index| {
            if self.scripts[index].is_empty() {
                return Writer::default();
            }
            let id = if self.instance.clone { 0 } else { index as u8 };
            ids_minted = id + 1;
            Writer {
                phase: WriterPhase::Sending,
                id,
                ..Writer::default()
            }
        });
        State {
            bucket: Bucket::new(),
            delayed_append: None,
            delayed_commit: None,
            writers,
            committers: Default::default(),
            reader: Default::default(),
            ids_minted,
            uploads: 0,
            commits: 0,
            chances: self.instance.chances,
            ghost,
        }
    }

    /// Takes one step; none where it is not possible.
    fn take(&self, state: &mut State, action: Action) -> Option<()> {
        let at = usize::from;
        match action {
            Action::Append { writer, outcome } => self.append(state, at(writer), outcome),
            Action::ReadBack { writer } => self.read_back(state, at(writer)),
            Action::Restart { writer } => self.restart(state, at(writer)),
            Action::SendNext { writer } => self.send_next(state, at(writer)),
            Action::ApplyDelayedAppend { answered } => self.apply_delayed_append(state, answered),
            Action::ApplyDelayedCommit => self.apply_delayed_commit(state),
            Action::DeleteLog { id, number, .. } => self.delete_log(state, at(id), at(number)),
            Action::DropMerged { id } => self.drop_merged(state, at(id)),
            Action::OpenView { hint } => self.open_view(state, hint),
            Action::ListPageForView => self.list_page_for_view(state),
            Action::ListManifests => self.list_manifests(state),
            Action::GetManifest => self.get_manifest(state),
            Action::BeginFlush { committer } => self.begin_flush(state, at(committer)),
            Action::ListPageForFlush { committer } => {
                self.list_page_for_flush(state, at(committer))
            }
            Action::PlanFlush {
                committer,
                writers,
                lost,
            } => self.plan_flush(state, at(committer), writers, lost),
            Action::BeginMerge { committer, inputs } => {
                self.begin_merge(state, at(committer), inputs)
            }
            Action::BeginCollect {
                committer,
                floor,
                upload_floor,
            } => self.begin_collect(state, at(committer), floor, upload_floor),
            Action::BeginGrant { committer } => self.begin_grant(state, at(committer)),
            Action::Draft { committer } => self.draft_commit(state, at(committer)),
            Action::Create { committer, outcome } => self.create(state, at(committer), outcome),
            Action::ReadCommit { committer } => self.read_commit(state, at(committer)),
            Action::Confirm { committer } => self.confirm(state, at(committer)),
            Action::DeleteSegment { committer, segment } => {
                self.delete_condemned(state, at(committer), (Bits::one(at(segment)), Bits::EMPTY))
            }
            Action::DeleteManifest { committer, version } => {
                self.delete_condemned(state, at(committer), (Bits::EMPTY, Bits::one(at(version))))
            }
        }
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![self.initial()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.append_actions(state, actions);
        self.log_deletions(state, actions);
        self.view_actions(state, actions);
        self.commit_actions(state, actions);
        if !self.keeps(SafetyStep::MergedEntriesKept) {
            actions.extend((0..self.instance.ids).map(|id| Action::DropMerged { id }));
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = *state;
        self.take(&mut next, action)?;
        // Processes of one kind are alike: which of them stands where makes no difference.
        let (compactors, collectors) = next.committers.split_at_mut(FIRST_COLLECTOR);
        compactors.sort_unstable();
        collectors.sort_unstable();
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let holds = Property::always(INVARIANTS, |protocol: &Protocol, state| {
            protocol.judge(state).is_none()
        });
        let occur = self
            .instance
            .must_occur
            .iter()
            .map(|situation| situation.property());
        std::iter::once(holds).chain(occur).collect()
    }
}
