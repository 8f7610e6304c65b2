//! A model of the bucket protocol, explored whole within stated bounds: the log, views, commits and collection.
//!
//! It answers two questions. Does the protocol as written keep its promises, whatever order the steps of its processes
//! fall in and wherever one of them stalls, for ever included? And is each of its safety steps needed: does the model find
//! a broken promise when that step alone is switched off ([`step::SafetyStep`])?
//!
//! # What is modelled
//! - **Bucket** ([`bucket`]): create-if-absent and atomic GETs; a LIST of the log that reads one key per step. A PUT of the
//!   log or of a manifest may succeed, lose its answer (applied or not), be applied at any later step (after a deletion or a
//!   crash too, its late answer reaching its process or not), or be answered `AlreadyExists` with nothing written.
//! - **Append** ([`append`]): two writers of up to three batches, crashes, writer ids that are given up, a cloned machine.
//! - **View** ([`view`]): a reader that lists the log, lists the manifests, gets the newest by its ETag.
//! - **Commit** ([`commit`], [`draft`]): two compactors that flush and merge, grants (a catalog's commit, which nothing
//!   guards), two collectors: each plans and uploads, drafts, creates, reads back what is unknown, compares with `floor`, and
//!   deletes one object per step. `floor` and `upload_floor` may rise to any version up to the collector's own, at any moment.
//! - **Data** ([`change`]): puts, deletes and a repo floor of one repository, merged by `rev`; rows, tombstones and marks of
//!   segments. An answer is computed as a query would, segments minus marks joined with the tail.
//! - **Promises** ([`judge`]): judged in every state, at every view that the reader opens, and at one that opens in that
//!   instant. See [`step::Violation`].
//!
//! Time is left out, so that nothing rests on it, except with a cloned machine, where it must (see [`append`]).
//!
//! # Bounds
//! [`instance`] lists them: at most two writers of three batches, four writer ids, eight versions, six segments, three
//! flushes, two merges, two collections, one view, and one fault of each kind in one instance. A process stalls simply by
//! not being scheduled. Each instance also has to bring about the dangers that it is there for ([`situation`]).
//!
//! # What is left out
//! Pins, restore, `AS OF` and backups (`kept`); setting aside what can't be decoded; the sidecar of silent writers; parts,
//! packs and marks as objects of their own (they follow the rule of segments); a LIST of manifests in several pages; erasure;
//! equal `rev`s; progress under contention. Planning and its upload are one step, and so are reading the newest manifest and
//! drafting on it. Symmetry is used only between processes of one kind.

mod append;
mod bits;
mod bucket;
mod change;
mod commit;
mod draft;
mod explore;
mod instance;
mod judge;
mod protocol;
mod situation;
mod state;
mod step;
mod view;

use explore::{Trace, explore};
use instance::Instance;
use step::{SafetyStep, Violation};

#[test]
fn appends_survive_lost_late_and_refused_puts() {
    assert_holds(instance::append());
}

#[test]
fn a_flush_survives_a_log_that_changes_while_it_is_listed() {
    assert_holds(instance::listing());
}

#[test]
fn a_view_survives_a_log_that_changes_while_it_is_opened() {
    assert_holds(instance::view());
}

#[test]
fn racing_flushes_and_merges_survive_lost_late_and_refused_creates() {
    assert_holds(instance::race());
    assert_holds(instance::busy());
}

#[test]
fn marks_survive_merges() {
    assert_holds(instance::marks());
    assert_holds(instance::late_put());
}

#[test]
fn commits_survive_collection() {
    assert_holds(instance::collect());
    assert_holds(instance::two_collectors());
    assert_holds(instance::collect_merge());
}

#[test]
fn a_view_survives_collection_and_numbers_used_again() {
    assert_holds(instance::collect_view());
}

#[test]
fn all_kinds_of_processes_survive_each_other() {
    assert_holds(instance::all_kinds());
}

#[test]
fn a_grant_is_made_once() {
    assert_holds(instance::grant());
}

#[test]
fn appends_survive_a_cloned_machine() {
    assert_holds(instance::cloned());
}

#[test]
fn a_resync_survives_a_new_writer_id() {
    assert_holds(instance::resync());
}

#[test]
fn each_safety_step_switched_off_breaks_a_promise() {
    for &step in SafetyStep::ALL {
        let (instance, expected) = danger(step);
        let trace = break_without(step, instance);
        assert_eq!(trace.violation, expected, "{step:?}");
    }
}

