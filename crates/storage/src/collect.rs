//! Collection: a commit condemns, and only then is anything deleted.
//!
//! The collector alone deletes. It commits a higher `floor` and `upload_floor` and drops expired `kept`
//! entries; then it deletes (a) manifests below the floor that are not kept, oldest first, (b) objects whose
//! base is below the upload floor and that no manifest from the floor on, nor a kept one, names, (c) log
//! objects at or below the `merged` of a manifest that is at or above the floor and older than the grace,
//! whenever they appear. Any number of collectors may run; what can't be read is a reason to delete nothing.

mod plan;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::{StreamExt, stream};
use object_store::path::Path;
use object_store::{Error, ObjectStoreExt};
use tracing::{info, warn};

use crate::bucket::{Bucket, Settings};
use crate::clock::micros;
use crate::ids::{Seq, Version, WriterId};
use crate::log::{ListError, list_log_whole};
use crate::manifest::{
    Apply, ApplyError, Chain, ChainError, CommitError, CommitKind, Draft, Listed, Root,
};
use crate::read::{last_modified_us, list};
use crate::{layout, retry};

use plan::{Condemned, condemn, merged_by};

/// Tells which objects a root names, itself and through what it names.
#[async_trait]
pub trait Named: Send + Sync {
    /// All objects that a view of `root` may read, the log's apart. An error makes the collector delete none.
    async fn names(
        &self,
        root: &Root,
    ) -> Result<HashSet<Path>, Box<dyn std::error::Error + Send + Sync>>;
}

/// How old what is collected must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// For how long a version answers after the next one came.
    pub retention: Duration,
    /// For how long a merged log object, or what a slow maker may be uploading, is left alone.
    pub grace: Duration,
    /// Whether only to count what would go. Nothing is committed or deleted then.
    pub is_dry: bool,
}

impl From<&Settings> for Policy {
    fn from(settings: &Settings) -> Self {
        Self {
            retention: settings.retention,
            grace: settings.grace,
            is_dry: false,
        }
    }
}

/// What one round of collection did, or would do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// The version that condemned, if there was anything to condemn.
    pub committed: Option<Version>,
    /// The floor that the deletions went by.
    pub floor: Version,
    /// The upload floor that they went by.
    pub upload_floor: Version,
    /// How many manifests.
    pub manifests: u64,
    /// How many objects that no manifest names.
    pub objects: u64,
    /// How many merged log objects.
    pub log_objects: u64,
    /// How many left-overs of probes.
    pub probes: u64,
    /// The bytes of all of these.
    pub bytes: u64,
}

/// Why a round of collection ended early. What it deleted until then could go.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// The commit that condemns was not made: nothing was deleted.
    #[error("condemning commit was not made")]
    Commit(#[from] CommitError),
    /// The chain can't be read.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The log can't be listed.
    #[error(transparent)]
    Log(#[from] ListError),
    /// What a version names can't be told: no object was deleted.
    #[error("objects that version {version} names can't be told")]
    Named {
        /// Which.
        version: Version,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The store did not list or delete.
    #[error("store failed while collecting")]
    Store(#[from] Error),
}

/// Runs one round. Costs a commit where there is something to condemn, a LIST of every folder, what `named`
/// reads, and the deletions.
///
/// # Errors
/// See [`CollectError`]. The next round does what this one left.
pub async fn collect(
    bucket: &Bucket,
    chain: &Chain,
    policy: Policy,
    committer: &str,
    named: &dyn Named,
) -> Result<Collected, CollectError> {
    let mut round = Round {
        bucket,
        chain,
        policy,
        collected: Collected::default(),
    };
    let (root, versions) = round.condemn(committer).await?;
    let names = round.names(&root, &versions, named).await;
    round.manifests(&root, &versions).await?;
    round.log(&root, &versions).await?;
    round.probes().await?;
    round.objects(&root, &names?).await?;
    info!(?policy, collected = ?round.collected, "collected");
    Ok(round.collected)
}

struct Round<'a> {
    bucket: &'a Bucket,
    chain: &'a Chain,
    policy: Policy,
    collected: Collected,
}

/// Condemns again whatever is newest.
struct Condemn<'a> {
    bucket: &'a Bucket,
    condemned: Condemned,
}

#[async_trait]
impl Apply for Condemn<'_> {
    async fn apply(&mut self, newest: &Root) -> Result<Draft, ApplyError> {
        let now_us = self.bucket.clock().now_us();
        let mut draft = Draft::following(newest, CommitKind::Collect);
        draft.floor = self.condemned.floor;
        draft.upload_floor = self.condemned.upload_floor;
        draft.kept.retain(|kept| kept.expires_us > now_us);
        Ok(draft)
    }
}

