//! Sections: golden bytes of every kind, round trips, and every way in which one can be wrong.

use std::fmt::Write as _;

use atproto::{Action, Verification};
use bytes::Bytes;
use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::batch::ChangeBatch;
use crate::change::{Delivery, EventKind, Micros, NoticeKind};
use crate::generate::{body_of, change, did_of, history, rev_of};

/// `kind table count hash payload`, a line per kind; a change here is a change of the log's format.
const GOLDEN: &str = include_str!("golden.txt");

#[test]
fn every_kind_has_its_golden_bytes() {
    let mut lines = String::new();
    for section in encode_sections(&one_of_each()) {
        let (kind, table, count) = (section.kind, &section.table, section.count);
        let (hash, payload) = (hex(&section.hash.0), hex(&section.payload));
        writeln!(lines, "{kind} {table} {count} {hash} {payload}").expect("a string takes it");
    }
    assert_eq!(lines, GOLDEN, "\n{lines}");
}

#[test]
fn golden_bytes_decode_to_what_they_were_made_of() {
    let mut changes = Vec::new();
    for line in GOLDEN.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let section = Section {
            kind: fields[0].parse().expect("a number"),
            table: fields[1].to_owned(),
            payload: unhex(fields[4]).into(),
            count: fields[2].parse().expect("a number"),
            hash: MultisetHash(unhex(fields[3]).try_into().expect("32 bytes")),
        };
        changes.extend(decode_section(&section).expect("a golden section"));
    }
    assert_eq!(changes, one_of_each());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_is_encoded_decodes_to_itself(changes in history()) {
        let mut decoded = Vec::new();
        for section in (ChangeBatch { changes: changes.clone() }).encode() {
            let part = decode_section(&section).expect("our own section");
            prop_assert_eq!(part.len() as u64, section.count);
            decoded.extend(part);
        }
        // Sorting is stable, so this also shows that order is kept within a kind.
        let group = |change: &Change| match change {
            Change::Record(record) => (kind::RECORDS, record.collection.to_string()),
            other => (other.section_kind(), String::new()),
        };
        let mut expected = changes;
        expected.sort_by_key(group);
        prop_assert_eq!(decoded, expected);
    }

    #[test]
    fn a_changed_section_is_an_error_or_tells_the_same(change in change(), at: prop::sample::Index, bit in 0..8_u8) {
        let section = only_section(&change);
        let mut payload = section.payload.to_vec();
        payload[at.index(section.payload.len())] ^= 1 << bit;
        let changed = Section { payload: payload.into(), ..section };
        if let Ok(decoded) = decode_section(&changed) {
            // What was observed of a delivery is in no identity; the log object's checksum covers it.
            prop_assert_eq!(decoded.len(), 1);
            prop_assert_eq!(decoded[0].identity(), change.identity());
        }
    }

    #[test]
    fn any_bytes_are_an_error_and_no_panic(payload: Vec<u8>, kind in 0..14_u32, count in 1..5_u64) {
        let table = table_of(kind).filter(|table| !table.is_empty()).unwrap_or("app.bsky.feed.post");
        let section = Section {
            kind,
            table: table.to_owned(),
            payload: payload.into(),
            count,
            hash: MultisetHash::default(),
        };
        prop_assert!(decode_section(&section).is_err());
    }
}

#[test]
fn a_truncated_section_is_an_error() {
    for change in one_of_each() {
        let section = only_section(&change);
        for length in 0..section.payload.len() {
            let payload = section.payload.slice(..length);
            let cut = Section {
                payload,
                ..section.clone()
            };
            assert!(decode_section(&cut).is_err(), "{change:?} at {length}");
        }
    }
}

#[test]
fn a_later_kind_is_named_and_refused() {
    for kind in [
        0,
        kind::ERASURES,
        kind::LIFTS,
        kind::LABELS,
        kind::DOCUMENTS,
        99,
    ] {
        let section = Section {
            kind,
            ..only_section(&one_of_each()[0])
        };
        assert!(matches!(
            decode_section(&section),
            Err(DecodeError::UnknownKind { kind: found }) if found == kind
        ));
    }
}

