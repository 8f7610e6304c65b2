use super::*;
use arrow::util::pretty::pretty_format_batches;
use object_store::memory::InMemory;
use serde_json::{Value as Json, json};
use tables::compactor::{Compactor, CompactorSettings};
use tables::crdt::atproto::{Cid, Tid, Verification, cbor, json};
use tables::crdt::{
    AccountChange, Body, Change, ChangeBatch, CursorChange, Delivery, IdentityChange, Micros, NoticeChange, NoticeKind,
    RecordChange,
};
use tables::flush::FlushSettings;
use tables::storage::{LogWriter, Settings, SystemClock};

const DAY: i64 = 86_400_000_000;
const START: i64 = 1_767_225_600_000_000; // 2026-01-01T00:00:00Z

/// A bucket in memory, its engine, and a writer.
struct Database {
    engine: Engine,
    tables: Tables,
    writer: LogWriter,
}

impl Database {
    async fn new() -> Self {
        let bucket = Bucket::open(Arc::new(InMemory::new()), Arc::new(SystemClock), Settings::default());
        let bucket = bucket.await.expect("opens");
        let cache = Arc::new(Cache::new(CacheSettings::default()));
        let tables = Tables::new(bucket.clone(), cache, Arc::new(Catalog::builtin()));
        let settings = EngineSettings { partitions: 2, ..EngineSettings::default() };
        let engine = Engine::over(tables.clone(), settings).expect("an engine");
        Self { engine, tables, writer: LogWriter::new(bucket) }
    }

    async fn append(&mut self, changes: Vec<Change>) {
        self.writer.append(ChangeBatch { changes }.encode()).await.expect("appends");
    }

    async fn flush(&self) {
        let settings = CompactorSettings { flush: FlushSettings::at_once(), ..CompactorSettings::default() };
        let compactor = Compactor::new(self.tables.clone(), "test".to_owned(), settings);
        compactor.run_once().await.expect("compacts");
    }

    async fn rows(&self, sql: &str) -> String {
        self.answer(sql, vec![]).await
    }

    async fn answer(&self, sql: &str, params: Vec<ScalarValue>) -> String {
        let stream = self.engine.query(sql, params, Freshness::Strong).await;
        let stream = stream.unwrap_or_else(|error| panic!("{sql}: {error}"));
        let batches: Vec<RecordBatch> = stream.try_collect().await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        pretty_format_batches(&batches).expect("formats").to_string()
    }

    async fn refused(&self, sql: &str) -> QueryError {
        match self.engine.query(sql, vec![], Freshness::Strong).await {
            Err(error) => error,
            Ok(stream) => match stream.try_collect::<Vec<_>>().await {
                Err(error) => QueryError::from_stream(error),
                Ok(_) => panic!("{sql} was answered"),
            },
        }
    }
}

fn delivery(source: &str, at: i64) -> Delivery {
    Delivery {
        source: source.into(),
        seq: Some(at / DAY),
        indexed_at: Micros(at),
        time: Some(Micros(at)),
        verification: Verification::Inverted,
    }
}

fn record(did: &str, collection: &str, rkey: &str, rev: i64, value: Option<Json>) -> Change {
    let body = value.map(|value| Body::of(cbor::encode(&json::from_json(&value).expect("a record")).into()));
    Change::Record(RecordChange {
        did: did.parse().expect("a did"),
        collection: collection.parse().expect("an NSID"),
        rkey: rkey.parse().expect("a key"),
        rev: Tid::new(START + rev, 0).expect("a TID"),
        body,
        delivery: delivery("wss://relay.example", START + rev),
    })
}

fn post(did: &str, rkey: &str, rev: i64, text: &str) -> Change {
    let value = json!({"$type": "app.bsky.feed.post", "text": text, "createdAt": "2026-01-01T00:00:00.000Z"});
    record(did, "app.bsky.feed.post", rkey, rev, Some(value))
}

fn like(did: &str, rkey: &str, subject: &str) -> Change {
    let cid = Cid::of_cbor(b"a").to_string();
    let value = json!({"$type": "app.bsky.feed.like", "subject": {"uri": subject, "cid": cid},
        "createdAt": "2026-01-02T00:00:00.000Z"});
    record(did, "app.bsky.feed.like", rkey, 5, Some(value))
}

fn account(did: &str, source: &str, at: i64, active: bool) -> Change {
    Change::Account(AccountChange {
        did: did.parse().expect("a did"),
        time: Micros(at),
        seq: Some(1),
        active,
        status: (!active).then(|| "deactivated".to_owned()),
        delivery: delivery(source, at),
    })
}

