//! Requests that answer with a stream: the fault is decided when the stream is first read.

use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{Error, ObjectMeta, ObjectStore, ObjectStoreExt, Result};

use super::schedule::Operation;
use super::{Decision, FaultStore};

pub(super) fn list(
    store: FaultStore,
    prefix: Option<Path>,
    offset: Option<Path>,
) -> BoxStream<'static, Result<ObjectMeta>> {
    let listed = async move {
        let path = prefix.clone().unwrap_or_default();
        let decision = store.admit(Operation::List, &path).await?;
        let inner = match &offset {
            Some(offset) => store.inner.list_with_offset(prefix.as_ref(), offset),
            None => store.inner.list(prefix.as_ref()),
        };
        let metas = inner.try_collect::<Vec<_>>().await;
        let metas = store.answer(decision, metas).await??;
        let metas = metas
            .into_iter()
            .map(|meta| Ok(store.restamp(meta)))
            .collect::<Vec<_>>();
        Ok::<_, Error>(stream::iter(metas))
    };
    stream::once(listed).try_flatten().boxed()
}

pub(super) fn delete(
    store: FaultStore,
    locations: BoxStream<'static, Result<Path>>,
) -> BoxStream<'static, Result<Path>> {
    let deleted = locations.then(move |location| {
        let store = store.clone();
        async move {
            let location = location?;
            let decision = store.admit(Operation::Delete, &location).await?;
            let done = store.inner.delete(&location).await;
            if done.is_ok() && !matches!(decision, Decision::Late(_)) {
                store.state().written_us.remove(&location);
            }
            store.answer(decision, done).await??;
            Ok(location)
        }
    });
    deleted.boxed()
}
