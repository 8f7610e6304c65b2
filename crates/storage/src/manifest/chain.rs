//! Reading the chain: which version is newest, and its root.
//!
//! The newest version is the least name of a LIST, never found by probing forward: a stalled committer can
//! re-create a number that was collected. For the same reason a root is read with `If-Match` of the ETag
//! that the LIST showed, and an opening that took more than half the grace begins again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use object_store::Error;
use object_store::path::Path;
use tracing::{info, warn};

use crate::bucket::Bucket;
use crate::frame::FormatError;
use crate::ids::{CommitId, Version};
use crate::layout;
use crate::manifest::root::{ROOT_BYTES_MAX, Root, decode_root};
use crate::read::{last_modified_us, list, read_if_match};

/// How much of roots is kept, by their encoded size.
const CACHE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How often an opening that the collector outran begins again. Each time a whole LIST was outdated at once.
const OPENINGS_MAX: u32 = 16;

/// A version as a LIST showed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Which.
    pub version: Version,
    /// What tells this object from one that was collected and created again.
    pub e_tag: Option<String>,
    /// Its bytes.
    pub size: u64,
    /// When the store says that it was written, µs since the epoch.
    pub last_modified_us: i64,
}

/// Why the chain was not read.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// The version that was listed is gone, or another object stands in its place: list again.
    #[error("manifest {version} was collected after it was listed")]
    Collected {
        /// Which.
        version: Version,
    },
    /// The root is not what its committer wrote.
    #[error("manifest {version} is damaged; restore {path} from a backup")]
    Damaged {
        /// Which.
        version: Version,
        /// Where.
        path: Path,
        /// What is wrong.
        source: FormatError,
    },
    /// The root says that it belongs to another database or version.
    #[error("manifest {version} belongs elsewhere: it was copied here; remove {path}")]
    Foreign {
        /// Which.
        version: Version,
        /// Where.
        path: Path,
    },
    /// A newer version of the software wrote it.
    #[error(
        "manifest {version} has format {found}, this version knows formats up to {known}; use a newer alluvium"
    )]
    NewerFormat {
        /// Which.
        version: Version,
        /// The object's format.
        found: u32,
        /// The newest that this version knows.
        known: u32,
    },
    /// Whatever was listed was collected before it could be read, again and again.
    #[error("manifests are collected faster than they can be read")]
    Outrun,
    /// The store did not answer.
    #[error("manifests can't be read")]
    Store(#[from] Error),
}

/// The manifest chain of a bucket, with the roots that were read lately. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Chain {
    bucket: Bucket,
    cache: Arc<Mutex<Cache>>,
}

#[derive(Debug, Default)]
struct Cache {
    roots: BTreeMap<(Version, Option<String>), Cached>,
    bytes: usize,
}

#[derive(Debug)]
struct Cached {
    root: Arc<Root>,
    bytes: usize,
}

impl Chain {
    /// The chain of `bucket`. Costs no request.
    pub fn new(bucket: Bucket) -> Self {
        Self {
            bucket,
            cache: Arc::default(),
        }
    }

    /// The bucket.
    pub fn bucket(&self) -> &Bucket {
        &self.bucket
    }

    /// The newest version: one LIST. `None` where nobody has committed.
    ///
    /// # Errors
    /// The store's, after retries.
    pub async fn newest(&self) -> Result<Option<Listed>, ChainError> {
        Ok(self.versions().await?.pop())
    }

    /// All versions that are there, oldest first: one LIST. Those below the newest root's floor that it does
    /// not keep may be phantoms: numbers that were collected and created again.
    ///
    /// # Errors
    /// The store's, after retries.
    pub async fn versions(&self) -> Result<Vec<Listed>, ChainError> {
        let metas = list(&self.bucket, &Path::from(layout::MANIFEST), None).await?;
        let mut versions: Vec<_> = metas
            .iter()
            .filter_map(|meta| {
                let Some(version) = layout::version_of(&meta.location) else {
                    warn!(path = %meta.location, "no manifest: ignored");
                    return None;
                };
                Some(Listed {
                    version,
                    e_tag: meta.e_tag.clone(),
                    size: meta.size,
                    last_modified_us: last_modified_us(meta),
                })
            })
            .collect();
        // A store promises no order of a LIST.
        versions.sort_by_key(|listed| listed.version);
        Ok(versions)
    }

