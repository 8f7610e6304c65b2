//! A real MinIO as the store, shared by separate processes that are killed.
//!
//! Shows that what was acknowledged is there, once, whoever was killed at whatever moment, and that a store which goes
//! away in the middle is waited for.

mod processes;
mod proxy;
mod recordings;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::time::{Duration, Instant};

use atproto::{Cid, cbor, json};
use serde_json::Value as Json;
use tempfile::TempDir;

use crate::process::{Minio, Running};
use processes::{Fleet, Strike, ask, on_store};
use proxy::{Moment, Prey, Proxy, Trap};
use recordings::{Expected, Recordings, sorted};

/// The bucket; MinIO takes a folder for one.
const BUCKET: &str = "alluvium-test";
const STORE: &str = "s3://alluvium-test/fleet";

/// Who is killed in each step, and where its PUT is then. Every moment meets every kind of object.
const STRIKES: [Strike; 6] = [
    strike(0, (Moment::Half, 0), (Prey::Manifest, Moment::Answered)),
    strike(1, (Moment::Late, 1), (Prey::Named, Moment::Half)),
    strike(0, (Moment::Answered, 1), (Prey::Manifest, Moment::Late)),
    strike(1, (Moment::Half, 1), (Prey::Manifest, Moment::Answered)),
    strike(0, (Moment::Late, 0), (Prey::Named, Moment::Answered)),
    strike(1, (Moment::Answered, 0), (Prey::Manifest, Moment::Half)),
];

/// Files that each writer replays in a step.
const FILES_PER_STEP: usize = 2;

/// How long the collector may take to delete what was merged: the grace and some rounds.
const COLLECTED_WITHIN: Duration = Duration::from_secs(90);

const fn strike(side: usize, writer: (Moment, usize), compactor: (Prey, Moment)) -> Strike {
    Strike {
        side,
        writer,
        compactor,
    }
}

#[test]
fn killed_processes_lose_nothing_and_repeat_nothing() {
    let folder = TempDir::new().expect("a folder");
    let recordings = Recordings::make(folder.path(), STRIKES.len() * FILES_PER_STEP - 1);
    let mut fleet = Fleet::start(minio(&folder), folder.path(), &recordings);
    let mut expected = Expected::default();
    for (step, strike) in STRIKES.into_iter().enumerate() {
        let files = recordings.sides.each_ref().map(|files| {
            let files = files.chunks(FILES_PER_STEP);
            files.collect::<Vec<_>>()[step]
        });
        if step == 4 {
            fleet.arm_collector(Moment::Answered);
        }
        fleet.step(files, strike);
        for recorded in files.into_iter().flatten() {
            expected.extend(&recorded.expected);
        }
        // All of it is acknowledged, so a server that was there before sees all of it, merged or not.
        assert_counts(&fleet.ask_server(COUNTS), &expected, step);
        match step {
            1 | 3 => fleet.kill_server(),
            2 => fleet.kill_collector(),
            _ => {}
        }
    }
    fleet.strike_collector(Moment::Answered);
    wait_for_collection(&fleet);
    fleet.end_background();
    let compacted = on_store(&fleet.minio, &["compact", "--once"]).output();
    let compacted = compacted.expect("alluvium starts");
    assert!(compacted.status.success(), "{compacted:?}");

    assert_contents(&fleet.minio, &expected);
    assert_counts(&fleet.ask_server(COUNTS), &expected, STRIKES.len());
    let versions = assert_manifests(&fleet);
    let (in_flight, other) = (fleet.kills.in_flight(), fleet.kills.other);
    say(&format!(
        "{} kills, {in_flight} of them while a PUT was in flight: {:?}; PUTs of the dead were answered {:?}; \
         {} records, {} events, {versions} versions",
        in_flight + other,
        fleet.kills.in_flight,
        fleet.late,
        expected.records().len(),
        expected.events().len(),
    ));
    assert!(in_flight >= other, "{in_flight} of {}", in_flight + other);
    fleet.end();
}

#[test]
fn a_replay_waits_for_a_store_that_went_away() {
    let folder = TempDir::new().expect("a folder");
    let recordings = Recordings::make(folder.path(), 2);
    let store = minio(&folder);
    let address = store.address();
    let proxy = Proxy::start(address);
    let mut arguments = vec!["replay", "--did-docs"];
    let path = |path: &std::path::Path| path.to_str().expect("UTF-8").to_owned();
    let documents = path(&recordings.documents);
    let files = recordings.sides[0].iter();
    let files: Vec<String> = files.map(|recorded| path(&recorded.file)).collect();
    arguments.push(&documents);
    arguments.extend(files.iter().map(String::as_str));
    let mut command = on_store(&store, &arguments);
    command.env("AWS_ENDPOINT_URL", format!("http://{}", proxy.address()));
    let printed = folder.path().join("printed");
    let stdout = std::fs::File::create(&printed).expect("a file");
    proxy.arm(Trap {
        prey: Prey::Log,
        moment: Moment::Half,
        passing: 1,
    });
    let mut replay = Running::start_into(command, stdout.into());
    proxy.caught();
    drop(store);
    proxy.let_go();
    let again = |line: &str| line.contains("trying again").then(|| line.to_owned());
    replay.wait_for(again);
    let acknowledged = std::fs::read_to_string(&printed).expect("a file");
    assert_eq!(acknowledged.lines().count(), 1, "{acknowledged}");

    let store = Minio::start_at(address, folder.path());
    let (status, said) = replay.end();
    assert!(status.success(), "{said:#?}");
    let acknowledged = std::fs::read_to_string(&printed).expect("a file");
    assert_eq!(acknowledged.lines().count(), files.len(), "{acknowledged}");
    let mut expected = Expected::default();
    for recorded in &recordings.sides[0] {
        expected.extend(&recorded.expected);
    }
    assert_contents(&store, &expected);
}

