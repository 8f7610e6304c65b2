//! Each fault does what it says, and nothing else.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use super::*;
use futures::TryStreamExt;
use object_store::{ObjectStoreExt, PutMode};

fn path() -> Path {
    Path::from("wal/a")
}

async fn create(store: &FaultStore, bytes: &'static str) -> Result<PutResult> {
    store
        .put_opts(&path(), bytes.into(), PutOptions::from(PutMode::Create))
        .await
}

async fn is_there(store: &FaultStore) -> bool {
    store.head(&path()).await.is_ok()
}

#[tokio::test]
async fn each_fault_of_a_put_does_what_it_says() {
    let faults = [
        (Fault::Before, false),
        (Fault::Unavailable, false),
        (Fault::Conflict, false),
        (Fault::Denied, false),
        (Fault::After, true),
    ];
    for (fault, is_done) in faults {
        let store = FaultStore::in_memory();
        store.script(Rule::next(Operation::Put, "wal/", fault.clone()));
        assert!(create(&store, "x").await.is_err(), "{fault:?}");
        assert_eq!(is_there(&store).await, is_done, "{fault:?}");
    }
}

#[tokio::test]
async fn a_late_put_lands_by_itself() {
    let store = FaultStore::in_memory();
    store.script(Rule::next(Operation::Put, "", Fault::Late(2)));
    assert!(create(&store, "x").await.is_err());
    assert!(!is_there(&store).await);
    assert!(is_there(&store).await);
}

#[tokio::test]
async fn a_rule_skips_and_runs_out() {
    let store = FaultStore::in_memory();
    store.script(
        Rule::next(Operation::Get, "wal/", Fault::Before)
            .after(1)
            .times(2),
    );
    create(&store, "x").await.unwrap();
    let answers = [
        is_there(&store).await,
        is_there(&store).await,
        is_there(&store).await,
        is_there(&store).await,
    ];
    assert_eq!(answers, [true, false, false, true]);
}

#[tokio::test]
async fn a_truncated_read_answers_half_the_bytes() {
    let store = FaultStore::in_memory();
    create(&store, "abcdef").await.unwrap();
    store.script(Rule::next(Operation::Get, "", Fault::Truncate));
    let result = store.get(&path()).await.unwrap();
    assert_eq!(result.meta.size, 6);
    assert_eq!(result.bytes().await.unwrap(), "abc");
}

#[tokio::test]
async fn requests_are_counted_by_kind() {
    let store = FaultStore::in_memory();
    create(&store, "x").await.unwrap();
    let _ = store.list(None).try_collect::<Vec<_>>().await.unwrap();
    let _ = store
        .list_with_offset(None, &path())
        .try_collect::<Vec<_>>()
        .await
        .unwrap();
    let _ = store.list_with_delimiter(None).await.unwrap();
    let _ = store.get_range(&path(), 0..1).await.unwrap();
    store.delete(&path()).await.unwrap();
    let counts = Counts {
        put: 1,
        get: 1,
        list: 2,
        list_with_delimiter: 1,
        delete: 1,
    };
    assert_eq!(store.counts(), counts);
    assert_eq!(store.history().len() as u64, counts.total());
}

#[tokio::test]
async fn a_dead_process_does_nothing_and_dies_alone() {
    let store = FaultStore::in_memory();
    let other = store.another_process();
    store.kill_after(1);
    create(&store, "x").await.unwrap();
    assert!(!is_there(&store).await);
    assert!(is_there(&other).await);
    store.revive();
    assert!(is_there(&store).await);
}

#[tokio::test]
async fn times_of_objects_are_the_tests() {
    let store = FaultStore::in_memory();
    store.time(|| 1_500_000);
    create(&store, "x").await.unwrap();
    let listed = store.list(None).try_collect::<Vec<_>>().await.unwrap();
    assert_eq!(listed[0].last_modified.timestamp_micros(), 1_500_000);
    assert_eq!(
        store
            .head(&path())
            .await
            .unwrap()
            .last_modified
            .timestamp_micros(),
        1_500_000
    );
}

#[tokio::test]
async fn a_gate_holds_a_request_until_it_opens() {
    let store = FaultStore::in_memory();
    let gate = Gate::default();
    store.script(Rule::next(Operation::Put, "", Fault::Hold(gate.clone())));
    let put = tokio::spawn({
        let store = store.clone();
        async move { create(&store, "x").await.is_ok() }
    });
    gate.arrived().await;
    assert!(!is_there(&store).await);
    gate.open();
    assert!(put.await.unwrap());
    assert!(is_there(&store).await);
}

#[tokio::test]
async fn one_seed_gives_one_history() {
    let mut histories = Vec::new();
    for _ in 0..2 {
        let store = FaultStore::in_memory();
        let rates = Rates {
            before: 0.2,
            after: 0.2,
            conflict: 0.2,
            late: 0.2,
            truncate: 0.2,
            yields: 2,
        };
        store.seed(7, rates);
        for _ in 0..50 {
            let _ = create(&store, "x").await;
            let _ = store.get(&path()).await;
        }
        histories.push(store.history());
    }
    assert_eq!(histories[0], histories[1]);
    assert!(histories[0].iter().any(|event| event.fault.is_some()));
}
