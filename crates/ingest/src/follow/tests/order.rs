//! Where a connection begins, what ends it, and that the next one begins behind what is durable.

use testkit::repo::encode_sync;

use super::*;
use crate::subscribe::SubscribeSettings;

#[tokio::test]
async fn a_source_is_resumed_behind_what_is_durable() {
    let mut repo = repo(1);
    let frames: Vec<Vec<u8>> = (1..=5).map(|seq| post(&mut repo, seq)).collect();
    let mut follow = Follow::new(docs([&repo])).await;
    let running = follow.start(FollowSettings::default());
    let mut accepted = follow.source.accept().await;
    assert_eq!(accepted.cursor, None, "what is new");
    for frame in &frames[..3] {
        accepted.send(frame).await;
    }
    running.durable(3).await;
    accepted.close(1001).await;
    // Sources disagree on whether the cursor's own message comes again.
    let mut accepted = follow.source.accept().await;
    assert_eq!(accepted.cursor, Some(3));
    accepted.send(&frames[2]).await;
    accepted.send(&frames[3]).await;
    running.durable(4).await;
    let state = running.stop().await;
    assert_eq!((state.summary.skipped, state.summary.commits), (1, 4));
    assert_eq!((state.connections, state.summary.gaps), (2, 0));

    follow.world.know().await;
    let running = follow.start(FollowSettings::default());
    let mut accepted = follow.source.accept().await;
    assert_eq!(accepted.cursor, Some(4));
    accepted.send(&frames[4]).await;
    running.durable(5).await;
    let state = running.stop().await;
    assert_eq!((state.summary.commits, state.summary.gaps), (1, 0));
    assert_eq!(follow.records().await, 5);
    let cursor = follow.cursor("").await.expect("durable");
    assert_eq!((cursor.generation, cursor.cursor), (0, 5));
}

#[tokio::test]
async fn a_first_start_begins_where_it_is_told() {
    let follow = Follow::new(DidDocs::default()).await;
    let running = follow.start(FollowSettings {
        cursor: Some(0),
        ..FollowSettings::default()
    });
    let accepted = follow.source.accept().await;
    assert_eq!(accepted.cursor, Some(0));
    running.stop().await;
    assert_eq!(follow.cursor("").await, None, "nothing came");
    accepted.ended().await;
}

#[tokio::test]
async fn a_first_start_compares_at_once_however_silent_the_source_is() {
    let follow = Follow::new(DidDocs::default()).await;
    let (resyncs, mut tasks) = ResyncQueue::bounded(10);
    let following = Following::new(follow.world.intake.clone(), Some(resyncs), None);
    let settings = FollowSettings {
        resync_new: true,
        cursor_interval: Duration::from_secs(3600),
        ..FollowSettings::default()
    };
    let running = Running::start(&following, &follow.source, settings);
    let _accepted = follow.source.accept().await;
    let task = tokio::time::timeout(Duration::from_secs(30), tasks.recv()).await;
    let Ok(Some(Task::Reconcile(reconcile))) = task else {
        panic!("{task:?} at a silent source")
    };
    assert_eq!(reconcile.reason, "first_start");
    let state = running.stop().await;
    assert_eq!((state.summary.frames, state.durable), (0, None));
    let of = |kind, reason: &str| (kind, reason.to_owned());
    let expected = [of("resync", "first_start")];
    assert_eq!(follow.noticed().await, BTreeSet::from(expected));
}

#[tokio::test]
async fn numbers_that_do_not_rise_end_the_connection_and_lose_nothing() {
    let (mut one, mut other) = (repo(1), repo(2));
    for again in [2, 1] {
        let follow = Follow::new(docs([&one, &other])).await;
        let running = follow.start(FollowSettings::default());
        let first = one.clone();
        let mut accepted = follow.source.accept().await;
        accepted.send(post(&mut one, 1)).await;
        accepted.send(post(&mut one, 2)).await;
        // Of another repo, so nothing but its number is wrong.
        let behind = post(&mut other, again);
        accepted.send(&behind).await;
        accepted.ended().await;
        let mut accepted = follow.source.accept().await;
        assert_eq!(accepted.cursor, Some(2));
        accepted.send(post(&mut one, 3)).await;
        running.durable(3).await;
        let state = running.stop().await;
        assert_eq!((state.summary.commits, state.summary.gaps), (3, 0));
        assert_eq!(follow.records().await, 3);
        one = first;
    }
}

