//! The state of the model: the bucket, PUTs in flight, the processes, what may still go wrong, and the judge's ghosts.

use super::bits::Bits;
use super::bucket::{Bucket, Ends, Listing, Manifest, VERSIONS};
use super::step::Violation;

/// Processes that append.
pub(super) const WRITERS: usize = 2;
/// Processes that commit: the first two compact, the others collect.
pub(super) const COMMITTERS: usize = 4;
/// The first committer that collects.
pub(super) const FIRST_COLLECTOR: usize = 2;

/// An event that an instance bounds: how often each may still occur.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chance {
    /// The answer to an append's PUT is lost, whether it was applied or not.
    LoseAppend,
    /// An append's PUT is applied at some later step.
    DelayAppend,
    /// A PUT answers `AlreadyExists` (a 409) and writes nothing.
    Conflict,
    /// A writer crashes and starts again.
    Crash,
    /// The answer to a manifest's PUT is lost.
    LoseCommit,
    /// A manifest's PUT is applied at some later step.
    DelayCommit,
    Flush,
    Merge,
    Collect,
    Grant,
    View,
    /// A collector deletes a log object.
    DeleteLog,
    /// A `merged` entry is dropped (only without its safety step).
    DropMerged,
}

/// Number of chances.
pub(super) const CHANCES: usize = Chance::DropMerged as usize + 1;

/// How an append's or a commit's PUT ends, as the store and the process see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Applied if nothing was there; the answer arrives.
    Answered,
    /// Applied; the answer is lost.
    AppliedUnanswered,
    /// Not applied; the answer is lost.
    DroppedUnanswered,
    /// Applied later, if at all; the process sees no answer.
    Delayed,
    /// Not applied, answered `AlreadyExists`.
    Conflicted,
}

/// All outcomes, the plain one first.
pub(super) const OUTCOMES: [Outcome; 5] = [
    Outcome::Answered,
    Outcome::AppliedUnanswered,
    Outcome::DroppedUnanswered,
    Outcome::Delayed,
    Outcome::Conflicted,
];

/// What a writer does next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum WriterPhase {
    /// Has nothing to send, or no id left within the bounds.
    #[default]
    Stopped,
    /// Sends its batch, for the first time or again.
    Sending,
    /// Was told `AlreadyExists`: reads the key.
    Reading,
}

/// A process that appends the batches of its script.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Writer {
    pub phase: WriterPhase,
    pub id: u8,
    pub number: u8,
    /// The batch that is not yet acknowledged.
    pub batch: u8,
    /// More than half the grace has passed since the last confirmed answer.
    pub is_overdue: bool,
    /// The numbers of this id that were there at the last confirmed answer, and at the one before (kept for clones only).
    pub confirmed: [Bits; 2],
}

/// What a committer wants to commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Task {
    #[default]
    Nothing,
    Flush(FlushPlan),
    Merge(MergePlan),
    Collect {
        floor: u8,
        upload_floor: u8,
    },
    Grant,
}

/// A flush: `changes`, from `from` up to `to` of each writer, are in `segment`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct FlushPlan {
    pub segment: u8,
    pub from: Ends,
    pub to: Ends,
    pub changes: Bits,
    /// The segments that its view held.
    pub judged: Bits,
}

/// A merge of two segments into a third.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct MergePlan {
    pub segment: u8,
    pub inputs: [u8; 2],
    /// The row map: the rows that came from the first input.
    pub from_first: Bits,
}

/// Where a committer stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum CommitPhase {
    #[default]
    Idle,
    /// Lists the log page by page; `first` is a manifest that was read before (only without its safety step).
    Listing {
        page: u8,
        listing: Listing,
        first: Option<(u8, Manifest)>,
    },
    /// Reads the newest manifest and applies its task to it.
    Drafting,
    /// Creates `draft` as `version`.
    Creating { version: u8, draft: Manifest },
    /// Does not know whether its create happened: reads the key.
    Reading { version: u8 },
    /// Compares `version` with the newest `floor`.
    Confirming { version: u8 },
    /// Deletes what its commit has condemned.
    Deleting { segments: Bits, manifests: Bits },
}

/// A process that commits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Committer {
    pub phase: CommitPhase,
    pub task: Task,
    pub commit: u8,
    /// The version that its upload is based on.
    pub base: u8,
    /// The lowest version at which a create of this commit may have happened unseen; 0 if there is none.
    pub unknown_at: u8,
}

