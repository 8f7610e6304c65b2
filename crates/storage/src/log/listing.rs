//! What a LIST of the log shows.
//!
//! A LIST is no snapshot: it may show a number and not the one before it. What stands behind such a hole is
//! not in any view and is not taken, so a reader asks for the unbroken run.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{Error, ObjectMeta};
use tracing::warn;

use crate::bucket::Bucket;
use crate::ids::{Position, Seq, WriterId};
use crate::read::{last_modified_us, list};
use crate::{layout, retry};

/// How many writers are listed at once.
const LISTS_MAX: usize = 32;

/// The log can't be listed.
#[derive(Debug, thiserror::Error)]
#[error("log can't be listed")]
pub struct ListError(#[from] Error);

/// What a LIST says of one log object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Its bytes.
    pub size: u64,
    /// When the store says that it was written, µs since the epoch.
    pub last_modified_us: i64,
}

/// The log objects that one listing showed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogListing {
    /// By writer and number. Of a writer that was known, only what stands behind the number known.
    pub writers: BTreeMap<WriterId, BTreeMap<Seq, ObjectInfo>>,
}

impl LogListing {
    /// The tail of `writer`: the unbroken run of numbers from the one after `merged` (from the first, if none).
    pub fn run(&self, writer: WriterId, merged: Option<Seq>) -> Vec<Seq> {
        let mut expected = merged.map_or(Seq::FIRST, Seq::next);
        let Some(objects) = self.writers.get(&writer) else {
            return Vec::new();
        };
        let mut run = Vec::new();
        for (&seq, _) in objects.range(expected..) {
            if seq != expected {
                break;
            }
            run.push(seq);
            expected = seq.next();
        }
        run
    }

    /// What was listed at `position`.
    pub fn get(&self, position: Position) -> Option<&ObjectInfo> {
        self.writers.get(&position.writer)?.get(&position.seq)
    }

    fn insert(&mut self, meta: &ObjectMeta) {
        let Some(Position { writer, seq }) = layout::position_of(&meta.location) else {
            warn!(path = %meta.location, "no log object: ignored");
            return;
        };
        let info = ObjectInfo {
            size: meta.size,
            last_modified_us: last_modified_us(meta),
        };
        self.writers.entry(writer).or_default().insert(seq, info);
    }
}

/// Lists the log: the writers in one LIST, beside it what the `known` ones wrote after the number given (a
/// hint: an outdated one only lists more), then the others' objects. Two rounds, one LIST a writer.
///
/// `known` must come from a manifest that was the newest of a LIST, or from one at or above the floor of such.
///
/// # Errors
/// The store's, after retries.
pub async fn list_log(
    bucket: &Bucket,
    known: &BTreeMap<WriterId, Seq>,
) -> Result<LogListing, ListError> {
    // Collected first: a closure over borrowed entries would make the future not `Send` to those who spawn it.
    let known_lists: Vec<_> = known
        .iter()
        .map(|(&writer, &seq)| list_writer(bucket, writer, Some(seq)))
        .collect();
    let known_lists = stream::iter(known_lists)
        .buffer_unordered(LISTS_MAX)
        .try_collect::<Vec<_>>();
    let (writers, mut lists) = futures::try_join!(list_writers(bucket), known_lists)?;
    let unknown = writers
        .into_iter()
        .filter(|writer| !known.contains_key(writer));
    let unknown_lists: Vec<_> = unknown
        .map(|writer| list_writer(bucket, writer, None))
        .collect();
    let unknown_lists: Vec<_> = stream::iter(unknown_lists)
        .buffer_unordered(LISTS_MAX)
        .try_collect()
        .await?;
    lists.extend(unknown_lists);
    let mut listing = LogListing::default();
    for meta in lists.iter().flatten() {
        listing.insert(meta);
    }
    Ok(listing)
}

/// Lists every log object in one LIST, merged ones too: for collection.
pub(crate) async fn list_log_whole(bucket: &Bucket) -> Result<LogListing, ListError> {
    let mut listing = LogListing::default();
    for meta in list(bucket, &Path::from(layout::LOG), None).await? {
        listing.insert(&meta);
    }
    Ok(listing)
}

async fn list_writers(bucket: &Bucket) -> Result<BTreeSet<WriterId>, Error> {
    let folder = Path::from(layout::LOG);
    let list = || bucket.store().list_with_delimiter(Some(&folder));
    let found = retry::retrying(bucket, "list", &folder, list).await?;
    let writers = found.common_prefixes.iter().filter_map(|prefix| {
        let writer = prefix.filename()?.parse().ok();
        if writer.is_none() {
            warn!(path = %prefix, "no writer's folder: ignored");
        }
        writer
    });
    Ok(writers.collect())
}

async fn list_writer(
    bucket: &Bucket,
    writer: WriterId,
    after: Option<Seq>,
) -> Result<Vec<ObjectMeta>, Error> {
    let offset = after.map(|seq| layout::wal_object(Position { writer, seq }));
    list(bucket, &layout::wal_writer(writer), offset.as_ref()).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use ulid::Ulid;

    #[test]
    fn a_run_ends_at_a_hole() {
        let writer = WriterId(Ulid(7));
        let info = ObjectInfo {
            size: 1,
            last_modified_us: 0,
        };
        let objects = [1, 2, 4, 5, 7].map(|seq| (Seq(seq), info)).into();
        let listing = LogListing {
            writers: [(writer, objects)].into(),
        };
        assert_eq!(listing.run(writer, None), [Seq(1), Seq(2)]);
        assert_eq!(listing.run(writer, Some(Seq(1))), [Seq(2)]);
        assert_eq!(listing.run(writer, Some(Seq(2))), []);
        assert_eq!(listing.run(writer, Some(Seq(3))), [Seq(4), Seq(5)]);
        assert_eq!(listing.run(writer, Some(Seq(7))), []);
        assert_eq!(listing.run(writer, Some(Seq(u64::MAX))), []);
        assert_eq!(listing.run(WriterId(Ulid(8)), None), []);
    }
}
