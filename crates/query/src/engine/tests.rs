use super::*;
use crate::view::{Catalog, TableName};
use arrow::json::ReaderBuilder;
use arrow::util::pretty::pretty_format_batches;
use object_store::memory::InMemory;
use serde_json::{Value, json};
use std::collections::BTreeMap;

fn engine() -> Engine {
    let catalog = Catalog::builtin();
    let post = |did: &str, rkey: &str, text: &str| {
        json!({"did": did, "rkey": rkey, "rev": "3k", "cid": "bafy", "created_at": "2026-01-01T00:00:00Z",
               "indexed_at": "2026-01-01T00:00:01Z", "source": "wss://relay", "verification": "inverted", "text": text})
    };
    let state = |did: &str, source: &str, at: &str, active: bool| {
        json!({"did": did, "source": source, "time": at, "at": at, "tie": "00", "active": active,
               "status": if active { Value::Null } else { json!("deactivated") }, "indexed_at": at})
    };
    let identity = |did: &str, source: &str, at: &str, handle: Value, pds: Value| {
        json!({"did": did, "source": source, "time": at, "at": at, "tie": "00", "handle": handle, "pds": pds,
               "indexed_at": at})
    };
    let seeded: Vec<(TableName, Vec<Value>)> = vec![
        (
            TableName::new("atproto", "app.bsky.feed.post"),
            vec![post("did:plc:a", "1", "one"), post("did:plc:a", "2", "two"), post("did:plc:b", "1", "three")],
        ),
        (
            TableName::new("atproto", "account_states"),
            vec![
                state("did:plc:a", "wss://relay", "2026-01-02T00:00:00Z", false),
                state("did:plc:a", "wss://pds.example", "2026-01-01T00:00:00Z", true),
            ],
        ),
        (
            TableName::new("atproto", "identities"),
            vec![
                identity("did:plc:a", "wss://relay", "2026-01-01T00:00:00Z", json!("a.test"), json!("https://pds.example")),
                identity("did:plc:a", "wss://other", "2026-01-03T00:00:00Z", Value::Null, Value::Null),
                identity("did:plc:b", "wss://relay", "2026-01-01T00:00:00Z", json!("b.test"), Value::Null),
            ],
        ),
    ];
    let mut tables = BTreeMap::new();
    for (name, rows) in seeded {
        let schema = Arc::clone(&catalog.table(&name).expect("known").schema);
        let text: String = rows.iter().map(|row| format!("{row}\n")).collect();
        let reader = ReaderBuilder::new(schema).build(text.as_bytes()).expect("reads");
        tables.insert(name, reader.collect::<Result<Vec<_>, _>>().expect("rows"));
    }
    let bucket = Bucket { store: Arc::new(InMemory::new()), seeded: Arc::new(tables) };
    Engine::new(bucket, EngineSettings { partitions: 2, ..EngineSettings::default() }).expect("engine")
}

async fn rows(engine: &Engine, sql: &str, params: Vec<ScalarValue>) -> String {
    let stream = engine.query(sql, params, Freshness::Strong).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    let batches: Vec<RecordBatch> = stream.try_collect().await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    pretty_format_batches(&batches).expect("formats").to_string()
}

#[tokio::test]
async fn spike() {
    let engine = engine();
    for sql in [
        "SELECT * FROM post ORDER BY uri",
        "SELECT uri, text FROM bsky.post WHERE uri = 'at://did:plc:a/app.bsky.feed.post/2'",
        "SELECT count(*) FROM post",
        "EXPLAIN SELECT count(*) FROM post",
        "EXPLAIN SELECT text, uri FROM post WHERE did = 'did:plc:a' LIMIT 1",
        "SELECT uri, collection, record FROM atproto.records ORDER BY uri",
        "SELECT count(*) FROM atproto.records WHERE collection = 'app.bsky.feed.like'",
        "SELECT collection, count(*) FROM atproto.records GROUP BY 1",
        "EXPLAIN SELECT count(*) FROM atproto.records WHERE collection LIKE 'app.bsky.feed.%'",
        "SELECT * FROM atproto.accounts ORDER BY did",
        "EXPLAIN SELECT * FROM atproto.accounts WHERE did = 'did:plc:a'",
        "SELECT * FROM atproto.links",
        "SELECT * FROM system.rejections",
        "SELECT table_schema, table_name, table_type FROM information_schema.tables ORDER BY 1,2",
        "DESCRIBE post",
        "SHOW COLUMNS FROM atproto.events",
        "SELECT p.text, r.record FROM post p JOIN atproto.records r ON p.uri = r.uri ORDER BY 1",
    ] {
        println!("{sql}\n{}", rows(&engine, sql, vec![]).await);
    }
    println!("{}", rows(&engine, "SELECT text FROM post WHERE did = ? AND rkey = $2", vec!["did:plc:a".into(), "2".into()]).await);
    println!("{:?}", engine.plan_schema("SELECT count(*) n FROM post WHERE did = ? AND indexed_at > ?").await);
    for bad in ["SELECT * FROM posts", "SELECT txt FROM post", "SELECT 1 +", "SELECT * FROM atproto.record", "SELECT 1/0"] {
        match engine.query(bad, vec![], Freshness::Strong).await { Err(e) => println!("{bad}: {e} {:?}", e.kind()), Ok(_) => println!("{bad}: ok?") }
    }
    println!("{}", engine.tables().await.expect("tables").len());
}
