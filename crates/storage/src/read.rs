//! Reading whole objects, with retries and a check that nothing is missing at the end.

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{Error, GetOptions, ObjectMeta, ObjectStore};

use crate::bucket::Bucket;
use crate::create::OBJECT_BYTES_MAX;
use crate::retry::retrying;

/// A whole object is larger than any that we make.
#[derive(Debug, thiserror::Error)]
#[error("object has {bytes} bytes, at most {OBJECT_BYTES_MAX} are read whole")]
struct Oversized {
    bytes: u64,
}

/// The store answered fewer bytes than it announced.
#[derive(Debug, thiserror::Error)]
#[error("answer ended after {found} of {expected} bytes")]
struct Truncated {
    found: u64,
    expected: u64,
}

/// Reads the whole object at `path`: one GET, transient errors and truncated answers retried.
///
/// # Errors
/// The store's, [`Error::NotFound`] among them. An object above [`OBJECT_BYTES_MAX`] is refused unread.
pub async fn read(bucket: &Bucket, path: &Path) -> Result<Bytes, Error> {
    let get = || get_whole(bucket.store(), path, None);
    Ok(retrying(bucket, "get", path, get).await?.0)
}

/// As [`read`], but of the object that has `e_tag`: [`Error::Precondition`] when another stands there.
pub(crate) async fn read_if_match(
    bucket: &Bucket,
    path: &Path,
    e_tag: Option<&str>,
) -> Result<Bytes, Error> {
    let get = || get_whole(bucket.store(), path, e_tag);
    Ok(retrying(bucket, "get", path, get).await?.0)
}

/// One GET, not retried.
pub(crate) async fn get_whole(
    store: &dyn ObjectStore,
    path: &Path,
    e_tag: Option<&str>,
) -> Result<(Bytes, ObjectMeta), Error> {
    let options = GetOptions {
        if_match: e_tag.map(str::to_owned),
        ..GetOptions::default()
    };
    let result = store.get_opts(path, options).await?;
    let meta = result.meta.clone();
    if meta.size > OBJECT_BYTES_MAX {
        return Err(Error::NotSupported {
            source: Box::new(Oversized { bytes: meta.size }),
        });
    }
    let bytes = result.bytes().await?;
    if bytes.len() as u64 != meta.size {
        return Err(Error::Generic {
            store: "storage",
            source: Box::new(Truncated {
                found: bytes.len() as u64,
                expected: meta.size,
            }),
        });
    }
    Ok((bytes, meta))
}

/// Lists all objects below `prefix` (after `offset`), retried as a whole.
pub(crate) async fn list(
    bucket: &Bucket,
    prefix: &Path,
    offset: Option<&Path>,
) -> Result<Vec<ObjectMeta>, Error> {
    let list = || {
        let stream = match offset {
            Some(offset) => bucket.store().list_with_offset(Some(prefix), offset),
            None => bucket.store().list(Some(prefix)),
        };
        stream.try_collect()
    };
    retrying(bucket, "list", prefix, list).await
}

/// When the store says that an object was written, in µs since the epoch.
pub(crate) fn last_modified_us(meta: &ObjectMeta) -> i64 {
    meta.last_modified.timestamp_micros()
}
