//! What the recorded frames and the recorded repository become.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use atproto::{
    Action, CommitFrame, DidDocument, Frame, PublicKey, Verification, verify_commit, verify_repo,
};
use serde_json::Value as Json;

use super::*;
use crate::merge_model::Model;

/// A minute after the frames were recorded.
const NOW_US: i64 = 1_783_176_000_000_000;

const REPO_RECORDS: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../tests/fixtures/atproto/firehose/car_expected_records.tsv"
));

macro_rules! fixture {
    ($name:literal) => {
        include_bytes!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../tests/fixtures/atproto/firehose/",
            $name
        ))
    };
}
const FRAMES: &[u8] = fixture!("frames.bin.zst");
const DID_DOCS: &[u8] = fixture!("did_docs.json.zst");
const REPO: &[u8] = fixture!("repo.car");

#[test]
fn recorded_commits_become_records_events_and_heads() {
    let mut seen = BTreeMap::<&str, usize>::new();
    let mut operations = BTreeMap::<Action, usize>::new();
    let mut model = Model::default();
    for (frame, key) in commits() {
        let commit = verify_commit(&frame, &key, NOW_US).expect("recorded commits verify");
        for change in changes_of_commit(&commit, &delivery(frame.seq)) {
            match &change {
                Change::Record(record) => {
                    *seen.entry("record").or_default() += 1;
                    assert_eq!(record.delivery.verification, Verification::Inverted);
                }
                Change::Event(event) => {
                    *seen.entry("event").or_default() += 1;
                    *operations
                        .entry(event.operation.expect("of a commit"))
                        .or_default() += 1;
                    assert_eq!(event.at(), Micros(frame.rev.micros()));
                }
                Change::Head(head) => {
                    *seen.entry("head").or_default() += 1;
                    assert_eq!(head.commit, frame.commit);
                    assert!(head.commit.matches(&head.commit_block));
                }
                other => panic!("{other:?}"),
            }
            model.apply(&change);
        }
    }
    assert_eq!(
        seen,
        BTreeMap::from([("event", 150), ("head", 148), ("record", 150)])
    );
    let expected = [
        (Action::Create, 144),
        (Action::Update, 2),
        (Action::Delete, 4),
    ];
    assert_eq!(operations, BTreeMap::from(expected));
    assert_eq!(model.records().count(), 146);
    assert_eq!(model.tombstones().count(), 4);
}

#[test]
fn a_relay_that_reorders_operations_tells_the_same_events() {
    let (mut frame, key) = commits()
        .into_iter()
        .find(|(frame, _)| frame.ops.len() > 1)
        .expect("a commit of two operations");
    let ids = |frame: &CommitFrame, seq| {
        let commit = verify_commit(frame, &key, NOW_US).expect("verifies");
        let changes = changes_of_commit(&commit, &delivery(seq));
        changes
            .iter()
            .map(Change::identity)
            .collect::<BTreeSet<_>>()
    };
    let first = ids(&frame, 1);
    frame.ops.reverse();
    assert_eq!(ids(&frame, 2), first);
}

#[test]
fn an_archive_gives_rows_but_no_head_and_no_floor() {
    let repo = verify_repo(REPO, None, NOW_US).expect("a whole repository");
    let changes = changes_of_repo(&repo, &Coverage::default(), &delivery(1));
    let mut found = BTreeSet::new();
    for change in &changes {
        let Change::Record(record) = change else {
            panic!("{change:?}");
        };
        assert_eq!(record.rev, repo.rev());
        assert_eq!(record.delivery.verification, Verification::Archive);
        let cid = record.body.as_ref().expect("live").cid;
        found.insert(format!("{}/{}\t{cid}", record.collection, record.rkey));
    }
    let expected = REPO_RECORDS.lines().map(str::to_owned).collect();
    assert_eq!(found, expected);
}

#[test]
fn a_covered_part_of_a_repository_is_what_is_covered() {
    let repo = verify_repo(REPO, None, NOW_US).expect("a whole repository");
    let count = |coverage: &str| {
        let coverage = coverage.parse().expect("a coverage");
        changes_of_repo(&repo, &coverage, &delivery(1)).len()
    };
    let posts = REPO_RECORDS
        .lines()
        .filter(|line| line.starts_with("app.bsky.feed.post/"))
        .count();
    assert!(posts > 0);
    assert_eq!(count("app.bsky.feed.post"), posts);
    assert_eq!(
        count("!app.bsky.feed.post"),
        REPO_RECORDS.lines().count() - posts
    );
}

#[test]
fn accounts_and_identities_become_states_and_events() {
    let (mut accounts, mut identities) = (0, 0);
    for frame in frames() {
        match frame {
            Frame::Account(frame) => {
                let changes = changes_of_account(&frame, Micros(5), &delivery(frame.seq));
                assert!(
                    matches!(&changes[..], [Change::Account(state), Change::Event(event)]
                    if state.seq == Some(frame.seq) && event.active == Some(frame.active))
                );
                accounts += 1;
            }
            Frame::Identity(frame) => {
                let changes = changes_of_identity(&frame, None, Micros(5), &delivery(frame.seq));
                assert!(
                    matches!(&changes[..], [Change::Identity(state), Change::Event(event)]
                    if state.time == Micros(5) && event.handle == frame.handle)
                );
                identities += 1;
            }
            _ => {}
        }
    }
    assert_eq!(accounts + identities, 2);
}

fn delivery(seq: i64) -> Delivery {
    Delivery {
        source: "recorded".into(),
        seq: Some(seq),
        indexed_at: Micros(NOW_US),
        time: Some(Micros(NOW_US)),
        verification: Verification::Archive,
    }
}

fn frames() -> Vec<Frame> {
    let bytes = unpack(FRAMES);
    let mut rest = &bytes[..];
    let mut frames = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk() {
        let length = u32::from_le_bytes(*length) as usize;
        frames.push(Frame::decode(&after[..length]).expect("a recorded frame"));
        rest = &after[length..];
    }
    frames
}

fn commits() -> Vec<(CommitFrame, PublicKey)> {
    let documents: BTreeMap<String, Json> =
        serde_json::from_slice(&unpack(DID_DOCS)).expect("JSON");
    let with_key = |frame| {
        let Frame::Commit(frame) = frame else {
            return None;
        };
        let document = DidDocument::parse(&documents[frame.repo.as_str()]).expect("a document");
        Some((frame, document.signing_key.expect("a key")))
    };
    frames().into_iter().filter_map(with_key).collect()
}

fn unpack(packed: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    zstd::Decoder::new(packed)
        .and_then(|mut decoder| decoder.read_to_end(&mut bytes))
        .expect("zstd");
    bytes
}
