//! What a relay tells, and what each fault makes of it.

use std::collections::BTreeMap;

use atproto::{CommitFrame, Did, verify_commit};

use super::*;
use crate::repo::{Account, Curve, Forgery};

/// An hour after the first message of a network.
const NOW_US: i64 = 1_750_003_600_000_000;

#[tokio::test]
async fn an_honest_relay_tells_what_hosts_tell() {
    let network = FakeNetwork::start(FakeNetworkConfig {
        pdses: 2,
        ..FakeNetworkConfig::default()
    })
    .await;
    network.run(50);
    let told = kept(network.relay(0));
    assert_eq!(commits(&told).len(), 50);
    let hosts = [0, 1].map(|place| commits(&kept(network.pds(place))).len());
    assert_eq!(hosts.iter().sum::<usize>(), 50);
    assert!(hosts.iter().all(|commits| *commits > 0));
    let mut heads = BTreeMap::new();
    for commit in commits(&told) {
        let before = heads.insert(commit.repo.clone(), commit.rev);
        assert_eq!(commit.since, before);
    }
    for (did, truth) in network.truth() {
        assert_eq!(heads.get(&did).copied(), truth.rev);
    }
}

#[tokio::test]
async fn forgeries_come_with_the_honest_commit_or_instead_of_it() {
    let network = FakeNetwork::start(FakeNetworkConfig {
        relays: 1 + Forgery::ALL.len(),
        ..FakeNetworkConfig::default()
    })
    .await;
    let faults = Forgery::ALL
        .into_iter()
        .enumerate()
        .map(|(index, forgery)| {
            let fault = match index % 2 {
                0 => StreamFault::Forge(forgery),
                _ => StreamFault::Replace(forgery),
            };
            (index + 1, forgery, fault)
        });
    for (relay, _, fault) in faults.clone() {
        let plan = Plan::default().at(150, fault);
        network.relay(relay).plan_stream(plan);
    }
    network.run(400);
    let honest = commits(&kept(network.relay(0)));
    for (relay, forgery, fault) in faults {
        let told = commits(&kept(network.relay(relay)));
        let new: Vec<&CommitFrame> = told.iter().filter(|told| !honest.contains(told)).collect();
        assert_eq!(new.len(), 1, "{fault:?}");
        let lost = usize::from(matches!(fault, StreamFault::Replace(_)));
        assert_eq!(told.len(), honest.len() + 1 - lost, "{fault:?}");
        let counted = network.relay(relay).stream_faults();
        assert_eq!(counted, BTreeMap::from([(fault, 1)]));
        if new[0].repo.as_str().starts_with("did:plc:") {
            let key = key(&network, &new[0].repo);
            let refused = verify_commit(new[0], &key, NOW_US).expect_err("forged");
            let reason = refused.reason();
            assert!(forgery.reasons().contains(&reason), "{fault:?}: {reason}");
        }
    }
}

#[tokio::test]
async fn messages_are_left_out_doubled_and_moved() {
    let (honest, told, _) = lied(StreamFault::Drop).await;
    assert_eq!(told.len(), honest.len() - 1);
    let (honest, told, _) = lied(StreamFault::Again).await;
    assert_eq!(told.len(), honest.len() + 1);
    assert!(honest.iter().all(|honest| told.contains(honest)));

    let (honest, told, _) = lied(StreamFault::Hold(5)).await;
    assert_eq!(sorted(&told), sorted(&honest));
    assert_ne!(revs(&told), revs(&honest));
    assert!(
        by_repo(&told).eq(by_repo(&honest)),
        "each repo's order stays"
    );

    let (honest, told, _) = lied(StreamFault::Swap).await;
    assert_eq!(sorted(&told), sorted(&honest));
    assert!(
        by_repo(&told).ne(by_repo(&honest)),
        "a repo's order changes"
    );
}

#[tokio::test]
async fn what_nothing_covers_is_lied_about() {
    let (honest, told, network) = lied(StreamFault::Since).await;
    let lie = told
        .iter()
        .zip(&honest)
        .find(|(told, honest)| told != honest);
    let (lie, truth) = lie.expect("a lie");
    assert_ne!(lie.since, truth.since);
    verify_commit(lie, &key(&network, &lie.repo), NOW_US).expect("no forgery");

    let (_, told, network) = lied(StreamFault::NoPrevData).await;
    let old = told.iter().find(|commit| commit.prev_data.is_none());
    let old = old.expect("a commit of an old sender");
    let commit = verify_commit(old, &key(&network, &old.repo), NOW_US).expect("no forgery");
    assert_eq!(commit.verification(), atproto::Verification::Inclusion);
}

