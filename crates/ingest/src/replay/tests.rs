//! Replays of recorded and of forged frames, told by what the log holds afterwards.

use std::collections::{BTreeMap, BTreeSet};

use atproto::{DidDocument, Frame, cbor};
use crdt::storage::{ManualClock, SystemClock};
use crdt::{Change, EventKind};
use testkit::repo::{
    Account, Curve, Forgery, Network, NetworkConfig, RepoBuilder, Stamp, Write, encode_account,
    encode_commit, encode_frame, encode_identity, encode_sync,
};

use super::*;
use crate::did_docs::DidDocs;
use crate::fixture::{World, recorded, recording};
use crate::window::WINDOW_FRAMES_MAX;
use jetstream::{as_jetstream_tells, without_its_clock};

mod jetstream;

const START_US: i64 = 1_770_000_000_000_000;

#[tokio::test]
async fn the_recorded_frames_go_in_whole() {
    let world = World::recorded().await;
    let summary = replay(&world, &recorded("frames.bin.zst"))
        .await
        .expect("replayed");
    let counts = (
        summary.frames,
        summary.commits,
        summary.records,
        summary.deletes,
    );
    assert_eq!(counts, (150, 148, 146, 4));
    assert_eq!(
        (summary.events, summary.identities + summary.accounts),
        (152, 2)
    );
    assert_eq!(
        (summary.rejections(), summary.gaps, summary.replays),
        (0, 0, 0)
    );
    assert_eq!(summary.verified, BTreeMap::from([("inverted", 150)]));
    assert_eq!(summary.positions.len(), 1);

    let model = world.model().await;
    let mut operations = BTreeMap::<&str, usize>::new();
    let mut told = BTreeSet::new();
    for change in model.rows() {
        let Change::Event(event) = change else {
            continue;
        };
        if let Some(operation) = event.operation {
            *operations.entry(operation.as_str()).or_default() += 1;
        }
        told.insert(as_jetstream_tells(event, &model));
    }
    assert_eq!(
        operations,
        BTreeMap::from([("create", 144), ("delete", 4), ("update", 2)])
    );
    let expected = std::fs::read_to_string(recorded("expected_v1.jsonl")).expect("there");
    let expected: BTreeSet<String> = expected.lines().map(without_its_clock).collect();
    assert_eq!(expected.len(), 152);
    assert_eq!(told, expected);
}

#[tokio::test]
async fn a_second_replay_appends_nothing_once_the_first_is_known() {
    let mut world = World::recorded().await;
    let path = recorded("frames.bin.zst");
    let first = replay(&world, &path).await.expect("replayed");
    let state = world.model().await.state();

    let again = replay(&world, &path).await.expect("replayed");
    assert_eq!(again.source, first.source);
    let objects = world.log().await.len();
    assert_eq!(
        world.model().await.state(),
        state,
        "what is appended twice merges to the same"
    );

    world.know().await;
    let known = replay(&world, &path).await.expect("replayed");
    assert_eq!(
        (known.frames, known.skipped, known.positions.len()),
        (0, 150, 0)
    );
    assert_eq!(world.log().await.len(), objects);
}

#[tokio::test]
async fn a_name_holds_several_files_with_a_cursor_each() {
    let mut world = World::recorded().await;
    let frames = recorded_frames();
    let halves = [recording(&frames[..70]), recording(&frames[70..])];
    let paths = [world.file("a", &halves[0]), world.file("b", &halves[1])];
    for path in &paths {
        world.know().await;
        let progress = &mut |_: &Summary| {};
        let summary = world
            .intake
            .replay(path, Some("relay"), progress)
            .await
            .expect("replayed");
        assert_eq!((summary.source.as_str(), summary.skipped), ("relay", 0));
    }
    world.know().await;
    for path in &paths {
        let summary = world
            .intake
            .replay(path, Some("relay"), &mut |_| {})
            .await
            .expect("replayed");
        assert_eq!(summary.frames, 0);
    }
    assert_eq!(world.model().await.records().count(), 146);
}

