//! Tests of the strict decoder: what it refuses, and that whatever it takes has one spelling.

use proptest::prelude::*;

use super::*;

fn hex(text: &str) -> Vec<u8> {
    data_encoding::HEXLOWER
        .decode(text.replace(' ', "").as_bytes())
        .expect("hexadecimal")
}

fn refused(text: &str) -> CborError {
    let bytes = hex(text);
    let error = decode(&bytes).expect_err("refused");
    assert_eq!(check(&bytes), Err(error.clone()), "{text}");
    error
}

#[test]
fn integers_have_their_shortest_form() {
    for (text, int) in [
        ("00", 0),
        ("17", 23),
        ("18 18", 24),
        ("18 ff", 255),
        ("19 0100", 256),
        ("1a 00010000", 65_536),
        ("1b 0000000100000000", 1 << 32),
        ("1b 7fffffffffffffff", i64::MAX),
        ("20", -1),
        ("38 18", -25),
        ("3b 7fffffffffffffff", i64::MIN),
    ] {
        assert_eq!(decode(&hex(text)), Ok(Value::Int(int)));
        assert_eq!(encode(&Value::Int(int)), hex(text));
    }
    for text in [
        "18 17",
        "19 00ff",
        "1a 0000ffff",
        "1b 00000000ffffffff",
        "38 17",
        "58 01 00",
        "78 00",
        "98 00",
        "b8 00",
    ] {
        assert_eq!(refused(text), CborError::NotShortest { at: 0 });
    }
    assert_eq!(
        refused("1b 8000000000000000"),
        CborError::IntRange { at: 0 }
    );
    assert_eq!(
        refused("3b 8000000000000000"),
        CborError::IntRange { at: 0 }
    );
}

#[test]
fn what_the_data_model_lacks_is_refused_by_name() {
    for text in ["f9 3c00", "fa 3f800000", "fb 3ff0000000000000", "f9 7e00"] {
        assert_eq!(refused(text), CborError::Float { at: 0 });
    }
    assert_eq!(refused("f7"), CborError::Undefined { at: 0 });
    for text in ["e0", "f3", "f8 20", "f8 ff", "fc"] {
        assert_eq!(refused(text), CborError::Simple { at: 0 });
    }
    for text in [
        "5f 41 00 ff",
        "7f 61 61 ff",
        "9f ff",
        "bf ff",
        "ff",
        "1f",
        "df",
    ] {
        assert_eq!(refused(text), CborError::Indefinite { at: 0 });
    }
    for text in ["1c", "3d", "5e", "dc"] {
        assert_eq!(refused(text), CborError::Reserved { at: 0 });
    }
}

#[test]
fn links_are_tag_42_on_a_strict_cid() {
    let cid = Cid::of_cbor(b"block");
    let mut bytes = hex("d8 2a 58 25 00");
    bytes.extend_from_slice(cid.as_bytes());
    assert_eq!(decode(&bytes), Ok(Value::Link(cid)));
    assert_eq!(encode(&Value::Link(cid)), bytes);
    let mut other = bytes.clone();
    other[4] = 1;
    assert_eq!(decode(&other), Err(CborError::LinkPrefix { at: 0 }));
    let mut other = bytes.clone();
    other[6] = 0x70;
    assert_eq!(
        decode(&other),
        Err(CborError::Link {
            at: 0,
            source: CidError::Codec { found: 0x70 }
        })
    );
    assert_eq!(refused("d8 2a 40"), CborError::LinkPrefix { at: 0 });
    assert_eq!(
        refused("d8 2a 41 00"),
        CborError::Link {
            at: 0,
            source: CidError::Length { bytes: 0 }
        }
    );
    assert_eq!(refused("d8 2a 60"), CborError::LinkNotBytes { at: 0 });
    assert_eq!(refused("c1 00"), CborError::Tag { at: 0, tag: 1 });
    assert_eq!(refused("c0 60"), CborError::Tag { at: 0, tag: 0 });
}

#[test]
fn map_keys_are_text_in_order_and_once() {
    assert!(decode(&hex("a2 61 62 00 62 61 61 00")).is_ok());
    assert_eq!(
        refused("a2 62 61 61 00 61 62 00"),
        CborError::KeyOrder { at: 5 }
    );
    assert_eq!(
        refused("a2 61 62 00 61 61 00"),
        CborError::KeyOrder { at: 4 }
    );
    assert_eq!(
        refused("a2 61 61 00 61 61 00"),
        CborError::KeyRepeated { at: 4 }
    );
    assert_eq!(refused("a1 00 00"), CborError::KeyNotText { at: 1 });
    assert_eq!(refused("a1 41 61 00"), CborError::KeyNotText { at: 1 });
    let mut bytes = vec![0xa1];
    put_text(&"k".repeat(KEY_BYTES_MAX), &mut bytes);
    bytes.push(0);
    assert!(decode(&bytes).is_ok());
    let mut bytes = vec![0xa1];
    put_text(&"k".repeat(KEY_BYTES_MAX + 1), &mut bytes);
    bytes.push(0);
    assert_eq!(decode(&bytes), Err(CborError::KeyTooLong { at: 1 }));
}

