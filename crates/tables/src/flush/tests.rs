//! Flushes that race, and flushes over a store that does not answer.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use testkit::fault_store::{Fault, Operation, Rule};

use super::*;
use crate::world::{BLOCK, World, block, deleted};

#[tokio::test]
async fn a_store_that_does_not_answer_stops_no_writer() {
    let mut world = World::new().await;
    world.append(vec![block(1, 1)]).await;
    world
        .store
        .script(Rule::next(Operation::Get, "wal/", Fault::Unavailable).times(u32::MAX));
    let failed = flush(&world.tables, "test", FlushSettings::at_once()).await;
    assert!(failed.unwrap_err().is_store());
    world.store.calm();
    let flushed = world.flush().await;
    assert_eq!((flushed.objects, flushed.blocked.len()), (1, 0));
}

#[tokio::test]
async fn two_flushes_from_one_base_judge_each_other_when_they_commit() {
    let mut world = World::new().await;
    let tables = world.tables.clone();
    world.append(vec![block(1, 5), block(2, 1)]).await;
    let root = tables.chain().newest_root().await.unwrap();
    let take = |world: &World, seq| {
        let position = Position {
            writer: world.writer.writer(),
            seq: storage::Seq(seq),
        };
        let tables = world.tables.clone();
        async move {
            let object = tables.cache().tail_object(tables.bucket(), position).await;
            Tail::new(vec![object.unwrap()])
        }
    };
    let first = take(&world, 1).await;
    let mut first = FlushWork::prepare(tables.clone(), Arc::clone(&root), first)
        .await
        .unwrap();
    // Another writer, and a flush of it alone from the same base: an older row, and a delete of the other.
    let mut other = World {
        store: world.store.clone(),
        tables: tables.clone(),
        writer: storage::LogWriter::new(tables.bucket().clone()),
    };
    other.append(vec![block(1, 4), deleted(2, 3)]).await;
    let second = take(&other, 1).await;
    let mut second = FlushWork::prepare(tables.clone(), Arc::clone(&root), second)
        .await
        .unwrap();
    for work in [&mut first, &mut second] {
        tables
            .chain()
            .commit(root.version, "test", work)
            .await
            .unwrap();
    }
    let scan = world.scan(&world.def("atproto", BLOCK)).await;
    assert_eq!(
        scan.rows(),
        1,
        "the newer row of the one, none of the other"
    );
    let tombstones = tables.chain().newest_root().await.unwrap();
    assert_eq!(tombstones.merged.len(), 2);
}

#[tokio::test]
async fn a_tail_is_flushed_by_one_of_two_that_take_it() {
    let mut world = World::new().await;
    let tables = world.tables.clone();
    world.append(vec![block(1, 5)]).await;
    let root = tables.chain().newest_root().await.unwrap();
    let position = Position {
        writer: world.writer.writer(),
        seq: storage::Seq(1),
    };
    let object = tables
        .cache()
        .tail_object(tables.bucket(), position)
        .await
        .unwrap();
    let tail = Tail::new(vec![object]);
    let mut late = FlushWork::prepare(tables.clone(), Arc::clone(&root), tail)
        .await
        .unwrap();
    assert_eq!(world.flush().await.objects, 1);
    let lost = tables.chain().commit(root.version, "late", &mut late).await;
    assert!(matches!(lost, Err(storage::CommitError::Obsolete { .. })));
}
