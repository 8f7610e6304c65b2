//! `data-model/`: JSON and CBOR of the same values, and JSON that is or is not a record.

use atproto::record::check_record;
use atproto::{Cid, Value, cbor, json};
use data_encoding::BASE64_NOPAD;

use super::read_list;

#[test]
fn json_and_cbor_of_the_fixtures_are_the_same_value() {
    let fixtures = read_list("data-model/data-model-fixtures.json");
    assert_eq!(fixtures.len(), 3);
    for fixture in &fixtures {
        let bytes = fixture["cbor_base64"].as_str().expect("base64");
        let bytes = BASE64_NOPAD.decode(bytes.as_bytes()).expect("base64");
        let cid: Cid = fixture["cid"]
            .as_str()
            .expect("a CID")
            .parse()
            .expect("a CID");
        let value = json::from_json(&fixture["json"]).expect("a value");
        assert_eq!(cbor::encode(&value), bytes);
        assert_eq!(cbor::decode(&bytes), Ok(value.clone()));
        assert_eq!(cbor::check(&bytes), Ok(()));
        assert_eq!(Cid::of_cbor(&bytes), cid);
        assert_eq!(json::to_json(&value), fixture["json"]);
        assert_eq!(
            json::from_text(&json::to_text(&value)).expect("a value"),
            value
        );
        assert_eq!(check_record(&value), Ok(()));
    }
}

fn is_record(json: &serde_json::Value) -> bool {
    let value: Result<Value, _> = json::from_json(json);
    value.is_ok_and(|value| check_record(&value).is_ok())
}

#[test]
fn valid_records_are_taken() {
    let vectors = read_list("data-model/data-model-valid.json");
    assert_eq!(vectors.len(), 5);
    for vector in &vectors {
        assert!(is_record(&vector["json"]), "{}", vector["note"]);
    }
}

#[test]
fn invalid_records_are_refused() {
    let vectors = read_list("data-model/data-model-invalid.json");
    assert_eq!(vectors.len(), 12);
    for vector in &vectors {
        assert!(!is_record(&vector["json"]), "{}", vector["note"]);
    }
}
