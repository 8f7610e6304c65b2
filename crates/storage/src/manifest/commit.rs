//! Committing: version N+1 as a function of the newest root, made again after a lost race.
//!
//! A commit happened when the root that holds its id was created and the newest manifest, read after that,
//! has no `floor` above it: else its number may have been collected and re-created (a phantom). Until then
//! nothing of what it built is used. Such a commit is made again if a precondition guards it, and is unknown
//! if none does. One that may have landed earlier is looked for in the chain before it is made again; where
//! collection has taken the place to look, the outcome is unknown.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use object_store::Error;
use tracing::{info, warn};

use crate::bucket::Bucket;
use crate::create::{Certainty, CreateError, create_surely};
use crate::frame::FormatError;
use crate::ids::{CommitId, Seq, Version, WriterId};
use crate::layout;
use crate::manifest::chain::{Chain, ChainError};
use crate::manifest::root::{CommitKind, Kept, Root, Took};
use crate::read::read;
use crate::retry::Backoff;

/// What a commit wants of the next root, given the newest one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// What the commit is made for.
    pub kind: CommitKind,
    /// What it takes of the log.
    pub took: Vec<Took>,
    /// The least floor; a higher one in the newest root stays.
    pub floor: Version,
    /// The least upload floor; a higher one in the newest root stays.
    pub upload_floor: Version,
    /// The least `merged`; higher entries of the newest root stay, and none is dropped.
    pub merged: BTreeMap<WriterId, Seq>,
    /// What is kept from here on: versions that the newest root can answer at.
    pub kept: Vec<Kept>,
    /// What the tables keep in the root.
    pub body: Bytes,
}

impl Draft {
    /// A draft that changes nothing of `newest`.
    pub fn following(newest: &Root, kind: CommitKind) -> Self {
        Self {
            kind,
            took: Vec::new(),
            floor: newest.floor,
            upload_floor: newest.upload_floor,
            merged: newest.merged.clone(),
            kept: newest.kept.clone(),
            body: newest.body.clone(),
        }
    }
}

/// A commit as a function of the newest root, with a precondition. Called again after each lost race.
#[async_trait]
pub trait Apply: Send {
    /// What the version after `newest` should be.
    async fn apply(&mut self, newest: &Root) -> Result<Draft, ApplyError>;
}

/// Why a commit can't be applied to the newest root.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// Its precondition does not hold there: others have done it, or have changed what it rests on.
    #[error("precondition of the commit does not hold any more")]
    Obsolete,
    /// It could not be worked out.
    #[error("commit can't be applied")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Why a commit was not made. Its uploads stay: only the collector deletes.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// Did not happen: its objects were made from a version that is too old. Make them again.
    #[error("objects made from version {base} are below the upload floor {upload_floor}")]
    BelowUploadFloor {
        /// The version that its maker had read.
        base: Version,
        /// The newest root's.
        upload_floor: Version,
    },
    /// Did not happen: see [`ApplyError::Obsolete`].
    #[error("precondition of the commit does not hold at version {newest}")]
    Obsolete {
        /// The version that it was applied to last.
        newest: Version,
    },
    /// Did not happen: it could not be worked out.
    #[error("commit can't be applied to version {newest}")]
    Failed {
        /// The version that it was applied to last.
        newest: Version,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Did not happen: it would keep a version that is condemned or never was.
    #[error("version {version} can't be kept: it was collected, or never was")]
    KeptGone {
        /// Which.
        version: Version,
    },
    /// Did not happen: a floor can't be above the newest version.
    #[error("floor {floor} is above the newest version {newest}")]
    FloorAbove {
        /// What the draft asks for.
        floor: Version,
        /// The newest version.
        newest: Version,
    },
    /// Did not happen: the root would be too large.
    #[error("root can't be encoded")]
    Encode(#[from] FormatError),
    /// Did not happen: the chain can't be read.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// Did not happen: the store refuses to write.
    #[error("store refuses to create manifest {version}")]
    Refused {
        /// Which.
        version: Version,
        /// The store's answer.
        source: Error,
    },
    /// Did not happen: others commit faster.
    #[error("others won {attempts} times in a row")]
    Outrun {
        /// How often it was tried.
        attempts: u32,
    },
    /// May have happened, or may at any later moment: look for `commit` in the chain, or re-read the chain
    /// and start again with what is found there.
    #[error("outcome of commit {commit} at version {version} is unknown")]
    Unknown {
        /// The commit's id, which the root holds if it happened.
        commit: CommitId,
        /// The version that it was tried as.
        version: Version,
    },
}

/// How many lost races in a row end a commit.
const ATTEMPTS_MAX: u32 = 1_000;

/// One commit through all its attempts.
struct Attempts<'a> {
    chain: &'a Chain,
    commit: CommitId,
    committer: &'a str,
    base: Version,
    /// The lowest version at which a PUT of ours may have landed without our knowing.
    unsure_from: Option<Version>,
}

