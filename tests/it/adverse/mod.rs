//! Sources that fail and lie: whatever a relay does, the end state is what the hosts of the accounts hold.
//!
//! The test kit's network is the honest model. Its relays drop, double, move, forge and cut what they pass on, their
//! connections end in every way, and hosts and the directory fail when they are asked. In the end every record table and
//! every account equals the model, every refusal has a reason that the fault may have, and no mark is left open. Each
//! fault is counted by the kit, and each test asserts that its faults did occur.

mod fetches;
mod follower;
mod lies;
mod sources;
mod truth;
mod wires;

use testkit::relay::{FakeNetwork, FakeNetworkConfig, Plan};
use testkit::repo::{NetworkConfig, Write};

use crate::world::{RECORDED_US, post};

/// A network whose first message is an hour before the clock's time.
pub(crate) fn network_of(seed: u64, pdses: usize, relays: usize) -> FakeNetworkConfig {
    FakeNetworkConfig {
        accounts: NetworkConfig {
            seed,
            accounts: 12,
            start_us: RECORDED_US - 3_600_000_000,
            odd_per_mille: 20,
            ..NetworkConfig::default()
        },
        pdses,
        relays,
    }
}

/// Ends all lies, and lets every account say what it is and write once more, so that what was lost shows.
pub(crate) fn come_clean(network: &FakeNetwork, relays: usize) {
    for relay in 0..relays {
        network.relay(relay).plan_stream(Plan::default());
        network.relay(relay).plan_wire(Plan::default());
        network.relay(relay).release_held();
    }
    for (number, (did, truth)) in network.truth().into_iter().enumerate() {
        network.set_status(&did, truth.status.as_deref());
        if truth.status.is_none() {
            let value = atproto::json::from_json(&post("at last")).expect("a record");
            let path = format!("app.bsky.feed.post/last{number}");
            network.commit(&did, &[Write::put(path, &value)]);
        }
    }
}
