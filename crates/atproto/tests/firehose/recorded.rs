//! Everything that was recorded verifies, and is what other implementations say it is.

use atproto::{Action, Cid, Frame, Value, Verification, cbor, verify_commit, verify_repo};

use crate::corpus::{self, NOW_US};

#[test]
fn all_150_frames_decode() {
    let mut kinds = [0; 3];
    let mut next_seq = None;
    for bytes in corpus::frames() {
        let (kind, seq) = match Frame::decode(&bytes).expect("a frame") {
            Frame::Commit(frame) => (0, frame.seq),
            Frame::Identity(frame) => (1, frame.seq),
            Frame::Account(frame) => (2, frame.seq),
            other => panic!("{other:?} was not recorded"),
        };
        kinds[kind] += 1;
        assert_eq!(
            seq,
            *next_seq.get_or_insert(seq),
            "the recording has no gap"
        );
        next_seq = Some(seq + 1);
    }
    assert_eq!(kinds, [148, 1, 1]);
}

#[test]
fn all_148_commits_verify_to_inverted() {
    let keys = corpus::keys();
    let mut actions = [0; 3];
    for (_, frame) in corpus::commits() {
        let commit = verify_commit(&frame, &keys[&frame.repo], NOW_US)
            .unwrap_or_else(|error| panic!("seq {}: {error}", frame.seq));
        assert_eq!(
            commit.verification(),
            Verification::Inverted,
            "seq {}",
            frame.seq
        );
        assert_eq!(Cid::of_cbor(commit.commit_block()), frame.commit);
        for op in commit.ops() {
            assert_eq!(op.problem, None);
            actions[op.action as usize] += 1;
            match (op.action, op.cid, &op.record) {
                (Action::Delete, None, None) => assert!(op.prev.is_some()),
                (Action::Create | Action::Update, Some(cid), Some(record)) => {
                    assert_eq!(Cid::of_cbor(record), cid);
                    let value = cbor::decode(record).expect("canonical");
                    assert_eq!(
                        value.get("$type").and_then(Value::as_text),
                        Some(op.collection.as_str())
                    );
                    assert_eq!(cbor::encode(&value), *record);
                }
                _ => panic!("{op:?}"),
            }
        }
    }
    assert_eq!(actions, [144, 2, 4]);
}

#[test]
fn no_commit_verifies_with_another_account_s_key() {
    let keys = corpus::keys();
    for (_, frame) in corpus::commits() {
        let (_, key) = keys
            .iter()
            .find(|(did, _)| **did != frame.repo)
            .expect("two accounts");
        let error = verify_commit(&frame, key, NOW_US).expect_err("another key");
        assert!(error.is_signature(), "{error}");
    }
}

#[test]
fn the_recorded_repository_is_what_another_implementation_lists() {
    let repo = verify_repo(&corpus::read("repo.car"), None, NOW_US).expect("a repository");
    assert_eq!(repo.verification(), Verification::Archive);
    let records: Vec<String> = repo
        .records()
        .iter()
        .map(|record| format!("{}/{}\t{}", record.collection, record.rkey, record.cid))
        .collect();
    let listed = corpus::read_text("car_expected_records.tsv");
    assert_eq!(records, listed.lines().collect::<Vec<_>>());
    assert!(repo.refused().is_empty());
    let commit = corpus::read_text("car_expected_commit.txt");
    let line = |name: &str| {
        commit
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .expect("a line")
            .trim()
    };
    assert_eq!(repo.did().as_str(), line("DID:"));
    assert_eq!(repo.data().to_string(), line("Data CID:"));
    assert_eq!(repo.rev().to_string(), line("Revision:"));
}
