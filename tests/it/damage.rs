//! Objects that are damaged or cut, and a store that dies: damage is named, never served and never deleted, and what
//! is acknowledged is durable.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use ingest::Intake;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use serde_json::Value as Json;
use storage::{Bucket, Settings, layout};
use tables::flush::{FlushSettings, flush};
use tables::manifest::decode_body;
use tables::merge::{MergeSettings, merge_once};
use tables::view::ReadView;
use testkit::fault_store::{Fault, FaultStore, Operation, Rule};

use crate::world::{Node, World, append, post, record_change, recorded, recorded_docs, told};

const DID: &str = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa";

/// Statements that together read every column of every table there is something in.
const STATEMENTS: [&str; 8] = [
    "SELECT * FROM bsky.post ORDER BY uri",
    "SELECT * FROM bsky.like ORDER BY uri",
    "SELECT * FROM bsky.follow ORDER BY uri",
    "SELECT * FROM atproto.records ORDER BY uri",
    "SELECT * FROM atproto.events ORDER BY time, did, rkey",
    "SELECT * FROM atproto.accounts ORDER BY did",
    "SELECT * FROM atproto.links ORDER BY target, uri, path",
    "SELECT * FROM system.sources",
];

/// All objects of a bucket.
type Objects = BTreeMap<Path, Bytes>;

#[tokio::test]
async fn a_damaged_object_is_named_and_neither_served_nor_deleted() {
    let (objects, named) = bucket_with_all_kinds().await;
    let world = world_of(&objects).await;
    let mut whole = Vec::new();
    for statement in STATEMENTS {
        whole.push(world.node.rows(statement).await);
    }
    for (kind, path) in &named {
        let bytes = &objects[path];
        let mut noticed = 0;
        let places = 6;
        for place in 0..places {
            let mut damaged = bytes.to_vec();
            let at = bytes.len() * place / places;
            damaged[at] ^= 0x10;
            noticed += is_noticed(&objects, path, damaged, &whole).await;
        }
        noticed += is_noticed(&objects, path, bytes[..bytes.len() / 2].to_vec(), &whole).await;
        noticed += is_noticed(&objects, path, Vec::new(), &whole).await;
        // A segment's own footer, half of one so small, is not read: its index holds a copy.
        let least = if *kind == "segment" { 3 } else { places };
        assert!(noticed >= least, "{kind}: {noticed} of {}", places + 2);
    }
}

/// Whether any statement meets the damage; each gives its right answer or an error that names the object.
async fn is_noticed(
    objects: &Objects,
    path: &Path,
    damaged: Vec<u8>,
    whole: &[Vec<Json>],
) -> usize {
    let mut objects = objects.clone();
    objects.insert(path.clone(), damaged.into());
    let world = world_of(&objects).await;
    let mut is_noticed = false;
    for (statement, whole) in STATEMENTS.iter().zip(whole) {
        match world.node.ask(statement).await {
            Ok(rows) => assert_eq!(&rows, whole, "{path}: {statement}"),
            Err(error) => {
                names(path, &told(&error));
                is_noticed = true;
            }
        }
    }
    compact(&world.node, path).await;
    for (path, bytes) in &objects {
        let there = world.node.bucket().store().get(path).await;
        let there = there.expect("nothing is deleted").bytes().await;
        assert_eq!(&there.expect("nothing is deleted"), bytes);
    }
    usize::from(is_noticed)
}

/// Flushes and merges; what it can't do because of damage it says.
async fn compact(node: &Node, path: &Path) {
    match flush(&node.tables, "test", FlushSettings::at_once()).await {
        Ok(flushed) => {
            for blocked in flushed.blocked {
                names(path, &told(&blocked.error));
            }
        }
        Err(error) => names(path, &told(&error)),
    }
    let settings = MergeSettings {
        fan_in: 2,
        ..MergeSettings::default()
    };
    loop {
        match merge_once(&node.tables, "test", &settings).await {
            Ok(Some(_)) => {}
            Ok(None) => break,
            Err(error) => {
                names(path, &told(&error));
                break;
            }
        }
    }
}