#[tokio::test]
async fn a_recording_that_was_cut_keeps_what_came_before_and_goes_on_when_it_is_whole() {
    let mut world = World::recorded().await;
    let frames = recorded_frames();
    let whole = recording(&frames);
    let cut = world.file("cut", &whole[..whole.len() - 1]);
    let error = replay(&world, &cut).await.expect_err("cut");
    let ReplayError::Recording {
        summary, source, ..
    } = &error
    else {
        panic!("{error:?}");
    };
    assert_eq!(summary.frames, 149);
    assert!(matches!(source, RecordingError::Truncated { frames: 149 }));
    let heads = |model: &crdt::merge_model::Model| {
        model
            .rows()
            .filter(|change| matches!(change, Change::Head(_)))
            .count()
    };
    assert!(
        heads(&world.model().await) > 0,
        "what came before is durable"
    );

    // The same file again: all is skipped, the error is told again, nothing is appended.
    world.know().await;
    let objects = world.log().await.len();
    let again = replay(&world, &cut).await.expect_err("still cut");
    assert!(matches!(again, ReplayError::Recording { summary, .. } if summary.frames == 0));
    assert_eq!(world.log().await.len(), objects);
}

#[tokio::test]
async fn a_length_that_no_frame_has_ends_the_source() {
    let world = World::recorded().await;
    let mut bytes = recording(&recorded_frames()[..3]);
    bytes.extend([0xff; 8]);
    let error = replay(&world, &world.file("frames", &bytes))
        .await
        .expect_err("no frame");
    assert!(matches!(
        &error,
        ReplayError::Recording { summary, source: RecordingError::Oversized { .. }, .. } if summary.frames == 3
    ));
    assert!(!world.log().await.is_empty());
}

#[tokio::test]
async fn broken_cbor_ends_the_source_at_that_frame() {
    let mut world = World::recorded().await;
    let mut frames = recorded_frames();
    frames[5] = vec![0xff; 20];
    let path = world.file("frames", &recording(&frames));
    for round in 0..2 {
        let error = replay(&world, &path).await.expect_err("broken");
        let ReplayError::Stream {
            summary,
            source: StreamError::Frame { index: 5, .. },
            ..
        } = &error
        else {
            panic!("{error:?}");
        };
        assert_eq!(
            (summary.frames, summary.skipped),
            if round == 0 { (6, 0) } else { (1, 5) }
        );
        assert_eq!(
            summary.rejected,
            BTreeMap::from([("frame_header".to_owned(), 1)])
        );
        world.know().await;
    }
    let notices = notices(&world).await;
    assert_eq!(notices.len(), 1, "told twice, known once");
    assert_eq!(notices[0].bytes, 20);
}

#[tokio::test]
async fn an_error_frame_ends_the_source_and_unknown_ones_are_ignored() {
    let world = World::recorded().await;
    let mut frames = recorded_frames();
    frames[2] = encode_frame(
        "#future",
        [("seq", 5.into())].into_iter().map(owned).collect(),
    );
    let mut error = cbor::encode(&cbor::decode(b"\xa1\x62op\x20").expect("an error's header"));
    error.extend(cbor::encode(&atproto::Value::Map(
        [("error", "FutureCursor".into())]
            .into_iter()
            .map(owned)
            .collect(),
    )));
    frames[4] = error;
    let error = replay(&world, &world.file("frames", &recording(&frames))).await;
    let Err(ReplayError::Stream {
        summary,
        source: StreamError::Closed { index: 4, error },
        ..
    }) = error
    else {
        panic!("{error:?}");
    };
    assert_eq!(
        (summary.frames, summary.ignored, error.as_str()),
        (5, 2, "FutureCursor")
    );
}

#[tokio::test]
async fn commits_without_a_key_are_counted_and_kept_out() {
    let world = World::new(
        DidDocs::default(),
        Arc::new(ManualClock::new(crate::fixture::RECORDED_US)),
    )
    .await;
    let summary = replay(&world, &recorded("frames.bin.zst"))
        .await
        .expect("replayed");
    assert_eq!(
        summary.rejected,
        BTreeMap::from([("no_did_document".to_owned(), 148)])
    );
    assert_eq!(
        (summary.commits, summary.records, summary.events),
        (0, 0, 2)
    );
    assert_eq!(notices(&world).await.len(), 148);
}

