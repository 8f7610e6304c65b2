//! Opening a bucket: what is probed, made, and refused, and what the refusal says to do.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::HashMap;
use std::sync::Arc;

use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{GetOptions, ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use testkit::fault_store::{Fault, FaultStore, Operation, Rule};
use ulid::Ulid;

use super::*;
use crate::clock::ManualClock;
use crate::create::create;
use crate::ids::{Position, Seq, WriterId};
use crate::layout;
use crate::world::{HOUR, MINUTE, START_US};

async fn open(store: &FaultStore) -> Result<Bucket, OpenError> {
    open_with(store, Settings::default()).await
}

async fn open_with(store: &FaultStore, settings: Settings) -> Result<Bucket, OpenError> {
    let clock = Arc::new(ManualClock::new(START_US));
    Bucket::open(Arc::new(store.clone()), clock, settings).await
}

async fn open_existing(store: &FaultStore) -> Result<Bucket, OpenError> {
    let clock = Arc::new(ManualClock::new(START_US));
    Bucket::open_existing(Arc::new(store.clone()), clock, Settings::default()).await
}

async fn put(store: &FaultStore, path: &str, text: &str) {
    store
        .put(&Path::from(path), text.to_owned().into())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_new_bucket_holds_its_document_and_nothing_else() {
    let store = FaultStore::in_memory();
    let bucket = open(&store).await.unwrap();
    let listed: Vec<_> = store.list(None).try_collect().await.unwrap();
    assert_eq!(listed.len(), 1, "the probe is gone");
    assert_eq!(listed[0].location.as_ref(), "alluvium.json");
    assert_eq!(open(&store).await.unwrap().database(), bucket.database());
    assert_eq!(
        open_existing(&store).await.unwrap().database(),
        bucket.database()
    );
}

#[test]
fn the_document_is_the_one_that_stands_in_buckets() {
    let golden = b"{\"format\":1,\"database\":\"00000000000000000000000001\",\"created_us\":7}\n";
    assert_eq!(document::encode(DatabaseId(Ulid(1)), 7), golden.as_slice());
    assert_eq!(document::decode(golden).unwrap(), DatabaseId(Ulid(1)));
}

#[tokio::test]
async fn two_processes_that_open_at_once_get_one_database() {
    for seed in 0..20 {
        let store = FaultStore::in_memory();
        let yields = testkit::fault_store::Rates {
            yields: 3,
            ..Default::default()
        };
        store.seed(seed, yields);
        let (one, other) = futures::try_join!(open(&store), open(&store)).unwrap();
        assert_eq!(one.database(), other.database(), "seed {seed}");
    }
}

#[tokio::test]
async fn a_command_that_reads_makes_and_writes_nothing() {
    let store = FaultStore::in_memory();
    assert!(matches!(
        open_existing(&store).await,
        Err(OpenError::Missing)
    ));
    open(&store).await.unwrap();
    store.reset_counts();
    open_existing(&store).await.unwrap();
    let counts = store.counts();
    assert_eq!((counts.put, counts.delete, counts.total()), (0, 0, 1));
}

#[tokio::test]
async fn another_database_is_refused() {
    let store = FaultStore::in_memory();
    let found = open(&store).await.unwrap().database();
    let expected = DatabaseId(Ulid(7));
    let settings = Settings {
        database: Some(expected),
        ..Settings::default()
    };
    match open_with(&store, settings).await {
        Err(OpenError::OtherDatabase {
            expected: e,
            found: f,
        }) => assert_eq!((e, f), (expected, found)),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_newer_or_damaged_document_is_refused() {
    let newer = "{\"format\":2,\"shape\":\"unheard of\"}";
    for (text, is_newer) in [
        (newer, true),
        (
            "{\"format\":0,\"database\":\"00000000000000000000000001\",\"created_us\":7}",
            false,
        ),
        ("{\"format\":1,\"database\":\"x\",\"created_us\":7}", false),
        ("{\"format\":1}", false),
        ("{\"format\":-1}", false),
        ("", false),
        ("\u{0}", false),
    ] {
        let store = FaultStore::in_memory();
        put(&store, "alluvium.json", text).await;
        match open(&store).await {
            Err(OpenError::NewerFormat { found: 2, known: 1 }) => assert!(is_newer, "{text}"),
            Err(OpenError::Damaged(_)) => assert!(!is_newer, "{text}"),
            other => panic!("{text}: {other:?}"),
        }
        let left = store
            .get(&Path::from("alluvium.json"))
            .await
            .unwrap()
            .bytes()
            .await
            .unwrap();
        assert_eq!(left, text, "nothing was changed");
    }
}

#[tokio::test]
async fn a_database_without_its_document_is_refused() {
    let writer = WriterId(Ulid(1));
    let position = Position {
        writer,
        seq: Seq::FIRST,
    };
    for path in [
        layout::wal_object(position),
        layout::manifest(crate::ids::Version(3)),
    ] {
        let store = FaultStore::in_memory();
        put(&store, path.as_ref(), "x").await;
        assert!(
            matches!(open(&store).await, Err(OpenError::Headless { .. })),
            "{path}"
        );
    }
}

#[tokio::test]
async fn a_store_without_permission_is_refused_at_once() {
    for operation in [Operation::Put, Operation::Get, Operation::List] {
        let store = FaultStore::in_memory();
        store.script(Rule::next(operation, "", Fault::Denied).times(u32::MAX));
        let error = open(&store).await.unwrap_err();
        assert!(
            matches!(error, OpenError::NoPermission { .. }),
            "{operation:?}: {error:?}"
        );
        assert!(store.counts().total() < 10, "not retried");
    }
}

#[tokio::test]
async fn a_store_that_is_down_is_refused_after_retries() {
    let store = FaultStore::in_memory();
    store.kill();
    assert!(matches!(open(&store).await, Err(OpenError::Store { .. })));
    assert!(store.counts().total() > 10, "retried");
}

#[tokio::test]
async fn a_store_that_falters_is_opened() {
    for fault in [
        Fault::Before,
        Fault::After,
        Fault::Conflict,
        Fault::Unavailable,
        Fault::Late(3),
    ] {
        for nth in 0..4 {
            let store = FaultStore::in_memory();
            store.script(Rule::next(Operation::Put, "", fault.clone()).after(nth));
            let bucket = open(&store).await.unwrap();
            store.land_late().await;
            assert_eq!(
                open(&store).await.unwrap().database(),
                bucket.database(),
                "{fault:?} of PUT {nth}"
            );
        }
    }
}

/// A store that lacks what the protocol needs.
#[derive(Debug)]
struct Careless {
    inner: object_store::memory::InMemory,
    is_overwriting: bool,
    is_lying: bool,
    ignores_if_match: bool,
}

impl std::fmt::Display for Careless {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Careless")
    }
}

#[async_trait::async_trait]
impl ObjectStore for Careless {
    async fn put_opts(
        &self,
        location: &Path,
        payload: object_store::PutPayload,
        mut opts: PutOptions,
    ) -> object_store::Result<object_store::PutResult> {
        if self.is_overwriting {
            opts.mode = PutMode::Overwrite;
        }
        let exists = self.inner.head(location).await.is_ok();
        let done = self.inner.put_opts(location, payload, opts).await;
        if self.is_lying && exists {
            let path = location.to_string();
            return Err(Error::AlreadyExists {
                path,
                source: "lie".into(),
            });
        }
        done
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: object_store::PutMultipartOptions,
    ) -> object_store::Result<Box<dyn object_store::MultipartUpload>> {
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(
        &self,
        location: &Path,
        mut options: GetOptions,
    ) -> object_store::Result<object_store::GetResult> {
        if self.ignores_if_match {
            options.if_match = None;
        }
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: futures::stream::BoxStream<'static, object_store::Result<Path>>,
    ) -> futures::stream::BoxStream<'static, object_store::Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(
        &self,
        prefix: Option<&Path>,
    ) -> futures::stream::BoxStream<'static, object_store::Result<object_store::ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(
        &self,
        prefix: Option<&Path>,
    ) -> object_store::Result<object_store::ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(
        &self,
        from: &Path,
        to: &Path,
        options: object_store::CopyOptions,
    ) -> object_store::Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

async fn open_careless(is_overwriting: bool, is_lying: bool, ignores_if_match: bool) -> OpenError {
    let inner = object_store::memory::InMemory::new();
    let store = Arc::new(Careless {
        inner,
        is_overwriting,
        is_lying,
        ignores_if_match,
    });
    let clock = Arc::new(ManualClock::new(START_US));
    let error = Bucket::open(Arc::clone(&store) as _, clock, Settings::default())
        .await
        .unwrap_err();
    let left: Vec<_> = store.list(None).try_collect().await.unwrap();
    assert!(left.is_empty(), "{left:?}");
    error
}

#[tokio::test]
async fn a_store_that_overwrites_is_refused() {
    let failed = |error| match error {
        OpenError::NoConditionalWrites { failed } => failed,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        failed(open_careless(true, false, false).await),
        "a second create of one key succeeded"
    );
    assert_eq!(
        failed(open_careless(true, true, false).await),
        "a refused create replaced the object"
    );
}

#[tokio::test]
async fn a_store_that_ignores_if_match_is_refused() {
    assert!(matches!(
        open_careless(false, false, true).await,
        OpenError::NoConditionalReads
    ));
}

#[tokio::test]
async fn settings_that_break_an_order_are_refused() {
    let good = Settings::default();
    good.check().unwrap();
    let broken = [
        (
            Settings {
                query_max: 16 * MINUTE,
                ..good.clone()
            },
            "query",
        ),
        (
            Settings {
                grace: 19 * MINUTE,
                ..good.clone()
            },
            "query",
        ),
        (
            Settings {
                retention: 29 * MINUTE,
                ..good.clone()
            },
            "retention",
        ),
        (
            Settings {
                retention: 23 * HOUR,
                ..good.clone()
            },
            "window",
        ),
        (
            Settings {
                erasure_window: 7 * HOUR,
                ..good.clone()
            },
            "window",
        ),
        (
            Settings {
                retry_for: 15 * MINUTE,
                ..good.clone()
            },
            "retried",
        ),
        (
            Settings {
                grace: std::time::Duration::ZERO,
                ..good.clone()
            },
            "zero",
        ),
    ];
    for (settings, word) in broken {
        let store = FaultStore::in_memory();
        let error = open_with(&store, settings.clone()).await.unwrap_err();
        assert!(error.to_string().contains(word), "{settings:?}: {error}");
        assert_eq!(store.counts().total(), 0, "refused before any request");
    }
}

#[test]
fn every_refusal_says_what_to_do() {
    let source = || Error::NotFound {
        path: "x".to_owned(),
        source: "x".into(),
    };
    let errors = [
        OpenError::NoConditionalWrites { failed: "x" },
        OpenError::NoConditionalReads,
        OpenError::NoPermission {
            action: "x",
            source: source(),
        },
        OpenError::OtherDatabase {
            expected: DatabaseId(Ulid(1)),
            found: DatabaseId(Ulid(2)),
        },
        OpenError::NewerFormat { found: 2, known: 1 },
        OpenError::Damaged(DocumentError::Format),
        OpenError::Missing,
        OpenError::Headless {
            found: Path::from("x"),
        },
        OpenError::NoBucket(source()),
        OpenError::Store {
            action: "x",
            source: source(),
        },
    ];
    for error in errors {
        let text = error.to_string();
        let advice = text.split_once("; ");
        assert!(
            advice.is_some_and(|(_, advice)| advice.len() > 15),
            "{text}"
        );
    }
}

#[tokio::test]
async fn a_bucket_opens_by_url_in_a_folder() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("file://{}/data", dir.path().display());
    let open = || async {
        let store = crate::store::open_store(&url, &HashMap::<String, String>::new()).unwrap();
        Bucket::open(
            store,
            Arc::new(crate::clock::SystemClock),
            Settings::default(),
        )
        .await
        .unwrap()
    };
    let (first, second) = (open().await, open().await);
    assert_eq!(first.database(), second.database());
    let path = Path::from("tables/t/x");
    create(&first, &path, "bytes".into()).await.unwrap();
    create(&second, &path, "bytes".into()).await.unwrap();
    let other = create(&second, &path, "other".into()).await;
    assert!(matches!(other, Err(CreateError::Taken { .. })));
}
