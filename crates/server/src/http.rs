//! The HTTP paths beside gRPC: `/healthz`, `/readyz`, `/metrics`.
//!
//! `/healthz` says that the process answers; `/readyz` that it opened a view of the bucket in the
//! last seconds, or can open one now.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use query::Engine;
use tonic::Status;

/// How long a view may take to open before a server calls itself not ready.
const READY_TIMEOUT: Duration = Duration::from_secs(5);

/// The routes, without the token's gate, which is laid over all wires at once.
pub(crate) fn routes(engine: Arc<Engine>) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready).with_state(engine))
        .route("/metrics", get(metrics))
}

/// The routes of a process that answers no queries: it is ready once it answers.
pub(crate) fn routes_without_queries() -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(async || "ready\n"))
        .route("/metrics", get(metrics))
}

async fn ready(State(engine): State<Arc<Engine>>) -> Response {
    match tokio::time::timeout(READY_TIMEOUT, engine.tables()).await {
        Ok(Ok(_)) => "ready\n".into_response(),
        Ok(Err(error)) => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("not ready: {error}\n"),
        )
            .into_response(),
        Err(_) => {
            let reason = format!(
                "not ready: no view of the bucket within {} s\n",
                READY_TIMEOUT.as_secs()
            );
            (StatusCode::SERVICE_UNAVAILABLE, reason).into_response()
        }
    }
}

/// Answers a path that nobody serves, to a gRPC client as gRPC.
pub(crate) async fn unknown(request: Request) -> Response {
    if is_grpc(request.headers()) {
        return Status::unimplemented("this server has no such service").into_http();
    }
    (
        StatusCode::NOT_FOUND,
        "there is /healthz, /readyz, /metrics, and Arrow Flight SQL over gRPC\n",
    )
        .into_response()
}

/// Whether a request came from a gRPC client.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers
        .get(header::CONTENT_TYPE)
        .map(|value| value.as_bytes());
    content_type.is_some_and(|value| value.starts_with(b"application/grpc"))
}

async fn metrics() -> Response {
    let text = crate::metrics::recorder().render();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}
