//! A bucket in memory whose store fails as it is told and whose time passes as it is told: for tests.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use object_store::ObjectStore;
use testkit::fault_store::FaultStore;

use crate::bucket::{Bucket, Settings};
use crate::clock::{Clock, ManualClock};
use crate::log::Section;
use crate::multiset::MultisetHash;

pub(crate) const START_US: i64 = 1_800_000_000_000_000;
pub(crate) const MINUTE: Duration = Duration::from_secs(60);
pub(crate) const HOUR: Duration = Duration::from_secs(3_600);

/// A store, its time, and the database in it.
pub(crate) struct World {
    pub(crate) store: FaultStore,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) bucket: Bucket,
}

impl World {
    pub(crate) async fn new(seed: u64) -> Self {
        let store = FaultStore::in_memory();
        let clock = Arc::new(ManualClock::new(START_US));
        let passing = Arc::clone(&clock);
        store.on_wait(move |duration| passing.advance(duration));
        let telling = Arc::clone(&clock);
        store.time(move || telling.now_us());
        let bucket = open(&store, &clock, seed).await;
        store.reset_counts();
        Self {
            store,
            clock,
            bucket,
        }
    }

    /// The same database, opened by another process, with random bytes of its own.
    pub(crate) async fn another_process(&self, seed: u64) -> Self {
        let store = self.store.another_process();
        let clock = Arc::clone(&self.clock);
        let bucket = open(&store, &clock, seed).await;
        Self {
            store,
            clock,
            bucket,
        }
    }

    /// Whether an object is there, behind the store's faults.
    pub(crate) async fn has(&self, path: &object_store::path::Path) -> bool {
        let store: &dyn ObjectStore = &self.store;
        object_store::ObjectStoreExt::head(store, path)
            .await
            .is_ok()
    }
}

async fn open(store: &FaultStore, clock: &Arc<ManualClock>, seed: u64) -> Bucket {
    let clock = Arc::clone(clock) as Arc<dyn Clock>;
    Bucket::open_seeded(Arc::new(store.clone()), clock, Settings::default(), seed)
        .await
        .unwrap()
}

/// A section that holds `text` alone.
pub(crate) fn section(text: &str) -> Section {
    let mut hash = MultisetHash::EMPTY;
    hash.add(blake3::hash(text.as_bytes()).as_bytes());
    Section {
        kind: 1,
        table: "app.bsky.feed.post".to_owned(),
        payload: Bytes::copy_from_slice(text.as_bytes()),
        count: 1,
        hash,
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.chunks(40).fold(String::new(), |mut text, line| {
        for byte in line {
            let _ = write!(text, "{byte:02x}");
        }
        text.push('\n');
        text
    })
}

pub(crate) fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<_> = text
        .chars()
        .filter_map(|digit| digit.to_digit(16))
        .collect();
    digits
        .chunks(2)
        .map(|pair| u8::try_from(pair[0] * 16 + pair[1]).unwrap())
        .collect()
}
