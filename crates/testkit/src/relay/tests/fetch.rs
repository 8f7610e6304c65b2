//! What hosts and the directory give out when they are asked, and how fetching is made to fail.

use atproto::{Did, verify_repo};
use reqwest::{Client as Http, Response, StatusCode};
use serde_json::Value as Json;

use super::*;
use crate::repo::CarFlaw;

const NOW_US: i64 = 1_800_000_000_000_000;

#[tokio::test]
async fn a_repository_is_given_out_by_its_host() {
    let network = full().await;
    let did = &network.dids()[0];
    let car = get_repo(network.pds(0), did).await;
    assert_eq!(car.status(), StatusCode::OK);
    let car = car.bytes().await.expect("a body");
    let repo = verify_repo(&car, None, NOW_US).expect("a repository");
    let truth = &network.truth()[did];
    assert_eq!(Some(repo.rev()), truth.rev);
    assert_eq!(repo.records().len(), truth.records.len());
    // A relay sends the asker to the host.
    let moved = get_repo(network.relay(0), did).await;
    let location = moved.headers()["location"].to_str().expect("a URL");
    assert_eq!(moved.status(), StatusCode::FOUND);
    assert!(location.starts_with(&network.pds(0).url()), "{location}");
    let there = http().get(location).send().await.expect("answered");
    assert_eq!(there.bytes().await.expect("a body"), car);
    let elsewhere = get_repo(network.pds(1), did).await;
    assert_eq!(error(elsewhere).await, "RepoNotFound");
    assert_eq!(network.pds(0).requests(Endpoint::GetRepo), 2);
    let about = network
        .pds(0)
        .requests_about(Endpoint::GetRepo, did.as_str());
    assert_eq!(about, 2);
}

#[tokio::test]
async fn requests_fail_as_planned() {
    let network = full().await;
    let did = &network.dids()[0];
    let pds = network.pds(0);
    let whole = get_repo(pds, did).await.bytes().await.expect("a body");
    let next = async |fault| {
        pds.plan(Endpoint::GetRepo, Plan::default().at(0, fault));
        get_repo(pds, did).await
    };
    let answer = next(FetchFault::TooMany(Some(3))).await;
    assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(answer.headers()["retry-after"], "3");
    let answer = next(FetchFault::Status(502)).await;
    assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
    let answer = next(FetchFault::Truncated).await;
    let half = answer.bytes().await.expect("a body");
    assert_eq!(half, whole.slice(..whole.len() / 2));
    let answer = next(FetchFault::Cut).await;
    answer.bytes().await.expect_err("cut");
    let answer = next(FetchFault::Loop).await;
    let location = answer.headers()["location"].to_str().expect("a path");
    assert!(location.contains("getRepo?did="), "{location}");
    let answer = next(FetchFault::Inside).await;
    let location = answer.headers()["location"].to_str().expect("a URL");
    assert!(location.starts_with("http://169.254."), "{location}");
    let mut answer = next(FetchFault::Endless).await;
    let mut bytes = 0;
    while bytes < 2 * whole.len() {
        let chunk = answer.chunk().await.expect("more").expect("more");
        bytes += chunk.len();
    }
    let junk = next(FetchFault::Junk).await.bytes().await.expect("a body");
    assert!(verify_repo(&junk, None, NOW_US).is_err());
    let other = next(FetchFault::Other).await.bytes().await.expect("a body");
    let other = verify_repo(&other, None, NOW_US).expect("a repository");
    assert_ne!(other.did(), did);
    for flaw in [CarFlaw::LastBlockMissing, CarFlaw::Truncated] {
        let car = next(FetchFault::Car(flaw)).await;
        let car = car.bytes().await.expect("a body");
        let refused = verify_repo(&car, None, NOW_US).expect_err("flawed");
        let reasons = ["missing_block", "car_truncated"];
        assert!(reasons.contains(&refused.reason()), "{refused:?}");
    }
    assert_eq!(pds.faults(Endpoint::GetRepo).len(), 11);
    let again = get_repo(pds, did).await.bytes().await.expect("a body");
    assert_eq!(again, whole);
}

