//! The recorded relay frames through the whole way: frames in, SQL out, whatever happened to the log in between.
//!
//! What production Jetstream told of the same frames is the measure: its events, compared as a set without the one
//! field that only it knows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ingest::{Intake, NothingKnown};
use serde_json::{Map, Value as Json};
use tempfile::TempDir;

use crate::process::Minio;
use crate::world::{Node, World, record_of, recorded, recorded_docs, rows_equal_their_cids};

/// All that Jetstream tells of an event, by a join that anyone would write.
const EVENTS: &str = "
SELECT e.kind, e.did, e.time, e.seq, e.rev, e.operation, e.collection, e.rkey, e.cid, r.record,
       a.handle, a.active, a.status
FROM atproto.events e
LEFT JOIN atproto.records r
       ON r.did = e.did AND r.collection = e.collection AND r.rkey = e.rkey AND r.cid = e.cid
LEFT JOIN atproto.accounts a ON a.did = e.did";

#[tokio::test]
async fn the_recorded_frames_come_back_from_a_folder() {
    come_back(World::on_folder().await).await;
}

#[tokio::test]
async fn the_recorded_frames_come_back_from_memory() {
    come_back(World::in_memory().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_recorded_frames_come_back_from_minio() {
    let folder = TempDir::new().expect("a folder");
    std::fs::create_dir(folder.path().join("frames")).expect("a bucket");
    let minio = Minio::start(folder.path());
    let store = storage::open_store("s3://frames/database", &minio.environment());
    come_back(World::over(store.expect("a store")).await).await;
}

async fn come_back(world: World) {
    let summary = world.node.replay_recorded().await;
    assert_eq!(
        (summary.frames, summary.commits, summary.events),
        (150, 148, 152)
    );
    assert_eq!(
        summary.verified,
        BTreeMap::from([("inverted", 150)]),
        "146 records and 4 deletes, all of commits that verify by inversion"
    );
    for step in ["replayed", "flushed", "merged"] {
        match step {
            "flushed" => assert_eq!(world.node.flush().await.objects, 1),
            "merged" => {
                world.node.merge().await;
            }
            _ => {}
        }
        for node in [&world.node, &world.another_process().await] {
            holds_what_jetstream_told(node, step).await;
        }
    }
    // Another process replays the same file: it is the same source, and there is nothing to append.
    let node = world.another_process().await;
    let again = node.replay_recorded().await;
    assert_eq!(again.source, summary.source);
    assert_eq!(
        (again.frames, again.skipped, again.positions.len()),
        (0, 150, 0)
    );
    holds_what_jetstream_told(&node, "replayed again").await;
}

async fn holds_what_jetstream_told(node: &Node, step: &str) {
    let rows = node.rows(EVENTS).await;
    assert_eq!(rows.len(), 152, "{step}");
    let told: BTreeSet<String> = rows.iter().map(as_jetstream_tells).collect();
    let expected = std::fs::read_to_string(recorded("expected_v1.jsonl")).expect("there");
    let expected: BTreeSet<String> = expected.lines().map(without_its_clock).collect();
    assert_eq!(expected.len(), 152);
    assert_eq!(told, expected, "{step}");

    assert_eq!(rows_equal_their_cids(node).await.len(), 146, "{step}");
    let inverted = "SELECT count(*) FROM atproto.records WHERE verification = 'inverted'";
    assert_eq!(node.count(inverted).await, 146, "{step}");
    let sources = node.count("SELECT count(*) FROM system.sources").await;
    assert_eq!(sources, 1, "{step}");
    let rejected = node.count("SELECT count(*) FROM system.rejections").await;
    assert_eq!(rejected, 0, "{step}");
}

#[tokio::test]
async fn frames_that_are_appended_twice_are_one_row_each() {
    let world = World::in_memory().await;
    replay_knowing_nothing(&world.node).await;
    replay_knowing_nothing(&world.node).await;
    holds_what_jetstream_told(&world.node, "twice in the tail").await;
    assert_eq!(world.node.flush().await.objects, 2);
    holds_what_jetstream_told(&world.node, "flushed together").await;
    replay_knowing_nothing(&world.node).await;
    holds_what_jetstream_told(&world.node, "in a tail over segments").await;
    world.node.flush().await;
    holds_what_jetstream_told(&world.node, "flushed over segments").await;
    world.node.merge().await;
    holds_what_jetstream_told(&world.node, "merged").await;
}

/// Appends everything, as a replay does that begins before another's appends are seen.
async fn replay_knowing_nothing(node: &Node) {
    let intake = Intake {
        known: Arc::new(NothingKnown),
        ..node.intake(recorded_docs())
    };
    let path = recorded("frames.bin.zst");
    let summary = intake.replay(&path, None, &mut |_| {}).await;
    assert_eq!(summary.expect("replayed").positions.len(), 1);
}

/// A line of Jetstream's, without the one field that only it knows.
fn without_its_clock(line: &str) -> String {
    let mut json: Json = serde_json::from_str(line).expect("JSON");
    json.as_object_mut().expect("an object").remove("time_us");
    json.to_string()
}

/// A row of [`EVENTS`] in Jetstream's words.
fn as_jetstream_tells(row: &Json) -> String {
    let pick = |names: &[&str]| -> Map<String, Json> {
        let picked = names.iter().filter_map(|name| {
            let value = row.get(*name)?;
            Some(((*name).to_owned(), value.clone()))
        });
        picked.collect()
    };
    let kind = row["kind"].as_str().expect("a kind");
    let mut inner = match kind {
        "commit" => pick(&["rev", "operation", "collection", "rkey", "cid"]),
        "identity" => pick(&["did", "seq", "handle"]),
        "account" => pick(&["did", "seq", "active", "status"]),
        other => panic!("{other} was not recorded"),
    };
    if kind == "commit" {
        if row.get("cid").is_some() {
            inner.insert("record".to_owned(), record_of(row));
        }
    } else {
        let time = row["time"].as_str().expect("a time");
        let time = atproto::datetime::parse(time).expect("a time");
        inner.insert("time".to_owned(), atproto::datetime::canonical(time).into());
    }
    serde_json::json!({"did": row["did"], "kind": kind, kind: inner}).to_string()
}
