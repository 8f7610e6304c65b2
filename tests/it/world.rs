//! What the tests of the whole way share: a bucket with its clock, the roles over it, and what it answers.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arrow::json::ArrayWriter;
use atproto::{Cid, DidDocument, Tid, Verification, cbor, json};
use bytes::Bytes;
use crdt::{Body, Change, ChangeBatch, ChangeLog, Delivery, Micros, RecordChange, change_log};
use futures::TryStreamExt;
use ingest::{DidDocs, Identities, Intake, KnownByTables, Summary};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use query::{Engine, EngineSettings, Freshness, QueryError};
use serde_json::Value as Json;
use storage::{Bucket, LogWriter, ManualClock, Position, Settings};
use tables::cache::{Cache, CacheSettings};
use tables::flush::{FlushSettings, Flushed, flush};
use tables::merge::{MergeSettings, merge_once};
use tables::schema::Catalog;
use tables::view::Tables;
use tempfile::TempDir;
use testkit::repo::{Account, Curve, RepoBuilder, Stamp};
use tokio_util::sync::CancellationToken;

/// A minute after the recorded frames.
pub(crate) const RECORDED_US: i64 = 1_783_176_000_000_000;

/// A file of the recorded frames' folder.
pub(crate) fn recorded(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/atproto/firehose")
        .join(name)
}

/// The documents of the accounts in the recorded frames.
pub(crate) fn recorded_docs() -> DidDocs {
    DidDocs::open(&recorded("did_docs.json.zst")).expect("documents")
}

/// Where the objects of a world are.
#[derive(Debug)]
enum Place {
    Folder(TempDir),
    Store(Arc<dyn ObjectStore>),
}

impl Place {
    fn open(&self) -> Arc<dyn ObjectStore> {
        match self {
            Self::Folder(folder) => {
                let path = folder.path().to_str().expect("a path in Unicode");
                storage::open_store(path, &HashMap::<String, String>::new()).expect("a folder")
            }
            Self::Store(store) => Arc::clone(store),
        }
    }
}

/// A bucket, and one process over it.
#[derive(Debug)]
pub(crate) struct World {
    place: Place,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) node: Node,
}

impl World {
    /// A bucket in memory.
    pub(crate) async fn in_memory() -> Self {
        Self::over(Arc::new(InMemory::new())).await
    }

    /// A bucket in `store`.
    pub(crate) async fn over(store: Arc<dyn ObjectStore>) -> Self {
        Self::at(Place::Store(store)).await
    }

    /// A bucket in a local folder.
    pub(crate) async fn on_folder() -> Self {
        Self::at(Place::Folder(TempDir::new().expect("a folder"))).await
    }

    async fn at(place: Place) -> Self {
        let clock = Arc::new(ManualClock::new(RECORDED_US));
        let bucket = Bucket::open(place.open(), Arc::clone(&clock) as _, Settings::default());
        let node = Node::over(bucket.await.expect("a bucket"));
        Self { place, clock, node }
    }

    /// Another process over the same bucket: it shares nothing with others but the objects.
    pub(crate) async fn another_process(&self) -> Node {
        self.another_with(Catalog::builtin()).await
    }

    /// As [`World::another_process`], with these tables.
    pub(crate) async fn another_with(&self, catalog: Catalog) -> Node {
        let clock = Arc::clone(&self.clock) as _;
        let bucket = Bucket::open_existing(self.place.open(), clock, Settings::default());
        Node::new(bucket.await.expect("the bucket"), catalog)
    }
}

/// One process over a bucket: its tables, its engine.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) tables: Tables,
    pub(crate) engine: Engine,
}

impl Node {
    /// A process over `bucket`, with the built-in tables.
    pub(crate) fn over(bucket: Bucket) -> Self {
        Self::new(bucket, Catalog::builtin())
    }

    fn new(bucket: Bucket, catalog: Catalog) -> Self {
        let cache = Arc::new(Cache::new(CacheSettings::default()));
        let tables = Tables::new(bucket, cache, Arc::new(catalog));
        let settings = EngineSettings {
            partitions: 2,
            ..EngineSettings::default()
        };
        let engine = Engine::over(tables.clone(), settings).expect("an engine");
        Self { tables, engine }
    }

    pub(crate) fn bucket(&self) -> &Bucket {
        self.tables.bucket()
    }

    /// An intake of its own, which knows what the bucket holds now.
    pub(crate) fn intake(&self, docs: DidDocs) -> Intake {
        let settings = change_log::Settings {
            flush_interval: Duration::ZERO,
            ..change_log::Settings::default()
        };
        Intake {
            log: ChangeLog::spawn(self.bucket(), settings, &CancellationToken::new()),
            clock: Arc::clone(self.bucket().clock()),
            identities: Identities::fixed(docs),
            known: Arc::new(KnownByTables::new(self.tables.clone())),
        }
    }

    /// Replays the recorded frames.
    pub(crate) async fn replay_recorded(&self) -> Summary {
        let path = recorded("frames.bin.zst");
        self.intake(recorded_docs())
            .replay(&path, None, &mut |_| {})
            .await
            .expect("replayed")
    }

