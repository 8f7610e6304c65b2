//! What the bucket says of the work on resyncs: what is not done, and up to which rev a repo is known.
//!
//! Each answer comes from one view; one that was collected meanwhile is opened anew.

use atproto::{Did, Tid};
use tables::error::TablesError;
use tables::resyncs::OpenResyncs;
use tables::view::{ReadView, Tables};

/// Where the heads of a source's repos, and the floors of resyncs, are found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scope<'a> {
    /// The name of the heads.
    pub(super) heads: &'a str,
    /// The text of the floors' coverage.
    pub(super) coverage: &'a str,
}

/// One view, kept for as long as it can be read.
#[derive(Debug)]
pub(super) struct Stored {
    tables: Tables,
    view: Option<ReadView>,
}

impl Stored {
    /// What `tables` hold when it is asked first.
    pub(super) fn new(tables: Tables) -> Self {
        Self { tables, view: None }
    }

    async fn view(&mut self) -> Result<&ReadView, TablesError> {
        let view = match self.view.take() {
            Some(view) => view,
            None => ReadView::open(&self.tables).await?,
        };
        Ok(self.view.insert(view))
    }

    /// The resyncs that are not done, behind the key `after`.
    pub(super) async fn open_resyncs(
        &mut self,
        after: Option<&[u8]>,
        notices_max: usize,
    ) -> Result<OpenResyncs, TablesError> {
        loop {
            match self.view().await?.open_resyncs(after, notices_max).await {
                Err(error) if error.is_expired() => self.view = None,
                found => return found,
            }
        }
    }

    /// Up to which rev each repo is known: by its head, or by the floor of a resync.
    pub(super) async fn revs(
        &mut self,
        dids: &[Did],
        scope: Scope<'_>,
    ) -> Result<Vec<Option<Tid>>, TablesError> {
        loop {
            match revs(self.view().await?, dids, scope).await {
                Err(error) if error.is_expired() => self.view = None,
                found => return found,
            }
        }
    }
}

async fn revs(
    view: &ReadView,
    dids: &[Did],
    scope: Scope<'_>,
) -> Result<Vec<Option<Tid>>, TablesError> {
    let heads = view.heads(dids, scope.heads).await?;
    let floors = view.floors(dids, scope.coverage).await?;
    let revs = heads.into_iter().zip(floors);
    Ok(revs
        .map(|(head, floor)| head.map(|head| head.rev).max(floor))
        .collect())
}
