//! Changes that collide: few repos, few keys, few revs, so that merging has something to decide.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use atproto::{Action, Cid, Did, Nsid, RecordKey, Tid, Value, Verification};
use crdt::merge_model::Model;
use crdt::{
    AccountChange, Body, Change, CursorChange, Delivery, EventChange, EventKind, FloorChange,
    HeadChange, IdentityChange, Micros, NoticeChange, NoticeKind, Pattern, RecordChange,
};
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

/// The moment around which all times lie.
pub(crate) const NOW_US: i64 = 1_783_000_000_000_000;

const COLLECTIONS: [&str; 4] = [
    "app.bsky.feed.post",
    "app.bsky.feed.like",
    "app.bsky.actor.profile",
    "com.example.thing",
];
/// All, some by name, by prefix, and less some; they overlap.
const COVERAGES: [&str; 7] = [
    "",
    "app.bsky.feed.post com.example.thing",
    "app.bsky.actor.profile",
    "app.bsky.feed.*",
    "app.* !app.bsky.feed.like",
    "!com.example.thing",
    "com.* !com.example.other",
];
const RKEYS: [&str; 5] = [
    "3mptbyplj5d2a",
    "3mpsjbtci2c2o",
    "self",
    "2222222222222",
    "a:b",
];
const HOSTS: [&str; 3] = [
    "https://pds.example",
    "https://PDS.example/",
    "https://relay.example",
];
const SOURCES: [&str; 3] = ["wss://relay.example", "wss://pds.example", "blake3:00"];

/// At least fifty changes of all kinds, with a resync somewhere in them.
pub(crate) fn history(rng: &mut StdRng) -> Vec<Change> {
    let count = rng.random_range(50..80);
    // Two of the kinds beside records and floors: all of them in one case would only be slow.
    let mut others = [rng.random_range(0..6), rng.random_range(0..6)];
    // Who is hidden is a matter of states and identities together.
    if others.iter().any(|kind| matches!(kind, 1 | 2)) && rng.random_bool(0.8) {
        others = [1, 2];
    }
    let mut changes: Vec<Change> = (0..count).map(|_| change(rng, &others)).collect();
    if rng.random_bool(0.5) {
        let at = rng.random_range(0..changes.len());
        let resync = resync(rng, &changes);
        changes.splice(at..at, resync);
    }
    changes
}

fn change(rng: &mut StdRng, others: &[u8]) -> Change {
    if rng.random_bool(0.6) {
        return if rng.random_bool(0.06) {
            Change::Floor(floor(rng))
        } else {
            Change::Record(record(rng))
        };
    }
    match pick(rng, others) {
        0 => Change::Event(event(rng)),
        1 => Change::Account(account(rng)),
        2 => Change::Identity(identity(rng)),
        3 => Change::Head(head(rng)),
        4 => Change::Cursor(cursor(rng)),
        _ => Change::Notice(notice(rng)),
    }
}

/// A resync of one repo: some of its records again as writes at a rev, then that rev as floor.
fn resync(rng: &mut StdRng, changes: &[Change]) -> Vec<Change> {
    let (did, rev) = (did(rng), rev(rng));
    let mut again: Vec<Change> = changes
        .iter()
        .filter_map(|change| match change {
            Change::Record(record)
                if record.did == did && record.body.is_some() && record.rev <= rev =>
            {
                Some(Change::Record(RecordChange {
                    rev,
                    delivery: delivery(rng),
                    ..record.clone()
                }))
            }
            _ => None,
        })
        .collect();
    again.push(Change::Floor(FloorChange {
        did,
        rev,
        coverage: crdt::Coverage::default(),
        delivery: delivery(rng),
    }));
    again
}

fn pick<T: Clone>(rng: &mut StdRng, of: &[T]) -> T {
    of.choose(rng).expect("not empty").clone()
}

fn did(rng: &mut StdRng) -> Did {
    let letter = pick(rng, &["a", "b", "c"]);
    format!("did:plc:{}", letter.repeat(24))
        .parse()
        .expect("a DID")
}

fn rev_of(number: i64) -> Tid {
    Tid::new(NOW_US - 1_000_000_000 + number * 1_000_000, 7).expect("a TID")
}

fn rev(rng: &mut StdRng) -> Tid {
    rev_of(rng.random_range(1..9))
}

fn collection(rng: &mut StdRng) -> Nsid {
    pick(rng, &COLLECTIONS).parse().expect("an NSID")
}

fn rkey(rng: &mut StdRng) -> RecordKey {
    pick(rng, &RKEYS).parse().expect("a record key")
}

fn source(rng: &mut StdRng) -> Arc<str> {
    Arc::from(pick(rng, &SOURCES))
}

fn micros(rng: &mut StdRng) -> Micros {
    Micros(NOW_US + rng.random_range(-5..5) * 60_000_000)
}

/// A frame's time: near its arrival, or days ahead of it.
fn claimed(rng: &mut StdRng) -> Micros {
    if rng.random_bool(0.25) {
        Micros(NOW_US + rng.random_range(1..4) * 86_400_000_000)
    } else {
        micros(rng)
    }
}

