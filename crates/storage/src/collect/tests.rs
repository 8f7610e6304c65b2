//! Collection deletes what may go, nothing else, and only after the commit that condemns.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use object_store::ObjectStore;
use testkit::fault_store::{Fault, Gate, Operation, Rule};

use super::*;
use crate::clock::Clock;
use crate::create::create;
use crate::ids::Position;
use crate::log::{LogWriter, read_log};
use crate::manifest::{Kept, Took};
use crate::world::{HOUR, MINUTE, World, section};

/// A root names the paths that its body lists, one a line.
#[derive(Debug)]
struct Lines;

#[async_trait]
impl Named for Lines {
    async fn names(
        &self,
        root: &Root,
    ) -> Result<HashSet<Path>, Box<dyn std::error::Error + Send + Sync>> {
        Ok(paths(root).into_iter().collect())
    }
}

fn paths(root: &Root) -> Vec<Path> {
    std::str::from_utf8(&root.body)
        .unwrap()
        .lines()
        .map(Path::from)
        .collect()
}

/// Replaces the objects that the root names, and takes log objects.
#[derive(Clone, Debug, Default)]
struct Flush {
    names: Vec<Path>,
    took: Vec<Took>,
    kept: Vec<Kept>,
}

#[async_trait]
impl Apply for Flush {
    async fn apply(&mut self, newest: &Root) -> Result<Draft, ApplyError> {
        let mut draft = Draft::following(newest, CommitKind::Flush);
        let lines: Vec<_> = self.names.iter().map(Path::as_ref).collect();
        draft.body = lines.join("\n").into();
        draft.took = self.took.clone();
        draft
            .merged
            .extend(self.took.iter().map(|took| (took.writer, took.to)));
        draft.kept.extend(self.kept.iter().cloned());
        Ok(draft)
    }
}

struct Database {
    world: World,
    chain: Chain,
}

impl Database {
    async fn new() -> Self {
        let world = World::new(1).await;
        let chain = Chain::new(world.bucket.clone());
        Self { world, chain }
    }

    async fn object(&self, base: u64) -> Path {
        let path = layout::table_object("t", Version(base), self.world.bucket.mint(), "parquet");
        create(&self.world.bucket, &path, "rows".into())
            .await
            .unwrap();
        path
    }

    async fn flush(&self, names: &[&Path], took: Vec<Took>) -> Arc<Root> {
        let names = names.iter().map(|&path| path.clone()).collect();
        let mut flush = Flush {
            names,
            took,
            kept: Vec::new(),
        };
        self.chain
            .commit(Version::NO_OBJECTS, "flush", &mut flush)
            .await
            .unwrap()
    }

    async fn collect(&self) -> Collected {
        self.try_collect(&Lines).await.unwrap()
    }

    async fn try_collect(&self, named: &dyn Named) -> Result<Collected, CollectError> {
        let policy = Policy::from(self.world.bucket.settings());
        collect(&self.world.bucket, &self.chain, policy, "collector", named).await
    }

    async fn has(&self, path: &Path) -> bool {
        self.world.has(path).await
    }
}

fn took(position: Position) -> Vec<Took> {
    vec![Took {
        writer: position.writer,
        from: Seq::FIRST,
        to: position.seq,
    }]
}

#[tokio::test]
async fn an_empty_database_loses_nothing() {
    let database = Database::new().await;
    assert_eq!(database.collect().await, Collected::default());
}

#[tokio::test]
async fn a_version_and_what_it_alone_names_go_after_the_retention() {
    let database = Database::new().await;
    let (old, new) = (database.object(0).await, database.object(0).await);
    database.flush(&[&old], Vec::new()).await;
    database.world.clock.advance(MINUTE);
    database.flush(&[&new], Vec::new()).await;
    database.world.clock.advance(HOUR * 6 - MINUTE);
    let early = database.collect().await;
    assert_eq!((early.manifests, early.objects), (0, 0));
    assert!(database.has(&old).await);
    database.world.clock.advance(2 * MINUTE);
    let collected = database.collect().await;
    // Whatever the first round committed is younger than the grace, so this one rests.
    assert_eq!(collected.committed, None);
    database.world.clock.advance(30 * MINUTE);
    let collected = database.collect().await;
    assert_eq!(
        (collected.manifests, collected.objects, collected.floor),
        (1, 1, Version(2))
    );
    assert!(!database.has(&old).await && database.has(&new).await);
    assert!(!database.has(&layout::manifest(Version(1))).await);
    assert!(database.has(&layout::manifest(Version(2))).await);
}

