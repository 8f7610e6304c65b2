//! The one place where this crate meets the `tables` crate: what a query reads, by name.
//!
//! Everything else here says `crate::view::…`, so that what the tables promise can be read off one page.

pub(crate) use tables::cache::{Cache, CacheSettings};
pub(crate) use tables::error::TablesError;
pub(crate) use tables::links::{Link, links_of_rows};
pub(crate) use tables::rebuild::Rebuilder;
pub(crate) use tables::reshred::Reshredder;
pub(crate) use tables::schema::{Catalog, TableDef, TableKind, TableName};
pub(crate) use tables::segment::{ColumnStats, Scalar, SegmentEntry};
pub(crate) use tables::storage::{Bucket, ChainError, Root};
pub(crate) use tables::view::{ReadView, Reshred, SegmentScan, Tables};
