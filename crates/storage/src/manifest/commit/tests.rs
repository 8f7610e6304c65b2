//! Commits: lost races, lost answers, phantoms, and what a commit may not do.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;

use object_store::ObjectStoreExt;
use testkit::fault_store::{Event, Fault, Gate, Operation, Rates, Rule};
use ulid::Ulid;

use super::*;
use crate::ids::DatabaseId;
use crate::world::World;

/// Appends a tag to the body, however often it is applied.
struct Tag(u64);

#[async_trait]
impl Apply for Tag {
    async fn apply(&mut self, newest: &Root) -> Result<Draft, ApplyError> {
        let mut draft = Draft::following(newest, CommitKind::Merge);
        draft.body = [newest.body.as_ref(), &self.0.to_le_bytes()]
            .concat()
            .into();
        Ok(draft)
    }
}

/// A draft as the function says.
struct Make<F>(F);

#[async_trait]
impl<F: FnMut(&Root) -> Result<Draft, ApplyError> + Send> Apply for Make<F> {
    async fn apply(&mut self, newest: &Root) -> Result<Draft, ApplyError> {
        (self.0)(newest)
    }
}

fn tags(root: &Root) -> Vec<u64> {
    root.body
        .chunks(8)
        .map(|tag| u64::from_le_bytes(tag.try_into().unwrap()))
        .collect()
}

async fn tag(chain: &Chain, tag: u64) -> Result<Arc<Root>, CommitError> {
    chain
        .commit(Version::NO_OBJECTS, "tagger", &mut Tag(tag))
        .await
}

/// Raises the floor to the newest version and deletes what is below, as a collector does.
async fn condemn_all(world: &World, chain: &Chain) -> Version {
    try_condemn_all(world, chain).await.unwrap().unwrap()
}

/// The same on a store that fails: what could not be deleted stays.
async fn try_condemn_all(world: &World, chain: &Chain) -> Result<Option<Version>, CommitError> {
    let mut raise = Make(|newest: &Root| {
        let mut draft = Draft::following(newest, CommitKind::Collect);
        draft.floor = newest.version;
        Ok(draft)
    });
    let root = chain
        .commit(Version::NO_OBJECTS, "collector", &mut raise)
        .await?;
    let Ok(versions) = chain.versions().await else {
        return Ok(None);
    };
    for listed in versions.iter().filter(|listed| listed.version < root.floor) {
        let _ = world.store.delete(&layout::manifest(listed.version)).await;
    }
    Ok(Some(root.floor))
}

#[tokio::test]
async fn commits_follow_each_other() {
    let world = World::new(1).await;
    let chain = Chain::new(world.bucket.clone());
    assert_eq!(
        *chain.newest_root().await.unwrap(),
        Root::genesis(world.bucket.database())
    );
    assert_eq!(chain.newest().await.unwrap(), None);
    world.store.reset_counts();
    for version in 1..=3 {
        let root = tag(&chain, version).await.unwrap();
        assert_eq!(root.version, Version(version));
        assert_eq!(root.committer, "tagger");
    }
    assert_eq!(tags(&chain.newest_root().await.unwrap()), [1, 2, 3]);
    // Two LISTs and a PUT a commit; what it created it reads once; the last LIST is the line above.
    let counts = world.store.counts();
    assert_eq!((counts.put, counts.lists(), counts.get), (3, 7, 3));
}

#[tokio::test]
async fn a_lost_race_is_run_again() {
    let world = World::new(1).await;
    let chain = Chain::new(world.bucket.clone());
    let gate = Gate::default();
    world.store.script(Rule::next(
        Operation::Put,
        "manifest/",
        Fault::Hold(gate.clone()),
    ));
    let stalled = tokio::spawn({
        let chain = chain.clone();
        async move { tag(&chain, 1).await }
    });
    gate.arrived().await;
    tag(&chain, 2).await.unwrap();
    gate.open();
    let root = stalled.await.unwrap().unwrap();
    assert_eq!((root.version, tags(&root)), (Version(2), vec![2, 1]));
}

#[tokio::test]
async fn an_ambiguous_put_is_found_out() {
    for fault in [
        Fault::Before,
        Fault::After,
        Fault::Conflict,
        Fault::Late(1),
        Fault::Late(2),
        Fault::Late(3),
    ] {
        let world = World::new(1).await;
        let chain = Chain::new(world.bucket.clone());
        world
            .store
            .script(Rule::next(Operation::Put, "manifest/", fault.clone()));
        let root = tag(&chain, 1).await.unwrap();
        world.store.land_late().await;
        assert_eq!(
            (root.version, tags(&root)),
            (Version(1), vec![1]),
            "{fault:?}"
        );
        let after = tag(&chain, 2).await.unwrap();
        assert_eq!(
            (after.version, tags(&after)),
            (Version(2), vec![1, 2]),
            "{fault:?}"
        );
    }
}