#[tokio::test]
async fn an_upload_that_no_manifest_names_goes_below_the_upload_floor_only() {
    let database = Database::new().await;
    let named = database.object(0).await;
    database.flush(&[&named], Vec::new()).await;
    let (abandoned, later) = (database.object(0).await, database.object(1).await);
    database.world.clock.advance(29 * MINUTE);
    assert_eq!(database.collect().await.objects, 0);
    database.world.clock.advance(2 * MINUTE);
    assert_eq!(database.collect().await.objects, 1);
    assert!(!database.has(&abandoned).await);
    assert!(database.has(&later).await && database.has(&named).await);
    let mut late = Flush {
        names: vec![abandoned],
        ..Flush::default()
    };
    let error = database.chain.commit(Version(0), "slow", &mut late).await;
    assert!(
        matches!(error, Err(CommitError::BelowUploadFloor { .. })),
        "who uploaded it can't commit it any more"
    );
}

#[tokio::test]
async fn merged_log_objects_go_when_their_manifest_is_older_than_the_grace() {
    let database = Database::new().await;
    let mut writer = LogWriter::new(database.world.bucket.clone());
    let mut positions = Vec::new();
    for text in ["1", "2", "3"] {
        positions.push(writer.append(vec![section(text)]).await.unwrap());
    }
    database.flush(&[], took(positions[1])).await;
    database.world.clock.advance(30 * MINUTE);
    assert_eq!(database.collect().await.log_objects, 0);
    database.world.clock.advance(MINUTE);
    assert_eq!(database.collect().await.log_objects, 2);
    for (position, is_left) in positions.iter().zip([false, false, true]) {
        assert_eq!(
            read_log(&database.world.bucket, *position).await.is_ok(),
            is_left,
            "{position}"
        );
    }
    // A late PUT brings one back: it goes again, and nothing reads it.
    let path = layout::wal_object(positions[0]);
    create(&database.world.bucket, &path, "late".into())
        .await
        .unwrap();
    assert_eq!(database.collect().await.log_objects, 1);
    assert!(!database.has(&path).await);
}

/// H2 of the protocol's model: the phantom's `merged` was never in the chain.
#[tokio::test]
async fn a_phantoms_merged_deletes_no_log_object() {
    let database = Database::new().await;
    let mut writer = LogWriter::new(database.world.bucket.clone());
    let position = writer.append(vec![section("acknowledged")]).await.unwrap();
    let gate = Gate::default();
    let first = layout::manifest(Version(1));
    database.world.store.script(Rule::next(
        Operation::Put,
        first.as_ref(),
        Fault::Hold(gate.clone()),
    ));
    let stalled = tokio::spawn({
        let chain = database.chain.clone();
        async move {
            let mut flush = Flush {
                took: took(position),
                ..Flush::default()
            };
            chain.commit(Version(0), "stalled", &mut flush).await
        }
    });
    gate.arrived().await;
    for _ in 0..3 {
        database.flush(&[], Vec::new()).await;
        database.world.clock.advance(7 * HOUR);
    }
    assert!(database.collect().await.manifests > 0);
    assert!(!database.has(&first).await);
    // The stalled PUT lands as a phantom; its maker dies before it looks.
    let hold = Gate::default();
    let list = Rule::next(Operation::List, "manifest", Fault::Hold(hold.clone()));
    database.world.store.script(list);
    gate.open();
    hold.arrived().await;
    stalled.abort();
    assert!(database.has(&first).await);
    database.world.clock.advance(HOUR);
    // With no retention all of the chain is younger than the grace: the phantom alone is older.
    database.flush(&[], Vec::new()).await;
    let policy = Policy {
        retention: Duration::ZERO,
        ..Policy::from(database.world.bucket.settings())
    };
    let bucket = &database.world.bucket;
    let collected = collect(bucket, &database.chain, policy, "c", &Lines)
        .await
        .unwrap();
    assert_eq!(collected.log_objects, 0);
    assert!(
        !database.has(&first).await,
        "the phantom goes, its log objects stay"
    );
    assert!(read_log(bucket, position).await.is_ok());
}

