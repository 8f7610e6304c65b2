//! A segment's index: does it hold this key, and if so, in which block?
//!
//! The index stands in a pack, apart from the Parquet object, so that one GET brings the indexes of all segments that
//! one commit made; with it goes the object's footer, so that a look-up costs the pages it reads and nothing else.

use std::sync::Arc;

use bytes::Bytes;
use parquet::bloom_filter::Sbbf;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use prost::Message;

use super::pages::Pages;
use crate::error::FormatError;
use crate::proto;

/// A bloom filter beyond this is none of ours: Parquet caps them at it.
const BLOOM_BYTES_MAX: usize = 128 << 20;
/// The newest format of an index that this code reads and the one that it writes.
const FORMAT: u32 = 1;

/// The decoded index of one segment.
pub struct KeyIndex {
    bloom: Sbbf,
    block_rows: usize,
    first_keys: Vec<Bytes>,
    metadata: Arc<ParquetMetaData>,
    pages: Pages,
    bytes: usize,
}

impl std::fmt::Debug for KeyIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyIndex")
            .field("blocks", &self.first_keys.len())
            .field("bytes", &self.bytes)
            .finish()
    }
}

impl KeyIndex {
    /// Whether the segment may hold `key` (or, for a prefix that was put in, a key that starts with it).
    #[must_use]
    pub fn may_contain(&self, key: &[u8]) -> bool {
        self.bloom.check(key)
    }

    /// The block in which `key` stands if the segment holds it.
    #[must_use]
    pub fn block_of(&self, key: &[u8]) -> Option<usize> {
        self.first_keys
            .partition_point(|first| first.as_ref() <= key)
            .checked_sub(1)
    }

    /// The blocks in which keys that start with `prefix` may stand.
    #[must_use]
    pub fn blocks_of_prefix(&self, prefix: &[u8]) -> std::ops::Range<usize> {
        let start = self
            .first_keys
            .partition_point(|first| first.as_ref() <= prefix)
            .saturating_sub(1);
        let end = self
            .first_keys
            .partition_point(|first| first.as_ref() <= prefix || first.starts_with(prefix));
        start..end.max(start)
    }

    /// The rows of block `block`, of `rows` in all.
    #[must_use]
    pub fn rows_of(&self, block: usize, rows: usize) -> std::ops::Range<usize> {
        let start = (block * self.block_rows).min(rows);
        start..(start + self.block_rows).min(rows)
    }

    /// The Parquet footer with its page indexes.
    #[must_use]
    pub fn metadata(&self) -> &Arc<ParquetMetaData> {
        &self.metadata
    }

    /// The pages of the Parquet object.
    pub(super) fn pages(&self) -> &Pages {
        &self.pages
    }

    /// About how much memory it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Encodes an index.
pub(super) fn encode_index(
    bloom: &Sbbf,
    block_rows: usize,
    first_keys: Vec<Bytes>,
    footer: Bytes,
    page_checksums: Bytes,
) -> Result<Bytes, parquet::errors::ParquetError> {
    let mut bitset = Vec::new();
    bloom.write_bitset(&mut bitset)?;
    let index = proto::Index {
        format: FORMAT,
        bloom: bitset.into(),
        block_rows: u32::try_from(block_rows).unwrap_or(u32::MAX),
        first_keys,
        footer_checksum: blake3::hash(&footer).as_bytes().to_vec().into(),
        footer,
        page_checksums,
    };
    Ok(index.encode_to_vec().into())
}

/// Decodes the index of a segment whose Parquet object has `segment_bytes` bytes and `segment_rows` rows.
///
/// # Errors
/// [`FormatError`] if the bytes are no index, are of a newer format, or contradict the segment.
pub fn decode_index(
    bytes: &Bytes,
    segment_bytes: u64,
    segment_rows: u64,
) -> Result<KeyIndex, FormatError> {
    let index =
        proto::Index::decode(bytes.clone()).map_err(|source| FormatError::Protobuf { source })?;
    if index.format > FORMAT {
        return Err(FormatError::Newer {
            format: index.format,
            known: FORMAT,
        });
    }
    if index.format == 0 {
        return Err(FormatError::Field {
            field: "index.format",
        });
    }
    // A bitset is whole blocks of 32 bytes; the library would panic on an empty one.
    if index.bloom.is_empty() || index.bloom.len() % 32 != 0 || index.bloom.len() > BLOOM_BYTES_MAX
    {
        return Err(FormatError::Field {
            field: "index.bloom",
        });
    }
    let block_rows = index.block_rows as usize;
    let blocks = if block_rows == 0 {
        0
    } else {
        segment_rows.div_ceil(block_rows as u64)
    };
    if block_rows == 0 || blocks != index.first_keys.len() as u64 {
        return Err(FormatError::Field {
            field: "index.block_rows",
        });
    }
    if !index.first_keys.windows(2).all(|pair| pair[0] < pair[1]) {
        return Err(FormatError::Field {
            field: "index.first_keys",
        });
    }
    if (index.footer.len() as u64) > segment_bytes {
        return Err(FormatError::Field {
            field: "index.footer",
        });
    }
    // Parquet's parser reserves what a list says of its length: it only ever gets what a writer wrote.
    if blake3::hash(&index.footer).as_bytes() != index.footer_checksum.as_ref() {
        return Err(FormatError::Checksum);
    }
    let mut reader = ParquetMetaDataReader::new().with_page_index_policy(PageIndexPolicy::Optional);
    reader
        .try_parse_sized(&index.footer, segment_bytes)
        .map_err(|source| FormatError::Parquet { source })?;
    let metadata = reader
        .finish()
        .map_err(|source| FormatError::Parquet { source })?;
    if u64::try_from(metadata.file_metadata().num_rows()) != Ok(segment_rows) {
        return Err(FormatError::Field {
            field: "index.footer",
        });
    }
    let pages = Pages::new(&metadata, &index.page_checksums)?;
    let bytes = index.bloom.len()
        + index
            .first_keys
            .iter()
            .map(|key| key.len() + size_of::<Bytes>())
            .sum::<usize>()
        + metadata.memory_size()
        + pages.bytes();
    Ok(KeyIndex {
        bloom: Sbbf::new(&index.bloom),
        block_rows,
        first_keys: index.first_keys,
        metadata: Arc::new(metadata),
        pages,
        bytes,
    })
}
