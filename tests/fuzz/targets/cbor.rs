//! DAG-CBOR: what decodes has one spelling, and checking agrees with decoding.

use atproto::{cbor, json, record};

/// Fuzzes `cbor::decode`, `decode_prefix` and `check`.
pub(crate) fn cbor(data: &[u8]) {
    let decoded = cbor::decode(data);
    assert_eq!(
        cbor::check(data),
        decoded.as_ref().map(drop).map_err(Clone::clone)
    );
    if let Ok(value) = &decoded {
        assert_eq!(cbor::encode(value), data);
        // A key `$link` or `$bytes` may make JSON that is refused or another value: only panics count.
        let _ = json::from_json(&json::to_json(value));
        let _ = record::check_record(value);
    }
    if let Ok((value, rest)) = cbor::decode_prefix(data) {
        assert_eq!(cbor::encode(&value), &data[..data.len() - rest.len()]);
        assert_eq!(decoded.is_ok(), rest.is_empty());
    }
}
