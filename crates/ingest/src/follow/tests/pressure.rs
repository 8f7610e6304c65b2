//! A store that is slow, or refuses: the source waits, nothing grows, and nothing is lost.

use crdt::storage;
use testkit::fault_store::{Fault, FaultStore, Gate, Operation, Rule};

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_store_slows_the_reading() {
    let mut repo = repo(1);
    // 108 MB: twice what all windows and batches on the way hold, and what a socket does.
    let frames: Vec<Vec<u8>> = (1..=120).map(|seq| large(&mut repo, seq)).collect();
    let (follow, store) = over_faults(docs([&repo]), storage::Settings::default()).await;
    let gate = Gate::default();
    store.script(Rule::next(
        Operation::Put,
        "wal/",
        Fault::Hold(gate.clone()),
    ));
    let running = follow.start(FollowSettings::default());
    let mut accepted = follow.source.accept().await;
    let (told, last) = (frames.clone(), 120);
    let sending = tokio::spawn(async move {
        for frame in &told {
            accepted.send(frame).await;
        }
        accepted
    });
    gate.arrived().await;
    // It reads on while it can. Then it stands still: so many looks without a change are no proof, but more would be
    // none either; a reading without a bound would have taken all by then.
    let (mut taken, mut still) = (0, 0);
    while still < 50_000 {
        tokio::task::yield_now().await;
        let now = running.status.read(|state| state.summary.frames);
        still = if now == taken { still + 1 } else { 0 };
        taken = now;
    }
    assert!(
        taken < 120,
        "{taken} frames were taken while the store stood still"
    );
    assert!(!sending.is_finished(), "the source could send all");
    assert_eq!(running.status.read(|state| state.durable), None);
    gate.open();
    running.durable(last).await;
    let accepted = sending.await.expect("no panic");
    let state = running.stop().await;
    assert_eq!((state.summary.commits, state.connections), (120, 1));
    assert_eq!(follow.records().await, 120);
    drop(accepted);
}

#[tokio::test]
async fn what_the_log_refused_is_read_again() {
    let mut repo = repo(1);
    let frames: Vec<Vec<u8>> = (1..=3).map(|seq| post(&mut repo, seq)).collect();
    let (mut follow, store) = over_faults(docs([&repo]), storage::Settings::default()).await;
    follow.world.know_always();
    let running = follow.start(FollowSettings::default());
    let mut accepted = follow.source.accept().await;
    accepted.send(&frames[0]).await;
    running.durable(1).await;
    store.script(Rule::next(Operation::Put, "wal/", Fault::Denied));
    accepted.send(&frames[1]).await;
    accepted.ended().await;
    let mut accepted = follow.source.accept().await;
    assert_eq!(accepted.cursor, Some(1), "what is durable");
    for frame in &frames[1..] {
        accepted.send(frame).await;
    }
    running.durable(3).await;
    let state = running.stop().await;
    assert_eq!((state.summary.gaps, state.summary.replays), (0, 0));
    assert_eq!(follow.records().await, 3);
}

#[tokio::test]
async fn a_first_connection_whose_frames_were_refused_begins_with_them_again() {
    let mut repo = repo(1);
    let (mut follow, store) = over_faults(docs([&repo]), storage::Settings::default()).await;
    follow.world.know_always();
    store.script(Rule::next(Operation::Put, "wal/", Fault::Denied));
    let running = follow.start(FollowSettings::default());
    let mut accepted = follow.source.accept().await;
    assert_eq!(accepted.cursor, None);
    let frame = post(&mut repo, 500);
    accepted.send(&frame).await;
    accepted.ended().await;
    let mut accepted = follow.source.accept().await;
    assert_eq!(accepted.cursor, Some(499));
    accepted.send(&frame).await;
    running.durable(500).await;
    running.stop().await;
    assert_eq!(follow.records().await, 1);
}

async fn over_faults(docs: DidDocs, settings: storage::Settings) -> (Follow, FaultStore) {
    let store = FaultStore::in_memory();
    let clock = Arc::new(Waits::new());
    let shared = Arc::clone(&clock) as Arc<dyn Clock>;
    let world = World::over(Arc::new(store.another_process()), settings, docs, shared).await;
    (Follow::of(world, clock).await, store)
}

/// A commit of about 900 kB.
fn large(repo: &mut RepoBuilder, seq: i64) -> Vec<u8> {
    let text = "x".repeat(900_000);
    let record = map([
        ("$type", "app.bsky.feed.post".into()),
        ("text", text.as_str().into()),
    ]);
    let write = Write::put(format!("app.bsky.feed.post/{seq}"), &record);
    encode_commit(&repo.commit(stamp(seq), &[write]))
}