#[test]
fn a_wrong_claim_is_refused() {
    for change in one_of_each() {
        let section = only_section(&change);
        let count = Section {
            count: 2,
            ..section.clone()
        };
        assert!(matches!(
            decode_section(&count),
            Err(DecodeError::Length { .. })
        ));
        let most = Section {
            count: u64::MAX,
            ..section.clone()
        };
        assert!(matches!(
            decode_section(&most),
            Err(DecodeError::Length { .. })
        ));
        let hash = Section {
            hash: MultisetHash([1; 32]),
            ..section.clone()
        };
        assert!(matches!(decode_section(&hash), Err(DecodeError::Hash)));
        let table = Section {
            table: "no/table".to_owned(),
            ..section
        };
        assert!(matches!(
            decode_section(&table),
            Err(DecodeError::Table { .. })
        ));
    }
}

#[test]
fn another_collection_is_another_section() {
    let section = only_section(&one_of_each()[0]);
    let moved = Section {
        table: "com.example.thing".to_owned(),
        ..section
    };
    assert!(matches!(decode_section(&moved), Err(DecodeError::Hash)));
}

#[test]
fn malformed_values_are_named_by_column_and_row() {
    let record = only_section(&one_of_each()[0]);
    let columns = |edit: &dyn Fn(&mut proto::Records)| {
        let mut columns = proto::Records::decode(record.payload.clone()).expect("ours");
        edit(&mut columns);
        decode_section(&with_payload(&record, &columns)).expect_err("malformed")
    };
    let did = columns(&|c| c.did.get_or_insert_default().values[0] = "did:".to_owned());
    assert_value(&did, "did", 0);
    let index = columns(&|c| c.did.get_or_insert_default().index[0] = 1);
    assert_value(&index, "did", 0);
    assert_value(&columns(&|c| c.rkey[0] = "a/b".to_owned()), "rkey", 0);
    let verification = columns(&|c| c.delivery.get_or_insert_default().verification[0] = 4);
    assert_value(&verification, "verification", 0);
    let stray = columns(&|c| {
        let seq = c
            .delivery
            .get_or_insert_default()
            .seq
            .get_or_insert_default();
        (seq.values[0], seq.present[0]) = (7, false);
    });
    assert_value(&stray, "seq", 0);
    let missing = columns(&|c| c.delivery = None);
    assert!(matches!(
        missing,
        DecodeError::Length {
            column: "source",
            expected: 1,
            found: 0
        }
    ));

    let floor = only_section(&one_of_each()[1]);
    let columns = |edit: &dyn Fn(&mut proto::Floors)| {
        let mut columns = proto::Floors::decode(floor.payload.clone()).expect("ours");
        edit(&mut columns);
        decode_section(&with_payload(&floor, &columns)).expect_err("malformed")
    };
    for text in ["no pattern", "b.b.b a.a.a", "a.a.* a.a.a", " ", "a.a.a "] {
        let other = |c: &mut proto::Floors| {
            c.coverage.get_or_insert_default().values[0] = text.to_owned();
        };
        assert_value(&columns(&other), "coverage", 0);
    }
    let missing = columns(&|c| c.coverage = None);
    assert!(matches!(
        missing,
        DecodeError::Length {
            column: "coverage",
            expected: 1,
            found: 0
        }
    ));
}

#[test]
fn a_body_that_was_exchanged_fails_the_hash() {
    let section = only_section(&one_of_each()[0]);
    let mut columns = proto::Records::decode(section.payload.clone()).expect("ours");
    columns.body[0] = body_of(9).cbor;
    assert!(matches!(
        decode_section(&with_payload(&section, &columns)),
        Err(DecodeError::Hash)
    ));
}

