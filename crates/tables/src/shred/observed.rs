//! The columns that every table of records begins with: who, where, when, and how far it was checked.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Int64Builder, StringBuilder, TimestampMicrosecondArray, TimestampMicrosecondBuilder,
};

use super::RecordRow;

#[derive(Debug)]
pub(super) struct Observed {
    did: StringBuilder,
    collection: Option<StringBuilder>,
    rkey: StringBuilder,
    rev: StringBuilder,
    cid: StringBuilder,
    time: TimestampMicrosecondBuilder,
    indexed_at: TimestampMicrosecondBuilder,
    source: StringBuilder,
    seq: Int64Builder,
    verification: StringBuilder,
}

impl Observed {
    /// Begins the columns; `untyped` rows name their collection.
    pub(super) fn new(untyped: bool) -> Self {
        let time = || TimestampMicrosecondBuilder::new().with_timezone("UTC");
        Self {
            did: StringBuilder::new(),
            collection: untyped.then(StringBuilder::new),
            rkey: StringBuilder::new(),
            rev: StringBuilder::new(),
            cid: StringBuilder::new(),
            time: time(),
            indexed_at: time(),
            source: StringBuilder::new(),
            seq: Int64Builder::new(),
            verification: StringBuilder::new(),
        }
    }

    pub(super) fn push(&mut self, row: &RecordRow<'_>) {
        self.did.append_value(row.did.as_str());
        if let Some(collection) = &mut self.collection {
            collection.append_value(row.collection.as_str());
        }
        self.rkey.append_value(row.rkey.as_str());
        self.rev.append_value(row.rev.to_string());
        self.cid.append_value(row.cid.to_string());
        self.time
            .append_option(row.delivery.time.map(|time| time.0));
        self.indexed_at.append_value(row.delivery.indexed_at.0);
        self.source.append_value(&*row.delivery.source);
        self.seq.append_option(row.delivery.seq);
        self.verification
            .append_value(row.delivery.verification.as_str());
    }

    /// Returns the columns in the order of the table; `created_at` is among them.
    pub(super) fn finish(&mut self, created_at: TimestampMicrosecondArray) -> Vec<ArrayRef> {
        let mut arrays: Vec<ArrayRef> = vec![Arc::new(self.did.finish())];
        if let Some(collection) = &mut self.collection {
            arrays.push(Arc::new(collection.finish()));
        }
        arrays.push(Arc::new(self.rkey.finish()));
        arrays.push(Arc::new(self.rev.finish()));
        arrays.push(Arc::new(self.cid.finish()));
        arrays.push(Arc::new(created_at));
        arrays.push(Arc::new(self.time.finish()));
        arrays.push(Arc::new(self.indexed_at.finish()));
        arrays.push(Arc::new(self.source.finish()));
        arrays.push(Arc::new(self.seq.finish()));
        arrays.push(Arc::new(self.verification.finish()));
        arrays
    }
}
