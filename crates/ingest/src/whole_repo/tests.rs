//! Changes in their order, under one writer id.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicI64, Ordering};

use crdt::storage::{Clock, list_log};

use super::*;
use crate::did_docs::DidDocs;
use crate::fixture::World;

const START_US: i64 = 1_770_000_000_000_000;

#[tokio::test]
async fn a_repository_begins_again_when_the_writer_takes_a_new_id() {
    let mut again = 0;
    for looks in 1..40 {
        let clock = Arc::new(JumpingClock(AtomicI64::new(looks)));
        let world = World::new(DidDocs::default(), clock).await;
        let log = &world.intake.log;
        let mut positions = Vec::new();
        let batches: Vec<ChangeBatch> = (0..3).map(batch).collect();
        // A jump while an append is under way may leave its outcome unknown: then nothing is claimed.
        match append_once(log, &batches, &mut |position| positions.push(position)).await {
            Ok(()) => {}
            Err(AppendError::WriterChanged) => {
                again += 1;
                append_once(log, &batches, &mut |position| positions.push(position))
                    .await
                    .expect("durable");
            }
            Err(_) => continue,
        }
        let last = positions.last().expect("appended").writer;
        let listing = list_log(&world.bucket, &Default::default()).await;
        let mut whole = 0;
        for writer in listing.expect("listed").writers.into_keys() {
            let of_writer = world.log_of(writer).await;
            let told: BTreeSet<u64> = of_writer
                .iter()
                .filter_map(|change| match change {
                    Change::Notice(notice) => Some(notice.bytes),
                    _ => None,
                })
                .collect();
            // Wherever the end stands, all stand; and under the id that was acknowledged it does.
            let has_end = told.contains(&2);
            assert!(!has_end || told == BTreeSet::from([0, 1, 2]), "{told:?}");
            assert!(has_end || writer != last);
            whole += usize::from(has_end);
        }
        assert!(whole > 0);
    }
    assert!(again > 0, "the writer took a new id between two appends");
}

#[test]
fn batches_keep_the_order_and_the_floor_is_last() {
    let changes: Vec<Change> = (0..40)
        .map(|number| {
            let notice = NoticeChange {
                reason: "x".repeat(1 << 20),
                bytes: number,
                ..of_notice()
            };
            Change::Notice(notice)
        })
        .collect();
    let batches = batches_of(changes.clone());
    assert_eq!(batches.len(), 2);
    assert!(batches.iter().all(|batch| batch.bytes() <= BATCH_BYTES));
    let joined: Vec<Change> = batches
        .into_iter()
        .flat_map(|batch| batch.changes)
        .collect();
    assert_eq!(joined, changes);
}

/// A clock that jumps once by more than half the grace, after so many looks.
#[derive(Debug)]
struct JumpingClock(AtomicI64);

impl Clock for JumpingClock {
    fn now_us(&self) -> i64 {
        let minute_us = 60_000_000;
        match self.0.fetch_sub(1, Ordering::SeqCst) {
            1.. => START_US,
            _ => START_US + 20 * minute_us,
        }
    }
}

fn batch(number: u64) -> ChangeBatch {
    let notice = NoticeChange {
        bytes: number,
        ..of_notice()
    };
    vec![Change::Notice(notice)].into()
}

fn of_notice() -> NoticeChange {
    let arrival = Arrival {
        index: 0,
        seq: None,
        bytes: 0,
        hash: [0; 16],
        at: Micros(START_US),
    };
    notice(&"test".into(), arrival, "test")
}
