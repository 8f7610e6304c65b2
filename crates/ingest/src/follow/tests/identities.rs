//! Keys that change, and directories that do not answer.

use testkit::relay::{Endpoint as Asked, FakeNetwork, FakeNetworkConfig};

use super::*;
use crate::identity::{Identities, IdentitySettings};
use crate::outbound::Outbound;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_changed_is_asked_for_once_and_the_rest_goes_in() {
    let (network, world, clock) = followed().await;
    network.run(30);
    let running = start(&world, &network);
    running.durable(network.relay(0).last_seq()).await;
    let did = network.dids()[0].clone();
    let asked = || {
        let directory = network.directory();
        directory.requests_about(Asked::Document, did.as_str())
    };
    let minute = Duration::from_secs(61);
    // The directory is behind: what it answers to the news is the old key, which still signs.
    clock.clock.advance(minute);
    network.freeze_document(&did);
    network.rotate(&did, 99, Curve::P256);
    network.sync(&did);
    running.durable(network.relay(0).last_seq()).await;
    let before = asked();
    network.thaw_document(&did);
    clock.clock.advance(minute);
    for number in 0..3 {
        let path = format!("app.bsky.feed.post/after{number}");
        let record = record("app.bsky.feed.post", number);
        network.commit(&did, &[Write::put(path, &record)]);
    }
    running.durable(network.relay(0).last_seq()).await;
    let state = running.stop().await;
    assert_eq!((state.summary.rejections(), state.summary.gaps), (0, 0));
    assert_eq!(asked(), before + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_that_is_out_is_waited_for() {
    let (network, world, clock) = followed().await;
    network.run(20);
    network.directory().stop();
    // Else all waits would pass before the directory is back.
    clock.is_held.send_replace(true);
    let running = start(&world, &network);
    while clock.waits.lock().expect("no panic").is_empty() {
        tokio::task::yield_now().await;
    }
    network.directory().restart().await;
    clock.is_held.send_replace(false);
    running.durable(network.relay(0).last_seq()).await;
    let state = running.stop().await;
    assert_eq!((state.summary.rejections(), state.summary.commits), (0, 20));
}

async fn followed() -> (FakeNetwork, World, Arc<Waits>) {
    let network = FakeNetwork::start(FakeNetworkConfig::default()).await;
    let clock = Arc::new(Waits::new());
    let shared = Arc::clone(&clock) as Arc<dyn Clock>;
    let mut world = World::new(DidDocs::default(), Arc::clone(&shared)).await;
    let url = network.directory().url().parse().expect("a URL");
    let outbound = Outbound::new(true).expect("a client");
    let settings = IdentitySettings::of(url);
    // Nobody records what the directory says here.
    (world.intake.identities, _) = Identities::directory(outbound, shared, &settings);
    (network, world, clock)
}

fn start(world: &World, network: &FakeNetwork) -> Running {
    let following = Following::new(world.intake.clone(), None, None);
    let endpoint = Endpoint::parse(&network.relay(0).url()).expect("a source");
    let settings = FollowSettings {
        cursor: Some(0),
        ..FollowSettings::default()
    };
    Running::of(following.add(endpoint, settings))
}
