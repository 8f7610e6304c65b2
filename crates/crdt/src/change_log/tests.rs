//! The change log over a store in memory.

use std::collections::BTreeSet;

use storage::object_store::memory::InMemory;
use storage::{ManualClock, list_log, read_log};

use super::*;
use crate::change::{Change, CursorChange, Micros};

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn what_is_acknowledged_is_in_the_log() {
    let bucket = bucket().await;
    let log = spawn(&bucket, Duration::ZERO, 1);
    for number in 0..3 {
        let position = log.append(batch(number, 2)).await.expect("durable");
        assert_eq!(read(&bucket, position).await, batch(number, 2));
    }
    log.close().await;
}

#[tokio::test]
async fn batches_of_many_callers_share_an_object_and_are_not_split() {
    let bucket = bucket().await;
    let log = spawn(&bucket, HOUR, usize::MAX);
    let callers: Vec<_> = (0..20)
        .map(|number| {
            let log = log.clone();
            tokio::spawn(async move { log.append(batch(number, 3)).await })
        })
        .collect();
    // The interval never passes: only closing flushes.
    tokio::task::yield_now().await;
    while log.budget.available_permits() > log.budget_max as usize - 20 {
        tokio::task::yield_now().await;
    }
    log.close().await;
    let mut positions = BTreeSet::new();
    for caller in callers {
        positions.insert(caller.await.expect("no panic").expect("durable"));
    }
    let position = *positions.first().expect("one");
    assert_eq!(positions.len(), 1);
    let decoded = read(&bucket, position).await;
    assert_eq!(decoded.changes.len(), 60);
    for number in 0..20 {
        let at = decoded.changes.iter().position(|c| *c == change(number, 0));
        let at = at.expect("the batch is there");
        assert_eq!(decoded.changes[at..at + 3], batch(number, 3).changes);
    }
}

#[tokio::test]
async fn bytes_flush_before_the_interval() {
    let bucket = bucket().await;
    let log = spawn(&bucket, HOUR, batch(0, 1).bytes());
    let first = log.append(batch(0, 1)).await.expect("durable");
    let second = log.append(batch(1, 1)).await.expect("durable");
    assert_eq!(
        (second.writer, second.seq),
        (first.writer, first.seq.next())
    );
}

#[tokio::test]
async fn what_has_to_follow_goes_under_the_same_id_or_not_at_all() {
    let clock = Arc::new(ManualClock::new(1_770_000_000_000_000));
    let bucket = Bucket::open(
        Arc::new(InMemory::new()),
        Arc::clone(&clock) as Arc<dyn storage::Clock>,
        storage::Settings::default(),
    );
    let bucket = bucket.await.expect("a store in memory");
    let log = spawn(&bucket, Duration::ZERO, 1);
    let first = log.append(batch(0, 1)).await.expect("durable");
    let second = log.append_after(first, batch(1, 1)).await.expect("durable");
    assert_eq!(
        (second.writer, second.seq),
        (first.writer, first.seq.next())
    );
    // The writer takes a new id, since it was silent for too long.
    clock.advance(HOUR);
    let refused = log.append_after(second, batch(2, 1)).await;
    assert!(matches!(refused, Err(AppendError::WriterChanged)));
    let third = log.append(batch(3, 1)).await.expect("durable");
    assert_ne!(third.writer, first.writer);
    let refused = log.append_after(second, batch(2, 1)).await;
    assert!(matches!(refused, Err(AppendError::WriterChanged)));
    log.append_after(third, batch(4, 1)).await.expect("durable");
    let listing = list_log(&bucket, &Default::default()).await;
    let objects: Vec<usize> = listing
        .expect("listed")
        .writers
        .values()
        .map(|seqs| seqs.len())
        .collect();
    assert_eq!(objects, [2, 2], "what was refused is in no object");
}

#[tokio::test]
async fn a_closed_log_writes_nothing_and_says_so() {
    let bucket = bucket().await;
    let log = spawn(&bucket, Duration::ZERO, 1);
    log.close().await;
    assert!(matches!(
        log.append(batch(0, 1)).await,
        Err(AppendError::Closed)
    ));
    let listing = list_log(&bucket, &Default::default())
        .await
        .expect("listed");
    assert!(listing.writers.is_empty(), "nothing is written when idle");
}

