//! Reads the recorded files. Where they come from is said in `tests/fixtures/MANIFEST.md`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use atproto::{CommitFrame, Did, DidDocument, Frame, PublicKey};

/// Later than every recorded revision: 2026-08-01.
pub(crate) const NOW_US: i64 = 1_785_542_400_000_000;

pub(crate) fn read(name: &str) -> Vec<u8> {
    let path: PathBuf = [
        env!("CARGO_MANIFEST_DIR"),
        "../../tests/fixtures/atproto/firehose",
        name,
    ]
    .iter()
    .collect();
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub(crate) fn read_text(name: &str) -> String {
    String::from_utf8(read(name)).expect("UTF-8")
}

fn read_zstd(name: &str) -> Vec<u8> {
    zstd::decode_all(read(name).as_slice()).expect("zstd")
}

/// Returns the recorded frames, in order.
pub(crate) fn frames() -> Vec<Vec<u8>> {
    let bytes = read_zstd("frames.bin.zst");
    let mut frames = Vec::new();
    let mut rest = bytes.as_slice();
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let (frame, after) = after.split_at(u32::from_le_bytes(*length) as usize);
        frames.push(frame.to_vec());
        rest = after;
    }
    frames
}

/// Returns the key of each account, from its DID document.
pub(crate) fn keys() -> BTreeMap<Did, PublicKey> {
    let documents: BTreeMap<String, serde_json::Value> =
        serde_json::from_slice(&read_zstd("did_docs.json.zst")).expect("JSON");
    let documents = documents
        .values()
        .map(|json| DidDocument::parse(json).expect("a DID document"));
    documents
        .map(|document| (document.id, document.signing_key.expect("a signing key")))
        .collect()
}

/// Returns the recorded commits with their bytes.
pub(crate) fn commits() -> Vec<(Vec<u8>, CommitFrame)> {
    let decode = |bytes: Vec<u8>| match Frame::decode(&bytes).expect("a frame") {
        Frame::Commit(commit) => Some((bytes, commit)),
        _ => None,
    };
    frames().into_iter().filter_map(decode).collect()
}
