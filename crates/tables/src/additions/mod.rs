//! The Lexicons that were added to a bucket: one object, which every root from then on names.
//!
//! Guarantee: the tables of a version are a function of its root: the built-in ones, then each addition in its order. So
//! all processes on a bucket see the same tables in the same version, and a process that runs for days sees a new one at
//! its next view. It knows nothing of the records that came before their table.

mod commit;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use object_store::path::Path;
use prost::Message;
use storage::Bucket;

pub use commit::{AddError, Added, add};

use crate::error::{FormatError, TablesError};
use crate::lexicon::LexiconDoc;
use crate::manifest::{CatalogRef, check_format};
use crate::proto;
use crate::schema::Catalog;
use crate::segment::fetch;

/// The newest format of catalogs that this code reads, and the one that it writes.
const FORMAT: u32 = 1;
/// Catalogs that are kept: the newest, and some that queries still read.
const CATALOGS_MAX: usize = 8;

/// All additions in their order, each the JSON of Lexicons that may refer to one another.
pub type Additions = Vec<Vec<String>>;

/// Encodes a catalog.
#[must_use]
pub fn encode_catalog(additions: &[Vec<String>]) -> Bytes {
    let additions = additions
        .iter()
        .map(|lexicons| proto::Addition {
            lexicons: lexicons.clone(),
        })
        .collect();
    proto::Catalog {
        format: FORMAT,
        additions,
    }
    .encode_to_vec()
    .into()
}

/// Decodes a catalog; whether its texts are Lexicons is [`tables_of`]'s.
///
/// # Errors
/// [`FormatError`] if it is none, or of a newer format.
pub fn decode_catalog(bytes: &[u8]) -> Result<Additions, FormatError> {
    let catalog =
        proto::Catalog::decode(bytes).map_err(|source| FormatError::Protobuf { source })?;
    check_format(catalog.format, FORMAT, "catalog.format")?;
    let additions = catalog.additions.into_iter();
    Ok(additions.map(|addition| addition.lexicons).collect())
}

/// Returns `builtin` and the tables of `additions`.
///
/// # Errors
/// [`FormatError`] if a text is no Lexicon.
pub fn tables_of(builtin: &Catalog, additions: &Additions) -> Result<Catalog, FormatError> {
    let mut catalog = builtin.clone();
    for addition in additions {
        let docs = addition.iter().map(|text| {
            let json = serde_json::from_str(text).map_err(|_| FormatError::Field {
                field: "addition.lexicons",
            })?;
            LexiconDoc::parse(&json).map_err(|source| FormatError::Lexicon { source })
        });
        catalog = catalog.with_lexicons(docs.collect::<Result<_, _>>()?);
    }
    Ok(catalog)
}

/// Reads what `named` holds. Costs one GET.
async fn read(bucket: &Bucket, named: &CatalogRef) -> Result<Additions, TablesError> {
    let bytes = fetch(bucket.store().as_ref(), &Path::from(named.path.as_str())).await?;
    let damaged = |source| TablesError::Damaged {
        path: named.path.clone(),
        source,
    };
    if blake3::hash(&bytes).as_bytes() != &named.checksum {
        return Err(damaged(FormatError::Checksum));
    }
    decode_catalog(&bytes).map_err(damaged)
}

type Kept = VecDeque<(String, Arc<Catalog>)>;

/// The catalogs that were read lately, by their objects. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Catalogs {
    kept: Arc<Mutex<Kept>>,
}

impl Catalogs {
    /// The tables of `builtin` and of what `named` holds.
    pub(crate) async fn get(
        &self,
        bucket: &Bucket,
        builtin: &Catalog,
        named: &CatalogRef,
    ) -> Result<Arc<Catalog>, TablesError> {
        if let Ok(kept) = self.kept.lock()
            && let Some((_, catalog)) = kept.iter().find(|(path, _)| *path == named.path)
        {
            return Ok(Arc::clone(catalog));
        }
        let additions = read(bucket, named).await?;
        let catalog = tables_of(builtin, &additions).map_err(|source| TablesError::Damaged {
            path: named.path.clone(),
            source,
        })?;
        let catalog = Arc::new(catalog);
        if let Ok(mut kept) = self.kept.lock() {
            kept.push_front((named.path.clone(), Arc::clone(&catalog)));
            kept.truncate(CATALOGS_MAX);
        }
        Ok(catalog)
    }
}
