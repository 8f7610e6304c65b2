//! The safety steps of the protocol, each of which can be switched off.

use std::fmt;

/// Declares the steps and the list of them all, so that none is forgotten.
macro_rules! safety_steps {
    ($($(#[$text:meta])* $step:ident,)*) => {
        /// A step of the protocol without which data is lost or falsified.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum SafetyStep {
            $($(#[$text])* $step,)*
        }

        impl SafetyStep {
            /// All steps.
            pub(super) const ALL: &[SafetyStep] = &[$(SafetyStep::$step,)*];
        }
    };
}

safety_steps! {
    /// A log object is created only where none is. Off: a PUT overwrites.
    CreateLogIfAbsent,
    /// A manifest is created only where none is. Off: a PUT overwrites.
    CreateManifestIfAbsent,
    /// After a lost answer or `AlreadyExists` an append is acknowledged only by a GET. Off: taken for success.
    GetAfterUnknownAppend,
    /// After a lost answer or `AlreadyExists` a manifest is ours only if it holds our commit id. Off: taken for success.
    GetAfterUnknownCommit,
    /// A segment's upload follows the append's rule. Off: a 409 that wrote nothing is taken for success.
    GetAfterUnknownUpload,
    /// A writer that finds foreign bytes takes a new id. Off: it goes on at the next number, and takes the answer for a sign
    /// that its id is still its own.
    NewIdAfterForeignBytes,
    /// A process that starts mints an id. Off: it starts again at number 1 of the old one.
    NewIdAtStart,
    /// A writer has one PUT in flight. Off: it sends the next before it knows the outcome of the last.
    OnePutInFlight,
    /// An answer later than half the grace after the last confirmed one acknowledges nothing. Off: it does.
    HalfGrace,
    /// A log object goes only when it is older than the grace. Off: as soon as it is merged.
    Grace,
    /// A view and a flush list the log, then read the manifest. Off: the other way round.
    LogListedFirst,
    /// A tail ends at the first missing number. Off: what stands behind a hole is taken too.
    StopAtHole,
    /// A view GETs the manifest by the ETag that its LIST showed. Off: by its number.
    ManifestByETag,
    /// A LIST of the log starts at `merged` of a manifest only if that is known to be in the chain. Off: also if it was just
    /// created.
    ListFromConfirmed,
    /// A flush needs `merged` of the writers it took to be unchanged. Off: it is applied to whatever is newest (`merged`
    /// still only rises).
    FlushNeedsMergedUnchanged,
    /// A flush judges its rows again, at its commit, against the segments that its view did not hold. Off: only when planned.
    FlushJudgesAgain,
    /// A merge needs its inputs to be named still. Off: it removes what is left of them.
    MergeNeedsInputs,
    /// A merge carries the marks that its inputs got since it was planned. Off: they are dropped with the inputs.
    MergeCarriesMarks,
    /// A merge keeps tombstones until a repo floor above them is merged. Off: it drops them.
    MergeKeepsTombstones,
    /// `merged` entries are never dropped. Off: one whose log objects are all gone is.
    MergedEntriesKept,
    /// After it created version v a committer compares v with the newest `floor`. Off: it believes the answer.
    FloorCheckAfterCreate,
    /// The newest manifest is found by a LIST. Off: by looking for the numbers that follow the one created.
    NewestByList,
    /// Before a lost answer's commit is made again, the chain is searched for its id. Off: it is just made again.
    SearchChainForCommit,
    /// A commit that is neither idempotent nor guarded, and whose number is below `floor`, is reported as unknown. Off: it is
    /// made again.
    UnknownBehindFloor,
    /// A commit of objects with a base below `upload_floor` is refused. Off: it is not.
    BaseAgainstUploadFloor,
    /// A collector deletes after its commit. Off: before.
    CondemnBeforeDelete,
    /// `floor` and `upload_floor` only rise. Off: a commit that lost a race sets what it had planned.
    FloorsOnlyRise,
    /// `merged` condemns log objects only in a manifest from the newest `floor` on. Off: in any manifest that is there.
    LogCondemnedByChain,
    /// Only the collector deletes. Off: a committer that gives up removes its upload.
    OnlyCollectorDeletes,
    /// A resync appends its records, then the repo floor. Off: the floor first.
    RepoFloorAfterRecords,
    /// A resync begins again under a new writer id. Off: it goes on where it was.
    ResyncBeginsAgain,
}

/// What a behaviour of the model did wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Violation {
    /// A change that was acknowledged, or shown by a view, is missing from a view opened later.
    ChangeLost,
    /// A view's answer is not the fold of what it covers: a duplicate, stale or resurrected row.
    WrongAnswer,
    /// A committer believes in a commit that is not in the chain.
    FalseBelief,
    /// What the newest manifest, or one from `floor` on, names is not there.
    NameDangles,
    /// A log object was deleted before its changes were in the chain.
    LogDeletedEarly,
    /// A log object stands where no flush will ever take it.
    LogUnreachable,
    /// A view shows a repo floor without the records of its resync.
    FloorWithoutRecords,
    /// One commit was applied more than once.
    AppliedTwice,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Violation::ChangeLost => {
                "an acknowledged or shown change is missing from a view opened later"
            }
            Violation::WrongAnswer => "a view answers with a duplicate, stale or resurrected row",
            Violation::FalseBelief => "a committer believes in a commit that is not in the chain",
            Violation::NameDangles => "what a manifest from the floor on names is not there",
            Violation::LogDeletedEarly => {
                "a log object is deleted before its changes are in the chain"
            }
            Violation::LogUnreachable => "a log object stands where no flush will take it",
            Violation::FloorWithoutRecords => "a repo floor is seen without its records",
            Violation::AppliedTwice => "one commit is applied twice",
        })
    }
}
