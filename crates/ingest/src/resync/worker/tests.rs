//! Resyncs from mark to floor, by hosts that say what a test says, over a bucket in memory.

mod world;

use atproto::Tid;
use crdt::{Change, RecordChange};
use testkit::repo::{CarFlaw, RepoBuilder, Write};

use super::super::hosts::{HostError, Listed};
use super::*;
use crate::outbound::{OutboundError, Retry};

use world::*;

#[tokio::test]
async fn a_marked_repo_is_fetched_and_merged() {
    let mut world = World::new().await;
    let (repo, pds) = world.repo(1);
    // Known from the stream: one record that is gone since, one that was changed, one that is to come.
    let gone = world.live(&repo, "gone", 1);
    let stale = world.live(&repo, "0", 1);
    let rev = repo.rev();
    let ahead = world.live_at(&repo, "ahead", after(rev));
    world.append(vec![gone, stale, ahead]).await;
    world.mark(&repo, "sync", rev).await;
    world.hosts.give(&repo);
    world
        .run_until(|world| world.state(&repo) == [(1, "synchronized")])
        .await;
    let model = world.model().await;
    let mut found: Vec<(String, Tid)> = model
        .records()
        .map(|record| (record.rkey.to_string(), record.rev))
        .collect();
    found.sort();
    let rev = rev.expect("a commit");
    assert_eq!(
        found,
        [
            ("0".to_owned(), rev),
            ("1".to_owned(), rev),
            ("2".to_owned(), rev),
            ("ahead".to_owned(), after(Some(rev))),
        ]
    );
    let log = world.changes().await;
    for change in &log {
        match change {
            Change::Floor(floor) => assert_eq!(*floor.delivery.source, *pds),
            Change::Head(head) => assert_eq!(*head.delivery.source, *format!("{pds}#repo")),
            _ => {}
        }
    }
    // The steps stand in the log one behind the other, and the last one with the floor.
    let steps: Vec<u32> = log.iter().filter_map(step_of).collect();
    assert_eq!(steps, [0, 1, 2, 3]);
    let last = world.objects().await.pop().expect("one");
    assert!(last.iter().any(|change| matches!(change, Change::Floor(_))));
    assert!(last.iter().any(|change| step_of(change) == Some(3)));
}

#[tokio::test]
async fn a_car_that_was_cut_at_any_block_is_told_from_a_whole_one() {
    let mut world = World::new().await;
    let (repo, _) = world.repo(1);
    let car = car_of(&repo);
    let ends = block_ends(&car);
    assert!(ends.len() > 5, "{ends:?}");
    assert_eq!(ends.last(), Some(&car.len()));
    let mut cuts: Vec<Vec<u8>> = vec![Vec::new()];
    cuts.extend(ends.iter().map(|end| car[..*end].to_vec()));
    let attempts = u32::try_from(cuts.len()).expect("a few");
    world
        .hosts
        .script(&repo, cuts.into_iter().map(Ok).collect());
    world.mark(&repo, "sync", repo.rev()).await;
    world
        .run_until(|world| world.state(&repo) == [(attempts, "synchronized")])
        .await;
    let log = world.changes().await;
    let failures: Vec<&str> = log.iter().filter_map(failure_of).collect();
    assert_eq!(failures.len(), attempts as usize - 1);
    assert!(
        failures.iter().all(|failure| *failure == "sync/incomplete"),
        "{failures:?}"
    );
    let first_record = log
        .iter()
        .position(|change| matches!(change, Change::Record(_)));
    let last_failure = log.iter().rposition(|change| failure_of(change).is_some());
    assert!(last_failure < first_record, "nothing of a cut CAR goes in");
}

#[tokio::test]
async fn what_is_behind_or_wrong_is_fetched_again() {
    let mut world = World::new().await;
    let (mut repo, _) = world.repo(1);
    let old = car_of(&repo);
    let forged = repo.car_with(CarFlaw::OtherKey);
    let other = car_of(&world.repo(2).0);
    repo.commit(stamp(50), &[put("new")]);
    world.hosts.script(
        &repo,
        vec![
            Ok(old),
            Ok(forged),
            Ok(other),
            Err(HostError::Status { status: 500 }),
            Err(HostError::Outbound(OutboundError::Timeout)),
            Ok(car_of(&repo)),
        ],
    );
    world.mark(&repo, "since_mismatch", repo.rev()).await;
    world
        .run_until(|world| world.state(&repo) == [(6, "synchronized")])
        .await;
    let log = world.changes().await;
    let failures: Vec<&str> = log.iter().filter_map(failure_of).collect();
    assert_eq!(
        failures,
        ["behind", "signature", "signature", "host_status", "timeout"]
            .map(|reason| format!("since_mismatch/{reason}"))
    );
    let floors = log
        .iter()
        .filter(|change| matches!(change, Change::Floor(_)));
    assert_eq!(floors.count(), 1);
}

