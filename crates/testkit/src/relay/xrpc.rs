//! What a host answers over HTTP.

use std::sync::Arc;

use axum::Router;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{ConnectInfo, Query, State};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Value as Json, json};

use super::accounts::Accounts;
use super::desk::{Answer, Endpoint, redirect};
use super::fault::FetchFault;
use super::host::Shared;
use super::subscriber;
use super::wire::Peer;

/// The parameters of a query string, by name.
type Parameters = Query<std::collections::BTreeMap<String, String>>;

/// How many repositories a page lists when nobody says.
const PAGE: usize = 500;

pub(super) fn routes(host: Arc<Shared>) -> Router {
    Router::new()
        .route("/xrpc/com.atproto.sync.subscribeRepos", get(subscribe))
        .route("/xrpc/com.atproto.sync.getRepo", get(get_repo))
        .route("/xrpc/com.atproto.sync.listRepos", get(list_repos))
        .route("/xrpc/com.atproto.sync.getRepoStatus", get(get_repo_status))
        .route(
            "/xrpc/com.atproto.sync.getLatestCommit",
            get(get_latest_commit),
        )
        .route(
            "/xrpc/com.atproto.server.describeServer",
            get(describe_server),
        )
        .route(
            "/xrpc/com.atproto.identity.resolveHandle",
            get(resolve_handle),
        )
        .with_state(host)
}

async fn subscribe(
    State(host): State<Arc<Shared>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    parameters: Parameters,
    upgrade: WebSocketUpgrade,
) -> Response {
    let text = parameters.get("cursor");
    host.desk
        .count(Endpoint::SubscribeRepos, text.map_or("", String::as_str));
    if let Some(refusal) = host.refusal() {
        let status = StatusCode::from_u16(refusal.status).expect("a status");
        let mut response = status.into_response();
        if let Some(seconds) = refusal.retry_after_s {
            let headers = response.headers_mut();
            headers.insert("retry-after", seconds.into());
        }
        return response;
    }
    let cursor = match text.map(|text| text.parse::<i64>()) {
        None => None,
        Some(Ok(cursor)) => Some(cursor),
        Some(Err(_)) => return bad_request("InvalidRequest").into_response(),
    };
    upgrade.on_upgrade(move |socket| subscriber::run(host, socket, cursor, peer.0))
}

async fn get_repo(
    State(host): State<Arc<Shared>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    uri: Uri,
    parameters: Parameters,
) -> Response {
    let did = did(&parameters);
    let honest = |fault: Option<FetchFault>| {
        let mut accounts = host.accounts();
        let Some(place) = accounts.place(&did) else {
            return bad_request("RepoNotFound").into_response();
        };
        if host.pds.is_none() {
            let url = accounts.pds_url(place);
            return redirect(&format!("{url}{uri}"));
        }
        match &refused(&host, &accounts, place) {
            Some(error) => bad_request(error).into_response(),
            None => Answer::car(car(&mut accounts, place, fault)).into_response(),
        }
    };
    let from = (&uri, &*peer.0);
    host.desk
        .answer(Endpoint::GetRepo, &did, from, honest)
        .await
}

/// The repository, or what a fault makes of it.
fn car(accounts: &mut Accounts, place: usize, fault: Option<FetchFault>) -> Vec<u8> {
    match fault {
        Some(FetchFault::Car(flaw)) => accounts.repo_mut(place).car_with(flaw),
        Some(FetchFault::Other) => {
            let count = accounts.hosting.len();
            let others = (place + 1..count).chain(0..place);
            let mut others = others.filter(|other| accounts.repo(*other).rev().is_some());
            let other = others.next().expect("another account with a commit");
            accounts.repo_mut(other).car()
        }
        _ => match &accounts.hosting[place].frozen_car {
            Some(car) => car.clone(),
            None => accounts.repo_mut(place).car(),
        },
    }
}

/// The error for which a host does not give out an account's repository.
fn refused(host: &Shared, accounts: &Accounts, place: usize) -> Option<&'static str> {
    let hosting = &accounts.hosting[place];
    if host.pds.is_some_and(|pds| pds != hosting.pds) || accounts.repo(place).rev().is_none() {
        return Some("RepoNotFound");
    }
    match hosting.status.as_deref()? {
        "takendown" => Some("RepoTakendown"),
        "suspended" => Some("RepoSuspended"),
        "deactivated" => Some("RepoDeactivated"),
        _ => Some("RepoNotFound"),
    }
}

