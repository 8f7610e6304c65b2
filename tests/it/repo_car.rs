//! Repositories from their CARs: an archive's rows, and the floor that a signed one raises.

use std::collections::BTreeSet;

use atproto::mst::Tree;
use serde_json::json;
use tables::segment::SegmentKind;
use tables::view::ReadView;
use testkit::repo::{RepoBuilder, Write, encode_commit};

use crate::world::{
    Node, World, post, recorded, recorded_docs, rows_equal_their_cids, signed_repo, stamp,
};

#[tokio::test]
async fn the_recorded_repository_is_an_archive() {
    let world = World::on_folder().await;
    let path = recorded("repo.car");
    let intake = world.node.intake(recorded_docs());
    intake.import_car(&path, None).await.expect("imported");
    let expected = std::fs::read_to_string(recorded("car_expected_commit.txt")).expect("there");
    let expected = |name: &str| {
        let line = expected.lines().find_map(|line| line.strip_prefix(name));
        line.expect("a line of this name").trim().to_owned()
    };
    let listing = std::fs::read_to_string(recorded("car_expected_records.tsv")).expect("there");
    let listing: BTreeSet<&str> = listing.lines().collect();
    for step in ["in the tail", "in segments"] {
        let node = world.another_process().await;
        let rows = node
            .rows(
                "SELECT concat(collection, '/', rkey) AS path, cid, did, rev, verification, time
                 FROM atproto.records",
            )
            .await;
        let mut tree = Tree::default();
        let mut listed = BTreeSet::new();
        for row in &rows {
            let (path, cid) = (row["path"].as_str(), row["cid"].as_str());
            let (path, cid) = path.zip(cid).expect("text");
            listed.insert(format!("{path}\t{cid}"));
            let before = tree.insert(path, cid.parse().expect("a CID"));
            assert_eq!(
                before.expect("a key"),
                None,
                "{step}: {path} is there twice"
            );
            assert_eq!(row["did"], expected("DID:"), "{step}");
            assert_eq!(row["rev"], expected("Revision:"), "{step}");
            assert_eq!(row["verification"], "archive", "{step}");
            assert_eq!(row.get("time"), None, "a CAR has no frame");
        }
        assert!(
            listed
                .iter()
                .map(String::as_str)
                .eq(listing.iter().copied()),
            "{step}"
        );
        assert_eq!(
            tree.root().to_string(),
            expected("Data CID:"),
            "{step}: the tree over the rows is the one that was signed"
        );
        assert_eq!(rows_equal_their_cids(&node).await.len(), listing.len());
        assert_eq!(floors(&node).await, 0, "{step}");
        assert_eq!(node.count("SELECT count(*) FROM atproto.events").await, 0);
        world.node.flush().await;
    }
}

#[tokio::test]
async fn a_floor_in_the_tail_hides_what_is_older_in_the_tail() {
    floor_hides(&[]).await;
}

#[tokio::test]
async fn a_floor_in_the_tail_hides_what_is_older_in_segments() {
    floor_hides(&["old"]).await;
}

#[tokio::test]
async fn a_floor_in_segments_hides_what_comes_late() {
    floor_hides(&["old", "car"]).await;
}

#[tokio::test]
async fn floor_and_late_changes_are_flushed_together() {
    floor_hides(&["late"]).await;
}

#[tokio::test]
async fn a_floor_hides_what_is_older_at_each_step() {
    floor_hides(&["old", "car", "late"]).await;
}

