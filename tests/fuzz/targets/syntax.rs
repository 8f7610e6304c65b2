//! Identifiers: what is accepted keeps its text, and its parts are identifiers themselves.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use atproto::syntax::{at_uri, cid, language, uri};
use atproto::{AtUri, Did, Handle, Language, Nsid, RecordKey, Tid};

/// Fuzzes the identifiers, all with the same text.
pub(crate) fn syntax(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let did = same::<Did>(text);
    let handle = same::<Handle>(text);
    assert_eq!(
        at_uri::is_at_identifier(text),
        did.is_some() || handle.is_some()
    );
    if let Some(nsid) = same::<Nsid>(text) {
        assert_eq!(format!("{}.{}", nsid.authority(), nsid.name()), text);
    }
    if let Some(tid) = same::<Tid>(text) {
        assert_eq!(Tid::from_value(tid.value()), tid);
        assert!(same::<RecordKey>(text).is_some());
    }
    same::<RecordKey>(text);
    if let Some(uri) = same::<AtUri>(text) {
        assert!(at_uri::is_at_identifier(uri.authority()));
        assert!(
            uri.collection()
                .is_none_or(|nsid| same::<Nsid>(nsid).is_some())
        );
        assert!(
            uri.rkey()
                .is_none_or(|rkey| same::<RecordKey>(rkey).is_some())
        );
    }
    if same::<Language>(text).is_some() {
        assert!(language::is_well_formed(text));
    }
    let _ = (cid::is_cid(text), uri::is_uri(text));
}

fn same<T: FromStr + Display + Debug>(text: &str) -> Option<T> {
    let parsed: T = text.parse().ok()?;
    assert_eq!(parsed.to_string(), text);
    Some(parsed)
}
