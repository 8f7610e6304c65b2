//! Merged changes as rows of the internal tables: accounts, identities, events, heads, floors, cursors, notices, and the
//! tombstones of records. Live records are made by [`crate::shred`].
//!
//! One row per change, in the order of the changes. A floor's `scope` is its coverage's text, empty for all collections.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, FixedSizeBinaryBuilder, Int64Array, RecordBatch,
    StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::SchemaRef;
use crdt::{
    AccountChange, Change, CursorChange, EventChange, FloorChange, HeadChange, IdentityChange,
    Micros, NoticeChange, Order, RecordChange,
};

use crate::schema::{TableDef, TableKind};

/// Why changes are no rows of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RowsError {
    /// A change of another kind than the table's rows.
    #[error("a change of another kind than the table")]
    OtherKind,
    /// The table holds records: live ones are shredded, deletes are tombstones.
    #[error("a table of records")]
    Records,
    /// The table does not hold records, so it has no tombstones.
    #[error("not a table of records")]
    NotRecords,
}

/// Returns the rows of changes that all belong to `table`, which is no table of records.
///
/// # Errors
/// [`RowsError::Records`], or [`RowsError::OtherKind`] if a change belongs elsewhere.
pub fn rows_of<'a>(
    table: &TableDef,
    changes: impl IntoIterator<Item = &'a Change>,
) -> Result<RecordBatch, RowsError> {
    let changes = changes.into_iter();
    macro_rules! rows {
        ($variant:ident) => {
            Rows(
                changes
                    .map(|change| {
                        if let Change::$variant(change) = change {
                            Ok(change)
                        } else {
                            Err(RowsError::OtherKind)
                        }
                    })
                    .collect::<Result<_, _>>()?,
            )
        };
    }
    let arrays = match table.kind {
        TableKind::Events => events(&rows!(Event)),
        TableKind::Accounts => accounts(&rows!(Account)),
        TableKind::Identities => identities(&rows!(Identity)),
        TableKind::Heads => heads(&rows!(Head)),
        TableKind::Floors => floors(&rows!(Floor)),
        TableKind::Cursors => cursors(&rows!(Cursor)),
        TableKind::Notices => notices(&rows!(Notice)),
        TableKind::Record(_) | TableKind::Untyped => return Err(RowsError::Records),
    };
    Ok(batch_of(&table.schema, arrays))
}

/// Returns the tombstones of deletes. Whether a change is a delete is not asked: one that has a body gives a row too.
///
/// # Errors
/// [`RowsError::NotRecords`] if the table has no tombstones.
pub fn tombstones_of<'a>(
    table: &TableDef,
    deletes: impl IntoIterator<Item = &'a RecordChange>,
) -> Result<RecordBatch, RowsError> {
    let schema = table.tombstone_schema().ok_or(RowsError::NotRecords)?;
    let rows = Rows(deletes.into_iter().collect());
    let mut arrays = vec![rows.text(|c| c.did.as_str())];
    if matches!(table.kind, TableKind::Untyped) {
        arrays.push(rows.text(|c| c.collection.as_str()));
    }
    arrays.extend([
        rows.text(|c| c.rkey.as_str()),
        rows.text(|c| c.rev.to_string()),
        rows.time(|c| c.delivery.indexed_at),
    ]);
    Ok(batch_of(&schema, arrays))
}

fn events(rows: &Rows<'_, EventChange>) -> Vec<ArrayRef> {
    vec![
        rows.time(EventChange::at),
        rows.text(|c| c.did.as_str()),
        rows.hash(EventChange::id),
        rows.time(|c| c.time),
        rows.text(|c| c.kind.as_str()),
        rows.text_or_null(|c| c.operation.map(|operation| operation.as_str().to_owned())),
        rows.text_or_null(|c| c.collection.as_ref().map(ToString::to_string)),
        rows.text_or_null(|c| c.rkey.as_ref().map(ToString::to_string)),
        rows.text_or_null(|c| c.rev.map(|rev| rev.to_string())),
        rows.text_or_null(|c| c.cid.map(|cid| cid.to_string())),
        rows.int_or_null(|c| c.delivery.seq),
        rows.text(|c| Arc::clone(&c.delivery.source)),
        rows.time(|c| c.delivery.indexed_at),
        rows.text_or_null(|c| c.commit.map(|commit| commit.to_string())),
    ]
}

fn accounts(rows: &Rows<'_, AccountChange>) -> Vec<ArrayRef> {
    vec![
        rows.text(|c| c.did.as_str()),
        rows.text(|c| Arc::clone(&c.delivery.source)),
        rows.time(|c| c.time),
        rows.time(|c| state_order(&c.order()).0),
        rows.int_or_null(|c| c.seq),
        rows.bytes(|c| state_order(&c.order()).1),
        rows.boolean(|c| c.active),
        rows.text_or_null(|c| c.status.clone()),
        rows.time(|c| c.delivery.indexed_at),
    ]
}