fn identity(did: &str, source: &str, at: i64, handle: Option<&str>, pds: Option<&str>) -> Change {
    Change::Identity(IdentityChange {
        did: did.parse().expect("a did"),
        time: Micros(at),
        seq: Some(1),
        handle: handle.map(|handle| handle.parse().expect("a handle")),
        pds: pds.map(str::to_owned),
        delivery: delivery(source, at),
    })
}

const A: &str = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa";
const B: &str = "did:plc:bbbbbbbbbbbbbbbbbbbbbbbb";

async fn seeded() -> Database {
    let mut database = Database::new().await;
    database.append(vec![post(A, "1", 1, "one"), post(A, "2", 2, "two"), post(B, "1", 1, "three")]).await;
    database
        .append(vec![
            like(B, "1", &format!("at://{A}/app.bsky.feed.post/1")),
            record(A, "com.example.thing", "x", 1, Some(json!({"$type": "com.example.thing", "n": 7}))),
        ])
        .await;
    database
}

#[tokio::test]
async fn spike() {
    let mut db = seeded().await;
    db.append(vec![
        account(A, "wss://relay.example", START + 2 * DAY, false),
        account(A, "wss://pds.example", START + DAY, true),
        identity(A, "wss://relay.example", START, Some("a.test"), Some("https://pds.example")),
        identity(A, "wss://other.example", START + 3 * DAY, None, None),
        identity(B, "wss://relay.example", START, Some("b.test"), None),
        Change::Cursor(CursorChange { source: "wss://relay.example".into(), slice: String::new(), generation: 0, cursor: 7, indexed_at: Micros(START) }),
        Change::Notice(NoticeChange { kind: NoticeKind::Rejection, reason: "bad_signature".into(), source: "x".into(), did: None, rev: None, seq: Some(1), frame_hash: [1; 16], bytes: 10, attempt: 0, step: 0, indexed_at: Micros(START) }),
    ]).await;
    for round in 0..2 {
    for sql in [
        "SELECT * FROM post ORDER BY uri",
        "SELECT uri, text FROM bsky.post WHERE uri = 'at://did:plc:aaaaaaaaaaaaaaaaaaaaaaaa/app.bsky.feed.post/2'",
        "SELECT count(*) FROM post",
        "SELECT min(created_at), max(did) FROM post",
        "EXPLAIN SELECT min(created_at), max(did) FROM post",
        "EXPLAIN SELECT count(*) FROM post",
        "EXPLAIN SELECT text, uri FROM post WHERE did = 'did:plc:a' LIMIT 1",
        "EXPLAIN SELECT text, uri FROM post LIMIT 1",
        "SELECT uri, collection, record FROM atproto.records ORDER BY uri",
        "SELECT collection, count(*) FROM atproto.records GROUP BY 1",
        "EXPLAIN SELECT count(*) FROM atproto.records WHERE collection LIKE 'app.bsky.feed.%'",
        "SELECT * FROM atproto.accounts ORDER BY did",
        "SELECT * FROM atproto.links",
        "EXPLAIN SELECT uri FROM atproto.links WHERE target_did = 'did:plc:a'",
        "SELECT * FROM system.rejections",
        "SELECT * FROM system.sources",
        "SELECT * FROM system.segments",
        "SELECT * FROM system.wal",
        "SELECT * FROM system.manifests",
        "SELECT p.text, r.record FROM post p JOIN atproto.records r ON p.uri = r.uri ORDER BY 1",
    ] {
        println!("{sql}\n{}", db.rows(sql).await);
    }
    if round == 0 { db.flush().await; db.append(vec![post(A, "1", 3, "one again"), record(A, "app.bsky.feed.post", "2", 4, None)]).await; }
    }
    println!("{}", db.answer("SELECT text FROM post WHERE did = ? AND rkey = $2", vec![A.into(), "2".into()]).await);
    println!("{:?}", db.engine.plan_schema("SELECT count(*) n FROM post WHERE did = ? AND indexed_at > ?").await);
    for bad in ["SELECT * FROM posts", "SELECT txt FROM post", "SELECT 1 +", "SELECT * FROM atproto.record", "SELECT 1/0"] {
        let e = db.refused(bad).await;
        println!("{bad}: {e} {:?}", e.kind());
    }
    println!("{}", db.engine.tables().await.expect("tables").len());
}