/// Frames of an older repository come, a CAR of a newer one, then the older frames by another way. After the steps in
/// `flushed`, what is in the tail is flushed.
async fn floor_hides(flushed: &[&str]) {
    let world = World::in_memory().await;
    let (mut old, docs) = signed_repo();
    let folder = tempfile::TempDir::new().expect("a folder");
    let frames = folder.path().join("frames");
    std::fs::write(&frames, recording(&old_frames(&mut old))).expect("written");
    let mut new = RepoBuilder::new(old.account().clone());
    let writes = ["0", "7"].map(|rkey| {
        let record = atproto::json::from_json(&post(&format!("new {rkey}")));
        Write::put(
            format!("app.bsky.feed.post/{rkey}"),
            &record.expect("a record"),
        )
    });
    new.commit(stamp(100), &writes);
    let car = folder.path().join("repo.car");
    std::fs::write(&car, new.car()).expect("written");
    let flush_after = async |step: &str| {
        if flushed.contains(&step) {
            world.node.flush().await;
        }
    };

    let intake = world.node.intake(docs.clone());
    let summary = intake.replay(&frames, Some("first"), &mut |_| {}).await;
    assert_eq!(summary.expect("replayed").commits, 8);
    flush_after("old").await;
    assert_eq!(
        posts(&world.node).await,
        ["old 0", "old 1", "old 3", "old 4"]
    );
    assert_eq!(links(&world.node).await, 1);

    let summary = intake.import_car(&car, None).await.expect("imported");
    assert_eq!((summary.records, summary.floors), (2, 1));
    flush_after("car").await;
    only_the_new_is_there(&world, "car").await;

    let intake = world.node.intake(docs);
    let summary = intake.replay(&frames, Some("late"), &mut |_| {}).await;
    assert_eq!(summary.expect("replayed").commits, 8, "another source's");
    flush_after("late").await;
    only_the_new_is_there(&world, "late").await;

    world.node.flush().await;
    only_the_new_is_there(&world, "flushed").await;
    let view = ReadView::open(&world.node.tables).await.expect("a view");
    let tombstones = view.segments().entries();
    let tombstones = tombstones.filter(|entry| entry.kind == SegmentKind::Tombstones);
    let live: u64 = tombstones.map(|entry| entry.live_rows()).sum();
    assert_eq!(live, 0, "the floor stands for all deletions below it");
    world.node.merge().await;
    only_the_new_is_there(&world, "merged").await;
}

/// Five posts, a like and the deletion of a post; one of the posts is changed.
fn old_frames(repo: &mut RepoBuilder) -> Vec<Vec<u8>> {
    let did = repo.account().did().to_string();
    let value = |json| atproto::json::from_json(&json).expect("a record");
    let mut writes: Vec<Write> = (0..5)
        .map(|number| {
            let record = value(post(&format!("old {number}")));
            Write::put(format!("app.bsky.feed.post/{number}"), &record)
        })
        .collect();
    let subject = json!({
        "uri": format!("at://{did}/app.bsky.feed.post/1"),
        "cid": atproto::Cid::of_cbor(b"a").to_string()
    });
    let like = json!({
        "$type": "app.bsky.feed.like", "subject": subject, "createdAt": "2026-07-04T14:00:00.000Z"
    });
    writes.push(Write::put("app.bsky.feed.like/a", &value(like)));
    writes.push(Write::delete("app.bsky.feed.post/2"));
    writes.push(Write::put("com.example.thing/a", &value(json!({"a": 1}))));
    (0..)
        .zip(&writes)
        .map(|(number, write)| {
            encode_commit(&repo.commit(stamp(number), std::slice::from_ref(write)))
        })
        .collect()
}

async fn only_the_new_is_there(world: &World, step: &str) {
    for node in [&world.node, &world.another_process().await] {
        assert_eq!(posts(node).await, ["new 0", "new 7"], "{step}");
        assert_eq!(links(node).await, 0, "{step}");
        assert_eq!(rows_equal_their_cids(node).await.len(), 2, "{step}");
        let signed = "SELECT count(*) FROM atproto.records WHERE verification = 'signature'";
        assert_eq!(node.count(signed).await, 2, "{step}");
        assert_eq!(floors(node).await, 1, "{step}");
    }
}

async fn posts(node: &Node) -> Vec<String> {
    let rows = node.rows("SELECT text FROM bsky.post ORDER BY text").await;
    let texts = rows.iter().filter_map(|row| row["text"].as_str());
    texts.map(str::to_owned).collect()
}

async fn links(node: &Node) -> u64 {
    node.count("SELECT count(*) FROM atproto.links").await
}

/// Repo floors: a table that SQL does not show.
async fn floors(node: &Node) -> u64 {
    let view = ReadView::open(&node.tables).await.expect("a view");
    let scan = view.scan(node.tables.builtin().floors()).await;
    scan.expect("a scan").rows()
}

fn recording(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for frame in frames {
        bytes.extend(u32::try_from(frame.len()).expect("short").to_le_bytes());
        bytes.extend(frame);
    }
    bytes
}
