//! Log sections: what decodes is encoded again as the same changes, under the same claims.

use crdt::section::{decode_section, encode_sections};
use crdt::storage::{MultisetHash, Section};

/// Fuzzes `decode_section` with a kind, a count and a multiset hash before the payload.
pub(crate) fn section(data: &[u8]) {
    let Some((&[kind, count], data)) = data.split_first_chunk() else {
        return;
    };
    let Some((hash, payload)) = data.split_first_chunk() else {
        return;
    };
    let tables = [
        "app.bsky.feed.post",
        "floors",
        "events",
        "accounts",
        "identities",
        "heads",
        "cursors",
        "notices",
    ];
    let number = usize::from(kind).checked_sub(1);
    let table = number.and_then(|number| tables.get(number)).copied();
    let section = Section {
        kind: u32::from(kind),
        table: table.unwrap_or("later").to_owned(),
        payload: payload.to_vec().into(),
        count: u64::from(count),
        hash: MultisetHash(*hash),
    };
    let Ok(changes) = decode_section(&section) else {
        return;
    };
    assert!(table.is_some(), "a later kind is refused");
    assert_eq!(changes.len(), usize::from(count));
    let again = encode_sections(&changes);
    for again in &again {
        assert_eq!((again.kind, again.count), (section.kind, section.count));
        assert_eq!((&again.table, again.hash), (&section.table, section.hash));
        assert_eq!(decode_section(again).ok().as_ref(), Some(&changes));
    }
    assert_eq!(again.is_empty(), changes.is_empty());
}
