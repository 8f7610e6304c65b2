//! How many bytes are written to the bucket for each byte of log, over a day of ingest: log, segments, packs, marks,
//! parts and manifests, with merging.
//!
//! `write_amplification [FLUSHES] [RECORDS]`: by default 2,880 flushes (one every 30 seconds of a virtual day) of 300
//! records each, in 30 log objects. Accounts like, post, follow, repost and take back as on the network; each commit
//! brings its record, its event and its head. Everything comes from a seed, so two runs write the same.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tables::cache::{Cache, CacheSettings};
use tables::compactor::{Compactor, CompactorSettings};
use tables::crdt::atproto::{Action, Cid, Did, Tid, Verification, cbor, datetime, json};
use tables::crdt::{
    Body, Change, ChangeBatch, CursorChange, Delivery, EventChange, EventKind, HeadChange, Micros,
    RecordChange,
};
use tables::flush::FlushSettings;
use tables::schema::Catalog;
use tables::storage::{Bucket, Clock, LogWriter, ManualClock, Policy, Settings, collect};
use tables::view::{ReadView, Tables};
use testkit::fault_store::FaultStore;

const START_US: i64 = 1_800_000_000_000_000;
const FLUSH_SECONDS: usize = 30;
const ACCOUNTS: u32 = 20_000;
/// What the design promises.
const AMPLIFICATION_MAX: f64 = 10.0;
/// As often the collector runs, in flushes: once an hour.
const COLLECT_EVERY: usize = 120;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<usize> = std::env::args()
        .filter_map(|text| text.parse().ok())
        .collect();
    let flushes = arguments.first().copied().unwrap_or(2_880);
    let records = arguments.get(1).copied().unwrap_or(300);
    let clock = Arc::new(ManualClock::new(START_US));
    let store = Counting::new(&clock);
    let bucket = Bucket::open_seeded(
        Arc::new(store.clone()),
        Arc::clone(&clock) as Arc<dyn Clock>,
        Settings::default(),
        7,
    )
    .await?;
    let cache = Arc::new(Cache::new(CacheSettings::default()));
    let tables = Tables::new(bucket.clone(), cache, Arc::new(Catalog::builtin()));
    let settings = CompactorSettings {
        flush: FlushSettings::at_once(),
        ..CompactorSettings::default()
    };
    let compactor = Compactor::new(tables.clone(), "bench".to_owned(), settings);
    let mut writer = LogWriter::new(bucket.clone());
    let mut stream = Generated::new();
    let started = Instant::now();
    let mut merges = 0;
    for flush in 1..=flushes {
        for second in 0..FLUSH_SECONDS {
            let now_us = clock.now_us();
            let count = records * (second + 1) / FLUSH_SECONDS - records * second / FLUSH_SECONDS;
            let changes = stream.changes(count, now_us);
            writer.append(ChangeBatch { changes }.encode()).await?;
            clock.advance(Duration::from_secs(1));
        }
        // As a compactor that is never idle: until nothing is due.
        loop {
            let round = compactor.run_once().await?;
            merges += round.merges;
            if round.merges == 0 {
                break;
            }
        }
        if flush % COLLECT_EVERY == 0 {
            let policy = Policy {
                retention: Duration::from_secs(1_800),
                grace: Duration::from_secs(1_800),
                is_dry: false,
            };
            collect(&bucket, tables.chain(), policy, "bench", &tables).await?;
        }
        if flush % 240 == 0 || flush == flushes {
            let written = store.written();
            let segments = ReadView::open(&tables).await?.segments().entries().count();
            println!(
                "{flush:>6} flushes, {merges:>6} merges, {segments:>5} segments, {:>7.1} MB of log, amplification {:.2}, {:.0} s",
                megabytes(log_bytes(&written)),
                amplification(&written),
                started.elapsed().as_secs_f64(),
            );
        }
    }
    report(&store.written())
}