const COUNTS: &str = "SELECT (SELECT count(*) FROM atproto.records) AS records, \
                      (SELECT count(*) FROM atproto.events) AS events";

fn minio(folder: &TempDir) -> Minio {
    std::fs::create_dir(folder.path().join(BUCKET)).expect("a folder");
    Minio::start(folder.path())
}

/// Says something that shows also when the test passes.
fn say(text: &str) {
    writeln!(std::io::stderr(), "{text}").expect("standard error");
}

fn assert_counts(answer: &[Json], expected: &Expected, step: usize) {
    let counts = serde_json::json!({
        "records": expected.records().len(),
        "events": expected.events().len(),
    });
    assert_eq!(answer, [counts], "after step {step}");
}

/// The bucket holds exactly these records and events, and each record's JSON has its CID.
fn assert_contents(minio: &Minio, expected: &Expected) {
    let found = ask(
        minio,
        "SELECT did, collection, rkey, rev, cid, record FROM atproto.records \
         ORDER BY did, collection, rkey, rev",
    );
    let text = |row: &Json, name: &str| row[name].as_str().expect("a text").to_owned();
    for row in &found {
        let record = serde_json::from_str(&text(row, "record")).expect("JSON");
        let record = json::from_json(&record).expect("a record");
        let cid = Cid::of_cbor(&cbor::encode(&record)).to_string();
        assert_eq!(cid, text(row, "cid"), "{row}");
    }
    let columns = ["did", "collection", "rkey", "rev", "cid"];
    let found: Vec<[String; 5]> = found
        .iter()
        .map(|row| columns.map(|column| text(row, column)))
        .collect();
    assert_same(&found, &expected.records());
    let events = ask(
        minio,
        "SELECT kind, did, seq, rev, operation, collection, rkey, cid FROM atproto.events",
    );
    assert_same(&sorted(events.iter()), &expected.events());
}

/// As `assert_eq!`, with only the rows that differ in the message.
fn assert_same<T: Ord + std::fmt::Debug>(found: &[T], expected: &[T]) {
    let missing: Vec<_> = expected.iter().filter(|row| !found.contains(row)).collect();
    let surplus: Vec<_> = found.iter().filter(|row| !expected.contains(row)).collect();
    assert!(
        missing.is_empty() && surplus.is_empty(),
        "missing {missing:#?}, surplus {surplus:#?}"
    );
    assert_eq!(found.len(), expected.len(), "something is there twice");
}

/// Waits until the collector has deleted a log object that a manifest tells of.
fn wait_for_collection(fleet: &Fleet) {
    let deadline = Instant::now() + COLLECTED_WITHIN;
    loop {
        let objects = ask(&fleet.minio, "SELECT writer, seq FROM system.wal");
        let is_there = |writer: &Json, seq: &Json| {
            let mut objects = objects.iter();
            objects.any(|object| object["writer"] == *writer && object["seq"] == *seq)
        };
        let taken = ask(&fleet.minio, "SELECT took FROM system.manifests");
        let mut taken = taken
            .iter()
            .filter_map(|row| row["took"].as_array())
            .flatten();
        if taken.any(|took| !is_there(&took["writer"], &took["to_seq"])) {
            return;
        }
        assert!(Instant::now() < deadline, "no log object is collected");
    }
}

/// What the manifests tell of the log, which is partly deleted by now: no gap, no overlap, both writers' objects
/// between each other, and versions of both compactors. Returns how many versions there are.
fn assert_manifests(fleet: &Fleet) -> usize {
    let manifests = ask(
        &fleet.minio,
        "SELECT version, committer, kind, committed_at, took FROM system.manifests ORDER BY version",
    );
    let versions = manifests.iter().map(|row| row["version"].as_u64());
    assert!(
        versions.eq((1..=manifests.len() as u64).map(Some)),
        "{manifests:#?}"
    );

    let side_of = |writer: &str| {
        let folder = format!("/wal/{writer}/");
        fleet.writers.iter().position(|of_side| {
            let puts = of_side.place.proxy.puts(Prey::Log);
            puts.iter().any(|path| path.contains(&folder))
        })
    };
    let mut merged: BTreeMap<String, u64> = BTreeMap::new();
    let mut sides: Vec<usize> = Vec::new();
    for row in &manifests {
        assert!(row["committed_at"].as_str().is_some(), "{row}");
        for took in row["took"].as_array().expect("a list") {
            let writer = took["writer"].as_str().expect("a writer");
            let last = merged.entry(writer.to_owned()).or_default();
            assert_eq!(took["from_seq"].as_u64(), Some(*last + 1), "{row}");
            *last = took["to_seq"].as_u64().expect("a number");
            sides.push(side_of(writer).expect("a writer of this test"));
        }
    }
    let switches = sides.windows(2).filter(|pair| pair[0] != pair[1]).count();
    assert!(
        switches >= 3,
        "the writers' objects did not interleave: {sides:?}"
    );

    let committers = |kind: &str| -> BTreeSet<u32> {
        let of_kind = manifests.iter().filter(|row| row["kind"] == kind);
        let names = of_kind.filter_map(|row| row["committer"].as_str()?.rsplit('/').next());
        names.map(|id| id.parse().expect("a process id")).collect()
    };
    let flushed = committers("flush");
    for compactor in &fleet.compactors {
        assert!(
            !compactor.ids.is_disjoint(&flushed),
            "{flushed:?} {fleet:#?}"
        );
    }
    assert!(!committers("collect").is_empty(), "{manifests:#?}");
    manifests.len()
}
