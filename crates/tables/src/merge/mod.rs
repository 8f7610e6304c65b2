//! Merges segments of one table, kind and partition into fewer, and leaves out what is marked.
//!
//! Invariant: a merge changes no answer. Where its table has got columns, rows of older inputs are shredded anew. Marks that a flush sets on its inputs while it runs are carried to its
//! outputs through a map of rows when it commits, so that no delete is undone, and no merge is starved by flushes.
//! It commits only if its inputs are all still there. Small merges share a commit.

mod kway;
mod plan;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use roaring::RoaringBitmap;
use storage::{Apply, ApplyError, CommitKind, Draft, Root};

pub use plan::{MergePlan, MergeSettings, plan};

use crate::error::TablesError;
use crate::manifest::SegmentSet;
use crate::publish::{self, Edit, Placed, failed};
use crate::reshred::is_outdated;
use crate::schema::Catalog;
use crate::segment::SegmentEntry;
use crate::view::Tables;

/// Where the rows of one input went: for each row its place in all output rows, [`GONE`] for those left out.
type RowMap = Vec<u32>;
const GONE: u32 = u32::MAX;

/// Inputs of one commit, bytes: beyond the first merge, others join it while they fit.
// Each commit writes the parts that it touches, so a commit for each small merge would write more parts than rows.
const COMMIT_BYTES_MAX: u64 = 64 << 20;

/// What one commit of merges did.
#[derive(Debug)]
pub struct Merged {
    /// The version that it made.
    pub root: Arc<Root>,
    /// How many merges it holds.
    pub merges: usize,
    /// Bytes of their inputs.
    pub bytes_read: u64,
    /// Bytes of their outputs.
    pub bytes_written: u64,
}

