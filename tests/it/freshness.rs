//! What is acknowledged is in the next answer, in other processes too, and what an answer costs in requests.

use std::sync::Arc;

use storage::LogWriter;
use tables::view::ReadView;
use testkit::fault_store::{Counts, FaultStore, Operation};

use crate::world::{Node, World, append, post, record_change};

const DID: &str = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa";

#[tokio::test]
async fn an_acknowledged_append_is_in_the_next_answer_of_another_process() {
    let world = World::on_folder().await;
    let (here, there) = (&world.node, world.another_process().await);
    let (mut a, mut b) = (here.writer(), there.writer());
    for number in 0..6 {
        let writer = if number % 2 == 0 { &mut a } else { &mut b };
        write(writer, number, &number.to_string(), Some("text")).await;
        for node in [here, &there] {
            let posts = node.count("SELECT count(*) FROM bsky.post").await;
            assert_eq!(posts, number as u64 + 1);
        }
        if number == 3 {
            there.flush().await;
        }
    }
}

#[tokio::test]
async fn updates_and_deletes_shadow_at_once_and_late_changes_never() {
    let world = World::on_folder().await;
    let (here, there) = (&world.node, world.another_process().await);
    let mut writer = here.writer();
    for rkey in ["a", "b", "c"] {
        write(&mut writer, 10, rkey, Some("first")).await;
    }
    let first = ["a first", "b first", "c first"];
    let changed = ["a second", "c first"];
    sees(here, &there, &first).await;
    // In the tail over the tail, then the same over segments.
    write(&mut writer, 20, "a", Some("second")).await;
    write(&mut writer, 20, "b", None).await;
    sees(here, &there, &changed).await;
    write(&mut writer, 15, "b", Some("late")).await;
    write(&mut writer, 15, "a", None).await;
    sees(here, &there, &changed).await;
    here.flush().await;
    sees(here, &there, &changed).await;

    write(&mut writer, 16, "b", Some("late")).await;
    write(&mut writer, 16, "a", Some("late")).await;
    sees(here, &there, &changed).await;
    write(&mut writer, 30, "c", None).await;
    write(&mut writer, 30, "b", Some("third")).await;
    sees(here, &there, &["a second", "b third"]).await;
    there.flush().await;
    sees(here, &there, &["a second", "b third"]).await;
    here.merge().await;
    write(&mut writer, 29, "c", Some("late")).await;
    write(&mut writer, 31, "a", None).await;
    sees(here, &there, &["b third"]).await;
    here.flush().await;
    there.merge().await;
    sees(here, &there, &["b third"]).await;
}

async fn sees(here: &Node, there: &Node, expected: &[&str]) {
    for node in [here, there] {
        let rows = node
            .rows("SELECT concat(rkey, ' ', text) AS post FROM bsky.post ORDER BY rkey")
            .await;
        let posts: Vec<&str> = rows.iter().filter_map(|row| row["post"].as_str()).collect();
        assert_eq!(posts, expected);
        let records = node.count("SELECT count(*) FROM atproto.records").await;
        assert_eq!(records, expected.len() as u64);
    }
}

#[tokio::test]
async fn an_answer_costs_two_rounds_of_lists_and_what_is_new() {
    let store = FaultStore::in_memory();
    let world = World::over(Arc::new(store.clone())).await;
    let node = world.another_process().await;
    let mut writer = world.node.writer();
    let lists = |writers: u64| Counts {
        list: writers + 1,
        list_with_delimiter: 1,
        ..Counts::default()
    };
    write(&mut writer, 1, "a", Some("text")).await;
    opening(&store, &node).await;

    assert_eq!(opening(&store, &node).await, lists(1), "nothing new");
    let asked: Vec<_> = store.history().iter().rev().take(3).cloned().collect();
    assert_eq!(asked[0].path.as_ref(), "manifest", "the second round");
    let first = asked[1..].iter().map(|event| event.operation);
    let first: Vec<Operation> = first.collect();
    assert!(first.contains(&Operation::ListWithDelimiter) && first.contains(&Operation::List));

    write(&mut writer, 2, "b", Some("text")).await;
    let with = |get, lists| Counts { get, ..lists };
    let cost = opening(&store, &node).await;
    assert_eq!(cost, with(1, lists(1)), "a log object");
    assert_eq!(opening(&store, &node).await, lists(1), "nothing new");

    world.node.flush().await;
    let cost = opening(&store, &node).await;
    assert_eq!(cost, with(2, lists(1)), "a manifest and its part");
    assert_eq!(opening(&store, &node).await, lists(1), "nothing new");

    let mut second = world.node.writer();
    write(&mut second, 3, "c", Some("text")).await;
    let cost = opening(&store, &node).await;
    assert_eq!(cost, with(1, lists(2)), "another writer's log object");
    assert_eq!(opening(&store, &node).await, lists(2), "nothing new");

    // The same through SQL: rows are counted by the manifest and the tail.
    store.reset_counts();
    let posts = node.count("SELECT count(*) FROM bsky.post").await;
    assert_eq!(posts, 3);
    let judged = store.counts();
    assert_eq!(judged.lists(), lists(2).lists());
    assert!(judged.get <= 2, "an index, and a page of keys: {judged:?}");
    store.reset_counts();
    node.count("SELECT count(*) FROM bsky.post").await;
    let cost = store.counts();
    assert_eq!(cost.lists(), lists(2).lists());
    assert_eq!((cost.put, cost.delete), (0, 0));
    assert!(cost.get <= 1, "the tail is judged again: {cost:?}");
}

/// What a view costs.
async fn opening(store: &FaultStore, node: &Node) -> Counts {
    store.reset_counts();
    ReadView::open(&node.tables).await.expect("a view");
    store.counts()
}

async fn write(writer: &mut LogWriter, rev: i64, rkey: &str, text: Option<&str>) {
    let path = format!("app.bsky.feed.post/{rkey}");
    let record = text.map(post);
    append(
        writer,
        vec![record_change(DID, &path, rev, record.as_ref())],
    )
    .await;
}
