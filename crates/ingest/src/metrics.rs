//! The crate's metrics.

use std::sync::Arc;

use crdt::Micros;

use crate::status::{Connection, SourceState};
use crate::summary::Summary;

/// Frames that were taken care of.
const FRAMES: &str = "ingest_frames_total";
/// Frames and records that were refused, by `reason`.
const REJECTIONS: &str = "ingest_rejections_total";
/// Records written or deleted.
const RECORDS: &str = "ingest_records_total";
/// Commits that did not join what their source delivered before.
const GAPS: &str = "ingest_gaps_total";
/// Questions for DID documents, by `outcome`.
const DOCUMENTS: &str = "ingest_did_documents_asked_total";
/// Handles that were checked, by `outcome`.
const HANDLES: &str = "ingest_handles_checked_total";
/// Documents that went into the log with their handles unchecked.
const HANDLES_UNCHECKED: &str = "ingest_handles_unchecked_total";
/// Documents that did not go into the log.
const IDENTITIES_UNRECORDED: &str = "ingest_identities_unrecorded_total";
/// Attempts to fetch a repo again, by `outcome`.
const RESYNCS: &str = "ingest_resyncs_total";
/// Bytes of CARs that were fetched.
const RESYNC_BYTES: &str = "ingest_resync_bytes_total";
/// Repos that wait to be fetched, of those that are held in memory.
const RESYNCS_WAITING: &str = "ingest_resyncs_waiting";

/// Seconds between the time that a source's newest frame gives and now.
const LAG: &str = "ingest_lag_seconds";
/// Whether a source is connected.
const CONNECTED: &str = "ingest_connected";
/// How far a source is durable, by its own numbers.
const CURSOR: &str = "ingest_durable_cursor";
/// Collections that fell silent at a source that tells of others.
const SILENT: &str = "ingest_silent_collections";
/// Commits that another source had delivered first.
const DUPLICATES: &str = "ingest_duplicate_commits";

/// Describes the metrics to the recorder that is installed.
pub fn describe() {
    metrics::describe_counter!(
        FRAMES,
        "Frames that were taken care of, whatever became of them."
    );
    metrics::describe_counter!(
        REJECTIONS,
        "Frames and records that were refused, by reason."
    );
    metrics::describe_counter!(RECORDS, "Records written or deleted.");
    metrics::describe_counter!(
        GAPS,
        "Commits that did not join what their source delivered before."
    );
    describe_identity();
    describe_resync();
    describe_sources();
}

fn describe_resync() {
    metrics::describe_counter!(RESYNCS, "Attempts to fetch a repo again, by outcome.");
    metrics::describe_counter!(RESYNC_BYTES, "Bytes of CARs that were fetched.");
    metrics::describe_gauge!(
        RESYNCS_WAITING,
        "Repos that wait to be fetched or are being fetched, of those that are held in memory."
    );
}

/// Counts an attempt to fetch a repo.
pub(crate) fn resync_ended(outcome: &'static str) {
    metrics::counter!(RESYNCS, "outcome" => outcome).increment(1);
}

/// Counts the bytes of a CAR that was fetched.
pub(crate) fn resync_fetched(bytes: u64) {
    metrics::counter!(RESYNC_BYTES).increment(bytes);
}

/// Shows how many repos wait to be fetched.
pub(crate) fn resyncs_waiting(repos: usize) {
    metrics::gauge!(RESYNCS_WAITING).set(repos as f64);
}

fn describe_sources() {
    metrics::describe_gauge!(
        LAG,
        "Seconds between the time of the newest frame and now, by source."
    );
    metrics::describe_gauge!(
        CONNECTED,
        "Whether a source is connected (1) or not (0), by source."
    );
    metrics::describe_gauge!(
        CURSOR,
        "How far a source is durable, by its own sequence numbers."
    );
    metrics::describe_gauge!(
        SILENT,
        "Collections that fell silent while their source tells of others, by source."
    );
    metrics::describe_gauge!(
        DUPLICATES,
        "Commits that another source had delivered first, by source."
    );
}

/// Shows how a source stands.
#[allow(
    clippy::cast_precision_loss,
    reason = "gauges are floats, and sequence numbers below 2^53"
)]
pub(crate) fn source(source: &Arc<str>, state: &SourceState, silent: usize, now: Micros) {
    let name = || source.to_string();
    let is_connected = matches!(state.connection, Connection::Connected { .. });
    metrics::gauge!(CONNECTED, "source" => name()).set(f64::from(u8::from(is_connected)));
    metrics::gauge!(SILENT, "source" => name()).set(silent as f64);
    metrics::gauge!(DUPLICATES, "source" => name()).set(state.duplicates as f64);
    if let Some(lag) = state.lag_us(now) {
        metrics::gauge!(LAG, "source" => name()).set(lag as f64 / 1e6);
    }
    if let Some(durable) = state.durable {
        metrics::gauge!(CURSOR, "source" => name()).set(durable as f64);
    }
}

fn describe_identity() {
    metrics::describe_counter!(DOCUMENTS, "Questions for DID documents, by outcome.");
    metrics::describe_counter!(HANDLES, "Handles that were checked, by outcome.");
    metrics::describe_counter!(
        HANDLES_UNCHECKED,
        "Documents whose handles were not checked, since too many waited."
    );
    metrics::describe_counter!(
        IDENTITIES_UNRECORDED,
        "Documents whose host and handle went into no table, since too many waited."
    );
}

/// Counts a question for a DID document.
pub(crate) fn document_asked(outcome: &'static str) {
    metrics::counter!(DOCUMENTS, "outcome" => outcome).increment(1);
}

/// Counts a handle that was checked.
pub(crate) fn handle_checked(outcome: &'static str) {
    metrics::counter!(HANDLES, "outcome" => outcome).increment(1);
}

/// Counts a document whose handle is not checked.
pub(crate) fn handle_unchecked() {
    metrics::counter!(HANDLES_UNCHECKED).increment(1);
}

/// Counts a document that does not go into the log.
pub(crate) fn identity_unrecorded() {
    metrics::counter!(IDENTITIES_UNRECORDED).increment(1);
}

/// Counts what happened between two summaries of one source.
pub(crate) fn count(before: &Summary, after: &Summary) {
    metrics::counter!(FRAMES).increment(after.frames - before.frames);
    let records = |summary: &Summary| summary.records + summary.deletes;
    metrics::counter!(RECORDS).increment(records(after) - records(before));
    metrics::counter!(GAPS).increment(after.gaps - before.gaps);
    for (reason, count) in &after.rejected {
        let before = before.rejected.get(reason).copied().unwrap_or_default();
        metrics::counter!(REJECTIONS, "reason" => reason.clone()).increment(count - before);
    }
}
