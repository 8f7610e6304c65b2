//! The commit that adds Lexicons: applied again to the newest root after a lost race, so two that race both end up in it.
//!
//! Nothing guards it, so where nobody can tell whether it happened it is [`AddError::Unknown`]; since Lexicons that are
//! there already are passed over, adding them again is always right.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use storage::{Apply, ApplyError, CommitError, CommitId, CommitKind, Draft, Root, Version, layout};

use super::{encode_catalog, read};
use crate::error::TablesError;
use crate::lexicon::LexiconDoc;
use crate::manifest::{Body, CATALOG_BYTES_MAX, CatalogRef, encode_body};
use crate::schema::Catalog;
use crate::view::{Tables, physical_name};

/// Columns that one table may have: a segment's footer grows with each, and so does the entry of every segment.
const COLUMNS_MAX: usize = 1_000;
/// Tables of records that one bucket may have: a root names those that are being filled.
const TABLES_MAX: usize = 1_000;

/// What adding came to.
#[derive(Debug)]
pub struct Added {
    /// The version from which on they are there; none if they were there already.
    pub root: Option<Arc<Root>>,
    /// The NSIDs of those that were not there, or were another version of it.
    pub lexicons: Vec<String>,
}

/// Why Lexicons were not added.
#[derive(Debug, thiserror::Error)]
pub enum AddError {
    /// Two of one name: which of them should hold?
    #[error("{id} is given twice; give one of them")]
    Twice {
        /// The NSID.
        id: String,
    },
    /// Its table would have too many columns.
    #[error(
        "{id} makes {columns} columns, at most {COLUMNS_MAX} are possible; put some of its properties into one of type unknown"
    )]
    TooWide {
        /// The NSID.
        id: String,
        /// How many.
        columns: usize,
    },
    /// The bucket would have too many tables.
    #[error("the bucket would have {tables} types of records, at most {TABLES_MAX} are possible")]
    TooMany {
        /// How many.
        tables: usize,
    },
    /// All that were added would be too much for one object.
    #[error(
        "the bucket's Lexicons would take {bytes} bytes, at most {CATALOG_BYTES_MAX} are possible"
    )]
    TooLarge {
        /// How many.
        bytes: u64,
    },
    /// May have happened, or may at any later moment: add them again, those that are there are passed over.
    #[error(
        "it is unknown whether the Lexicons were added (commit {commit}); add them again: those that are there are passed over"
    )]
    Unknown {
        /// The commit's id, which the root holds if it happened.
        commit: CommitId,
        /// The version that it was tried as.
        version: Version,
    },
    /// Did not happen: the tables can't be read or written.
    #[error(transparent)]
    Tables(Box<TablesError>),
    /// Did not happen: no commit could be made.
    #[error("the Lexicons were not added")]
    Commit {
        /// Why.
        source: CommitError,
    },
}

impl From<TablesError> for AddError {
    fn from(source: TablesError) -> Self {
        Self::Tables(Box::new(source))
    }
}

/// Adds Lexicons, which may refer to one another, to the bucket's tables.
///
/// A record becomes a table, or gets columns in the table that it has. Costs a commit and a PUT.
///
/// # Errors
/// [`AddError::Unknown`] if it may have happened; it did not otherwise.
pub async fn add(
    tables: &Tables,
    committer: &str,
    docs: Vec<LexiconDoc>,
) -> Result<Added, AddError> {
    let mut ids = BTreeSet::new();
    if let Some(twice) = docs.iter().find(|doc| !ids.insert(doc.id())) {
        return Err(AddError::Twice {
            id: twice.id().to_owned(),
        });
    }
    let mut work = AddWork {
        tables: tables.clone(),
        docs,
        fresh: Vec::new(),
    };
    // The catalog is uploaded anew, from the newest version, each time that the commit is applied.
    let root = tables.chain().newest_root().await;
    let base = root.map_err(TablesError::from)?.version;
    match tables.chain().commit(base, committer, &mut work).await {
        Ok(root) => Ok(Added {
            root: Some(root),
            lexicons: work.fresh,
        }),
        Err(CommitError::Obsolete { .. }) => Ok(Added {
            root: None,
            lexicons: Vec::new(),
        }),
        Err(CommitError::Unknown { commit, version }) => Err(AddError::Unknown { commit, version }),
        Err(CommitError::Failed { newest, source }) => Err(match source.downcast::<AddError>() {
            Ok(error) => *error,
            Err(source) => AddError::Commit {
                source: CommitError::Failed { newest, source },
            },
        }),
        Err(source) => Err(AddError::Commit { source }),
    }
}

