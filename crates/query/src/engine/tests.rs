use super::watched::Watched;
use super::*;
use crate::error::ErrorKind;
use arrow::util::pretty::pretty_format_batches;
use serde_json::{Value as Json, json};
use tables::compactor::{Compactor, CompactorSettings};
use tables::crdt::atproto::{Cid, Tid, Verification, cbor, json};
use tables::crdt::{
    AccountChange, Body, Change, ChangeBatch, CursorChange, Delivery, IdentityChange, Micros,
    NoticeChange, NoticeKind, RecordChange,
};
use tables::flush::FlushSettings;
use tables::storage::{LogWriter, Settings, SystemClock};

const DAY: i64 = 86_400_000_000;
const START: i64 = 1_767_225_600_000_000; // 2026-01-01T00:00:00Z

/// A bucket in memory, its engine, and a writer.
struct Database {
    store: Arc<Watched>,
    engine: Engine,
    tables: Tables,
    writer: LogWriter,
}

impl Database {
    async fn new() -> Self {
        let store = Arc::new(Watched::default());
        let bucket = Bucket::open(
            Arc::clone(&store) as _,
            Arc::new(SystemClock),
            Settings::default(),
        );
        let bucket = bucket.await.expect("opens");
        let cache = Arc::new(Cache::new(CacheSettings::default()));
        let tables = Tables::new(bucket.clone(), cache, Arc::new(Catalog::builtin()));
        let settings = EngineSettings {
            partitions: 2,
            ..EngineSettings::default()
        };
        let engine = Engine::over(tables.clone(), settings).expect("an engine");
        Self {
            store,
            engine,
            tables,
            writer: LogWriter::new(bucket),
        }
    }

    async fn append(&mut self, changes: Vec<Change>) {
        self.writer
            .append(ChangeBatch { changes }.encode())
            .await
            .expect("appends");
    }

    async fn flush(&self) {
        let settings = CompactorSettings {
            flush: FlushSettings::at_once(),
            ..CompactorSettings::default()
        };
        let compactor = Compactor::new(self.tables.clone(), "test".to_owned(), settings);
        compactor.run_once().await.expect("compacts");
    }

    async fn rows(&self, sql: &str) -> String {
        self.answer(sql, vec![]).await
    }