enum Tried {
    Committed(Arc<Root>),
    /// Others were first.
    Lost,
}

impl Chain {
    /// Commits what `apply` makes of the newest root, and returns the new root once it is sure to be in the
    /// chain. `base` is the lowest version that the makers of its new objects had read
    /// ([`Version::NO_OBJECTS`] if it brings none).
    ///
    /// Costs two LISTs, at most two GETs and a PUT where nobody races. Dropping the future leaves the outcome unknown.
    ///
    /// # Errors
    /// [`CommitError::Unknown`] if it may have happened; it did not otherwise.
    pub async fn commit(
        &self,
        base: Version,
        committer: &str,
        apply: &mut dyn Apply,
    ) -> Result<Arc<Root>, CommitError> {
        let mut attempts = Attempts {
            chain: self,
            commit: CommitId(self.bucket().mint()),
            committer,
            base,
            unsure_from: None,
        };
        let mut backoff = Backoff::new(self.bucket(), self.bucket().settings().half_grace());
        let mut lost = 0;
        while lost < ATTEMPTS_MAX {
            match attempts.once(apply).await? {
                Tried::Committed(root) => {
                    info!(version = %root.version, kind = %root.kind, committer, "committed");
                    return Ok(root);
                }
                Tried::Lost => {
                    lost += 1;
                    let path = layout::manifest(base);
                    if !backoff
                        .wait(self.bucket(), "commit", &path, &"lost the race")
                        .await
                    {
                        break;
                    }
                }
            }
        }
        Err(CommitError::Outrun { attempts: lost })
    }
}

