//! The frames that are ingested: a recording of a generated network, and the documents of its accounts.

use std::fmt;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use atproto::{Frame, Map, Value};
use ingest::{DidDocs, Recording};
use testkit::repo::{Network, NetworkConfig, Stamp, Write};

/// How many operations a commit may have: what accounts hold before is committed in as few as possible.
const OPS: usize = 200;

/// A recording with what is to know of it.
#[derive(Debug)]
pub(crate) struct Recorded {
    /// The frames.
    pub(crate) path: PathBuf,
    /// The documents, as JSON.
    pub(crate) documents: PathBuf,
    /// How many frames, and the number of the last.
    pub(crate) frames: usize,
    pub(crate) commits: usize,
    pub(crate) seq_last: i64,
    bytes: usize,
    blocks: usize,
    accounts: usize,
    records: usize,
}

impl fmt::Display for Recorded {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} frames of {} accounts with {} records each: {} bytes and {:.1} blocks a frame",
            self.frames,
            self.accounts,
            self.records,
            self.bytes / self.frames.max(1),
            self.blocks as f64 / self.commits.max(1) as f64,
        )
    }
}

impl Recorded {
    /// Makes a recording in `folder`: `frames` of `accounts` that hold `records` each before.
    pub(crate) fn make(
        folder: &Path,
        frames: usize,
        accounts: usize,
        records: usize,
    ) -> anyhow::Result<Self> {
        let config = NetworkConfig {
            accounts,
            ..NetworkConfig::default()
        };
        let start_us = config.start_us;
        let mut network = Network::new(config);
        for repo in network.repos_mut() {
            for first in (0..records).step_by(OPS) {
                let numbers = first..records.min(first + OPS);
                let writes: Vec<Write> = numbers.map(|number| like(start_us, number)).collect();
                // A second for each commit, before all that is recorded.
                let at_us = start_us - (records - first) as i64 * 1_000_000;
                repo.commit(Stamp { seq: 1, at_us }, &writes);
            }
        }
        let mut recorded = Self {
            path: folder.join("frames.bin"),
            documents: folder.join("documents.json"),
            frames,
            commits: 0,
            seq_last: 0,
            bytes: 0,
            blocks: 0,
            accounts,
            records,
        };
        let mut file = BufWriter::new(File::create(&recorded.path)?);
        for message in network.by_ref().take(frames) {
            file.write_all(&u32::try_from(message.bytes.len())?.to_le_bytes())?;
            file.write_all(&message.bytes)?;
            recorded.bytes += message.bytes.len();
            recorded.seq_last = seq(&message.frame).context("a frame with a number")?;
            if let Frame::Commit(frame) = &message.frame {
                recorded.commits += 1;
                recorded.blocks += atproto::Car::parse(&frame.blocks)?.iter().len();
            }
        }
        file.flush()?;
        let documents = serde_json::to_vec(&network.did_documents())?;
        std::fs::write(&recorded.documents, documents)?;
        Ok(recorded)
    }

    /// The documents.
    pub(crate) fn docs(&self) -> anyhow::Result<DidDocs> {
        Ok(DidDocs::open(&self.documents)?)
    }
}

/// The frames of a recording.
pub(crate) fn frames(path: &Path) -> anyhow::Result<Vec<bytes::Bytes>> {
    let mut recording = Recording::open(path)?;
    let mut frames = Vec::new();
    while let Some(frame) = recording.next_frame()? {
        frames.push(frame);
    }
    Ok(frames)
}

/// A frame's number.
pub(crate) fn seq(frame: &Frame) -> Option<i64> {
    match frame {
        Frame::Commit(frame) => Some(frame.seq),
        Frame::Sync(frame) => Some(frame.seq),
        Frame::Identity(frame) => Some(frame.seq),
        Frame::Account(frame) => Some(frame.seq),
        Frame::Info { .. } | Frame::Error { .. } | Frame::Unknown { .. } => None,
    }
}

fn like(start_us: i64, number: usize) -> Write {
    let at_us = start_us - 1_000_000_000_000 + number as i64 * 1_000_003;
    let rkey = atproto::Tid::new(at_us, 5).expect("a time of this century");
    let fields: Map = [
        ("$type", Value::from("app.bsky.feed.like")),
        ("number", Value::from(number as i64)),
    ]
    .into_iter()
    .collect();
    Write::put(format!("app.bsky.feed.like/{rkey}"), &Value::Map(fields))
}
