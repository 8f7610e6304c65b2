//! Judging both ways, one fact a test.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use crdt::Change;

use super::*;
use crate::tail::{Tail, TailObject};
use crate::view::physical_name;
use crate::world::{BLOCK, World, block, deleted, floor};

/// Judges `news` of blocks against what `before` left in segments; gives verdict, and dead rows in all.
async fn judged(before: Vec<Vec<Change>>, news: Vec<Change>) -> (Verdict, u64) {
    let mut world = World::new().await;
    for changes in before {
        world.append(changes).await;
        world.flush().await;
    }
    world.append(news).await;
    let view = crate::view::ReadView::open(&world.tables).await.unwrap();
    let objects: Vec<Arc<TailObject>> = view.tail().objects().to_vec();
    let tail = Tail::new(objects);
    let floors = tail.floors().unwrap();
    let def = world.def("atproto", BLOCK);
    let new = tail.table(world.tables.builtin(), &def, &floors).unwrap();
    let news = News {
        rows: Some(&new.rows),
        tombstones: new.tombstones.as_ref(),
    };
    let segments = view.segments().of_table(&physical_name(&def));
    let (bucket, cache) = (world.tables.bucket(), world.tables.cache());
    let mut verdict = judge(bucket, cache, &def, news, &floors, segments)
        .await
        .unwrap();
    let of_floors = world.tables.builtin().floors();
    let known = view.segments().of_table(&physical_name(of_floors));
    let known = known_floors(bucket, cache, of_floors, known, &[news])
        .await
        .unwrap();
    apply_floors(&def, news, &known, &mut verdict);
    let dead = verdict.dead.values().map(RoaringBitmap::len).sum();
    (verdict, dead)
}

#[tokio::test]
async fn a_newer_row_kills_the_one_in_the_segment() {
    let (verdict, dead) = judged(vec![vec![block(1, 1), block(2, 1)]], vec![block(1, 2)]).await;
    assert_eq!((dead, verdict.outdated_rows.len()), (1, 0));
    assert_eq!(verdict.blocks, 1);
}

#[tokio::test]
async fn an_older_row_is_outdated() {
    let (verdict, dead) = judged(vec![vec![block(1, 3)]], vec![block(1, 2)]).await;
    assert_eq!((dead, verdict.outdated_rows.len()), (0, 1));
}

#[tokio::test]
async fn the_same_row_again_is_outdated() {
    let (verdict, dead) = judged(vec![vec![block(1, 3)]], vec![block(1, 3)]).await;
    assert_eq!((dead, verdict.outdated_rows.len()), (0, 1));
}

#[tokio::test]
async fn a_delete_kills_an_older_row_and_is_outdated_by_a_newer_one() {
    let (verdict, dead) = judged(
        vec![vec![block(1, 1), block(2, 9)]],
        vec![deleted(1, 2), deleted(2, 2)],
    )
    .await;
    assert_eq!((dead, verdict.outdated_tombstones.len()), (1, 1));
}

#[tokio::test]
async fn a_row_of_the_rev_of_a_delete_wins_both_ways() {
    let (verdict, dead) = judged(vec![vec![block(1, 2)]], vec![deleted(1, 2)]).await;
    assert_eq!((dead, verdict.outdated_tombstones.len()), (0, 1));
    let (verdict, dead) = judged(vec![vec![deleted(1, 2)]], vec![block(1, 2)]).await;
    assert_eq!((dead, verdict.outdated_rows.len()), (1, 0));
}

#[tokio::test]
async fn a_late_row_is_outdated_by_a_tombstone() {
    let (verdict, dead) = judged(vec![vec![deleted(1, 5)]], vec![block(1, 4)]).await;
    assert_eq!((dead, verdict.outdated_rows.len()), (0, 1));
}

#[tokio::test]
async fn a_floor_kills_rows_and_tombstones_below_it_only() {
    let before = vec![
        vec![block(1, 1), block(2, 1)],
        vec![block(3, 8), deleted(4, 2)],
    ];
    let (_, dead) = judged(before, vec![floor(1, 5), floor(3, 8), floor(4, 3)]).await;
    assert_eq!(dead, 2, "of 1 the row, of 4 the tombstone");
}

#[tokio::test]
async fn a_late_row_below_a_merged_floor_is_outdated() {
    let (verdict, _) = judged(vec![vec![floor(1, 5)]], vec![block(1, 4), block(2, 4)]).await;
    assert_eq!(verdict.outdated_rows.len(), 1);
}

#[tokio::test]
async fn a_row_that_is_marked_already_still_outdates_what_is_older() {
    let before = vec![vec![block(1, 5)], vec![deleted(1, 9)]];
    let (verdict, _) = judged(before, vec![block(1, 4)]).await;
    assert_eq!(verdict.outdated_rows.len(), 1);
}
