//! What can go wrong with tables, named by what the caller does next.

use arrow::error::ArrowError;
use parquet::errors::ParquetError;

use crate::key::KeyError;

/// Bytes that are not what their format says.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// No protobuf of that message.
    #[error("not the protobuf that belongs here")]
    Protobuf {
        /// Why.
        source: prost::DecodeError,
    },
    /// Written by a newer version, which this one must not guess at.
    #[error(
        "format {format} is newer than {known}, the newest that this version reads; use a newer alluvium"
    )]
    Newer {
        /// The object's.
        format: u32,
        /// Ours.
        known: u32,
    },
    /// A field is missing, or contradicts another.
    #[error("field {field} is missing or wrong")]
    Field {
        /// The field.
        field: &'static str,
    },
    /// No Parquet.
    #[error("not the Parquet that belongs here")]
    Parquet {
        /// Why.
        source: ParquetError,
    },
    /// The bytes are not those that were written.
    #[error("checksum differs")]
    Checksum,
    /// Shorter than what names it says.
    #[error("{found} bytes where {expected} belong")]
    Length {
        /// What belongs there.
        expected: u64,
        /// What is there.
        found: u64,
    },
    /// No Lexicon.
    #[error("not the Lexicon that belongs here")]
    Lexicon {
        /// Why.
        source: crate::lexicon::LexiconError,
    },
    /// No roaring bitmap.
    #[error("not the bitmap that belongs here")]
    Bitmap {
        /// Why.
        source: std::io::Error,
    },
}

/// A segment can't be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The rows are not in key order: our own fault.
    #[error("rows are not in key order")]
    Unsorted,
    /// Parquet wrote no page index: our own fault.
    #[error("the segment has no page index")]
    NoPageIndex,
    /// No key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// From Arrow.
    #[error(transparent)]
    Arrow(#[from] ArrowError),
    /// From Parquet.
    #[error(transparent)]
    Parquet(#[from] ParquetError),
}

/// The bucket's tables can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum TablesError {
    /// An object that the view names is gone: it was collected. Open a new view.
    #[error("{path} is gone: the view has expired")]
    Expired {
        /// The object.
        path: String,
    },
    /// An object is not what was written. It is not served, and not deleted.
    #[error("{path} is damaged")]
    Damaged {
        /// The object.
        path: String,
        /// How.
        source: FormatError,
    },
    /// The object store did not answer as it should. Nothing was acknowledged; try again.
    #[error("the object store failed on {path}")]
    Store {
        /// The object.
        path: String,
        /// What it said.
        source: object_store::Error,
    },
    /// The log can't be listed.
    #[error("the log can't be listed")]
    List {
        /// Why.
        #[from]
        source: storage::ListError,
    },
    /// The log can't be read.
    #[error("the log can't be read")]
    Log {
        /// Why.
        #[from]
        source: storage::ReadError,
    },
    /// The manifest can't be read.
    #[error("the manifest can't be read")]
    Chain {
        /// Why.
        #[from]
        source: storage::ChainError,
    },
    /// A log object's section can't be decoded. What its writer wrote from there on waits.
    #[error("{path} holds changes that can't be decoded")]
    Changes {
        /// The log object.
        path: String,
        /// Why.
        source: crdt::DecodeError,
    },
    /// An object can't be created.
    #[error("an object can't be created")]
    Create {
        /// Why.
        #[from]
        source: storage::CreateError,
    },
    /// A commit can't be made.
    #[error("the commit can't be made")]
    Commit {
        /// Why.
        #[from]
        source: storage::CommitError,
    },
    /// A segment can't be written.
    #[error("a segment can't be written")]
    Write {
        /// Why.
        #[from]
        source: WriteError,
    },
    /// Changes are no rows of their table.
    #[error("changes are no rows of their table")]
    Changed {
        /// Why.
        #[from]
        source: crate::rows::RowsError,
    },
    /// Records can't be shredded.
    #[error("records can't be shredded")]
    Shred {
        /// Why.
        #[from]
        source: crate::shred::ShredError,
    },
    /// Rows can't be made of changes.
    #[error("rows can't be made")]
    Rows {
        /// Why.
        #[from]
        source: ArrowError,
    },
    /// A segment's pages can't be read.
    #[error("{path} can't be read")]
    Segment {
        /// The segment.
        path: String,
        /// Why.
        source: ParquetError,
    },
    /// A row has no key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Rows can't be made into records.
    #[error("rows can't be made into records")]
    Rebuild {
        /// Why.
        #[from]
        source: crate::rebuild::RebuildError,
    },
    /// A row is none of a table of records: a cell of this column is missing, or not what belongs there.
    #[error("a row's {column} is not what belongs there")]
    Row {
        /// The column.
        column: &'static str,
    },
    /// A segment has a column that this version does not know; merging it would lose what stands there.
    #[error("{table} has a column {column} that this version does not know; use a newer alluvium")]
    UnknownColumn {
        /// The table.
        table: String,
        /// The column.
        column: String,
    },
    /// The manifest names a table that this version does not know.
    #[error("the bucket has a table {table} that this version does not know; use a newer alluvium")]
    UnknownTable {
        /// Its physical name.
        table: String,
    },
    /// What several waiters of one read were told.
    #[error(transparent)]
    Shared {
        /// The error.
        source: std::sync::Arc<TablesError>,
    },
}

impl TablesError {
    /// Whether an object of the view is gone, so that a new view must be opened.
    #[must_use]
    pub fn is_expired(&self) -> bool {
        match self {
            Self::Expired { .. } => true,
            Self::Shared { source } => source.is_expired(),
            _ => false,
        }
    }

    /// Whether the object store failed, so that nothing is known of the object.
    #[must_use]
    pub fn is_store(&self) -> bool {
        match self {
            Self::Store { .. } => true,
            Self::Shared { source } => source.is_store(),
            _ => false,
        }
    }
}