fn identities(rows: &Rows<'_, IdentityChange>) -> Vec<ArrayRef> {
    vec![
        rows.text(|c| c.did.as_str()),
        rows.text(|c| Arc::clone(&c.delivery.source)),
        rows.time(|c| c.time),
        rows.time(|c| state_order(&c.order()).0),
        rows.int_or_null(|c| c.seq),
        rows.bytes(|c| state_order(&c.order()).1),
        rows.text_or_null(|c| c.handle.as_ref().map(ToString::to_string)),
        rows.text_or_null(|c| c.pds.clone()),
        rows.time(|c| c.delivery.indexed_at),
    ]
}

/// Returns the time and the bytes that a state is ordered by.
fn state_order(order: &Order) -> (Micros, Vec<u8>) {
    match order {
        Order::State { at, bytes, .. } => (*at, bytes.clone()),
        _ => (Micros::default(), Vec::new()),
    }
}

fn heads(rows: &Rows<'_, HeadChange>) -> Vec<ArrayRef> {
    vec![
        rows.text(|c| c.did.as_str()),
        rows.text(|c| Arc::clone(&c.delivery.source)),
        rows.text(|c| c.rev.to_string()),
        rows.text(|c| c.data.to_string()),
        rows.text(|c| c.commit.to_string()),
        rows.bytes(|c| c.commit_block.clone()),
        rows.time(|c| c.delivery.indexed_at),
    ]
}

fn floors(rows: &Rows<'_, FloorChange>) -> Vec<ArrayRef> {
    vec![
        rows.text(|c| c.did.as_str()),
        rows.text(|c| c.coverage.to_string()),
        rows.text(|c| c.rev.to_string()),
        rows.text(|c| Arc::clone(&c.delivery.source)),
        rows.text(|c| c.delivery.verification.as_str()),
        rows.time(|c| c.delivery.indexed_at),
    ]
}

fn cursors(rows: &Rows<'_, CursorChange>) -> Vec<ArrayRef> {
    vec![
        rows.text(|c| Arc::clone(&c.source)),
        rows.text(|c| c.slice.as_str()),
        rows.count(|c| c.generation),
        rows.int_or_null(|c| Some(c.cursor)),
        rows.time(|c| c.indexed_at),
    ]
}

fn notices(rows: &Rows<'_, NoticeChange>) -> Vec<ArrayRef> {
    vec![
        rows.text(|c| c.kind.as_str()),
        rows.text(|c| Arc::clone(&c.source)),
        rows.text(|c| c.did.as_ref().map(ToString::to_string).unwrap_or_default()),
        rows.text(|c| c.rev.map(|rev| rev.to_string()).unwrap_or_default()),
        rows.hash(|c| c.frame_hash),
        rows.count(|c| u64::from(c.attempt)),
        rows.count(|c| u64::from(c.step)),
        rows.text(|c| c.reason.as_str()),
        rows.int_or_null(|c| c.seq),
        rows.count(|c| c.bytes),
        rows.time(|c| c.indexed_at),
    ]
}

/// Rows that become columns, one function for each.
struct Rows<'a, T>(Vec<&'a T>);

impl<'a, T> Rows<'a, T> {
    fn text<S: AsRef<str>>(&self, of: impl Fn(&'a T) -> S) -> ArrayRef {
        Arc::new(StringArray::from_iter_values(
            self.0.iter().map(|&row| of(row)),
        ))
    }

    fn text_or_null(&self, of: impl Fn(&'a T) -> Option<String>) -> ArrayRef {
        Arc::new(self.0.iter().map(|&row| of(row)).collect::<StringArray>())
    }

    fn int_or_null(&self, of: impl Fn(&'a T) -> Option<i64>) -> ArrayRef {
        Arc::new(self.0.iter().map(|&row| of(row)).collect::<Int64Array>())
    }

    /// A count above `i64::MAX`, which nothing here reaches, is that.
    fn count(&self, of: impl Fn(&'a T) -> u64) -> ArrayRef {
        self.int_or_null(|row| Some(i64::try_from(of(row)).unwrap_or(i64::MAX)))
    }

    fn time(&self, of: impl Fn(&'a T) -> Micros) -> ArrayRef {
        let times =
            TimestampMicrosecondArray::from_iter_values(self.0.iter().map(|&row| of(row).0));
        Arc::new(times.with_timezone("UTC"))
    }

    fn bytes<B: AsRef<[u8]>>(&self, of: impl Fn(&'a T) -> B) -> ArrayRef {
        Arc::new(BinaryArray::from_iter_values(
            self.0.iter().map(|&row| of(row)),
        ))
    }

    fn boolean(&self, of: impl Fn(&'a T) -> bool) -> ArrayRef {
        Arc::new(
            self.0
                .iter()
                .map(|&row| Some(of(row)))
                .collect::<BooleanArray>(),
        )
    }

    fn hash(&self, of: impl Fn(&'a T) -> [u8; 16]) -> ArrayRef {
        let mut builder = FixedSizeBinaryBuilder::with_capacity(self.0.len(), 16);
        for &row in &self.0 {
            builder
                .append_value(of(row))
                .expect("16 bytes are 16 bytes");
        }
        Arc::new(builder.finish())
    }
}

/// Columns and schema come from one table definition, so that they differ is our own mistake.
fn batch_of(schema: &SchemaRef, arrays: Vec<ArrayRef>) -> RecordBatch {
    RecordBatch::try_new(Arc::clone(schema), arrays).expect("the columns are those of the table")
}
