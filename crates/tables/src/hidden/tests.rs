//! Who is hidden and what that costs: against the plain model, and by counting requests.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;

use arrow::array::AsArray;
use crdt::atproto::Did;
use crdt::merge_model::Model;
use crdt::{AccountChange, Change, Delivery, IdentityChange, Micros};
use futures::TryStreamExt;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::Inputs;
use crate::flush::{FlushSettings, flush};
use crate::merge::{MergeSettings, merge_once};
use crate::segment::read_live;
use crate::view::ReadView;
use crate::world::{BLOCK, START_US, World, block, delivery, did};

const RELAY: &str = "wss://relay.example";
const HOST: &str = "wss://pds.example";
const DIRECTORY: &str = "https://plc.example";

/// `source` says at minute `minute` whether the account is active.
fn state(repo: usize, source: &str, minute: i64, active: bool) -> Change {
    let at = Micros(START_US + minute * 60_000_000);
    Change::Account(AccountChange {
        did: did(repo),
        time: at,
        seq: Some(minute),
        active,
        status: (!active).then(|| "deactivated".to_owned()),
        delivery: told_by(source, at),
    })
}

/// `source` says at minute `minute` which host the account has; a directory has no sequence numbers.
fn host(repo: usize, source: &str, minute: i64, pds: Option<&str>) -> Change {
    let at = Micros(START_US + minute * 60_000_000);
    Change::Identity(IdentityChange {
        did: did(repo),
        time: at,
        seq: (source != DIRECTORY).then_some(minute),
        handle: None,
        pds: pds.map(str::to_owned),
        delivery: told_by(source, at),
    })
}

fn told_by(source: &str, at: Micros) -> Delivery {
    Delivery {
        source: source.into(),
        indexed_at: at,
        ..delivery()
    }
}

/// The repos whose blocks a fresh view shows, from segments and tail.
async fn shown(world: &World) -> BTreeSet<String> {
    let view = ReadView::open(&world.tables).await.unwrap();
    let scan = view.scan(&world.def("atproto", BLOCK)).await.unwrap();
    let mut batches = vec![scan.tail.clone()];
    for segment in &scan.segments {
        let tables = &world.tables;
        let reader = tables.cache().reader(tables.bucket(), &segment.entry).await;
        let live = read_live(&reader.unwrap(), &segment.dead).await.unwrap();
        let live: Vec<_> = live.try_collect().await.unwrap();
        batches.extend(live.into_iter().map(|(batch, _)| batch));
    }
    let mut repos = BTreeSet::new();
    for batch in &batches {
        let dids = batch.column_by_name("did").unwrap().as_string::<i32>();
        for did in dids.iter().flatten() {
            assert!(repos.insert(did.to_owned()), "{did} twice");
        }
    }
    assert_eq!(
        repos.len() as u64,
        scan.rows(),
        "the count needs no reading"
    );
    repos
}

async fn merge_all(world: &World) {
    let settings = MergeSettings {
        fan_in: 2,
        ..MergeSettings::default()
    };
    while merge_once(&world.tables, "test", &settings)
        .await
        .unwrap()
        .is_some()
    {}
}

fn names(repos: impl IntoIterator<Item = usize>) -> BTreeSet<String> {
    repos
        .into_iter()
        .map(|repo| did(repo).to_string())
        .collect()
}