impl Round<'_> {
    /// Commits higher floors where there is something below them; returns the root to go by, and the versions
    /// of the LIST in which it was newest.
    async fn condemn(&mut self, committer: &str) -> Result<(Arc<Root>, Vec<Listed>), CollectError> {
        let (newest, versions) = self.chain.open().await?;
        let now_us = self.bucket.clock().now_us();
        let condemned = condemn(&newest, &versions, self.policy, now_us);
        let opened = if !condemned.is_worth_a_commit {
            (newest, versions)
        } else if self.policy.is_dry {
            let mut kept = newest.kept.clone();
            kept.retain(|kept| kept.expires_us > now_us);
            let root = Root {
                floor: condemned.floor,
                upload_floor: condemned.upload_floor,
                kept,
                ..(*newest).clone()
            };
            (Arc::new(root), versions)
        } else {
            let mut apply = Condemn {
                bucket: self.bucket,
                condemned,
            };
            let root = self
                .chain
                .commit(Version::NO_OBJECTS, committer, &mut apply)
                .await?;
            self.collected.committed = Some(root.version);
            // Opened again, after the commit: what is committed from here on can name nothing that this root
            // condemns. And not `root` but the newest tells what is a phantom: others collect too.
            self.chain.open().await?
        };
        self.collected.floor = opened.0.floor;
        self.collected.upload_floor = opened.0.upload_floor;
        Ok(opened)
    }

    /// What manifests from the floor on, and the kept ones, name.
    async fn names(
        &self,
        root: &Root,
        versions: &[Listed],
        named: &dyn Named,
    ) -> Result<HashSet<Path>, CollectError> {
        let mut names = HashSet::new();
        let mut expected = root.floor.max(Version::GENESIS.next());
        let is_listed = |version| versions.iter().any(|listed| listed.version == version);
        if let Some(kept) = root.kept.iter().find(|kept| !is_listed(kept.version)) {
            let version = kept.version;
            return Err(ChainError::Collected { version }.into());
        }
        for listed in versions
            .iter()
            .filter(|listed| root.answers_at(listed.version))
        {
            let version = listed.version;
            if version >= expected {
                // No version from the floor on is ever missing: a LIST that has a hole is not to be trusted.
                if version > expected {
                    return Err(ChainError::Collected { version: expected }.into());
                }
                expected = version.next();
            }
            let read = self.chain.load(listed).await?;
            let more = named.names(&read).await;
            names.extend(more.map_err(|source| CollectError::Named { version, source })?);
        }
        Ok(names)
    }

    /// (a), oldest first, so that a LIST that is no snapshot never shows an old version as the newest.
    async fn manifests(&mut self, root: &Root, versions: &[Listed]) -> Result<(), CollectError> {
        for listed in versions
            .iter()
            .filter(|listed| !root.answers_at(listed.version))
        {
            self.delete(vec![(layout::manifest(listed.version), listed.size)])
                .await?;
            self.collected.manifests += 1;
        }
        Ok(())
    }

    /// (b)
    async fn objects(&mut self, root: &Root, names: &HashSet<Path>) -> Result<(), CollectError> {
        for folder in layout::NAMED.map(Path::from) {
            let metas = list(self.bucket, &folder, None).await?;
            let condemned = metas.into_iter().filter(|meta| {
                let is_below =
                    layout::base_of(&meta.location).is_some_and(|base| base < root.upload_floor);
                is_below && !names.contains(&meta.location)
            });
            let condemned: Vec<_> = condemned.map(|meta| (meta.location, meta.size)).collect();
            self.collected.objects += condemned.len() as u64;
            self.delete(condemned).await?;
        }
        Ok(())
    }

    /// (c)
    async fn log(&mut self, root: &Root, versions: &[Listed]) -> Result<(), CollectError> {
        let now_us = self.bucket.clock().now_us();
        let merged = self.merged_for_long(root, versions, now_us).await?;
        let listing = list_log_whole(self.bucket).await?;
        let mut condemned = Vec::new();
        for (writer, objects) in &listing.writers {
            let Some(&last) = merged.get(writer) else {
                continue;
            };
            for (&seq, info) in objects.range(..=last) {
                let position = crate::ids::Position {
                    writer: *writer,
                    seq,
                };
                condemned.push((layout::wal_object(position), info.size));
            }
        }
        self.collected.log_objects += condemned.len() as u64;
        self.delete(condemned).await
    }

    /// `merged` of the newest version that is at or above the floor and older than the grace.
    async fn merged_for_long(
        &self,
        root: &Root,
        versions: &[Listed],
        now_us: i64,
    ) -> Result<BTreeMap<WriterId, Seq>, CollectError> {
        let old = merged_by(root, versions, self.policy, now_us);
        match old {
            Some(listed) => Ok(self.chain.load(listed).await?.merged.clone()),
            None => Ok(BTreeMap::new()),
        }
    }

    async fn probes(&mut self) -> Result<(), CollectError> {
        let before_us = self
            .bucket
            .clock()
            .now_us()
            .saturating_sub(micros(self.policy.grace));
        let metas = list(self.bucket, &Path::from(layout::PROBE), None).await?;
        let old = metas
            .into_iter()
            .filter(|meta| last_modified_us(meta) < before_us);
        let old: Vec<_> = old.map(|meta| (meta.location, meta.size)).collect();
        self.collected.probes += old.len() as u64;
        self.delete(old).await
    }

    /// Deletes all of `condemned`, in no order; what is gone already is fine.
    async fn delete(&mut self, condemned: Vec<(Path, u64)>) -> Result<(), CollectError> {
        self.collected.bytes += condemned.iter().map(|(_, size)| size).sum::<u64>();
        if self.policy.is_dry || condemned.is_empty() {
            return Ok(());
        }
        if let [(path, _)] = condemned.as_slice() {
            return self.delete_one(path).await;
        }
        let paths = condemned
            .iter()
            .map(|(path, _)| Ok(path.clone()))
            .collect::<Vec<_>>();
        let mut deleted = self
            .bucket
            .store()
            .delete_stream(stream::iter(paths).boxed());
        let mut failed = None;
        while let Some(one) = deleted.next().await {
            if let Err(error) = one
                && !matches!(error, Error::NotFound { .. })
            {
                failed = Some(error);
            }
        }
        let Some(error) = failed else {
            return Ok(());
        };
        warn!(%error, "bulk deletion failed: deleting one by one");
        for (path, _) in &condemned {
            self.delete_one(path).await?;
        }
        Ok(())
    }

    async fn delete_one(&self, path: &Path) -> Result<(), CollectError> {
        let delete = || self.bucket.store().delete(path);
        match retry::retrying(self.bucket, "delete", path, delete).await {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