fn report(written: &BTreeMap<String, (u64, u64)>) -> anyhow::Result<()> {
    println!(
        "\n{:<10} {:>9} {:>10} {:>16}",
        "objects", "number", "MB", "per byte of log"
    );
    for (kind, (number, bytes)) in written {
        println!(
            "{kind:<10} {number:>9} {:>10.1} {:>16.2}",
            megabytes(*bytes),
            *bytes as f64 / log_bytes(written) as f64
        );
    }
    let amplification = amplification(written);
    println!("amplification {amplification:.2}, at most {AMPLIFICATION_MAX}");
    if amplification > AMPLIFICATION_MAX {
        anyhow::bail!("too much is written");
    }
    Ok(())
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

fn log_bytes(written: &BTreeMap<String, (u64, u64)>) -> u64 {
    written.get("wal").map_or(0, |(_, bytes)| *bytes)
}

fn amplification(written: &BTreeMap<String, (u64, u64)>) -> f64 {
    let all: u64 = written.values().map(|(_, bytes)| bytes).sum();
    all as f64 / log_bytes(written) as f64
}

/// What accounts do, from a seed.
struct Generated {
    random: StdRng,
    /// Records that may be taken back.
    live: Vec<(Did, &'static str, Tid)>,
    last: i64,
    seq: i64,
}

impl Generated {
    fn new() -> Self {
        Self {
            random: StdRng::seed_from_u64(0x0a11_0711),
            live: Vec::new(),
            last: 0,
            seq: 0,
        }
    }

    /// `count` commits of one operation each, with their events and heads, and the cursor behind them.
    fn changes(&mut self, count: usize, now_us: i64) -> Vec<Change> {
        let mut changes = Vec::with_capacity(3 * count + 1);
        for _ in 0..count {
            self.commit(now_us, &mut changes);
        }
        changes.push(Change::Cursor(CursorChange {
            source: SOURCE.into(),
            slice: String::new(),
            generation: 0,
            cursor: self.seq,
            indexed_at: Micros(now_us),
        }));
        changes
    }

    fn commit(&mut self, now_us: i64, changes: &mut Vec<Change>) {
        self.last = (self.last + 1).max(now_us);
        self.seq += 1;
        let rev = Tid::new(self.last, 3).expect("a time of this century");
        let is_delete = !self.live.is_empty() && self.random.random_bool(0.08);
        let (did, collection, rkey, body) = if is_delete {
            let place = self.random.random_range(0..self.live.len());
            let (did, collection, rkey) = self.live.swap_remove(place);
            (did, collection, rkey, None)
        } else {
            let did = self.did();
            let (collection, body) = self.record(now_us);
            self.live.push((did.clone(), collection, rev));
            if self.live.len() > 50_000 {
                self.live.swap_remove(0);
            }
            (did, collection, rev, Some(body))
        };
        let delivery = Delivery {
            source: SOURCE.into(),
            seq: Some(self.seq),
            indexed_at: Micros(now_us + 200_000),
            time: Some(Micros(now_us)),
            verification: Verification::Inverted,
        };
        let noise: [u8; 160] = self.random.random();
        let commit = Cid::of_cbor(&noise);
        let cid = body.as_ref().map(|body| body.cid);
        changes.push(Change::Record(RecordChange {
            did: did.clone(),
            collection: collection.parse().expect("an NSID"),
            rkey: rkey.to_string().parse().expect("a TID"),
            rev,
            body,
            delivery: delivery.clone(),
        }));
        changes.push(Change::Event(EventChange {
            kind: EventKind::Commit,
            did: did.clone(),
            time: Micros(now_us),
            rev: Some(rev),
            commit: Some(commit),
            op_index: 0,
            operation: Some(if is_delete {
                Action::Delete
            } else {
                Action::Create
            }),
            collection: Some(collection.parse().expect("an NSID")),
            rkey: Some(rkey.to_string().parse().expect("a TID")),
            cid,
            handle: None,
            active: None,
            status: None,
            delivery: delivery.clone(),
        }));
        changes.push(Change::Head(HeadChange {
            did,
            rev,
            data: Cid::of_cbor(&noise[..80]),
            commit,
            commit_block: Bytes::copy_from_slice(&noise),
            delivery,
        }));
    }

    /// An account: a few write much, most write little.
    fn did(&mut self) -> Did {
        let skewed = self.random.random::<f64>().powi(3);
        let number = (skewed * f64::from(ACCOUNTS)) as u32;
        let hash = blake3::hash(&number.to_le_bytes());
        let letter =
            |byte: &u8| char::from(b"abcdefghijklmnopqrstuvwxyz234567"[usize::from(byte % 32)]);
        let name: String = hash.as_bytes()[..24].iter().map(letter).collect();
        format!("did:plc:{name}").parse().expect("a DID")
    }

    fn record(&mut self, now_us: i64) -> (&'static str, Body) {
        let created = datetime::canonical(now_us);
        let subject = format!(
            "at://{}/app.bsky.feed.post/{}",
            self.did(),
            self.tid(now_us)
        );
        let noise: [u8; 32] = self.random.random();
        let cid = Cid::of_cbor(&noise);
        let (collection, fields) = match self.random.random_range(0..100) {
            0..62 => ("app.bsky.feed.like", reference(&subject, cid)),
            62..76 => (
                "app.bsky.feed.post",
                format!(r#""text":"{}","langs":["en"]"#, self.text()),
            ),
            76..88 => (
                "app.bsky.graph.follow",
                format!(r#""subject":"{}""#, self.did()),
            ),
            88..97 => ("app.bsky.feed.repost", reference(&subject, cid)),
            _ => (
                "app.bsky.graph.block",
                format!(r#""subject":"{}""#, self.did()),
            ),
        };
        let text = format!(r#"{{"$type":"{collection}","createdAt":"{created}",{fields}}}"#);
        let value = json::from_text(&text).expect("JSON of the data model");
        (collection, Body::of(cbor::encode(&value).into()))
    }

    fn tid(&mut self, now_us: i64) -> Tid {
        let age_us = (self.random.random::<f64>().powi(4) * 3e13) as i64;
        Tid::new(now_us - age_us, 3).expect("a time of this century")
    }

    /// 5 to 40 words, of which some are frequent.
    fn text(&mut self) -> String {
        let mut text = String::new();
        for _ in 0..self.random.random_range(5..40) {
            let number = (self.random.random::<f64>().powi(3) * 20_000.0) as u32;
            let hash = blake3::hash(&number.to_le_bytes());
            let length = 2 + usize::from(hash.as_bytes()[0] % 8);
            let letters = hash.as_bytes()[1..=length].iter();
            text.extend(letters.map(|byte| char::from(b'a' + byte % 26)));
            text.push(' ');
        }
        text
    }
}

const SOURCE: &str = "wss://relay.example";

fn reference(uri: &str, cid: Cid) -> String {
    format!(r#""subject":{{"uri":"{uri}","cid":"{cid}"}}"#)
}

/// Counts what is written, by the kind of object.
#[derive(Clone)]
struct Counting {
    inner: FaultStore,
    written: Arc<Mutex<BTreeMap<String, (u64, u64)>>>,
}

impl Counting {
    /// A store in memory, in which time is `clock`'s.
    fn new(clock: &Arc<ManualClock>) -> Self {
        let inner = FaultStore::in_memory();
        let clock = Arc::clone(clock);
        inner.time(move || clock.now_us());
        Self {
            inner,
            written: Arc::default(),
        }
    }

    fn written(&self) -> BTreeMap<String, (u64, u64)> {
        self.written
            .lock()
            .map(|written| written.clone())
            .unwrap_or_default()
    }
}

impl fmt::Debug for Counting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Counting").finish_non_exhaustive()
    }
}

impl fmt::Display for Counting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Counting")
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for Counting {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        let kind = location.extension().unwrap_or("other").to_owned();
        if let Ok(mut written) = self.written.lock() {
            let (number, bytes) = written.entry(kind).or_default();
            *number += 1;
            *bytes += payload.content_length() as u64;
        }
        self.inner.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(
        &self,
        location: &Path,
        ranges: &[std::ops::Range<u64>],
    ) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(
        &self,
        from: &Path,
        to: &Path,
        options: object_store::RenameOptions,
    ) -> Result<()> {
        self.inner.rename_opts(from, to, options).await
    }
}
