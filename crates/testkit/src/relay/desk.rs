//! Where the requests of a server come in: counted, held at gates, and answered otherwise than honestly where planned.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use axum::body::{Body, Bytes};
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use tokio::sync::watch;

use super::fault::{FetchFault, Plan};
use super::wire::Wire;
use crate::fault_store::Gate;

/// What is asked of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Endpoint {
    /// `com.atproto.sync.subscribeRepos`.
    SubscribeRepos,
    /// `com.atproto.sync.getRepo`.
    GetRepo,
    /// `com.atproto.sync.listRepos`.
    ListRepos,
    /// `com.atproto.sync.getRepoStatus`.
    GetRepoStatus,
    /// `com.atproto.sync.getLatestCommit`.
    GetLatestCommit,
    /// `com.atproto.server.describeServer`.
    DescribeServer,
    /// `com.atproto.identity.resolveHandle`.
    ResolveHandle,
    /// A DID document.
    Document,
}

/// An honest answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) content_type: &'static str,
    pub(super) body: Bytes,
}

impl Answer {
    pub(super) fn json(status: StatusCode, json: &serde_json::Value) -> Self {
        Self {
            status,
            content_type: "application/json",
            body: json.to_string().into(),
        }
    }

    /// An XRPC error.
    pub(super) fn error(status: StatusCode, error: &str) -> Self {
        let json = serde_json::json!({"error": error, "message": "as you see"});
        Self::json(status, &json)
    }

    pub(super) fn car(body: Vec<u8>) -> Self {
        Self {
            status: StatusCode::OK,
            content_type: "application/vnd.ipld.car",
            body: body.into(),
        }
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let headers = [(header::CONTENT_TYPE, self.content_type)];
        (self.status, headers, self.body).into_response()
    }
}

#[derive(Debug, Default)]
struct State {
    plans: BTreeMap<Endpoint, Plan<FetchFault>>,
    gates: BTreeMap<Endpoint, VecDeque<Gate>>,
    counts: BTreeMap<Endpoint, u64>,
    about: HashMap<(Endpoint, String), u64>,
    under_way: BTreeMap<Endpoint, u64>,
    most_at_once: BTreeMap<Endpoint, u64>,
}

/// Counts the requests of a server and spoils them as planned.
#[derive(Debug)]
pub(super) struct Desk {
    state: Mutex<State>,
    changed: watch::Sender<u64>,
}

impl Default for Desk {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            changed: watch::Sender::new(0),
        }
    }
}

impl Desk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn plan(&self, endpoint: Endpoint, plan: Plan<FetchFault>) {
        let mut state = self.state();
        state.plans.entry(endpoint).or_default().replace(plan);
    }

    pub(super) fn faults(&self, endpoint: Endpoint) -> BTreeMap<FetchFault, u64> {
        let state = self.state();
        let plan = state.plans.get(&endpoint);
        plan.map(|plan| plan.counts().clone()).unwrap_or_default()
    }

    pub(super) fn hold(&self, endpoint: Endpoint) -> Gate {
        let gate = Gate::default();
        let mut state = self.state();
        let gates = state.gates.entry(endpoint).or_default();
        gates.push_back(gate.clone());
        gate
    }

    pub(super) fn requests(&self, endpoint: Endpoint) -> u64 {
        let state = self.state();
        state.counts.get(&endpoint).copied().unwrap_or_default()
    }

    pub(super) fn requests_about(&self, endpoint: Endpoint, about: &str) -> u64 {
        let state = self.state();
        let count = state.about.get(&(endpoint, about.to_owned()));
        count.copied().unwrap_or_default()
    }

    pub(super) fn most_at_once(&self, endpoint: Endpoint) -> u64 {
        let state = self.state();
        let most = state.most_at_once.get(&endpoint);
        most.copied().unwrap_or_default()
    }

    /// Waits until so many requests have come in.
    pub(super) async fn wait_for(&self, endpoint: Endpoint, requests: u64) {
        let mut changed = self.changed.subscribe();
        while self.requests(endpoint) < requests {
            // The sender lives as long as this.
            let _ = changed.changed().await;
        }
    }

    /// Counts a request about something.
    pub(super) fn count(&self, endpoint: Endpoint, about: &str) {
        let mut state = self.state();
        *state.counts.entry(endpoint).or_default() += 1;
        let about = (endpoint, about.to_owned());
        *state.about.entry(about).or_default() += 1;
        drop(state);
        self.changed.send_modify(|changes| *changes += 1);
    }

    /// Counts a request, lets it wait where a gate stands, and answers it; `honest` is told what the answer should be
    /// other than, where that is not a matter of the bytes.
    pub(super) async fn answer(
        &self,
        endpoint: Endpoint,
        about: &str,
        from: (&Uri, &Wire),
        honest: impl FnOnce(Option<FetchFault>) -> Response,
    ) -> Response {
        self.count(endpoint, about);
        let _under_way = UnderWay::new(self, endpoint);
        let gate = self.state().gates.entry(endpoint).or_default().pop_front();
        if let Some(gate) = gate {
            gate.pass().await;
        }
        let fault = {
            let mut state = self.state();
            let plan = state.plans.entry(endpoint).or_default();
            plan.turn(|fault| fits(fault, endpoint).then_some(()))
        };
        let fault = fault.map(|(fault, ())| fault);
        spoil(fault, from, honest(fault)).await
    }
}

