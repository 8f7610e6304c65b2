//! Strategies for changes that collide: few repos, few keys, few revs, so that merging has something to decide.
//!
//! For tests, with the feature `generate`: whatever merges changes is held against [`Model`](crate::merge_model::Model)
//! on the same histories, and [`count_situations`] tells whether they put the laws to the test.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use atproto::{Action, Cid, Did, Handle, Nsid, RecordKey, Tid, Verification};
use bytes::Bytes;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::change::{
    AccountChange, Body, Change, CursorChange, Delivery, EventChange, EventKind, FloorChange,
    HeadChange, IdentityChange, Micros, NoticeChange, NoticeKind, RecordChange,
};
use crate::coverage::{Coverage, Pattern};
use crate::merge::{MergeKey, believed_time};
use crate::merge_model::Model;

/// The arrival around which all generated times lie, µs since the epoch.
pub const NOW_US: i64 = 1_780_000_000_000_000;

/// How many repos there are.
const DIDS: u8 = 3;

/// A history of at least 50 changes.
pub fn history() -> impl Strategy<Value = Vec<Change>> {
    prop::collection::vec(change(), 50..90)
}

/// A history, and a second telling of it: permuted, some changes twice, cut into parts.
pub fn told_twice() -> impl Strategy<Value = (Vec<Change>, Vec<Vec<Change>>)> {
    history()
        .prop_flat_map(|changes| {
            let copies = prop::collection::vec(any::<Index>(), 0..30);
            let cuts = prop::collection::vec(any::<Index>(), 0..4);
            let again = (Just(changes.clone()), copies)
                .prop_map(|(mut changes, copies)| {
                    let copies: Vec<Change> = copies
                        .iter()
                        .map(|copy| copy.get(&changes).clone())
                        .collect();
                    changes.extend(copies);
                    changes
                })
                .prop_shuffle();
            (Just(changes), again, cuts)
        })
        .prop_map(|(changes, again, cuts)| {
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(again.len())).collect();
            cuts.extend([0, again.len()]);
            cuts.sort_unstable();
            let parts = cuts.windows(2).map(|cut| again[cut[0]..cut[1]].to_vec());
            (changes, parts.collect())
        })
}

/// A change of any kind.
pub fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        12 => record().prop_map(Change::Record),
        1 => floor().prop_map(Change::Floor),
        4 => event().prop_map(Change::Event),
        3 => account().prop_map(Change::Account),
        1 => identity().prop_map(Change::Identity),
        3 => head().prop_map(Change::Head),
        1 => cursor().prop_map(Change::Cursor),
        3 => notice().prop_map(Change::Notice),
    ]
}

/// A DID by its number.
pub fn did_of(number: u8) -> Did {
    format!(
        "did:plc:{}",
        char::from(b'a' + number).to_string().repeat(24)
    )
    .parse()
    .expect("valid")
}

/// A rev by its number.
pub fn rev_of(number: u16) -> Tid {
    Tid::new(NOW_US + i64::from(number) * 1_000_000, number).expect("in range")
}

/// A record by its number.
pub fn body_of(number: u8) -> Body {
    // {"n": number} for a number below 24.
    Body::of(Bytes::from(vec![0xa1, 0x61, b'n', number]))
}

fn did() -> impl Strategy<Value = Did> {
    (0..DIDS).prop_map(did_of)
}

fn rev() -> impl Strategy<Value = Tid> {
    (1..9_u16).prop_map(rev_of)
}

fn collection() -> impl Strategy<Value = Nsid> {
    select(vec!["app.bsky.feed.post", "com.example.thing"])
        .prop_map(|nsid| nsid.parse().expect("valid"))
}

fn rkey() -> impl Strategy<Value = RecordKey> {
    select(vec!["3mptbyplj5d2a", "self", "a:b"]).prop_map(|rkey| rkey.parse().expect("valid"))
}

fn cid() -> impl Strategy<Value = Cid> {
    (0..3_u8).prop_map(|number| body_of(number).cid)
}

fn source() -> impl Strategy<Value = Arc<str>> {
    select(vec![
        "wss://relay.example",
        "wss://pds.example",
        "blake3:00",
    ])
    .prop_map(Arc::from)
}

fn micros() -> impl Strategy<Value = Micros> {
    (-5..5_i64).prop_map(|minutes| Micros(NOW_US + minutes * 60_000_000))
}

/// A frame's time: near the arrival, or far ahead of it.
fn claimed() -> impl Strategy<Value = Micros> {
    prop_oneof![
        3 => micros(),
        1 => (1..4_i64).prop_map(|days| Micros(NOW_US + days * 86_400_000_000)),
    ]
}

