//! Manifest roots: what decodes is encoded again as the same bytes.

use crdt::storage::{Root, Version, decode_root};

/// Fuzzes `decode_root` with the bytes as they are, and as a message under a checksum that fits.
pub(crate) fn root(data: &[u8]) {
    check(data);
    let checksum = blake3::derive_key("alluvium 2026-11 manifest root", data);
    let len = (data.len() as u32).to_le_bytes();
    let magic = b"ALVMMAN1".as_slice();
    check(&[magic, data, &len, &checksum, magic].concat());
}

fn check(bytes: &[u8]) {
    let Ok(root) = decode_root(bytes) else {
        return;
    };
    assert_eq!(root.encode().ok().as_deref(), Some(bytes));
    let Root {
        version,
        floor,
        upload_floor,
        ..
    } = root;
    assert!(Version::GENESIS < version && floor <= version && upload_floor <= version);
}
