//! The HTTP paths beside gRPC: `/healthz`, `/readyz`, `/metrics`.
//!
//! `/healthz` says that the process answers; `/readyz` that it opened a view of the bucket in the
//! last seconds, or can open one now.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use query::Engine;

/// How long a view may take to open before a server calls itself not ready.
const READY_TIMEOUT: Duration = Duration::from_secs(5);

/// The routes, without the token's gate, which is laid over all wires at once.
pub(crate) fn routes(engine: Arc<Engine>) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready).with_state(engine))
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

async fn metrics() -> Response {
    let text = crate::metrics::recorder().render();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}
