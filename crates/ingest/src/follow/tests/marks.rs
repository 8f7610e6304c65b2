//! What asks for a repo to be fetched, what is left out, and what several sources tell.

use testkit::repo::encode_account;

use super::*;
use crate::filter::Filter;

#[tokio::test]
async fn a_repo_met_for_the_first_time_is_marked_where_it_is_asked_for() {
    for resync_new in [true, false] {
        let (mut old, mut new) = (repo(1), repo(2));
        post(&mut old, 1);
        let follow = Follow::new(docs([&old, &new])).await;
        let running = follow.start(FollowSettings {
            resync_new,
            ..FollowSettings::default()
        });
        let mut accepted = follow.source.accept().await;
        // The first one's earlier commit was not told; the second one has none.
        accepted.send(post(&mut old, 2)).await;
        accepted.send(post(&mut new, 3)).await;
        accepted.send(post(&mut old, 4)).await;
        running.durable(4).await;
        running.stop().await;
        let notices = follow.notices().await;
        let marked = notices.iter().filter(|notice| notice.did.is_some());
        let marked: Vec<_> = marked.map(|notice| notice.reason.as_str()).collect();
        let expected: &[&str] = if resync_new { &["first_sighting"] } else { &[] };
        assert_eq!(marked, expected);
        let compared = notices.iter().any(|notice| notice.reason == "first_start");
        assert_eq!(compared, resync_new);
    }
}

#[tokio::test]
async fn an_account_that_is_active_again_is_marked_even_after_a_restart() {
    let repo = repo(1);
    let mut follow = Follow::new(docs([&repo])).await;
    let running = follow.start(FollowSettings::default());
    let mut accepted = follow.source.accept().await;
    let status = |seq, status| encode_account(&repo.account_status(stamp(seq), status));
    accepted.send(status(1, None)).await;
    accepted.send(status(2, Some("deactivated"))).await;
    running.durable(2).await;
    running.stop().await;
    assert_eq!(follow.notices().await.len(), 0);

    follow.world.know().await;
    let running = follow.start(FollowSettings::default());
    let mut accepted = follow.source.accept().await;
    accepted.send(status(3, None)).await;
    accepted.send(status(4, None)).await;
    running.durable(4).await;
    running.stop().await;
    let marks = follow.notices().await;
    assert_eq!(marks.len(), 1);
    assert_eq!(
        (marks[0].reason.as_str(), marks[0].seq),
        ("reactivated", Some(3))
    );
}

#[tokio::test]
async fn a_part_is_followed_without_gaps_under_a_name_of_its_own() {
    let (mut one, mut other, mut never) = (repo(1), repo(2), repo(3));
    let filter = Filter {
        coverage: "app.bsky.graph.*".parse().expect("patterns"),
        dids: [&one, &never]
            .map(|repo| repo.account().did().clone())
            .into(),
    };
    let follow = Follow::new(docs([&one, &other, &never])).await;
    let running = follow.start(FollowSettings {
        filter: filter.clone(),
        ..FollowSettings::default()
    });
    let mut accepted = follow.source.accept().await;
    let graph =
        |repo: &mut RepoBuilder, seq| encode_commit(&commit(repo, seq, "app.bsky.graph.follow"));
    accepted.send(graph(&mut one, 1)).await;
    accepted.send(post(&mut one, 2)).await;
    accepted.send(graph(&mut one, 3)).await;
    accepted.send(graph(&mut other, 4)).await;
    accepted.send(post(&mut never, 5)).await;
    accepted.send(graph(&mut one, 6)).await;
    running.durable(6).await;
    let state = running.stop().await;
    assert_eq!((state.summary.filtered, state.summary.commits), (2, 4));
    assert_eq!((state.summary.gaps, state.summary.resyncs), (0, 0));
    let model = follow.world.model().await;
    let collections: BTreeSet<&str> = model
        .records()
        .map(|record| record.collection.as_str())
        .collect();
    assert_eq!(collections, BTreeSet::from(["app.bsky.graph.follow"]));
    assert_eq!(model.records().count(), 3);
    let source: Arc<str> = follow.source.name().into();
    let mut heads = 0;
    for change in model.rows() {
        if let Change::Head(head) = change {
            assert_eq!(head.delivery.source, filter.heads_of(&source));
            heads += 1;
        }
    }
    assert_eq!(heads, 1);
    let cursor = follow.cursor(&filter.slice()).await.expect("durable");
    assert_eq!(cursor.cursor, 6);
}

#[tokio::test]
async fn what_two_sources_tell_is_counted_and_kept_once() {
    let mut repo = repo(1);
    let frames: Vec<Vec<u8>> = (1..=3).map(|seq| post(&mut repo, seq)).collect();
    let follow = Follow::new(docs([&repo])).await;
    let second = Scripted::start().await;
    let following = Following::new(follow.world.intake.clone(), None, None);
    let one = Running::start(&following, &follow.source, FollowSettings::default());
    let other = Running::start(&following, &second, FollowSettings::default());
    let mut accepted = follow.source.accept().await;
    for frame in &frames {
        accepted.send(frame).await;
    }
    one.durable(3).await;
    let mut accepted = second.accept().await;
    for frame in &frames[1..] {
        accepted.send(frame).await;
    }
    other.durable(3).await;
    let (one, other) = (one.stop().await, other.stop().await);
    assert_eq!((one.duplicates, other.duplicates), (0, 2));
    assert_eq!(other.summary.commits, 2, "new from this source");
    assert_eq!(follow.records().await, 3);
}

#[tokio::test]
async fn standings_are_bounded_and_what_was_dropped_is_found_in_the_log() {
    let mut repos: Vec<RepoBuilder> = (0..20).map(repo).collect();
    let mut follow = Follow::new(docs(&repos)).await;
    follow.world.know_always();
    let running = follow.start(FollowSettings {
        repos_max: 3,
        ..FollowSettings::default()
    });
    let mut accepted = follow.source.accept().await;
    let mut seq = 0;
    for _ in 0..4 {
        for repo in &mut repos {
            seq += 1;
            accepted.send(post(repo, seq)).await;
            running.until(|state| state.cursor == Some(seq)).await;
        }
    }
    running.durable(seq).await;
    let state = running.stop().await;
    assert_eq!((state.summary.gaps, state.summary.replays), (0, 0));
    assert_eq!(state.summary.commits, 80);
}