#[tokio::test]
async fn what_is_kept_stays_until_a_commit_ends_it() {
    let database = Database::new().await;
    let (pinned, new) = (database.object(0).await, database.object(0).await);
    database.flush(&[&pinned], Vec::new()).await;
    let expires_us = database.world.clock.now_us() + 48 * 3_600_000_000;
    let kept = vec![Kept {
        version: Version(1),
        name: "pin".to_owned(),
        expires_us,
    }];
    let mut pin = Flush {
        names: vec![new.clone()],
        kept,
        took: Vec::new(),
    };
    database
        .chain
        .commit(Version::NO_OBJECTS, "pin", &mut pin)
        .await
        .unwrap();
    for _ in 0..4 {
        database.world.clock.advance(10 * HOUR);
        database.collect().await;
        assert!(database.has(&pinned).await && database.has(&layout::manifest(Version(1))).await);
    }
    database.world.clock.advance(10 * HOUR);
    // The condemning commit fails: expiry alone ends nothing.
    database
        .world
        .store
        .script(Rule::next(Operation::Put, "manifest/", Fault::Denied));
    assert!(database.try_collect(&Lines).await.is_err());
    assert!(database.has(&pinned).await && database.has(&layout::manifest(Version(1))).await);
    database.collect().await;
    assert!(!database.has(&pinned).await && !database.has(&layout::manifest(Version(1))).await);
    assert!(database.has(&new).await);
    assert!(database.chain.newest_root().await.unwrap().kept.is_empty());
}

/// Can't read what roots name.
#[derive(Debug)]
struct Unreadable;

#[async_trait]
impl Named for Unreadable {
    async fn names(
        &self,
        _: &Root,
    ) -> Result<HashSet<Path>, Box<dyn std::error::Error + Send + Sync>> {
        Err("newer format".into())
    }
}

#[tokio::test]
async fn what_cannot_be_decoded_deletes_no_object() {
    let database = Database::new().await;
    let old = database.object(0).await;
    for _ in 0..3 {
        database.flush(&[], Vec::new()).await;
        database.world.clock.advance(7 * HOUR);
    }
    let error = database.try_collect(&Unreadable).await;
    assert!(
        matches!(error, Err(CollectError::Named { .. })),
        "{error:?}"
    );
    assert!(database.has(&old).await);
    assert_eq!(database.collect().await.objects, 1);
}

#[tokio::test]
async fn nothing_is_deleted_unless_the_condemning_commit_is_made() {
    let database = Database::new().await;
    database.object(0).await;
    for _ in 0..3 {
        database.flush(&[], Vec::new()).await;
        database.world.clock.advance(7 * HOUR);
    }
    for fault in [Fault::Denied, Fault::Before] {
        let rule = Rule::next(Operation::Put, "manifest/", fault).times(u32::MAX);
        database.world.store.script(rule);
        database.world.store.reset_counts();
        assert!(matches!(
            database.try_collect(&Lines).await,
            Err(CollectError::Commit(_))
        ));
        assert_eq!(database.world.store.counts().delete, 0);
        database.world.store.calm();
    }
}

#[tokio::test]
async fn manifests_go_oldest_first() {
    let database = Database::new().await;
    for _ in 0..6 {
        database.flush(&[], Vec::new()).await;
        database.world.clock.advance(HOUR);
    }
    database.world.clock.advance(5 * HOUR);
    database.collect().await;
    let history = database.world.store.history();
    let deleted = history
        .iter()
        .filter(|event| event.operation == Operation::Delete);
    let deleted: Vec<_> = deleted
        .filter_map(|event| layout::version_of(&event.path))
        .collect();
    assert!(deleted.len() > 3 && deleted.is_sorted(), "{deleted:?}");
}

