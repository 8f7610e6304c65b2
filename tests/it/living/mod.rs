//! The living network in a test: a real PLC directory, PDS, relay and MinIO, of which all but the first two are killed.
//!
//! Two Alluviums follow it, one the relay alone, in one process, one the relay and the PDS at once, with a process for
//! each role. After every step SQL equals what the PDS itself lists, or lists no more, for every account and collection.

mod alluvium;
mod network;
mod people;
mod relay;
mod state;

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::Value as Json;
use tempfile::TempDir;

use crate::process::Minio;
use alluvium::{Alluvium, Shape};
use network::Network;
use people::People;
use relay::Relay;
use state::{State, tell};

/// How long something may take that has to happen. It is never waited out when all is well.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// How often is looked whether it happened.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The buckets; MinIO takes a folder for one.
const BUCKETS: [&str; 2] = ["one", "many"];

#[test]
fn sql_equals_what_the_pds_lists_whoever_is_killed() {
    let folder = TempDir::new().expect("a folder");
    let mut stage = Stage::set(&folder);

    // The relay is followed from its first event on, the PDS when there are accounts already.
    stage.follow(Shape::One);
    stage.people.join("ann");
    stage.people.join("ben");
    stage.people.react("ben");
    stage.agree("the first accounts");
    stage.follow(Shape::Many);
    stage.agree("a PDS with accounts");

    stage.people.join("cat");
    stage.people.join("dan");
    stage.people.join("eve");
    for (name, friend) in [("ann", "ben"), ("cat", "dan"), ("eve", "ann")] {
        stage.people.write_everything(name, friend);
        stage.people.react(friend);
    }
    stage.agree("records of every kind");

    stage.people.account("rotate", "eve");
    for name in ["ann", "ben", "cat", "dan", "eve"] {
        stage.people.change_mind(name);
        stage.people.write_batch(name, 20);
    }
    stage.people.rename("ann", "ann-again.test");
    stage.people.rename("dan", "daniel.test");
    stage.agree("edits, deletes, batches, handles, a new signing key");

    stage.people.account("deactivate", "ben");
    stage.people.take_down("cat", true);
    stage.people.react("ann");
    stage.agree("hidden accounts");

    stage.without_alluvium();
    stage.agree("Alluvium was killed");

    stage.without_relay();
    stage.agree("the relay was killed");

    stage.with_a_gap();
    stage.agree("the relay lost events");

    stage.without_minio();
    stage.agree("MinIO was killed");

    stage.end();
}

/// Everything that runs.
#[derive(Debug)]
struct Stage {
    folder: PathBuf,
    minio: Option<Minio>,
    minio_address: SocketAddr,
    relay: Relay,
    people: People,
    alluviums: Vec<Alluvium>,
}

impl Stage {
    /// Starts all but the Alluviums.
    fn set(folder: &TempDir) -> Stage {
        let folder = folder.path().to_owned();
        for bucket in BUCKETS {
            std::fs::create_dir_all(folder.join("minio").join(bucket)).expect("a bucket");
        }
        let minio = Minio::start(&folder.join("minio"));
        let mut network = Network::start(&folder.join("pds"));
        let relay = Relay::start(&folder.join("relay"), &mut network);
        Stage {
            folder,
            minio_address: minio.address(),
            minio: Some(minio),
            relay,
            people: People::on(network),
            alluviums: Vec::new(),
        }
    }

    /// Starts an Alluvium: as one process it follows the relay, as many the relay and the PDS.
    fn follow(&mut self, shape: Shape) {
        let (bucket, pds) = match shape {
            Shape::One => (BUCKETS[0], None),
            Shape::Many => (BUCKETS[1], Some(&self.people.network.pds)),
        };
        let relay = self.relay.url();
        let mut flags = vec!["--relay", &relay];
        match pds {
            Some(pds) => flags.extend(["--relay", pds]),
            // It may connect after the first accounts were made.
            None => flags.push("--cursor=0"),
        }
        let network = &self.people.network;
        flags.extend(["--plc-url", &network.plc, "--handle-resolver", &network.pds]);
        flags.push("--allow-private-addresses");
        let flags: Vec<String> = flags.into_iter().map(str::to_owned).collect();
        let minio = self.minio.as_ref().expect("it runs");
        let store = format!("s3://{bucket}/alluvium");
        let alluvium = Alluvium::start(shape, minio, &store, &flags);
        self.alluviums.push(alluvium);
    }

