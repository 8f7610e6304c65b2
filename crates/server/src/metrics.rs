//! What a server counts, and the recorder that `/metrics` reads.
//!
//! The recorder is the process's own: every crate's metrics are in it from the moment a server is bound.

use std::sync::OnceLock;
use std::time::Duration;

use metrics::{counter, describe_counter, describe_histogram, histogram};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

const REQUESTS: &str = "server_requests_total";
const ERRORS: &str = "server_errors_total";
const REFUSED: &str = "server_refused_requests_total";
const ROWS: &str = "server_sent_rows_total";
const BYTES: &str = "server_sent_bytes_total";
const FIRST_BATCH: &str = "server_first_batch_seconds";

/// How often what was recorded is folded together, so that a server that nobody scrapes does not grow.
pub(crate) const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Returns the recorder's handle, and makes it the process's recorder when called first.
pub(crate) fn recorder() -> PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    let handle = HANDLE.get_or_init(|| {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        if metrics::set_global_recorder(recorder).is_err() {
            tracing::warn!("this process records its metrics elsewhere: /metrics stays empty");
        }
        describe();
        handle
    });
    handle.clone()
}

fn describe() {
    describe_counter!(REQUESTS, "Flight SQL calls that were begun, by method.");
    describe_counter!(
        ERRORS,
        "Flight SQL calls that ended in an error, by gRPC code."
    );
    describe_counter!(REFUSED, "Requests that brought no token, or a wrong one.");
    describe_counter!(ROWS, "Rows sent to clients.");
    describe_counter!(
        BYTES,
        "Bytes of Arrow data sent to clients, before framing."
    );
    describe_histogram!(
        FIRST_BATCH,
        "Seconds from a query's arrival to the first message of its answer."
    );
}

pub(crate) fn request(method: &'static str) {
    counter!(REQUESTS, "method" => method).increment(1);
}

pub(crate) fn error(code: tonic::Code) {
    counter!(ERRORS, "code" => format!("{code:?}")).increment(1);
}

pub(crate) fn refused() {
    counter!(REFUSED).increment(1);
}

pub(crate) fn rows(count: usize) {
    counter!(ROWS).increment(count as u64);
}

pub(crate) fn bytes(count: usize) {
    counter!(BYTES).increment(count as u64);
}

pub(crate) fn first_batch(elapsed: Duration) {
    histogram!(FIRST_BATCH).record(elapsed.as_secs_f64());
}
