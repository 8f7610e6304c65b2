//! What the tests of the doors share: a bucket in memory, what its log holds, and files of frames.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use atproto::Did;
use crdt::change_log::Settings;
use crdt::merge_model::Model;
use crdt::storage::object_store::ObjectStore;
use crdt::storage::object_store::memory::InMemory;
use crdt::storage::{self, Bucket, Clock, ManualClock, list_log, read_log};
use crdt::{Change, ChangeBatch, ChangeLog};
use futures::future::BoxFuture;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::did_docs::DidDocs;
use crate::identity::Identities;
use crate::intake::Intake;
use crate::known::{Known, KnownCursor, KnownError, KnownHead, NothingKnown};

/// A minute after the recorded frames.
pub(crate) const RECORDED_US: i64 = 1_783_176_000_000_000;

/// A file of the recorded frames' folder.
pub(crate) fn recorded(name: &str) -> PathBuf {
    let folder = "../../tests/fixtures/atproto/firehose";
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join(folder)
        .join(name)
}

/// A bucket in memory, an intake into it, and a folder for files.
pub(crate) struct World {
    pub(crate) bucket: Bucket,
    pub(crate) intake: Intake,
    folder: TempDir,
}

impl World {
    /// A world at the time of the recorded frames, with their DID documents.
    pub(crate) async fn recorded() -> Self {
        let docs = DidDocs::open(&recorded("did_docs.json.zst")).expect("documents");
        Self::new(docs, Arc::new(ManualClock::new(RECORDED_US))).await
    }

    pub(crate) async fn new(docs: DidDocs, clock: Arc<dyn Clock>) -> Self {
        let settings = storage::Settings::default();
        Self::over(Arc::new(InMemory::new()), settings, docs, clock).await
    }

    pub(crate) async fn over(
        store: Arc<dyn ObjectStore>,
        settings: storage::Settings,
        docs: DidDocs,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let bucket = Bucket::open(store, Arc::clone(&clock), settings);
        let bucket = bucket.await.expect("a store in memory");
        let settings = Settings {
            flush_interval: Duration::ZERO,
            ..Settings::default()
        };
        let intake = Intake {
            log: ChangeLog::spawn(&bucket, settings, &CancellationToken::new()),
            clock,
            identities: Identities::fixed(docs),
            known: Arc::new(NothingKnown),
        };
        Self {
            bucket,
            intake,
            folder: TempDir::new().expect("a folder"),
        }
    }

    /// The changes of all log objects, by position.
    pub(crate) async fn log(&self) -> Vec<Vec<Change>> {
        log_of(&self.bucket).await
    }

    /// The changes under one writer id.
    pub(crate) async fn log_of(&self, writer: storage::WriterId) -> Vec<Change> {
        let listing = list_log(&self.bucket, &BTreeMap::new()).await;
        let mut changes = Vec::new();
        for seq in listing.expect("listed").writers[&writer].keys() {
            let position = storage::Position { writer, seq: *seq };
            let object = read_log(&self.bucket, position).await.expect("there");
            changes.extend(ChangeBatch::decode(&object).expect("ours").changes);
        }
        changes
    }

    /// What the log adds up to.
    pub(crate) async fn model(&self) -> Model {
        self.log().await.iter().flatten().collect()
    }

    /// From now on the intake knows what the log holds now.
    pub(crate) async fn know(&mut self) {
        self.intake.known = Arc::new(KnownModel(self.model().await));
    }

    /// The intake knows at any time what the log holds then.
    pub(crate) fn know_always(&mut self) {
        self.intake.known = Arc::new(KnownLog(self.bucket.clone()));
    }

    /// A file with these bytes.
    pub(crate) fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, bytes).expect("written");
        path
    }
}

async fn log_of(bucket: &Bucket) -> Vec<Vec<Change>> {
    let listing = list_log(bucket, &BTreeMap::new()).await.expect("listed");
    let mut objects = Vec::new();
    for (writer, seqs) in listing.writers {
        for seq in seqs.into_keys() {
            let position = storage::Position { writer, seq };
            let object = read_log(bucket, position).await.expect("there");
            objects.push(ChangeBatch::decode(&object).expect("ours").changes);
        }
    }
    objects
}

/// A recording of frames.
pub(crate) fn recording<B: AsRef<[u8]>>(frames: impl IntoIterator<Item = B>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for frame in frames {
        let frame = frame.as_ref();
        bytes.extend(u32::try_from(frame.len()).expect("short").to_le_bytes());
        bytes.extend(frame);
    }
    bytes
}

/// Answers from a model what a bucket would.
#[derive(Debug)]
struct KnownModel(Model);

impl Known for KnownModel {
    fn heads<'a>(
        &'a self,
        source: &'a str,
        dids: &'a [Did],
    ) -> BoxFuture<'a, Result<Vec<Option<KnownHead>>, KnownError>> {
        let head = |did: &Did| {
            self.0.rows().find_map(|change| match change {
                Change::Head(head) if head.did == *did && *head.delivery.source == *source => {
                    Some(KnownHead::from(head))
                }
                _ => None,
            })
        };
        let heads = dids.iter().map(head).collect();
        Box::pin(async move { Ok(heads) })
    }

    fn is_active<'a>(
        &'a self,
        source: &'a str,
        did: &'a Did,
    ) -> BoxFuture<'a, Result<Option<bool>, KnownError>> {
        let is_active = self.0.rows().find_map(|change| match change {
            Change::Account(state) if state.did == *did && *state.delivery.source == *source => {
                Some(state.active)
            }
            _ => None,
        });
        Box::pin(async move { Ok(is_active) })
    }

    fn cursor<'a>(
        &'a self,
        source: &'a str,
        slice: &'a str,
    ) -> BoxFuture<'a, Result<Option<KnownCursor>, KnownError>> {
        let cursor = self.0.rows().find_map(|change| match change {
            Change::Cursor(cursor) if *cursor.source == *source && cursor.slice == slice => {
                Some(KnownCursor {
                    generation: cursor.generation,
                    cursor: cursor.cursor,
                })
            }
            _ => None,
        });
        Box::pin(async move { Ok(cursor) })
    }

    fn renew(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

/// Answers from what the log holds when it is asked.
#[derive(Debug)]
struct KnownLog(Bucket);

impl KnownLog {
    async fn model(&self) -> KnownModel {
        KnownModel(log_of(&self.0).await.iter().flatten().collect())
    }
}

impl Known for KnownLog {
    fn heads<'a>(
        &'a self,
        source: &'a str,
        dids: &'a [Did],
    ) -> BoxFuture<'a, Result<Vec<Option<KnownHead>>, KnownError>> {
        Box::pin(async move { self.model().await.heads(source, dids).await })
    }

    fn is_active<'a>(
        &'a self,
        source: &'a str,
        did: &'a Did,
    ) -> BoxFuture<'a, Result<Option<bool>, KnownError>> {
        Box::pin(async move { self.model().await.is_active(source, did).await })
    }

    fn cursor<'a>(
        &'a self,
        source: &'a str,
        slice: &'a str,
    ) -> BoxFuture<'a, Result<Option<KnownCursor>, KnownError>> {
        Box::pin(async move { self.model().await.cursor(source, slice).await })
    }

    fn renew(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}
