//! A bucket in memory with a log writer, whose store fails as it is told: for tests.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;

use bytes::Bytes;
use crdt::atproto::{Cid, Did, Tid, Verification, cbor, json};
use crdt::{Body, Change, ChangeBatch, Delivery, FloorChange, HeadChange, Micros, RecordChange};
use storage::{Bucket, LogWriter, ManualClock, Settings};
use testkit::fault_store::FaultStore;

use crate::cache::{Cache, CacheSettings};
use crate::flush::{FlushSettings, Flushed, flush};
use crate::schema::{Catalog, TableDef, TableName};
use crate::view::{ReadView, TableScan, Tables};

/// 2027-01-15, µs since the epoch.
pub(crate) const START_US: i64 = 1_800_000_000_000_000;
pub(crate) const BLOCK: &str = "app.bsky.graph.block";

/// A bucket, its tables, and a writer of its log.
pub(crate) struct World {
    pub(crate) store: FaultStore,
    pub(crate) tables: Tables,
    pub(crate) writer: LogWriter,
}

impl World {
    pub(crate) async fn new() -> Self {
        let store = FaultStore::in_memory();
        let clock = Arc::new(ManualClock::new(START_US));
        let bucket = Bucket::open_seeded(
            Arc::new(store.clone()),
            clock,
            Settings::default(),
            0x0a11_0711,
        );
        let bucket = bucket.await.unwrap();
        let cache = Arc::new(Cache::new(CacheSettings::default()));
        let tables = Tables::new(bucket.clone(), cache, Arc::new(Catalog::builtin()));
        Self {
            store,
            tables,
            writer: LogWriter::new(bucket),
        }
    }

    /// Another process over the same bucket, with a number of its own.
    pub(crate) async fn another(&self, number: u64) -> Self {
        let store = self.store.another_process();
        let clock = Arc::clone(self.tables.bucket().clock());
        let settings = Settings::default();
        let bucket = Bucket::open_seeded(
            Arc::new(store.clone()),
            clock,
            settings,
            0x0a11_0711 + number,
        );
        let bucket = bucket.await.unwrap();
        let cache = Arc::new(Cache::new(CacheSettings::default()));
        let tables = Tables::new(bucket.clone(), cache, Arc::new(Catalog::builtin()));
        Self {
            store,
            tables,
            writer: LogWriter::new(bucket),
        }
    }

    pub(crate) async fn append(&mut self, changes: Vec<Change>) {
        let sections = ChangeBatch { changes }.encode();
        self.writer.append(sections).await.unwrap();
    }

    pub(crate) async fn flush(&self) -> Flushed {
        flush(&self.tables, "test", FlushSettings::at_once())
            .await
            .unwrap()
    }

    pub(crate) fn def(&self, schema: &str, table: &str) -> Arc<TableDef> {
        def(self.tables.builtin(), schema, table)
    }

    pub(crate) async fn scan(&self, def: &Arc<TableDef>) -> Arc<TableScan> {
        let view = ReadView::open(&self.tables).await.unwrap();
        view.scan(def).await.unwrap()
    }
}

pub(crate) fn def(catalog: &Catalog, schema: &str, table: &str) -> Arc<TableDef> {
    Arc::clone(catalog.table(&TableName::new(schema, table)).unwrap())
}

/// The did with this number; they sort as the numbers do.
pub(crate) fn did(number: usize) -> Did {
    let mut name = String::with_capacity(24);
    for place in (0..24).rev() {
        let digit = if place < 6 {
            (number >> (4 * place)) & 15
        } else {
            0
        };
        name.push(char::from(b'a' + u8::try_from(digit).unwrap()));
    }
    format!("did:plc:{name}").parse().unwrap()
}

pub(crate) fn tid(number: usize) -> Tid {
    Tid::new(START_US + i64::try_from(number).unwrap(), 0).unwrap()
}

pub(crate) fn delivery() -> Delivery {
    Delivery {
        source: "wss://relay.example".into(),
        seq: Some(7),
        indexed_at: Micros(START_US),
        time: None,
        verification: Verification::Inverted,
    }
}

/// A block of one account by another: one record a repo, all in one partition.
pub(crate) fn block(repo: usize, rev: usize) -> Change {
    let cbor = cbor::encode(
        &json::from_text(&format!(
            r#"{{"$type":"{BLOCK}","subject":"{}","createdAt":"2026-07-04T12:00:00.000Z"}}"#,
            did(rev)
        ))
        .unwrap(),
    );
    record(repo, rev, Some(Body::of(cbor.into())))
}

pub(crate) fn deleted(repo: usize, rev: usize) -> Change {
    record(repo, rev, None)
}

fn record(repo: usize, rev: usize, body: Option<Body>) -> Change {
    Change::Record(RecordChange {
        did: did(repo),
        collection: BLOCK.parse().unwrap(),
        rkey: "3mptbyplj5d2a".parse().unwrap(),
        rev: tid(rev),
        body,
        delivery: delivery(),
    })
}

pub(crate) fn floor(repo: usize, rev: usize) -> Change {
    Change::Floor(FloorChange {
        did: did(repo),
        rev: tid(rev),
        coverage: crdt::Coverage::default(),
        delivery: delivery(),
    })
}

pub(crate) fn head(repo: usize, source: &str, rev: usize) -> Change {
    Change::Head(HeadChange {
        did: did(repo),
        rev: tid(rev),
        data: Cid::of_cbor(b"data"),
        commit: Cid::of_cbor(b"commit"),
        commit_block: Bytes::from_static(b"commit"),
        delivery: Delivery {
            source: source.into(),
            ..delivery()
        },
    })
}
