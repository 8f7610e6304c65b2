//! Marked rows of segments: what is read names rows of the segment only, and is written again as the same rows.
//!
//! The input is the segment's rows, four bytes, little endian, and the bitmap behind them.

use tables::cache::decode_marks;

/// Fuzzes `decode_marks`.
pub(crate) fn marks(data: &[u8]) {
    let Some((rows, data)) = data.split_first_chunk() else {
        return;
    };
    let rows = u64::from(u32::from_le_bytes(*rows));
    match decode_marks(data, rows) {
        Ok(marks) => {
            assert!(marks.len() <= rows);
            assert!(marks.max().is_none_or(|max| u64::from(max) < rows));
            assert_eq!(marks.iter().count() as u64, marks.len());
            let mut again = Vec::new();
            marks.serialize_into(&mut again).expect("memory");
            assert_eq!(decode_marks(&again, rows).ok(), Some(marks));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
