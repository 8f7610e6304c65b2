//! Official vectors, run whole: bluesky-social/atproto-interop-tests @ 056e5741.
//!
//! Each test says how many vectors it ran, so that a file that went missing or empty can't pass.

mod crypto;
mod data_model;
mod mst;
mod syntax;

use std::path::PathBuf;

/// Reads a file of the vectors by its path within them.
fn read(path: &str) -> String {
    let root =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/atproto/interop");
    let path = root.join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Reads a file of the vectors that is a list in JSON.
fn read_list(path: &str) -> Vec<serde_json::Value> {
    serde_json::from_str(&read(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}