#[tokio::test]
async fn a_host_that_says_when_is_asked_then() {
    let mut world = World::new().await;
    let (repo, _) = world.repo(1);
    let retry = Some(Retry::After(Duration::from_secs(600)));
    world.hosts.script(
        &repo,
        vec![
            Err(HostError::Busy { status: 429, retry }),
            Ok(car_of(&repo)),
        ],
    );
    world.mark(&repo, "sync", repo.rev()).await;
    world
        .run_until(|world| world.state(&repo) == [(2, "synchronized")])
        .await;
    let asked = world.hosts.asked_at();
    assert!(asked[1].0 - asked[0].0 >= 600_000_000, "{asked:?}");
}

#[tokio::test]
async fn a_repo_that_is_gone_is_left_until_it_is_marked_again() {
    let mut world = World::new().await;
    let (repo, _) = world.repo(1);
    let reason = "repo_deactivated";
    world
        .hosts
        .script(&repo, vec![Err(HostError::Gone { reason })]);
    world.mark(&repo, "sync", repo.rev()).await;
    world
        .run_until(|world| world.state(&repo) == [(1, "gone")])
        .await;
    assert_eq!(world.hosts.asked_at().len(), 1);
    // A new run finds nothing to do; a new mark does.
    world.hosts.give(&repo);
    world.mark(&repo, "reactivated", None).await;
    world
        .run_until(|world| world.state(&repo) == [(1, "gone"), (1, "synchronized")])
        .await;
    assert_eq!(world.hosts.asked_at().len(), 2);
}

#[tokio::test]
async fn whatever_was_done_before_a_crash_the_next_run_ends_alike() {
    let mut world = World::new().await;
    let (repo, _) = world.repo(1);
    let gone = world.live(&repo, "gone", 1);
    world.append(vec![gone]).await;
    world.mark(&repo, "sync", repo.rev()).await;
    let car = car_of(&repo);
    world.hosts.script(
        &repo,
        vec![
            Err(HostError::Malformed),
            Ok(car[..car.len() - 1].to_vec()),
            Ok(car.clone()),
        ],
    );
    world
        .run_until(|world| world.state(&repo) == [(3, "synchronized")])
        .await;
    let expected = records_of(&world.model().await);
    let objects = world.objects().await.len();
    assert!(objects >= 8, "{objects}");
    for durable in 2..=objects {
        let mut again = world.as_of(durable).await;
        again.hosts.give(&repo);
        let at_start = again.states.clone();
        again
            .run_until(|world| {
                world
                    .state(&repo)
                    .iter()
                    .all(|(_, state)| *state == "synchronized")
            })
            .await;
        assert_eq!(
            records_of(&again.model().await),
            expected,
            "{durable}: {at_start:?}"
        );
    }
}

#[tokio::test]
async fn two_at_once_do_no_harm() {
    let mut world = World::new().await;
    let (mut repo, _) = world.repo(1);
    world.mark(&repo, "sync", repo.rev()).await;
    let early = car_of(&repo);
    repo.commit(
        stamp(50),
        &[put("late"), Write::delete(format!("{POST}/0"))],
    );
    world
        .hosts
        .script(&repo, vec![Ok(early), Ok(car_of(&repo))]);
    let stop = CancellationToken::new();
    let one = tokio::spawn(
        world
            .resyncer(ResyncSettings::default())
            .0
            .run(stop.clone()),
    );
    let two = tokio::spawn(
        world
            .resyncer(ResyncSettings::default())
            .0
            .run(stop.clone()),
    );
    while world.hosts.asked_at().len() < 2 || world.floors().await < 2 {
        tokio::task::yield_now().await;
    }
    stop.cancel();
    for run in [one, two] {
        run.await.expect("no panic").expect("the log takes it");
    }
    let found: Vec<String> = records_of(&world.model().await).into_keys().collect();
    let expected = ["1", "2", "late"].map(|rkey| format!("{}/{rkey}", repo.account().did()));
    assert_eq!(found, expected);
}

