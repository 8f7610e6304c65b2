//! Merges sorted segments batch by batch: memory holds the encoded inputs and outputs, and one decoded batch of each
//! input.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::pin::Pin;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::interleave_record_batch;
use futures::{Stream, StreamExt};

use super::{Input, RowMap};
use crate::error::TablesError;
use crate::judge::columns_of;
use crate::key::{Keys, keys};
use crate::reshred::widen;
use crate::schema::TableDef;
use crate::segment::{BLOCK_ROWS, SegmentKind, SegmentWriter, Written, read_live};
use crate::view::Tables;

/// Rows that are gathered before they are written.
const OUT_ROWS: usize = BLOCK_ROWS;

type Live = Pin<Box<dyn Stream<Item = Result<(RecordBatch, Vec<u32>), TablesError>> + Send>>;

/// One input's stream, and the batch in which it stands.
struct Cursor {
    def: Arc<TableDef>,
    kind: SegmentKind,
    live: Live,
    batch: RecordBatch,
    keys: Keys,
    rows: Vec<u32>,
    at: usize,
}

impl Cursor {
    /// Moves to the next batch that has rows; false at the end.
    async fn refill(&mut self, key: &[&str]) -> Result<bool, TablesError> {
        while let Some(next) = self.live.next().await {
            let (batch, rows) = next?;
            if batch.num_rows() > 0 {
                let batch = widen(&self.def, self.kind, batch)?;
                self.keys = keys(&batch, key)?;
                (self.batch, self.rows, self.at) = (batch, rows, 0);
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Merges the live rows of `inputs` into segments of about `segment_bytes`, and notes where each row went.
pub(super) async fn merge(
    tables: &Tables,
    def: &Arc<TableDef>,
    kind: SegmentKind,
    inputs: &mut [Input],
    segment_bytes: u64,
) -> Result<Vec<Written>, TablesError> {
    let key = columns_of(def, kind).key;
    let mut cursors = Vec::with_capacity(inputs.len());
    let mut heap = BinaryHeap::new();
    let mut maps: Vec<&mut RowMap> = Vec::with_capacity(inputs.len());
    let mut rows_max = 0;
    for (number, input) in inputs.iter_mut().enumerate() {
        let reader = tables.cache().reader(tables.bucket(), &input.entry).await?;
        let live: Live = Box::pin(read_live(&reader, &input.marks).await?);
        let empty = RecordBatch::new_empty(Arc::new(arrow::datatypes::Schema::empty()));
        let mut cursor = Cursor {
            def: Arc::clone(def),
            kind,
            live,
            batch: empty,
            keys: Keys::default(),
            rows: Vec::new(),
            at: 0,
        };
        if cursor.refill(key).await? {
            heap.push(Reverse((cursor.keys.get(0).to_vec(), number)));
        }
        rows_max += usize::try_from(input.entry.live_rows()).unwrap_or(usize::MAX);
        cursors.push(cursor);
        maps.push(&mut input.map);
    }
    let mut output = Output::new(def, kind, rows_max, segment_bytes);
    while let Some(Reverse((_, number))) = heap.pop() {
        let cursor = &mut cursors[number];
        if let Some(place) = maps[number].get_mut(cursor.rows[cursor.at] as usize) {
            *place = output.place();
        }
        output.picks.push((number, cursor.at));
        cursor.at += 1;
        let is_spent = cursor.at == cursor.batch.num_rows();
        if is_spent || output.picks.len() >= OUT_ROWS {
            output.drain(&cursors)?;
        }
        let cursor = &mut cursors[number];
        if !is_spent || cursor.refill(key).await? {
            heap.push(Reverse((cursor.keys.get(cursor.at).to_vec(), number)));
        }
    }
    output.finish(&cursors)
}

/// The segments that are being written.
struct Output<'a> {
    def: &'a TableDef,
    kind: SegmentKind,
    rows_max: usize,
    segment_bytes: u64,
    writer: Option<SegmentWriter>,
    written: Vec<Written>,
    picks: Vec<(usize, usize)>,
    rows: u32,
}

impl<'a> Output<'a> {
    fn new(def: &'a TableDef, kind: SegmentKind, rows_max: usize, segment_bytes: u64) -> Self {
        let picks = Vec::with_capacity(OUT_ROWS);
        Self {
            def,
            kind,
            rows_max,
            segment_bytes,
            writer: None,
            written: Vec::new(),
            picks,
            rows: 0,
        }
    }

    /// The place among all output rows of the row that is picked next.
    fn place(&self) -> u32 {
        self.rows
            .saturating_add(u32::try_from(self.picks.len()).unwrap_or(u32::MAX))
    }

    /// Writes the picked rows.
    fn drain(&mut self, cursors: &[Cursor]) -> Result<(), TablesError> {
        if self.picks.is_empty() {
            return Ok(());
        }
        // Only inputs that were picked from have a batch with columns.
        let mut numbers: Vec<usize> = self.picks.iter().map(|(number, _)| *number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let batches: Vec<&RecordBatch> = numbers
            .iter()
            .map(|number| &cursors[*number].batch)
            .collect();
        let picks: Vec<(usize, usize)> = self
            .picks
            .iter()
            .map(|(number, row)| (numbers.binary_search(number).unwrap_or(0), *row))
            .collect();
        let batch = interleave_record_batch(&batches, &picks)?;
        self.picks.clear();
        self.rows = self
            .rows
            .saturating_add(u32::try_from(batch.num_rows()).unwrap_or(u32::MAX));
        let key = columns_of(self.def, self.kind).key;
        if self.writer.is_none() {
            self.writer = Some(SegmentWriter::new(batch.schema_ref(), key, self.rows_max)?);
        }
        let Some(writer) = &mut self.writer else {
            return Ok(());
        };
        writer.push(&batch)?;
        if writer.bytes() as u64 >= self.segment_bytes {
            self.close()?;
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), TablesError> {
        if let Some(writer) = self.writer.take()
            && let Some(written) = writer.finish()?
        {
            self.written.push(written);
        }
        Ok(())
    }

    fn finish(mut self, cursors: &[Cursor]) -> Result<Vec<Written>, TablesError> {
        self.drain(cursors)?;
        self.close()?;
        Ok(self.written)
    }
}
