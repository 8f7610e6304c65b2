//! Merges over a bucket in memory: what they keep, what they carry, what stops them.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;

use arrow::array::AsArray;
use futures::TryStreamExt;
use object_store::ObjectStoreExt;
use object_store::path::Path;

use super::*;
use crate::segment::SegmentKind;
use crate::world::{BLOCK, World, block, deleted, did, floor};

const FLUSHES: usize = 8;
const REPOS: usize = 40;

/// Eight flushes of blocks, all in one partition; every repo's row is written anew in the last.
async fn world() -> World {
    let mut world = World::new().await;
    for flush in 0..FLUSHES {
        let repos = flush * REPOS..(flush + 1) * REPOS;
        world
            .append(repos.map(|repo| block(repo, 10)).collect())
            .await;
        assert!(world.flush().await.root.is_some());
    }
    world
}

/// Fits what `world` holds: small segments, merged by eights.
fn settings() -> MergeSettings {
    MergeSettings::default()
}

async fn prepare(world: &World) -> (Arc<Root>, MergeWork) {
    let tables = &world.tables;
    let root = tables.chain().newest_root().await.unwrap();
    let set = tables
        .cache()
        .segments(tables.bucket(), &root)
        .await
        .unwrap();
    let plan = plan(&set, &settings()).into_iter().next().unwrap();
    assert_eq!(plan.inputs.len(), FLUSHES);
    let mut work = MergeWork::new(tables.clone());
    work.prepare(&root, plan, &settings()).await.unwrap();
    (root, work)
}

/// The repos that have a block, as a fresh view reads its segments.
async fn repos(world: &World) -> BTreeSet<String> {
    let scan = world.scan(&world.def("atproto", BLOCK)).await;
    let mut repos = BTreeSet::new();
    for segment in &scan.segments {
        let tables = &world.tables;
        let reader = tables.cache().reader(tables.bucket(), &segment.entry).await;
        let live = crate::segment::read_live(&reader.unwrap(), &segment.dead).await;
        let live: Vec<_> = live.unwrap().try_collect().await.unwrap();
        for (batch, _) in live {
            let dids = batch.column_by_name("did").unwrap().as_string::<i32>();
            for did in dids.iter().flatten() {
                assert!(repos.insert(did.to_owned()), "{did} twice");
            }
        }
    }
    assert_eq!(
        repos.len() as u64,
        scan.rows() - scan.tail.num_rows() as u64
    );
    repos
}

async fn row_segments(world: &World) -> usize {
    world
        .scan(&world.def("atproto", BLOCK))
        .await
        .segments
        .len()
}

#[tokio::test]
async fn a_merge_keeps_every_row() {
    let world = world().await;
    let before = repos(&world).await;
    assert_eq!(
        (before.len(), row_segments(&world).await),
        (FLUSHES * REPOS, FLUSHES)
    );
    let merged = merge_once(&world.tables, "test", &settings())
        .await
        .unwrap();
    assert!(merged.is_some());
    assert_eq!(row_segments(&world).await, 1);
    assert_eq!(repos(&world).await, before);
}

#[tokio::test]
async fn marks_that_are_set_while_a_merge_runs_are_carried() {
    let mut world = world().await;
    let before = repos(&world).await;
    let (root, mut work) = prepare(&world).await;
    // While it runs: a delete, an update, a repo's floor. All mark rows of its inputs.
    let changes = vec![deleted(3, 20), block(100, 20), floor(200, 20)];
    world.append(changes).await;
    assert!(world.flush().await.root.is_some());
    let chain = world.tables.chain();
    chain.commit(root.version, "late", &mut work).await.unwrap();

    let after = repos(&world).await;
    let expected: BTreeSet<String> = before
        .into_iter()
        .filter(|name| *name != did(3).to_string() && *name != did(200).to_string())
        .collect();
    assert_eq!(after, expected);
    let scan = world.scan(&world.def("atproto", BLOCK)).await;
    let marked: u64 = scan.segments.iter().map(|segment| segment.dead.len()).sum();
    assert_eq!((scan.segments.len(), marked), (2, 3));
}

