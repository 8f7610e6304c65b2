//! Appends against a store that fails, compared with a map of what was acknowledged.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use object_store::ObjectStoreExt;
use testkit::fault_store::{Fault, Gate, Operation, Rates, Rule};

use super::*;
use crate::clock::Clock;
use crate::log::{ReadError, list_log, read_log};
use crate::world::{MINUTE, World, section};

async fn texts(bucket: &Bucket, position: Position) -> Vec<String> {
    let object = read_log(bucket, position).await.unwrap();
    assert_eq!(object.position, position);
    let texts = object
        .sections
        .iter()
        .map(|section| String::from_utf8(section.payload.to_vec()).unwrap());
    texts.collect()
}

#[tokio::test]
async fn an_append_is_one_put_and_reads_back() {
    let world = World::new(1).await;
    let mut writer = LogWriter::new(world.bucket.clone());
    for (seq, text) in (1..).zip(["one", "two", "three"]) {
        let position = writer
            .append(vec![section(text), section("more")])
            .await
            .unwrap();
        assert_eq!(
            position,
            Position {
                writer: writer.writer(),
                seq: Seq(seq)
            }
        );
        assert_eq!(texts(&world.bucket, position).await, [text, "more"]);
    }
    let counts = world.store.counts();
    assert_eq!((counts.put, counts.get, counts.lists()), (3, 3, 0));
}

#[tokio::test]
async fn what_may_have_been_written_is_found_out() {
    let faults = [
        Fault::Before,
        Fault::Unavailable,
        Fault::After,
        Fault::Conflict,
        Fault::Late(1),
        Fault::Late(2),
    ];
    for fault in faults {
        let world = World::new(1).await;
        world
            .store
            .script(Rule::next(Operation::Put, "wal/", fault.clone()));
        let mut writer = LogWriter::new(world.bucket.clone());
        let id = writer.writer();
        let position = writer.append(vec![section("x")]).await.unwrap();
        assert_eq!(
            position,
            Position {
                writer: id,
                seq: Seq(1)
            },
            "{fault:?}"
        );
        world.store.land_late().await;
        assert_eq!(texts(&world.bucket, position).await, ["x"], "{fault:?}");
        assert_eq!(
            writer.append(vec![section("y")]).await.unwrap().seq,
            Seq(2),
            "{fault:?}"
        );
    }
}

#[tokio::test]
async fn a_conflict_is_not_taken_for_success() {
    let world = World::new(1).await;
    world
        .store
        .script(Rule::next(Operation::Put, "wal/", Fault::Conflict).times(5));
    let mut writer = LogWriter::new(world.bucket.clone());
    let position = writer.append(vec![section("x")]).await.unwrap();
    assert_eq!(texts(&world.bucket, position).await, ["x"]);
    assert_eq!(world.store.counts().put, 6);
}

#[tokio::test]
async fn foreign_bytes_at_the_key_make_a_new_id() {
    let world = World::new(1).await;
    let mut writer = LogWriter::new(world.bucket.clone());
    let mut twin = LogWriter {
        bucket: world.bucket.clone(),
        ..LogWriter::new(world.bucket.clone())
    };
    twin.writer = writer.writer();
    let of_twin = twin.append(vec![section("x")]).await.unwrap();
    // Equal sections are foreign bytes too: a nonce tells the twins' objects apart.
    let of_writer = writer.append(vec![section("x")]).await.unwrap();
    assert_ne!(of_twin.writer, of_writer.writer);
    assert_eq!(of_writer.seq, Seq::FIRST);
    assert_eq!(texts(&world.bucket, of_twin).await, ["x"]);
    assert_eq!(texts(&world.bucket, of_writer).await, ["x"]);
}

#[tokio::test]
async fn an_answer_after_half_the_grace_acknowledges_nothing() {
    for fault in [Fault::Delay(16 * MINUTE), Fault::DelayAnswer(16 * MINUTE)] {
        let world = World::new(1).await;
        let mut writer = LogWriter::new(world.bucket.clone());
        let old = writer.append(vec![section("first")]).await.unwrap().writer;
        world
            .store
            .script(Rule::next(Operation::Put, "wal/", fault));
        let position = writer.append(vec![section("slow")]).await.unwrap();
        assert_ne!(
            position.writer, old,
            "a twin's object may have been merged below it"
        );
        assert_eq!(position.seq, Seq::FIRST);
    }
}

