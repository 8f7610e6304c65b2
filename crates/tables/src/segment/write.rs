//! Writes a segment: sorted rows in, a Parquet object, its index and its statistics out. Pure but for memory.

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute;
use arrow::datatypes::{DataType, Int64Type, SchemaRef, TimeUnit, TimestampMicrosecondType};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::bloom_filter::Sbbf;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, SortingColumn};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

use super::entry::{ColumnStats, Scalar};
use super::{BLOCK_ROWS, index, pages};
use crate::error::WriteError;
use crate::key::{Keys, keys};

/// Blocks in a row group: a query's unit of parallel work.
const ROW_GROUP_BLOCKS: usize = 64;
/// Text longer than this is not kept in statistics.
// A did fits, a CID does not: hashes prune nothing, and every commit writes the entries that it touches again.
const STATS_TEXT_MAX: usize = 40;
/// How often the bloom filter says yes to a key that is not there.
const BLOOM_FALSE_POSITIVES: f64 = 0.01;
/// Columns that have no dictionary: nearly every value differs, or equal ones stand together.
// A dictionary that overflows cuts a page in the middle of a block, and one that does not is read whole for every
// look-up. Keys and orders must have neither; dids in key order, revs and TIDs share their fronts anyway.
const DISTINCT: &[&str] = &[
    "at",
    "did",
    "rkey",
    "rev",
    "cid",
    "commit",
    "data",
    "id",
    "tie",
    "frame_hash",
    "seq",
    "cursor",
    "created_at",
    "time",
    "indexed_at",
];
/// A page is cut by rows, never by bytes: look-ups count on pages that are blocks.
const PAGE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A segment that is whole, not yet uploaded.
#[derive(Debug)]
pub struct Written {
    /// The Parquet object.
    pub parquet: Bytes,
    /// The encoded index.
    pub index: Bytes,
    /// Rows.
    pub rows: u64,
    /// The first key.
    pub key_min: Vec<u8>,
    /// The last key.
    pub key_max: Vec<u8>,
    /// Statistics by column.
    pub columns: BTreeMap<String, ColumnStats>,
}

/// Writes one segment from batches in key order.
pub struct SegmentWriter {
    writer: ArrowWriter<Vec<u8>>,
    key: Vec<&'static str>,
    bloom: Sbbf,
    first_keys: Vec<Bytes>,
    first_text: Vec<u8>,
    key_min: Vec<u8>,
    key_max: Vec<u8>,
    rows: usize,
    columns: BTreeMap<String, Gathered>,
}

impl std::fmt::Debug for SegmentWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SegmentWriter")
            .field("rows", &self.rows)
            .finish_non_exhaustive()
    }
}