#[tokio::test]
async fn a_row_that_was_marked_before_a_merge_is_left_out() {
    let mut world = world().await;
    world.append(vec![deleted(3, 20), deleted(77, 20)]).await;
    world.flush().await;
    merge_once(&world.tables, "test", &settings())
        .await
        .unwrap();
    let scan = world.scan(&world.def("atproto", BLOCK)).await;
    assert_eq!(scan.segments.len(), 1);
    assert_eq!(scan.segments[0].entry.rows as usize, FLUSHES * REPOS - 2);
    assert!(scan.segments[0].dead.is_empty());
}

#[tokio::test]
async fn a_flush_that_was_prepared_before_a_merge_marks_its_output() {
    let mut world = world().await;
    world.append(vec![deleted(3, 20)]).await;
    // The flush reads the eight, and commits when they are one: the same as if the merge had come first.
    merge_once(&world.tables, "test", &settings())
        .await
        .unwrap();
    world.flush().await;
    assert!(!repos(&world).await.contains(did(3).as_str()));
}

#[tokio::test]
async fn a_merge_whose_input_is_gone_is_not_made() {
    let world = world().await;
    let (root, mut work) = prepare(&world).await;
    merge_once(&world.tables, "first", &settings())
        .await
        .unwrap();
    let lost = world
        .tables
        .chain()
        .commit(root.version, "late", &mut work)
        .await;
    assert!(matches!(lost, Err(storage::CommitError::Obsolete { .. })));
}

#[tokio::test]
async fn a_merge_of_a_damaged_segment_fails_and_changes_nothing() {
    let world = world().await;
    let scan = world.scan(&world.def("atproto", BLOCK)).await;
    let entry = Arc::clone(&scan.segments[2].entry);
    assert_eq!(entry.kind, SegmentKind::Rows);
    let path = Path::from(entry.path.as_str());
    let bytes = world.store.get(&path).await.unwrap().bytes().await.unwrap();
    let mut damaged = bytes.to_vec();
    damaged[20] ^= 1;
    world.store.put(&path, damaged.into()).await.unwrap();
    let version = world.tables.chain().newest_root().await.unwrap().version;
    let failed = merge_once(&world.tables, "test", &settings()).await;
    assert!(matches!(failed, Err(TablesError::Damaged { path, .. }) if path == entry.path));
    let newest = world.tables.chain().newest_root().await.unwrap();
    assert_eq!(newest.version, version);
}

/// Eight flushes of a row and a tombstone each: two merges are due.
async fn two_due() -> World {
    let mut world = World::new().await;
    for flush in 0..FLUSHES {
        let changes = vec![block(flush, 10), deleted(1_000 + flush, 10)];
        world.append(changes).await;
        world.flush().await;
    }
    world
}

#[tokio::test]
async fn small_merges_share_a_commit() {
    let world = two_due().await;
    let before = world.tables.chain().newest_root().await.unwrap().version;
    let merged = merge_once(&world.tables, "test", &settings())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(merged.merges, 2);
    assert_eq!(merged.root.version, before.next());
    assert_eq!(repos(&world).await.len(), FLUSHES);
    let again = merge_once(&world.tables, "test", &settings()).await;
    assert!(again.unwrap().is_none());
}

#[tokio::test]
async fn a_damaged_segment_stops_no_other_merge() {
    let world = two_due().await;
    let scan = world.scan(&world.def("atproto", BLOCK)).await;
    let path = Path::from(scan.segments[2].entry.path.as_str());
    let damaged = bytes::Bytes::from_static(b"damage");
    world.store.put(&path, damaged.into()).await.unwrap();
    let merged = merge_once(&world.tables, "test", &settings())
        .await
        .unwrap();
    assert_eq!(merged.map(|merged| merged.merges), Some(1));
    assert_eq!(row_segments(&world).await, FLUSHES);
}
