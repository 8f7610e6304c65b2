//! Asks a store whether it honours what all else rests on: create-if-absent, and `If-Match` of a GET.
//!
//! Each probe writes under a name of its own, so that a store that overwrites harms nothing.

use bytes::Bytes;
use object_store::path::Path;
use object_store::{Error, ObjectStoreExt, PutMode, PutOptions, PutPayload};

use super::{Bucket, OpenError, refused};
use crate::layout;
use crate::read::get_whole;
use crate::retry::{Backoff, is_transient};

/// What one probe came to.
enum Outcome {
    Honoured,
    /// An answer was lost or ambiguous: ask again, under another name.
    Unclear(Error),
    Failed(OpenError),
}

/// Probes until the answer is clear.
pub(super) async fn run(bucket: &Bucket) -> Result<(), OpenError> {
    let mut backoff = Backoff::new(bucket, bucket.settings().retry_for);
    loop {
        let path = Path::from_iter([layout::PROBE, &bucket.mint().to_string()]);
        let outcome = once(bucket, &path).await;
        // What stays when this fails is old garbage by the next collection.
        if let Err(error) = bucket.store().delete(&path).await {
            tracing::debug!(%path, %error, "probe not deleted");
        }
        match outcome {
            Outcome::Honoured => return Ok(()),
            Outcome::Failed(error) => return Err(error),
            Outcome::Unclear(source) => {
                if !backoff.wait(bucket, "probe", &path, &source).await {
                    return Err(OpenError::Store {
                        action: "create an object",
                        source,
                    });
                }
            }
        }
    }
}

async fn once(bucket: &Bucket, path: &Path) -> Outcome {
    let [first, second] = [Bytes::from_static(b"first"), Bytes::from_static(b"second")];
    let put = |bytes: &Bytes| {
        let payload = PutPayload::from_bytes(bytes.clone());
        bucket
            .store()
            .put_opts(path, payload, PutOptions::from(PutMode::Create))
    };
    match put(&first).await {
        Ok(_) => {}
        Err(Error::NotImplemented { .. } | Error::NotSupported { .. }) => {
            return no_writes("the store has no create");
        }
        Err(error @ Error::AlreadyExists { .. }) => return Outcome::Unclear(error),
        Err(error) => return unclear_or("create an object", error),
    }
    match put(&second).await {
        Err(Error::AlreadyExists { .. }) => {}
        Ok(_) => return no_writes("a second create of one key succeeded"),
        Err(error) => return unclear_or("create an object", error),
    }
    let meta = match get_whole(bucket.store(), path, None).await {
        Ok((found, meta)) if found == first => meta,
        Ok(_) => return no_writes("a refused create replaced the object"),
        Err(error @ Error::NotFound { .. }) => return Outcome::Unclear(error),
        Err(error) => return unclear_or("read an object", error),
    };
    if meta.e_tag.is_none() {
        return Outcome::Failed(OpenError::NoConditionalReads);
    }
    match get_whole(
        bucket.store(),
        path,
        Some("\"00000000000000000000000000000000\""),
    )
    .await
    {
        Err(Error::Precondition { .. }) => Outcome::Honoured,
        Ok(_) => Outcome::Failed(OpenError::NoConditionalReads),
        Err(error) => unclear_or("read an object", error),
    }
}

fn no_writes(failed: &'static str) -> Outcome {
    Outcome::Failed(OpenError::NoConditionalWrites { failed })
}

fn unclear_or(action: &'static str, error: Error) -> Outcome {
    if is_transient(&error) {
        Outcome::Unclear(error)
    } else {
        Outcome::Failed(refused(action, error))
    }
}
