//! Bytes in object storage: the write-ahead log, the manifest chain, and the collection of both.
//!
//! The bucket is the only state and holds two structures. The *log* takes objects of many writers at once,
//! each alone under its prefix. The *manifest chain* is one small root per version; whoever commits makes the
//! next one of the newest and begins again after a lost race. Neither needs a leader, a lease or a fence:
//! create-if-absent of single objects is all that the store must offer, and [`Bucket::open`] checks it.
//!
//! - [`create()`] is the one rule by which an object counts as written.
//! - [`LogWriter`], [`list_log`] and [`read_log`] are the log; a tail is an unbroken run of numbers.
//! - [`Chain`] reads and commits versions; [`collect()`] alone deletes.
//! - [`open_store`] opens a bucket, a durable local folder, or memory, by URL.
//!
//! This crate knows neither what a section of the log means nor what a root's body names.

mod bucket;
mod clock;
mod collect;
mod create;
mod frame;
mod ids;
pub mod layout;
mod local;
mod log;
mod manifest;
mod multiset;
mod proto;
mod read;
mod retry;
#[cfg(test)]
mod simulation;
mod store;
#[cfg(test)]
mod world;

pub use bucket::{Bucket, DocumentError, OpenError, Settings, SettingsError};
pub use clock::{Clock, ManualClock, SystemClock};
pub use collect::{CollectError, Collected, Named, Policy, collect};
pub use create::{CreateError, OBJECT_BYTES_MAX, create};
pub use frame::FormatError;
pub use ids::{CommitId, DatabaseId, NameError, Position, Seq, Version, WriterId};
pub use local::LocalDurable;
pub use log::{
    AppendError, ListError, LogListing, LogObject, LogWriter, OBJECT_RAW_BYTES_MAX, ObjectInfo,
    ReadError, Section, decode_log_object, list_log, read_log,
};
pub use manifest::{
    Apply, ApplyError, Chain, ChainError, CommitError, CommitKind, Draft, Kept, Listed,
    ROOT_BYTES_MAX, Root, Took, decode_root,
};
pub use multiset::MultisetHash;
pub use read::read;
pub use retry::{is_denied, is_transient};
pub use store::{StoreError, open_store};

// So that crates above need no object_store of their own for the types in these signatures.
pub use object_store;
