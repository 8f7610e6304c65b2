//! Everything that was recorded verifies, and is what other implementations say it is.

use atproto::{
    Action, Car, Cid, CommitFrame, Frame, Tid, Value, Verification, car, cbor, verify_commit,
    verify_repo,
};

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

#[test]
fn the_sample_repositories_walk_to_their_ends() {
    for (name, count) in [("empty.car", 0), ("tiny.car", 8)] {
        let car = corpus::read(&format!("../{name}"));
        let repo =
            verify_repo(&car, None, NOW_US).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(repo.records().len(), count, "{name}");
        assert!(repo.refused().is_empty(), "{name}");
        for length in 0..car.len() {
            verify_repo(&car[..length], None, NOW_US).expect_err("a cut");
        }
    }
}

/// A sender who passes commits on can leave out what nothing needs, and nothing else.
#[test]
fn each_block_that_is_left_out_is_missed_or_was_not_needed() {
    let keys = corpus::keys();
    let (mut missed, mut spared) = (0, 0);
    for (_, frame) in corpus::commits() {
        let car = Car::parse(&frame.blocks).expect("a CAR");
        let whole = verify_commit(&frame, &keys[&frame.repo], NOW_US).expect("a commit");
        for (left_out, _) in car.iter() {
            let blocks = car::encode(car.roots(), car.iter().filter(|(cid, _)| *cid != left_out));
            match verify_commit(
                &CommitFrame {
                    blocks,
                    ..frame.clone()
                },
                &keys[&frame.repo],
                NOW_US,
            ) {
                Ok(commit) => {
                    assert_eq!(commit, whole);
                    spared += 1;
                }
                Err(error) => {
                    assert!(
                        ["missing_block", "inversion_failed"].contains(&error.reason()),
                        "{error}"
                    );
                    missed += 1;
                }
            }
        }
    }
    println!("{missed} blocks missed, {spared} not needed");
    assert!(missed >= 148 * 3);
}

/// What a sender says beside the signature, forged in every recorded commit.
#[test]
fn each_forged_field_is_refused_with_its_reason() {
    let keys = corpus::keys();
    let other = Cid::of_cbor(b"another");
    type Forge = fn(&mut CommitFrame, Cid);
    let forgeries: [(&str, Forge); 10] = [
        ("inversion_mismatch", |frame, other| {
            frame.prev_data = Some(other)
        }),
        ("commit_root_mismatch", |frame, other| frame.commit = other),
        ("did_mismatch", |frame, _| {
            frame.repo = "did:web:example.com".parse().expect("a DID")
        }),
        ("rev_mismatch", |frame, _| {
            frame.rev = Tid::from_value(frame.rev.value() - 1)
        }),
        ("op_path", |frame, _| {
            frame.ops[0].path = "no path".to_owned()
        }),
        ("op_path_repeated", |frame, _| {
            frame.ops.push(frame.ops[0].clone())
        }),
        ("too_big", |frame, _| frame.too_big = true),
        ("rebase", |frame, _| frame.rebase = true),
        ("inversion_mismatch", |frame, _| drop(frame.ops.remove(0))),
        ("op_fields", |frame, other| {
            (frame.ops[0].cid, frame.ops[0].prev) = match frame.ops[0].action {
                Action::Create => (frame.ops[0].cid, Some(other)),
                Action::Update => (None, Some(other)),
                Action::Delete => (Some(other), Some(other)),
            };
        }),
    ];
    for (_, frame) in corpus::commits() {
        let key = &keys[&frame.repo];
        for (reason, forge) in forgeries {
            if frame.ops.is_empty() {
                continue;
            }
            let mut forged = frame.clone();
            forge(&mut forged, other);
            let error = verify_commit(&forged, key, NOW_US).expect_err("a forgery");
            assert_eq!(error.reason(), reason, "seq {}", frame.seq);
        }
    }
}
