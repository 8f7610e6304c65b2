//! Parts of a manifest: what is read is written again as the same entries, and no entry contradicts itself.

use tables::manifest::{PART_SEGMENTS_MAX, decode_part, encode_part};

/// Fuzzes `decode_part`.
pub(crate) fn part(data: &[u8]) {
    match decode_part(data) {
        Ok(entries) => {
            assert!(entries.len() <= PART_SEGMENTS_MAX);
            for entry in &entries {
                assert!(entry.rows > 0 && entry.live_rows() <= entry.rows);
                assert!(entry.spans(&entry.key_min) && entry.spans(&entry.key_max));
                assert!(entry.spans_prefix(&entry.key_min));
                assert!(
                    entry
                        .columns
                        .values()
                        .all(|stats| stats.nulls <= entry.rows)
                );
            }
            let again = decode_part(&encode_part(&entries));
            assert_eq!(again.ok(), Some(entries));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
