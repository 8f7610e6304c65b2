//! Opening the chain: what a LIST shows is what is read, or it is listed again.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use object_store::ObjectStoreExt;
use testkit::fault_store::{Fault, Gate, Operation, Rule};
use ulid::Ulid;

use super::*;
use crate::manifest::root::CommitKind;
use crate::world::{MINUTE, World};

async fn put(world: &World, version: u64, commit: u128) {
    let root = Root {
        version: Version(version),
        commit: CommitId(Ulid(commit)),
        kind: CommitKind::Flush,
        ..Root::genesis(world.bucket.database())
    };
    let bytes = root.encode().unwrap();
    world
        .store
        .put(&layout::manifest(Version(version)), bytes.into())
        .await
        .unwrap();
}

#[tokio::test]
async fn the_newest_is_the_least_name_whatever_gaps_there_are() {
    let world = World::new(1).await;
    for version in [9, 2, 11, 10] {
        put(&world, version, 1).await;
    }
    world
        .store
        .put(&Path::from("manifest/notes.txt"), "x".into())
        .await
        .unwrap();
    let chain = Chain::new(world.bucket.clone());
    assert_eq!(chain.newest().await.unwrap().unwrap().version, Version(11));
    let versions: Vec<_> = chain
        .versions()
        .await
        .unwrap()
        .iter()
        .map(|listed| listed.version.0)
        .collect();
    assert_eq!(versions, [2, 9, 10, 11]);
}

#[tokio::test]
async fn a_root_is_read_once() {
    let world = World::new(1).await;
    put(&world, 1, 1).await;
    let chain = Chain::new(world.bucket.clone());
    world.store.reset_counts();
    for _ in 0..3 {
        chain.newest_root().await.unwrap();
    }
    assert_eq!(
        (world.store.counts().lists(), world.store.counts().get),
        (3, 1)
    );
}

#[tokio::test]
async fn a_number_that_was_created_again_since_the_list_is_not_read() {
    let world = World::new(1).await;
    put(&world, 1, 1).await;
    let chain = Chain::new(world.bucket.clone());
    let gate = Gate::default();
    world.store.script(Rule::next(
        Operation::Get,
        "manifest/",
        Fault::Hold(gate.clone()),
    ));
    let opening = tokio::spawn({
        let chain = chain.clone();
        async move { chain.newest_root().await }
    });
    gate.arrived().await;
    put(&world, 2, 2).await;
    world
        .store
        .delete(&layout::manifest(Version(1)))
        .await
        .unwrap();
    put(&world, 1, 3).await;
    gate.open();
    let root = opening.await.unwrap().unwrap();
    assert_eq!((root.version, root.commit), (Version(2), CommitId(Ulid(2))));
}

#[tokio::test]
async fn a_number_that_was_collected_since_the_list_is_listed_again() {
    let world = World::new(1).await;
    put(&world, 1, 1).await;
    let chain = Chain::new(world.bucket.clone());
    let gate = Gate::default();
    world.store.script(Rule::next(
        Operation::Get,
        "manifest/",
        Fault::Hold(gate.clone()),
    ));
    let opening = tokio::spawn(async move { chain.newest_root().await });
    gate.arrived().await;
    put(&world, 2, 2).await;
    world
        .store
        .delete(&layout::manifest(Version(1)))
        .await
        .unwrap();
    gate.open();
    assert_eq!(opening.await.unwrap().unwrap().version, Version(2));
}

#[tokio::test]
async fn an_opening_that_took_half_the_grace_begins_again() {
    for (operation, fault) in [
        (Operation::List, Fault::DelayAnswer(16 * MINUTE)),
        (Operation::Get, Fault::Delay(16 * MINUTE)),
    ] {
        let world = World::new(1).await;
        put(&world, 1, 1).await;
        let chain = Chain::new(world.bucket.clone());
        world.store.reset_counts();
        world.store.script(Rule::next(operation, "manifest", fault));
        assert_eq!(chain.newest_root().await.unwrap().version, Version(1));
        assert_eq!(world.store.counts().lists(), 2, "{operation:?}");
    }
    let world = World::new(1).await;
    put(&world, 1, 1).await;
    let slow = Rule::next(Operation::List, "manifest", Fault::Delay(16 * MINUTE));
    world.store.script(slow.times(u32::MAX));
    let outrun = Chain::new(world.bucket.clone()).newest_root().await;
    assert!(matches!(outrun, Err(ChainError::Outrun)), "{outrun:?}");
}

#[tokio::test]
async fn a_list_that_fails_is_no_empty_one() {
    let world = World::new(1).await;
    put(&world, 1, 1).await;
    let chain = Chain::new(world.bucket.clone());
    world
        .store
        .script(Rule::next(Operation::List, "manifest", Fault::Before).times(3));
    assert_eq!(chain.newest_root().await.unwrap().version, Version(1));
    world
        .store
        .script(Rule::next(Operation::List, "manifest", Fault::Denied));
    assert!(matches!(
        chain.newest_root().await,
        Err(ChainError::Store(_))
    ));
}
