//! `alluvium ingest` and `alluvium up --relay` as processes: what a source tells is what SQL answers, whoever is killed
//! in between.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use testkit::relay::{FakeNetwork, FakeNetworkConfig};

use crate::process::{Running, address_in, alluvium, failure, succeed};

/// How long the processes may take to take in what was told. It is never waited out when all is well.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A network and a folder that it is followed into.
struct World {
    network: FakeNetwork,
    folder: TempDir,
}

impl World {
    async fn new() -> Self {
        let config = FakeNetworkConfig {
            relays: 2,
            ..FakeNetworkConfig::default()
        };
        Self {
            network: FakeNetwork::start(config).await,
            folder: TempDir::new().expect("a folder"),
        }
    }

    fn store(&self) -> String {
        let path = self.folder.path().join("data");
        path.to_str().expect("a path in UTF-8").to_owned()
    }

    /// Starts to follow `relays`, from the first message that they still have.
    fn ingest(&self, relays: &[usize], flags: &[&str]) -> Running {
        let store = self.store();
        let relays: Vec<String> = relays
            .iter()
            .map(|place| self.network.relay(*place).url())
            .collect();
        let directory = self.network.directory().url();
        let mut arguments = vec!["ingest", "--store", &store, "--cursor", "0"];
        for relay in &relays {
            arguments.extend(["--relay", relay]);
        }
        arguments.extend(["--plc-url", &directory, "--allow-private-addresses"]);
        arguments.extend(flags);
        let mut process = Running::start(alluvium(&arguments));
        tokio::task::block_in_place(|| {
            process.wait_for(|line| line.contains("following").then_some(()));
        });
        process
    }

    fn query(&self, sql: &str) -> String {
        succeed(&["sql", "--store", &self.store(), "--format", "csv", sql])
    }

    /// Waits until the bucket holds all that both relays have told.
    async fn settled(&self, relays: &[usize]) {
        let deadline = Instant::now() + TIMEOUT;
        let wanted: BTreeMap<String, i64> = relays
            .iter()
            .map(|place| self.network.relay(*place))
            .map(|relay| (relay.url(), relay.last_seq()))
            .collect();
        loop {
            let said = tokio::task::block_in_place(|| {
                self.query("SELECT source, cursor FROM system.sources ORDER BY source")
            });
            let held: BTreeMap<String, i64> = said
                .lines()
                .skip(1)
                .filter_map(|line| line.split_once(','))
                .map(|(source, cursor)| (source.to_owned(), cursor.parse().expect("a number")))
                .collect();
            if wanted
                .iter()
                .all(|(source, cursor)| held.get(source) == Some(cursor))
            {
                return;
            }
            assert!(Instant::now() < deadline, "{held:?} is not {wanted:?}");
        }
    }