#[test]
fn a_put_taken_for_success_without_a_look_loses_an_append() {
    // The answer `AlreadyExists` of a 409 that wrote nothing, or of a lost PUT.
    let trace = break_without(SafetyStep::GetAfterUnknownAppend, instance::append());
    assert_eq!(
        (trace.violation, trace.actions.len()),
        (Violation::ChangeLost, 1)
    );
}

#[test]
fn a_delete_flushed_while_its_segment_is_merged_comes_undone_without_its_mark() {
    let trace = break_without(SafetyStep::MergeCarriesMarks, instance::marks());
    assert_eq!(trace.violation, Violation::WrongAnswer);
}

/// Explores `instance` with all steps in force.
fn assert_holds(instance: Instance) {
    let name = instance.name;
    let outcome = explore(instance, None);
    let seconds = outcome.elapsed.as_secs_f64();
    println!(
        "{name}: {} states, depth {}, {seconds:.1} s",
        outcome.states, outcome.depth
    );
    if let Some(trace) = outcome.broken {
        panic!("{name}: {trace}");
    }
    assert!(
        outcome.missing.is_empty(),
        "{name} never brings about {:?}",
        outcome.missing
    );
}

/// Explores `instance` without `step` and prints how it breaks.
fn break_without(step: SafetyStep, instance: Instance) -> Trace {
    let name = instance.name;
    let outcome = explore(instance, Some(step));
    let trace = outcome
        .broken
        .unwrap_or_else(|| panic!("{name} holds without {step:?} ({} states)", outcome.states));
    println!(
        "without {step:?}, {name} breaks after {} states in {trace}",
        outcome.states
    );
    trace
}

/// The instance that breaks without `step`, and the promise that it breaks.
fn danger(step: SafetyStep) -> (Instance, Violation) {
    match step {
        SafetyStep::CreateLogIfAbsent
        | SafetyStep::NewIdAfterForeignBytes
        | SafetyStep::HalfGrace
        | SafetyStep::Grace => (instance::cloned(), Violation::ChangeLost),
        SafetyStep::GetAfterUnknownAppend
        | SafetyStep::NewIdAtStart
        | SafetyStep::OnePutInFlight => (instance::append(), Violation::ChangeLost),
        SafetyStep::StopAtHole | SafetyStep::MergedEntriesKept => {
            (instance::listing(), Violation::ChangeLost)
        }
        SafetyStep::LogListedFirst => (instance::view(), Violation::ChangeLost),
        SafetyStep::ManifestByETag | SafetyStep::ListFromConfirmed => {
            (instance::collect_view(), Violation::ChangeLost)
        }
        SafetyStep::CreateManifestIfAbsent | SafetyStep::GetAfterUnknownUpload => {
            (instance::race(), Violation::NameDangles)
        }
        SafetyStep::GetAfterUnknownCommit => (instance::race(), Violation::FalseBelief),
        SafetyStep::FlushJudgesAgain => (instance::race(), Violation::WrongAnswer),
        SafetyStep::SearchChainForCommit => (instance::race(), Violation::AppliedTwice),
        SafetyStep::MergeNeedsInputs | SafetyStep::MergeCarriesMarks => {
            (instance::marks(), Violation::WrongAnswer)
        }
        SafetyStep::MergeKeepsTombstones => (instance::late_put(), Violation::WrongAnswer),
        SafetyStep::FlushNeedsMergedUnchanged => (instance::collect(), Violation::WrongAnswer),
        SafetyStep::FloorCheckAfterCreate => (instance::collect(), Violation::FalseBelief),
        SafetyStep::BaseAgainstUploadFloor
        | SafetyStep::CondemnBeforeDelete
        | SafetyStep::OnlyCollectorDeletes => (instance::collect(), Violation::NameDangles),
        SafetyStep::LogCondemnedByChain => (instance::two_collectors(), Violation::LogDeletedEarly),
        SafetyStep::FloorsOnlyRise => (instance::two_collectors(), Violation::NameDangles),
        SafetyStep::NewestByList => (instance::grant(), Violation::FalseBelief),
        SafetyStep::UnknownBehindFloor => (instance::grant(), Violation::AppliedTwice),
        SafetyStep::RepoFloorAfterRecords | SafetyStep::ResyncBeginsAgain => {
            (instance::resync(), Violation::FloorWithoutRecords)
        }
    }
}
