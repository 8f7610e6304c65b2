//! The crate's metrics.

use crate::summary::Summary;

/// Frames that were taken care of.
const FRAMES: &str = "ingest_frames_total";
/// Frames and records that were refused, by `reason`.
const REJECTIONS: &str = "ingest_rejections_total";
/// Records written or deleted.
const RECORDS: &str = "ingest_records_total";
/// Commits that did not join what their source delivered before.
const GAPS: &str = "ingest_gaps_total";

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