/// An error names an object by its path, or a log object by its position, or a manifest by its version.
fn names(path: &Path, error: &str) {
    let position = layout::position_of(path).map(|position| position.to_string());
    let version = layout::version_of(path).map(|version| format!("manifest {version}"));
    let is_named = error.contains(path.as_ref())
        || position.is_some_and(|position| error.contains(&position))
        || version.is_some_and(|version| error.contains(&version));
    assert!(is_named, "{path} is not named: {error}");
}

/// The objects of a bucket that has some of each kind, and one of each that answers depend on.
async fn bucket_with_all_kinds() -> (Objects, Vec<(&'static str, Path)>) {
    let world = World::in_memory().await;
    let node = &world.node;
    node.replay_recorded().await;
    let mut writer = node.writer();
    for rkey in ["a", "b"] {
        let path = format!("app.bsky.feed.post/{rkey}");
        append(
            &mut writer,
            vec![record_change(DID, &path, 1, Some(&post("first")))],
        )
        .await;
    }
    node.flush().await;
    append(
        &mut writer,
        vec![record_change(DID, "app.bsky.feed.post/a", 2, None)],
    )
    .await;
    node.flush().await;
    let position = append(
        &mut writer,
        vec![record_change(
            DID,
            "app.bsky.feed.post/c",
            3,
            Some(&post("second")),
        )],
    )
    .await;
    let view = ReadView::open(&node.tables).await.expect("a view");
    let posts = view.segments().of_table("atproto.app.bsky.feed.post");
    let marked = posts.iter().find(|entry| entry.marks.is_some());
    let marked = marked.expect("the deletion marks a row");
    let marks = marked.marks.as_ref().expect("found by it");
    let largest = posts.iter().max_by_key(|entry| entry.bytes);
    let parts = decode_body(&view.root().body).expect("ours").parts;
    let named = vec![
        ("log object", layout::wal_object(position)),
        ("manifest", layout::manifest(view.version())),
        ("part", Path::from(parts[0].path.as_str())),
        ("pack", Path::from(marked.index.path.as_str())),
        ("marks", Path::from(marks.bitmap.path.as_str())),
        ("segment", Path::from(largest.expect("some").path.as_str())),
    ];
    (objects_of(node.bucket().store()).await, named)
}

async fn objects_of(store: &Arc<dyn ObjectStore>) -> Objects {
    let metas: Vec<_> = store.list(None).try_collect().await.expect("listed");
    let mut objects = Objects::new();
    for meta in metas {
        let object = store.get(&meta.location).await.expect("there");
        objects.insert(meta.location, object.bytes().await.expect("there"));
    }
    objects
}

async fn world_of(objects: &Objects) -> World {
    let store = InMemory::new();
    for (path, bytes) in objects {
        let put = store.put(path, bytes.clone().into()).await;
        put.expect("put");
    }
    World::over(Arc::new(store)).await
}

#[tokio::test]
async fn a_damaged_log_object_stops_its_writer_only() {
    let world = World::in_memory().await;
    let (mut sound, mut damaged) = (world.node.writer(), world.node.writer());
    let write = |rkey: &str| {
        let path = format!("app.bsky.feed.post/{rkey}");
        vec![record_change(DID, &path, 1, Some(&post(rkey)))]
    };
    append(&mut sound, write("a")).await;
    append(&mut damaged, write("b")).await;
    let broken = append(&mut damaged, write("c")).await;
    append(&mut damaged, write("d")).await;
    let mut objects = objects_of(world.node.bucket().store()).await;
    let path = layout::wal_object(broken);
    let mut bytes = objects[&path].to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    objects.insert(path.clone(), bytes.into());

    let world = world_of(&objects).await;
    let flushed = world.node.flush().await;
    assert_eq!(
        flushed.objects, 2,
        "the sound writer's, and what stands before the damage"
    );
    assert_eq!(flushed.blocked.len(), 1);
    assert_eq!(flushed.blocked[0].position, broken);
    let error = world.node.ask("SELECT count(*) FROM bsky.post").await;
    names(
        &path,
        &told(&error.expect_err("what stands behind is acknowledged")),
    );
    assert_eq!(world.node.flush().await.objects, 0);
    let there = objects_of(world.node.bucket().store()).await;
    assert_eq!(there[&path], objects[&path]);
}

#[tokio::test]
async fn a_store_that_dies_in_the_middle_has_what_it_acknowledged_and_a_replay_goes_on() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let files = split_recording(folder.path(), 5);
    let (mut acknowledged, mut broken_off) = (BTreeSet::new(), 0);
    for requests in 0..40 {
        let store = FaultStore::in_memory();
        let world = World::over(Arc::new(store.clone())).await;
        if requests % 3 == 0 {
            // The append that it dies over is durable, and nobody heard of it.
            store.script(
                Rule::next(Operation::Put, "wal", Fault::After)
                    .after(requests / 8)
                    .times(50),
            );
        }
        let process = store.another_process();
        process.kill_after(requests);
        let heard = replay_until_it_dies(&world, Arc::new(process), &files).await;
        store.calm();
        broken_off += usize::from(heard < files.len());
        acknowledged.insert(heard);

        let cursors = world
            .node
            .count("SELECT count(*) FROM system.sources")
            .await;
        assert!(cursors >= heard as u64, "what was acknowledged is there");
        assert_eq!(replay_all(&world.node, &files).await, files.len());
        let cursors = world
            .node
            .count("SELECT count(*) FROM system.sources")
            .await;
        assert_eq!(cursors, files.len() as u64);
        let records = world
            .node
            .count("SELECT count(*) FROM atproto.records")
            .await;
        let events = world
            .node
            .count("SELECT count(*) FROM atproto.events")
            .await;
        assert_eq!(
            (records, events),
            (146, 152),
            "dead after {requests} requests"
        );
    }
    assert!(
        broken_off >= 15 && acknowledged.len() == files.len() + 1,
        "{acknowledged:?}"
    );
}

