//! What a log record means: changes, their merge laws, and how they get into the log.
//!
//! Everything in the log is a [`Change`]. Two changes of one [`MergeKey`] merge by [`Order`] ([`merge`]), so they may
//! come twice, late, and in any order. A [`ChangeBatch`] is what becomes durable together; it is encoded as columnar
//! sections ([`section`]), and a [`ChangeLog`] appends the batches of many callers as few objects. [`convert`] turns
//! what was verified into changes; [`merge_model`] is the merge in its plainest form, which everything faster is
//! tested against.
//!
//! This crate knows no Arrow and no SQL, and of the bucket only its log.

pub mod batch;
pub mod change;
pub mod change_log;
mod codes;
pub mod convert;
pub mod coverage;
#[cfg(any(test, feature = "generate"))]
pub mod generate;
mod identity;
pub mod merge;
pub mod merge_model;
pub mod section;

pub use atproto;
pub use storage;

pub use batch::ChangeBatch;
pub use change::{
    AccountChange, Body, Change, CursorChange, Delivery, EventChange, EventKind, FloorChange,
    HeadChange, IdentityChange, Micros, NoticeChange, NoticeKind, RecordChange, ResyncStep,
};
pub use change_log::{AppendError, ChangeLog};
pub use convert::{
    changes_of_account, changes_of_commit, changes_of_identity, changes_of_repo, changes_of_sync,
};
pub use coverage::{Coverage, CoverageError, Pattern};
pub use merge::{MergeKey, Order};
pub use section::{DecodeError, decode_section};
