//! Good and bad CARs.

use proptest::prelude::*;

use super::*;

fn blocks(contents: &[&'static [u8]]) -> Vec<(Cid, &'static [u8])> {
    contents
        .iter()
        .map(|block| (Cid::of_cbor(block), *block))
        .collect()
}

fn good() -> Vec<u8> {
    let blocks = blocks(&[b"\xa0", b"\x01"]);
    encode(&[blocks[0].0], blocks)
}

/// Returns the same CAR with another header.
fn with_header(header: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_varint(header.len(), &mut out);
    out.extend_from_slice(header);
    out
}

fn section(cid: &[u8], block: &[u8]) -> Vec<u8> {
    let mut out = good();
    put_varint(cid.len() + block.len(), &mut out);
    [out.as_slice(), cid, block].concat()
}

#[test]
fn what_was_encoded_parses() {
    let bytes = good();
    let car = Car::parse(&bytes).expect("a CAR");
    assert_eq!(car.root(), Cid::of_cbor(b"\xa0"));
    assert_eq!(car.get(&Cid::of_cbor(b"\x01")), Some(b"\x01".as_slice()));
    assert_eq!(car.get(&Cid::of_cbor(b"\x02")), None);
    assert_eq!(car.iter().len(), 2);
}

#[test]
fn blocks_may_come_in_any_order_and_more_than_once_and_be_raw_or_empty() {
    let raw = (Cid::of_raw(b""), b"".as_slice());
    let mut listed = blocks(&[b"\xa0", b"\x01"]);
    listed.extend([raw, listed[0]]);
    let forwards = encode(&[listed[0].0], listed.clone());
    listed.reverse();
    let backwards = encode(&[listed[0].0], listed);
    let (forwards, backwards) = (Car::parse(&forwards), Car::parse(&backwards));
    assert_eq!(forwards, backwards);
    assert_eq!(forwards.expect("a CAR").iter().len(), 3);
}

#[test]
fn the_root_s_block_need_not_be_there() {
    let bytes = encode(&[Cid::of_cbor(b"elsewhere")], []);
    assert_eq!(
        Car::parse(&bytes)
            .expect("a CAR")
            .get(&Cid::of_cbor(b"elsewhere")),
        None
    );
}

#[test]
fn each_wrong_header_is_refused_by_name() {
    let root = Value::from(Cid::of_cbor(b""));
    let header = |fields: Vec<(&str, Value)>| {
        let map: Map = fields.into_iter().collect();
        Car::parse(&with_header(&cbor::encode(&Value::Map(map)))).map(drop)
    };
    let roots = |count: usize| Value::List(vec![root.clone(); count]);
    assert_eq!(
        header(vec![("roots", roots(1)), ("version", 1.into())]),
        Ok(())
    );
    assert_eq!(
        header(vec![("roots", roots(ROOTS_MAX)), ("version", 1.into())]),
        Ok(())
    );
    assert_eq!(
        header(vec![("roots", roots(ROOTS_MAX + 1)), ("version", 1.into())]),
        Err(CarError::Roots {
            count: ROOTS_MAX + 1
        })
    );
    assert_eq!(
        header(vec![("roots", roots(0)), ("version", 1.into())]),
        Err(CarError::Roots { count: 0 })
    );
    assert_eq!(
        header(vec![("roots", roots(1)), ("version", 2.into())]),
        Err(CarError::Version { version: 2 })
    );
    assert_eq!(
        header(vec![("version", 1.into())]),
        Err(CarError::HeaderShape)
    );
    assert_eq!(
        header(vec![("roots", roots(1))]),
        Err(CarError::HeaderShape)
    );
    assert_eq!(
        header(vec![("roots", root.clone()), ("version", 1.into())]),
        Err(CarError::HeaderShape)
    );
    let extra = vec![("roots", roots(1)), ("version", 1.into()), ("x", 1.into())];
    assert_eq!(header(extra), Err(CarError::HeaderShape));
    let texts = Value::List(vec![Value::from("bafy")]);
    assert_eq!(
        header(vec![("roots", texts), ("version", 1.into())]),
        Err(CarError::HeaderShape)
    );
    assert!(matches!(
        Car::parse(&with_header(b"")),
        Err(CarError::Header(_))
    ));
    assert!(matches!(
        Car::parse(&with_header(b"\xff")),
        Err(CarError::Header(_))
    ));
    assert_eq!(
        Car::parse(&with_header(b"\x01")),
        Err(CarError::HeaderShape)
    );
    assert!(matches!(
        Car::parse(&with_header(&[0; 4000])),
        Err(CarError::TooLong {
            at: 0,
            length: 4000
        })
    ));
}

#[test]
fn each_wrong_section_is_refused_by_name() {
    let at = good().len();
    let cid = Cid::of_cbor(b"\x02");
    assert!(Car::parse(&section(cid.as_bytes(), b"\x02")).is_ok());
    assert_eq!(
        Car::parse(&section(cid.as_bytes(), b"\x03")),
        Err(CarError::Hash { cid })
    );
    assert_eq!(Car::parse(&section(&[], &[])), Err(CarError::NoCid { at }));
    assert_eq!(
        Car::parse(&section(&cid.as_bytes()[..35], &[])),
        Err(CarError::NoCid { at })
    );
    let mut sha512 = *cid.as_bytes();
    sha512[2] = 0x13;
    let error = CarError::Cid {
        at,
        source: CidError::Hash { found: 0x13 },
    };
    assert_eq!(Car::parse(&section(&sha512, b"\x02")), Err(error));
    let mut v0 = *cid.as_bytes();
    v0[..2].copy_from_slice(&[0x12, 0x20]);
    let error = CarError::Cid {
        at,
        source: CidError::Version { found: 0x12 },
    };
    assert_eq!(Car::parse(&section(&v0, b"\x02")), Err(error));
}

#[test]
fn lengths_are_short_varints_within_the_bytes() {
    let at = good().len();
    let parse = |more: &[u8]| Car::parse(&[good().as_slice(), more].concat()).map(drop);
    assert_eq!(parse(&[0x80, 0x00]), Err(CarError::Varint { at }));
    assert_eq!(parse(&[0xa5, 0x80, 0x00]), Err(CarError::Varint { at }));
    assert_eq!(parse(&[0xff; 10]), Err(CarError::Varint { at }));
    assert_eq!(parse(&[0x80]), Err(CarError::Truncated { at: at + 1 }));
    assert_eq!(parse(&[0x25]), Err(CarError::Truncated { at: at + 1 }));
    assert_eq!(
        parse(&[0xff, 0xff, 0xff, 0x7f]),
        Err(CarError::TooLong {
            at,
            length: (1 << 28) - 1
        })
    );
    assert_eq!(Car::parse(&[]), Err(CarError::Truncated { at: 0 }));
}

#[test]
fn the_longest_block_is_read_and_a_longer_one_is_not() {
    let longest = vec![0; BLOCK_BYTES_MAX];
    let cid = Cid::of_cbor(&longest);
    assert!(Car::parse(&encode(&[cid], [(cid, longest.as_slice())])).is_ok());
    let longer = vec![0; BLOCK_BYTES_MAX + 1];
    let cid = Cid::of_cbor(&longer);
    let bytes = encode(&[cid], [(cid, longer.as_slice())]);
    assert!(matches!(Car::parse(&bytes), Err(CarError::TooLong { .. })));
}

proptest! {
    #[test]
    fn any_blocks_come_back(contents in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..20)) {
        let listed: Vec<_> = contents.iter().map(|block| (Cid::of_cbor(block), block.as_slice())).collect();
        let bytes = encode(&[listed[0].0], listed.clone());
        let car = Car::parse(&bytes).expect("a CAR");
        let expected: BTreeMap<_, _> = listed.into_iter().collect();
        prop_assert_eq!(car.iter().collect::<BTreeMap<_, _>>(), expected);
    }

    #[test]
    fn any_cut_is_refused_or_has_fewer_blocks(length in 0..good().len()) {
        let bytes = good();
        if let Ok(car) = Car::parse(&bytes[..length]) {
            prop_assert!(car.iter().len() < 2);
        }
    }
}
