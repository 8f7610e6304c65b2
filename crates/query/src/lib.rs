//! SQL over a bucket: DataFusion with providers over what `tables` keeps.
//!
//! [`Engine::query`] opens a read view (one manifest version and one tail of the log for all tables), plans the
//! statement over it and streams Arrow batches. A stored table is `Parquet segments minus dead rows ∪ tail batches`;
//! everything else (`atproto.records`, `atproto.links`, `atproto.accounts`, most of `system`) is derived from stored
//! tables while it is read. Nothing here writes to the bucket.

mod catalog;
mod derive;
mod engine;
mod error;
mod json_values;
mod links;
mod named;
mod prune;
mod records;
mod scan;
mod segments;
mod statement;
mod stored;
mod suggest;
mod system;
mod uri;
mod view;
mod views;

pub use catalog::{CATALOG, DEFAULT_SCHEMA, TableInfo};
pub use datafusion::common::ScalarValue;
pub use datafusion::error::DataFusionError;
pub use datafusion::execution::SendableRecordBatchStream;
pub use engine::{Engine, EngineSettings, Freshness};
pub use error::{ErrorKind, QueryError, Refusal};
pub use named::{Named, typed};
pub use statement::STATEMENT_BYTES_MAX;
