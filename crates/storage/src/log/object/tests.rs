//! The bytes of log objects: golden ones, round trips, and what is refused.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use proptest::prelude::*;
use ulid::Ulid;

use super::*;
use crate::world::{hex, section, unhex};

fn header() -> Header {
    Header {
        database: DatabaseId(Ulid(1)),
        position: Position {
            writer: WriterId(Ulid(2)),
            seq: Seq(3),
        },
        nonce: [4; 16],
        created_us: 1_800_000_000_000_000,
    }
}

fn seal(sections: &[Section]) -> Bytes {
    Body::encode(sections).unwrap().seal(&header())
}

/// A compressible payload.
fn long() -> Section {
    section(&"all work and no play ".repeat(1_000))
}

#[test]
fn the_format_is_the_one_that_stands_in_buckets() {
    let sections = [
        section("one"),
        Section {
            kind: 2,
            table: String::new(),
            ..section("two")
        },
    ];
    let golden = include_str!("golden.hex");
    let bytes = seal(&sections);
    assert_eq!(hex(&bytes), golden, "a changed format needs a new number");
    let (found, object) = decode(&unhex(golden)).unwrap();
    assert_eq!(found, header());
    assert_eq!(object.sections, sections);
    // zstd's own bytes may change with its version; what was written must be read for ever.
    let compressed = decode_log_object(&unhex(include_str!("golden_zstd.hex"))).unwrap();
    assert_eq!(compressed.sections, [long()]);
}

#[test]
fn a_long_payload_is_compressed_and_a_short_one_stored() {
    assert!(seal(&[long()]).len() < 1_000);
    let bytes = seal(&[section("short")]);
    assert!(bytes.windows(5).any(|window| window == b"short"));
}

#[test]
fn every_truncation_is_refused() {
    let bytes = seal(&[section("one"), long()]);
    for len in 0..bytes.len() {
        assert!(decode_log_object(&bytes[..len]).is_err(), "{len} bytes");
        assert!(
            decode_log_object(&bytes[bytes.len() - len..]).is_err(),
            "the last {len} bytes"
        );
    }
    let longer = [bytes.as_ref(), b"x"].concat();
    assert!(decode_log_object(&longer).is_err());
}

#[test]
fn every_flipped_bit_is_refused() {
    let bytes = seal(&[section("one"), long()]).to_vec();
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(decode_log_object(&flipped).is_err(), "bit {bit}");
    }
}

/// The object with its footer changed, and a checksum that fits again.
fn forge(sections: &[Section], change: impl FnOnce(&mut proto::Footer, &mut Vec<u8>)) -> Vec<u8> {
    let bytes = seal(sections);
    let (body, mut footer) = FRAME
        .open(&bytes, |footer: &proto::Footer| footer.format)
        .unwrap();
    let mut body = body.to_vec();
    change(&mut footer, &mut body);
    FRAME.close(&mut body, &footer);
    body
}

#[test]
fn another_magic_is_refused_and_a_newer_one_named() {
    let bytes = seal(&[]);
    let renamed = |name: &[u8; 8]| {
        let mut bytes = bytes.to_vec();
        let end = bytes.len() - 8;
        bytes[..8].copy_from_slice(name);
        bytes[end..].copy_from_slice(name);
        decode_log_object(&bytes).unwrap_err()
    };
    assert!(matches!(renamed(b"ALVMMAN1"), FormatError::Magic));
    assert!(matches!(
        renamed(b"ALVMWAL2"),
        FormatError::NewerFormat { found: 2, known: 1 }
    ));
}

#[test]
fn a_newer_format_is_named_whatever_else_it_holds() {
    let bytes = forge(&[section("one")], |footer, _| {
        footer.format = 2;
        footer.writer = Bytes::new();
        footer.sections[0].codec = 77;
    });
    let error = decode_log_object(&bytes).unwrap_err();
    assert!(matches!(
        error,
        FormatError::NewerFormat { found: 2, known: 1 }
    ));
}

