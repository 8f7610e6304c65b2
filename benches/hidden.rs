//! What hidden accounts cost a scan: the first one, one that finds nothing new, and one after a changed state.
//!
//! `hidden [ROWS]`: by default 1,000,000 follows of 200,000 accounts in ten flushes, in memory. Then 100, 10,000 and
//! 100,000 of the accounts are hidden, by one source, and once more by two that disagree. Times are those of
//! `ReadView::scan` with the view open, from an empty cache and after; requests are those that reach the store.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use tables::cache::{Cache, CacheSettings};
use tables::crdt::atproto::{Did, Tid, Verification, cbor, json};
use tables::crdt::{AccountChange, Body, Change, ChangeBatch, Delivery, Micros, RecordChange};
use tables::flush::{FlushSettings, flush};
use tables::schema::{Catalog, TableName};
use tables::storage::{Bucket, LogWriter, Settings, SystemClock};
use tables::view::{ReadView, Tables};
use testkit::fault_store::FaultStore;

const START_US: i64 = 1_780_000_000_000_000;
const FLUSHES: usize = 10;
const RECORDS_EACH: usize = 5;
const FOLLOW: &str = "app.bsky.graph.follow";
const RELAY: &str = "wss://relay.example";
const OTHER: &str = "wss://other.example";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let rows = std::env::args()
        .find_map(|text| text.parse().ok())
        .unwrap_or(1_000_000);
    let store = FaultStore::in_memory();
    let bucket = Bucket::open(
        Arc::new(store.clone()),
        Arc::new(SystemClock),
        Settings::default(),
    )
    .await?;
    let fresh = || {
        let cache = Arc::new(Cache::new(CacheSettings::default()));
        Tables::new(bucket.clone(), cache, Arc::new(Catalog::builtin()))
    };
    let mut writer = LogWriter::new(bucket.clone());
    let accounts = rows / RECORDS_EACH;
    for part in 0..FLUSHES {
        let numbers = part * rows / FLUSHES..(part + 1) * rows / FLUSHES;
        let changes = numbers.map(|number| follow(number, accounts)).collect();
        commit(&fresh(), &mut writer, changes).await?;
    }
    println!("{rows} rows of {accounts} accounts");
    println!(
        "{:<34} {:>9} {:>9} {:>12}",
        "scan", "ms", "requests", "rows"
    );
    let tables = fresh();
    scan("nobody is hidden, nothing cached", &store, &tables).await?;
    scan("the next", &store, &tables).await?;
    let mut hidden_before = 0;
    for hidden in [100, 10_000, 100_000] {
        let hidden = hidden.min(accounts / 2);
        let some = hidden_before..hidden;
        let changes = some.map(|number| state(number, RELAY, 1, false)).collect();
        commit(&fresh(), &mut writer, changes).await?;
        hidden_before = hidden;
        let tables = fresh();
        let what = format!("{hidden} are hidden, nothing cached");
        scan(&what, &store, &tables).await?;
        scan("the next", &store, &tables).await?;
        let changed = vec![state(accounts - 1, RELAY, 1, false)];
        append(&mut writer, changed).await?;
        scan("after one changed state", &store, &tables).await?;
        append(&mut writer, vec![state(accounts - 1, RELAY, 2, true)]).await?;
        scan("after it changed back", &store, &tables).await?;
    }
    let disagreed = (0..hidden_before).map(|number| state(number, OTHER, 0, true));
    commit(&fresh(), &mut writer, disagreed.collect()).await?;
    let tables = fresh();
    scan("two sources disagree on all", &store, &tables).await?;
    scan("the next", &store, &tables).await?;
    Ok(())
}

async fn append(writer: &mut LogWriter, changes: Vec<Change>) -> anyhow::Result<()> {
    writer.append(ChangeBatch { changes }.encode()).await?;
    Ok(())
}

async fn commit(
    tables: &Tables,
    writer: &mut LogWriter,
    changes: Vec<Change>,
) -> anyhow::Result<()> {
    append(writer, changes).await?;
    while flush(tables, "bench", FlushSettings::at_once())
        .await?
        .root
        .is_some()
    {}
    Ok(())
}

async fn scan(what: &str, store: &FaultStore, tables: &Tables) -> anyhow::Result<()> {
    let name = TableName::new("atproto", FOLLOW);
    let view = ReadView::open(tables).await?;
    let def = view.catalog().table(&name).cloned();
    let def = def.ok_or_else(|| anyhow::anyhow!("no table {name}"))?;
    store.reset_counts();
    let started = Instant::now();
    let scan = view.scan(&def).await?;
    let ms = started.elapsed().as_secs_f64() * 1e3;
    let requests = store.counts().total();
    println!("{what:<34} {ms:>9.1} {requests:>9} {:>12}", scan.rows());
    Ok(())
}

fn did(number: usize) -> Did {
    let digest = blake3::hash(&number.to_le_bytes()).to_hex();
    // Hexadecimal digits as letters, since a did:plc has no 0, 1, 8 and 9.
    let name: String = digest[..24]
        .bytes()
        .map(|digit| char::from(b'a' + (digit % 16)))
        .collect();
    format!("did:plc:{name}").parse().expect("a DID")
}

fn delivery(source: &str) -> Delivery {
    Delivery {
        source: source.into(),
        seq: Some(1),
        indexed_at: Micros(START_US),
        time: None,
        verification: Verification::Inverted,
    }
}

fn follow(number: usize, accounts: usize) -> Change {
    let subject = did(number % 1_000);
    let text = format!(
        r#"{{"$type":"{FOLLOW}","subject":"{subject}","createdAt":"2026-07-04T12:00:00.000Z"}}"#
    );
    let value = json::from_text(&text).expect("a record");
    let rkey = Tid::new(START_US + number as i64, 0).expect("a TID");
    Change::Record(RecordChange {
        did: did(number % accounts),
        collection: FOLLOW.parse().expect("an NSID"),
        rkey: rkey.to_string().parse().expect("a record key"),
        rev: rkey,
        body: Some(Body::of(Bytes::from(cbor::encode(&value)))),
        delivery: delivery(RELAY),
    })
}

fn state(number: usize, source: &str, minute: i64, active: bool) -> Change {
    Change::Account(AccountChange {
        did: did(number),
        time: Micros(START_US + minute * 60_000_000),
        seq: Some(minute),
        active,
        status: (!active).then(|| "deactivated".to_owned()),
        delivery: delivery(source),
    })
}