    async fn answer(&self, sql: &str, params: Vec<ScalarValue>) -> String {
        let stream = self.engine.query(sql, params, Freshness::Strong).await;
        let stream = stream.unwrap_or_else(|error| panic!("{sql}: {error}"));
        let batches: Vec<RecordBatch> = stream
            .try_collect()
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
        pretty_format_batches(&batches)
            .expect("formats")
            .to_string()
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
    let body = value
        .map(|value| Body::of(cbor::encode(&json::from_json(&value).expect("a record")).into()));
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

/// Two dids whose records fall into different partitions.
const A: &str = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa";
const B: &str = "did:plc:bbbbbbbbbbbbbbbbbbbbbbbb";

async fn seeded() -> Database {
    let mut database = Database::new().await;
    database
        .append(vec![
            post(A, "1", 1, "one"),
            post(A, "2", 2, "two"),
            post(B, "1", 1, "three"),
        ])
        .await;
    database
        .append(vec![
            like(B, "1", &format!("at://{A}/app.bsky.feed.post/1")),
            record(
                A,
                "com.example.thing",
                "x",
                1,
                Some(json!({"$type": "com.example.thing", "n": 7})),
            ),
        ])
        .await;
    database
}

/// All post texts by key, in one line.
const TEXTS: &str =
    "SELECT string_agg(text, ',' ORDER BY did, rkey) AS texts, count(*) AS n FROM post";

fn cell(table: &str, row: usize, column: usize) -> String {
    let line = table.lines().nth(3 + row).unwrap_or_default();
    line.split('|')
        .nth(column + 1)
        .unwrap_or_default()
        .trim()
        .to_owned()
}

#[tokio::test]
async fn what_was_appended_is_answered_before_and_after_compaction_alike() {
    let mut database = seeded().await;
    assert_eq!(cell(&database.rows(TEXTS).await, 0, 0), "one,two,three");
    database.flush().await;
    assert_eq!(cell(&database.rows(TEXTS).await, 0, 0), "one,two,three");
    database
        .append(vec![
            post(A, "1", 3, "one again"),
            record(A, "app.bsky.feed.post", "2", 4, None),
        ])
        .await;
    let shadowed = database.rows(TEXTS).await;
    assert_eq!(
        (cell(&shadowed, 0, 0), cell(&shadowed, 0, 1)),
        ("one again,three".to_owned(), "2".to_owned())
    );
    database.flush().await;
    assert_eq!(database.rows(TEXTS).await, shadowed);
}

#[tokio::test]
async fn counting_reads_no_data_and_sees_no_dead_row() {
    let mut database = seeded().await;
    database.flush().await;
    database
        .append(vec![post(A, "1", 3, "one again"), post(A, "9", 3, "nine")])
        .await;
    let plan = database.rows("EXPLAIN SELECT count(*) FROM post").await;
    assert!(
        plan.contains("expr=[4 as count(*)]") && !plan.contains("parquet"),
        "{plan}"
    );
    let plan = database
        .rows("EXPLAIN SELECT max(did) FROM bsky.like")
        .await;
    assert!(plan.contains("PlaceholderRowExec"), "{plan}");
    assert_eq!(
        cell(&database.rows("SELECT max(did) FROM bsky.like").await, 0, 0),
        B
    );
}

#[tokio::test]
async fn a_uri_reads_only_the_segments_that_can_hold_it() {
    let database = seeded().await;
    database.flush().await;
    let uri = format!("at://{A}/app.bsky.feed.post/2");
    for table in ["bsky.post", "atproto.records"] {
        let plan = database
            .rows(&format!(
                "EXPLAIN SELECT rkey FROM {table} WHERE uri = '{uri}'"
            ))
            .await;
        assert_eq!(plan.matches(".parquet]").count(), 1, "{plan}");
        let answer = database
            .rows(&format!(
                "SELECT uri, rkey FROM {table} WHERE uri = '{uri}'"
            ))
            .await;
        assert_eq!(
            (cell(&answer, 0, 0), cell(&answer, 0, 1)),
            (uri.clone(), "2".to_owned())
        );
    }
    let other = format!("SELECT count(*) FROM bsky.like WHERE uri = '{uri}'");
    assert_eq!(cell(&database.rows(&other).await, 0, 0), "0");
}

#[tokio::test]
async fn a_limit_stops_the_scan_and_skips_no_live_row() {
    let mut database = seeded().await;
    database.flush().await;
    database
        .append(vec![record(A, "app.bsky.feed.post", "1", 4, None)])
        .await;
    let plan = database.rows("EXPLAIN SELECT text FROM post LIMIT 1").await;
    assert!(
        plan.contains("limit=1") || plan.contains("fetch=1"),
        "{plan}"
    );
    let answer = database
        .rows("SELECT count(*) FROM (SELECT text FROM post LIMIT 2)")
        .await;
    assert_eq!(cell(&answer, 0, 0), "2");
}

#[tokio::test]
async fn every_record_is_json_in_one_table() {
    let database = seeded().await;
    for _ in 0..2 {
        let answer = database
            .rows(
                "SELECT collection, record FROM atproto.records WHERE did LIKE '%aa' ORDER BY uri",
            )
            .await;
        let records: Vec<Json> = (0..3)
            .map(|row| serde_json::from_str(&cell(&answer, row, 1)).expect("JSON"))
            .collect();
        assert_eq!(records[1]["text"], "two");
        assert_eq!(records[2], json!({"$type": "com.example.thing", "n": 7}));
        database.flush().await;
    }
}

#[tokio::test]
async fn a_link_is_a_row_with_where_it_stands() {
    let database = seeded().await;
    let sql = "SELECT target_collection, path, uri FROM atproto.links WHERE target_did = $1";
    for _ in 0..2 {
        let answer = database.answer(sql, vec![A.into()]).await;
        let row: Vec<String> = (0..3).map(|column| cell(&answer, 0, column)).collect();
        assert_eq!(
            row,
            [
                "app.bsky.feed.post",
                "subject.uri",
                &format!("at://{B}/app.bsky.feed.like/1")
            ]
        );
        database.flush().await;
    }
}

#[tokio::test]
async fn the_hosts_own_word_on_an_account_goes_before_later_words_of_others() {
    let mut database = Database::new().await;
    let (relay, host) = ("wss://relay.example", "wss://pds.example");
    database
        .append(vec![
            account(A, relay, START + 2 * DAY, false),
            account(A, host, START + DAY, true),
            identity(A, relay, START, Some("a.test"), Some("https://pds.example")),
            identity(A, "wss://other.example", START + 3 * DAY, None, None),
            account(B, relay, START + 2 * DAY, false),
            account(B, "wss://other.example", START + DAY, true),
        ])
        .await;
    for _ in 0..2 {
        let answer = database
            .rows("SELECT handle, active, status, pds FROM atproto.accounts ORDER BY did")
            .await;
        let row =
            |row| -> Vec<String> { (0..4).map(|column| cell(&answer, row, column)).collect() };
        assert_eq!(row(0), ["a.test", "true", "", "https://pds.example"]);
        assert_eq!(row(1), ["", "false", "deactivated", ""]);
        database.flush().await;
    }
}

#[tokio::test]
async fn a_directorys_answer_on_an_account_goes_before_what_frames_say() {
    let mut database = Database::new().await;
    let (relay, directory) = ("wss://relay.example", "https://plc.example");
    let asked = |at, handle, pds| {
        let Change::Identity(answer) = identity(A, directory, at, handle, pds) else {
            panic!("an identity");
        };
        Change::Identity(IdentityChange {
            seq: None,
            ..answer
        })
    };
    database
        .append(vec![
            asked(START, Some("true.test"), Some("https://PDS.example")),
            identity(
                A,
                relay,
                START + DAY,
                Some("false.test"),
                Some("https://relay.example"),
            ),
            account(A, relay, START + 2 * DAY, false),
            account(A, "wss://pds.example/", START + DAY, true),
        ])
        .await;
    for _ in 0..2 {
        let answer = database
            .rows("SELECT handle, active, pds FROM atproto.accounts")
            .await;
        let row: Vec<String> = (0..3).map(|column| cell(&answer, 0, column)).collect();
        assert_eq!(row, ["true.test", "true", "https://PDS.example"]);
        database.flush().await;
    }
    // The directory has no handle for it any more: the best row that has one is a frame's.
    database.append(vec![asked(START + DAY, None, None)]).await;
    let answer = database
        .rows("SELECT handle, pds FROM atproto.accounts")
        .await;
    assert_eq!(
        (cell(&answer, 0, 0), cell(&answer, 0, 1)),
        ("false.test".to_owned(), "https://relay.example".to_owned())
    );
}

#[tokio::test]
async fn system_tables_say_what_the_view_is_made_of() {
    let mut database = seeded().await;
    let cursor = CursorChange {
        source: "wss://relay.example".into(),
        slice: String::new(),
        generation: 0,
        cursor: 7,
        indexed_at: Micros(START),
    };
    let notice = NoticeChange {
        kind: NoticeKind::Rejection,
        reason: "bad_signature".to_owned(),
        source: "wss://relay.example".into(),
        did: None,
        rev: None,
        seq: Some(1),
        frame_hash: [1; 16],
        bytes: 10,
        attempt: 0,
        step: 0,
        indexed_at: Micros(START),
    };
    database
        .append(vec![Change::Cursor(cursor), Change::Notice(notice)])
        .await;
    database.flush().await;
    database.append(vec![post(A, "3", 1, "four")]).await;
    let one = async |sql: &str| cell(&database.rows(sql).await, 0, 0);
    assert_eq!(
        one("SELECT reason FROM system.rejections WHERE did IS NULL").await,
        "bad_signature"
    );
    assert_eq!(one("SELECT cursor FROM system.sources").await, "7");
    assert_eq!(
        one("SELECT sum(live_rows) FROM system.segments WHERE \"table\" LIKE '%.post'").await,
        "3"
    );
    assert_eq!(
        one("SELECT max(seq) FROM system.wal WHERE in_view AND NOT merged").await,
        "4"
    );
    let took = "SELECT t['to_seq'] FROM (SELECT unnest(took) AS t FROM system.manifests WHERE kind = 'flush')";
    assert_eq!(one(took).await, "3");
}

#[tokio::test]
async fn parameters_are_typed_by_their_use_and_counted() {
    let database = seeded().await;
    let sql = "SELECT text FROM post WHERE did = ? AND indexed_at > ? AND rkey = ? LIMIT ?";
    let (result, params) = database.engine.plan_schema(sql).await.expect("plans");
    assert_eq!(result.field(0).name(), "text");
    let types: Vec<String> = params
        .fields()
        .iter()
        .map(|field| field.data_type().to_string())
        .collect();
    assert_eq!(types, ["Utf8", "Timestamp(µs, \"UTC\")", "Utf8", "Int64"]);
    let values = vec![
        A.into(),
        ScalarValue::TimestampMicrosecond(Some(0), Some("UTC".into())),
        "2".into(),
        1_i64.into(),
    ];
    assert_eq!(cell(&database.answer(sql, values).await, 0, 0), "two");
    let few = database
        .engine
        .query(sql, vec![A.into()], Freshness::Strong)
        .await;
    assert!(matches!(
        few,
        Err(QueryError::Parameters {
            expected: 4,
            given: 1
        })
    ));
}

#[tokio::test]
async fn an_error_says_what_to_write_instead() {
    let database = seeded().await;
    let said = async |sql: &str| {
        let error = database.refused(sql).await;
        (error.to_string(), error.kind())
    };
    assert_eq!(
        said("SELECT * FROM posts").await,
        (
            "there is no table posts; did you mean bsky.post?".to_owned(),
            ErrorKind::NotFound
        )
    );
    let (text, kind) = said("SELECT txt FROM post").await;
    assert!(
        text.contains("Did you mean 'post.text'?") && kind == ErrorKind::Invalid,
        "{text}"
    );
    assert_eq!(
        said("SELECT 1 +").await.0,
        "the statement does not parse: Expected: an expression, found: EOF"
    );
    assert_eq!(said("SELECT 1/0").await.1, ErrorKind::Invalid);
    assert_eq!(
        said("SELECT * FROM '/etc/passwd'").await.1,
        ErrorKind::NotFound
    );
    let (text, kind) = said("SELECT * FROM post VERSION AS OF 2").await;
    assert!(
        text.contains("AS OF") && kind == ErrorKind::Invalid,
        "{text}"
    );
}

#[tokio::test]
async fn clients_see_all_tables_and_no_internal_one() {
    let database = Database::new().await;
    let tables = database.engine.tables().await.expect("lists");
    let names: Vec<String> = tables
        .iter()
        .map(|table| format!("{}.{}", table.schema, table.table))
        .collect();
    for name in [
        "bsky.post",
        "atproto.app.bsky.feed.post",
        "atproto.records",
        "atproto.accounts",
        "system.wal",
    ] {
        assert!(names.iter().any(|known| known == name), "{name}");
    }
    assert!(
        !names
            .iter()
            .any(|name| name.contains("untyped") || name == "system.heads"),
        "{names:?}"
    );
    let shown = database.rows("SHOW TABLES").await;
    assert!(shown.contains("bsky") && shown.contains("information_schema"));
    assert!(
        database
            .rows("DESCRIBE atproto.events")
            .await
            .contains("operation")
    );
}

#[tokio::test]
async fn a_bounded_query_may_share_a_view_and_a_strong_one_never_does() {
    let mut database = seeded().await;
    let count = async |database: &Database, freshness| {
        let stream = database
            .engine
            .query("SELECT count(*) FROM post", vec![], freshness)
            .await
            .expect("answers");
        let batches: Vec<RecordBatch> = stream.try_collect().await.expect("rows");
        cell(
            &pretty_format_batches(&batches)
                .expect("formats")
                .to_string(),
            0,
            0,
        )
    };
    assert_eq!(count(&database, Freshness::Strong).await, "3");
    database.append(vec![post(A, "3", 1, "four")]).await;
    assert_eq!(
        count(&database, Freshness::Within(Duration::from_secs(3600))).await,
        "3"
    );
    assert_eq!(count(&database, Freshness::Strong).await, "4");
    assert_eq!(
        count(&database, Freshness::Within(Duration::from_secs(3600))).await,
        "4"
    );
}

#[tokio::test]
async fn a_strong_query_after_the_first_costs_two_rounds_of_list_and_what_is_new() {
    let mut database = seeded().await;
    database.flush().await;
    database.rows(TEXTS).await;
    let before = database.store.counts();
    database.rows("SELECT count(*) FROM post").await;
    let idle = database.store.counts() - before;
    // The writers and the objects of the known one in parallel, then the manifests; nothing is new.
    assert_eq!((idle.lists, idle.gets), (3, 0));
    database.append(vec![post(A, "3", 1, "four")]).await;
    let before = database.store.counts();
    database.rows("SELECT count(*) FROM post").await;
    let with_news = database.store.counts() - before;
    assert_eq!(with_news.lists, 3);
    assert!(
        with_news.gets <= 2,
        "{with_news:?}: the log object, and the key pages that it is judged against"
    );
}

#[tokio::test]
async fn a_view_that_is_collected_before_the_first_row_is_opened_again() {
    let database = seeded().await;
    database.flush().await;
    database.store.lose(".parquet", 1);
    assert_eq!(cell(&database.rows(TEXTS).await, 0, 0), "one,two,three");
    database.store.lose(".parquet", usize::MAX);
    let error = database
        .refused("SELECT max(extra), max(text) FROM post")
        .await;
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
}
