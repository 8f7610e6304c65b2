//! What the bucket already holds of a source: where its repos stand, and how far the work on it came.

use atproto::{Cid, Did, Tid};
use crdt::HeadChange;
use futures::future::BoxFuture;
use thiserror::Error;

/// The last commit of a repo that a source delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownHead {
    /// Its rev.
    pub rev: Tid,
    /// The root of its MST.
    pub data: Cid,
}

impl From<&HeadChange> for KnownHead {
    fn from(head: &HeadChange) -> Self {
        Self {
            rev: head.rev,
            data: head.data,
        }
    }
}

/// How far the work on a source came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KnownCursor {
    /// The generation, raised by an operator's reset.
    pub generation: u64,
    /// The position.
    pub cursor: i64,
}

/// The bucket did not say what it knows.
#[derive(Debug, Error)]
#[error("state of the source can't be read from the bucket")]
pub struct KnownError {
    /// Why.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// Answers what the bucket holds of a source, by point look-ups.
///
/// An answer may be older than the newest append: then what is asked for is done again, and merging takes no harm.
pub trait Known: std::fmt::Debug + Send + Sync {
    /// The last commit of `did` that `source` delivered.
    fn head<'a>(
        &'a self,
        source: &'a str,
        did: &'a Did,
    ) -> BoxFuture<'a, Result<Option<KnownHead>, KnownError>>;

    /// The cursor of a slice of a source.
    fn cursor<'a>(
        &'a self,
        source: &'a str,
        slice: &'a str,
    ) -> BoxFuture<'a, Result<Option<KnownCursor>, KnownError>>;
}

/// A bucket of which nothing is known: every source begins at its beginning.
#[derive(Clone, Copy, Debug, Default)]
pub struct NothingKnown;

impl Known for NothingKnown {
    fn head<'a>(
        &'a self,
        _source: &'a str,
        _did: &'a Did,
    ) -> BoxFuture<'a, Result<Option<KnownHead>, KnownError>> {
        Box::pin(async { Ok(None) })
    }

    fn cursor<'a>(
        &'a self,
        _source: &'a str,
        _slice: &'a str,
    ) -> BoxFuture<'a, Result<Option<KnownCursor>, KnownError>> {
        Box::pin(async { Ok(None) })
    }
}
