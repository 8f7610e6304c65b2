//! JSON of the data model: what is read is written as the same value, in CBOR too.

use atproto::{cbor, json, record};

/// Fuzzes `json::from_text`.
pub(crate) fn json(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(value) = json::from_text(text) {
        let written = json::to_text(&value);
        assert_eq!(json::from_text(&written).ok().as_ref(), Some(&value));
        assert_eq!(
            json::from_json(&json::to_json(&value)).ok().as_ref(),
            Some(&value)
        );
        assert_eq!(cbor::decode(&cbor::encode(&value)).as_ref(), Ok(&value));
        let _ = record::check_record(&value);
    }
}
