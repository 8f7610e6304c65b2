//! What directories tell, as the log holds it afterwards.

use crdt::storage::{Clock, ManualClock};
use serde_json::json;
use testkit::repo::{Account, Curve};
use testkit::web::{Reply, Web};

use super::*;
use crate::did_docs::DidDocs;
use crate::fixture::World;
use crate::identity::{IdentityQueue, IdentitySettings};
use crate::outbound::Outbound;

const START_US: i64 = 1_770_000_000_000_000;

#[tokio::test]
async fn a_document_is_recorded_with_what_its_handle_is_worth() {
    let accounts: Vec<Account> = (1..=3)
        .map(|seed| Account::new(seed, Curve::K256))
        .collect();
    let documents: Vec<_> = accounts.iter().map(Account::did_document).collect();
    let plc = Web::serve(move |path| {
        let of = documents
            .iter()
            .find(|document| path[1..] == document["id"]);
        of.map_or(Reply::status(404), Reply::json)
    })
    .await;
    let dids: Vec<String> = accounts
        .iter()
        .map(|account| account.did().to_string())
        .collect();
    // The first handle leads back, the second elsewhere, of the third nobody knows.
    let first = dids[0].clone();
    let resolver = Web::serve(move |path| match path.rsplit('=').next() {
        Some("u1.example.com") => Reply::json(&json!({"did": first})),
        Some("u2.example.com") => Reply::json(&json!({"did": "did:plc:other"})),
        _ => Reply::status(503),
    })
    .await;
    let settings = IdentitySettings {
        handle_resolver: Some(resolver.url("/").parse().expect("a URL")),
        ..IdentitySettings::of(plc.url("/").parse().expect("a URL"))
    };
    let clock = Arc::new(ManualClock::new(START_US));
    let of_world = Arc::clone(&clock) as Arc<dyn Clock>;
    let world = World::new(DidDocs::default(), Arc::clone(&of_world)).await;
    let outbound = Outbound::new(true).expect("TLS");
    let (identities, recorder) = Identities::directory(outbound, of_world, &settings);
    let (queue, changed) = IdentityQueue::bounded(8);
    for account in &accounts {
        identities.resolve(account.did()).await.expect("a document");
    }
    // A change that a source tells is asked for, also of what was asked for a moment ago.
    identities.forget(accounts[0].did());
    assert!(queue.changed(accounts[0].did().clone()));
    let stop = CancellationToken::new();
    let running = tokio::spawn(recorder.run(world.intake.log.clone(), changed, stop.clone()));
    let recorded = loop {
        let changes: Vec<Change> = world.log().await.into_iter().flatten().collect();
        if changes.len() == 4 {
            break changes;
        }
        tokio::task::yield_now().await;
    };
    stop.cancel();
    running.await.expect("no panic").expect("recorded");
    let handles: Vec<Option<&str>> = dids
        .iter()
        .map(|did| {
            let of = recorded.iter().rev().find_map(|change| match change {
                Change::Identity(identity) if identity.did.as_str() == did => Some(identity),
                _ => None,
            });
            let identity = of.expect("recorded");
            assert_eq!(*identity.delivery.source, *plc.url(""));
            assert_eq!(identity.seq, None);
            assert!(identity.pds.is_some());
            identity.handle.as_ref().map(Handle::as_str)
        })
        .collect();
    assert_eq!(
        handles,
        [Some("u1.example.com"), Some(INVALID_HANDLE), None]
    );
    assert_eq!(plc.asked().len(), 4);
}

#[tokio::test]
async fn what_was_told_before_a_stop_is_recorded() {
    let account = Account::new(1, Curve::K256);
    let document = account.did_document();
    let plc = Web::serve(move |_| Reply::json(&document)).await;
    let settings = IdentitySettings::of(plc.url("/").parse().expect("a URL"));
    let clock = Arc::new(ManualClock::new(START_US));
    let of_world = Arc::clone(&clock) as Arc<dyn Clock>;
    let world = World::new(DidDocs::default(), Arc::clone(&of_world)).await;
    let outbound = Outbound::new(true).expect("TLS");
    let (identities, recorder) = Identities::directory(outbound, of_world, &settings);
    let (_queue, changed) = IdentityQueue::bounded(1);
    identities.resolve(account.did()).await.expect("a document");
    let stop = CancellationToken::new();
    stop.cancel();
    recorder
        .run(world.intake.log.clone(), changed, stop)
        .await
        .expect("recorded");
    let log: Vec<Change> = world.log().await.into_iter().flatten().collect();
    assert!(matches!(&log[..], [Change::Identity(identity)] if identity.did == *account.did()));
}