fn delivery() -> impl Strategy<Value = Delivery> {
    let verification = select(Verification::ALL.to_vec());
    let seq = option::of(-3..100_i64);
    (source(), seq, micros(), option::of(micros()), verification).prop_map(
        |(source, seq, indexed_at, time, verification)| Delivery {
            source,
            seq,
            indexed_at,
            time,
            verification,
        },
    )
}

fn record() -> impl Strategy<Value = RecordChange> {
    let body = option::weighted(0.7, (0..3_u8).prop_map(body_of));
    (did(), collection(), rkey(), rev(), body, delivery()).prop_map(
        |(did, collection, rkey, rev, body, delivery)| RecordChange {
            did,
            collection,
            rkey,
            rev,
            body,
            delivery,
        },
    )
}

fn floor() -> impl Strategy<Value = FloorChange> {
    (did(), rev(), coverage(), delivery()).prop_map(|(did, rev, coverage, delivery)| FloorChange {
        did,
        rev,
        coverage,
        delivery,
    })
}

/// All, one collection, prefixes that include each other, and with or without exclusions.
fn coverage() -> impl Strategy<Value = Coverage> {
    let texts = vec![
        "",
        "app.bsky.feed.post",
        "app.bsky.* com.example.thing",
        "app.*",
        "app.* !app.bsky.feed.post",
        "!com.example.thing",
    ];
    select(texts).prop_map(|text| text.parse().expect("a coverage"))
}

fn event() -> impl Strategy<Value = EventChange> {
    let operation = select(vec![Action::Create, Action::Update, Action::Delete]);
    let path = (collection(), rkey(), operation, 0..2_u32);
    let state = (option::of(handle()), any::<bool>(), option::of(status()));
    let kind = select(vec![
        EventKind::Commit,
        EventKind::Identity,
        EventKind::Account,
        EventKind::Sync,
    ]);
    (kind, did(), micros(), rev(), cid(), path, state, delivery()).prop_map(
        |(kind, did, time, rev, cid, path, (handle, active, status), delivery)| {
            let (collection, rkey, operation, op_index) = path;
            let of_commit = kind == EventKind::Commit;
            let signed = of_commit || kind == EventKind::Sync;
            let of_account = kind == EventKind::Account;
            EventChange {
                kind,
                did,
                time,
                rev: signed.then_some(rev),
                commit: signed.then_some(cid),
                op_index: if of_commit { op_index } else { 0 },
                operation: of_commit.then_some(operation),
                collection: of_commit.then_some(collection),
                rkey: of_commit.then_some(rkey),
                cid: (of_commit && operation != Action::Delete).then_some(cid),
                handle: handle.filter(|_| kind == EventKind::Identity),
                active: of_account.then_some(active),
                status: status.filter(|_| of_account),
                delivery,
            }
        },
    )
}

fn handle() -> impl Strategy<Value = Handle> {
    select(vec!["alice.example.com", "bob.example.com"])
        .prop_map(|handle| handle.parse().expect("valid"))
}

fn status() -> impl Strategy<Value = String> {
    select(vec!["deactivated", "takendown", ""]).prop_map(str::to_owned)
}

fn account() -> impl Strategy<Value = AccountChange> {
    let seq = option::of(0..4_i64);
    (
        did(),
        claimed(),
        seq,
        any::<bool>(),
        option::of(status()),
        delivery(),
    )
        .prop_map(|(did, time, seq, active, status, delivery)| AccountChange {
            did,
            time,
            seq,
            active,
            status,
            delivery,
        })
}

fn identity() -> impl Strategy<Value = IdentityChange> {
    let pds = option::of(select(vec!["https://pds.example", "https://relay.example"]));
    let pds = pds.prop_map(|pds| pds.map(str::to_owned));
    let seq = option::of(0..4_i64);
    (did(), claimed(), seq, option::of(handle()), pds, delivery()).prop_map(
        |(did, time, seq, handle, pds, delivery)| IdentityChange {
            did,
            time,
            seq,
            handle,
            pds,
            delivery,
        },
    )
}

fn head() -> impl Strategy<Value = HeadChange> {
    (did(), rev(), 0..3_u8, delivery()).prop_map(|(did, rev, number, delivery)| {
        let body = body_of(number);
        HeadChange {
            did,
            rev,
            data: body_of(number + 3).cid,
            commit: body.cid,
            commit_block: body.cbor,
            delivery,
        }
    })
}

fn cursor() -> impl Strategy<Value = CursorChange> {
    let slice = select(vec!["", "0-63"]).prop_map(str::to_owned);
    (source(), slice, 0..2_u64, -2..50_i64, micros()).prop_map(
        |(source, slice, generation, cursor, indexed_at)| CursorChange {
            source,
            slice,
            generation,
            cursor,
            indexed_at,
        },
    )
}

