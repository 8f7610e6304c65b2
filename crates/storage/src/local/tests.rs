//! A local folder: create-if-absent, sweeping, and what is refused because it could not be synced.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use futures::TryStreamExt;

use super::*;

fn open(dir: &tempfile::TempDir) -> LocalDurable {
    LocalDurable::open(dir.path().join("data")).unwrap()
}

async fn create(store: &LocalDurable, path: &str, text: &str) -> Result<PutResult> {
    let opts = PutOptions::from(PutMode::Create);
    store
        .put_opts(&Path::from(path), text.to_owned().into(), opts)
        .await
}

fn staged(dir: &tempfile::TempDir) -> Vec<PathBuf> {
    let staging = dir.path().join("data").join(STAGING);
    fs::read_dir(staging)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect()
}

async fn names(store: &LocalDurable) -> Vec<String> {
    let mut names: Vec<_> = store
        .list(None)
        .map_ok(|meta| meta.location.to_string())
        .try_collect()
        .await
        .unwrap();
    names.sort();
    names
}

#[tokio::test]
async fn a_second_create_leaves_the_first_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    create(&store, "wal/w/1", "first").await.unwrap();
    let second = create(&store, "wal/w/1", "second").await;
    assert!(
        matches!(second, Err(Error::AlreadyExists { .. })),
        "{second:?}"
    );
    let bytes = store
        .get(&Path::from("wal/w/1"))
        .await
        .unwrap()
        .bytes()
        .await
        .unwrap();
    assert_eq!(bytes, "first");
    assert_eq!(staged(&dir), Vec::<PathBuf>::new());
    assert_eq!(names(&store).await, ["wal/w/1"]);
}

#[tokio::test]
async fn of_many_creates_at_once_one_wins() {
    let dir = tempfile::tempdir().unwrap();
    let stores: Vec<_> = (0..8).map(|_| open(&dir)).collect();
    let creates = stores.iter().zip(0..).map(|(store, n)| {
        create(
            store,
            "manifest/1",
            ["a", "b", "c", "d", "e", "f", "g", "h"][n],
        )
    });
    let done = futures::future::join_all(creates).await;
    let winners: Vec<_> = (0..8).filter(|&n| done[n].is_ok()).collect();
    assert_eq!(winners.len(), 1);
    let bytes = stores[0]
        .get(&Path::from("manifest/1"))
        .await
        .unwrap()
        .bytes()
        .await
        .unwrap();
    assert_eq!(bytes, ["a", "b", "c", "d", "e", "f", "g", "h"][winners[0]]);
}

#[tokio::test]
async fn the_put_answers_the_etag_that_reads_match() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let path = Path::from("x");
    let first = create(&store, "x", "1").await.unwrap().e_tag;
    let matching = |e_tag| GetOptions {
        if_match: e_tag,
        ..GetOptions::default()
    };
    assert!(store.get_opts(&path, matching(first.clone())).await.is_ok());
    store.put(&path, "other".into()).await.unwrap();
    let stale = store.get_opts(&path, matching(first)).await;
    assert!(
        matches!(stale, Err(Error::Precondition { .. })),
        "{stale:?}"
    );
}

#[tokio::test]
async fn old_staged_files_are_swept_and_never_listed() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let staging = dir.path().join("data").join(STAGING);
    let (old, fresh) = (staging.join("OLD#1"), staging.join("FRESH#1"));
    fs::write(&old, "half").unwrap();
    fs::write(&fresh, "half").unwrap();
    let long_ago = SystemTime::now() - 2 * STAGED_FOR_MAX;
    File::options()
        .write(true)
        .open(&old)
        .unwrap()
        .set_modified(long_ago)
        .unwrap();
    assert_eq!(names(&store).await, Vec::<String>::new());
    open(&dir);
    assert_eq!(staged(&dir), [fresh]);
}

#[tokio::test]
async fn an_empty_writers_folder_goes_with_its_last_object_and_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let (writer, collector) = (open(&dir), open(&dir));
    for round in 0..3 {
        create(&writer, "wal/w/1", "x").await.unwrap();
        create(&writer, "tables/t/1", "x").await.unwrap();
        for path in ["wal/w/1", "tables/t/1"] {
            collector.delete(&Path::from(path)).await.unwrap();
        }
        let writers = collector
            .list_with_delimiter(Some(&Path::from("wal")))
            .await
            .unwrap();
        assert_eq!(writers.common_prefixes, [], "round {round}");
        assert!(dir.path().join("data/tables/t").exists());
    }
}

#[tokio::test]
async fn a_folder_that_may_not_be_written_is_named() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("data"), "a file").unwrap();
    let error = LocalDurable::open(dir.path().join("data")).unwrap_err();
    assert!(
        error.to_string().contains("check that it may be written"),
        "{error}"
    );
}

#[tokio::test]
async fn what_is_not_synced_is_not_offered() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    create(&store, "a", "x").await.unwrap();
    let (a, b) = (Path::from("a"), Path::from("b"));
    assert!(matches!(
        store.copy(&a, &b).await,
        Err(Error::NotImplemented { .. })
    ));
    assert!(matches!(
        store.rename(&a, &b).await,
        Err(Error::NotImplemented { .. })
    ));
    assert!(matches!(
        store.put_multipart(&b).await,
        Err(Error::NotImplemented { .. })
    ));
    assert_eq!(names(&store).await, ["a"]);
}
