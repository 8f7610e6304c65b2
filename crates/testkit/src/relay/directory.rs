//! A directory of DID documents that answers as PLC's does.

use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::{ConnectInfo, Path, Query, State};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::json;

use super::accounts::Accounts;
use super::desk::{Answer, Desk, Endpoint};
use super::fault::{FetchFault, Plan};
use super::server::Server;
use super::wire::Peer;
use super::xrpc::resolved;
use crate::fault_store::Gate;

/// Answers `/<did>` with documents, and `resolveHandle` too.
#[derive(Debug)]
pub struct FakeDirectory {
    shared: Arc<Shared>,
    server: Server,
}

#[derive(Debug)]
struct Shared {
    desk: Desk,
    accounts: Arc<Mutex<Accounts>>,
}

impl FakeDirectory {
    pub(super) async fn start(accounts: Arc<Mutex<Accounts>>) -> Self {
        let shared = Arc::new(Shared {
            desk: Desk::default(),
            accounts,
        });
        let app = Router::new()
            .route(
                "/xrpc/com.atproto.identity.resolveHandle",
                get(resolve_handle),
            )
            .route("/{did}", get(document))
            .with_state(Arc::clone(&shared));
        let server = Server::serve(Server::listen().await, app);
        Self { shared, server }
    }

    /// The URL to give as directory, and as resolver of handles.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.server.address())
    }

    /// Spoils the answers of an endpoint from now on.
    pub fn plan(&self, endpoint: Endpoint, plan: Plan<FetchFault>) {
        self.shared.desk.plan(endpoint, plan);
    }

    /// How often which fault met an endpoint.
    #[must_use]
    pub fn faults(&self, endpoint: Endpoint) -> std::collections::BTreeMap<FetchFault, u64> {
        self.shared.desk.faults(endpoint)
    }

    /// Lets the next request of an endpoint wait until the gate is opened.
    #[must_use]
    pub fn hold(&self, endpoint: Endpoint) -> Gate {
        self.shared.desk.hold(endpoint)
    }

    /// How many requests came in.
    #[must_use]
    pub fn requests(&self, endpoint: Endpoint) -> u64 {
        self.shared.desk.requests(endpoint)
    }

    /// How many requests about a DID or handle came in.
    #[must_use]
    pub fn requests_about(&self, endpoint: Endpoint, about: &str) -> u64 {
        self.shared.desk.requests_about(endpoint, about)
    }

    /// Waits until so many requests have come in.
    pub async fn wait_for(&self, endpoint: Endpoint, requests: u64) {
        self.shared.desk.wait_for(endpoint, requests).await;
    }

    /// Ends all connections and answers no more.
    pub fn stop(&self) {
        self.server.stop();
    }

    /// Answers again, at the same address.
    pub async fn restart(&self) {
        self.server.start().await;
    }
}

impl Shared {
    fn accounts(&self) -> std::sync::MutexGuard<'_, Accounts> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn document(
    State(directory): State<Arc<Shared>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    uri: Uri,
    Path(did): Path<String>,
) -> Response {
    let honest = |fault: Option<FetchFault>| {
        let accounts = directory.accounts();
        let Some(mut place) = accounts.place(&did) else {
            let body = json!({"message": format!("DID not registered: {did}")});
            return Answer::json(StatusCode::NOT_FOUND, &body).into_response();
        };
        if fault == Some(FetchFault::Other) {
            place = (place + 1) % accounts.hosting.len();
        }
        let frozen = accounts.hosting[place].frozen_document.clone();
        let document = frozen.unwrap_or_else(|| accounts.document(place));
        Answer::json(StatusCode::OK, &document).into_response()
    };
    let from = (&uri, &*peer.0);
    let desk = &directory.desk;
    desk.answer(Endpoint::Document, &did, from, honest).await
}

async fn resolve_handle(
    State(directory): State<Arc<Shared>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    uri: Uri,
    parameters: Query<std::collections::BTreeMap<String, String>>,
) -> Response {
    let handle = parameters.get("handle").cloned().unwrap_or_default();
    let honest = |_| resolved(&directory.accounts(), &handle);
    let from = (&uri, &*peer.0);
    let desk = &directory.desk;
    desk.answer(Endpoint::ResolveHandle, &handle, from, honest)
        .await
}
