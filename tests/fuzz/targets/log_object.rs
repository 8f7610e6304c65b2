//! Log objects: what decodes keeps within the bounds that its reader relies on.

use crdt::storage::{OBJECT_RAW_BYTES_MAX, Seq, decode_log_object};

/// Fuzzes `decode_log_object` with the bytes as they are, and as footer and sections under a checksum that fits:
/// the footer's length (u16 LE), the footer, the sections' bytes.
pub(crate) fn log_object(data: &[u8]) {
    check(data);
    let Some((&len, data)) = data.split_first_chunk() else {
        return;
    };
    let len = usize::from(u16::from_le_bytes(len)).min(data.len());
    let (footer, sections) = data.split_at(len);
    let checksum = blake3::derive_key("alluvium 2026-11 log object footer", footer);
    let len = (len as u32).to_le_bytes();
    let magic = b"ALVMWAL1".as_slice();
    check(&[magic, sections, footer, &len, &checksum, magic].concat());
}

fn check(bytes: &[u8]) {
    let Ok(object) = decode_log_object(bytes) else {
        return;
    };
    assert!(object.position.seq >= Seq::FIRST);
    let raw: usize = object
        .sections
        .iter()
        .map(|section| section.payload.len())
        .sum();
    assert!(raw as u64 <= OBJECT_RAW_BYTES_MAX);
    for len in [0, bytes.len() / 2, bytes.len() - 1] {
        assert!(decode_log_object(&bytes[..len]).is_err(), "truncated");
    }
}
