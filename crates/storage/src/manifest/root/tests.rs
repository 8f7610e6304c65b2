//! The bytes of roots: golden ones, round trips, and what is refused.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use proptest::prelude::*;
use prost::Message;
use ulid::Ulid;

use super::*;
use crate::world::{hex, unhex};

fn root() -> Root {
    Root {
        database: DatabaseId(Ulid(1)),
        version: Version(9),
        commit: CommitId(Ulid(2)),
        committer: "compact-1".to_owned(),
        kind: CommitKind::Flush,
        committed_us: 1_800_000_000_000_000,
        took: vec![Took {
            writer: WriterId(Ulid(3)),
            from: Seq(1),
            to: Seq(4),
        }],
        floor: Version(5),
        upload_floor: Version(7),
        merged: BTreeMap::from([(WriterId(Ulid(3)), Seq(4)), (WriterId(Ulid(8)), Seq(1))]),
        kept: vec![Kept {
            version: Version(2),
            name: "before the move".to_owned(),
            expires_us: 7,
        }],
        body: Bytes::from_static(b"body"),
    }
}

fn message(bytes: &[u8]) -> proto::Root {
    FRAME
        .open(bytes, |root: &proto::Root| root.format)
        .unwrap()
        .1
}

fn forge(change: impl FnOnce(&mut proto::Root)) -> Result<Root, FormatError> {
    let mut message = message(&root().encode().unwrap());
    change(&mut message);
    let mut bytes = FRAME.magic.to_vec();
    FRAME.close(&mut bytes, &message);
    decode_root(&bytes)
}

#[test]
fn the_format_is_the_one_that_stands_in_buckets() {
    let golden = include_str!("golden.hex");
    assert_eq!(
        hex(&root().encode().unwrap()),
        golden,
        "a changed format needs a new number"
    );
    assert_eq!(decode_root(&unhex(golden)).unwrap(), root());
}

#[test]
fn every_truncation_and_every_flipped_bit_is_refused() {
    let bytes = root().encode().unwrap().to_vec();
    for len in 0..bytes.len() {
        assert!(decode_root(&bytes[..len]).is_err(), "{len} bytes");
    }
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(decode_root(&flipped).is_err(), "bit {bit}");
    }
}

#[test]
fn a_newer_format_is_named() {
    let error = forge(|root| {
        root.format = 2;
        root.kind = 99;
    });
    assert!(matches!(
        error,
        Err(FormatError::NewerFormat { found: 2, known: 1 })
    ));
}

#[test]
fn a_field_of_a_later_version_is_refused() {
    let mut message = root()
        .encode()
        .map(|bytes| message(&bytes))
        .unwrap()
        .encode_to_vec();
    // Field 14, a varint.
    message.extend_from_slice(&[14 << 3, 1]);
    let mut bytes = FRAME.magic.to_vec();
    bytes.extend_from_slice(&message);
    bytes.extend_from_slice(&u32::try_from(message.len()).unwrap().to_le_bytes());
    bytes.extend_from_slice(&blake3::derive_key(FRAME.context, &message));
    bytes.extend_from_slice(FRAME.magic);
    assert!(matches!(
        decode_root(&bytes),
        Err(FormatError::NotCanonical)
    ));
}

#[test]
fn a_field_that_may_not_be_is_refused() {
    type Change = fn(&mut proto::Root);
    let changes: [(&str, Change); 12] = [
        ("format", |root| root.format = 0),
        ("database", |root| root.database = Bytes::new()),
        ("commit", |root| root.commit = Bytes::from_static(b"x")),
        ("version", |root| {
            (root.version, root.floor, root.upload_floor) = (0, 0, 0)
        }),
        ("kind", |root| root.kind = 0),
        ("kind", |root| root.kind = 17),
        ("took", |root| root.took[0].from = 5),
        ("merged", |root| root.merged.swap(0, 1)),
        ("merged", |root| root.merged[0].seq = 0),
        ("kept", |root| root.kept.push(root.kept[0].clone())),
        ("floor", |root| root.floor = 10),
        ("upload_floor", |root| root.upload_floor = 10),
    ];
    for (name, change) in changes {
        match forge(change) {
            Err(FormatError::Field { field }) => assert_eq!(field, name),
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn a_root_above_a_mebibyte_is_refused() {
    let mut large = root();
    large.body = vec![0; ROOT_BYTES_MAX].into();
    assert!(matches!(large.encode(), Err(FormatError::TooLarge { .. })));
    assert!(matches!(
        decode_root(&vec![0; ROOT_BYTES_MAX + 1]),
        Err(FormatError::TooLarge { .. })
    ));
    large.body = vec![0; ROOT_BYTES_MAX - 1_000].into();
    assert_eq!(decode_root(&large.encode().unwrap()).unwrap(), large);
}

#[test]
fn a_root_answers_from_its_floor_on_and_at_what_it_keeps() {
    let root = root();
    let answers: Vec<_> = (0..=10)
        .filter(|&version| root.answers_at(Version(version)))
        .collect();
    assert_eq!(answers, [2, 5, 6, 7, 8, 9]);
}

prop_compose! {
    fn roots()(
        ids in any::<(u128, u128)>(),
        version in 1..=u64::MAX,
        below in any::<(u64, u64)>(),
        committer in ".{0,10}",
        kind in 1_i32..=5,
        committed_us in any::<i64>(),
        took in prop::collection::vec((any::<u128>(), 1..=u64::MAX, 0..100_u64), 0..4),
        merged in prop::collection::btree_map(any::<u128>(), 1..=u64::MAX, 0..6),
        kept in prop::collection::btree_map((any::<u64>(), ".{0,6}"), any::<i64>(), 0..4),
        body in prop::collection::vec(any::<u8>(), 0..200),
    ) -> Root {
        let took = took.into_iter().map(|(writer, from, more)| Took {
            writer: WriterId(Ulid(writer)),
            from: Seq(from),
            to: Seq(from.saturating_add(more)),
        });
        let kept = kept.into_iter().map(|((version, name), expires_us)| Kept {
            version: Version(version),
            name,
            expires_us,
        });
        Root {
            database: DatabaseId(Ulid(ids.0)),
            version: Version(version),
            commit: CommitId(Ulid(ids.1)),
            committer,
            kind: decode_kind(kind).unwrap(),
            committed_us,
            took: took.collect(),
            floor: Version(below.0.min(version)),
            upload_floor: Version(below.1.min(version)),
            merged: merged.into_iter().map(|(writer, seq)| (WriterId(Ulid(writer)), Seq(seq))).collect(),
            kept: kept.collect(),
            body: body.into(),
        }
    }
}

proptest! {
    #[test]
    fn a_root_reads_back(root in roots()) {
        let bytes = root.encode().unwrap();
        prop_assert_eq!(decode_root(&bytes).unwrap(), root);
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let framed = [FRAME.magic.as_slice(), &bytes, FRAME.magic].concat();
        prop_assert!(decode_root(&framed).is_err());
    }
}