#[tokio::test]
async fn only_what_is_covered_goes_in_and_the_floor_says_so() {
    let mut world = World::new().await;
    let (mut repo, _) = world.repo(1);
    repo.commit(stamp(50), &[Write::put(format!("{LIKE}/x"), &record(5))]);
    let other = RecordChange {
        collection: LIKE.parse().expect("an NSID"),
        ..match world.live(&repo, "kept", 1) {
            Change::Record(record) => record,
            other => panic!("{other:?}"),
        }
    };
    world.append(vec![Change::Record(other)]).await;
    world.mark(&repo, "sync", repo.rev()).await;
    world.hosts.give(&repo);
    let settings = ResyncSettings {
        coverage: POST.parse().expect("a coverage"),
        ..ResyncSettings::default()
    };
    world
        .run_with(settings, |world| {
            world.state(&repo) == [(1, "synchronized")]
        })
        .await;
    let model = world.model().await;
    let mut found: Vec<String> = model
        .records()
        .map(|record| format!("{}/{}", record.collection, record.rkey))
        .collect();
    found.sort();
    let posts = ["0", "1", "2"].map(|rkey| format!("{POST}/{rkey}"));
    assert_eq!(found[0], format!("{LIKE}/kept"));
    assert_eq!(found[1..], posts);
}

#[tokio::test]
async fn a_list_shows_what_went_on_without_us() {
    let mut world = World::new().await;
    let mut repos: Vec<RepoBuilder> = (1..=4).map(|seed| world.repo(seed).0).collect();
    let heads: Vec<Change> = repos[..3].iter().map(|repo| head(repo, RELAY)).collect();
    world.append(heads).await;
    // The first is known as it is, the second went on, the third was deactivated, the fourth was never met.
    repos[1].commit(stamp(50), &[put("late")]);
    repos.iter().for_each(|repo| world.hosts.give(repo));
    let listed = [&repos[0], &repos[1], &repos[3]].map(|repo| Listed {
        did: repo.account().did().clone(),
        rev: repo.rev().expect("a commit"),
    });
    world.hosts.list(listed.into());
    for (marks_new, expected) in [(false, vec![1]), (true, vec![1, 3])] {
        world.reconcile(u8::from(marks_new)).await;
        let source = ResyncSource {
            name: RELAY.into(),
            heads: RELAY.into(),
            marks_new,
        };
        let settings = ResyncSettings {
            sources: vec![source],
            ..ResyncSettings::default()
        };
        world
            .run_with(settings, |world| {
                let states: Vec<_> = world.states.values().collect();
                states.len() > expected.len() && states.iter().all(|(_, step)| step.is_final())
            })
            .await;
        let fetched: Vec<usize> = (0..4)
            .filter(|place| !world.state(&repos[*place]).is_empty())
            .collect();
        assert_eq!(fetched, expected, "new ones: {marks_new}");
    }
    let first = world.state(&repos[1]);
    assert_eq!(
        first.len(),
        1,
        "what was fetched is not behind any more: {first:?}"
    );
}

#[tokio::test]
async fn a_listed_repo_is_fetched_once() {
    let mut world = World::new().await;
    let repos: Vec<RepoBuilder> = (1..=3).map(|seed| world.repo(seed).0).collect();
    world.append(vec![head(&repos[2], RELAY)]).await;
    repos.iter().for_each(|repo| world.hosts.give(repo));
    let settings = ResyncSettings {
        dids: repos
            .iter()
            .map(|repo| repo.account().did().clone())
            .collect(),
        sources: vec![ResyncSource {
            name: RELAY.into(),
            heads: RELAY.into(),
            marks_new: false,
        }],
        ..ResyncSettings::default()
    };
    for _ in 0..2 {
        world
            .run_with(settings.clone(), |world| {
                repos[..2]
                    .iter()
                    .all(|repo| world.state(repo) == [(1, "synchronized")])
            })
            .await;
        assert_eq!(world.state(&repos[2]), [], "it was met");
        assert_eq!(world.hosts.asked_at().len(), 2);
    }
}

#[tokio::test]
async fn marks_beyond_the_memory_are_read_from_the_bucket() {
    let mut world = World::new().await;
    let repos: Vec<RepoBuilder> = (1..=9).map(|seed| world.repo(seed).0).collect();
    for repo in &repos {
        world.hosts.give(repo);
        world.mark(repo, "sync", repo.rev()).await;
    }
    let settings = ResyncSettings {
        pace: Pace {
            repos_max: 2,
            ..Pace::default()
        },
        ..ResyncSettings::default()
    };
    world
        .run_with(settings, |world| {
            repos
                .iter()
                .all(|repo| world.state(repo) == [(1, "synchronized")])
        })
        .await;
    assert_eq!(world.hosts.asked_at().len(), 9, "each once");
}