#[tokio::test]
async fn a_collected_number_that_is_created_again_is_no_commit() {
    let world = World::new(1).await;
    let chain = Chain::new(world.bucket.clone());
    tag(&chain, 1).await.unwrap();
    let gate = Gate::default();
    let second = layout::manifest(Version(2));
    world.store.script(Rule::next(
        Operation::Put,
        second.as_ref(),
        Fault::Hold(gate.clone()),
    ));
    let stalled = tokio::spawn({
        let chain = chain.clone();
        async move { tag(&chain, 99).await }
    });
    gate.arrived().await;
    for number in 2..5 {
        tag(&chain, number).await.unwrap();
    }
    let floor = condemn_all(&world, &chain).await;
    assert!(!world.has(&second).await);
    gate.open();
    let root = stalled.await.unwrap().unwrap();
    assert!(world.has(&second).await, "the phantom stands there");
    assert!(root.version > floor);
    assert_eq!(tags(&root), [1, 2, 3, 4, 99]);
    // Whoever lists sees the phantom as an old version, never as the newest.
    assert_eq!(chain.newest_root().await.unwrap().commit, root.commit);
    assert_eq!(
        chain
            .find(root.commit, Version(5))
            .await
            .unwrap()
            .unwrap()
            .version,
        root.version
    );
}

/// Nothing guards it: applied again it might be made twice.
#[tokio::test]
async fn a_catalog_commit_that_the_floor_has_passed_is_unknown() {
    let world = World::new(1).await;
    let chain = Chain::new(world.bucket.clone());
    let gate = Gate::default();
    let first = layout::manifest(Version(1));
    world.store.script(Rule::next(
        Operation::Put,
        first.as_ref(),
        Fault::Hold(gate.clone()),
    ));
    let stalled = tokio::spawn({
        let chain = chain.clone();
        async move {
            let mut grant = Make(|newest: &Root| Ok(Draft::following(newest, CommitKind::Catalog)));
            chain.commit(Version::NO_OBJECTS, "admin", &mut grant).await
        }
    });
    gate.arrived().await;
    for number in 1..4 {
        tag(&chain, number).await.unwrap();
    }
    condemn_all(&world, &chain).await;
    gate.open();
    let answer = stalled.await.unwrap();
    assert!(
        matches!(
            answer,
            Err(CommitError::Unknown {
                version: Version(1),
                ..
            })
        ),
        "{answer:?}"
    );
}

/// Its first PUT landed and was collected; the second made a phantom. Nobody can tell whether it happened.
#[tokio::test]
async fn a_commit_that_was_collected_before_its_answer_is_unknown() {
    let world = World::new(1).await;
    let chain = Chain::new(world.bucket.clone());
    let first = layout::manifest(Version(1));
    let gate = Gate::default();
    world
        .store
        .script(Rule::next(Operation::Put, first.as_ref(), Fault::After));
    world.store.script(Rule::next(
        Operation::Put,
        first.as_ref(),
        Fault::Hold(gate.clone()),
    ));
    let stalled = tokio::spawn({
        let chain = chain.clone();
        async move { tag(&chain, 99).await }
    });
    gate.arrived().await;
    tag(&chain, 2).await.unwrap();
    condemn_all(&world, &chain).await;
    gate.open();
    let error = stalled.await.unwrap();
    assert!(
        matches!(
            error,
            Err(CommitError::Unknown {
                version: Version(1),
                ..
            })
        ),
        "{error:?}"
    );
    assert_eq!(
        tags(&chain.newest_root().await.unwrap()),
        [99, 2],
        "it had happened, and once"
    );
}

#[tokio::test]
async fn an_earlier_attempt_is_found_by_its_commit_id() {
    let world = World::new(1).await;
    let chain = Chain::new(world.bucket.clone());
    let root = tag(&chain, 1).await.unwrap();
    for number in 2..6 {
        tag(&chain, number).await.unwrap();
    }
    let fresh = Chain::new(world.bucket.clone());
    assert_eq!(
        fresh.find(root.commit, Version(1)).await.unwrap().unwrap(),
        root
    );
    assert_eq!(fresh.find(root.commit, Version(2)).await.unwrap(), None);
    assert_eq!(
        fresh.find(CommitId(Ulid(5)), Version(1)).await.unwrap(),
        None
    );
    condemn_all(&world, &chain).await;
    let gone = fresh.find(root.commit, Version(1)).await;
    assert!(
        matches!(gone, Err(ChainError::Collected { .. })),
        "{gone:?}"
    );
}

