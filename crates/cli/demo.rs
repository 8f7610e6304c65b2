//! The built-in sample: 150 consecutive frames of a public relay and the DID documents to verify them with.
//!
//! They go through the same verification and the same log as any other frames.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use ingest::DidDocs;
use tables::view::Tables;
use tokio_util::sync::CancellationToken;

use crate::config::Format;
use crate::ingestion::Entry;
use crate::roles;
use crate::sql::{Source, output};

const FRAMES: &[u8] = include_bytes!("../../tests/fixtures/atproto/firehose/frames.bin.zst");
const DID_DOCS: &[u8] = include_bytes!("../../tests/fixtures/atproto/firehose/did_docs.json.zst");

/// A first question to the social graph in the sample.
const FIRST_QUERY: &str = "\
SELECT collection, count(*) AS records, count(DISTINCT did) AS accounts, min(verification) AS verified
FROM atproto.records GROUP BY collection ORDER BY records DESC, collection";

/// Replays the sample and prints the first query with its answer.
pub(crate) async fn run(tables: &Tables, stop: &CancellationToken) -> Result<()> {
    eprintln!("replaying the built-in sample: 150 frames of bsky.network, recorded on 2026-07-04");
    let docs = DidDocs::parse(&zstd::decode_all(DID_DOCS)?)
        .context("the built-in DID documents can't be read")?;
    let entry = Entry::open(tables, docs);
    let replayed = replay(&entry);
    let outcome = entry.until(replayed, stop).await;
    if stop.is_cancelled() {
        return Ok(());
    }
    outcome?;
    println!("\n{FIRST_QUERY};\n");
    let mut source = Source::Store(roles::engine(tables, None)?);
    let rows = source.query(FIRST_QUERY).await?;
    let mut out = std::io::stdout();
    output::print(rows, Format::Table, &mut out)
        .await
        .context("the first query failed")?;
    out.flush()?;
    Ok(())
}

/// Replays the sample from a file of its own: the same way as any recording.
async fn replay(entry: &Entry) -> Result<()> {
    let folder = Folder::new()?;
    let file = folder.0.join("frames.bin.zst");
    std::fs::write(&file, FRAMES)
        .with_context(|| format!("{} can't be written", file.display()))?;
    entry.replay(&file, None).await?;
    Ok(())
}

/// A folder of this process, gone when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Folder> {
        let path = std::env::temp_dir().join(format!("alluvium-demo-{}", std::process::id()));
        std::fs::create_dir_all(&path)
            .with_context(|| format!("{} can't be made", path.display()))?;
        Ok(Folder(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(%error, folder = %self.0.display(), "a temporary folder stays");
        }
    }
}
