//! Public keys: what is read is written again in its one spelling, and any bytes may stand as a signature.

use atproto::PublicKey;

const KEY: &str = "did:key:zQ3shqwJEJyMBsBXCWyCBpUBMqxcon9oHB7mCvx4sSpMdLJwc";

/// Fuzzes `PublicKey::from_multikey`, `from_did_key` and `verify`.
pub(crate) fn multikey(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        if let Ok(key) = PublicKey::from_multikey(text) {
            assert_eq!(key.to_multikey(), text);
        }
        if let Ok(key) = PublicKey::from_did_key(text) {
            assert_eq!(key.to_did_key(), text);
        }
    }
    let key = PublicKey::from_did_key(KEY).expect("a fixed key");
    assert!(key.verify(b"a message that nobody signed", data).is_err());
}
