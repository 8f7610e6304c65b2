//! Every step of a commit for itself, on one thread and in memory.

use std::hint::black_box;
use std::time::Instant;

use anyhow::Context as _;
use atproto::mst::Tree;
use atproto::{Car, Commit, CommitFrame, Frame, PublicKey, verify_commit};
use crdt::{Change, ChangeBatch, Delivery, Micros, changes_of_commit};

use crate::network::{Recorded, frames};

/// How many commits are one batch, about as many as a window holds.
const BATCH: usize = 1_024;

/// Prints the µs that each step takes for a commit.
pub(crate) fn run(recorded: &Recorded) -> anyhow::Result<()> {
    let bytes = frames(&recorded.path)?;
    let docs = recorded.docs()?;
    let decoded: Vec<Frame> = bytes
        .iter()
        .map(|bytes| Frame::decode(bytes))
        .collect::<Result<_, _>>()?;
    let mut commits: Vec<(&CommitFrame, &PublicKey)> = Vec::new();
    for frame in &decoded {
        if let Frame::Commit(frame) = frame {
            let document = docs.get(&frame.repo).context("a document")?;
            let key = document.signing_key.as_ref().context("a key")?;
            commits.push((frame, key));
        }
    }
    // Whenever this runs, the recording is of before.
    let now_us = i64::MAX;
    println!("\n{:<28} {:>12}", "step, one thread", "us a commit");
    step("frame hash (BLAKE3)", &bytes, |bytes| blake3::hash(bytes));
    step("frame decoded", &bytes, |bytes| Frame::decode(bytes));
    step("CAR read and hashed", &commits, |(frame, _)| {
        Car::parse(&frame.blocks).map(|car| car.root())
    });
    let heads: Vec<(Commit, &PublicKey)> = commits
        .iter()
        .map(|(frame, key)| Ok((head(frame)?, *key)))
        .collect::<anyhow::Result<_>>()?;
    step("commit block decoded", &commits, |(frame, _)| {
        head(frame).is_ok()
    });
    step("signature", &heads, |(commit, key)| commit.verify(key));
    step("tree inverted", &commits, |(frame, _)| {
        inverted(frame).is_ok()
    });
    let verified: Vec<_> = commits
        .iter()
        .map(|(frame, key)| verify_commit(frame, key, now_us))
        .collect::<Result<_, _>>()?;
    step("verify_commit, all of it", &commits, |(frame, key)| {
        verify_commit(frame, key, now_us)
    });
    let delivery = Delivery {
        source: "wss://relay.example".into(),
        seq: Some(1),
        indexed_at: Micros(1_750_000_000_000_000),
        time: Some(Micros(1_750_000_000_000_000)),
        verification: atproto::Verification::Archive,
    };
    step("changes made", &verified, |commit| {
        changes_of_commit(commit, &delivery)
    });
    let changes: Vec<Vec<Change>> = verified
        .iter()
        .map(|commit| changes_of_commit(commit, &delivery))
        .collect();
    let batches: Vec<ChangeBatch> = changes
        .chunks(BATCH)
        .map(|chunk| ChangeBatch::from(chunk.concat()))
        .collect();
    let started = Instant::now();
    let sections = batches.iter().map(|batch| batch.clone().encode());
    let sections: Vec<_> = sections.map(black_box).collect();
    row("batch encoded", started, verified.len());
    drop(sections);
    Ok(())
}

fn head(frame: &CommitFrame) -> anyhow::Result<Commit> {
    let car = Car::parse(&frame.blocks)?;
    let block = car.get(&frame.commit);
    Ok(Commit::decode(block.unwrap_or_default())?)
}

/// As `verify_commit` does it, with the reading and hashing of the CAR, which it needs.
fn inverted(frame: &CommitFrame) -> anyhow::Result<bool> {
    let car = Car::parse(&frame.blocks)?;
    let block = car.get(&frame.commit);
    let commit = Commit::decode(block.unwrap_or_default())?;
    let mut tree = Tree::load(commit.data, &car)?;
    for op in frame.ops.iter().rev() {
        match op.prev {
            None => tree.remove(&op.path)?,
            Some(prev) => tree.insert(&op.path, prev)?,
        };
    }
    Ok(Some(tree.root()) == frame.prev_data)
}

fn step<T, R>(what: &str, over: &[T], take: impl Fn(&T) -> R) {
    let started = Instant::now();
    for one in over {
        black_box(take(one));
    }
    row(what, started, over.len());
}

fn row(what: &str, started: Instant, count: usize) {
    let micros = started.elapsed().as_secs_f64() * 1e6;
    println!("{what:<28} {:>12.1}", micros / count.max(1) as f64);
}