#[tokio::test]
async fn an_answer_within_half_the_grace_acknowledges() {
    let world = World::new(1).await;
    let mut writer = LogWriter::new(world.bucket.clone());
    let old = writer.append(vec![section("first")]).await.unwrap().writer;
    world.store.script(Rule::next(
        Operation::Put,
        "wal/",
        Fault::DelayAnswer(14 * MINUTE),
    ));
    let position = writer.append(vec![section("slow")]).await.unwrap();
    assert_eq!(
        position,
        Position {
            writer: old,
            seq: Seq(2)
        }
    );
}

#[tokio::test]
async fn silence_is_counted_from_the_last_confirmed_answer_and_not_from_the_last_try() {
    let world = World::new(1).await;
    let mut writer = LogWriter::new(world.bucket.clone());
    let old = writer.append(vec![section("first")]).await.unwrap().writer;
    world
        .clock
        .advance(14 * MINUTE + 55 * Duration::from_secs(1));
    // It retries all the time, and is silent all the same.
    world
        .store
        .script(Rule::next(Operation::Put, "wal/", Fault::Before).times(12));
    let position = writer.append(vec![section("slow")]).await.unwrap();
    assert_ne!(position.writer, old);
}

#[tokio::test]
async fn an_idle_writer_takes_a_new_id_before_it_sends() {
    let world = World::new(1).await;
    let mut writer = LogWriter::new(world.bucket.clone());
    let old = writer.append(vec![section("first")]).await.unwrap().writer;
    world.clock.advance(16 * MINUTE);
    let position = writer.append(vec![section("second")]).await.unwrap();
    assert_ne!(position.writer, old);
    let listing = list_log(&world.bucket, &BTreeMap::new()).await.unwrap();
    assert_eq!(
        listing.run(old, None),
        [Seq(1)],
        "nothing was sent under the old id"
    );
}

#[tokio::test]
async fn a_clock_that_goes_backwards_makes_a_new_id() {
    let world = World::new(1).await;
    let mut writer = LogWriter::new(world.bucket.clone());
    let old = writer.append(vec![section("first")]).await.unwrap().writer;
    world.clock.set(crate::world::START_US - 1);
    assert_ne!(
        writer.append(vec![section("second")]).await.unwrap().writer,
        old
    );
}

/// The model's trace: a twin's object is merged and deleted, then our PUT to the same key lands, late.
#[tokio::test]
async fn a_slow_put_below_a_twins_merged_object_is_not_acknowledged_there() {
    let world = World::new(1).await;
    let mut writer = LogWriter::new(world.bucket.clone());
    let key = layout::wal_object(Position {
        writer: writer.writer(),
        seq: Seq::FIRST,
    });
    let gate = Gate::default();
    world.store.script(Rule::next(
        Operation::Put,
        key.as_ref(),
        Fault::Hold(gate.clone()),
    ));
    let twins = World::another_process(&world, 2).await;
    let mut twin = LogWriter::new(twins.bucket.clone());
    twin.writer = writer.writer();
    let append = tokio::spawn(async move { writer.append(vec![section("mine")]).await });
    gate.arrived().await;
    let of_twin = twin.append(vec![section("the twin's")]).await.unwrap();
    assert_eq!(layout::wal_object(of_twin), key);
    // Merged, older than the grace, deleted.
    world.clock.advance(31 * MINUTE);
    world.store.delete(&key).await.unwrap();
    gate.open();
    let position = append.await.unwrap().unwrap();
    assert!(
        world.has(&key).await,
        "it landed below `merged`, where it is ignored"
    );
    assert_ne!(position.writer, of_twin.writer);
    assert_eq!(texts(&world.bucket, position).await, ["mine"]);
}

#[tokio::test]
async fn an_append_that_was_dropped_leaves_its_id_behind() {
    let world = World::new(1).await;
    let gate = Gate::default();
    world.store.script(Rule::next(
        Operation::Put,
        "wal/",
        Fault::HoldAnswer(gate.clone()),
    ));
    let mut writer = LogWriter::new(world.bucket.clone());
    let old = writer.writer();
    tokio::select! {
        _ = writer.append(vec![section("dropped")]) => panic!("held"),
        () = gate.arrived() => {}
    }
    let position = writer.append(vec![section("next")]).await.unwrap();
    let key = layout::wal_object(Position {
        writer: old,
        seq: Seq::FIRST,
    });
    let history = world.store.history();
    let sent = history.iter().filter(|event| event.path == key).count();
    assert_eq!(sent, 1, "the old key takes no other bytes");
    assert_ne!(position.writer, old);
    assert_eq!(position.seq, Seq::FIRST);
}