#[tokio::test]
async fn an_outdated_cursor_is_a_gap_and_work() {
    let mut repo = repo(1);
    let frames: Vec<Vec<u8>> = (1..=3).map(|seq| post(&mut repo, seq)).collect();
    let follow = Follow::new(docs([&repo])).await;
    let (resyncs, mut tasks) = ResyncQueue::bounded(10);
    let following = Following::new(follow.world.intake.clone(), Some(resyncs), None);
    let running = Running::start(&following, &follow.source, FollowSettings::default());
    let mut accepted = follow.source.accept().await;
    accepted.send(&frames[0]).await;
    running.durable(1).await;
    accepted.close(1001).await;
    let mut accepted = follow.source.accept().await;
    accepted.send(info_frame("OutdatedCursor")).await;
    accepted.send(&frames[2]).await;
    running.durable(3).await;
    running.stop().await;
    let of = |kind, reason: &str| (kind, reason.to_owned());
    let expected = [
        of("gap", "outdated_cursor"),
        of("resync", "outdated_cursor"),
        of("gap", "since_mismatch"),
        of("resync", "since_mismatch"),
    ];
    assert_eq!(follow.noticed().await, BTreeSet::from(expected));
    drop(following);
    let mut reasons = Vec::new();
    while let Some(task) = tasks.recv().await {
        reasons.push(match task {
            Task::Reconcile(reconcile) => {
                assert_eq!(*reconcile.source, *follow.source.name());
                reconcile.reason
            }
            Task::Mark(mark) => {
                assert_eq!((mark.seq, mark.rev), (Some(3), repo.rev()));
                mark.reason
            }
        });
    }
    reasons.sort();
    assert_eq!(reasons, ["outdated_cursor", "since_mismatch"]);
}

#[tokio::test]
async fn a_cursor_in_the_future_stops_the_source_until_somebody_resets_it() {
    let mut repo = repo(1);
    let mut follow = Follow::new(docs([&repo])).await;
    let running = follow.start(FollowSettings::default());
    let mut accepted = follow.source.accept().await;
    accepted.send(post(&mut repo, 1000)).await;
    running.durable(1000).await;
    accepted.close(1001).await;
    let mut accepted = follow.source.accept().await;
    assert_eq!(accepted.cursor, Some(1000));
    accepted.send(error_frame("FutureCursor")).await;
    let error = running.task.await.expect("no panic").expect_err("stopped");
    assert!(matches!(
        &error,
        FollowError::FutureCursor { cursor: 1000, .. }
    ));
    let hint = format!("--reset-cursor={}", follow.source.name());
    assert!(error.to_string().contains(&hint), "{error}");

    follow.world.know().await;
    let running = follow.start(FollowSettings {
        resets: true,
        ..FollowSettings::default()
    });
    let mut accepted = follow.source.accept().await;
    assert_eq!(accepted.cursor, None);
    accepted.send(post(&mut repo, 7)).await;
    running.durable(7).await;
    running.stop().await;
    let cursor = follow.cursor("").await.expect("durable");
    assert_eq!((cursor.generation, cursor.cursor), (1, 7));
    let gap = ("gap", "cursor_reset".to_owned());
    assert!(follow.noticed().await.contains(&gap));
}

#[tokio::test]
async fn what_the_source_says_at_the_end_is_obeyed() {
    let mut repo = repo(1);
    let follow = Follow::new(docs([&repo])).await;
    let running = follow.start(FollowSettings::default());
    let mut accepted = follow.source.accept().await;
    for seq in 1..=2 {
        accepted.send(post(&mut repo, seq)).await;
    }
    accepted.send(error_frame("ConsumerTooSlow")).await;
    accepted.ended().await;
    let mut accepted = follow.source.accept().await;
    assert_eq!(accepted.cursor, Some(2));
    accepted.send(error_frame("Unheard")).await;
    accepted.ended().await;
    let mut accepted = follow.source.accept().await;
    assert_eq!(accepted.cursor, Some(2));
    accepted.send(post(&mut repo, 3)).await;
    running.durable(3).await;
    let state = running.stop().await;
    assert_eq!((state.summary.gaps, state.connections), (0, 3));
}