    /// Asserts that SQL answers what the accounts hold, and that nothing was told twice.
    fn assert_whole(&self) {
        let said = self.query("SELECT did, collection, rkey FROM atproto.records");
        let held: BTreeSet<String> = said.lines().skip(1).map(str::to_owned).collect();
        let truth = self.network.truth();
        let expected: BTreeSet<String> = truth
            .iter()
            .flat_map(|(did, account)| {
                let paths = account.records.keys();
                paths.map(move |path| format!("{did},{}", path.replacen('/', ",", 1)))
            })
            .collect();
        assert!(!expected.is_empty());
        assert_eq!(held, expected);
        assert_eq!(said.lines().count() - 1, held.len(), "one row a record");
        let twice = self.query(
            "SELECT did, rev, collection, rkey, count(*) AS n FROM atproto.events WHERE kind = 'commit' \
             GROUP BY 1, 2, 3, 4 HAVING count(*) > 1",
        );
        assert_eq!(twice.lines().count(), 1, "{twice}");
        let refused = self.query("SELECT source, reason FROM system.rejections");
        assert_eq!(refused.lines().count(), 1, "{refused}");
        let gaps = self.query("SELECT source, reason FROM system.resyncs");
        assert_eq!(gaps.lines().count(), 1, "{gaps}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_relay_tells_is_what_sql_answers_whoever_is_killed() {
    let world = World::new().await;
    world.network.run(150);
    for round in 0..3 {
        let process = world.ingest(&[0], &[]);
        let relay = world.network.relay(0);
        relay.connected(1).await;
        // In the middle of what it reads: some of it is durable and some is not.
        world.network.run(150);
        if round > 0 {
            relay.sent_all().await;
        }
        process.stop("KILL");
        relay.connected(0).await;
        world.network.run(50);
    }
    let process = world.ingest(&[0], &[]);
    world.settled(&[0]).await;
    world.assert_whole();
    let (status, said) = tokio::task::block_in_place(|| process.stop("INT"));
    assert!(status.success(), "{said:#?}");
    let end = format!("cursor {}", world.network.relay(0).last_seq());
    assert!(
        said.last().is_some_and(|line| line.contains(&end)),
        "{said:#?}"
    );
    world.assert_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_relays_that_tell_the_same_are_one_network() {
    let world = World::new().await;
    world.network.run(200);
    let process = world.ingest(&[0, 1], &[]);
    world.settled(&[0, 1]).await;
    world.assert_whole();
    drop(process);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_of_the_network_is_that_part() {
    let world = World::new().await;
    world.network.run(200);
    let did = world.network.dids()[0].to_string();
    let process = world.ingest(
        &[0],
        &[
            "--collection",
            "app.bsky.feed.*",
            "--exclude",
            "app.bsky.feed.like",
        ],
    );
    world.settled(&[0]).await;
    drop(process);
    let collections = world.query("SELECT DISTINCT collection FROM atproto.records");
    let truth = world.network.truth();
    let wanted: BTreeSet<&str> = truth
        .values()
        .flat_map(|account| account.records.keys())
        .filter_map(|path| path.split('/').next())
        .filter(|name| name.starts_with("app.bsky.feed.") && *name != "app.bsky.feed.like")
        .collect();
    assert!(wanted.len() > 1, "{wanted:?}");
    let held: BTreeSet<&str> = collections.lines().skip(1).collect();
    assert_eq!(held, wanted);
    let slices = world.query("SELECT slice FROM system.sources");
    assert!(
        slices.contains("app.bsky.feed.* !app.bsky.feed.like"),
        "{slices}"
    );

    // Another part has a cursor of its own.
    let process = world.ingest(&[0], &["--did", &did, "--resync-new", "off"]);
    let expected = truth[&world.network.dids()[0]].records.len();
    let count = format!("SELECT count(*) AS n FROM atproto.records WHERE did = '{did}'");
    let deadline = Instant::now() + TIMEOUT;
    while world.query(&count) != format!("n\n{expected}\n") {
        assert!(Instant::now() < deadline, "{}", world.query(&count));
    }
    drop(process);
    let others = world.query(&format!(
        "SELECT count(*) AS n FROM system.sources WHERE slice = '{did}'"
    ));
    assert_eq!(others, "n\n1\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn up_follows_beside_all_else() {
    let world = World::new().await;
    world.network.run(50);
    let (store, relay) = (world.store(), world.network.relay(0).url());
    let directory = world.network.directory().url();
    let mut process = Running::start(alluvium(&[
        "up",
        "--store",
        &store,
        "--relay",
        &relay,
        "--cursor",
        "0",
        "--plc-url",
        &directory,
        "--allow-private-addresses",
        "--listen",
        "127.0.0.1:0",
    ]));
    let address = tokio::task::block_in_place(|| process.wait_for(address_in));
    world.settled(&[0]).await;
    let server = format!("grpc://{address}");
    let count = "SELECT count(*) AS n FROM atproto.records";
    let asked = succeed(&["sql", "--connect", &server, "--format", "csv", count]);
    assert_eq!(asked, world.query(count));
    let (status, said) = tokio::task::block_in_place(|| process.stop("INT"));
    assert!(status.success(), "{said:#?}");
    world.assert_whole();
}

#[test]
fn a_source_that_is_none_is_told_with_an_example() {
    let folder = TempDir::new().expect("a folder");
    let store = folder.path().join("data");
    let store = store.to_str().expect("a path in UTF-8");
    let said = failure(&["ingest", "--store", store, "--relay", "s3://relay"], 1);
    assert!(said.contains("https://relay.example.com"), "{said}");
    let said = failure(&["ingest", "--store", store], 2);
    assert!(said.contains("--relay"), "{said}");
    let said = failure(&["up", "--did", "did:web:a.example"], 2);
    assert!(said.contains("--relay"), "{said}");
    let twice = [
        "ingest",
        "--store",
        store,
        "--relay",
        "a.example",
        "--relay",
        "wss://a.example",
    ];
    assert!(failure(&twice, 1).contains("second time"));
}
