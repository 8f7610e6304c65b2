//! Merges segments of one table, kind and partition into fewer, and leaves out what is marked.
//!
//! Invariant: a merge changes no answer. Marks that a flush sets on its inputs while it runs are carried to its
//! outputs through a map of rows when it commits, so that no delete is undone, and no merge is starved by flushes.
//! It commits only if its inputs are all still there.

mod kway;
mod plan;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use roaring::RoaringBitmap;
use storage::{Apply, ApplyError, CommitKind, Draft, Root};

pub use plan::{MergePlan, MergeSettings, plan};

use crate::error::TablesError;
use crate::publish::{self, Edit, Placed, failed};
use crate::segment::SegmentEntry;
use crate::view::Tables;

/// Where the rows of one input went: for each row its place in all output rows, [`GONE`] for those left out.
type RowMap = Vec<u32>;
const GONE: u32 = u32::MAX;

/// What a merge did.
#[derive(Debug)]
pub struct Merged {
    /// The version that it made.
    pub root: Arc<Root>,
    /// Bytes of its inputs.
    pub bytes_read: u64,
    /// Bytes of its outputs.
    pub bytes_written: u64,
}

/// Makes one merge: the first that is planned for the newest version; none if nothing is due or the race was lost.
///
/// # Errors
/// [`TablesError`] from the store or because an input is damaged. The inputs stay as they are.
pub async fn merge_once(
    tables: &Tables,
    committer: &str,
    settings: &MergeSettings,
) -> Result<Option<Merged>, TablesError> {
    let root = tables.chain().newest_root().await?;
    let set = tables.cache().segments(tables.bucket(), &root).await?;
    let Some(plan) = plan(&set, settings).into_iter().next() else {
        return Ok(None);
    };
    let mut work = MergeWork::prepare(tables.clone(), &root, plan, settings).await?;
    let bytes_read = work.inputs.iter().map(|input| input.entry.bytes).sum();
    let bytes_written = work.outputs.iter().map(|entry| entry.bytes).sum();
    match tables
        .chain()
        .commit(root.version, committer, &mut work)
        .await
    {
        Ok(root) => Ok(Some(Merged {
            root,
            bytes_read,
            bytes_written,
        })),
        Err(storage::CommitError::Obsolete { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[derive(Debug)]
struct Input {
    entry: Arc<SegmentEntry>,
    /// Its marks when the merge read it.
    marks: Arc<RoaringBitmap>,
    map: RowMap,
}

/// A merge that has uploaded its outputs.
#[derive(Debug)]
struct MergeWork {
    tables: Tables,
    inputs: Vec<Input>,
    outputs: Vec<Arc<SegmentEntry>>,
}

impl MergeWork {
    async fn prepare(
        tables: Tables,
        base: &Root,
        plan: MergePlan,
        settings: &MergeSettings,
    ) -> Result<Self, TablesError> {
        let def = Arc::clone(tables.def(&plan.table)?);
        let mut inputs = Vec::with_capacity(plan.inputs.len());
        for entry in plan.inputs {
            let marks = tables.cache().marks(tables.bucket(), &entry).await?;
            let map = vec![GONE; usize::try_from(entry.rows).unwrap_or(usize::MAX)];
            inputs.push(Input { entry, marks, map });
        }
        let written = kway::merge(
            &tables,
            &def,
            plan.kind,
            &mut inputs,
            settings.segment_bytes,
        )
        .await?;
        let placed = written
            .into_iter()
            .map(|written| Placed {
                def: Arc::clone(&def),
                kind: plan.kind,
                partition: plan.partition.clone(),
                written,
            })
            .collect();
        let outputs = publish::upload(&tables, base.version, placed)
            .await?
            .into_iter()
            .map(Arc::new)
            .collect();
        Ok(Self {
            tables,
            inputs,
            outputs,
        })
    }

    /// Carries the marks that were set on the inputs since they were read to the outputs.
    async fn carried(
        &self,
        newest: &BTreeMap<&str, &Arc<SegmentEntry>>,
    ) -> Result<BTreeMap<String, RoaringBitmap>, TablesError> {
        let mut carried: BTreeMap<String, RoaringBitmap> = BTreeMap::new();
        for input in &self.inputs {
            let Some(entry) = newest.get(input.entry.path.as_str()) else {
                continue;
            };
            let marks = self
                .tables
                .cache()
                .marks(self.tables.bucket(), entry)
                .await?;
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
        Ok(carried)
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
        if !self.inputs.iter().all(|input| set.has(&input.entry.path)) {
            return Err(ApplyError::Obsolete);
        }
        let by_path: BTreeMap<&str, &Arc<SegmentEntry>> = set
            .entries()
            .map(|entry| (entry.path.as_str(), entry))
            .collect();
        let marks = self.carried(&by_path).await.map_err(failed)?;
        let edit = Edit {
            removed: self
                .inputs
                .iter()
                .map(|input| input.entry.path.clone())
                .collect(),
            marks,
            added: self.outputs.clone(),
        };
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