    /// A writer of its own.
    pub(crate) fn writer(&self) -> LogWriter {
        LogWriter::new(self.bucket().clone())
    }

    pub(crate) async fn flush(&self) -> Flushed {
        let flushed = flush(&self.tables, "test", FlushSettings::at_once()).await;
        flushed.expect("a flush")
    }

    /// Merges until nothing is left to merge, and returns how often.
    pub(crate) async fn merge(&self) -> usize {
        let settings = MergeSettings {
            fan_in: 2,
            ..MergeSettings::default()
        };
        let mut merges = 0;
        while merge_once(&self.tables, "test", &settings)
            .await
            .expect("a merge")
            .is_some()
        {
            merges += 1;
        }
        merges
    }

    /// The rows of a statement as JSON objects without nulls.
    pub(crate) async fn ask(&self, sql: &str) -> Result<Vec<Json>, QueryError> {
        let stream = self.engine.query(sql, vec![], Freshness::Strong).await?;
        let batches: Vec<_> = stream
            .try_collect()
            .await
            .map_err(QueryError::from_stream)?;
        let mut writer = ArrayWriter::new(Vec::new());
        for batch in &batches {
            writer.write(batch).expect("rows have a JSON");
        }
        writer.finish().expect("rows have a JSON");
        let bytes = writer.into_inner();
        if bytes.is_empty() {
            return Ok(Vec::new());
        }
        Ok(serde_json::from_slice(&bytes).expect("JSON"))
    }

    /// The rows of a statement that must be answered.
    pub(crate) async fn rows(&self, sql: &str) -> Vec<Json> {
        match self.ask(sql).await {
            Ok(rows) => rows,
            Err(error) => panic!("{sql}: {}", told(&error)),
        }
    }

    /// The one number that a statement answers with.
    pub(crate) async fn count(&self, sql: &str) -> u64 {
        let rows = self.rows(sql).await;
        let [Json::Object(row)] = &rows[..] else {
            panic!("{sql}: {rows:?}");
        };
        let number = row.values().next().and_then(Json::as_u64);
        number.expect("one number")
    }
}

/// Appends changes and returns where they are durable.
pub(crate) async fn append(writer: &mut LogWriter, changes: Vec<Change>) -> Position {
    let sections = ChangeBatch { changes }.encode();
    writer.append(sections).await.expect("acknowledged")
}

/// Every record of a node by its URI; each CID is made again from the record.
pub(crate) async fn rows_equal_their_cids(node: &Node) -> BTreeMap<String, Json> {
    let rows = node
        .rows("SELECT uri, cid, record FROM atproto.records")
        .await;
    let checked = rows.iter().map(|row| {
        let record = record_of(row);
        let value = json::from_json(&record).expect("AT Protocol JSON");
        let cid = Cid::of_cbor(&cbor::encode(&value)).to_string();
        assert_eq!(row["cid"], cid.as_str(), "{row}");
        (row["uri"].as_str().expect("a URI").to_owned(), record)
    });
    checked.collect()
}

/// The record in a row that has one.
pub(crate) fn record_of(row: &Json) -> Json {
    let text = row["record"].as_str().expect("a record");
    serde_json::from_str(text).expect("JSON")
}

/// A write of `record` at `path`, `collection/rkey`, or its deletion, by the `rev`th commit.
pub(crate) fn record_change(did: &str, path: &str, rev: i64, record: Option<&Json>) -> Change {
    let (collection, rkey) = path.split_once('/').expect("a path");
    let body = record.map(|record| {
        let value = json::from_json(record).expect("AT Protocol JSON");
        Body::of(Bytes::from(cbor::encode(&value)))
    });
    let at_us = stamp(rev).at_us;
    Change::Record(RecordChange {
        did: did.parse().expect("a DID"),
        collection: collection.parse().expect("an NSID"),
        rkey: rkey.parse().expect("a record key"),
        rev: Tid::new(at_us, 0).expect("a TID"),
        body,
        delivery: Delivery {
            source: "test".into(),
            seq: Some(rev),
            indexed_at: Micros(at_us),
            time: Some(Micros(at_us)),
            verification: Verification::Inverted,
        },
    })
}

/// The record of a post.
pub(crate) fn post(text: &str) -> Json {
    serde_json::json!({
        "$type": "app.bsky.feed.post", "text": text, "createdAt": "2026-07-04T14:00:00.000Z"
    })
}

/// An error with all its causes.
pub(crate) fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

/// A repository with its document.
pub(crate) fn signed_repo() -> (RepoBuilder, DidDocs) {
    let repo = RepoBuilder::new(Account::new(1, Curve::P256));
    let mut docs = DidDocs::default();
    docs.insert(DidDocument::parse(&repo.account().did_document()).expect("a document"));
    (repo, docs)
}

/// The moment of the `number`th message: seconds apart, an hour before the recorded frames.
pub(crate) fn stamp(number: i64) -> Stamp {
    Stamp {
        seq: number + 1,
        at_us: RECORDED_US - 3_600_000_000 + number * 1_000_000,
    }
}
