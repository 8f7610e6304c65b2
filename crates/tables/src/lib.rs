//! The relational view of the log: tables, segments, the manifest's parts, compaction, and read views.
//!
//! A [`view::ReadView`] answers for every table from one manifest version and one tail of the log: segments less their
//! dead rows, and the tail's rows. A [`compactor::Compactor`] turns tails into segments and merges segments; what a
//! version answers is the merge of all changes at or below its `merged`. Tables come from Lexicons ([`schema`],
//! [`lexicon`]), and records go into typed columns and back without loss ([`shred`], [`rebuild`]).
//!
//! Arrow and Parquet first appear here; DataFusion does not.

pub use {crdt, storage};

pub mod additions;
mod builtin_lexicons;
pub mod cache;
pub mod compactor;
pub mod error;
pub mod floors;
pub mod flush;
pub mod hidden;
pub mod judge;
pub mod key;
pub mod lexicon;
pub mod links;
pub mod manifest;
pub mod merge;
mod named;
mod partition;
pub mod point;
mod publish;
pub mod rebuild;
pub mod reproject;
pub mod reshred;
pub mod resyncs;
pub mod rows;
pub mod schema;
pub mod segment;
pub mod shred;
pub mod tail;
pub mod view;
pub mod waiting;
#[cfg(test)]
mod world;

#[allow(
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    reason = "made by prost-build; proto/tables.proto documents it"
)]
mod proto {
    include!(concat!(env!("OUT_DIR"), "/alluvium.tables.v1.rs"));
}