fn fits(fault: FetchFault, endpoint: Endpoint) -> bool {
    match fault {
        FetchFault::Car(_) => endpoint == Endpoint::GetRepo,
        FetchFault::Other => [Endpoint::GetRepo, Endpoint::Document].contains(&endpoint),
        _ => true,
    }
}

/// A request that is being answered.
struct UnderWay<'a> {
    desk: &'a Desk,
    endpoint: Endpoint,
}

impl<'a> UnderWay<'a> {
    fn new(desk: &'a Desk, endpoint: Endpoint) -> Self {
        let mut state = desk.state();
        let count = state.under_way.entry(endpoint).or_default();
        *count += 1;
        let count = *count;
        let most = state.most_at_once.entry(endpoint).or_default();
        *most = count.max(*most);
        drop(state);
        Self { desk, endpoint }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if let Some(count) = self.desk.state().under_way.get_mut(&self.endpoint) {
            *count -= 1;
        }
    }
}

static ENDLESS_CHUNK: [u8; 64 * 1024] = [0; 64 * 1024];

async fn spoil(
    fault: Option<FetchFault>,
    (uri, wire): (&Uri, &Wire),
    honest: Response,
) -> Response {
    let status = |code| StatusCode::from_u16(code).expect("a status");
    match fault {
        None | Some(FetchFault::Car(_) | FetchFault::Other) => honest,
        Some(FetchFault::Status(code)) => status(code).into_response(),
        Some(FetchFault::TooMany(None)) => StatusCode::TOO_MANY_REQUESTS.into_response(),
        Some(FetchFault::TooMany(Some(seconds))) => {
            let headers = [(header::RETRY_AFTER, seconds.to_string())];
            (StatusCode::TOO_MANY_REQUESTS, headers).into_response()
        }
        Some(FetchFault::Truncated) => {
            let (mut parts, body) = honest.into_parts();
            let body = whole(body).await;
            parts.headers.remove(header::CONTENT_LENGTH);
            let half = body.slice(..body.len() / 2);
            Response::from_parts(parts, Body::from(half))
        }
        Some(FetchFault::Cut) => {
            let (parts, body) = honest.into_parts();
            let body = whole(body).await;
            wire.cut_after(body.len() / 2);
            Response::from_parts(parts, Body::from(body))
        }
        Some(FetchFault::Never) => std::future::pending().await,
        Some(FetchFault::Endless) => {
            let chunk = || Ok::<_, std::io::Error>(Bytes::from_static(&ENDLESS_CHUNK));
            let chunks = futures::stream::repeat_with(chunk);
            Body::from_stream(chunks).into_response()
        }
        Some(FetchFault::Loop) => redirect(&uri.to_string()),
        Some(FetchFault::Inside) => redirect("http://169.254.169.254/latest/meta-data"),
        Some(FetchFault::Junk) => "<!doctype html><p>Under construction".into_response(),
    }
}

pub(super) fn redirect(to: &str) -> Response {
    (StatusCode::FOUND, [(header::LOCATION, to.to_owned())]).into_response()
}

async fn whole(body: Body) -> Bytes {
    let bytes = axum::body::to_bytes(body, usize::MAX).await;
    bytes.expect("an answer in memory")
}
