//! What a manifest of many segments costs: opening a view, planning merges, committing one flush.
//!
//! `manifest [SEGMENTS]`: by default 100,000 entries, 1,000 a part, as those of record tables are, on a local folder
//! that is removed again. The segments themselves are not there: nothing that is measured reads one.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tables::cache::{Cache, CacheSettings};
use tables::crdt::{Change, ChangeBatch, CursorChange, Micros};
use tables::flush::{FlushSettings, flush};
use tables::manifest::{Body, PART_SEGMENTS_MAX, PartRef, encode_body, encode_part};
use tables::merge::{MergeSettings, plan};
use tables::schema::Catalog;
use tables::segment::{ColumnStats, Scalar, SegmentEntry, SegmentKind, Span};
use tables::storage::{
    self, Apply, ApplyError, Bucket, CommitKind, Draft, LogWriter, Root, Settings, SystemClock,
    Version, layout,
};
use tables::view::{ReadView, Tables};

const TABLES: [&str; 5] = [
    "atproto.app.bsky.feed.like",
    "atproto.app.bsky.feed.post",
    "atproto.app.bsky.feed.repost",
    "atproto.app.bsky.graph.block",
    "atproto.app.bsky.graph.follow",
];

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let segments = std::env::args()
        .find_map(|text| text.parse().ok())
        .unwrap_or(100_000);
    let folder = tempfile::tempdir()?;
    let store = storage::open_store(&folder.path().to_string_lossy(), &HashMap::new())?;
    let bucket = Bucket::open(store, Arc::new(SystemClock), Settings::default()).await?;
    let tables = || {
        let cache = Arc::new(Cache::new(CacheSettings::default()));
        Tables::new(bucket.clone(), cache, Arc::new(Catalog::builtin()))
    };
    let part_bytes = write(&tables(), segments).await?;
    // The peak from here on: what made the entries does not count.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    println!("{segments} segments in parts of {part_bytes} bytes together");
    println!("{:<34} {:>9} {:>14}", "step", "ms", "peak MiB");

    let tables = tables();
    let started = Instant::now();
    let view = ReadView::open(&tables).await?;
    row("open a view, nothing cached", started.elapsed());
    anyhow::ensure!(view.segments().entries().count() == segments);

    let started = Instant::now();
    let again = ReadView::open(&tables).await?;
    row("open it again", started.elapsed());

    let started = Instant::now();
    let plans = plan(again.segments(), &MergeSettings::default());
    row("plan merges", started.elapsed());

    let mut writer = LogWriter::new(bucket.clone());
    writer.append(one_change().encode()).await?;
    let started = Instant::now();
    let flushed = flush(&tables, "bench", FlushSettings::at_once()).await?;
    row("commit one flush", started.elapsed());
    anyhow::ensure!(flushed.root.is_some());

    let started = Instant::now();
    let after = ReadView::open(&tables).await?;
    row("open a view after it", started.elapsed());
    anyhow::ensure!(after.segments().entries().count() == segments + 1);
    println!(
        "{} merges due; the root names {} parts in {} bytes",
        plans.len(),
        after.segments().parts().len(),
        after.root().body.len()
    );
    Ok(())
}

fn row(step: &str, elapsed: Duration) {
    let peak = peak_kib().map_or("unknown".to_owned(), |kib| (kib / 1_024).to_string());
    println!("{step:<34} {:>9.1} {peak:>14}", elapsed.as_secs_f64() * 1e3);
}

/// The most memory that the process had, as Linux tells it.
fn peak_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

fn one_change() -> ChangeBatch {
    ChangeBatch {
        changes: vec![Change::Cursor(CursorChange {
            source: "wss://relay.example".into(),
            slice: String::new(),
            generation: 0,
            cursor: 1,
            indexed_at: Micros(1_800_000_000_000_000),
        })],
    }
}

/// Makes a version with so many segments; gives the bytes of its parts.
async fn write(tables: &Tables, segments: usize) -> anyhow::Result<u64> {
    let bucket = tables.bucket();
    let mut parts = Vec::new();
    for first in (0..segments).step_by(PART_SEGMENTS_MAX) {
        let entries: Vec<_> = (first..segments.min(first + PART_SEGMENTS_MAX))
            .map(|number| Arc::new(entry(number)))
            .collect();
        let bytes = encode_part(&entries);
        let path = layout::system_object(Version(0), bucket.mint(), "part");
        parts.push(PartRef {
            path: path.to_string(),
            segments: u32::try_from(entries.len())?,
            bytes: bytes.len() as u64,
            checksum: *blake3::hash(&bytes).as_bytes(),
        });
        storage::create(bucket, &path, bytes).await?;
    }
    let bytes = parts.iter().map(|part| part.bytes).sum();
    let mut made = Made(parts);
    tables
        .chain()
        .commit(Version(0), "bench", &mut made)
        .await?;
    Ok(bytes)
}

/// A commit that names these parts and no others.
struct Made(Vec<PartRef>);

#[async_trait]
impl Apply for Made {
    async fn apply(&mut self, newest: &Root) -> Result<Draft, ApplyError> {
        Ok(Draft {
            body: encode_body(&Body {
                parts: self.0.clone(),
                catalog: None,
            }),
            ..Draft::following(newest, CommitKind::Flush)
        })
    }
}

fn entry(number: usize) -> SegmentEntry {
    let digest = *blake3::hash(&number.to_le_bytes()).as_bytes();
    let text = |name: &str| Scalar::Text(format!("{name}{}", hex(&digest[..12])));
    let rows = 1_000 + number as u64 % 50_000;
    let first = 1_700_000_000_000_000 + number as i64 * 1_000_000;
    let mut columns = BTreeMap::new();
    let mut put = |name: &str, min, max| {
        let stats = ColumnStats {
            nulls: 0,
            min: Some(min),
            max: Some(max),
        };
        columns.insert(name.to_owned(), stats);
    };
    for name in [
        "did",
        "rkey",
        "rev",
        "cid",
        "source",
        "verification",
        "subject_uri",
        "extra",
    ] {
        put(name, text("a"), text("z"));
    }
    for name in ["created_at", "time", "indexed_at", "seq"] {
        put(name, Scalar::Int(first), Scalar::Int(first + 30_000_000));
    }
    let span = |kind: &str| Span {
        path: format!("system/{:020}-{}.{kind}", number / 40, hex(&digest[..13])),
        offset: number as u64 % 40 * 20_000,
        length: 20_000,
        checksum: digest,
    };
    let table = TABLES[number % TABLES.len()];
    SegmentEntry {
        path: format!(
            "tables/{table}/{:020}-{}.parquet",
            number / 40,
            hex(&digest[..13])
        ),
        table: table.to_owned(),
        kind: SegmentKind::Rows,
        partition: format!("{}-{:02}", 2_023 + number % 4, 1 + number / 4 % 12),
        rows,
        bytes: rows * 90,
        checksum: digest,
        created_us: first,
        key_min: format!("did:plc:a{}", hex(&digest[..12])).into_bytes(),
        key_max: format!("did:plc:z{}", hex(&digest[..12])).into_bytes(),
        columns,
        index: span("pack"),
        marks: None,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
