//! What the bucket already holds of a source: where its repos stand, and how far the work on it came.

use std::sync::Arc;

use atproto::{Cid, Did, Tid};
use crdt::HeadChange;
use futures::future::BoxFuture;
use tables::error::TablesError;
use tables::view::{ReadView, Tables};
use thiserror::Error;
use tokio::sync::Mutex;

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

/// What a bucket's tables hold, read from one view that is opened when first asked, and again when it was collected.
///
/// Within one run a source's repos are admitted from memory, so a view as old as the run is new enough.
#[derive(Debug)]
pub struct KnownByTables {
    tables: Tables,
    view: Mutex<Option<Arc<ReadView>>>,
}

impl KnownByTables {
    /// What `tables` hold.
    #[must_use]
    pub fn new(tables: Tables) -> Self {
        Self {
            tables,
            view: Mutex::default(),
        }
    }

    async fn view(&self) -> Result<Arc<ReadView>, TablesError> {
        let mut view = self.view.lock().await;
        if let Some(view) = view.as_ref() {
            return Ok(Arc::clone(view));
        }
        let opened = Arc::new(ReadView::open(&self.tables).await?);
        *view = Some(Arc::clone(&opened));
        Ok(opened)
    }

    /// Whether the view has been collected, so that another must be asked; it is forgotten then.
    async fn is_stale(&self, error: &TablesError) -> bool {
        if error.is_expired() {
            *self.view.lock().await = None;
        }
        error.is_expired()
    }

    async fn stored_head(&self, source: &str, did: &Did) -> Result<Option<KnownHead>, TablesError> {
        loop {
            match self.view().await?.head(did, source).await {
                Ok(head) => {
                    return Ok(head.map(|head| KnownHead {
                        rev: head.rev,
                        data: head.data,
                    }));
                }
                Err(error) if self.is_stale(&error).await => {}
                Err(error) => return Err(error),
            }
        }
    }

    async fn stored_cursor(
        &self,
        source: &str,
        slice: &str,
    ) -> Result<Option<KnownCursor>, TablesError> {
        loop {
            match self.view().await?.cursor(source, slice).await {
                Ok(cursor) => {
                    return Ok(cursor.map(|cursor| KnownCursor {
                        generation: cursor.generation,
                        cursor: cursor.cursor,
                    }));
                }
                Err(error) if self.is_stale(&error).await => {}
                Err(error) => return Err(error),
            }
        }
    }
}

fn unknown(error: TablesError) -> KnownError {
    KnownError {
        source: Box::new(error),
    }
}

impl Known for KnownByTables {
    fn head<'a>(
        &'a self,
        source: &'a str,
        did: &'a Did,
    ) -> BoxFuture<'a, Result<Option<KnownHead>, KnownError>> {
        Box::pin(async move { self.stored_head(source, did).await.map_err(unknown) })
    }

    fn cursor<'a>(
        &'a self,
        source: &'a str,
        slice: &'a str,
    ) -> BoxFuture<'a, Result<Option<KnownCursor>, KnownError>> {
        Box::pin(async move { self.stored_cursor(source, slice).await.map_err(unknown) })
    }
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