#[track_caller]
fn assert_value(error: &DecodeError, expected: &str, at: usize) {
    assert!(
        matches!(error, DecodeError::Value { column, row } if *column == expected && *row == at),
        "{error}"
    );
}

fn with_payload(section: &Section, columns: &impl Message) -> Section {
    Section {
        payload: columns.encode_to_vec().into(),
        ..section.clone()
    }
}

fn only_section(change: &Change) -> Section {
    let mut sections = encode_sections([change]);
    assert_eq!(sections.len(), 1);
    sections.remove(0)
}

fn one_of_each() -> Vec<Change> {
    let delivery = Delivery {
        source: "wss://relay.example".into(),
        seq: Some(7),
        indexed_at: Micros(1_780_000_000_000_001),
        time: Some(Micros(1_780_000_000_000_000)),
        verification: Verification::Inverted,
    };
    let post = || "app.bsky.feed.post".parse().expect("valid");
    let time = Micros(1_779_999_999_000_000);
    vec![
        Change::Record(RecordChange {
            did: did_of(0),
            collection: post(),
            rkey: "3mptbyplj5d2a".parse().expect("valid"),
            rev: rev_of(3),
            body: Some(body_of(1)),
            delivery: delivery.clone(),
        }),
        Change::Floor(FloorChange {
            did: did_of(0),
            rev: rev_of(3),
            coverage: "app.bsky.* com.example.thing !app.bsky.feed.like"
                .parse()
                .expect("a coverage"),
            delivery: Delivery {
                seq: None,
                time: None,
                ..delivery.clone()
            },
        }),
        Change::Event(EventChange {
            kind: EventKind::Commit,
            did: did_of(0),
            time,
            rev: Some(rev_of(3)),
            commit: Some(body_of(2).cid),
            op_index: 1,
            operation: Some(Action::Create),
            collection: Some(post()),
            rkey: Some("3mptbyplj5d2a".parse().expect("valid")),
            cid: Some(body_of(1).cid),
            handle: None,
            active: None,
            status: None,
            delivery: delivery.clone(),
        }),
        Change::Account(AccountChange {
            did: did_of(1),
            time,
            seq: Some(8),
            active: false,
            status: Some("takendown".to_owned()),
            delivery: delivery.clone(),
        }),
        Change::Identity(IdentityChange {
            did: did_of(1),
            time,
            seq: Some(9),
            handle: Some("alice.example.com".parse().expect("valid")),
            pds: Some("https://pds.example".to_owned()),
            delivery: delivery.clone(),
        }),
        Change::Head(HeadChange {
            did: did_of(0),
            rev: rev_of(3),
            data: body_of(4).cid,
            commit: body_of(2).cid,
            commit_block: body_of(2).cbor,
            delivery,
        }),
        Change::Cursor(CursorChange {
            source: "wss://relay.example".into(),
            slice: "0-63".to_owned(),
            generation: 1,
            cursor: 7,
            indexed_at: time,
        }),
        Change::Notice(NoticeChange {
            kind: NoticeKind::Rejection,
            reason: "signature".to_owned(),
            source: "wss://relay.example".into(),
            did: Some(did_of(2)),
            rev: Some(rev_of(4)),
            seq: Some(10),
            frame_hash: [0xab; 16],
            bytes: 1234,
            attempt: 0,
            step: 0,
            indexed_at: time,
        }),
    ]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes it");
        text
    })
}

fn unhex(text: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex");
    (0..text.len()).step_by(2).map(byte).collect()
}

/// `Bytes` fields are slices of the payload, not copies of it.
#[test]
fn bodies_share_the_payloads_memory() {
    let section = only_section(&one_of_each()[0]);
    let decoded = decode_section(&section).expect("ours");
    let Change::Record(record) = &decoded[0] else {
        panic!("a record was encoded");
    };
    let body: &Bytes = &record.body.as_ref().expect("a body").cbor;
    assert!(section.payload.as_ptr_range().contains(&body.as_ptr()));
}
