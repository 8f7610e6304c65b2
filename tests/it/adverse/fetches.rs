//! Hosts and a directory that fail when they are asked: what is marked is fetched in the end, and is whole.

use std::sync::Arc;

use object_store::ObjectStore;
use object_store::memory::InMemory;
use testkit::relay::{Endpoint, FakeNetwork, FetchFault, Plan, StreamFault};
use testkit::repo::{CarFlaw, Curve};

use super::follower::{Options, Process};
use super::truth::resyncs;
use super::{come_clean, network_of};

const BEGINNING: Options = Options {
    cursor: Some(0),
    resets: false,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repository_is_fetched_until_it_comes_whole() {
    for fault in [
        FetchFault::TooMany(Some(30)),
        FetchFault::TooMany(None),
        FetchFault::Status(500),
        FetchFault::Truncated,
        FetchFault::Cut,
        FetchFault::Never,
        FetchFault::Loop,
        FetchFault::Junk,
        FetchFault::Other,
        FetchFault::Car(CarFlaw::LastBlockMissing),
        FetchFault::Car(CarFlaw::TreeMissing),
        FetchFault::Car(CarFlaw::OtherKey),
        FetchFault::Car(CarFlaw::Damaged),
    ] {
        let network = FakeNetwork::start(network_of(61, 1, 1)).await;
        let relay = network.relay(0);
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let process = Process::start(&store, &network, &[relay], BEGINNING).await;
        network.run(60);
        process.comes_to(&network, &[relay]).await;
        relay.plan_stream(Plan::default().at(0, StreamFault::Drop));
        network
            .pds(0)
            .plan(Endpoint::GetRepo, Plan::default().at(0, fault).at(0, fault));
        network.run(30);
        come_clean(&network, 1);
        process.comes_to(&network, &[relay]).await;
        let occurred = network.pds(0).faults(Endpoint::GetRepo);
        assert_eq!(occurred.get(&fault), Some(&2), "{fault:?}");
        assert!(!resyncs(&process.node).await.is_empty());
        process.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_that_fails_loses_nothing() {
    let network = FakeNetwork::start(network_of(62, 2, 1)).await;
    let (relay, directory) = (network.relay(0), network.directory());
    let faults = [
        FetchFault::Status(500),
        FetchFault::TooMany(Some(1)),
        FetchFault::Junk,
        FetchFault::Other,
        FetchFault::Truncated,
    ];
    let mut plan = Plan::default();
    for (turns, fault) in (0..).zip(faults) {
        plan = plan.at(2 * turns, fault);
    }
    directory.plan(Endpoint::Document, plan);
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let process = Process::start(&store, &network, &[relay], BEGINNING).await;
    network.run(200);
    come_clean(&network, 1);
    process.comes_to(&network, &[relay]).await;
    assert_eq!(directory.faults(Endpoint::Document).len(), faults.len());
    process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accounts_change_hands_hosts_keys_and_states() {
    let network = FakeNetwork::start(network_of(63, 2, 1)).await;
    let relay = network.relay(0);
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let process = Process::start(&store, &network, &[relay], BEGINNING).await;
    network.run(150);
    process.comes_to(&network, &[relay]).await;
    let dids = network.dids();
    network.rotate(&dids[0], 900, Curve::P256);
    network.rename(&dids[1], &"renamed.example.com".parse().expect("a handle"));
    network.migrate(&dids[2], 1, 901);
    network.set_status(&dids[3], Some("deactivated"));
    network.set_status(&dids[4], Some("takendown"));
    network.set_status(&dids[5], Some("deleted"));
    network.commit(&dids[0], &[]);
    network.run(100);
    process.comes_to(&network, &[relay]).await;
    network.set_status(&dids[3], None);
    network.set_status(&dids[4], None);
    network.run(50);
    come_clean(&network, 1);
    process.comes_to(&network, &[relay]).await;
    process.stop().await;
}