/// Makes the first merges that are planned for the newest version, in one commit; none if nothing is due or the race
/// was lost.
///
/// A merge that can't be made (an input is damaged, say) is passed over while others can; its inputs stay as they are.
///
/// # Errors
/// [`TablesError`] from the store, or because no merge that is due can be made.
pub async fn merge_once(
    tables: &Tables,
    committer: &str,
    settings: &MergeSettings,
) -> Result<Option<Merged>, TablesError> {
    let root = tables.chain().newest_root().await?;
    let set = tables.cache().segments(tables.bucket(), &root).await?;
    let mut work = MergeWork::new(tables.clone());
    let (mut bytes, mut failed) = (0, None);
    let catalog = tables.catalog(&set).await?;
    let mut plans = plan(&set, settings);
    plans.extend(outdated(&set, &catalog, &plans));
    for plan in plans {
        let plan_bytes: u64 = plan.inputs.iter().map(|entry| entry.bytes).sum();
        if !work.merges.is_empty() && bytes + plan_bytes > COMMIT_BYTES_MAX {
            break;
        }
        match work.prepare(&root, plan, settings).await {
            Ok(()) => bytes += plan_bytes,
            Err(error) if error.is_store() => return Err(error),
            Err(error) => {
                tracing::warn!(%error, "a merge can't be made");
                failed = Some(error);
            }
        }
    }
    if work.merges.is_empty() {
        return failed.map_or(Ok(None), Err);
    }
    match tables
        .chain()
        .commit(root.version, committer, &mut work)
        .await
    {
        Ok(root) => Ok(Some(work.merged(root))),
        Err(storage::CommitError::Obsolete { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The segments that are written anew alone because their table has columns by now for what they hold.
fn outdated(set: &SegmentSet, catalog: &Catalog, plans: &[MergePlan]) -> Vec<MergePlan> {
    let planned: HashSet<&str> = plans
        .iter()
        .flat_map(|plan| plan.inputs.iter().map(|entry| entry.path.as_str()))
        .collect();
    let mut outdated = Vec::new();
    for entry in set.entries() {
        let def = catalog.physical(&entry.table);
        if def.is_ok_and(|def| is_outdated(entry, def)) && !planned.contains(entry.path.as_str()) {
            outdated.push(MergePlan {
                table: entry.table.clone(),
                kind: entry.kind,
                partition: entry.partition.clone(),
                inputs: vec![Arc::clone(entry)],
            });
        }
    }
    outdated
}

#[derive(Debug)]
struct Input {
    entry: Arc<SegmentEntry>,
    /// Its marks when the merge read it.
    marks: Arc<RoaringBitmap>,
    map: RowMap,
}

/// One merge that has uploaded its outputs.
#[derive(Debug)]
struct Merge {
    inputs: Vec<Input>,
    outputs: Vec<Arc<SegmentEntry>>,
    /// Whether the last attempt to commit found all its inputs.
    is_due: bool,
}

/// Merges that are committed together.
#[derive(Debug)]
struct MergeWork {
    tables: Tables,
    merges: Vec<Merge>,
}

impl MergeWork {
    fn new(tables: Tables) -> Self {
        Self {
            tables,
            merges: Vec::new(),
        }
    }

    /// Makes a merge and uploads its outputs.
    async fn prepare(
        &mut self,
        base: &Root,
        plan: MergePlan,
        settings: &MergeSettings,
    ) -> Result<(), TablesError> {
        let tables = &self.tables;
        let set = tables.cache().segments(tables.bucket(), base).await?;
        let catalog = tables.catalog(&set).await?;
        let def = Arc::clone(catalog.physical(&plan.table)?);
        let mut inputs = Vec::with_capacity(plan.inputs.len());
        for entry in plan.inputs {
            let marks = tables.cache().marks(tables.bucket(), &entry).await?;
            let map = vec![GONE; usize::try_from(entry.rows).unwrap_or(usize::MAX)];
            inputs.push(Input { entry, marks, map });
        }
        let written =
            kway::merge(tables, &def, plan.kind, &mut inputs, settings.segment_bytes).await?;
        let placed = written
            .into_iter()
            .map(|written| Placed {
                def: Arc::clone(&def),
                kind: plan.kind,
                partition: plan.partition.clone(),
                written,
            })
            .collect();
        let outputs = publish::upload(tables, base.version, placed)
            .await?
            .into_iter()
            .map(Arc::new)
            .collect();
        self.merges.push(Merge {
            inputs,
            outputs,
            is_due: true,
        });
        Ok(())
    }

    fn merged(&self, root: Arc<Root>) -> Merged {
        let made = || self.merges.iter().filter(|merge| merge.is_due);
        Merged {
            root,
            merges: made().count(),
            bytes_read: made()
                .flat_map(|merge| &merge.inputs)
                .map(|input| input.entry.bytes)
                .sum(),
            bytes_written: made()
                .flat_map(|merge| &merge.outputs)
                .map(|entry| entry.bytes)
                .sum(),
        }
    }
}

impl Merge {
    /// Carries the marks that were set on the inputs since they were read to the outputs.
    async fn carried(
        &self,
        tables: &Tables,
        newest: &BTreeMap<&str, &Arc<SegmentEntry>>,
        carried: &mut BTreeMap<String, RoaringBitmap>,
    ) -> Result<(), TablesError> {
        for input in &self.inputs {
            let Some(entry) = newest.get(input.entry.path.as_str()) else {
                continue;
            };
            let marks = tables.cache().marks(tables.bucket(), entry).await?;
            for row in marks.as_ref() - input.marks.as_ref() {
                let Some(&place) = input.map.get(row as usize).filter(|place| **place != GONE)
                else {
                    continue;
                };
                if let Some((path, row)) = self.locate(u64::from(place)) {
                    carried.entry(path.to_owned()).or_default().insert(row);
                }
            }
        }
        Ok(())
    }

    /// The output and its row that hold output row `place`.
    fn locate(&self, mut place: u64) -> Option<(&str, u32)> {
        for output in &self.outputs {
            if place < output.rows {
                return Some((&output.path, u32::try_from(place).ok()?));
            }
            place -= output.rows;
        }
        None
    }
}

#[async_trait]
impl Apply for MergeWork {
    async fn apply(&mut self, newest: &Root) -> Result<Draft, ApplyError> {
        let set = self
            .tables
            .cache()
            .segments(self.tables.bucket(), newest)
            .await
            .map_err(failed)?;
        for merge in &mut self.merges {
            merge.is_due = merge.inputs.iter().all(|input| set.has(&input.entry.path));
        }
        if !self.merges.iter().any(|merge| merge.is_due) {
            return Err(ApplyError::Obsolete);
        }
        let by_path: BTreeMap<&str, &Arc<SegmentEntry>> = set
            .entries()
            .map(|entry| (entry.path.as_str(), entry))
            .collect();
        let mut edit = Edit::default();
        for merge in self.merges.iter().filter(|merge| merge.is_due) {
            merge
                .carried(&self.tables, &by_path, &mut edit.marks)
                .await
                .map_err(failed)?;
            let inputs = merge.inputs.iter().map(|input| input.entry.path.clone());
            edit.removed.extend(inputs);
            edit.added.extend(merge.outputs.iter().cloned());
        }
        let body = publish::apply(&self.tables, newest, edit)
            .await
            .map_err(failed)?;
        Ok(Draft {
            body,
            ..Draft::following(newest, CommitKind::Merge)
        })
    }
}

#[cfg(test)]
mod tests;
