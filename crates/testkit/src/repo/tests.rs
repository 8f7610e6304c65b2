//! Made repositories against the verifier: what hosts send is accepted in full, what forgers send is not.

use std::collections::{BTreeMap, BTreeSet};

use atproto::{
    AccountFrame, Action, CommitFrame, Did, DidDocument, Frame, PublicKey, RecordProblem, Value,
    Verification, VerifiedCommit, VerifyError, cbor, verify_commit, verify_repo, verify_sync,
};
use rand::rngs::StdRng;
use rand::seq::IteratorRandom;
use rand::{Rng, SeedableRng};

use super::*;

const START_US: i64 = 1_750_000_000_000_000;
const NOW_US: i64 = START_US + 3_600 * 1_000_000;

fn stamp(seq: i64) -> Stamp {
    Stamp {
        seq,
        at_us: START_US + seq * 1_000,
    }
}

fn note(text: &str) -> Value {
    Value::Map(
        [("$type", "com.example.note"), ("text", text)]
            .into_iter()
            .collect(),
    )
}

/// Returns writes of one to eight paths among `count`, so that they create, update and delete.
fn writes(repo: &RepoBuilder, count: u32, random: &mut StdRng) -> Vec<Write> {
    let mut writes = BTreeMap::new();
    for _ in 0..random.random_range(1..=8) {
        let path = format!("com.example.note/{}", random.random_range(0..count));
        let write = match repo.records().contains_key(&path) && random.random_bool(0.5) {
            true => Write::delete(path.as_str()),
            false => Write::put(path.as_str(), &note(&random.random::<u64>().to_string())),
        };
        writes.insert(path, write);
    }
    let mut writes: Vec<Write> = writes.into_values().collect();
    let start = random.random_range(0..writes.len());
    writes.rotate_left(start);
    writes
}

fn verified(frame: &CommitFrame, key: &PublicKey) -> VerifiedCommit {
    verify_commit(frame, key, NOW_US).unwrap_or_else(|error| panic!("{}: {error}", frame.seq))
}

#[test]
fn any_sequence_of_operations_verifies_to_inverted_and_keeps_the_records() {
    let mut counts = BTreeMap::new();
    for seed in 0..40 {
        let mut random = StdRng::seed_from_u64(seed);
        let curve = if seed % 4 == 0 {
            Curve::P256
        } else {
            Curve::K256
        };
        let mut repo = RepoBuilder::new(Account::new(seed, curve));
        let key = repo.account().public_key();
        let paths = [5, 60, 3_000][seed as usize % 3];
        let (mut since, mut data) = (None, None);
        for seq in 1..=25 {
            let writes = writes(&repo, paths, &mut random);
            let frame = repo.commit(stamp(seq), &writes);
            let bytes = encode_commit(&frame);
            assert_eq!(
                Frame::decode(&bytes),
                Ok(Frame::Commit(frame.clone())),
                "seed {seed}"
            );
            let commit = verified(&frame, &key);
            assert_eq!(
                commit.verification(),
                Verification::Inverted,
                "seed {seed}, seq {seq}"
            );
            assert_eq!(
                (commit.since(), commit.prev_data()),
                (since, data.or(commit.prev_data()))
            );
            (since, data) = (Some(commit.rev()), Some(commit.data()));
            for op in commit.ops() {
                *counts.entry(op.action).or_insert(0) += 1;
                let path = format!("{}/{}", op.collection, op.rkey);
                assert_eq!(
                    repo.records().get(&path).map(Vec::as_slice),
                    op.record.as_deref()
                );
            }
        }
    }
    println!("{counts:?}");
    assert!(counts.len() == 3 && counts.values().all(|count| *count >= 100));
}

#[test]
fn a_repository_that_shrinks_to_nothing_and_grows_again_verifies() {
    let mut repo = RepoBuilder::new(Account::new(9, Curve::K256));
    let key = repo.account().public_key();
    let paths: Vec<String> = (0..50)
        .map(|rkey| format!("com.example.note/{rkey}"))
        .collect();
    let mut seq = 0;
    for _ in 0..2 {
        for path in &paths {
            seq += 1;
            let frame = repo.commit(stamp(seq), &[Write::put(path.as_str(), &note("x"))]);
            assert_eq!(
                verified(&frame, &key).verification(),
                Verification::Inverted
            );
        }
        for path in &paths {
            seq += 1;
            let frame = repo.commit(stamp(seq), &[Write::delete(path.as_str())]);
            assert_eq!(
                verified(&frame, &key).verification(),
                Verification::Inverted
            );
        }
    }
    let repo = verify_repo(&repo.car(), Some(&key), NOW_US).expect("an empty repository");
    assert!(repo.records().is_empty());
}

