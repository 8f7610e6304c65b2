//! Flips every bit of a dozen recorded commits, one at a time.
//!
//! Where the signature, a CID or the inversion covers the bit, the commit must be rejected. Elsewhere the message may
//! be refused or ignored, or the same records may appear, checked less far at most. Other content must never appear.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use atproto::{
    Car, Cid, CommitFrame, Frame, PublicKey, Verification, VerifiedCommit, car, cbor, verify_commit,
};

use crate::corpus::{self, NOW_US};

const FRAMES: usize = 12;

/// What became of a message, by where its bit was flipped: `covered` or `bare`.
type Outcomes = BTreeMap<(&'static str, String), u32>;

#[test]
fn a_flipped_bit_never_makes_other_content_appear() {
    let keys = corpus::keys();
    let chosen = choose(corpus::commits());
    assert_eq!(chosen.len(), FRAMES);
    let bits: usize = chosen.iter().map(|(bytes, _)| bytes.len() * 8).sum();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let outcomes = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|worker| {
                let (chosen, keys) = (&chosen, &keys);
                scope.spawn(move || {
                    let mut outcomes = Outcomes::new();
                    for (bytes, frame) in chosen {
                        flip_all(
                            bytes,
                            frame,
                            &keys[&frame.repo],
                            worker,
                            threads,
                            &mut outcomes,
                        );
                    }
                    outcomes
                })
            })
            .collect();
        let mut all = Outcomes::new();
        for worker in workers {
            for (outcome, count) in worker.join().expect("a worker that ends") {
                *all.entry(outcome).or_default() += count;
            }
        }
        all
    });
    for ((place, outcome), count) in &outcomes {
        println!("{count:>7} {place:<8} {outcome}");
    }
    let count = |wanted: &dyn Fn(&str, &str) -> bool| -> u32 {
        let matching = outcomes
            .iter()
            .filter(|((place, outcome), _)| wanted(place, outcome));
        matching.map(|(_, count)| count).sum()
    };
    assert_eq!(
        count(&|_, _| true) as usize,
        bits,
        "each bit has an outcome"
    );
    let appears = |outcome: &str| outcome.starts_with("appears");
    assert_eq!(
        count(&|place, outcome| place == "covered" && appears(outcome)),
        0
    );
    for outcome in [
        "appears as it was",
        "appears as inclusion",
        "ignored",
        "refused frame_payload",
        "refused frame_header",
        "refused frame_field",
        "refused frame_field_missing",
    ] {
        assert!(
            count(&|place, found| place == "bare" && found == outcome) > 0,
            "{outcome}"
        );
    }
    for reason in [
        "car_block_hash",
        "car_header",
        "car_version",
        "car_cid",
        "car_truncated",
        "commit_root_mismatch",
        "did_mismatch",
        "rev_mismatch",
        "op_not_included",
        "inversion_mismatch",
    ] {
        let outcome = format!("rejected {reason}");
        assert!(
            count(&|place, found| place == "covered" && found == outcome) > 0,
            "{reason}"
        );
    }
}

#[test]
fn a_flipped_bit_of_a_commit_block_is_rejected_though_its_cid_is_made_to_match() {
    let keys = corpus::keys();
    let mut reasons = BTreeMap::new();
    for (_, frame) in choose(corpus::commits()).into_iter().take(3) {
        let blocks = Car::parse(&frame.blocks).expect("a CAR");
        let mut block = blocks.get(&frame.commit).expect("a commit").to_vec();
        for bit in 0..block.len() * 8 {
            block[bit / 8] ^= 1 << (bit % 8);
            let mut forged = frame.clone();
            forged.commit = Cid::of_cbor(&block);
            let others = blocks.iter().filter(|(cid, _)| *cid != frame.commit);
            forged.blocks = car::encode(
                &[forged.commit],
                others.chain([(forged.commit, block.as_slice())]),
            );
            let error = verify_commit(&forged, &keys[&frame.repo], NOW_US).expect_err("a forgery");
            *reasons.entry(error.reason()).or_insert(0) += 1;
            block[bit / 8] ^= 1 << (bit % 8);
        }
    }
    println!("{reasons:?}");
    let expected = [
        "commit_block",
        "commit_field",
        "commit_field_missing",
        "commit_version",
        "did_mismatch",
        "rev_mismatch",
        "signature",
    ];
    assert_eq!(reasons.keys().copied().collect::<Vec<_>>(), expected);
}