#[tokio::test]
async fn floors_and_merged_only_rise() {
    let world = World::new(1).await;
    let chain = Chain::new(world.bucket.clone());
    let [low, high, other] = [1, 2, 3].map(|id| WriterId(Ulid(id)));
    let commit = async |floor, upload_floor, merged: &[(WriterId, u64)]| {
        let merged: BTreeMap<_, _> = merged
            .iter()
            .map(|&(writer, seq)| (writer, Seq(seq)))
            .collect();
        let mut apply = Make(move |newest: &Root| {
            let draft = Draft::following(newest, CommitKind::Flush);
            Ok(Draft {
                floor: Version(floor),
                upload_floor: Version(upload_floor),
                merged: merged.clone(),
                ..draft
            })
        });
        chain
            .commit(Version::NO_OBJECTS, "x", &mut apply)
            .await
            .unwrap()
    };
    for number in 1..=5 {
        tag(&chain, number).await.unwrap();
    }
    commit(3, 4, &[(low, 5), (high, 7)]).await;
    let root = commit(2, 5, &[(low, 4), (other, 1)]).await;
    assert_eq!((root.floor, root.upload_floor), (Version(3), Version(5)));
    assert_eq!(
        root.merged,
        BTreeMap::from([(low, Seq(5)), (high, Seq(7)), (other, Seq(1))])
    );
    let beyond = Make(|newest: &Root| {
        Ok(Draft {
            floor: newest.version.next(),
            ..Draft::following(newest, CommitKind::Flush)
        })
    });
    let error = chain
        .commit(Version::NO_OBJECTS, "x", &mut { beyond })
        .await;
    assert!(matches!(error, Err(CommitError::FloorAbove { .. })));
}

#[tokio::test]
async fn objects_below_the_upload_floor_are_refused_at_each_application() {
    let world = World::new(1).await;
    let chain = Chain::new(world.bucket.clone());
    for number in 1..=3 {
        tag(&chain, number).await.unwrap();
    }
    let gate = Gate::default();
    let fourth = layout::manifest(Version(4));
    world.store.script(Rule::next(
        Operation::Put,
        fourth.as_ref(),
        Fault::Hold(gate.clone()),
    ));
    let stalled = tokio::spawn({
        let chain = chain.clone();
        async move { chain.commit(Version(2), "slow", &mut Tag(99)).await }
    });
    gate.arrived().await;
    let mut raise = Make(|newest: &Root| {
        Ok(Draft {
            upload_floor: Version(3),
            ..Draft::following(newest, CommitKind::Collect)
        })
    });
    chain
        .commit(Version::NO_OBJECTS, "collector", &mut raise)
        .await
        .unwrap();
    gate.open();
    match stalled.await.unwrap() {
        Err(CommitError::BelowUploadFloor { base, upload_floor }) => {
            assert_eq!((base, upload_floor), (Version(2), Version(3)));
        }
        other => panic!("{other:?}"),
    }
    chain.commit(Version(3), "new", &mut Tag(5)).await.unwrap();
}

#[tokio::test]
async fn only_what_can_be_read_is_kept() {
    let world = World::new(1).await;
    let chain = Chain::new(world.bucket.clone());
    let pin = async |version| {
        let mut apply = Make(move |newest: &Root| {
            let mut draft = Draft::following(newest, CommitKind::Catalog);
            draft.kept.push(Kept {
                version: Version(version),
                name: "pin".to_owned(),
                expires_us: i64::MAX,
            });
            Ok(draft)
        });
        chain.commit(Version::NO_OBJECTS, "x", &mut apply).await
    };
    for number in 1..=3 {
        tag(&chain, number).await.unwrap();
    }
    pin(2).await.unwrap();
    condemn_all(&world, &chain).await;
    assert!(matches!(
        pin(1).await,
        Err(CommitError::KeptGone {
            version: Version(1)
        })
    ));
    assert!(matches!(
        pin(99).await,
        Err(CommitError::KeptGone {
            version: Version(99)
        })
    ));
    let root = pin(2).await.unwrap();
    assert_eq!(root.kept.len(), 1, "kept already, and named once");
    assert!(root.answers_at(Version(2)) && !root.answers_at(Version(3)));
}

#[tokio::test]
async fn a_precondition_that_fails_is_told() {
    let world = World::new(1).await;
    let chain = Chain::new(world.bucket.clone());
    let error = chain
        .commit(
            Version::NO_OBJECTS,
            "x",
            &mut Make(|_: &Root| Err(ApplyError::Obsolete)),
        )
        .await;
    assert!(matches!(
        error,
        Err(CommitError::Obsolete {
            newest: Version::GENESIS
        })
    ));
    let mut large = Make(|newest: &Root| {
        Ok(Draft {
            body: vec![0; 2_000_000].into(),
            ..Draft::following(newest, CommitKind::Flush)
        })
    });
    assert!(matches!(
        chain.commit(Version::NO_OBJECTS, "x", &mut large).await,
        Err(CommitError::Encode(_))
    ));
    world
        .store
        .script(Rule::next(Operation::Put, "manifest/", Fault::Denied));
    assert!(matches!(
        tag(&chain, 1).await,
        Err(CommitError::Refused { .. })
    ));
    assert_eq!(chain.newest().await.unwrap(), None);
}

