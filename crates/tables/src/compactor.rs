//! One round of compaction: flush what is due, merge what is due, then move what came before its table. Any number of compactors may run on one bucket.

use std::sync::Arc;

use storage::Root;

use crate::error::TablesError;
use crate::flush::{Blocked, FlushSettings, flush};
use crate::merge::{MergeSettings, merge_once};
use crate::reproject::{ReprojectSettings, reproject_once};
use crate::view::Tables;

/// When a compactor flushes and merges.
#[derive(Clone, Copy, Debug, Default)]
pub struct CompactorSettings {
    /// Flushing.
    pub flush: FlushSettings,
    /// Merging.
    pub merge: MergeSettings,
    /// Moving records into tables that came after them.
    pub reproject: ReprojectSettings,
}

/// What one round did.
#[derive(Debug, Default)]
pub struct Round {
    /// The newest version that it made.
    pub root: Option<Arc<Root>>,
    /// Log objects flushed.
    pub objects: usize,
    /// Merges made.
    pub merges: usize,
    /// Bytes that merges read.
    pub bytes_read: u64,
    /// Bytes that merges wrote.
    pub bytes_written: u64,
    /// Records and tombstones moved into their table.
    pub reprojected: u64,
    /// Log objects that stop their writers' merging.
    pub blocked: Vec<Blocked>,
}

/// Commits of merges in one round at most, so that a flush never waits long behind them.
const MERGE_COMMITS_MAX: usize = 4;

/// Commits that move records in one round at most.
const REPROJECT_COMMITS_MAX: usize = 4;

/// Flushes, merges and re-projects; holds nothing but its name and its settings.
#[derive(Clone, Debug)]
pub struct Compactor {
    tables: Tables,
    committer: String,
    settings: CompactorSettings,
}

impl Compactor {
    /// A compactor that signs its commits as `committer`.
    #[must_use]
    pub fn new(tables: Tables, committer: String, settings: CompactorSettings) -> Self {
        Self {
            tables,
            committer,
            settings,
        }
    }

    /// Flushes the tails that are due, makes up to a few merges, and moves some records that came before their table.
    ///
    /// # Errors
    /// [`TablesError`] from the store or because of damage; what was committed before it stays.
    pub async fn run_once(&self) -> Result<Round, TablesError> {
        let mut round = Round::default();
        loop {
            let flushed = flush(&self.tables, &self.committer, self.settings.flush).await?;
            round.objects += flushed.objects;
            round.blocked = flushed.blocked;
            round.root = flushed.root.or(round.root);
            if !flushed.more {
                break;
            }
        }
        for _ in 0..MERGE_COMMITS_MAX {
            let Some(merged) =
                merge_once(&self.tables, &self.committer, &self.settings.merge).await?
            else {
                break;
            };
            round.merges += merged.merges;
            round.bytes_read += merged.bytes_read;
            round.bytes_written += merged.bytes_written;
            round.root = Some(merged.root);
        }
        // Last, so that what can't be moved (damage) holds up nothing else.
        for _ in 0..REPROJECT_COMMITS_MAX {
            let moving = reproject_once(&self.tables, &self.committer, &self.settings.reproject);
            let Some(moved) = Box::pin(moving).await? else {
                break;
            };
            round.reprojected += moved.records + moved.tombstones;
            round.root = Some(moved.root);
        }
        Ok(round)
    }
}