struct AddWork {
    tables: Tables,
    docs: Vec<LexiconDoc>,
    /// Those that the last version that it was applied to lacked.
    fresh: Vec<String>,
}

impl AddWork {
    /// The body of the version after `newest`; none if all of them are there.
    async fn body(&mut self, newest: &Root) -> Result<Option<Body>, AddError> {
        let bucket = self.tables.bucket();
        let set = self.tables.cache().segments(bucket, newest).await?;
        let before = self.tables.catalog(&set).await?;
        let is_there = |doc: &LexiconDoc| {
            before
                .lexicon(doc.id())
                .is_some_and(|known| known.source() == doc.source())
        };
        let fresh: Vec<LexiconDoc> = self
            .docs
            .iter()
            .filter(|doc| !is_there(doc))
            .cloned()
            .collect();
        self.fresh = fresh.iter().map(|doc| doc.id().to_owned()).collect();
        if fresh.is_empty() {
            return Ok(None);
        }
        let mut additions = match set.catalog() {
            Some(named) => read(bucket, named).await?,
            None => Vec::new(),
        };
        additions.push(fresh.iter().map(|doc| doc.source().to_string()).collect());
        let after = before.with_lexicons(fresh);
        check(&after)?;
        let mut waiting = set
            .catalog()
            .map(|catalog| catalog.waiting.clone())
            .unwrap_or_default();
        if !set.of_table(&physical_name(after.untyped())).is_empty() {
            let had: BTreeSet<&str> = before.collections().collect();
            let new = after.collections().filter(|name| !had.contains(name));
            waiting.extend(new.map(str::to_owned));
        }
        let catalog = self.upload(newest.version, &additions, waiting).await?;
        let parts = set.parts().iter().map(|part| part.reference.clone());
        Ok(Some(Body {
            parts: parts.collect(),
            catalog: Some(catalog),
        }))
    }

    async fn upload(
        &self,
        base: Version,
        additions: &[Vec<String>],
        waiting: BTreeSet<String>,
    ) -> Result<CatalogRef, AddError> {
        let bytes = encode_catalog(additions);
        if bytes.len() as u64 > CATALOG_BYTES_MAX {
            return Err(AddError::TooLarge {
                bytes: bytes.len() as u64,
            });
        }
        let bucket = self.tables.bucket();
        let path = layout::system_object(base, bucket.mint(), "catalog");
        let named = CatalogRef {
            path: path.to_string(),
            bytes: bytes.len() as u64,
            checksum: *blake3::hash(&bytes).as_bytes(),
            waiting,
        };
        storage::create(bucket, &path, bytes)
            .await
            .map_err(TablesError::from)?;
        Ok(named)
    }
}

/// Whether the tables stay within what segments and roots can hold.
fn check(catalog: &Catalog) -> Result<(), AddError> {
    let mut tables = 0;
    for def in catalog.tables() {
        let Some(record) = def.record_type() else {
            continue;
        };
        tables += 1;
        if record.columns().len() > COLUMNS_MAX {
            return Err(AddError::TooWide {
                id: record.collection().to_owned(),
                columns: record.columns().len(),
            });
        }
    }
    if tables > TABLES_MAX {
        return Err(AddError::TooMany { tables });
    }
    Ok(())
}

#[async_trait]
impl Apply for AddWork {
    async fn apply(&mut self, newest: &Root) -> Result<Draft, ApplyError> {
        let body = self
            .body(newest)
            .await
            .map_err(|error| ApplyError::Failed(Box::new(error)))?;
        let Some(body) = body else {
            return Err(ApplyError::Obsolete);
        };
        Ok(Draft {
            body: encode_body(&body),
            ..Draft::following(newest, CommitKind::Catalog)
        })
    }
}