#[tokio::test]
async fn a_root_of_another_database_is_not_built_upon() {
    let world = World::new(1).await;
    let chain = Chain::new(world.bucket.clone());
    let foreign = Root {
        version: Version(1),
        ..Root::genesis(DatabaseId(Ulid(9)))
    };
    world
        .store
        .put(
            &layout::manifest(Version(1)),
            foreign.encode().unwrap().into(),
        )
        .await
        .unwrap();
    let error = tag(&chain, 1).await;
    assert!(
        matches!(error, Err(CommitError::Chain(ChainError::Foreign { .. }))),
        "{error:?}"
    );
    world
        .store
        .put(&layout::manifest(Version(1)), "damaged".into())
        .await
        .unwrap();
    let error = tag(&chain, 1).await;
    assert!(
        matches!(error, Err(CommitError::Chain(ChainError::Damaged { .. }))),
        "{error:?}"
    );
}

const RATES: Rates = Rates {
    before: 0.1,
    after: 0.15,
    conflict: 0.15,
    late: 0.15,
    truncate: 0.05,
    yields: 3,
};

#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    tags: Vec<u64>,
    acknowledged: BTreeSet<u64>,
    unknown: BTreeSet<u64>,
    extra_puts: u64,
    phantoms: u64,
}

/// Four committers, one of which raises the floor and deletes, on a store that fails.
async fn history(seed: u64) -> (Outcome, Vec<Event>) {
    let world = World::new(seed).await;
    world.store.seed(seed, RATES);
    let commits = (0..3_u64).map(|name| {
        let bucket = world.bucket.clone();
        async move {
            let chain = Chain::new(bucket);
            let mut outcome = Outcome::default();
            for number in 0..6 {
                let id = name * 100 + number;
                match tag(&chain, id).await {
                    Ok(root) => {
                        assert_eq!(tags(&root).last(), Some(&id));
                        outcome.acknowledged.insert(id);
                    }
                    Err(CommitError::Unknown { .. }) => {
                        outcome.unknown.insert(id);
                    }
                    Err(error) => panic!("{error:?}"),
                }
            }
            outcome
        }
    });
    let collector = async {
        let chain = Chain::new(world.bucket.clone());
        for _ in 0..4 {
            match try_condemn_all(&world, &chain).await {
                Ok(_) | Err(CommitError::Unknown { .. }) => {}
                Err(error) => panic!("{error:?}"),
            }
        }
    };
    let (outcomes, ()) = futures::join!(futures::future::join_all(commits), collector);
    world.store.land_late().await;
    world.store.calm();
    let chain = Chain::new(world.bucket.clone());
    let mut all = Outcome {
        tags: tags(&chain.newest_root().await.unwrap()),
        ..Outcome::default()
    };
    for outcome in outcomes {
        all.acknowledged.extend(outcome.acknowledged);
        all.unknown.extend(outcome.unknown);
    }
    let history = world.store.history();
    let puts = history
        .iter()
        .filter(|event| event.operation == Operation::Put)
        .count() as u64;
    all.extra_puts = puts.saturating_sub(all.tags.len() as u64);
    let floor = chain.newest_root().await.unwrap().floor;
    let versions = chain.versions().await.unwrap();
    all.phantoms = versions
        .iter()
        .filter(|listed| listed.version < floor)
        .count() as u64;
    (all, history)
}

#[tokio::test]
async fn every_commit_happens_once_however_many_race() {
    let (mut commits, mut extra_puts, mut unknown, mut phantoms) = (0, 0, 0, 0);
    for seed in 0..150 {
        println!("seed {seed}");
        let (outcome, _) = history(seed).await;
        let once: BTreeSet<_> = outcome.tags.iter().copied().collect();
        assert_eq!(once.len(), outcome.tags.len(), "one stands twice");
        assert!(once.is_superset(&outcome.acknowledged), "one is lost");
        let told: BTreeSet<_> = outcome
            .acknowledged
            .union(&outcome.unknown)
            .copied()
            .collect();
        assert!(told.is_superset(&once), "one happened that had failed");
        commits += once.len();
        extra_puts += outcome.extra_puts;
        unknown += outcome.unknown.len();
        phantoms += outcome.phantoms;
    }
    println!(
        "{commits} commits, {extra_puts} more PUTs, {unknown} unknown, {phantoms} left or phantoms"
    );
    assert!(commits > 2_000 && extra_puts > 2_000);
}

#[tokio::test]
async fn one_seed_gives_one_history() {
    for seed in [5, 31] {
        assert_eq!(history(seed).await, history(seed).await);
    }
}
