//! Segments: immutable Parquet objects, sorted by their table's key, each with an entry in a part and an index in a pack.
//!
//! Guarantee: within a segment keys are strictly ascending; a segment's index finds every key that it holds
//! (a bloom filter never says no to one), in the one block of [`BLOCK_ROWS`] rows where it stands.
//! This module knows nothing of manifests, commits or queries.

mod entry;
mod index;
mod lookup;
mod object;
mod pages;
mod read;
#[cfg(test)]
mod tests;
mod write;

pub use entry::{ColumnStats, Marks, Scalar, SegmentEntry, SegmentKind, Span};
pub use index::{KeyIndex, decode_index};
pub use lookup::{Columns, Found, Lookup, Prefix, Visited, find_keys, find_prefixes, visit_rows};
pub use object::SegmentObject;
pub use read::{SegmentReader, read_live};
pub use write::{SegmentWriter, Written};
pub(crate) use {
    entry::checksum,
    read::{fetch, segment_error, store_error},
};

/// Rows in a block: what one look-up reads of a key column. Every page of a key or order column holds one
/// block's rows.
// 8,192: a page of dids and rkeys is then some 100 KiB, one GET; smaller pages cost more footer than they save.
pub const BLOCK_ROWS: usize = 8_192;