    /// Waits until every Alluvium answers what the PDS lists.
    fn agree(&mut self, step: &str) {
        let began = Instant::now();
        let expected = State::listed(&self.people.network.list());
        for alluvium in &mut self.alluviums {
            loop {
                let found = State::answered(|sql| alluvium.ask(sql));
                let differences = match &found {
                    Ok(found) => expected.differences(found),
                    Err(error) => vec![error.clone()],
                };
                if differences.is_empty() {
                    break;
                }
                if began.elapsed() > WAIT_MAX {
                    let (store, why) = (alluvium.store().to_owned(), alluvium.explain());
                    panic!("after {step}, {store} has {}\n{why}", tell(&differences));
                }
                std::thread::sleep(LOOK_EVERY);
            }
        }
        let took = began.elapsed().as_secs_f64();
        writeln!(std::io::stderr(), "{step}: both agree after {took:.1} s")
            .expect("standard error");
    }

    /// Kills every process of every Alluvium in the middle of posts; much happens while none is there, an account is
    /// deleted and another one comes back.
    fn without_alluvium(&mut self) {
        self.people.begin_posts(&["ann", "dan", "eve"], 12);
        self.people.network.answer();
        for alluvium in &mut self.alluviums {
            alluvium.kill();
        }
        self.people.network.finish();
        self.people.account("remove", "eve");
        self.people.account("activate", "ben");
        self.people.change_mind("ben");
        self.people.write_batch("dan", 5);
        for alluvium in &mut self.alluviums {
            alluvium.start_again();
        }
    }

    /// Kills the relay in the middle of posts. It may have taken commits that it never tells anybody of; the next
    /// commit of the repository shows the gap.
    fn without_relay(&mut self) {
        self.people.begin_posts(&["ann", "ben", "dan"], 12);
        self.people.network.answer();
        self.relay.kill();
        self.people.network.finish();
        self.people.take_down("cat", false);
        self.people.change_mind("ann");
        self.relay.start_again();
        for name in ["ann", "ben", "dan"] {
            self.people.react(name);
        }
    }

    /// Lets the relay lose commits of every repository. Their next commits show it, and the PDS is asked for the rest.
    fn with_a_gap(&mut self) {
        self.relay.kill();
        self.people.change_mind("ann");
        self.people.write_batch("ben", 3);
        self.people.write_everything("dan", "ann");
        self.relay.forget_cursor();
        self.relay.start_again();
        // Beside the Alluvium that follows the PDS itself.
        self.people.network.wait_for_subscribers(2);
        for name in ["ann", "ben", "dan"] {
            self.people.react(name);
        }
    }

    /// Kills MinIO in the middle of posts, and starts it again where it was.
    fn without_minio(&mut self) {
        self.people.begin_posts(&["ann", "ben", "cat", "dan"], 12);
        self.people.network.answer();
        self.minio.take().expect("it runs").kill();
        self.people.network.finish();
        self.people.change_mind("cat");
        self.people.join("fay");
        let folder = self.folder.join("minio");
        self.minio = Some(Minio::start_at(self.minio_address, &folder));
    }

    /// Ends all in order; what is in the buckets is the same for a process that knows nothing else, merged or not.
    fn end(mut self) {
        let expected = State::listed(&self.people.network.list());
        for alluvium in &mut self.alluviums {
            alluvium.end();
            for step in ["ended", "compacted"] {
                let found = State::answered(|sql| Ok(alluvium.ask_store(sql)));
                let differences = expected.differences(&found.expect("every row once"));
                assert!(differences.is_empty(), "{step}: {}", tell(&differences));
                alluvium.compact();
            }
            let rejections = "SELECT reason, source, did, rev FROM system.rejections";
            assert_eq!(alluvium.ask_store(rejections), [] as [Json; 0]);
            let twice = "SELECT did, rev, collection, rkey, count(*) FROM atproto.events \
                         WHERE kind = 'commit' GROUP BY 1, 2, 3, 4 HAVING count(*) > 1";
            assert_eq!(alluvium.ask_store(twice), [] as [Json; 0]);
            let fetched = "SELECT did FROM system.resyncs WHERE state = 'synchronized'";
            assert!(
                !alluvium.ask_store(fetched).is_empty(),
                "no repository was fetched"
            );
            let open = "SELECT * FROM system.resyncs WHERE state NOT IN ('synchronized', 'gone')";
            assert_eq!(alluvium.ask_store(open), [] as [Json; 0]);
        }
    }
}

/// Waits until something is so.
fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + WAIT_MAX;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(LOOK_EVERY);
    }
}