#[tokio::test]
async fn a_clock_that_is_behind_admits_no_rev_from_the_future() {
    let docs = DidDocs::open(&recorded("did_docs.json.zst")).expect("documents");
    let world = World::new(docs, Arc::new(ManualClock::new(START_US))).await;
    let summary = replay(&world, &recorded("frames.bin.zst"))
        .await
        .expect("replayed");
    assert_eq!(
        summary.rejected,
        BTreeMap::from([("rev_in_future".to_owned(), 148)])
    );
    assert_eq!(world.model().await.records().count(), 0);
}

#[tokio::test]
async fn a_commit_left_out_is_a_gap_and_the_rest_goes_in() {
    let (mut repo, docs) = repo();
    let frames: Vec<Vec<u8>> = (0..4)
        .map(|number| encode_commit(&post(&mut repo, number)))
        .collect();
    let world = world(docs).await;
    let told = [&frames[0], &frames[1], &frames[3], &frames[1], &frames[3]];
    let path = world.file("frames", &recording(told));
    let summary = replay(&world, &path).await.expect("replayed");
    assert_eq!((summary.commits, summary.gaps, summary.replays), (3, 1, 2));
    let told: BTreeSet<_> = notices(&world)
        .await
        .into_iter()
        .map(|notice| (notice.kind.as_str(), notice.reason, notice.rev))
        .collect();
    let about = |kind| (kind, "since_mismatch".to_owned(), repo.rev());
    assert_eq!(told, BTreeSet::from([about("gap"), about("resync")]));
    assert_eq!(world.model().await.records().count(), 3);
}

#[tokio::test]
async fn a_replay_that_goes_on_knows_where_the_repos_stand() {
    let (mut repo, docs) = repo();
    let frames: Vec<Vec<u8>> = (0..4)
        .map(|number| encode_commit(&post(&mut repo, number)))
        .collect();
    let mut world = world(docs).await;
    for (name, told) in [
        ("a", &frames[..2]),
        ("b", &frames[1..2]),
        ("c", &frames[3..]),
    ] {
        let path = world.file(name, &recording(told));
        let summary = world
            .intake
            .replay(&path, Some("relay"), &mut |_| {})
            .await
            .expect("replayed");
        let counts = (summary.commits, summary.replays, summary.gaps);
        assert_eq!(
            counts,
            [("a", (2, 0, 0)), ("b", (0, 1, 0)), ("c", (1, 0, 1))]
                .into_iter()
                .find(|(of, _)| *of == name)
                .expect("one of them")
                .1
        );
        world.know().await;
    }
}

#[tokio::test]
async fn two_sources_that_tell_the_same_count_once() {
    let (mut repo, docs) = repo();
    let frames: Vec<Vec<u8>> = (0..3)
        .map(|number| encode_commit(&post(&mut repo, number)))
        .collect();
    let world = world(docs).await;
    let path = world.file("frames", &recording(&frames));
    for source in ["pds", "relay"] {
        let summary = world
            .intake
            .replay(&path, Some(source), &mut |_| {})
            .await
            .expect("replayed");
        assert_eq!(summary.commits, 3, "new from this source, so it goes in");
    }
    let model = world.model().await;
    let count = |kind: fn(&Change) -> bool| model.rows().filter(|change| kind(change)).count();
    assert_eq!(count(|c| matches!(c, Change::Record(_))), 3);
    assert_eq!(count(|c| matches!(c, Change::Event(_))), 3);
    assert_eq!(count(|c| matches!(c, Change::Head(_))), 2, "one per source");
}