#[test]
fn a_field_that_may_not_be_is_refused() {
    type Change = fn(&mut proto::Footer);
    let changes: [(&str, Change); 7] = [
        ("format", |footer| footer.format = 0),
        ("database", |footer| footer.database = Bytes::new()),
        ("writer", |footer| footer.writer = Bytes::from_static(b"x")),
        ("seq", |footer| footer.seq = 0),
        ("nonce", |footer| footer.nonce = Bytes::from_static(b"x")),
        ("codec", |footer| footer.sections[0].codec = 9),
        ("multiset_hash", |footer| {
            footer.sections[0].multiset_hash = Bytes::new()
        }),
    ];
    for (name, change) in changes {
        let bytes = forge(&[section("one")], |footer, _| change(footer));
        match decode_log_object(&bytes) {
            Err(FormatError::Field { field }) => assert_eq!(field, name),
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn sections_must_fill_the_object() {
    let gap = forge(&[section("one")], |_, body| body.push(0));
    assert!(matches!(
        decode_log_object(&gap),
        Err(FormatError::SectionRange { index: 1 })
    ));
    let overlap = forge(&[section("one"), section("two")], |footer, _| {
        footer.sections[1].offset = 8
    });
    assert!(matches!(
        decode_log_object(&overlap),
        Err(FormatError::SectionRange { index: 1 })
    ));
    let beyond = forge(&[section("one")], |footer, _| {
        footer.sections[0].len = u64::MAX
    });
    assert!(matches!(
        decode_log_object(&beyond),
        Err(FormatError::SectionRange { index: 0 })
    ));
}

#[test]
fn a_section_that_claims_another_size_is_refused() {
    for raw_len in [0, 1, 20_999, 21_001, 100_000_000] {
        let bytes = forge(&[long()], |footer, _| footer.sections[0].raw_len = raw_len);
        let error = decode_log_object(&bytes).unwrap_err();
        assert!(
            matches!(error, FormatError::SectionLength { index: 0, .. }),
            "{raw_len}: {error:?}"
        );
    }
    let bytes = forge(&[section("stored")], |footer, _| {
        footer.sections[0].raw_len = 7
    });
    assert!(matches!(
        decode_log_object(&bytes),
        Err(FormatError::SectionLength { .. })
    ));
}

#[test]
fn a_bomb_is_refused_before_it_is_unpacked() {
    let lone = forge(&[long()], |footer, _| {
        footer.sections[0].raw_len = OBJECT_RAW_BYTES_MAX + 1
    });
    assert!(matches!(
        decode_log_object(&lone),
        Err(FormatError::TooLarge { .. })
    ));
    let many = forge(&[long(), long()], |footer, _| {
        footer.sections[0].raw_len = u64::MAX;
        footer.sections[1].raw_len = u64::MAX;
    });
    assert!(matches!(
        decode_log_object(&many),
        Err(FormatError::TooLarge { .. })
    ));
}

#[test]
fn what_stands_behind_a_zstd_frame_is_refused() {
    let bytes = forge(&[long()], |footer, body| {
        body.push(0);
        footer.sections[0].len += 1;
        footer.sections[0].checksum = Bytes::copy_from_slice(blake3::hash(&body[8..]).as_bytes());
    });
    assert!(matches!(
        decode_log_object(&bytes),
        Err(FormatError::SectionLength { .. })
    ));
}

#[test]
fn an_unknown_field_is_refused() {
    let bytes = seal(&[]);
    let (body, footer) = FRAME
        .open(&bytes, |footer: &proto::Footer| footer.format)
        .unwrap();
    let mut message = footer.encode_to_vec();
    message.extend_from_slice(&[15 << 3, 1]);
    let mut forged = body.to_vec();
    let checksum = blake3::derive_key(FRAME.context, &message);
    forged.extend_from_slice(&message);
    forged.extend_from_slice(&u32::try_from(message.len()).unwrap().to_le_bytes());
    forged.extend_from_slice(&checksum);
    forged.extend_from_slice(FRAME.magic);
    assert!(matches!(
        decode_log_object(&forged),
        Err(FormatError::NotCanonical)
    ));
}

#[test]
fn what_does_not_fit_is_refused_before_it_is_sent() {
    let table = "t".repeat(1_000);
    let small = Section {
        table,
        payload: Bytes::new(),
        ..section("")
    };
    assert!(
        Body::encode(&vec![small; 10_000]).is_err(),
        "a footer of 10 MB"
    );
    let zeros = Bytes::from(vec![0_u8; 64 * 1024 * 1024]);
    let big = Section {
        payload: zeros,
        ..section("")
    };
    assert!(Body::encode(&vec![big; 5]).is_err(), "320 MiB of payload");
}

fn sections() -> impl Strategy<Value = Vec<Section>> {
    let payload = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..300),
        (any::<u8>(), 0_usize..5_000).prop_map(|(byte, len)| vec![byte; len]),
    ];
    let section = (
        any::<u32>(),
        "[a-z.]{0,12}",
        payload,
        any::<u64>(),
        any::<[u8; 32]>(),
    );
    let section = section.prop_map(|(kind, table, payload, count, hash)| Section {
        kind,
        table,
        payload: payload.into(),
        count,
        hash: MultisetHash(hash),
    });
    prop::collection::vec(section, 0..6)
}

proptest! {
    #[test]
    fn an_object_reads_back(
        sections in sections(),
        ids in any::<(u128, u128)>(),
        seq in 1..=u64::MAX,
        nonce in any::<[u8; 16]>(),
        created_us in any::<i64>(),
    ) {
        let header = Header {
            database: DatabaseId(Ulid(ids.0)),
            position: Position { writer: WriterId(Ulid(ids.1)), seq: Seq(seq) },
            nonce,
            created_us,
        };
        let bytes = Body::encode(&sections).unwrap().seal(&header);
        let (found, object) = decode(&bytes).unwrap();
        prop_assert_eq!(found, header);
        prop_assert_eq!(object, LogObject { position: header.position, created_us, sections });
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = decode_log_object(&bytes);
        let framed = [FRAME.magic.as_slice(), &bytes, FRAME.magic].concat();
        prop_assert!(decode_log_object(&framed).is_err());
    }
}