/// Replays file by file over `store`, and returns how many were acknowledged.
async fn replay_until_it_dies(
    world: &World,
    store: Arc<dyn ObjectStore>,
    files: &[std::path::PathBuf],
) -> usize {
    let clock = Arc::clone(&world.clock) as _;
    match Bucket::open_existing(store, clock, Settings::default()).await {
        Ok(bucket) => replay_all(&Node::over(bucket), files).await,
        Err(_) => 0,
    }
}

/// Replays file by file as one source until one is refused, and returns how many were acknowledged.
async fn replay_all(node: &Node, files: &[std::path::PathBuf]) -> usize {
    let intake: Intake = node.intake(recorded_docs());
    for (number, file) in files.iter().enumerate() {
        if intake
            .replay(file, Some("relay"), &mut |_| {})
            .await
            .is_err()
        {
            return number;
        }
    }
    files.len()
}

/// The recorded frames as so many files.
fn split_recording(folder: &std::path::Path, count: usize) -> Vec<std::path::PathBuf> {
    let packed = std::fs::read(recorded("frames.bin.zst")).expect("there");
    let bytes = zstd::decode_all(&packed[..]).expect("zstd");
    let (mut frames, mut rest) = (Vec::new(), &bytes[..]);
    while let Some((length, _)) = rest.split_first_chunk() {
        let (frame, behind) = rest.split_at(4 + u32::from_le_bytes(*length) as usize);
        frames.push(frame);
        rest = behind;
    }
    let files = frames.chunks(frames.len().div_ceil(count)).enumerate();
    files
        .map(|(number, frames)| {
            let path = folder.join(number.to_string());
            std::fs::write(&path, frames.concat()).expect("written");
            path
        })
        .collect()
}