#[tokio::test]
async fn a_sync_of_another_state_asks_for_a_resync() {
    let (mut repo, docs) = repo();
    let first = encode_commit(&post(&mut repo, 0));
    let same = encode_sync(&repo.sync(stamp(10)));
    post(&mut repo, 1);
    let other = encode_sync(&repo.sync(stamp(11)));
    let next = encode_commit(&post(&mut repo, 2));
    let world = world(docs).await;
    let path = world.file(
        "frames",
        &recording([first, same, other.clone(), other, next]),
    );
    let summary = replay(&world, &path).await.expect("replayed");
    assert_eq!((summary.syncs, summary.resyncs, summary.gaps), (3, 1, 0));
    let model = world.model().await;
    let syncs = model
        .rows()
        .filter(|change| matches!(change, Change::Event(e) if e.kind == EventKind::Sync));
    assert_eq!(syncs.count(), 2);
}

#[tokio::test]
async fn accounts_and_identities_only_have_to_parse() {
    let (repo, docs) = repo();
    let mut account = repo.account_status(stamp(1), Some("takendown"));
    let identity = repo.identity(stamp(2));
    let mut frames = vec![encode_account(&account), encode_identity(&identity)];
    account.time = "yesterday".to_owned();
    frames.push(encode_account(&account));
    let world = world(docs).await;
    let summary = replay(&world, &world.file("frames", &recording(frames)))
        .await
        .expect("replayed");
    assert_eq!(
        (summary.accounts, summary.identities, summary.events),
        (1, 1, 2)
    );
    assert_eq!(
        summary.rejected,
        BTreeMap::from([("frame_time".to_owned(), 1)])
    );
    let model = world.model().await;
    let pds = model.rows().find_map(|change| match change {
        Change::Identity(state) => state.pds.clone(),
        _ => None,
    });
    assert_eq!(pds.as_deref(), Some("https://pds.example.com"));
}

#[tokio::test]
async fn no_forgery_leaves_more_than_its_reason() {
    let (mut repo, docs) = repo();
    let mut forged = BTreeSet::new();
    for number in 0..3 {
        post(&mut repo, number);
    }
    let (put, delete) = (
        Write::put("app.bsky.feed.post/0", &record(9)),
        Write::delete("app.bsky.feed.post/1"),
    );
    let create = Write::put("app.bsky.feed.post/7", &record(7));
    let honest = repo.commit(stamp(50), &[put, delete, create]);
    for forgery in Forgery::ALL {
        let Some(frame) = forgery.of(&honest, repo.account()) else {
            continue;
        };
        forged.insert(forgery);
        let world = world(docs.clone()).await;
        let path = world.file("frames", &recording([encode_commit(&frame)]));
        let summary = replay(&world, &path).await.expect("replayed");
        let reasons: Vec<&str> = summary.rejected.keys().map(String::as_str).collect();
        assert_eq!(reasons.len(), 1, "{forgery:?}");
        let expected = [forgery.reasons(), &["no_did_document"]].concat();
        assert!(expected.contains(&reasons[0]), "{forgery:?}: {reasons:?}");
        for change in world.log().await.iter().flatten() {
            assert!(
                matches!(change, Change::Notice(_) | Change::Cursor(_)),
                "{forgery:?}: {change:?}"
            );
        }
    }
    assert_eq!(forged.len(), Forgery::ALL.len());
}

#[tokio::test]
async fn a_block_that_is_no_record_is_told_and_hides_what_was_there() {
    let (mut repo, docs) = repo();
    let first = encode_commit(&post(&mut repo, 0));
    let writes = [
        Write::put_bytes("app.bsky.feed.post/0", vec![0x80]),
        Write::put_bytes("app.bsky.feed.post/1", vec![0x80]),
        Write::put("app.bsky.feed.post/2", &record(2)),
    ];
    let second = encode_commit(&repo.commit(stamp(20), &writes));
    let world = world(docs).await;
    let path = world.file("frames", &recording([first, second]));
    let summary = replay(&world, &path).await.expect("replayed");
    assert_eq!(
        summary.rejected,
        BTreeMap::from([("record_not_map".to_owned(), 2)])
    );
    assert_eq!((summary.commits, notices(&world).await.len()), (2, 2));
    let model = world.model().await;
    let live: Vec<String> = model
        .records()
        .map(|record| record.rkey.to_string())
        .collect();
    assert_eq!(live, ["2"]);
}

