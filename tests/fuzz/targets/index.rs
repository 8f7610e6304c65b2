//! Indexes of segments: what is read never leads out of its segment.
//!
//! The input is the segment's rows and bytes, four bytes each, little endian, and the index behind them.

use bytes::Bytes;
use tables::segment::decode_index;

/// Fuzzes `decode_index`, and look-ups in what it gives.
pub(crate) fn index(data: &[u8]) {
    let Some((rows, data)) = data.split_first_chunk() else {
        return;
    };
    let Some((bytes, data)) = data.split_first_chunk() else {
        return;
    };
    let (rows, bytes) = (u32::from_le_bytes(*rows), u32::from_le_bytes(*bytes));
    let decoded = decode_index(&Bytes::copy_from_slice(data), bytes.into(), rows.into());
    let index = match decoded {
        Ok(index) => index,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    let rows = rows as usize;
    for key in [&[][..], b"did:plc:a", data, &[0xff; 40]] {
        let _ = index.may_contain(key);
        if let Some(block) = index.block_of(key) {
            let block = index.rows_of(block, rows);
            assert!(!block.is_empty() && block.end <= rows);
        }
        for block in index.blocks_of_prefix(key) {
            let block = index.rows_of(block, rows);
            assert!(!block.is_empty() && block.end <= rows);
        }
    }
}