#[tokio::test]
async fn a_dry_round_counts_and_changes_nothing() {
    let database = Database::new().await;
    let mut writer = LogWriter::new(database.world.bucket.clone());
    let position = writer.append(vec![section("1")]).await.unwrap();
    database.object(0).await;
    database.flush(&[], took(position)).await;
    database.world.clock.advance(HOUR);
    database.flush(&[], Vec::new()).await;
    database.world.clock.advance(7 * HOUR);
    database.world.store.reset_counts();
    let policy = Policy {
        is_dry: true,
        ..Policy::from(database.world.bucket.settings())
    };
    let dry = collect(&database.world.bucket, &database.chain, policy, "c", &Lines)
        .await
        .unwrap();
    let counts = database.world.store.counts();
    assert_eq!((counts.put, counts.delete), (0, 0));
    let wet = database.collect().await;
    assert_eq!(
        Collected {
            committed: wet.committed,
            ..dry
        },
        wet
    );
    assert_eq!((wet.manifests, wet.objects, wet.log_objects), (1, 1, 1));
}

#[tokio::test]
async fn deletions_that_fail_are_made_again() {
    let database = Database::new().await;
    for _ in 0..5 {
        database.object(0).await;
    }
    for _ in 0..3 {
        database.flush(&[], Vec::new()).await;
        database.world.clock.advance(7 * HOUR);
    }
    for fault in [Fault::Before, Fault::After, Fault::Unavailable] {
        let rule = Rule::next(Operation::Delete, "", fault).after(1).times(2);
        database.world.store.script(rule);
    }
    assert_eq!(database.collect().await.objects, 5);
    let left = list(&database.world.bucket, &Path::from("tables"), None)
        .await
        .unwrap();
    assert_eq!(left, []);
}

#[tokio::test]
async fn left_overs_of_probes_and_only_old_ones_go() {
    let database = Database::new().await;
    let path = Path::from("probe/01ARZ3NDEKTSV4RRFFQ69G5FAV");
    let store: &dyn ObjectStore = &database.world.store;
    ObjectStoreExt::put(store, &path, "x".into()).await.unwrap();
    assert_eq!(database.collect().await.probes, 0);
    database.world.clock.advance(HOUR);
    assert_eq!(database.collect().await.probes, 1);
    assert!(!database.has(&path).await);
}

#[tokio::test]
async fn two_collectors_at_once_do_no_harm() {
    for seed in 0..40 {
        let database = Database::new().await;
        let live = database.object(0).await;
        for _ in 0..4 {
            database.object(0).await;
            database.flush(&[&live], Vec::new()).await;
            database.world.clock.advance(5 * HOUR);
        }
        let yields = testkit::fault_store::Rates {
            yields: 4,
            ..Default::default()
        };
        database.world.store.seed(seed, yields);
        let other = Database {
            chain: Chain::new(database.world.bucket.clone()),
            world: World {
                ..database.world.another_process(seed).await
            },
        };
        let rounds = futures::join!(
            database.try_collect(&Lines),
            other.try_collect(&Lines),
            async { database.flush(&[&live], Vec::new()).await }
        );
        // The slower may find that what it listed is gone; the next round does what it left.
        for round in [rounds.0, rounds.1] {
            assert!(
                matches!(
                    round,
                    Ok(_) | Err(CollectError::Chain(ChainError::Collected { .. }))
                ),
                "{round:?}"
            );
        }
        database.collect().await;
        assert!(database.has(&live).await, "seed {seed}");
        let root = database.chain.newest_root().await.unwrap();
        for listed in database.chain.versions().await.unwrap() {
            assert!(listed.version >= root.floor);
            for path in paths(&database.chain.load(&listed).await.unwrap()) {
                assert!(
                    database.has(&path).await,
                    "seed {seed}: version {} names what is gone",
                    listed.version
                );
            }
        }
    }
}
