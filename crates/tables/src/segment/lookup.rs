//! Finds keys in a segment: bloom filter, then the one block of the key columns where the key would stand.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use futures::TryStreamExt;

use super::read::{SegmentReader, segment_error};
use crate::error::TablesError;
use crate::key::{Keys, keys, orders, text_prefix};

/// A row that a look-up found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Which probe found it.
    pub probe: usize,
    /// The row in its segment.
    pub row: u32,
    /// Its key.
    pub key: Vec<u8>,
    /// Its order.
    pub order: Vec<u8>,
}

/// What a look-up found and what it cost.
#[derive(Clone, Debug, Default)]
pub struct Lookup {
    /// The rows.
    pub found: Vec<Found>,
    /// Blocks read: for exact keys at most one a probe.
    pub blocks: usize,
}

/// The columns of a table by which it is searched and merged.
#[derive(Clone, Copy, Debug)]
pub struct Columns<'a> {
    /// Its key.
    pub key: &'a [&'a str],
    /// Its order.
    pub order: &'a [&'a str],
}

/// Finds the rows whose keys are among `probes`, which ascend.
///
/// # Errors
/// [`TablesError`] if the segment can't be read.
pub async fn find_keys(
    reader: &SegmentReader,
    columns: Columns<'_>,
    probes: &[&[u8]],
) -> Result<Lookup, TablesError> {
    let mut by_block: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (probe, key) in probes.iter().enumerate() {
        if reader.entry.spans(key)
            && reader.index.may_contain(key)
            && let Some(block) = reader.index.block_of(key)
        {
            by_block.entry(block).or_default().push(probe);
        }
    }
    let mut lookup = Lookup {
        found: Vec::new(),
        blocks: by_block.len(),
    };
    for block in read_blocks(reader, columns, by_block.keys().copied()).await? {
        for &probe in by_block.get(&block.number).into_iter().flatten() {
            if let Some(at) = block.position(probes[probe]) {
                lookup.found.push(block.found(probe, at));
            }
        }
    }
    Ok(lookup)
}

/// A front of keys: one whole column, or more.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Prefix {
    /// The whole front.
    pub bytes: Vec<u8>,
    /// How much of it is the first column.
    pub first: usize,
}

/// Finds the rows whose keys start with one of `prefixes`.
///
/// # Errors
/// [`TablesError`] if the segment can't be read.
pub async fn find_prefixes(
    reader: &SegmentReader,
    columns: Columns<'_>,
    prefixes: &[Prefix],
) -> Result<Lookup, TablesError> {
    let mut by_block: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (probe, prefix) in prefixes.iter().enumerate() {
        let first = prefix.bytes.get(..prefix.first).unwrap_or(&prefix.bytes);
        if reader.entry.spans_prefix(&prefix.bytes) && reader.index.may_contain(first) {
            for block in reader.index.blocks_of_prefix(&prefix.bytes) {
                by_block.entry(block).or_default().push(probe);
            }
        }
    }
    let mut lookup = Lookup {
        found: Vec::new(),
        blocks: by_block.len(),
    };
    for block in read_blocks(reader, columns, by_block.keys().copied()).await? {
        for &probe in by_block.get(&block.number).into_iter().flatten() {
            let rows = block.positions_of_prefix(&prefixes[probe].bytes);
            lookup.found.extend(rows.map(|at| block.found(probe, at)));
        }
    }
    Ok(lookup)
}

/// One block's keys and orders.
struct Block {
    number: usize,
    first_row: usize,
    keys: Keys,
    orders: Keys,
}

impl Block {
    fn position(&self, key: &[u8]) -> Option<usize> {
        let at = self.keys.partition_point(|other| other < key);
        (at < self.keys.len() && self.keys.get(at) == key).then_some(at)
    }

    fn positions_of_prefix(&self, prefix: &[u8]) -> Range<usize> {
        let start = self.keys.partition_point(|key| key < prefix);
        let end = self
            .keys
            .partition_point(|key| key < prefix || key.starts_with(prefix));
        start..end
    }

    fn found(&self, probe: usize, at: usize) -> Found {
        // A segment has at most u32::MAX rows: its entry was checked.
        let row = u32::try_from(self.first_row + at).unwrap_or(u32::MAX);
        Found {
            probe,
            row,
            key: self.keys.get(at).to_vec(),
            order: self.orders.get(at).to_vec(),
        }
    }
}