/// Where a reader stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum ReadPhase {
    #[default]
    Idle,
    /// Lists the log page by page; `first` is a manifest that was read before (only without its safety step).
    Listing { page: u8, first: Option<Manifest> },
    /// Has the log, lists the manifests.
    Choosing,
    /// Reads `version`, whose ETag stands for its commit id.
    Getting { version: u8, etag: u8 },
}

/// A process that opens views.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Reader {
    pub phase: ReadPhase,
    pub listing: Listing,
    /// Per writer id: where its LIST starts, after the `merged` of a manifest that was read before.
    pub start: Ends,
    /// Ghost: what was acknowledged or shown when the opening began.
    pub required: Bits,
}

/// An append's PUT that the store has not applied yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct DelayedAppend {
    pub id: u8,
    pub number: u8,
    pub changes: Bits,
}

/// A manifest's PUT that the store has not applied yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct DelayedCommit {
    pub version: u8,
    pub manifest: Manifest,
}

/// What only the judge knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Ghost {
    /// What was acknowledged, or shown by a view.
    pub required: Bits,
    /// The commit ids of the true chain.
    pub chain: [u8; VERSIONS],
    /// The newest version of the true chain.
    pub top: u8,
    /// What a transition did wrong.
    pub violation: Option<Violation>,
}

/// One state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct State {
    pub bucket: Bucket,
    pub delayed_append: Option<DelayedAppend>,
    pub delayed_commit: Option<DelayedCommit>,
    pub writers: [Writer; WRITERS],
    pub committers: [Committer; COMMITTERS],
    pub reader: Reader,
    pub ids_minted: u8,
    /// Segments uploaded; the next takes this slot.
    pub uploads: u8,
    /// Commit ids taken.
    pub commits: u8,
    pub chances: [u8; CHANCES],
    pub ghost: Ghost,
}

impl State {
    pub(super) fn may(&self, chance: Chance) -> bool {
        self.chances[chance as usize] > 0
    }

    /// Uses up one chance; none if there was none.
    pub(super) fn spend(&mut self, chance: Chance) -> Option<()> {
        let left = &mut self.chances[chance as usize];
        *left = left.checked_sub(1)?;
        Some(())
    }

    /// Writes `manifest` as `version`, and keeps the books of the true chain.
    ///
    /// A version at or below the chain's newest was collected: whoever creates it again is beside the chain.
    pub(super) fn write_manifest(&mut self, version: u8, manifest: Manifest) {
        self.bucket.manifests[usize::from(version)] = manifest;
        if version > self.ghost.top {
            self.ghost.top = version;
            self.ghost.chain[usize::from(version)] = manifest.commit;
        }
    }

    /// Takes the next commit id.
    pub(super) fn take_commit_id(&mut self) -> u8 {
        self.commits += 1;
        self.commits
    }
}

/// One step of one process, or of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Append {
        writer: u8,
        outcome: Outcome,
    },
    ReadBack {
        writer: u8,
    },
    Restart {
        writer: u8,
    },
    /// Only without [`super::step::SafetyStep::OnePutInFlight`].
    SendNext {
        writer: u8,
    },
    ApplyDelayedAppend {
        answered: bool,
    },
    ApplyDelayedCommit,
    DeleteLog {
        id: u8,
        number: u8,
        condemned_by: u8,
    },
    /// Only without [`super::step::SafetyStep::MergedEntriesKept`].
    DropMerged {
        id: u8,
    },
    /// `hint`: the manifest whose `merged` the LIST starts from.
    OpenView {
        hint: Option<u8>,
    },
    ListPageForView,
    ListManifests,
    GetManifest,
    BeginFlush {
        committer: u8,
    },
    ListPageForFlush {
        committer: u8,
    },
    /// `lost`: the segment's upload was answered 409, which was taken for success.
    PlanFlush {
        committer: u8,
        writers: Bits,
        lost: bool,
    },
    BeginMerge {
        committer: u8,
        inputs: [u8; 2],
    },
    BeginCollect {
        committer: u8,
        floor: u8,
        upload_floor: u8,
    },
    BeginGrant {
        committer: u8,
    },
    Draft {
        committer: u8,
    },
    Create {
        committer: u8,
        outcome: Outcome,
    },
    ReadCommit {
        committer: u8,
    },
    Confirm {
        committer: u8,
    },
    DeleteSegment {
        committer: u8,
        segment: u8,
    },
    DeleteManifest {
        committer: u8,
        version: u8,
    },
}