/// Flips the bits of every `threads`-th byte from `worker` on, and counts what becomes of each message.
fn flip_all(
    bytes: &[u8],
    frame: &CommitFrame,
    key: &PublicKey,
    worker: usize,
    threads: usize,
    outcomes: &mut Outcomes,
) {
    let before = verify_commit(frame, key, NOW_US).expect("a good commit");
    let covered = covered(bytes);
    let mut flipped = bytes.to_vec();
    for at in (worker..bytes.len()).step_by(threads) {
        let place = if covered.iter().any(|range| range.contains(&at)) {
            "covered"
        } else {
            "bare"
        };
        for bit in 0..8 {
            flipped[at] ^= 1 << bit;
            let outcome = outcome(
                &flipped,
                key,
                &before,
                &format!("seq {}, byte {at}, bit {bit}", frame.seq),
            );
            *outcomes.entry((place, outcome)).or_default() += 1;
            flipped[at] ^= 1 << bit;
        }
    }
}

fn outcome(bytes: &[u8], key: &PublicKey, before: &VerifiedCommit, case: &str) -> String {
    let frame = match Frame::decode(bytes) {
        Ok(Frame::Commit(frame)) => frame,
        Ok(Frame::Unknown { .. }) => return "ignored".to_owned(),
        Ok(other) => panic!("{case}: became {other:?}"),
        Err(error) => return format!("refused {}", error.reason()),
    };
    let after = match verify_commit(&frame, key, NOW_US) {
        Ok(after) => after,
        Err(error) => return format!("rejected {}", error.reason()),
    };
    assert_eq!(content(&after), content(before), "{case}");
    assert!(after.verification() <= before.verification(), "{case}");
    match after.verification() {
        Verification::Inverted => "appears as it was".to_owned(),
        lower => format!("appears as {lower}"),
    }
}

/// Everything of a commit that a reader sees, but what nothing covers.
fn content(commit: &VerifiedCommit) -> impl PartialEq + std::fmt::Debug {
    let ops: Vec<_> = commit
        .ops()
        .iter()
        .map(|op| {
            let path = (op.collection.clone(), op.rkey.clone());
            (
                op.action,
                path,
                op.cid,
                op.record.clone(),
                op.problem.clone(),
            )
        })
        .collect();
    (
        commit.did().clone(),
        commit.rev(),
        commit.commit(),
        commit.data(),
        commit.commit_block().clone(),
        ops,
    )
}

/// Returns where in a `#commit` the values stand that a signature, a CID or the inversion covers.
fn covered(bytes: &[u8]) -> Vec<Range<usize>> {
    let (_, payload) = cbor::decode_prefix(bytes).expect("a header");
    let start = bytes.len() - payload.len();
    let ops = value_of("ops", bytes, start..bytes.len()).expect("ops");
    let mut ranges: Vec<_> = ["blocks", "commit", "repo", "rev", "prevData"]
        .iter()
        .map(|name| value_of(name, bytes, start..bytes.len()).expect("a field"))
        .collect();
    for name in ["action", "path", "cid", "prev"] {
        let mut from = ops.start;
        while let Some(value) = value_of(name, bytes, from..ops.end) {
            from = value.end;
            ranges.push(value);
        }
    }
    ranges
}

/// Returns where the value of the first field called `name` stands, at `within` or after.
fn value_of(name: &str, bytes: &[u8], within: Range<usize>) -> Option<Range<usize>> {
    let needle = [&[0x60 | name.len() as u8], name.as_bytes()].concat();
    let key = bytes[within.clone()]
        .windows(needle.len())
        .position(|window| window == needle)?;
    let start = within.start + key + needle.len();
    let (_, rest) = cbor::decode_prefix(&bytes[start..]).expect("a value");
    Some(start..bytes.len() - rest.len())
}

/// Returns a dozen commits: the shortest of each kind, then the shortest of all.
fn choose(mut commits: Vec<(Vec<u8>, CommitFrame)>) -> Vec<(Vec<u8>, CommitFrame)> {
    commits.sort_by_key(|(bytes, frame)| (bytes.len(), frame.seq));
    let kind = |frame: &CommitFrame| -> Vec<(String, &'static str)> {
        let collection = |path: &str| {
            path.split('/')
                .next()
                .map(str::to_owned)
                .unwrap_or_default()
        };
        frame
            .ops
            .iter()
            .map(|op| (collection(&op.path), op.action.as_str()))
            .collect()
    };
    let mut seen = BTreeSet::new();
    let (mut chosen, others): (Vec<_>, Vec<_>) = commits
        .into_iter()
        .partition(|(_, frame)| seen.insert(kind(frame)));
    chosen.extend(others);
    chosen.truncate(FRAMES);
    let actions: BTreeSet<_> = chosen
        .iter()
        .flat_map(|(_, frame)| &frame.ops)
        .map(|op| op.action)
        .collect();
    assert_eq!(
        actions.len(),
        3,
        "creates, updates and deletes are among them"
    );
    chosen
}