async fn read_blocks(
    reader: &SegmentReader,
    columns: Columns<'_>,
    blocks: impl Iterator<Item = usize>,
) -> Result<Vec<Block>, TablesError> {
    let mut names = columns.key.to_vec();
    names.extend(
        columns
            .order
            .iter()
            .filter(|name| !columns.key.contains(name)),
    );
    let mut read = Vec::new();
    for (number, first_row, part) in read_parts(reader, &names, blocks).await? {
        read.push(Block {
            number,
            first_row,
            keys: keys(&part, columns.key)?,
            orders: orders(&part, columns.order)?,
        });
    }
    Ok(read)
}

/// The columns `names` of some blocks, each with its number and its first row.
async fn read_parts(
    reader: &SegmentReader,
    names: &[&str],
    blocks: impl Iterator<Item = usize>,
) -> Result<Vec<(usize, usize, RecordBatch)>, TablesError> {
    let rows = usize::try_from(reader.entry.rows).unwrap_or(usize::MAX);
    let numbered: Vec<(usize, Range<usize>)> = blocks
        .map(|block| (block, reader.index.rows_of(block, rows)))
        .collect();
    if numbered.is_empty() {
        return Ok(Vec::new());
    }
    let ranges: Vec<Range<usize>> = numbered.iter().map(|(_, range)| range.clone()).collect();
    let stream = reader.stream(Some(names), Some(&ranges))?;
    let schema = SchemaRef::clone(stream.schema());
    let batches: Vec<_> = stream
        .try_collect()
        .await
        .map_err(|source| segment_error(&reader.entry.path, source))?;
    let batch = concat_batches(&schema, &batches)?;
    let mut read = Vec::with_capacity(numbered.len());
    let mut at = 0;
    for (number, range) in numbered {
        let part = batch.slice(at, range.len().min(batch.num_rows() - at));
        at += part.num_rows();
        read.push((number, range.start, part));
    }
    Ok(read)
}

/// Rows of one block whose first column is the same.
#[derive(Debug)]
pub struct Visited<'a> {
    /// Which of the texts that is.
    pub probe: usize,
    /// The block's rows.
    pub block: &'a RecordBatch,
    /// Which of them.
    pub rows: Range<usize>,
    /// The block's first row in its segment.
    pub first_row: usize,
}

/// Blocks that [`visit_rows`] holds at once: 32 of 8,192 rows.
const VISITED_BLOCKS_MAX: usize = 32;

/// Calls `visit` with all rows whose first key column, `column`, is one of `texts`, in row order, with `columns`.
///
/// Rows of one text may come in several visits, one a block. `columns` must hold `column`, which is all that is read
/// when it holds nothing else; however many rows there are, a few blocks are held at once.
///
/// # Errors
/// [`TablesError`] if the segment can't be read; what `visit` returns.
pub async fn visit_rows(
    reader: &SegmentReader,
    column: &str,
    columns: &[&str],
    texts: &[Arc<str>],
    mut visit: impl FnMut(Visited<'_>) -> Result<(), TablesError>,
) -> Result<(), TablesError> {
    let prefixes: Vec<Vec<u8>> = texts.iter().map(|text| text_prefix(text)).collect();
    let mut by_block: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (probe, prefix) in prefixes.iter().enumerate() {
        if reader.entry.spans_prefix(prefix) && reader.index.may_contain(prefix) {
            for block in reader.index.blocks_of_prefix(prefix) {
                by_block.entry(block).or_default().push(probe);
            }
        }
    }
    let blocks: Vec<usize> = by_block.keys().copied().collect();
    for blocks in blocks.chunks(VISITED_BLOCKS_MAX) {
        for (number, first_row, block) in
            read_parts(reader, columns, blocks.iter().copied()).await?
        {
            let keys = keys(&block, &[column])?;
            for &probe in by_block.get(&number).into_iter().flatten() {
                let prefix = prefixes[probe].as_slice();
                let start = keys.partition_point(|key| key < prefix);
                let end = keys.partition_point(|key| key <= prefix);
                if start < end {
                    visit(Visited {
                        probe,
                        block: &block,
                        rows: start..end,
                        first_row,
                    })?;
                }
            }
        }
    }
    Ok(())
}
