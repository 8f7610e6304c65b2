//! CIDs: bytes and text are two forms of one thing, each with one spelling.

use atproto::{Cid, syntax};

/// Fuzzes `Cid::from_bytes` and `Cid::from_str`.
pub(crate) fn cid(data: &[u8]) {
    if let Ok(cid) = Cid::from_bytes(data) {
        assert_eq!(cid.as_bytes(), data);
        assert_eq!(cid.to_string().parse(), Ok(cid));
    }
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(cid) = text.parse::<Cid>()
    {
        assert_eq!(cid.to_string(), text);
        assert_eq!(Cid::from_bytes(cid.as_bytes()), Ok(cid));
        assert!(syntax::cid::is_cid(text));
    }
}
