//! The bodies of manifests' roots: what is read is written again as the same parts.

use tables::manifest::{PART_SEGMENTS_MAX, decode_body, encode_body};

/// Fuzzes `decode_body`.
pub(crate) fn body(data: &[u8]) {
    match decode_body(data) {
        Ok(body) => {
            for part in &body.parts {
                assert!((1..=PART_SEGMENTS_MAX).contains(&(part.segments as usize)));
                assert!(!part.path.is_empty());
            }
            let again = decode_body(&encode_body(&body));
            assert_eq!(again.ok(), Some(body));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
