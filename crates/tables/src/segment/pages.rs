//! The pages of a segment and their checksums: what a read is checked against.
//!
//! Parquet's reader asks for pages or whole column chunks. Every range is widened to whole pages, and each page is
//! compared before any of its bytes are handed on, so damage is found wherever a query first meets it.

use std::ops::Range;

use bytes::Bytes;
use parquet::file::metadata::ParquetMetaData;

use crate::error::FormatError;

/// Bytes of a page's checksum. Damage is random, not an attack: 64 bits let one in 10^19 through.
pub(super) const CHECKSUM_BYTES: usize = 8;

/// One page.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Page {
    range: Range<u64>,
    checksum: [u8; CHECKSUM_BYTES],
}

/// All pages of a segment, in the order of their offsets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Pages(Vec<Page>);

impl Pages {
    /// The pages that `metadata` tells of, with `checksums` in their order.
    pub(super) fn new(metadata: &ParquetMetaData, checksums: &[u8]) -> Result<Self, FormatError> {
        let wrong = FormatError::Field {
            field: "index.page_checksums",
        };
        let ranges = ranges(metadata).ok_or(FormatError::Field {
            field: "index.footer",
        })?;
        if checksums.len() != ranges.len() * CHECKSUM_BYTES {
            return Err(wrong);
        }
        let checksums = checksums.chunks_exact(CHECKSUM_BYTES);
        let pages = ranges
            .into_iter()
            .zip(checksums)
            .filter_map(|(range, checksum)| {
                Some(Page {
                    range,
                    checksum: checksum.try_into().ok()?,
                })
            });
        Ok(Self(pages.collect()))
    }

    /// About how much memory they take.
    pub(super) fn bytes(&self) -> usize {
        self.0.len() * size_of::<Page>()
    }

    /// The least range of whole pages around `wanted`; none if `wanted` reaches beyond the pages.
    pub(super) fn around(&self, wanted: &Range<u64>) -> Option<Range<u64>> {
        let first = self
            .0
            .partition_point(|page| page.range.end <= wanted.start);
        let end = self.0.partition_point(|page| page.range.start < wanted.end);
        let pages = self.0.get(first..end).filter(|pages| !pages.is_empty())?;
        let around = pages.first()?.range.start..pages.last()?.range.end;
        (around.start <= wanted.start && wanted.end <= around.end).then_some(around)
    }

    /// Whether `bytes`, read from `around`, are the pages that were written. `around` is of whole pages.
    pub(super) fn hold(&self, around: &Range<u64>, bytes: &Bytes) -> bool {
        let first = self
            .0
            .partition_point(|page| page.range.start < around.start);
        let mut at = around.start;
        for page in &self.0[first..] {
            if at == around.end {
                break;
            }
            let length = page.range.end - page.range.start;
            let start = at - around.start;
            let Some(page_bytes) = slice(bytes, start, length) else {
                return false;
            };
            if page.range.start != at || checksum(page_bytes) != page.checksum {
                return false;
            }
            at = page.range.end;
        }
        at == around.end
    }
}

fn slice(bytes: &Bytes, start: u64, length: u64) -> Option<&[u8]> {
    let start = usize::try_from(start).ok()?;
    bytes.get(start..start.checked_add(usize::try_from(length).ok()?)?)
}

/// The checksum of one page.
fn checksum(page: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut short = [0; CHECKSUM_BYTES];
    short.copy_from_slice(&blake3::hash(page).as_bytes()[..CHECKSUM_BYTES]);
    short
}

/// The checksums of all pages of a Parquet object, in the order of their offsets; none if its footer contradicts it.
pub(super) fn checksums(metadata: &ParquetMetaData, parquet: &Bytes) -> Option<Bytes> {
    let mut checksums = Vec::new();
    for range in ranges(metadata)? {
        let page = slice(parquet, range.start, range.end.checked_sub(range.start)?)?;
        checksums.extend_from_slice(&checksum(page));
    }
    Some(checksums.into())
}

/// Where each page stands, by the offset index: a chunk's dictionary first, then its data pages, without gaps.
fn ranges(metadata: &ParquetMetaData) -> Option<Vec<Range<u64>>> {
    let mut ranges = Vec::new();
    let index = metadata.offset_index()?;
    for (group, columns) in metadata.row_groups().iter().zip(index) {
        if columns.len() != group.columns().len() {
            return None;
        }
        for (chunk, pages) in group.columns().iter().zip(columns) {
            let (start, length) = chunk.byte_range();
            let mut at = start;
            for page in pages.page_locations() {
                let offset = u64::try_from(page.offset).ok()?;
                let size = u64::try_from(page.compressed_page_size).ok()?;
                if offset > at {
                    ranges.push(at..offset);
                } else if offset < at {
                    return None;
                }
                at = offset.checked_add(size)?;
                ranges.push(offset..at);
            }
            if at != start.checked_add(length)? {
                return None;
            }
        }
    }
    ranges.sort_by_key(|range| range.start);
    Some(ranges)
}