#[tokio::test]
async fn broken_framing_ends_the_connection_until_nothing_else_helps() {
    let mut repo = repo(1);
    let follow = Follow::new(docs([&repo])).await;
    let running = follow.start(FollowSettings::default());
    let frames: Vec<Vec<u8>> = (1..=2).map(|seq| post(&mut repo, seq)).collect();
    for connection in 1..=3 {
        let mut accepted = follow.source.accept().await;
        assert_eq!(accepted.cursor, (connection > 1).then_some(1));
        if connection == 1 {
            accepted.send(&frames[0]).await;
        }
        accepted.send(b"\xa1nonsense").await;
        accepted.ended().await;
    }
    let mut accepted = follow.source.accept().await;
    accepted.send(b"\xa1nonsense").await;
    accepted.send(&frames[1]).await;
    running.durable(2).await;
    let state = running.stop().await;
    assert_eq!(state.summary.rejected["frame_header"], 4);
    assert_eq!(follow.notices().await.len(), 1, "one frame, one notice");
    assert_eq!(follow.records().await, 2);
}

#[tokio::test]
async fn unknown_kinds_and_wrong_fields_end_nothing() {
    let mut repo = repo(1);
    let follow = Follow::new(docs([&repo])).await;
    let running = follow.start(FollowSettings::default());
    let mut accepted = follow.source.accept().await;
    let unknown = [("seq", 1.into())].into_iter();
    let unknown = unknown.map(|(key, value): (&str, atproto::Value)| (key.to_owned(), value));
    accepted
        .send(encode_frame("#later", unknown.collect()))
        .await;
    let mut sync = repo_with_post(&mut repo, 1).sync(stamp(2));
    sync.blocks = vec![0; 20_000];
    accepted.send(encode_sync(&sync)).await;
    accepted.send(post(&mut repo, 3)).await;
    running.durable(3).await;
    let state = running.stop().await;
    assert_eq!((state.summary.ignored, state.connections), (1, 1));
    assert_eq!(state.summary.rejected["frame_blocks_too_long"], 1);
}

#[tokio::test]
async fn a_source_that_falls_silent_is_connected_to_again() {
    let follow = Follow::new(DidDocs::default()).await;
    let running = follow.start(FollowSettings {
        subscribe: SubscribeSettings {
            silence: Duration::from_millis(5),
            answer: Duration::from_millis(5),
            ..SubscribeSettings::default()
        },
        ..FollowSettings::default()
    });
    let first = follow.source.accept().await;
    let second = follow.source.accept().await;
    running.until(|state| state.connections >= 2).await;
    running.stop().await;
    drop((first, second));
}

#[tokio::test]
async fn waits_grow_until_something_goes_in_and_wishes_are_obeyed() {
    let mut repo = repo(1);
    let follow = Follow::new(docs([&repo])).await;
    let running = follow.start(FollowSettings::default());
    for _ in 0..4 {
        follow.source.refuse("503 Service Unavailable").await;
    }
    let busy = "429 Too Many Requests\r\nRetry-After: 90";
    follow.source.refuse(busy).await;
    let mut accepted = follow.source.accept().await;
    let waits = follow.clock.take();
    assert_eq!(waits.len(), 5);
    for (wait, at_most) in waits.iter().zip([1, 2, 4, 8]) {
        let at_most = Duration::from_secs(at_most);
        assert!(*wait >= at_most / 2 && *wait <= at_most, "{waits:?}");
    }
    assert_eq!(waits[4], Duration::from_secs(90));
    accepted.send(post(&mut repo, 1)).await;
    running.durable(1).await;
    accepted.close(1001).await;
    let accepted = follow.source.accept().await;
    assert!(follow.clock.take()[0] <= Duration::from_secs(1));
    running.stop().await;
    accepted.ended().await;
}

fn repo_with_post(repo: &mut RepoBuilder, seq: i64) -> &RepoBuilder {
    post(repo, seq);
    repo
}
