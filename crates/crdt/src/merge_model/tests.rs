//! The merge laws as properties of the model: commutative, associative, idempotent, and what they say of each kind.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use proptest::test_runner::{Config, TestRunner};

use super::*;
use crate::change::{Body, IdentityChange, Micros};
use crate::generate::{SITUATIONS, body_of, change, count_situations, did_of, rev_of, told_twice};
use crate::merge::{SKEW_MAX_US, believed_time, shown_account, shown_host, winner};

/// How often each situation must have occurred in the thousand histories, so that the laws were put to the test.
const OCCURRENCES_MIN: u32 = 100;

#[test]
fn any_permutation_duplication_and_split_gives_the_same_rows() {
    let seen = RefCell::new(BTreeMap::new());
    let mut runner = TestRunner::new(Config {
        failure_persistence: None,
        ..Config::with_cases(1000)
    });
    runner
        .run(&told_twice(), |(changes, parts)| {
            let told: Vec<&Change> = parts.iter().flatten().collect();
            count_situations(&told, &mut seen.borrow_mut());
            let expected: Model = changes.iter().collect();

            let permuted: Model = told.iter().copied().collect();
            assert_same(&permuted, &expected);

            let mut merged = Model::default();
            for part in parts.iter().rev() {
                let mut part: Model = part.iter().collect();
                part.compact();
                merged.merge(&part);
                merged.compact();
                merged.merge(&part);
            }
            assert_same(&merged, &expected);

            assert_eq!(expected.state(), by_definition(&changes));
            for row in merged.rows() {
                assert!(changes.contains(row), "a row is one delivery, whole");
            }
            Ok(())
        })
        .unwrap_or_else(|failure| panic!("{failure}\n{runner}"));
    let seen = seen.into_inner();
    println!("situations in 1000 histories: {seen:?}");
    assert_eq!(seen.len(), SITUATIONS.len());
    for (situation, count) in seen {
        assert!(count >= OCCURRENCES_MIN, "{situation}: only {count}");
    }
}