#[test]
fn a_commit_without_operations_is_legal_and_says_the_same_tree() {
    let mut repo = RepoBuilder::new(Account::new(1, Curve::K256));
    let key = repo.account().public_key();
    repo.commit(stamp(1), &[Write::put("com.example.note/a", &note("a"))]);
    let frame = repo.commit(stamp(2), &[]);
    let commit = verified(&frame, &key);
    assert_eq!(commit.verification(), Verification::Inverted);
    assert!(commit.ops().is_empty());
    let unsaid = CommitFrame {
        prev_data: None,
        ..frame
    };
    assert_eq!(
        verified(&unsaid, &key).verification(),
        Verification::Inclusion
    );
}

#[test]
fn a_check_that_cannot_be_made_lowers_the_verification() {
    let mut repo = RepoBuilder::new(Account::new(2, Curve::K256));
    let key = repo.account().public_key();
    repo.commit(stamp(1), &[Write::put("com.example.note/a", &note("a"))]);
    let frame = repo.commit(stamp(2), &[Write::put("com.example.note/a", &note("b"))]);
    let mut no_prev = frame.clone();
    no_prev.ops[0].prev = None;
    let no_prev_data = CommitFrame {
        prev_data: None,
        ..frame.clone()
    };
    for lower in [no_prev, no_prev_data] {
        let commit = verified(&lower, &key);
        assert_eq!(commit.verification(), Verification::Inclusion);
        assert_eq!(
            commit.ops()[0].record,
            verified(&frame, &key).ops()[0].record
        );
    }
}

#[test]
fn each_forgery_is_refused_with_its_reason() {
    let mut counts: BTreeMap<(Forgery, &str), u32> = BTreeMap::new();
    for seed in 0..12 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut repo = RepoBuilder::new(Account::new(
            seed,
            if seed % 3 == 0 {
                Curve::P256
            } else {
                Curve::K256
            },
        ));
        let key = repo.account().public_key();
        for seq in 1..=12 {
            let writes = writes(&repo, 40, &mut random);
            let frame = repo.commit(stamp(seq), &writes);
            for forgery in Forgery::ALL {
                let Some(forged) = forgery.of(&frame, repo.account()) else {
                    continue;
                };
                let error = verify_commit(&forged, &key, NOW_US).expect_err("a forgery");
                let reason = error.reason();
                assert!(
                    forgery.reasons().contains(&reason),
                    "seed {seed}, seq {seq}: {forgery:?} gives {error:?}"
                );
                *counts.entry((forgery, reason)).or_default() += 1;
            }
        }
    }
    println!("{counts:#?}");
    let made: BTreeSet<Forgery> = counts.keys().map(|(forgery, _)| *forgery).collect();
    assert_eq!(made, Forgery::ALL.into_iter().collect());
}

#[test]
fn a_block_that_is_no_record_is_a_problem_of_its_operation_alone() {
    let mut repo = RepoBuilder::new(Account::new(3, Curve::K256));
    let key = repo.account().public_key();
    let too_deep = (0..40).fold(vec![0xa0], |inner, _| {
        [b"\xa1\x61a".as_slice(), &inner].concat()
    });
    let too_long = cbor::encode(&Value::Map(
        [("bytes", Value::Bytes(vec![0; 1_100_000]))]
            .into_iter()
            .collect(),
    ));
    let bad: [(&str, Vec<u8>); 6] = [
        ("record_not_map", cbor::encode(&Value::from("text"))),
        ("record_cbor", b"\xa1\x61a\xfb\x3f\xf0\0\0\0\0\0\0".to_vec()),
        ("record_cbor", b"\xa2\x61b\x01\x61a\x02".to_vec()),
        ("record_cbor", b"\xa1".to_vec()),
        ("record_too_deep", too_deep),
        ("record_too_long", too_long),
    ];
    let good = Write::put("com.example.note/good", &note("good"));
    let mut seq = 0;
    for (index, (reason, block)) in bad.into_iter().enumerate() {
        seq += 1;
        let path = format!("com.example.note/bad{index}");
        let frame = repo.commit(stamp(seq), &[Write::put_bytes(path, block), good.clone()]);
        let commit = verified(&frame, &key);
        assert_eq!(commit.verification(), Verification::Inverted);
        let [op, other] = commit.ops() else {
            panic!("two operations")
        };
        assert_eq!(op.problem.as_ref().map(RecordProblem::reason), Some(reason));
        assert!(op.record.is_none() && op.cid.is_some());
        assert!(other.record.is_some() && other.problem.is_none());
    }
    let repo = verify_repo(&repo.car(), Some(&key), NOW_US).expect("a repository");
    let refused: Vec<&str> = repo
        .refused()
        .iter()
        .map(|refused| refused.problem.reason())
        .collect();
    let expected = [
        "record_not_map",
        "record_cbor",
        "record_cbor",
        "record_cbor",
        "record_too_deep",
        "record_too_long",
    ];
    assert_eq!(refused, expected);
    assert_eq!(repo.records().len(), 1);
}

