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
    /// The last commits of `dids` that `source` delivered, one answer each.
    fn heads<'a>(
        &'a self,
        source: &'a str,
        dids: &'a [Did],
    ) -> BoxFuture<'a, Result<Vec<Option<KnownHead>>, KnownError>>;

    /// Whether `source` said last that the account is active; none if it never said.
    fn is_active<'a>(
        &'a self,
        source: &'a str,
        did: &'a Did,
    ) -> BoxFuture<'a, Result<Option<bool>, KnownError>>;

    /// The cursor of a slice of a source.
    fn cursor<'a>(
        &'a self,
        source: &'a str,
        slice: &'a str,
    ) -> BoxFuture<'a, Result<Option<KnownCursor>, KnownError>>;

    /// From now on answers know what is durable now.
    fn renew(&self) -> BoxFuture<'_, ()>;
}

/// What a bucket's tables hold, read from one view that is opened when first asked, and again when it was collected or
/// has to be renewed.
///
/// What a run met of a source's repos is in its memory, so a view as old as the run is new enough for the others.
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

    /// The answer of the view at hand; of another one if that has been collected, which is forgotten then.
    async fn ask<T, F>(&self, question: impl Fn(Arc<ReadView>) -> F) -> Result<T, KnownError>
    where
        F: Future<Output = Result<T, TablesError>>,
    {
        loop {
            let view = self.view().await.map_err(unknown)?;
            match question(view).await {
                Err(error) if error.is_expired() => *self.view.lock().await = None,
                answer => return answer.map_err(unknown),
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
    fn heads<'a>(
        &'a self,
        source: &'a str,
        dids: &'a [Did],
    ) -> BoxFuture<'a, Result<Vec<Option<KnownHead>>, KnownError>> {
        Box::pin(async move {
            let question = |view: Arc<ReadView>| async move { view.heads(dids, source).await };
            let heads = self.ask(question).await?;
            let known = |head: tables::point::StoredHead| KnownHead {
                rev: head.rev,
                data: head.data,
            };
            Ok(heads.into_iter().map(|head| head.map(known)).collect())
        })
    }

    fn is_active<'a>(
        &'a self,
        source: &'a str,
        did: &'a Did,
    ) -> BoxFuture<'a, Result<Option<bool>, KnownError>> {
        Box::pin(async move {
            let question = |view: Arc<ReadView>| async move { view.is_active(did, source).await };
            self.ask(question).await
        })
    }

    fn cursor<'a>(
        &'a self,
        source: &'a str,
        slice: &'a str,
    ) -> BoxFuture<'a, Result<Option<KnownCursor>, KnownError>> {
        Box::pin(async move {
            let question = |view: Arc<ReadView>| async move { view.cursor(source, slice).await };
            let cursor = self.ask(question).await?;
            Ok(cursor.map(|cursor| KnownCursor {
                generation: cursor.generation,
                cursor: cursor.cursor,
            }))
        })
    }

    fn renew(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move { *self.view.lock().await = None })
    }
}

/// A bucket of which nothing is known: every source begins at its beginning.
#[derive(Clone, Copy, Debug, Default)]
pub struct NothingKnown;

impl Known for NothingKnown {
    fn heads<'a>(
        &'a self,
        _source: &'a str,
        dids: &'a [Did],
    ) -> BoxFuture<'a, Result<Vec<Option<KnownHead>>, KnownError>> {
        Box::pin(async { Ok(vec![None; dids.len()]) })
    }

    fn is_active<'a>(
        &'a self,
        _source: &'a str,
        _did: &'a Did,
    ) -> BoxFuture<'a, Result<Option<bool>, KnownError>> {
        Box::pin(async { Ok(None) })
    }

    fn cursor<'a>(
        &'a self,
        _source: &'a str,
        _slice: &'a str,
    ) -> BoxFuture<'a, Result<Option<KnownCursor>, KnownError>> {
        Box::pin(async { Ok(None) })
    }

    fn renew(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}