impl Attempts<'_> {
    async fn once(&mut self, apply: &mut dyn Apply) -> Result<Tried, CommitError> {
        let newest = self
            .chain
            .newest_root()
            .await
            .map_err(|error| self.lost(error))?;
        if let Some(root) = self.earlier().await? {
            return Ok(Tried::Committed(root));
        }
        if self.base < newest.upload_floor {
            return Err(CommitError::BelowUploadFloor {
                base: self.base,
                upload_floor: newest.upload_floor,
            });
        }
        let draft = apply.apply(&newest).await.map_err(|error| match error {
            ApplyError::Obsolete => CommitError::Obsolete {
                newest: newest.version,
            },
            ApplyError::Failed(source) => CommitError::Failed {
                newest: newest.version,
                source,
            },
        })?;
        let root = Arc::new(self.next(&newest, draft)?);
        let version = root.version;
        let bytes = root.encode()?;
        let (certainty, created) =
            create_surely(self.bucket(), &layout::manifest(version), bytes).await;
        if certainty == Certainty::FoundOut {
            self.unsure_at(version);
        }
        match created {
            Ok(()) => {}
            Err(CreateError::Taken { .. }) => return self.taken(version).await,
            Err(CreateError::Refused { source, .. }) => {
                return Err(CommitError::Refused { version, source });
            }
            Err(CreateError::TooLarge { .. } | CreateError::Unknown { .. }) => {
                return Err(self.unknown(version));
            }
        }
        self.check_floor(root).await
    }

    /// Something stands where we wanted to be. It is ours only if it holds our commit id.
    async fn taken(&mut self, version: Version) -> Result<Tried, CommitError> {
        let path = layout::manifest(version);
        match read(self.bucket(), &path).await {
            Ok(bytes) => {
                let there = self.chain.check(version, &bytes)?;
                if there.commit == self.commit {
                    self.unsure_at(version);
                    return self.check_floor(there).await;
                }
                Ok(Tried::Lost)
            }
            Err(Error::NotFound { .. }) => {
                self.unsure_at(version);
                Ok(Tried::Lost)
            }
            Err(_) => Err(self.unknown(version)),
        }
    }

    /// Reads the newest manifest: if its floor is above what we created, that number may have been collected before.
    async fn check_floor(&mut self, root: Arc<Root>) -> Result<Tried, CommitError> {
        let Ok(newest) = self.chain.newest_root().await else {
            return Err(self.unknown(root.version));
        };
        if newest.floor <= root.version {
            return Ok(Tried::Committed(root));
        }
        // Either the number had been collected and we created it again, or it was ours, and others have committed and
        // collected since. What a precondition guards is applied again and finds out; nothing guards a catalog's change.
        if root.kind == CommitKind::Catalog {
            return Err(self.unknown(root.version));
        }
        warn!(version = %root.version, floor = %newest.floor, "the floor has passed what was created: applied again");
        Ok(Tried::Lost)
    }

    /// The root that an earlier attempt of ours put into the chain without our knowing.
    async fn earlier(&self) -> Result<Option<Arc<Root>>, CommitError> {
        let Some(from) = self.unsure_from else {
            return Ok(None);
        };
        // It may have been in the chain and be collected since: a chain that can't tell leaves it unknown.
        self.chain
            .find(self.commit, from)
            .await
            .map_err(|_| self.unknown(from))
    }

    /// The next root: floors and `merged` only rise, and nothing is kept that may be gone.
    fn next(&self, newest: &Root, draft: Draft) -> Result<Root, CommitError> {
        for floor in [draft.floor, draft.upload_floor] {
            if floor > newest.version {
                return Err(CommitError::FloorAbove {
                    floor,
                    newest: newest.version,
                });
            }
        }
        let mut kept = draft.kept;
        kept.sort();
        // Of two entries of one name the one that lasts longer.
        kept.dedup_by(|later, kept| {
            let is_same = later.version == kept.version && later.name == kept.name;
            if is_same {
                kept.expires_us = kept.expires_us.max(later.expires_us);
            }
            is_same
        });
        if let Some(gone) = kept.iter().find(|kept| !newest.answers_at(kept.version)) {
            return Err(CommitError::KeptGone {
                version: gone.version,
            });
        }
        let mut merged = newest.merged.clone();
        for (writer, seq) in draft.merged {
            let entry = merged.entry(writer).or_insert(seq);
            *entry = seq.max(*entry);
        }
        Ok(Root {
            database: newest.database,
            version: newest.version.next(),
            commit: self.commit,
            committer: self.committer.to_owned(),
            kind: draft.kind,
            committed_us: self.bucket().clock().now_us(),
            took: draft.took,
            floor: draft.floor.max(newest.floor),
            upload_floor: draft.upload_floor.max(newest.upload_floor),
            merged,
            kept,
            body: draft.body,
        })
    }

    fn unsure_at(&mut self, version: Version) {
        let from = self.unsure_from.map_or(version, |from| from.min(version));
        self.unsure_from = Some(from);
    }

    fn unknown(&self, version: Version) -> CommitError {
        CommitError::Unknown {
            commit: self.commit,
            version,
        }
    }

    /// A chain that can't be read, while an earlier attempt may have landed, leaves the outcome unknown.
    fn lost(&self, error: ChainError) -> CommitError {
        match self.unsure_from {
            Some(version) => {
                warn!(%error, "chain can't be searched for an earlier attempt");
                self.unknown(version)
            }
            None => error.into(),
        }
    }

    fn bucket(&self) -> &Bucket {
        self.chain.bucket()
    }
}

#[cfg(test)]
#[path = "commit/tests.rs"]
mod tests;