#[test]
fn a_whole_repository_gives_every_record_and_says_how_far_it_was_checked() {
    let mut network = Network::new(NetworkConfig {
        accounts: 3,
        ..NetworkConfig::default()
    });
    network.by_ref().take(400).for_each(drop);
    for repo in network.repos_mut() {
        let key = repo.account().public_key();
        let car = repo.car();
        for (key, level) in [
            (Some(&key), Verification::Signature),
            (None, Verification::Archive),
        ] {
            let verified = verify_repo(&car, key, NOW_US).expect("a repository");
            assert_eq!(verified.verification(), level);
            assert_eq!(
                (Some(verified.rev()), Some(verified.data())),
                (repo.rev(), repo.data())
            );
            let records: Vec<_> = verified
                .records()
                .iter()
                .map(|record| {
                    (
                        format!("{}/{}", record.collection, record.rkey),
                        record.record.to_vec(),
                    )
                })
                .collect();
            assert_eq!(
                records,
                repo.records().clone().into_iter().collect::<Vec<_>>()
            );
        }
    }
}

#[test]
fn each_flaw_of_a_repository_is_refused_with_its_reason() {
    let mut repo = RepoBuilder::new(Account::new(4, Curve::P256));
    let key = repo.account().public_key();
    for seq in 1..=30 {
        repo.commit(
            stamp(seq),
            &[Write::put(
                format!("com.example.note/{seq}"),
                &note(&seq.to_string()),
            )],
        );
    }
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
        let error = verify_repo(&repo.car_with(flaw), Some(&key), NOW_US).expect_err("a flaw");
        assert_eq!(error.reason(), reason, "{flaw:?}");
    }
}

#[test]
fn a_repository_cut_at_any_block_is_incomplete() {
    let mut repo = RepoBuilder::new(Account::new(5, Curve::K256));
    for seq in 1..=12 {
        repo.commit(
            stamp(seq),
            &[Write::put(
                format!("com.example.note/{seq}"),
                &note(&seq.to_string()),
            )],
        );
    }
    let car = repo.car();
    let mut incomplete = 0;
    for length in 0..car.len() {
        match verify_repo(&car[..length], None, NOW_US)
            .expect_err("a cut")
            .reason()
        {
            "missing_block" => incomplete += 1,
            reason => assert_eq!(reason, "car_truncated", "cut at {length}"),
        }
    }
    // After the header, and after each block but the last.
    assert_eq!(
        incomplete,
        atproto::Car::parse(&car).expect("a CAR").iter().len()
    );
}