#[tokio::test]
async fn a_refusal_is_told_at_once() {
    let world = World::new(1).await;
    world
        .store
        .script(Rule::next(Operation::Put, "wal/", Fault::Denied));
    let mut writer = LogWriter::new(world.bucket.clone());
    let error = writer.append(vec![section("x")]).await;
    assert!(matches!(error, Err(AppendError::Refused { .. })));
    assert_eq!(world.store.counts().total(), 1);
}

#[tokio::test]
async fn a_store_that_is_down_is_asked_for_as_long_as_told_and_no_less() {
    let world = World::new(1).await;
    let mut writer = LogWriter::new(world.bucket.clone());
    let before_us = world.clock.now_us();
    world.store.kill();
    let error = writer.append(vec![section("x")]).await;
    assert!(matches!(error, Err(AppendError::Unknown { .. })));
    assert!(is_overdue(
        before_us,
        world.clock.now_us(),
        world.bucket.settings().retry_for
    ));
    world.store.revive();
    assert_eq!(
        writer.append(vec![section("x")]).await.unwrap().seq,
        Seq::FIRST
    );
}

#[tokio::test]
async fn what_does_not_fit_is_refused_unsent() {
    let world = World::new(1).await;
    let mut writer = LogWriter::new(world.bucket.clone());
    let payload = bytes::Bytes::from(vec![0; 300 * 1024 * 1024]);
    let error = writer
        .append(vec![Section {
            payload,
            ..section("")
        }])
        .await;
    assert!(matches!(error, Err(AppendError::TooLarge { .. })));
    assert_eq!(world.store.counts().total(), 0);
}

#[tokio::test]
async fn an_object_that_is_not_what_was_written_is_named_and_not_served() {
    let world = World::new(1).await;
    let mut writer = LogWriter::new(world.bucket.clone());
    let position = writer.append(vec![section("x")]).await.unwrap();
    let path = layout::wal_object(position);
    let bytes = world.store.get(&path).await.unwrap().bytes().await.unwrap();
    let elsewhere = Position {
        seq: Seq(2),
        ..position
    };
    assert!(matches!(
        read_log(&world.bucket, elsewhere).await,
        Err(ReadError::Missing { .. })
    ));
    world
        .store
        .put(&layout::wal_object(elsewhere), bytes.clone().into())
        .await
        .unwrap();
    assert!(matches!(
        read_log(&world.bucket, elsewhere).await,
        Err(ReadError::Foreign { .. })
    ));
    for damaged in [bytes.slice(..bytes.len() - 1), bytes::Bytes::new()] {
        world.store.put(&path, damaged.into()).await.unwrap();
        assert!(matches!(
            read_log(&world.bucket, position).await,
            Err(ReadError::Damaged { .. })
        ));
    }
    let other = World::new(9).await;
    other.store.put(&path, bytes.into()).await.unwrap();
    assert!(matches!(
        read_log(&other.bucket, position).await,
        Err(ReadError::Foreign { .. })
    ));
}

#[tokio::test]
async fn a_truncated_answer_is_asked_for_again() {
    let world = World::new(1).await;
    let mut writer = LogWriter::new(world.bucket.clone());
    let position = writer.append(vec![section("x")]).await.unwrap();
    world
        .store
        .script(Rule::next(Operation::Get, "wal/", Fault::Truncate).times(2));
    assert_eq!(texts(&world.bucket, position).await, ["x"]);
}

#[tokio::test]
async fn a_listing_starts_after_what_is_known() {
    let world = World::new(1).await;
    let mut writers: Vec<_> = (0..3)
        .map(|_| LogWriter::new(world.bucket.clone()))
        .collect();
    for writer in &mut writers {
        for _ in 0..3 {
            writer.append(vec![section("x")]).await.unwrap();
        }
    }
    let ids: Vec<_> = writers.iter().map(LogWriter::writer).collect();
    world.store.reset_counts();
    let known = BTreeMap::from([(ids[0], Seq(2)), (ids[1], Seq(3))]);
    let listing = list_log(&world.bucket, &known).await.unwrap();
    assert_eq!(listing.run(ids[0], Some(Seq(2))), [Seq(3)]);
    assert_eq!(listing.run(ids[1], Some(Seq(3))), []);
    assert_eq!(listing.run(ids[2], None), [Seq(1), Seq(2), Seq(3)]);
    assert!(!listing.writers.contains_key(&ids[1]));
    let counts = world.store.counts();
    assert_eq!(
        (counts.list, counts.list_with_delimiter, counts.total()),
        (3, 1, 4)
    );
}

