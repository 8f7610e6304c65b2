//! Commit blocks with each field missing or wrong.

use super::*;

fn fields() -> Map {
    let unsigned = UnsignedCommit {
        did: "did:web:example.com".parse().expect("a DID"),
        data: Cid::of_cbor(b"tree"),
        rev: Tid::from_value(7),
    };
    let Ok(Value::Map(map)) = cbor::decode(&unsigned.encode_signed(&[7; 64])) else {
        panic!("a map")
    };
    map
}

fn decode(map: Map) -> Result<Commit, CommitError> {
    Commit::decode(&cbor::encode(&Value::Map(map)))
}

fn with(field: &str, value: impl Into<Value>) -> Result<Commit, CommitError> {
    let mut map = fields();
    map.insert(field, value);
    decode(map)
}

#[test]
fn fields_come_back_and_the_signature_is_over_the_rest() {
    let commit = decode(fields()).expect("a commit");
    assert_eq!(commit.did.as_str(), "did:web:example.com");
    assert_eq!(
        (commit.data, commit.rev, commit.prev),
        (Cid::of_cbor(b"tree"), Tid::from_value(7), None)
    );
    let mut rest = fields();
    rest.remove("sig");
    assert_eq!(commit.signed, cbor::encode(&Value::Map(rest)));
    assert_eq!(commit.signature, [7; 64]);
}

#[test]
fn each_field_must_be_there() {
    for field in ["did", "version", "data", "rev", "prev", "sig"] {
        let mut map = fields();
        map.remove(field);
        assert_eq!(decode(map), Err(CommitError::Missing { field }));
    }
}

#[test]
fn each_field_must_be_of_its_type_and_form() {
    for field in ["did", "version", "data", "rev", "prev", "sig"] {
        for wrong in [
            Value::from(true),
            Value::from("no"),
            Value::Bytes(vec![0; 63]),
            Value::Bytes(vec![0; 65]),
        ] {
            assert_eq!(with(field, wrong), Err(CommitError::Field { field }));
        }
        if field != "prev" {
            assert_eq!(with(field, Value::Null), Err(CommitError::Field { field }));
        }
    }
}

#[test]
fn only_version_3_is_read() {
    for version in [2, 4] {
        assert_eq!(
            with("version", version),
            Err(CommitError::Version { version })
        );
    }
}

#[test]
fn prev_may_be_a_link_and_fields_may_be_added_under_the_signature() {
    let prev = Cid::of_cbor(b"before");
    assert_eq!(with("prev", prev).expect("a commit").prev, Some(prev));
    let commit = with("extra", 1).expect("a commit");
    assert_ne!(commit.signed, decode(fields()).expect("a commit").signed);
}

#[test]
fn a_block_that_is_no_canonical_map_is_refused() {
    assert_eq!(Commit::decode(b"\x01"), Err(CommitError::Shape));
    let mut block = cbor::encode(&Value::Map(fields()));
    block.push(0);
    assert!(matches!(
        Commit::decode(&block),
        Err(CommitError::Cbor(CborError::Trailing { .. }))
    ));
}