async fn list_repos(
    State(host): State<Arc<Shared>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    uri: Uri,
    parameters: Parameters,
) -> Response {
    let number = |name: &str| parameters.get(name)?.parse::<usize>().ok();
    let (from, limit) = (
        number("cursor").unwrap_or(0),
        number("limit").unwrap_or(PAGE),
    );
    let honest = |_| {
        let accounts = host.accounts();
        let limit = limit.min(host.page_max());
        let places =
            (from..accounts.hosting.len()).filter(|place| is_here(&host, &accounts, *place));
        let mut page: Vec<usize> = places.take(limit + 1).collect();
        let next = (page.len() > limit).then(|| page.pop()).flatten();
        let repos: Vec<Json> = page.iter().map(|place| listed(&accounts, *place)).collect();
        let mut body = json!({"repos": repos});
        if let Some(next) = next {
            body["cursor"] = next.to_string().into();
        }
        Answer::json(StatusCode::OK, &body).into_response()
    };
    let about = from.to_string();
    let from = (&uri, &*peer.0);
    host.desk
        .answer(Endpoint::ListRepos, &about, from, honest)
        .await
}

/// Whether an account is of a host, and has a repository.
fn is_here(host: &Shared, accounts: &Accounts, place: usize) -> bool {
    let is_hosted = host
        .pds
        .is_none_or(|pds| pds == accounts.hosting[place].pds);
    let is_deleted = accounts.hosting[place].status.as_deref() == Some("deleted");
    is_hosted && !is_deleted && accounts.repo(place).rev().is_some()
}

fn listed(accounts: &Accounts, place: usize) -> Json {
    let repo = accounts.repo(place);
    let mut listed = json!({
        "did": repo.account().did().as_str(),
        "head": repo.commit_cid().map(|cid| cid.to_string()),
        "rev": repo.rev().map(|rev| rev.to_string()),
        "active": accounts.hosting[place].status.is_none(),
    });
    if let Some(status) = &accounts.hosting[place].status {
        listed["status"] = status.as_str().into();
    }
    listed
}

async fn get_repo_status(
    State(host): State<Arc<Shared>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    uri: Uri,
    parameters: Parameters,
) -> Response {
    let did = did(&parameters);
    let honest = |_| {
        let accounts = host.accounts();
        let place = accounts.place(&did);
        let Some(place) = place.filter(|place| is_here(&host, &accounts, *place)) else {
            return bad_request("RepoNotFound").into_response();
        };
        let mut body = listed(&accounts, place);
        if let Some(fields) = body.as_object_mut() {
            fields.remove("head");
        }
        Answer::json(StatusCode::OK, &body).into_response()
    };
    let from = (&uri, &*peer.0);
    host.desk
        .answer(Endpoint::GetRepoStatus, &did, from, honest)
        .await
}

async fn get_latest_commit(
    State(host): State<Arc<Shared>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    uri: Uri,
    parameters: Parameters,
) -> Response {
    let did = did(&parameters);
    let honest = |_| {
        let accounts = host.accounts();
        let Some(place) = accounts.place(&did) else {
            return bad_request("RepoNotFound").into_response();
        };
        if let Some(error) = refused(&host, &accounts, place) {
            return bad_request(error).into_response();
        }
        let listed = listed(&accounts, place);
        let body = json!({"cid": listed["head"], "rev": listed["rev"]});
        Answer::json(StatusCode::OK, &body).into_response()
    };
    let from = (&uri, &*peer.0);
    host.desk
        .answer(Endpoint::GetLatestCommit, &did, from, honest)
        .await
}

async fn describe_server(
    State(host): State<Arc<Shared>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    uri: Uri,
) -> Response {
    let honest = |_| match host.pds {
        Some(_) => {
            let body =
                json!({"did": "did:web:localhost", "availableUserDomains": [".example.com"]});
            Answer::json(StatusCode::OK, &body).into_response()
        }
        None => Answer::error(StatusCode::NOT_FOUND, "MethodNotImplemented").into_response(),
    };
    let from = (&uri, &*peer.0);
    host.desk
        .answer(Endpoint::DescribeServer, "", from, honest)
        .await
}

async fn resolve_handle(
    State(host): State<Arc<Shared>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    uri: Uri,
    parameters: Parameters,
) -> Response {
    let handle = parameters.get("handle").cloned().unwrap_or_default();
    let honest = |_| resolved(&host.accounts(), &handle);
    let from = (&uri, &*peer.0);
    host.desk
        .answer(Endpoint::ResolveHandle, &handle, from, honest)
        .await
}

/// The answer of `resolveHandle`.
pub(super) fn resolved(accounts: &Accounts, handle: &str) -> Response {
    match accounts.owner(handle) {
        Some(did) => Answer::json(StatusCode::OK, &json!({"did": did.as_str()})).into_response(),
        None => bad_request("HandleNotFound").into_response(),
    }
}

fn did(parameters: &Parameters) -> String {
    parameters.get("did").cloned().unwrap_or_default()
}

fn bad_request(error: &str) -> Answer {
    Answer::error(StatusCode::BAD_REQUEST, error)
}