#[tokio::test]
async fn syncs_strangers_and_floods_come_out_of_the_blue() {
    for (fault, syncs, commits_more, others) in [
        (StreamFault::Sync, 1, 0, 0),
        (StreamFault::SyncInstead, 1, -1, 0),
        (StreamFault::SyncOld, 1, 0, 0),
        (StreamFault::SyncForged, 1, 0, 0),
        (StreamFault::Strangers(3), 0, 3, 0),
        (StreamFault::Novelty, 0, 0, 0),
        (StreamFault::Time, 0, 0, 0),
        (StreamFault::Flood(20), 0, 20, 20),
    ] {
        let network = FakeNetwork::start(two_relays()).await;
        network.relay(1).plan_stream(Plan::default().at(30, fault));
        network.run(30);
        let did = network.dids()[0].clone();
        network.identity(&did);
        network.run(20);
        let count = |relay, kind: fn(&Frame) -> bool| {
            let kept = kept(network.relay(relay));
            i64::try_from(kept.iter().filter(|frame| kind(frame)).count()).expect("few")
        };
        let more = |kind| count(1, kind) - count(0, kind);
        // A flood repeats the message that it comes with, and that was a commit.
        assert_eq!(
            more(|frame| matches!(frame, Frame::Sync(_))),
            syncs,
            "{fault:?}"
        );
        assert_eq!(
            more(|frame| matches!(frame, Frame::Commit(_))),
            commits_more,
            "{fault:?}"
        );
        assert_eq!(
            more(|frame| matches!(frame, Frame::Identity(_))),
            others,
            "{fault:?}"
        );
        let novelties = i64::from(fault == StreamFault::Novelty);
        assert_eq!(
            more(|frame| matches!(frame, Frame::Unknown { .. })),
            novelties
        );
        let late = |frame: &Frame| matches!(frame, Frame::Identity(identity) if identity.time == "yesterday");
        assert_eq!(more(late), i64::from(fault == StreamFault::Time));
        assert_eq!(network.relay(1).stream_faults()[&fault], 1);
    }
}

#[tokio::test]
async fn a_seeded_plan_lies_the_same_way_twice() {
    let run = async || {
        let network = FakeNetwork::start(two_relays()).await;
        let plan = Plan::seeded(7)
            .rate(StreamFault::Drop, 50)
            .rate(StreamFault::Hold(3), 50)
            .rate(StreamFault::Forge(Forgery::OtherKey), 50);
        network.relay(1).plan_stream(plan);
        network.run(200);
        network.relay(1).release_held();
        assert_eq!(network.relay(1).stream_faults().len(), 3);
        network.relay(1).kept()
    };
    let first = run().await;
    // The hosts listen elsewhere, but no message says where.
    assert_eq!(first, run().await);
}

fn two_relays() -> FakeNetworkConfig {
    FakeNetworkConfig {
        relays: 2,
        ..FakeNetworkConfig::default()
    }
}

/// The commits that an honest relay tells, and those of one that lies once.
async fn lied(fault: StreamFault) -> (Vec<CommitFrame>, Vec<CommitFrame>, FakeNetwork) {
    let network = FakeNetwork::start(two_relays()).await;
    let liar = network.relay(1);
    liar.plan_stream(Plan::default().at(150, fault));
    network.run(400);
    liar.release_held();
    assert_eq!(liar.stream_faults(), BTreeMap::from([(fault, 1)]));
    let honest = commits(&kept(network.relay(0)));
    let told = commits(&kept(liar));
    (honest, told, network)
}

/// The commits without their numbers, which every relay has its own of.
fn commits(frames: &[Frame]) -> Vec<CommitFrame> {
    let commits = frames.iter().filter_map(|frame| match frame {
        Frame::Commit(frame) => Some(CommitFrame {
            seq: 0,
            ..frame.clone()
        }),
        _ => None,
    });
    commits.collect()
}

fn revs(commits: &[CommitFrame]) -> Vec<u64> {
    commits.iter().map(|commit| commit.rev.value()).collect()
}

fn sorted(commits: &[CommitFrame]) -> Vec<u64> {
    let mut revs = revs(commits);
    revs.sort_unstable();
    revs
}

/// The revs of each repo, in the order in which they were told.
fn by_repo(commits: &[CommitFrame]) -> impl Iterator<Item = (Did, Vec<u64>)> {
    let mut repos: BTreeMap<Did, Vec<u64>> = BTreeMap::new();
    for commit in commits {
        let revs = repos.entry(commit.repo.clone()).or_default();
        revs.push(commit.rev.value());
    }
    repos.into_iter()
}

fn key(network: &FakeNetwork, did: &Did) -> atproto::PublicKey {
    let documents = network.did_documents();
    let document = atproto::DidDocument::parse(&documents[did.as_str()]).expect("a document");
    document.signing_key.expect("a key")
}

#[test]
fn strangers_are_nobody_of_the_network() {
    let one = Account::new(u64::MAX, Curve::K256);
    let other = Account::new(1 << 32, Curve::K256);
    assert_ne!(one.did(), other.did());
}
