//! The bodies of manifests' roots: what is read is written again as the same parts.

use tables::manifest::{PART_SEGMENTS_MAX, decode_body, encode_body};

/// Fuzzes `decode_body`.
pub(crate) fn body(data: &[u8]) {
    match decode_body(data) {
        Ok(parts) => {
            for part in &parts {
                assert!((1..=PART_SEGMENTS_MAX).contains(&(part.segments as usize)));
                assert!(!part.path.is_empty());
            }
            let again = decode_body(&encode_body(&parts));
            assert_eq!(again.ok(), Some(parts));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