    /// The root of a listed version: one GET with `If-Match`, or none where it was read before.
    ///
    /// # Errors
    /// [`ChainError::Collected`] if another object stands there by now.
    pub async fn load(&self, listed: &Listed) -> Result<Arc<Root>, ChainError> {
        let key = (listed.version, listed.e_tag.clone());
        // Without an ETag nothing tells a phantom from what was read.
        if listed.e_tag.is_some()
            && let Some(cached) = self.cache().roots.get(&key)
        {
            return Ok(Arc::clone(&cached.root));
        }
        let version = listed.version;
        let path = layout::manifest(version);
        if listed.size > ROOT_BYTES_MAX as u64 {
            let source = FormatError::TooLarge {
                bytes: listed.size,
                bytes_max: ROOT_BYTES_MAX as u64,
            };
            return Err(ChainError::Damaged {
                version,
                path,
                source,
            });
        }
        let bytes = match read_if_match(&self.bucket, &path, listed.e_tag.as_deref()).await {
            Ok(bytes) => bytes,
            Err(Error::NotFound { .. } | Error::Precondition { .. }) => {
                return Err(ChainError::Collected { version });
            }
            Err(source) => return Err(source.into()),
        };
        let root = self.check(version, &bytes)?;
        self.cache().insert(key, Arc::clone(&root), bytes.len());
        Ok(root)
    }

    /// The root of the newest version: one LIST, and one GET where it was not read before. Version 0 where
    /// nobody has committed.
    ///
    /// # Errors
    /// See [`ChainError`].
    pub async fn newest_root(&self) -> Result<Arc<Root>, ChainError> {
        Ok(self.open().await?.0)
    }

    /// The newest root, and the versions that the LIST showed in which it was newest, oldest first. Of these,
    /// the ones from its floor on, and those it keeps, are in the chain; others may be phantoms.
    ///
    /// # Errors
    /// See [`ChainError`].
    pub async fn open(&self) -> Result<(Arc<Root>, Vec<Listed>), ChainError> {
        for _ in 0..OPENINGS_MAX {
            let started_us = self.bucket.clock().now_us();
            let versions = self.versions().await?;
            let root = match versions.last() {
                None => Arc::new(Root::genesis(self.bucket.database())),
                Some(listed) => match self.load(listed).await {
                    Ok(root) => root,
                    Err(ChainError::Collected { version }) => {
                        info!(%version, "manifest collected while it was opened: listing again");
                        continue;
                    }
                    Err(error) => return Err(error),
                },
            };
            if !self.bucket.is_past_half_grace(started_us) {
                return Ok((root, versions));
            }
            warn!(version = %root.version, "opening took more than half the grace: listing again");
        }
        Err(ChainError::Outrun)
    }

    /// The root that `commit` made, at `from` or above, if it is in the chain: one LIST and a GET for each
    /// version from there on that was not read before.
    ///
    /// # Errors
    /// [`ChainError::Collected`] if it is not found and a version from `from` on was collected: nobody can tell.
    pub async fn find(
        &self,
        commit: CommitId,
        from: Version,
    ) -> Result<Option<Arc<Root>>, ChainError> {
        for _ in 0..OPENINGS_MAX {
            let (newest, versions) = self.open().await?;
            let floor = newest.floor;
            let mut is_outdated = false;
            for listed in versions
                .iter()
                .rev()
                .take_while(|listed| listed.version >= from.max(floor))
            {
                match self.load(listed).await {
                    Ok(root) if root.commit == commit => return Ok(Some(root)),
                    Ok(_) => {}
                    Err(ChainError::Collected { .. }) => is_outdated = true,
                    Err(error) => return Err(error),
                }
            }
            if floor > from {
                return Err(ChainError::Collected { version: from });
            }
            if !is_outdated {
                return Ok(None);
            }
        }
        Err(ChainError::Outrun)
    }

    /// Decodes a root and checks that it belongs to `version` of this database.
    pub(crate) fn check(&self, version: Version, bytes: &[u8]) -> Result<Arc<Root>, ChainError> {
        let path = layout::manifest(version);
        match decode_root(bytes) {
            Ok(root) if root.version == version && root.database == self.bucket.database() => {
                Ok(Arc::new(root))
            }
            Ok(_) => Err(ChainError::Foreign { version, path }),
            Err(FormatError::NewerFormat { found, known }) => Err(ChainError::NewerFormat {
                version,
                found,
                known,
            }),
            Err(source) => Err(ChainError::Damaged {
                version,
                path,
                source,
            }),
        }
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, Cache> {
        // The cache is whole between any two statements that touch it.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cache {
    fn insert(&mut self, key: (Version, Option<String>), root: Arc<Root>, bytes: usize) {
        if let Some(old) = self.roots.insert(key, Cached { root, bytes }) {
            self.bytes -= old.bytes;
        }
        self.bytes += bytes;
        while self.bytes > CACHE_BYTES_MAX
            && let Some((_, oldest)) = self.roots.pop_first()
        {
            self.bytes -= oldest.bytes;
        }
    }
}

#[cfg(test)]
#[path = "chain/tests.rs"]
mod tests;
