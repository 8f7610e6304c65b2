//! What relays and hosts say about accounts: states, keys, handles, moves from host to host.

use atproto::{AccountFrame, Did, DidDocument, verify_repo};

use super::fetch::{error, get, get_repo, json};
use super::*;
use crate::repo::{Curve, Write};

const NOW_US: i64 = 1_800_000_000_000_000;

#[tokio::test]
async fn an_account_is_announced_before_its_first_commit() {
    let network = network().await;
    network.run(1);
    let told = kept(network.relay(0));
    assert!(
        matches!(&told[..], [Frame::Identity(_), Frame::Account(account), Frame::Commit(_)] if account.active),
        "{told:?}"
    );
}

#[tokio::test]
async fn a_state_is_told_and_obeyed() {
    let network = full().await;
    let did = &network.dids()[0];
    let pds = network.pds(0);
    for (status, expected) in [
        ("deactivated", "RepoDeactivated"),
        ("takendown", "RepoTakendown"),
        ("suspended", "RepoSuspended"),
        ("deleted", "RepoNotFound"),
    ] {
        network.set_status(did, Some(status));
        let told = accounts(network.relay(0)).pop().expect("told");
        assert_eq!((told.active, told.status.as_deref()), (false, Some(status)));
        assert_eq!(error(get_repo(pds, did).await).await, expected);
        let rev = network.truth()[did].rev;
        network.run(100);
        assert_eq!(network.truth()[did].rev, rev, "it writes nothing");
    }
    network.set_status(did, None);
    let told = kept(network.relay(0));
    let tail = &told[told.len() - 3..];
    assert!(
        matches!(tail, [Frame::Account(account), Frame::Identity(_), Frame::Sync(_)] if account.active),
        "{tail:?}"
    );
    let status = json(get(pds, &format!("sync.getRepoStatus?did={did}")).await).await;
    assert_eq!(
        (&status["active"], status["status"].as_str()),
        (&true.into(), None)
    );
}

#[tokio::test]
async fn a_rotated_key_signs_the_next_commit() {
    let network = full().await;
    let did = &network.dids()[0];
    let old = document(&network, did);
    network.freeze_document(did);
    network.rotate(did, 77, Curve::P256);
    let new = document(&network, did);
    assert_ne!(old.signing_key, new.signing_key);
    let is_verified_by = async |document: &DidDocument| {
        let car = get_repo(network.pds(0), did).await;
        let car = car.bytes().await.expect("a body");
        verify_repo(&car, document.signing_key.as_ref(), NOW_US).is_ok()
    };
    assert!(is_verified_by(&old).await && !is_verified_by(&new).await);
    network.commit(did, &[]);
    assert!(!is_verified_by(&old).await && is_verified_by(&new).await);
    let url = format!("{}/{did}", network.directory().url());
    let answer = async || {
        let answer = fetch::http().get(&url).send().await;
        DidDocument::parse(&json(answer.expect("answered")).await).expect("a document")
    };
    assert_eq!(answer().await.signing_key, old.signing_key, "it was frozen");
    network.thaw_document(did);
    assert_eq!(answer().await.signing_key, new.signing_key);
}

#[tokio::test]
async fn a_handle_moves_and_resolves_to_its_owner() {
    let network = full().await;
    let did = &network.dids()[0];
    let old = network.truth()[did].handle.clone();
    let new = "alice.example.com".parse().expect("a handle");
    network.rename(did, &new);
    assert_eq!(document(&network, did).handle, Some(new.clone()));
    let resolve = async |handle: &atproto::Handle| {
        let request = format!("identity.resolveHandle?handle={handle}");
        get(network.pds(0), &request).await
    };
    assert_eq!(json(resolve(&new).await).await["did"], did.as_str());
    assert_eq!(error(resolve(&old).await).await, "HandleNotFound");
    network.disown_handle(did, true);
    assert_eq!(error(resolve(&new).await).await, "HandleNotFound");
}

#[tokio::test]
async fn an_account_moves_to_another_host() {
    let network = full().await;
    let did = &network.dids()[0];
    network.migrate(did, 1, 99);
    assert_eq!(document(&network, did).pds, Some(network.pds(1).url()));
    assert_eq!(
        error(get_repo(network.pds(0), did).await).await,
        "RepoNotFound"
    );
    let car = get_repo(network.pds(1), did).await.bytes().await;
    let key = document(&network, did).signing_key;
    verify_repo(&car.expect("a body"), key.as_ref(), NOW_US).expect("signed anew");
    let last = |host: &FakeHost| accounts(host).pop().expect("told").status;
    assert_eq!(last(network.pds(0)).as_deref(), Some("deactivated"));
    assert_eq!(last(network.pds(1)), None);
    assert_eq!(last(network.relay(0)), None);
}

#[tokio::test]
async fn a_frozen_repository_stays_behind() {
    let network = full().await;
    let did = &network.dids()[0];
    let before = network.truth()[did].rev;
    network.freeze_repo(did);
    let record = atproto::Value::Map([("n", atproto::Value::from(1))].into_iter().collect());
    network.commit(did, &[Write::put("app.bsky.feed.post/x", &record)]);
    let rev = async || {
        let car = get_repo(network.pds(0), did).await.bytes().await;
        let repo = verify_repo(&car.expect("a body"), None, NOW_US);
        Some(repo.expect("a repository").rev())
    };
    assert_eq!(rev().await, before);
    network.thaw_repo(did);
    assert_eq!(rev().await, network.truth()[did].rev);
    assert_ne!(before, network.truth()[did].rev);
}

fn accounts(host: &FakeHost) -> Vec<AccountFrame> {
    let frames = kept(host).into_iter();
    let accounts = frames.filter_map(|frame| match frame {
        Frame::Account(frame) => Some(frame),
        _ => None,
    });
    accounts.collect()
}

fn document(network: &FakeNetwork, did: &Did) -> DidDocument {
    DidDocument::parse(&network.did_documents()[did.as_str()]).expect("a document")
}

async fn full() -> FakeNetwork {
    let network = FakeNetwork::start(FakeNetworkConfig {
        pdses: 2,
        ..FakeNetworkConfig::default()
    })
    .await;
    network.run(100);
    network
}