fn delivery(rng: &mut StdRng) -> Delivery {
    Delivery {
        source: source(rng),
        seq: rng.random_bool(0.8).then(|| rng.random_range(1..100)),
        indexed_at: micros(rng),
        time: rng.random_bool(0.8).then(|| micros(rng)),
        verification: pick(rng, &Verification::ALL),
    }
}

fn body(rng: &mut StdRng, collection: &str) -> Body {
    let number = rng.random_range(0..3_i64);
    let mut fields = vec![
        ("$type".to_owned(), Value::Text(collection.to_owned())),
        (
            "createdAt".to_owned(),
            Value::Text(format!("2026-07-04T14:38:0{number}.000Z")),
        ),
    ];
    match number {
        0 => fields.push(("text".to_owned(), Value::Text("hello".to_owned()))),
        1 => fields.push(("text".to_owned(), Value::Int(1))),
        _ => fields.push((
            "else".to_owned(),
            Value::List(vec![Value::Bool(true), Value::Null]),
        )),
    }
    let value = Value::Map(fields.into_iter().collect());
    Body::of(atproto::cbor::encode(&value).into())
}

fn record(rng: &mut StdRng) -> RecordChange {
    let collection = collection(rng);
    let body = rng.random_bool(0.7).then(|| body(rng, collection.as_str()));
    RecordChange {
        did: did(rng),
        collection,
        rkey: rkey(rng),
        rev: rev(rng),
        body,
        delivery: delivery(rng),
    }
}

fn floor(rng: &mut StdRng) -> FloorChange {
    FloorChange {
        did: did(rng),
        rev: rev(rng),
        coverage: pick(rng, &COVERAGES).parse().expect("a coverage"),
        delivery: delivery(rng),
    }
}

fn cid(rng: &mut StdRng) -> Cid {
    Cid::of_cbor(&[rng.random_range(0..3)])
}

fn event(rng: &mut StdRng) -> EventChange {
    let kind = pick(
        rng,
        &[
            EventKind::Commit,
            EventKind::Identity,
            EventKind::Account,
            EventKind::Sync,
        ],
    );
    let of_commit = kind == EventKind::Commit;
    let is_signed = of_commit || kind == EventKind::Sync;
    let operation = of_commit.then(|| pick(rng, &[Action::Create, Action::Update, Action::Delete]));
    EventChange {
        kind,
        did: did(rng),
        time: micros(rng),
        rev: is_signed.then(|| rev(rng)),
        commit: is_signed.then(|| cid(rng)),
        op_index: if of_commit { rng.random_range(0..2) } else { 0 },
        operation,
        collection: of_commit.then(|| collection(rng)),
        rkey: of_commit.then(|| rkey(rng)),
        cid: operation
            .is_some_and(|operation| operation != Action::Delete)
            .then(|| cid(rng)),
        handle: (kind == EventKind::Identity)
            .then(|| "alice.example.com".parse().expect("a handle")),
        active: (kind == EventKind::Account).then(|| rng.random_bool(0.5)),
        status: None,
        delivery: delivery(rng),
    }
}

fn account(rng: &mut StdRng) -> AccountChange {
    AccountChange {
        did: did(rng),
        time: claimed(rng),
        seq: rng.random_bool(0.8).then(|| rng.random_range(1..4)),
        active: rng.random_bool(0.5),
        status: rng
            .random_bool(0.5)
            .then(|| pick(rng, &["deactivated", "takendown", ""]).to_owned()),
        delivery: delivery(rng),
    }
}

fn identity(rng: &mut StdRng) -> IdentityChange {
    let handle = rng
        .random_bool(0.7)
        .then(|| pick(rng, &["alice.example.com", "bob.example.com"]));
    IdentityChange {
        did: did(rng),
        time: claimed(rng),
        seq: rng.random_bool(0.8).then(|| rng.random_range(1..4)),
        handle: handle.map(|handle| handle.parse().expect("a handle")),
        pds: rng.random_bool(0.5).then(|| pick(rng, &HOSTS).to_owned()),
        delivery: delivery(rng),
    }
}

fn head(rng: &mut StdRng) -> HeadChange {
    let block = vec![rng.random_range(0..3)];
    HeadChange {
        did: did(rng),
        rev: rev(rng),
        data: Cid::of_cbor(&[block[0] + 3]),
        commit: Cid::of_cbor(&block),
        commit_block: block.into(),
        delivery: delivery(rng),
    }
}

fn cursor(rng: &mut StdRng) -> CursorChange {
    CursorChange {
        source: source(rng),
        slice: pick(rng, &["", "0-63"]).to_owned(),
        generation: rng.random_range(0..2),
        cursor: rng.random_range(0..50),
        indexed_at: micros(rng),
    }
}