#[tokio::test]
async fn an_account_is_hidden_while_it_is_not_active_wherever_rows_and_states_are() {
    for (flush_records, flush_states) in [(false, false), (true, false), (true, true)] {
        let mut world = World::new().await;
        let all = || names(0..4);
        world
            .append((0..4).map(|repo| block(repo, 1)).collect())
            .await;
        if flush_records {
            world.flush().await;
        }
        assert_eq!(shown(&world).await, all());
        for (minute, active) in [(1, false), (2, true), (3, false)] {
            world.append(vec![state(2, RELAY, minute, active)]).await;
            if flush_states {
                world.flush().await;
            }
            let expected = if active { all() } else { names([0, 1, 3]) };
            assert_eq!(shown(&world).await, expected, "minute {minute}");
            // Its own answer to a later change does not bring it back.
            world
                .append(vec![block(2, 10 + usize::try_from(minute).unwrap())])
                .await;
            assert_eq!(shown(&world).await, expected, "minute {minute}, changed");
        }
        world.flush().await;
        merge_all(&world).await;
        assert_eq!(shown(&world).await, names([0, 1, 3]));
        world.append(vec![state(2, RELAY, 4, true)]).await;
        assert_eq!(shown(&world).await, all(), "nothing was lost");
    }
}

#[tokio::test]
async fn where_sources_disagree_the_hosts_word_counts() {
    let mut world = World::new().await;
    world
        .append((0..3).map(|repo| block(repo, 1)).collect())
        .await;
    world
        .append((0..3).map(|repo| state(repo, RELAY, 9, false)).collect())
        .await;
    world
        .append((0..3).map(|repo| state(repo, HOST, 5, true)).collect())
        .await;
    assert_eq!(shown(&world).await, names([]), "the later word");
    world
        .append(vec![
            host(0, DIRECTORY, 1, Some("https://pds.example")),
            host(1, RELAY, 8, Some("https://pds.example")),
            host(1, DIRECTORY, 1, Some("https://other.example")),
            host(2, RELAY, 2, Some("https://pds.example")),
        ])
        .await;
    assert_eq!(
        shown(&world).await,
        names([0, 2]),
        "the directory goes first"
    );
    world.flush().await;
    assert_eq!(shown(&world).await, names([0, 2]));
    // The relay takes back what it said of the host.
    world.append(vec![host(2, RELAY, 3, None)]).await;
    assert_eq!(shown(&world).await, names([0]));
    world.flush().await;
    assert_eq!(
        shown(&world).await,
        names([0]),
        "the old word is still in its segment"
    );
    merge_all(&world).await;
    assert_eq!(shown(&world).await, names([0]));
}

#[tokio::test]
async fn a_scan_that_finds_nothing_new_asks_nothing_and_a_changed_state_is_looked_up_alone() {
    const REPOS: usize = 20_000;
    let mut world = World::new().await;
    for part in 0..4 {
        let repos = (part..REPOS).step_by(4);
        world
            .append(repos.map(|repo| block(repo, 1)).collect())
            .await;
        world.flush().await;
    }
    let inactive = (0..REPOS).step_by(10);
    world
        .append(inactive.map(|repo| state(repo, RELAY, 1, false)).collect())
        .await;
    world.flush().await;

    let opened = |world: &World| {
        let tables = world.tables.clone();
        async move { ReadView::open(&tables).await.unwrap() }
    };
    let gets = |world: &World| world.store.counts().get;
    let def = world.def("atproto", BLOCK);
    assert_eq!(
        opened(&world).await.scan(&def).await.unwrap().rows(),
        18_000
    );

    let view = opened(&world).await;
    world.store.reset_counts();
    assert_eq!(view.scan(&def).await.unwrap().rows(), 18_000);
    assert_eq!(world.store.counts().total(), 0, "nothing is new");

    // Another account: its block of states (the key stands in no segment, so none), and its rows in one segment.
    world.append(vec![state(5, RELAY, 2, false)]).await;
    let view = opened(&world).await;
    world.store.reset_counts();
    assert_eq!(view.scan(&def).await.unwrap().rows(), 17_999);
    let asked = gets(&world);
    assert!((1..=2).contains(&asked), "{asked} requests for one account");

    // Back again: what was looked up is dropped, and the state that it supersedes is in the tail.
    world.append(vec![state(5, RELAY, 3, true)]).await;
    let view = opened(&world).await;
    world.store.reset_counts();
    assert_eq!(view.scan(&def).await.unwrap().rows(), 18_000);
    assert_eq!(gets(&world), 0);

    // One that was hidden by a segment's state: the state is there, its rows are known.
    world.append(vec![state(10, RELAY, 2, true)]).await;
    let view = opened(&world).await;
    world.store.reset_counts();
    assert_eq!(view.scan(&def).await.unwrap().rows(), 18_001);
    assert_eq!(gets(&world), 0);
}