impl SegmentWriter {
    /// A writer for rows of `schema`, sorted by the columns `key`, at most about `rows_max` of them.
    ///
    /// # Errors
    /// [`WriteError`] if Parquet can't hold the schema.
    pub fn new(
        schema: &SchemaRef,
        key: &'static [&'static str],
        rows_max: usize,
    ) -> Result<Self, WriteError> {
        let properties = properties(schema, key)?;
        let writer = ArrowWriter::try_new(Vec::new(), SchemaRef::clone(schema), Some(properties))?;
        // Twice: each key, and each first key column.
        let distinct = (rows_max.max(1) as u64).saturating_mul(2);
        Ok(Self {
            writer,
            key: key.to_vec(),
            bloom: Sbbf::new_with_ndv_fpp(distinct, BLOOM_FALSE_POSITIVES)?,
            first_keys: Vec::new(),
            first_text: Vec::new(),
            key_min: Vec::new(),
            key_max: Vec::new(),
            rows: 0,
            columns: BTreeMap::new(),
        })
    }

    /// Adds rows. Their keys are above all before.
    ///
    /// # Errors
    /// [`WriteError::Unsorted`] if a key is not above the one before it, [`WriteError`] from Parquet.
    pub fn push(&mut self, batch: &RecordBatch) -> Result<(), WriteError> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let keys = keys(batch, &self.key)?;
        if !keys.are_strictly_ascending()
            || (self.rows > 0 && keys.get(0) <= self.key_max.as_slice())
        {
            return Err(WriteError::Unsorted);
        }
        self.index(batch, &keys);
        for (field, array) in batch.schema_ref().fields().iter().zip(batch.columns()) {
            self.columns
                .entry(field.name().clone())
                .or_default()
                .add(array.as_ref());
        }
        // Written block by block: a page ends after the write that fills it, so pages and blocks stay the same rows.
        let mut at = 0;
        while at < batch.num_rows() {
            let rows = (BLOCK_ROWS - self.rows % BLOCK_ROWS).min(batch.num_rows() - at);
            self.writer.write(&batch.slice(at, rows))?;
            self.rows += rows;
            at += rows;
        }
        Ok(())
    }

    fn index(&mut self, batch: &RecordBatch, keys: &Keys) {
        let has_text = matches!(
            self.key
                .first()
                .and_then(|name| batch.schema_ref().column_with_name(name))
                .map(|(_, field)| field.data_type()),
            Some(DataType::Utf8)
        );
        for (row, key) in keys.iter().enumerate() {
            if (self.rows + row).is_multiple_of(BLOCK_ROWS) {
                self.first_keys.push(Bytes::copy_from_slice(key));
            }
            self.bloom.insert(key);
            if has_text {
                let text = first_text(key);
                if text != self.first_text.as_slice() {
                    self.bloom.insert(text);
                    self.first_text = text.to_vec();
                }
            }
        }
        if self.rows == 0 {
            self.key_min = keys.get(0).to_vec();
        }
        self.key_max = keys.get(keys.len() - 1).to_vec();
    }

    /// About how large the object is so far.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.writer.bytes_written() + self.writer.in_progress_size()
    }

    /// Rows so far.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Closes the segment; none if it has no rows.
    ///
    /// # Errors
    /// [`WriteError`] from Parquet.
    pub fn finish(mut self) -> Result<Option<Written>, WriteError> {
        if self.rows == 0 {
            return Ok(None);
        }
        let metadata = self.writer.finish()?;
        let parquet = Bytes::from(std::mem::take(self.writer.inner_mut()));
        let footer = parquet.slice(footer_start(&metadata, &parquet)?..);
        self.bloom.fold_to_target_fpp(BLOOM_FALSE_POSITIVES);
        let page_checksums =
            pages::checksums(&metadata, &parquet).ok_or(WriteError::NoPageIndex)?;
        let index = index::encode_index(
            &self.bloom,
            BLOCK_ROWS,
            self.first_keys,
            footer,
            page_checksums,
        )?;
        Ok(Some(Written {
            parquet,
            index,
            rows: self.rows as u64,
            key_min: self.key_min,
            key_max: self.key_max,
            columns: self
                .columns
                .into_iter()
                .map(|(name, gathered)| (name, gathered.finish()))
                .collect(),
        }))
    }
}

/// The encoded first column of a key that starts with a text, its terminator included.
fn first_text(key: &[u8]) -> &[u8] {
    let mut at = 0;
    while at + 1 < key.len() {
        if key[at] == 0 {
            if key[at + 1] == 0 {
                return &key[..at + 2];
            }
            at += 1;
        }
        at += 1;
    }
    key
}

fn properties(schema: &SchemaRef, key: &[&str]) -> Result<WriterProperties, WriteError> {
    let mut builder = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?))
        .set_data_page_row_count_limit(BLOCK_ROWS)
        .set_data_page_size_limit(PAGE_BYTES_MAX)
        .set_write_batch_size(1_024)
        .set_max_row_group_row_count(Some(ROW_GROUP_BLOCKS * BLOCK_ROWS))
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_column_index_truncate_length(Some(STATS_TEXT_MAX))
        .set_sorting_columns(sorting(schema, key));
    for name in DISTINCT {
        let Some((_, field)) = schema.column_with_name(name) else {
            continue;
        };
        let encoding = match field.data_type() {
            DataType::Utf8 | DataType::Binary => Encoding::DELTA_BYTE_ARRAY,
            DataType::Int64 | DataType::Timestamp(..) => Encoding::DELTA_BINARY_PACKED,
            DataType::FixedSizeBinary(_) => Encoding::PLAIN,
            _ => continue,
        };
        let column = ColumnPath::from(*name);
        builder = builder
            .set_column_dictionary_enabled(column.clone(), false)
            .set_column_encoding(column, encoding);
    }
    Ok(builder.build())
}