/// What one seeded history came to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    acknowledged: BTreeMap<Position, String>,
    new_ids: usize,
    given_up: usize,
    copies: usize,
}

const RATES: Rates = Rates {
    before: 0.15,
    after: 0.15,
    conflict: 0.15,
    late: 0.15,
    truncate: 0.1,
    yields: 3,
};

/// Three writers append at once to a store that fails; then everything late lands.
async fn history(seed: u64) -> (Outcome, Vec<testkit::fault_store::Event>) {
    let world = World::new(seed).await;
    world.store.seed(seed, RATES);
    let appends = (0..3).map(|name| {
        let bucket = world.bucket.clone();
        let clock = std::sync::Arc::clone(&world.clock);
        async move {
            let mut outcome = Outcome::default();
            let mut writer = LogWriter::new(bucket);
            let mut ids = BTreeSet::from([writer.writer()]);
            for number in 0..12 {
                let text = format!("{name}.{number}");
                match writer.append(vec![section(&text)]).await {
                    Ok(position) => {
                        assert!(
                            outcome.acknowledged.insert(position, text).is_none(),
                            "{position} twice"
                        );
                    }
                    Err(AppendError::Unknown { .. }) => outcome.given_up += 1,
                    Err(error) => panic!("{error:?}"),
                }
                ids.insert(writer.writer());
                if number == 5 {
                    clock.advance(10 * MINUTE);
                }
            }
            outcome.new_ids = ids.len() - 1;
            outcome
        }
    });
    let outcomes = futures::future::join_all(appends).await;
    world.store.land_late().await;
    world.store.calm();
    let mut all = Outcome::default();
    for outcome in outcomes {
        all.new_ids += outcome.new_ids;
        all.given_up += outcome.given_up;
        for (position, text) in outcome.acknowledged {
            assert!(
                all.acknowledged.insert(position, text).is_none(),
                "{position} twice"
            );
        }
    }
    all.copies = check(&world.bucket, &all).await;
    (all, world.store.history())
}

/// Every acknowledged append stands where it was acknowledged, before any hole, and nowhere else but under an
/// id that its writer had left. Returns how many copies there are.
async fn check(bucket: &Bucket, outcome: &Outcome) -> usize {
    let listing = list_log(bucket, &BTreeMap::new()).await.unwrap();
    let mut copies = 0;
    for (&writer, objects) in &listing.writers {
        let run = listing.run(writer, None);
        assert_eq!(run.len(), objects.len(), "a hole under {writer}");
        for (index, &seq) in run.iter().enumerate() {
            let position = Position { writer, seq };
            let found = texts(bucket, position).await;
            match outcome.acknowledged.get(&position) {
                Some(text) => assert_eq!(found, [text.as_str()]),
                None => {
                    assert_eq!(
                        index + 1,
                        run.len(),
                        "only the last of an id that was left is unacknowledged"
                    );
                    copies += 1;
                }
            }
        }
    }
    let found = outcome
        .acknowledged
        .keys()
        .filter(|position| listing.get(**position).is_some())
        .count();
    assert_eq!(
        found,
        outcome.acknowledged.len(),
        "an acknowledged append is lost"
    );
    copies
}

#[tokio::test]
async fn no_acknowledged_append_is_lost_or_stands_twice() {
    let (mut appends, mut new_ids, mut given_up, mut copies) = (0, 0, 0, 0);
    for seed in 0..300 {
        println!("seed {seed}");
        let (outcome, _) = history(seed).await;
        appends += outcome.acknowledged.len();
        new_ids += outcome.new_ids;
        given_up += outcome.given_up;
        copies += outcome.copies;
    }
    println!("{appends} appends, {new_ids} new ids, {given_up} given up, {copies} copies");
    assert!(appends > 10_000 && new_ids > 100 && copies > 10);
}

#[tokio::test]
async fn one_seed_gives_one_history() {
    for seed in [3, 77] {
        assert_eq!(history(seed).await, history(seed).await);
    }
}