#[tokio::test]
async fn stopping_flushes_what_waits() {
    let bucket = bucket().await;
    let stop = CancellationToken::new();
    let settings = Settings {
        flush_interval: HOUR,
        ..Settings::default()
    };
    let log = ChangeLog::spawn(&bucket, settings, &stop);
    let waiting = log.append(batch(0, 1));
    let stopping = async {
        while log.queue.capacity() == log.queue.max_capacity() {
            tokio::task::yield_now().await;
            if log.budget.available_permits() < log.budget_max as usize {
                break;
            }
        }
        stop.cancel();
    };
    let (position, ()) = tokio::join!(waiting, stopping);
    assert_eq!(read(&bucket, position.expect("durable")).await, batch(0, 1));
}

#[tokio::test]
async fn dropping_all_handles_flushes_what_was_taken() {
    let bucket = bucket().await;
    let log = spawn(&bucket, HOUR, usize::MAX);
    let ended = log.ended.clone();
    let caller = tokio::spawn(async move { log.append(batch(0, 1)).await });
    // The caller owns the last handle and waits with it, so here the interval has to be given up by hand.
    tokio::task::yield_now().await;
    caller.abort();
    assert!(caller.await.is_err());
    ended.cancelled().await;
    let listing = list_log(&bucket, &Default::default())
        .await
        .expect("listed");
    assert_eq!(listing.writers.len(), 1);
}

#[tokio::test]
async fn a_batch_that_is_too_large_is_refused_before_it_waits() {
    let bucket = bucket().await;
    let log = spawn(&bucket, Duration::ZERO, 1);
    let large = Change::Cursor(CursorChange {
        source: "x".repeat(BATCH_BYTES_MAX).into(),
        slice: String::new(),
        generation: 0,
        cursor: 0,
        indexed_at: Micros(0),
    });
    let refused = log.append(vec![large].into()).await;
    assert!(matches!(refused, Err(AppendError::TooLarge { .. })));
}

#[tokio::test]
async fn a_small_budget_lets_batches_through_one_by_one() {
    let bucket = bucket().await;
    let settings = Settings {
        flush_interval: Duration::ZERO,
        flush_bytes: 1,
        queue_bytes_max: 1,
    };
    let log = ChangeLog::spawn(&bucket, settings, &CancellationToken::new());
    let (a, b, c) = tokio::join!(
        log.append(batch(0, 50)),
        log.append(batch(1, 50)),
        log.append(batch(2, 50))
    );
    let mut seqs: Vec<u64> = [a, b, c].map(|p| p.expect("durable").seq.0).into();
    seqs.sort_unstable();
    assert_eq!(seqs, [1, 2, 3]);
}

async fn bucket() -> Bucket {
    let clock = Arc::new(ManualClock::new(1_780_000_000_000_000));
    Bucket::open(
        Arc::new(InMemory::new()),
        clock,
        storage::Settings::default(),
    )
    .await
    .expect("a store in memory")
}

fn spawn(bucket: &Bucket, flush_interval: Duration, flush_bytes: usize) -> ChangeLog {
    let settings = Settings {
        flush_interval,
        flush_bytes,
        ..Settings::default()
    };
    ChangeLog::spawn(bucket, settings, &CancellationToken::new())
}

async fn read(bucket: &Bucket, position: Position) -> ChangeBatch {
    let object = read_log(bucket, position).await.expect("there");
    ChangeBatch::decode(&object).expect("ours")
}

fn batch(number: i64, count: i64) -> ChangeBatch {
    ChangeBatch {
        changes: (0..count).map(|row| change(number, row)).collect(),
    }
}

fn change(number: i64, row: i64) -> Change {
    Change::Cursor(CursorChange {
        source: format!("source {number}").into(),
        slice: row.to_string(),
        generation: 0,
        cursor: number,
        indexed_at: Micros(0),
    })
}