fn notice() -> impl Strategy<Value = NoticeChange> {
    let kind = select(vec![
        NoticeKind::Rejection,
        NoticeKind::Resync,
        NoticeKind::Gap,
        NoticeKind::Silence,
    ]);
    let reason = select(vec!["signature", "missing_block"]).prop_map(str::to_owned);
    let place = (option::of(did()), option::of(rev()), option::of(0..9_i64));
    let size = (0..2_u8, 0..3_u64, 0..2_u32, 0..3_u32);
    (kind, reason, source(), place, size, micros()).prop_map(
        |(kind, reason, source, (did, rev, seq), (hash, bytes, attempt, step), indexed_at)| {
            NoticeChange {
                kind,
                reason,
                source,
                did,
                rev,
                seq,
                frame_hash: [hash; 16],
                bytes,
                attempt,
                step,
                indexed_at,
            }
        },
    )
}

/// What must occur in generated histories, by the names that [`count_situations`] counts under.
pub const SITUATIONS: [&str; 10] = [
    "equal revs",
    "late creates after deletes",
    "resyncs in the middle",
    "equivocation",
    "skewed account times",
    "duplicates",
    "patterns and exclusions",
    "overlapping floors that disagree",
    "hidden accounts with records",
    "sources that disagree on an account",
];

/// Adds to `seen` how often each of [`SITUATIONS`] occurs in a history, in the order in which it is told.
pub fn count_situations(told: &[&Change], seen: &mut BTreeMap<&'static str, u32>) {
    let mut count = |situation: usize, times: usize| {
        *seen.entry(SITUATIONS[situation]).or_default() += u32::try_from(times).unwrap_or(u32::MAX);
    };
    let mut identities = HashSet::new();
    let mut records = HashMap::<MergeKey, Vec<&RecordChange>>::new();
    let mut floors = Vec::<&FloorChange>::new();
    let mut commits = HashMap::<(&Did, Tid), HashSet<Cid>>::new();
    for (at, change) in told.iter().enumerate() {
        count(5, usize::from(!identities.insert(change.identity())));
        match change {
            Change::Record(record) => {
                let of_repo = floors.iter().filter(|floor| floor.did == record.did);
                let (dead, spared): (Vec<&FloorChange>, Vec<&FloorChange>) = of_repo
                    .copied()
                    .filter(|floor| floor.coverage.covers(record.collection.as_str()))
                    .partition(|floor| floor.covers(record));
                count(7, usize::from(!dead.is_empty() && !spared.is_empty()));
                let before = records.entry(record.key()).or_default();
                let equal =
                    |other: &&&RecordChange| other.rev == record.rev && other.body != record.body;
                let late = |other: &&&RecordChange| {
                    other.body.is_none() && record.body.is_some() && record.rev < other.rev
                };
                count(0, before.iter().filter(equal).count());
                count(1, before.iter().filter(late).count());
                before.push(record);
            }
            Change::Floor(floor) => {
                let kills = |change: &&Change| matches!(change, Change::Record(record) if floor.covers(record));
                let is_amid = told[..at].iter().any(kills) && told[at..].iter().any(kills);
                count(2, usize::from(is_amid));
                let coverage = &floor.coverage;
                let is_pattern = |pattern: &Pattern| matches!(pattern, Pattern::Prefix(_));
                count(
                    6,
                    usize::from(
                        coverage.include().iter().any(is_pattern) || !coverage.exclude().is_empty(),
                    ),
                );
                floors.push(floor);
            }
            Change::Head(head) => {
                let commits = commits.entry((&head.did, head.rev)).or_default();
                commits.insert(head.commit);
                count(3, usize::from(commits.len() > 1));
            }
            Change::Account(state) => {
                let believed = believed_time(state.time, state.delivery.indexed_at);
                count(4, usize::from(believed != state.time));
            }
            Change::Event(_) | Change::Identity(_) | Change::Cursor(_) | Change::Notice(_) => {}
        }
    }
    let model: Model = told.iter().copied().collect();
    for did in (0..DIDS).map(did_of) {
        let has_records = told.iter().any(|change| {
            matches!(change, Change::Record(record) if record.did == did && record.body.is_some())
        });
        count(8, usize::from(has_records && model.is_hidden(&did)));
        let words: HashSet<bool> = model
            .rows()
            .filter_map(|change| match change {
                Change::Account(state) if state.did == did => Some(state.active),
                _ => None,
            })
            .collect();
        count(9, usize::from(words.len() == 2));
    }
}
