//! Connections that end, repeat, rewind, are silent or send what is no frame: nothing is lost, and nothing refused.

use std::sync::Arc;

use ingest::FollowError;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use testkit::relay::{CursorRule, Endpoint, FakeNetwork, Plan, Refusal, WireFault};

use super::follower::{Options, Process};
use super::truth::{rejections, resyncs};
use super::{come_clean, network_of};

const BEGINNING: Options = Options {
    cursor: Some(0),
    resets: false,
};

/// Each with whether it is an end of the connection.
const FAULTS: [(WireFault, bool); 14] = [
    (WireFault::Close(1000), true),
    (WireFault::Close(1012), true),
    (WireFault::Reset, true),
    (WireFault::MidFrame, true),
    (WireFault::Silence, true),
    (WireFault::Truncated, true),
    (WireFault::Junk, true),
    (WireFault::Text, true),
    (WireFault::Twice, true),
    (WireFault::Rewind(3), true),
    (WireFault::TooSlow, true),
    (WireFault::TooLong, false),
    (WireFault::Info, false),
    (WireFault::Op, false),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_end_of_a_connection_is_lived_with() {
    for rule in [CursorRule::After, CursorRule::From] {
        let network = FakeNetwork::start(network_of(51, 1, 1)).await;
        let relay = network.relay(0);
        relay.set_cursor_rule(rule);
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let process = Process::start(&store, &network, &[relay], BEGINNING).await;
        let mut ends = 0;
        for (fault, ends_it) in FAULTS {
            network.run(10);
            process
                .until(0, |state| state.durable == Some(relay.last_seq()))
                .await;
            relay.plan_wire(Plan::default().at(4, fault));
            network.run(20);
            process
                .until(0, |state| state.durable == Some(relay.last_seq()))
                .await;
            assert_eq!(relay.wire_faults()[&fault], 1, "{fault:?}");
            ends += u64::from(ends_it);
            let connected = relay.requests(Endpoint::SubscribeRepos);
            assert_eq!(connected, 1 + ends, "{fault:?}");
        }
        come_clean(&network, 1);
        process.comes_to(&network, &[relay]).await;
        assert!(resyncs(&process.node).await.is_empty());
        let refused = rejections(&process.node).await;
        // Of what is no frame, its reason stays.
        let reasons = ["frame_header", "frame_payload", "frame_too_long"];
        assert_eq!(refused, reasons.map(|reason| (reason.to_owned(), 1)).into());
        process.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_connections_are_made_again() {
    let network = FakeNetwork::start(network_of(52, 1, 1)).await;
    let relay = network.relay(0);
    for (status, retry_after_s) in [(429, Some(60)), (502, None), (503, Some(1)), (404, None)] {
        relay.refuse(Refusal {
            status,
            retry_after_s,
        });
    }
    network.run(50);
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let process = Process::start(&store, &network, &[relay], BEGINNING).await;
    process.comes_to(&network, &[relay]).await;
    assert_eq!(relay.refusals_left(), 0);
    // The relay goes away for a while, and comes back with what it kept.
    relay.stop();
    network.run(50);
    process
        .until(0, |state| {
            !matches!(state.connection, ingest::Connection::Connected { .. })
        })
        .await;
    relay.restart().await;
    process.comes_to(&network, &[relay]).await;
    process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_left_the_window_is_compared_and_fetched() {
    let network = FakeNetwork::start(network_of(53, 1, 1)).await;
    let relay = network.relay(0);
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let process = Process::start(&store, &network, &[relay], BEGINNING).await;
    network.run(100);
    process.comes_to(&network, &[relay]).await;
    process.stop().await;
    network.run(200);
    relay.keep_last(5);
    let process = Process::start(&store, &network, &[relay], Options::default()).await;
    process.comes_to(&network, &[relay]).await;
    let marks = resyncs(&process.node).await;
    assert!(marks.contains_key("outdated_cursor"), "{marks:?}");
    process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_began_anew_is_left_until_somebody_decides() {
    let network = FakeNetwork::start(network_of(54, 1, 1)).await;
    let relay = network.relay(0);
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let process = Process::start(&store, &network, &[relay], BEGINNING).await;
    network.run(100);
    process.comes_to(&network, &[relay]).await;
    process.stop().await;
    network.run(50);
    relay.reset_sequence();
    network.run(10);
    let mut process = Process::start(&store, &network, &[relay], Options::default()).await;
    let ended = process.ended(0).await;
    assert!(
        matches!(ended, Err(FollowError::FutureCursor { .. })),
        "{ended:?}"
    );
    process.kill();
    let reset = Options {
        resets: true,
        cursor: Some(0),
    };
    let process = Process::start(&store, &network, &[relay], reset).await;
    process.comes_to(&network, &[relay]).await;
    process.stop().await;
}