#[tokio::test]
async fn a_gate_holds_a_request_and_what_is_at_once_is_counted() {
    let network = full().await;
    let pds = network.pds(0);
    let dids = network.dids();
    let gates = [pds.hold(Endpoint::GetRepo), pds.hold(Endpoint::GetRepo)];
    let held = async |at: usize| get_repo(pds, &dids[at]).await.status();
    let opened = async {
        for gate in &gates {
            gate.arrived().await;
        }
        gates.iter().for_each(crate::fault_store::Gate::open);
    };
    let (one, other, ()) = tokio::join!(held(0), held(2), opened);
    assert_eq!((one, other), (StatusCode::OK, StatusCode::OK));
    assert_eq!(held(0).await, StatusCode::OK);
    assert_eq!(pds.most_at_once(Endpoint::GetRepo), 2);
}

#[tokio::test]
async fn repositories_are_listed_in_pages() {
    let network = full().await;
    for (host, expected) in [(network.relay(0), 10), (network.pds(0), 5)] {
        host.set_page_max(3);
        let mut listed = Vec::new();
        let mut cursor = Some("0".to_owned());
        while let Some(at) = cursor {
            let page = get(host, &format!("sync.listRepos?limit=100&cursor={at}")).await;
            let page: Json = json(page).await;
            let repos = page["repos"].as_array().expect("a list").clone();
            assert!(repos.len() <= 3);
            listed.extend(repos);
            cursor = page["cursor"].as_str().map(str::to_owned);
        }
        assert_eq!(listed.len(), expected);
        for repo in listed {
            let did: Did = repo["did"].as_str().expect("a DID").parse().expect("a DID");
            let rev = network.truth()[&did].rev.map(|rev| rev.to_string());
            assert_eq!(repo["rev"].as_str().map(str::to_owned), rev);
            assert_eq!(repo["active"], true);
        }
    }
}

#[tokio::test]
async fn only_a_pds_describes_itself() {
    let network = full().await;
    let described = get(network.pds(0), "server.describeServer").await;
    assert_eq!(described.status(), StatusCode::OK);
    let described = get(network.relay(0), "server.describeServer").await;
    assert_eq!(described.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn the_directory_answers_documents_and_fails_as_planned() {
    let network = full().await;
    let directory = network.directory();
    let dids = network.dids();
    let document = async |did: &str| {
        let url = format!("{}/{did}", directory.url());
        http().get(url).send().await.expect("answered")
    };
    let honest = json(document(dids[0].as_str()).await).await;
    assert_eq!(honest, network.did_documents()[dids[0].as_str()]);
    assert_eq!(
        honest["service"][0]["serviceEndpoint"],
        network.pds(0).url()
    );
    let unknown = document("did:plc:abcdefghijklmnopqrstuvwx").await;
    assert_eq!(unknown.status(), StatusCode::NOT_FOUND);
    directory.plan(Endpoint::Document, Plan::default().at(0, FetchFault::Other));
    let other = json(document(dids[0].as_str()).await).await;
    assert_ne!(other["id"], dids[0].as_str());
    directory.plan(
        Endpoint::Document,
        Plan::default().at(0, FetchFault::Status(500)),
    );
    let failed = document(dids[0].as_str()).await;
    assert_eq!(failed.status(), StatusCode::INTERNAL_SERVER_ERROR);
    let about = directory.requests_about(Endpoint::Document, dids[0].as_str());
    assert_eq!((about, directory.requests(Endpoint::Document)), (3, 4));
}

async fn full() -> FakeNetwork {
    let network = FakeNetwork::start(FakeNetworkConfig {
        pdses: 2,
        ..FakeNetworkConfig::default()
    })
    .await;
    network.run(300);
    let truth = network.truth();
    assert!(truth.values().all(|account| account.records.len() > 3));
    network
}

pub(super) fn http() -> Http {
    let client = Http::builder().redirect(reqwest::redirect::Policy::none());
    client.build().expect("a client")
}

pub(super) async fn get(host: &FakeHost, request: &str) -> Response {
    let url = format!("{}/xrpc/com.atproto.{request}", host.url());
    http().get(url).send().await.expect("answered")
}

pub(super) async fn get_repo(host: &FakeHost, did: &Did) -> Response {
    get(host, &format!("sync.getRepo?did={did}")).await
}

pub(super) async fn json(response: Response) -> Json {
    let bytes = response.bytes().await.expect("a body");
    serde_json::from_slice(&bytes).expect("JSON")
}

pub(super) async fn error(response: Response) -> String {
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    let error = json(response).await;
    error["error"].as_str().expect("a name").to_owned()
}
