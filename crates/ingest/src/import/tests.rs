//! Imports of the recorded repository and of made ones, told by what the log holds afterwards.

use std::collections::BTreeSet;

use atproto::{DidDocument, Verification};
use crdt::storage::{Clock, ManualClock};
use testkit::repo::{Account, CarFlaw, Curve, RepoBuilder, Stamp, Write};

use super::*;
use crate::did_docs::DidDocs;
use crate::fixture::{World, recorded};

const START_US: i64 = 1_770_000_000_000_000;

#[tokio::test]
async fn a_car_without_a_document_is_an_archive() {
    let world = World::recorded().await;
    let summary = world
        .intake
        .import_car(&recorded("repo.car"), None)
        .await
        .expect("imported");
    assert!(summary.source.starts_with("blake3:"));
    assert_eq!(summary.floors, 0);
    let mut found = BTreeSet::new();
    for change in world.log().await.iter().flatten() {
        let Change::Record(record) = change else {
            panic!("{change:?}");
        };
        assert_eq!(record.delivery.verification, Verification::Archive);
        let cid = record.body.as_ref().expect("live").cid;
        found.insert(format!("{}/{}\t{cid}", record.collection, record.rkey));
    }
    let expected = std::fs::read_to_string(recorded("car_expected_records.tsv")).expect("there");
    assert_eq!(found, expected.lines().map(str::to_owned).collect());
    assert_eq!(summary.records, found.len() as u64);
}

#[tokio::test]
async fn a_signed_car_raises_the_floor_in_the_object_of_its_records() {
    let (mut repo, docs) = repo();
    let world = world(docs).await;
    let path = world.file("repo.car", &repo.car());
    let summary = world
        .intake
        .import_car(&path, Some("backup"))
        .await
        .expect("imported");
    assert_eq!(
        (summary.records, summary.floors, summary.positions.len()),
        (3, 1, 1)
    );
    assert_eq!(summary.source, "backup");
    let model = world.model().await;
    for record in model.records() {
        assert_eq!(Some(record.rev), repo.rev());
        assert_eq!(record.delivery.verification, Verification::Signature);
    }
    let collection = "app.bsky.feed.post".parse().expect("valid");
    assert_eq!(model.floor(repo.account().did(), &collection), repo.rev());
}

#[tokio::test]
async fn a_car_that_is_wrong_leaves_a_notice_only() {
    let flaws = [
        (CarFlaw::OtherKey, "signature"),
        (CarFlaw::HighS, "signature"),
        (CarFlaw::Unsigned, "signature"),
        (CarFlaw::LastBlockMissing, "missing_block"),
        (CarFlaw::TreeMissing, "missing_block"),
        (CarFlaw::Truncated, "car_truncated"),
        (CarFlaw::Damaged, "car_block_hash"),
    ];
    for (flaw, reason) in flaws {
        let (mut repo, docs) = repo();
        let world = world(docs).await;
        let path = world.file("repo.car", &repo.car_with(flaw));
        let error = world
            .intake
            .import_car(&path, None)
            .await
            .expect_err("wrong");
        assert!(
            matches!(error, ImportError::Refused { .. }),
            "{flaw:?}: {error}"
        );
        let log = world.log().await;
        let [Change::Notice(notice)] = &log[0][..] else {
            panic!("{flaw:?}: {log:?}");
        };
        assert_eq!((log.len(), notice.reason.as_str()), (1, reason), "{flaw:?}");
    }
}

#[tokio::test]
async fn a_rev_from_the_future_is_not_admitted() {
    let (mut repo, docs) = repo();
    let clock = ManualClock::new(START_US - 3_600_000_000);
    for docs in [docs, DidDocs::default()] {
        let world = World::new(docs, Arc::new(ManualClock::new(clock.now_us()))).await;
        let path = world.file("repo.car", &repo.car());
        let error = world
            .intake
            .import_car(&path, None)
            .await
            .expect_err("of the future");
        assert!(matches!(
            error,
            ImportError::Refused {
                source: VerifyError::RevInFuture { .. },
                ..
            }
        ));
    }
}

#[tokio::test]
async fn what_the_tree_names_but_is_no_record_is_told() {
    let (mut repo, docs) = repo();
    repo.commit(
        stamp(9),
        &[Write::put_bytes("app.bsky.feed.post/x", vec![0x80])],
    );
    let world = world(docs).await;
    let path = world.file("repo.car", &repo.car());
    let summary = world
        .intake
        .import_car(&path, None)
        .await
        .expect("imported");
    assert_eq!(
        (summary.records, summary.floors, summary.rejections()),
        (3, 1, 1)
    );
}

async fn world(docs: DidDocs) -> World {
    let hour_us = 3_600_000_000;
    World::new(docs, Arc::new(ManualClock::new(START_US + hour_us))).await
}

fn repo() -> (RepoBuilder, DidDocs) {
    let mut repo = RepoBuilder::new(Account::new(1, Curve::P256));
    let mut docs = DidDocs::default();
    docs.insert(DidDocument::parse(&repo.account().did_document()).expect("a document"));
    for number in 0..3 {
        let record = atproto::Value::Map(
            [("n".to_owned(), atproto::Value::from(number))]
                .into_iter()
                .collect(),
        );
        repo.commit(
            stamp(number),
            &[Write::put(format!("app.bsky.feed.post/{number}"), &record)],
        );
    }
    (repo, docs)
}

fn stamp(number: i64) -> Stamp {
    Stamp {
        seq: number + 1,
        at_us: START_US + number * 1_000_000,
    }
}