#[test]
fn a_change_of_each_kind_merges_with_itself_to_itself() {
    let mut runner = TestRunner::new(Config::with_cases(500));
    runner
        .run(&(change(), change()), |(a, b)| {
            assert_eq!(winner(&a, &a), &a);
            if a.key() == b.key() {
                assert_eq!(winner(&a, &b).order(), winner(&b, &a).order());
            }
            assert_eq!(
                a.identity() == b.identity(),
                (a.key(), a.order()) == (b.key(), b.order())
            );
            Ok(())
        })
        .unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn a_delete_wins_over_an_earlier_create_that_comes_late() {
    let mut model = Model::default();
    model.apply(&record(0, 5, None));
    model.apply(&record(0, 4, Some(body_of(1))));
    assert_eq!(model.records().count(), 0);
    assert_eq!(model.tombstones().count(), 1);
    model.apply(&record(0, 6, Some(body_of(2))));
    assert_eq!(model.records().count(), 1);
}

#[test]
fn of_one_rev_the_larger_cid_wins_and_a_delete_loses() {
    let (a, b) = (body_of(1), body_of(2));
    let larger = if a.cid > b.cid { a.clone() } else { b.clone() };
    let changes = [
        record(0, 5, Some(a)),
        record(0, 5, None),
        record(0, 5, Some(b)),
    ];
    let model: Model = changes.iter().collect();
    let bodies: Vec<_> = model.records().map(|record| record.body.clone()).collect();
    assert_eq!(bodies, [Some(larger)]);
}

#[test]
fn a_floor_kills_what_is_below_it_whenever_it_comes() {
    let mut model = Model::default();
    model.apply(&record(0, 4, Some(body_of(1))));
    model.apply(&record(1, 4, Some(body_of(1))));
    model.apply(&floor(0, 5, ""));
    assert_eq!(model.records().count(), 1, "the other repo's");
    model.apply(&record(0, 3, Some(body_of(1))));
    model.apply(&record(0, 5, Some(body_of(2))));
    assert_eq!(model.records().count(), 2);
    assert_eq!(
        model.floor(&did_of(0), &"app.bsky.feed.post".parse().expect("valid")),
        Some(rev_of(5))
    );
}

#[test]
fn a_floor_of_some_collections_spares_the_others() {
    let mut model = Model::default();
    model.apply(&record(0, 4, Some(body_of(1))));
    model.apply(&floor(0, 5, "com.example.thing"));
    assert_eq!(model.records().count(), 1);
    model.apply(&floor(0, 5, "app.bsky.feed.post com.example.thing"));
    assert_eq!(model.records().count(), 0);
}

#[test]
fn of_overlapping_floors_each_kills_what_it_covers() {
    let floors = [
        floor(0, 3, ""),
        floor(0, 5, "app.bsky.*"),
        floor(0, 9, "!app.bsky.feed.post"),
        floor(0, 4, "app.bsky.feed.post"),
    ];
    let written = [
        record(0, 4, Some(body_of(1))),
        record(0, 5, Some(body_of(1))),
    ];
    for (record, live) in written.iter().zip([0, 1]) {
        let mut model: Model = floors.iter().collect();
        model.apply(record);
        assert_eq!(model.records().count(), live);
        assert_eq!(
            model.floor(&did_of(0), &"app.bsky.feed.post".parse().expect("valid")),
            Some(rev_of(5))
        );
        assert_eq!(
            model.floor(&did_of(0), &"com.example.thing".parse().expect("valid")),
            Some(rev_of(9))
        );
    }
}

#[test]
fn a_tombstone_goes_when_a_floor_is_above_it() {
    let mut model = Model::default();
    model.apply(&record(0, 4, None));
    model.apply(&floor(0, 4, ""));
    assert_eq!(
        model.tombstones().count(),
        1,
        "a write at the floor could still come"
    );
    model.apply(&floor(0, 5, ""));
    assert_eq!(model.tombstones().count(), 0);
    model.compact();
    model.apply(&record(0, 3, Some(body_of(1))));
    assert_eq!(model.records().count(), 0);
}

#[test]
fn a_clock_that_runs_ahead_is_believed_for_five_minutes() {
    let arrived = Micros(1_000_000_000);
    let soon = Micros(arrived.0 + SKEW_MAX_US);
    assert_eq!(believed_time(Micros(5), arrived), Micros(5));
    assert_eq!(believed_time(soon, arrived), soon);
    assert_eq!(believed_time(Micros(i64::MAX), arrived), soon);
    assert_eq!(
        believed_time(Micros(i64::MAX), Micros(i64::MAX)),
        Micros(i64::MAX)
    );

    let ahead = account("relay", i64::MAX, arrived.0, false);
    let later = account("relay", arrived.0 + SKEW_MAX_US + 1, soon.0 + 1, true);
    let model: Model = [&ahead, &later].into_iter().collect();
    assert_eq!(model.rows().collect::<Vec<_>>(), [&later]);
}

#[test]
fn the_hosts_own_word_on_an_account_is_shown() {
    let (relay, host) = (
        account("wss://relay.example", 9, 9, true),
        account("wss://pds.example", 5, 5, false),
    );
    let states = || {
        [&relay, &host]
            .into_iter()
            .filter_map(|change| match change {
                Change::Account(state) => Some(state),
                _ => None,
            })
    };
    let active = |host| shown_account(states(), host).map(|state| state.active);
    assert_eq!(active(None), Some(true));
    assert_eq!(active(Some("https://pds.example")), Some(false));
    assert_eq!(active(Some("https://PDS.example/")), Some(false));
    assert_eq!(active(Some("https://pds.example:3000")), Some(true));
    assert_eq!(active(Some("https://another.example")), Some(true));
    assert_eq!(active(Some("pds.example")), Some(true), "no URL");
    assert!(shown_account([], None).is_none());
}

#[test]
fn the_directorys_answer_on_a_host_goes_before_what_frames_say() {
    let identity = |source: &str, time, seq, pds: Option<&str>| IdentityChange {
        did: did_of(0),
        time: Micros(time),
        seq,
        handle: None,
        pds: pds.map(str::to_owned),
        delivery: delivery(source, time),
    };
    let (old, new) = ("https://old.example", "https://new.example");
    let asked = identity("https://plc.example", 1, None, Some(new));
    let asked_in_vain = identity("https://plc.example", 1, None, None);
    let framed = identity("wss://relay.example", 2, Some(7), Some(old));
    assert_eq!(shown_host([&asked, &framed]), Some(new));
    assert_eq!(shown_host([&asked_in_vain, &framed]), Some(old));
    assert_eq!(shown_host([&asked_in_vain]), None);
}

#[test]
fn an_account_that_is_not_active_has_no_visible_records() {
    let host = Change::Identity(IdentityChange {
        did: did_of(0),
        time: Micros(1),
        seq: None,
        handle: None,
        pds: Some("https://pds.example".to_owned()),
        delivery: delivery("https://plc.example", 1),
    });
    let mut model = Model::default();
    model.apply(&record(0, 4, Some(body_of(1))));
    model.apply(&record(1, 4, Some(body_of(1))));
    model.apply(&host);
    model.apply(&account("wss://relay.example", 5, 5, false));
    assert_eq!(model.records().count(), 1, "the other account's");
    model.compact();
    model.apply(&account("wss://pds.example", 4, 4, true));
    assert_eq!(
        model.records().count(),
        2,
        "it is its host's word that counts"
    );
    model.apply(&account("wss://pds.example", 6, 6, false));
    assert_eq!(model.records().count(), 1);
    assert_eq!(
        model.rows().count(),
        4,
        "states stay, and the other's record"
    );
    model.apply(&account("wss://pds.example", 7, 7, true));
    assert_eq!(model.records().count(), 2);
}

/// The rows by the words of the law, without the model: no change of the key is higher, no floor covers it, and no word
/// on its account hides it.
fn by_definition(changes: &[Change]) -> BTreeMap<MergeKey, Order> {
    let mut highest = BTreeMap::<MergeKey, (Order, &Change)>::new();
    for change in changes {
        let (key, order) = (change.key(), change.order());
        if highest.get(&key).is_none_or(|(other, _)| order > *other) {
            highest.insert(key, (order, change));
        }
    }
    let dead = |change: &Change| {
        let Change::Record(record) = change else {
            return false;
        };
        record.body.is_none()
            || is_hidden(changes, &record.did)
            || changes.iter().any(|other| match other {
                Change::Floor(floor) => floor.covers(record),
                _ => false,
            })
    };
    highest
        .into_iter()
        .filter(|(_, (_, change))| !dead(change))
        .map(|(key, (order, _))| (key, order))
        .collect()
}

/// Whether the state of an account that is shown is not active: of all words on it, superseded ones too.
fn is_hidden(changes: &[Change], did: &Did) -> bool {
    let identities = changes.iter().filter_map(|change| match change {
        Change::Identity(identity) if identity.did == *did => Some(identity),
        _ => None,
    });
    // What a source said before is no word of it any more, so a host that it named before is not its host.
    let latest = identities.clone().filter(|identity| {
        let is_same = |other: &&IdentityChange| other.delivery.source == identity.delivery.source;
        identities
            .clone()
            .filter(is_same)
            .all(|other| other.order() <= identity.order())
    });
    let host = shown_host(latest);
    let states = changes.iter().filter_map(|change| match change {
        Change::Account(state) if state.did == *did => Some(state),
        _ => None,
    });
    shown_account(states, host).is_some_and(|state| !state.active)
}

#[track_caller]
fn assert_same(model: &Model, expected: &Model) {
    assert_eq!(model.state(), expected.state());
    let tombstones = |model: &Model| {
        let keys = model.tombstones().map(|record| (record.key(), record.rev));
        keys.collect::<BTreeSet<_>>()
    };
    assert_eq!(tombstones(model), tombstones(expected));
}

fn record(did: u8, rev: u16, body: Option<Body>) -> Change {
    Change::Record(RecordChange {
        did: did_of(did),
        collection: "app.bsky.feed.post".parse().expect("valid"),
        rkey: "self".parse().expect("valid"),
        rev: rev_of(rev),
        body,
        delivery: delivery("relay", 0),
    })
}

fn floor(did: u8, rev: u16, coverage: &str) -> Change {
    Change::Floor(FloorChange {
        did: did_of(did),
        rev: rev_of(rev),
        coverage: coverage.parse().expect("a coverage"),
        delivery: delivery("relay", 0),
    })
}

fn account(source: &str, time: i64, indexed_at: i64, active: bool) -> Change {
    Change::Account(AccountChange {
        did: did_of(0),
        time: Micros(time),
        seq: None,
        active,
        status: None,
        delivery: delivery(source, indexed_at),
    })
}

fn delivery(source: &str, indexed_at: i64) -> crate::Delivery {
    crate::Delivery {
        source: source.into(),
        seq: None,
        indexed_at: Micros(indexed_at),
        time: None,
        verification: atproto::Verification::Inverted,
    }
}