#[tokio::test]
async fn a_long_recording_is_taken_window_by_window_in_each_repos_order() {
    let mut network = Network::new(NetworkConfig {
        accounts: 7,
        start_us: START_US,
        ..NetworkConfig::default()
    });
    let messages: Vec<_> = (0..WINDOW_FRAMES_MAX + 300)
        .map(|_| network.message())
        .collect();
    let json = serde_json::to_vec(&network.did_documents()).expect("JSON");
    let world = world(DidDocs::parse(&json).expect("documents")).await;
    let path = world.file(
        "frames",
        &recording(messages.iter().map(|message| &message.bytes)),
    );
    let mut seen = Vec::new();
    let progress = &mut |summary: &Summary| seen.push(summary.frames);
    let summary = world
        .intake
        .replay(&path, None, progress)
        .await
        .expect("replayed");
    assert_eq!(seen, [WINDOW_FRAMES_MAX as u64, messages.len() as u64]);
    assert_eq!(
        (summary.gaps, summary.rejections(), summary.replays),
        (0, 0, 0)
    );
    let commits = messages
        .iter()
        .filter(|message| matches!(message.frame, Frame::Commit(_)));
    assert_eq!(summary.commits, commits.count() as u64);
    let model = world.model().await;
    // Of accounts that were last told to be inactive nothing is shown.
    let shown = network
        .repos()
        .iter()
        .filter(|repo| !model.is_hidden(repo.account().did()));
    let expected: usize = shown.map(|repo| repo.records().len()).sum();
    assert!(expected > 0, "some account is shown");
    assert_eq!(model.records().count(), expected);
}

#[tokio::test]
async fn a_missing_file_is_named() {
    let world = World::new(DidDocs::default(), Arc::new(SystemClock)).await;
    let error = replay(&world, Path::new("/no/such/file"))
        .await
        .expect_err("missing");
    assert_eq!(error.to_string(), "/no/such/file can't be read");
}

async fn replay(world: &World, path: &Path) -> Result<Summary, ReplayError> {
    world.intake.replay(path, None, &mut |_| {}).await
}

async fn world(docs: DidDocs) -> World {
    let hour_us = 3_600_000_000;
    World::new(docs, Arc::new(ManualClock::new(START_US + hour_us))).await
}

async fn notices(world: &World) -> Vec<crdt::NoticeChange> {
    let model = world.model().await;
    let notices = model.rows().filter_map(|change| match change {
        Change::Notice(notice) => Some(notice.clone()),
        _ => None,
    });
    notices.collect()
}

fn repo() -> (RepoBuilder, DidDocs) {
    let repo = RepoBuilder::new(Account::new(1, Curve::K256));
    let mut docs = DidDocs::default();
    docs.insert(DidDocument::parse(&repo.account().did_document()).expect("a document"));
    (repo, docs)
}

fn post(repo: &mut RepoBuilder, number: i64) -> atproto::CommitFrame {
    let write = Write::put(format!("app.bsky.feed.post/{number}"), &record(number));
    repo.commit(stamp(number), &[write])
}

fn stamp(number: i64) -> Stamp {
    Stamp {
        seq: number + 1,
        at_us: START_US + number * 1_000_000,
    }
}

fn record(number: i64) -> atproto::Value {
    let fields = [("$type", "app.bsky.feed.post".into()), ("n", number.into())];
    atproto::Value::Map(fields.into_iter().map(owned).collect())
}

fn owned((key, value): (&str, atproto::Value)) -> (String, atproto::Value) {
    (key.to_owned(), value)
}

fn recorded_frames() -> Vec<Vec<u8>> {
    let mut recording = Recording::open(&recorded("frames.bin.zst")).expect("there");
    std::iter::from_fn(|| recording.next_frame().expect("whole"))
        .map(|frame| frame.to_vec())
        .collect()
}
