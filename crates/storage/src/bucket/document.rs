//! `alluvium.json`: what makes a prefix a database. Written once, when the database is made.

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::Error;
use object_store::path::Path;
use serde::{Deserialize, Serialize};

use super::{Bucket, OpenError, refused};
use crate::create::{CreateError, create as create_object};
use crate::ids::{DatabaseId, NameError};
use crate::layout;
use crate::read::read as read_object;
use crate::retry::retrying;

/// The newest format of a whole database that this version knows, and the one that it makes.
pub(super) const FORMAT: u32 = 1;

/// How `alluvium.json` can be wrong.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// It is no JSON of this shape.
    #[error("no JSON object with a format, a database and a time of creation")]
    Json(#[from] serde_json::Error),
    /// Format 0 never was.
    #[error("format is zero")]
    Format,
    /// The id is none.
    #[error("database id is no ULID")]
    Database(#[from] NameError),
}

#[derive(Debug, Serialize, Deserialize)]
struct Document {
    format: u32,
    database: String,
    created_us: i64,
}

/// Only the format: what else a newer one holds is not ours to judge.
#[derive(Debug, Deserialize)]
struct FormatOnly {
    format: u32,
}

/// The bytes of `alluvium.json`.
pub(super) fn encode(database: DatabaseId, created_us: i64) -> Bytes {
    let text = format!(
        "{{\"format\":{FORMAT},\"database\":\"{database}\",\"created_us\":{created_us}}}\n"
    );
    Bytes::from(text)
}

/// The database that `alluvium.json` names. Unknown fields are refused by the format, not one by one.
pub(super) fn decode(bytes: &[u8]) -> Result<DatabaseId, OpenError> {
    let damaged = |error: serde_json::Error| OpenError::Damaged(error.into());
    let FormatOnly { format } = serde_json::from_slice(bytes).map_err(damaged)?;
    if format > FORMAT {
        return Err(OpenError::NewerFormat {
            found: format,
            known: FORMAT,
        });
    }
    if format == 0 {
        return Err(OpenError::Damaged(DocumentError::Format));
    }
    let document: Document = serde_json::from_slice(bytes).map_err(damaged)?;
    document
        .database
        .parse()
        .map_err(|error: NameError| OpenError::Damaged(error.into()))
}

/// Reads which database is here.
pub(super) async fn read(bucket: &Bucket) -> Result<DatabaseId, OpenError> {
    match read_object(bucket, &layout::database()).await {
        Ok(bytes) => decode(&bytes),
        Err(Error::NotFound { .. }) => Err(OpenError::Missing),
        Err(source) => Err(refused("read alluvium.json", source)),
    }
}

/// Makes a database, where no objects of one are; takes the one that another process made meanwhile.
pub(super) async fn create(bucket: &Bucket) -> Result<DatabaseId, OpenError> {
    if let Some(found) = leftover(bucket).await? {
        // Another process may have made database and object since we looked.
        return match read(bucket).await {
            Err(OpenError::Missing) => Err(OpenError::Headless { found }),
            other => other,
        };
    }
    let database = DatabaseId(bucket.mint());
    let bytes = encode(database, bucket.clock().now_us());
    match create_object(bucket, &layout::database(), bytes).await {
        Ok(()) => Ok(database),
        Err(CreateError::Taken { .. }) => read(bucket).await,
        Err(CreateError::Refused { source, .. }) => Err(refused("create alluvium.json", source)),
        Err(error) => Err(OpenError::Create(error)),
    }
}

/// An object of a database that has lost its `alluvium.json`.
async fn leftover(bucket: &Bucket) -> Result<Option<Path>, OpenError> {
    let folders = [layout::LOG, layout::MANIFEST]
        .into_iter()
        .chain(layout::NAMED);
    for folder in folders.map(Path::from) {
        let first = || async { bucket.store().list(Some(&folder)).try_next().await };
        let found = retrying(bucket, "list", &folder, first).await;
        if let Some(meta) = found.map_err(|source| refused("list objects", source))? {
            return Ok(Some(meta.location));
        }
    }
    Ok(None)
}