#[test]
fn text_is_utf8() {
    assert_eq!(refused("61 ff"), CborError::Utf8 { at: 1 });
    assert_eq!(refused("63 61 c3 28"), CborError::Utf8 { at: 2 });
    // A surrogate.
    assert_eq!(refused("63 ed a0 80"), CborError::Utf8 { at: 1 });
    assert_eq!(refused("a1 61 80 00"), CborError::Utf8 { at: 2 });
}

#[test]
fn the_end_is_where_the_value_ends() {
    assert_eq!(refused(""), CborError::Truncated { at: 0 });
    assert_eq!(refused("42 00"), CborError::Truncated { at: 2 });
    assert_eq!(refused("19 01"), CborError::Truncated { at: 2 });
    assert_eq!(refused("82 00"), CborError::Truncated { at: 2 });
    assert_eq!(refused("a1 60"), CborError::Truncated { at: 2 });
    assert_eq!(refused("00 00"), CborError::Trailing { at: 1 });
    assert_eq!(
        decode_prefix(&hex("01 02 03")),
        Ok((Value::Int(1), &[2, 3][..]))
    );
}

#[test]
fn a_length_is_a_claim_until_the_bytes_are_there() {
    assert_eq!(
        refused("5b ffffffffffffffff"),
        CborError::Truncated { at: 9 }
    );
    assert_eq!(refused("7a ffffffff"), CborError::Truncated { at: 5 });
    assert_eq!(
        refused("9b ffffffffffffffff"),
        CborError::ContainerTooLarge { at: 0 }
    );
    assert_eq!(
        refused("ba 00020001"),
        CborError::ContainerTooLarge { at: 0 }
    );
    assert_eq!(refused("9a 00020000"), CborError::Truncated { at: 5 });
}

#[test]
fn a_list_may_be_full_and_not_fuller() {
    let full = Value::List(vec![Value::Null; CONTAINER_MAX]);
    assert_eq!(decode(&encode(&full)), Ok(full));
    let fuller = Value::List(vec![Value::Null; CONTAINER_MAX + 1]);
    assert_eq!(
        decode(&encode(&fuller)),
        Err(CborError::ContainerTooLarge { at: 0 })
    );
}

#[test]
fn depth_is_bounded() {
    let nested = |depth: usize| [vec![0x81; depth], vec![0xf6]].concat();
    assert!(decode(&nested(DEPTH_MAX)).is_ok());
    assert_eq!(
        decode(&nested(DEPTH_MAX + 1)),
        Err(CborError::TooDeep { at: DEPTH_MAX })
    );
    assert_eq!(
        check(&nested(DEPTH_MAX + 1)),
        Err(CborError::TooDeep { at: DEPTH_MAX })
    );
    assert!(decode(&nested(1_000_000)).is_err());
}

/// Any value within the limits.
pub(crate) fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        (0..1_000_i64).prop_map(Value::Int),
        ".{0,20}".prop_map(Value::Text),
        prop::collection::vec(any::<u8>(), 0..300).prop_map(Value::Bytes),
        any::<[u8; 8]>().prop_map(|seed| Value::Link(Cid::of_cbor(&seed))),
        any::<[u8; 8]>().prop_map(|seed| Value::Link(Cid::of_raw(&seed))),
    ];
    leaf.prop_recursive(6, 64, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::List),
            prop::collection::vec((".{0,6}", inner), 0..8)
                .prop_map(|entries| Value::Map(entries.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_encoded_decodes_to_the_same(value in values()) {
        let bytes = encode(&value);
        prop_assert_eq!(check(&bytes), Ok(()));
        prop_assert_eq!(decode(&bytes), Ok(value));
    }

    #[test]
    fn bytes_that_decode_encode_to_themselves(
        value in values(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
        cuts: bool,
    ) {
        let mut bytes = encode(&value);
        for (at, byte) in flips {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if cuts {
            bytes.truncate(cut.index(bytes.len()));
        }
        let decoded = decode(&bytes);
        prop_assert_eq!(check(&bytes), decoded.clone().map(|_| ()));
        if let Ok(value) = decoded {
            prop_assert_eq!(encode(&value), bytes);
        }
    }

    #[test]
    fn any_bytes_decode_to_themselves_or_not_at_all(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        if let Ok((value, rest)) = decode_prefix(&bytes) {
            prop_assert_eq!(encode(&value), &bytes[..bytes.len() - rest.len()]);
        }
    }
}