#[test]
fn a_sync_is_signed_and_says_its_repository_and_revision() {
    let mut repo = RepoBuilder::new(Account::new(6, Curve::P256));
    let key = repo.account().public_key();
    repo.commit(stamp(1), &[Write::put("com.example.note/a", &note("a"))]);
    let frame = repo.sync(stamp(2));
    assert_eq!(
        Frame::decode(&encode_sync(&frame)),
        Ok(Frame::Sync(frame.clone()))
    );
    let sync = verify_sync(&frame, &key, NOW_US).expect("a sync");
    assert_eq!(
        (Some(sync.rev()), Some(sync.data())),
        (repo.rev(), repo.data())
    );

    let reason = |frame: &_, key: &_, now_us| {
        verify_sync(frame, key, now_us)
            .expect_err("a forgery")
            .reason()
    };
    assert_eq!(
        reason(&frame, &Account::new(7, Curve::P256).public_key(), NOW_US),
        "signature"
    );
    assert_eq!(
        reason(&frame, &key, START_US - 3_600_000_000),
        "rev_in_future"
    );
    let mut forged = frame.clone();
    forged.did = Account::new(7, Curve::K256).did().clone();
    assert_eq!(reason(&forged, &key, NOW_US), "did_mismatch");
    let mut forged = frame.clone();
    forged.rev = atproto::Tid::from_value(1);
    assert_eq!(reason(&forged, &key, NOW_US), "rev_mismatch");
}

#[test]
fn a_revision_may_be_five_minutes_ahead() {
    let mut repo = RepoBuilder::new(Account::new(8, Curve::K256));
    let key = repo.account().public_key();
    let frame = repo.commit(stamp(0), &[Write::put("com.example.note/a", &note("a"))]);
    let ahead = atproto::verify::REV_AHEAD_US_MAX;
    assert!(verify_commit(&frame, &key, START_US - ahead).is_ok());
    assert!(matches!(
        verify_commit(&frame, &key, START_US - ahead - 1),
        Err(VerifyError::RevInFuture { .. })
    ));
}

#[test]
fn a_document_gives_the_key_that_signs() {
    for curve in [Curve::K256, Curve::P256] {
        let account = Account::new(10, curve);
        let document = DidDocument::parse(&account.did_document()).expect("a document");
        assert_eq!(document.id, *account.did());
        assert_eq!(document.handle.as_ref(), Some(account.handle()));
        let key = document.signing_key.expect("a key");
        assert!(key.verify(b"message", &account.sign(b"message")).is_ok());
        assert!(
            key.verify(b"message", &account.sign_high_s(b"message"))
                .is_err()
        );
        assert!(key.verify(b"other", &account.sign(b"message")).is_err());
    }
}

#[test]
fn a_network_is_the_same_on_every_run_and_all_of_it_verifies() {
    let config = NetworkConfig {
        accounts: 20,
        odd_per_mille: 200,
        other_per_mille: 50,
        ..NetworkConfig::default()
    };
    let mut again = Network::new(config.clone());
    let mut network = Network::new(config);
    let keys: BTreeMap<Did, PublicKey> = network
        .did_documents()
        .values()
        .map(|json| DidDocument::parse(json).expect("a document"))
        .map(|document| (document.id, document.signing_key.expect("a key")))
        .collect();
    let (mut oddities, mut collections, mut actions, mut kinds) = (
        BTreeSet::new(),
        BTreeSet::new(),
        BTreeSet::new(),
        BTreeSet::new(),
    );
    for message in network.by_ref().take(1_500) {
        assert_eq!(message.bytes, again.message().bytes);
        assert_eq!(Frame::decode(&message.bytes), Ok(message.frame.clone()));
        oddities.extend(message.oddities.into_iter().flatten());
        match message.frame {
            Frame::Commit(frame) => {
                let commit = verified(&frame, &keys[&frame.repo]);
                assert_eq!(commit.verification(), Verification::Inverted);
                for op in commit.ops() {
                    assert_eq!(op.problem, None, "oddities are records all the same");
                    actions.insert(op.action);
                    collections.insert(op.collection.to_string());
                }
            }
            Frame::Sync(frame) => {
                verify_sync(&frame, &keys[&frame.did], NOW_US).expect("a sync");
                kinds.insert("sync");
            }
            Frame::Identity(_) => drop(kinds.insert("identity")),
            Frame::Account(AccountFrame { active, .. }) => {
                kinds.insert(if active { "active" } else { "inactive" });
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(oddities, Oddity::ALL.into_iter().collect());
    assert_eq!(
        actions,
        [Action::Create, Action::Update, Action::Delete].into()
    );
    assert_eq!(kinds.len(), 4);
    assert!(
        Kind::ALL
            .into_iter()
            .all(|kind| collections.contains(kind.collection())),
        "{collections:?}"
    );
    let chosen = network
        .repos()
        .iter()
        .choose(&mut StdRng::seed_from_u64(0))
        .expect("a repository");
    assert!(!chosen.records().is_empty());
}
