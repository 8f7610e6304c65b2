//! One relay that lies, in every way that there is.

use std::collections::BTreeSet;
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::memory::InMemory;
use testkit::relay::{FakeNetwork, Plan, StreamFault};
use testkit::repo::Forgery;

use super::follower::{Options, Process};
use super::truth::{rejections, resyncs};
use super::{come_clean, network_of};

/// Where a process begins that has never met the source.
const BEGINNING: Options = Options {
    cursor: Some(0),
    resets: false,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_forgery_is_refused_for_its_reason() {
    let network = FakeNetwork::start(network_of(11, 1, 1)).await;
    let relay = network.relay(0);
    let mut plan = Plan::default();
    for (number, forgery) in (0..).zip(Forgery::ALL) {
        // In turn beside the honest commit, and instead of it.
        plan = plan.at(60 + number * 10, StreamFault::Forge(forgery));
        plan = plan.at(65 + number * 10, StreamFault::Replace(forgery));
    }
    relay.plan_stream(plan);
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let process = Process::start(&store, &network, &[relay], BEGINNING).await;
    network.run(900);
    assert_eq!(relay.stream_faults().len(), 2 * Forgery::ALL.len());
    come_clean(&network, 1);
    process.comes_to(&network, &[relay]).await;
    let told: BTreeSet<String> = rejections(&process.node).await.into_keys().collect();
    let allowed: BTreeSet<&str> = Forgery::ALL
        .into_iter()
        .flat_map(|forgery| forgery.reasons())
        .copied()
        .collect();
    let unexpected: Vec<_> = told
        .iter()
        .filter(|reason| !allowed.contains(reason.as_str()))
        .collect();
    // Of the repository of another one nobody can say whose key it is.
    assert!(
        unexpected.iter().all(|reason| reason.contains("did_")),
        "{unexpected:?}"
    );
    for forgery in Forgery::ALL {
        let is_told = forgery
            .reasons()
            .iter()
            .any(|reason| told.contains(*reason));
        assert!(
            is_told || forgery == Forgery::RepoChanged,
            "{forgery:?}: {told:?}"
        );
    }
    process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_left_out_moved_or_lied_about_is_fetched() {
    for (seed, fault, resynced) in [
        (21, StreamFault::Drop, true),
        (22, StreamFault::Again, false),
        (23, StreamFault::Hold(4), false),
        (24, StreamFault::Swap, true),
        (25, StreamFault::Since, true),
        (26, StreamFault::NoPrevData, false),
        (27, StreamFault::Sync, false),
        (28, StreamFault::SyncInstead, true),
        (29, StreamFault::SyncOld, false),
        (30, StreamFault::Flood(20), false),
        (31, StreamFault::Novelty, false),
    ] {
        let network = FakeNetwork::start(network_of(seed, 1, 1)).await;
        let relay = network.relay(0);
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let process = Process::start(&store, &network, &[relay], BEGINNING).await;
        network.run(100);
        relay.plan_stream(Plan::default().at(1, fault).at(20, fault));
        network.run(100);
        assert_eq!(relay.stream_faults()[&fault], 2);
        come_clean(&network, 1);
        process.comes_to(&network, &[relay]).await;
        let marks = resyncs(&process.node).await;
        assert_eq!(!marks.is_empty(), resynced, "{fault:?}: {marks:?}");
        let refused = rejections(&process.node).await;
        assert!(refused.is_empty(), "{fault:?}: {refused:?}");
        process.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forged_syncs_strangers_and_times_leave_their_reasons() {
    for (seed, fault, reason) in [
        (41, StreamFault::SyncForged, "rev_mismatch"),
        (42, StreamFault::Strangers(5), "no_did_document"),
        (43, StreamFault::Time, "frame_time"),
    ] {
        let network = FakeNetwork::start(network_of(seed, 1, 1)).await;
        let relay = network.relay(0);
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let process = Process::start(&store, &network, &[relay], BEGINNING).await;
        network.run(100);
        relay.plan_stream(Plan::default().at(1, fault));
        network.identity(&network.dids()[0]);
        network.identity(&network.dids()[1]);
        network.run(50);
        assert_eq!(relay.stream_faults()[&fault], 1);
        come_clean(&network, 1);
        process.comes_to(&network, &[relay]).await;
        let refused = rejections(&process.node).await;
        let reasons: Vec<&str> = refused.keys().map(String::as_str).collect();
        assert_eq!(reasons, [reason], "{fault:?}");
        process.stop().await;
    }
}
