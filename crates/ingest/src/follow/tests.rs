//! Following a source that does what each test says, told by what the log holds afterwards.

mod identities;
mod marks;
mod order;
mod pressure;

use std::collections::BTreeSet;
use std::sync::Mutex;

use atproto::{CommitFrame, DidDocument, cbor};
use crdt::storage::{Clock, ManualClock};
use crdt::{Change, NoticeChange};
use futures::future::BoxFuture;
use testkit::repo::{Account, Curve, RepoBuilder, Stamp, Write, encode_commit, encode_frame};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::*;
use crate::did_docs::DidDocs;
use crate::fixture::World;
use crate::known::KnownCursor;
use crate::resync::Task;
use crate::scripted::Scripted;
use crate::status::SourceState;

const START_US: i64 = 1_770_000_000_000_000;

/// A world, and a source that is followed in it.
struct Follow {
    world: World,
    source: Scripted,
    clock: Arc<Waits>,
}

/// A source that is followed now.
struct Running {
    stop: CancellationToken,
    status: Arc<SourceStatus>,
    task: JoinHandle<Result<(), FollowError>>,
}

impl Follow {
    async fn new(docs: DidDocs) -> Self {
        let clock = Arc::new(Waits::new());
        let world = World::new(docs, Arc::clone(&clock) as Arc<dyn Clock>).await;
        Self::of(world, clock).await
    }

    async fn of(world: World, clock: Arc<Waits>) -> Self {
        Self {
            world,
            source: Scripted::start().await,
            clock,
        }
    }

    fn start(&self, settings: FollowSettings) -> Running {
        let following = Following::new(self.world.intake.clone(), None, None);
        Running::start(&following, &self.source, settings)
    }

    /// The cursor that the log holds of a slice.
    async fn cursor(&self, slice: &str) -> Option<KnownCursor> {
        let model = self.world.model().await;
        model.rows().find_map(|change| match change {
            Change::Cursor(cursor) if cursor.slice == slice => {
                assert_eq!(*cursor.source, *self.source.name());
                Some(KnownCursor {
                    generation: cursor.generation,
                    cursor: cursor.cursor,
                })
            }
            _ => None,
        })
    }

    /// The kinds and reasons of all notices.
    async fn noticed(&self) -> BTreeSet<(&'static str, String)> {
        let words = |notice: NoticeChange| (notice.kind.as_str(), notice.reason);
        self.notices().await.into_iter().map(words).collect()
    }

    async fn notices(&self) -> Vec<NoticeChange> {
        let model = self.world.model().await;
        let notices = model.rows().filter_map(|change| match change {
            Change::Notice(notice) => Some(notice.clone()),
            _ => None,
        });
        notices.collect()
    }

    async fn records(&self) -> usize {
        self.world.model().await.records().count()
    }
}

impl Running {
    fn start(following: &Following, source: &Scripted, settings: FollowSettings) -> Self {
        Self::of(following.add(source.endpoint(), settings))
    }

    fn of(follower: Follower) -> Self {
        let (stop, status) = (CancellationToken::new(), follower.status());
        let task = tokio::spawn(follower.run(stop.clone()));
        Self { stop, status, task }
    }

    /// Waits until the source's state is as wanted.
    async fn until(&self, is_so: impl Fn(&SourceState) -> bool) {
        while !self.status.read(&is_so) {
            assert!(!self.task.is_finished(), "{:?}", self.status.state());
            tokio::task::yield_now().await;
        }
    }

    /// Waits until what the source sent up to `seq` is durable.
    async fn durable(&self, seq: i64) {
        self.until(|state| state.durable == Some(seq)).await;
    }

    async fn stop(self) -> SourceState {
        self.stop.cancel();
        self.task.await.expect("no panic").expect("stopped");
        self.status.state()
    }
}

/// A clock that stands still, remembers who waited, and passes what is waited for at once, or when it is let.
#[derive(Debug)]
struct Waits {
    clock: ManualClock,
    waits: Mutex<Vec<Duration>>,
    is_held: watch::Sender<bool>,
}

impl Waits {
    fn new() -> Self {
        Self {
            clock: ManualClock::new(START_US + 3_600_000_000),
            waits: Mutex::default(),
            is_held: watch::Sender::default(),
        }
    }

    fn take(&self) -> Vec<Duration> {
        std::mem::take(&mut *self.waits.lock().expect("no panic"))
    }
}

impl Clock for Waits {
    fn now_us(&self) -> i64 {
        self.clock.now_us()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.waits.lock().expect("no panic").push(duration);
        let (slept, mut is_held) = (self.clock.sleep(duration), self.is_held.subscribe());
        Box::pin(async move {
            slept.await;
            let let_go = is_held.wait_for(|is_held| !is_held).await;
            assert!(let_go.is_ok(), "the clock is gone");
        })
    }
}

fn repo(seed: u64) -> RepoBuilder {
    RepoBuilder::new(Account::new(seed, Curve::K256))
}

fn docs<'a>(repos: impl IntoIterator<Item = &'a RepoBuilder>) -> DidDocs {
    let mut docs = DidDocs::default();
    for repo in repos {
        docs.insert(DidDocument::parse(&repo.account().did_document()).expect("a document"));
    }
    docs
}

/// The repo's next post, as message `seq`.
fn post(repo: &mut RepoBuilder, seq: i64) -> Vec<u8> {
    encode_commit(&commit(repo, seq, "app.bsky.feed.post"))
}

fn commit(repo: &mut RepoBuilder, seq: i64, collection: &str) -> CommitFrame {
    let write = Write::put(format!("{collection}/{seq}"), &record(collection, seq));
    repo.commit(stamp(seq), &[write])
}

fn stamp(seq: i64) -> Stamp {
    Stamp {
        seq,
        at_us: START_US + seq * 1_000_000,
    }
}

fn record(collection: &str, number: i64) -> atproto::Value {
    map([("$type", collection.into()), ("n", number.into())])
}

/// A frame that ends the stream.
fn error_frame(error: &str) -> Vec<u8> {
    let mut frame = cbor::encode(&map([("op", (-1).into())]));
    frame.extend(cbor::encode(&map([("error", error.into())])));
    frame
}

fn info_frame(name: &str) -> Vec<u8> {
    let fields = [("name".to_owned(), atproto::Value::from(name))];
    encode_frame("#info", fields.into_iter().collect())
}

fn map<const N: usize>(fields: [(&str, atproto::Value); N]) -> atproto::Value {
    let owned = |(key, value): (&str, atproto::Value)| (key.to_owned(), value);
    atproto::Value::Map(fields.into_iter().map(owned).collect())
}