#[tokio::test]
async fn internal_tables_are_scanned_without_asking_who_is_hidden() {
    let mut world = World::new().await;
    world
        .append(vec![block(0, 1), state(0, RELAY, 1, false)])
        .await;
    let view = ReadView::open(&world.tables).await.unwrap();
    for table in ["account_states", "identities", "events"] {
        let scan = view.scan(&world.def("atproto", table)).await.unwrap();
        assert_eq!(scan.rows(), u64::from(table == "account_states"));
    }
    let known = world.tables.cache().hidden();
    assert_eq!(known.last().inputs, Inputs::default(), "nobody asked");
    assert!(
        view.hidden()
            .await
            .unwrap()
            .dids()
            .contains(did(0).as_str())
    );
}

/// How often what is hard was generated.
#[derive(Debug, Default)]
struct Seen {
    views: u32,
    hidden: u32,
    contested: u32,
}

/// One history of states and hosts, told in some order over flushes and merges; every view shows what the model does.
async fn run(seed: u64, seen: &mut Seen) {
    const REPOS: usize = 4;
    let mut rng = StdRng::seed_from_u64(seed);
    let mut world = World::new().await;
    let mut model = Model::default();
    let sources = [RELAY, HOST, "wss://other.example"];
    let hosts = [
        None,
        Some("https://pds.example"),
        Some("https://other.example"),
    ];
    for _ in 0..rng.random_range(10..25) {
        let mut changes = Vec::new();
        for _ in 0..rng.random_range(1..4) {
            let (repo, minute) = (rng.random_range(0..REPOS), rng.random_range(1..9));
            let source = sources[rng.random_range(0..sources.len())];
            changes.push(match rng.random_range(0..7) {
                0 => block(repo, usize::try_from(minute).unwrap()),
                1 => host(
                    repo,
                    source,
                    minute,
                    hosts[rng.random_range(0..hosts.len())],
                ),
                2 => host(
                    repo,
                    DIRECTORY,
                    minute,
                    hosts[rng.random_range(0..hosts.len())],
                ),
                _ => state(repo, source, minute, rng.random_bool(0.5)),
            });
        }
        changes.iter().for_each(|change| model.apply(change));
        world.append(changes).await;
        match rng.random_range(0..6) {
            0 => {
                let part = FlushSettings {
                    take_bytes_max: rng.random_range(1..2_000),
                    ..FlushSettings::at_once()
                };
                flush(&world.tables, "test", part).await.unwrap();
            }
            1 => drop(world.flush().await),
            2 => merge_all(&world).await,
            _ => {}
        }
        let expected: BTreeSet<String> = model
            .records()
            .map(|record| record.did.to_string())
            .collect();
        assert_eq!(shown(&world).await, expected, "seed {seed}");
        seen.views += 1;
        let repos = || (0..REPOS).map(did);
        seen.hidden += u32::from(repos().any(|repo| model.is_hidden(&repo)));
        let words = |repo: &Did| {
            let of = |change: &Change| match change {
                Change::Account(state) if state.did == *repo => Some(state.active),
                _ => None,
            };
            model
                .rows()
                .filter_map(of)
                .collect::<BTreeSet<bool>>()
                .len()
        };
        seen.contested += u32::from(repos().any(|repo| words(&repo) == 2));
    }
}

#[tokio::test]
async fn any_way_of_a_state_hides_what_the_model_hides() {
    let mut seen = Seen::default();
    for seed in 0..40 {
        run(seed, &mut seen).await;
    }
    println!("{seen:?}");
    assert!(seen.hidden > 200 && seen.contested > 200, "{seen:?}");
}