fn notice(rng: &mut StdRng) -> NoticeChange {
    let frame = rng.random_range(0..2_u8);
    NoticeChange {
        kind: pick(
            rng,
            &[
                NoticeKind::Rejection,
                NoticeKind::Resync,
                NoticeKind::Gap,
                NoticeKind::Silence,
            ],
        ),
        reason: pick(rng, &["signature", "missing_block"]).to_owned(),
        source: source(rng),
        did: rng.random_bool(0.8).then(|| did(rng)),
        rev: rng.random_bool(0.8).then(|| rev(rng)),
        seq: None,
        frame_hash: [frame; 16],
        bytes: u64::from(frame) + 1,
        attempt: rng.random_range(0..2),
        step: rng.random_range(0..3),
        indexed_at: micros(rng),
    }
}

/// How often what is hard to merge was generated.
#[derive(Debug, Default)]
pub(crate) struct Situations(BTreeMap<&'static str, u64>);

impl Situations {
    /// Each situation with its count.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.0.iter().map(|(name, count)| (*name, *count))
    }

    fn add(&mut self, name: &'static str, is_so: bool) {
        *self.0.entry(name).or_default() += u64::from(is_so);
    }

    /// Counts the situations in one case: its changes, and the order in which they were told.
    pub(crate) fn count(&mut self, changes: &[Change], told: &[Change]) {
        let records: Vec<&RecordChange> = changes.iter().filter_map(as_record).collect();
        let pairs = || {
            records
                .iter()
                .flat_map(|a| records.iter().map(move |b| (*a, *b)))
                .filter(|(a, b)| a.key() == b.key())
        };
        self.add(
            "equal revs, delete and write",
            pairs().any(|(a, b)| a.rev == b.rev && a.body.is_some() && b.body.is_none()),
        );
        self.add(
            "equivocation",
            pairs().any(|(a, b)| a.rev == b.rev && a.order() > b.order() && b.body.is_some()),
        );
        self.add("a change told twice", told.len() > changes.len());
        self.add("a skewed account time", changes.iter().any(|change| matches!(change, Change::Account(c) if c.time.0 > c.delivery.indexed_at.0 + crdt::merge::SKEW_MAX_US)));
        let told_records: Vec<&RecordChange> = told.iter().filter_map(as_record).collect();
        let mut deleted: Vec<&RecordChange> = Vec::new();
        let mut is_late = false;
        for record in &told_records {
            is_late |= record.body.is_some()
                && deleted
                    .iter()
                    .any(|delete| delete.key() == record.key() && delete.rev > record.rev);
            if record.body.is_none() {
                deleted.push(record);
            }
        }
        self.add("a late create after its delete", is_late);
        let mut seen: HashSet<&Did> = HashSet::new();
        let (mut is_before, mut is_after) = (false, false);
        let mut floors: Vec<&FloorChange> = Vec::new();
        for change in told {
            match change {
                Change::Floor(floor) => {
                    is_before |= seen.contains(&floor.did);
                    floors.push(floor);
                }
                Change::Record(record) => {
                    seen.insert(&record.did);
                    is_after |= floors.iter().any(|floor| floor.covers(record));
                }
                _ => {}
            }
        }
        self.add("a floor above records that came before it", is_before);
        self.add("a record below a floor that came before it", is_after);
        self.add(
            "a floor of some collections",
            floors.iter().any(|floor| !floor.coverage.is_everything()),
        );
        let is_pattern = |pattern: &Pattern| matches!(pattern, Pattern::Prefix(_));
        self.add(
            "a floor by patterns",
            floors
                .iter()
                .any(|floor| floor.coverage.include().iter().any(is_pattern)),
        );
        self.add(
            "a floor with exclusions",
            floors
                .iter()
                .any(|floor| !floor.coverage.exclude().is_empty()),
        );
        let is_torn = |record: &&RecordChange| {
            let covers = |floor: &&&FloorChange| {
                floor.did == record.did && floor.coverage.covers(record.collection.as_str())
            };
            let mut covering = floors.iter().filter(covers);
            covering.clone().any(|floor| floor.covers(record))
                && covering.any(|floor| !floor.covers(record))
        };
        self.add(
            "a record between overlapping floors",
            records.iter().any(is_torn),
        );
        self.count_accounts(changes);
    }

    fn count_accounts(&mut self, changes: &[Change]) {
        let model: Model = changes.iter().collect();
        let dids: HashSet<&Did> = changes
            .iter()
            .filter_map(as_record)
            .map(|record| &record.did)
            .collect();
        let states = |did: &Did| -> Vec<&AccountChange> {
            let states = model.rows().filter_map(|change| match change {
                Change::Account(state) => Some(state),
                _ => None,
            });
            states.filter(|state| state.did == *did).collect()
        };
        self.add(
            "a hidden account with records",
            dids.iter().any(|did| model.is_hidden(did)),
        );
        // Without its host's word the highest would be shown, and say otherwise.
        self.add(
            "a host that overrules others",
            dids.iter().any(|did| {
                let highest = crdt::merge::shown_account(states(did), None);
                highest.is_some_and(|highest| highest.active == model.is_hidden(did))
            }),
        );
    }
}

fn as_record(change: &Change) -> Option<&RecordChange> {
    match change {
        Change::Record(record) => Some(record),
        _ => None,
    }
}
