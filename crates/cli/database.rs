//! Opens the store that a URL names, with the credentials that the environment holds.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use storage::{Bucket, SystemClock};
use url::Url;

use crate::config::TimeArgs;

/// The database at `url`; made there if there is none. Refuses a store that can't keep the protocol's promises.
pub(crate) async fn open(url: &str, times: &TimeArgs) -> Result<Bucket> {
    let store =
        storage::open_store(url, &environment()).with_context(|| format!("can't open {url}"))?;
    let bucket = Bucket::open(store, Arc::new(SystemClock), times.settings()).await;
    bucket.with_context(|| format!("can't open {url}"))
}

/// The database at `url`, which has to be there. Writes nothing.
pub(crate) async fn open_existing(url: &str, times: &TimeArgs) -> Result<Bucket> {
    // Opening a local store makes its folder.
    if local_folder(url).is_some_and(|folder| !folder.exists()) {
        bail!(
            "can't open {url}: no database here; check the URL, or create one with `alluvium up --store {url}`"
        );
    }
    let store =
        storage::open_store(url, &environment()).with_context(|| format!("can't open {url}"))?;
    let bucket = Bucket::open_existing(store, Arc::new(SystemClock), times.settings()).await;
    bucket.with_context(|| format!("can't open {url}"))
}

/// What a store may look for: `AWS_ACCESS_KEY_ID` and the like.
fn environment() -> HashMap<String, String> {
    std::env::vars()
        .filter(|(name, _)| name.starts_with("AWS_"))
        .collect()
}

/// The folder that a URL names; none if it names something else.
fn local_folder(url: &str) -> Option<PathBuf> {
    match Url::parse(url) {
        Ok(parsed) if parsed.scheme() == "file" => parsed.to_file_path().ok(),
        Ok(_) => None,
        Err(_) => Some(PathBuf::from(url)),
    }
}
