//! The one rule by which every object is created.
//!
//! An object is created when its PUT returned success, or when a GET of its key returns the bytes that were
//! sent. An unknown outcome is sent again: same key, same bytes. `AlreadyExists` proves nothing by itself
//! (object_store 0.13 answers it for S3's 409 too, where nothing was written), so the key is read.

use bytes::Bytes;
use object_store::path::Path;
use object_store::{Error, ObjectStore, PutMode, PutOptions, PutPayload};

use crate::bucket::Bucket;
use crate::read::get_whole;
use crate::retry::{Backoff, is_transient};

/// The largest object: one PUT, never multi-part, since that has no create mode.
pub const OBJECT_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Why an object was not created.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// Nothing was written: the object is larger than [`OBJECT_BYTES_MAX`].
    #[error("object {path} has {bytes} bytes, at most {OBJECT_BYTES_MAX} fit into one PUT")]
    TooLarge {
        /// Where it should have been.
        path: Path,
        /// Its size.
        bytes: u64,
    },
    /// Other bytes stand there. Ours were not written and never will be while those are there.
    #[error("object {path} exists already, with other bytes")]
    Taken {
        /// Where.
        path: Path,
    },
    /// The store refuses to write.
    #[error("store refuses to create {path}")]
    Refused {
        /// Where.
        path: Path,
        /// The store's answer.
        source: Error,
    },
    /// The object may have been written, or may be at any later moment.
    #[error("outcome of creating {path} is unknown")]
    Unknown {
        /// Where.
        path: Path,
        /// The last answer of the store.
        source: Error,
    },
}

/// Creates the object `path` with `bytes`; done when it returns `Ok`, however often it had to ask.
///
/// Costs one PUT where nothing goes wrong. Dropping the future leaves the outcome unknown.
///
/// # Errors
/// [`CreateError::Unknown`] if it may have been written; nothing of this call was written otherwise.
pub async fn create(bucket: &Bucket, path: &Path, bytes: Bytes) -> Result<(), CreateError> {
    create_surely(bucket, path, bytes).await.1
}

/// As [`create()`]; says too whether a PUT of this call may have landed without our knowing.
pub(crate) async fn create_surely(
    bucket: &Bucket,
    path: &Path,
    bytes: Bytes,
) -> (Certainty, Result<(), CreateError>) {
    let mut certainty = Certainty::FirstAnswer;
    let done = create_noting(bucket, path, bytes, &mut certainty).await;
    (certainty, done)
}

async fn create_noting(
    bucket: &Bucket,
    path: &Path,
    bytes: Bytes,
    certainty: &mut Certainty,
) -> Result<(), CreateError> {
    if bytes.len() as u64 > OBJECT_BYTES_MAX {
        let bytes = bytes.len() as u64;
        return Err(CreateError::TooLarge {
            path: path.clone(),
            bytes,
        });
    }
    let mut backoff = Backoff::new(bucket, bucket.settings().retry_for);
    loop {
        let path = path.clone();
        let source = match attempt(bucket.store(), &path, &bytes).await {
            Attempt::Created => return Ok(()),
            Attempt::Found => {
                *certainty = Certainty::FoundOut;
                return Ok(());
            }
            Attempt::Taken => return Err(CreateError::Taken { path }),
            Attempt::Refused(source) if *certainty == Certainty::FirstAnswer => {
                return Err(CreateError::Refused { path, source });
            }
            Attempt::Refused(source) | Attempt::Unreadable(source) => {
                *certainty = Certainty::FoundOut;
                return Err(CreateError::Unknown { path, source });
            }
            Attempt::Open(source) => source,
        };
        *certainty = Certainty::FoundOut;
        if !backoff.wait(bucket, "create", &path, &source).await {
            return Err(CreateError::Unknown { path, source });
        }
    }
}

/// What one knows of the PUTs of a creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Certainty {
    /// The first PUT had a clear answer.
    FirstAnswer,
    /// An earlier PUT may have been the one that wrote it.
    FoundOut,
}

/// What one PUT, and the GET that its answer may ask for, came to.
#[derive(Debug)]
pub(crate) enum Attempt {
    /// The PUT returned success.
    Created,
    /// The PUT did not, but our bytes are there.
    Found,
    /// Other bytes are there.
    Taken,
    /// The store does not let us; nothing was written by this PUT.
    Refused(Error),
    /// Something is there, and the store does not let us read it: it may be ours.
    Unreadable(Error),
    /// Nobody knows, or (409) nothing was written: send it again.
    Open(Error),
}

/// Sends `bytes` once and, if the answer is `AlreadyExists`, reads what is there.
pub(crate) async fn attempt(store: &dyn ObjectStore, path: &Path, bytes: &Bytes) -> Attempt {
    let payload = PutPayload::from_bytes(bytes.clone());
    let options = PutOptions::from(PutMode::Create);
    let exists = match store.put_opts(path, payload, options).await {
        Ok(_) => return Attempt::Created,
        Err(error @ Error::AlreadyExists { .. }) => error,
        Err(error) if is_transient(&error) => return Attempt::Open(error),
        Err(error) => return Attempt::Refused(error),
    };
    match get_whole(store, path, None).await {
        Ok((found, _)) if found == *bytes => Attempt::Found,
        Ok(_) => Attempt::Taken,
        Err(Error::NotFound { .. }) => Attempt::Open(exists),
        Err(Error::NotSupported { .. }) => Attempt::Taken,
        Err(error) if is_transient(&error) => Attempt::Open(error),
        Err(error) => Attempt::Unreadable(error),
    }
}
