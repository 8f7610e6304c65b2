//! Opens a store by URL: `s3://bucket/prefix`, `file:///path`, a plain path, `memory://`.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{BackoffConfig, ClientOptions, Error, ObjectStore, RetryConfig};
use url::Url;

use crate::local::LocalDurable;

/// Why a store was not opened. Each sentence says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The URL is none.
    #[error("`{url}` is no URL; write s3://bucket/prefix, file:///path, memory:// or a path")]
    Url {
        /// As given.
        url: String,
        /// What is wrong with it.
        source: url::ParseError,
    },
    /// The URL's scheme is none that we know.
    #[error(
        "`{scheme}://` is no store that we know; write s3://bucket/prefix, file:///path, memory:// or a path"
    )]
    Scheme {
        /// As given.
        scheme: String,
    },
    /// The URL names no bucket or folder.
    #[error("`{url}` names no {missing}; write s3://bucket/prefix or file:///path")]
    Incomplete {
        /// As given.
        url: String,
        /// What is missing.
        missing: &'static str,
    },
    /// The prefix can't be one.
    #[error("`{url}` has a prefix that objects can't have")]
    Prefix {
        /// As given.
        url: String,
        /// What is wrong with it.
        source: object_store::path::Error,
    },
    /// The bucket's client can't be made of these settings.
    #[error(
        "the AWS_* settings don't make a client; check AWS_REGION, AWS_ENDPOINT_URL and the credentials"
    )]
    Client(#[source] Error),
    /// The folder can't be made or opened.
    #[error("folder {path:?} can't be used; check that it may be written")]
    Folder {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The folder can't be opened as a store.
    #[error("folder {path:?} can't be opened")]
    Local {
        /// Which.
        path: PathBuf,
        /// Why.
        source: Error,
    },
}

/// Opens the store that `url` names, rooted at its prefix. A local folder is created where none is.
///
/// `env` holds the usual `AWS_*` variables (others are ignored); `AWS_ENDPOINT_URL` points to MinIO and its
/// like, by http too. Costs no request: whether the bucket is there shows with [`crate::Bucket::open`].
///
/// # Errors
/// See [`StoreError`].
pub fn open_store<S: BuildHasher>(
    url: &str,
    env: &HashMap<String, String, S>,
) -> Result<Arc<dyn ObjectStore>, StoreError> {
    if !url.contains("://") {
        return open_folder(PathBuf::from(url));
    }
    let parsed = Url::parse(url).map_err(|source| StoreError::Url {
        url: url.to_owned(),
        source,
    })?;
    match parsed.scheme() {
        "memory" => Ok(Arc::new(InMemory::new())),
        "file" => match parsed.to_file_path() {
            Ok(path) => open_folder(path),
            Err(()) => Err(StoreError::Incomplete {
                url: url.to_owned(),
                missing: "folder",
            }),
        },
        "s3" => open_s3(url, &parsed, env),
        scheme => Err(StoreError::Scheme {
            scheme: scheme.to_owned(),
        }),
    }
}

fn open_folder(path: PathBuf) -> Result<Arc<dyn ObjectStore>, StoreError> {
    if path.as_os_str().is_empty() {
        return Err(StoreError::Incomplete {
            url: String::new(),
            missing: "folder",
        });
    }
    Ok(Arc::new(LocalDurable::open(path)?))
}

fn open_s3<S: BuildHasher>(
    url: &str,
    parsed: &Url,
    env: &HashMap<String, String, S>,
) -> Result<Arc<dyn ObjectStore>, StoreError> {
    let bucket = parsed.host_str().filter(|host| !host.is_empty());
    let bucket = bucket.ok_or_else(|| StoreError::Incomplete {
        url: url.to_owned(),
        missing: "bucket",
    })?;
    let prefix = Path::from_url_path(parsed.path()).map_err(|source| StoreError::Prefix {
        url: url.to_owned(),
        source,
    })?;
    let mut builder = AmazonS3Builder::new();
    let mut has_region = false;
    for (name, value) in env {
        // Profiles and files of the AWS command line are not ours to read.
        let Ok(key) = name.to_ascii_lowercase().parse::<AmazonS3ConfigKey>() else {
            continue;
        };
        if !name.starts_with("AWS_") || value.is_empty() {
            continue;
        }
        has_region |= matches!(
            key,
            AmazonS3ConfigKey::Region | AmazonS3ConfigKey::DefaultRegion
        );
        builder = builder.with_config(key, value);
    }
    if !has_region {
        builder = builder.with_region("us-east-1");
    }
    let endpoints = ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT"];
    let is_http = endpoints.iter().any(|name| {
        env.get(*name)
            .is_some_and(|endpoint| endpoint.starts_with("http://"))
    });
    // 256 MiB within 2 minutes asks for 2 MiB/s; a smaller object that takes this long is asked for again.
    let options = ClientOptions::new()
        .with_allow_http(is_http)
        .with_connect_timeout(Duration::from_secs(5))
        .with_timeout(Duration::from_secs(120));
    // A few quick repetitions here; longer outages are retried, and told, by this crate.
    let retry = RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(50),
            max_backoff: Duration::from_secs(2),
            base: 2.0,
        },
        max_retries: 3,
        retry_timeout: Duration::from_secs(30),
    };
    let store = builder
        .with_bucket_name(bucket)
        .with_client_options(options)
        .with_retry(retry)
        .build()
        .map_err(StoreError::Client)?;
    if prefix.as_ref().is_empty() {
        return Ok(Arc::new(store));
    }
    Ok(Arc::new(PrefixStore::new(store, prefix)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    fn open(url: &str, env: &[(&str, &str)]) -> Result<String, StoreError> {
        let env: HashMap<String, String> = env
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        open_store(url, &env).map(|store| store.to_string())
    }

    #[test]
    fn each_scheme_opens_its_store() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        assert!(
            open(path.to_str().unwrap(), &[])
                .unwrap()
                .contains("LocalDurable")
        );
        assert!(
            open(&format!("file://{}", path.display()), &[])
                .unwrap()
                .contains("LocalDurable")
        );
        assert!(open("memory://", &[]).unwrap().contains("InMemory"));
        let env = [
            ("AWS_ENDPOINT_URL", "http://127.0.0.1:9000"),
            ("AWS_ACCESS_KEY_ID", "a"),
            ("AWS_SECRET_ACCESS_KEY", "b"),
        ];
        assert!(
            open("s3://bucket/some/prefix", &env)
                .unwrap()
                .contains("PrefixObjectStore(some/prefix)")
        );
        assert!(
            open("s3://bucket", &env)
                .unwrap()
                .contains("AmazonS3(bucket)")
        );
    }

    #[test]
    fn what_is_no_store_says_what_to_write() {
        for url in ["gs://bucket", "s3://", "http://x", "://", ""] {
            let error = open(url, &[]).unwrap_err().to_string();
            assert!(error.contains("s3://bucket/prefix"), "{url}: {error}");
        }
    }
}