/// The key as Parquet's sorting columns, where all its columns are plain leaves in front of any nested one.
fn sorting(schema: &SchemaRef, key: &[&str]) -> Option<Vec<SortingColumn>> {
    let mut columns = Vec::with_capacity(key.len());
    for name in key {
        let (position, _) = schema.column_with_name(name)?;
        if schema.fields()[..position]
            .iter()
            .any(|field| field.data_type().is_nested())
        {
            return None;
        }
        columns.push(SortingColumn {
            column_idx: i32::try_from(position).ok()?,
            descending: false,
            nulls_first: true,
        });
    }
    Some(columns)
}

/// Where the page indexes, or without them the footer, begin.
fn footer_start(metadata: &ParquetMetaData, parquet: &Bytes) -> Result<usize, WriteError> {
    let length_at = parquet
        .len()
        .checked_sub(8)
        .ok_or(ParquetError::EOF("footer".to_owned()))?;
    let length: [u8; 4] = parquet[length_at..length_at + 4]
        .try_into()
        .unwrap_or_default();
    let footer = length_at.saturating_sub(u32::from_le_bytes(length) as usize);
    let indexes = metadata
        .row_groups()
        .iter()
        .flat_map(|group| group.columns())
        .flat_map(|column| [column.column_index_offset(), column.offset_index_offset()])
        .flatten()
        .filter_map(|offset| usize::try_from(offset).ok())
        .min();
    Ok(indexes.map_or(footer, |start| start.min(footer)))
}

/// What is known of a column so far.
#[derive(Debug, Default)]
struct Gathered {
    nulls: u64,
    bounds: Bounds,
}

#[derive(Debug, Default)]
enum Bounds {
    /// No value yet.
    #[default]
    Empty,
    Known(Scalar, Scalar),
    /// A value was too long to keep, or its type has no bounds.
    Unkept,
}

impl Gathered {
    fn add(&mut self, array: &dyn Array) {
        self.nulls += array.null_count() as u64;
        let batch = bounds(array);
        self.bounds = match (std::mem::take(&mut self.bounds), batch) {
            (Bounds::Unkept, _) | (_, Bounds::Unkept) => Bounds::Unkept,
            (Bounds::Empty, other) | (other, Bounds::Empty) => other,
            (Bounds::Known(min, max), Bounds::Known(lower, upper)) => Bounds::Known(
                if lower < min { lower } else { min },
                if upper > max { upper } else { max },
            ),
        };
    }

    fn finish(self) -> ColumnStats {
        let (min, max) = match self.bounds {
            Bounds::Known(min, max) => (Some(min), Some(max)),
            Bounds::Empty | Bounds::Unkept => (None, None),
        };
        ColumnStats {
            nulls: self.nulls,
            min,
            max,
        }
    }
}

fn bounds(array: &dyn Array) -> Bounds {
    let known = match array.data_type() {
        DataType::Int64 => {
            let array = array.as_primitive::<Int64Type>();
            compute::min(array)
                .zip(compute::max(array))
                .map(|(min, max)| (Scalar::Int(min), Scalar::Int(max)))
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            let array = array.as_primitive::<TimestampMicrosecondType>();
            compute::min(array)
                .zip(compute::max(array))
                .map(|(min, max)| (Scalar::Int(min), Scalar::Int(max)))
        }
        DataType::Boolean => {
            let array = array.as_boolean();
            compute::min_boolean(array)
                .zip(compute::max_boolean(array))
                .map(|(min, max)| (Scalar::Boolean(min), Scalar::Boolean(max)))
        }
        DataType::Utf8 => {
            let array = array.as_string::<i32>();
            match compute::min_string(array).zip(compute::max_string(array)) {
                Some((min, max)) if min.len() > STATS_TEXT_MAX || max.len() > STATS_TEXT_MAX => {
                    return Bounds::Unkept;
                }
                bounds => bounds
                    .map(|(min, max)| (Scalar::Text(min.to_owned()), Scalar::Text(max.to_owned()))),
            }
        }
        _ => return Bounds::Unkept,
    };
    known.map_or(Bounds::Empty, |(min, max)| Bounds::Known(min, max))
}
