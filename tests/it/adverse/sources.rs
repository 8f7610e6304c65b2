//! Several sources at once, of which some lie in every way, and a process that is killed in between.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use object_store::ObjectStore;
use object_store::memory::InMemory;
use testkit::relay::{FakeHost, FakeNetwork, Plan, StreamFault, WireFault};
use testkit::repo::Forgery;

use super::follower::{Options, Process};
use super::truth::rejections;
use super::{come_clean, network_of};

const BEGINNING: Options = Options {
    cursor: Some(0),
    resets: false,
};

/// Which of two relays lie.
#[derive(Debug, Clone, Copy)]
enum Liars {
    Both,
    Second,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_honest_source_and_one_that_lies() {
    for seed in [101, 102, fresh_seed()] {
        run(seed, Liars::Second).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_sources_that_lie() {
    for seed in [201, 202, fresh_seed()] {
        run(seed, Liars::Both).await;
    }
}

/// Follows two relays through some thousand lies and faults, killed twice on the way.
async fn run(seed: u64, liars: Liars) {
    // Shown if what follows fails.
    eprintln!("seed {seed}, {liars:?}");
    let network = FakeNetwork::start(network_of(seed, 2, 2)).await;
    let relays = [network.relay(0), network.relay(1)];
    let lying: &[&FakeHost] = match liars {
        Liars::Both => &relays,
        Liars::Second => &relays[1..],
    };
    for (salt, relay) in (0..).zip(lying) {
        relay.plan_stream(lies(seed + salt));
        relay.plan_wire(wire(seed + salt));
    }
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    for requests in [9, 23] {
        let mut process = Process::start(&store, &network, &relays, BEGINNING).await;
        process.dies_after(requests);
        network.run(200);
        process.is_dead().await;
        process.kill();
    }
    let process = Process::start(&store, &network, &relays, BEGINNING).await;
    network.run(200);
    come_clean(&network, 2);
    process.comes_to(&network, &relays).await;
    for relay in lying {
        assert!(
            relay.stream_faults().len() > 5,
            "{:?}",
            relay.stream_faults()
        );
        assert!(!relay.wire_faults().is_empty());
    }
    let mut allowed: BTreeSet<&str> = Forgery::ALL
        .into_iter()
        .flat_map(|forgery| forgery.reasons())
        .copied()
        .collect();
    // Of strangers nobody can say whose key it is, and broken frames end a connection.
    allowed.extend([
        "frame_header",
        "frame_payload",
        "no_did_document",
        "did_document_unavailable",
    ]);
    for (reason, count) in rejections(&process.node).await {
        assert!(allowed.contains(reason.as_str()), "{count} of {reason}");
    }
    process.stop().await;
}

fn lies(seed: u64) -> Plan<StreamFault> {
    let mut plan = Plan::seeded(seed);
    for fault in [
        StreamFault::Drop,
        StreamFault::Again,
        StreamFault::Hold(7),
        StreamFault::Swap,
        StreamFault::Since,
        StreamFault::NoPrevData,
        StreamFault::Sync,
        StreamFault::SyncInstead,
        StreamFault::SyncOld,
        StreamFault::SyncForged,
        StreamFault::Flood(5),
        StreamFault::Strangers(2),
        StreamFault::Novelty,
    ] {
        plan = plan.rate(fault, 10);
    }
    for forgery in Forgery::ALL {
        plan = plan.rate(StreamFault::Forge(forgery), 2);
        plan = plan.rate(StreamFault::Replace(forgery), 2);
    }
    plan
}

fn wire(seed: u64) -> Plan<WireFault> {
    let mut plan = Plan::seeded(seed).at_most(30);
    for fault in [
        WireFault::Close(1001),
        WireFault::Reset,
        WireFault::MidFrame,
        WireFault::Truncated,
        WireFault::Junk,
        WireFault::Twice,
        WireFault::Rewind(5),
        WireFault::TooSlow,
        WireFault::Info,
        WireFault::Op,
        WireFault::Text,
    ] {
        plan = plan.rate(fault, 5);
    }
    plan
}

/// A seed that no run had before.
fn fresh_seed() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| u64::from(since.subsec_nanos()))
}
