//! One process that follows sources into a bucket in memory, as `alluvium ingest` does, and that can be killed.

use std::sync::Arc;
use std::time::Duration;

use crdt::{ChangeLog, change_log};
use ingest::identity::{Identities, IdentityQueue, IdentitySettings};
use ingest::outbound::Outbound;
use ingest::resync::{Pace, ResyncQueue, ResyncSettings, ResyncSource, Resyncer};
use ingest::subscribe::{BackoffSettings, SubscribeSettings};
use ingest::{
    Endpoint, FollowError, FollowSettings, Following, Intake, KnownByTables, SourceStatus,
};
use object_store::ObjectStore;
use storage::{Bucket, Clock, ManualClock, Settings};
use testkit::fault_store::FaultStore;
use testkit::relay::{FakeHost, FakeNetwork};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::truth::differences;
use crate::world::{Node, RECORDED_US};

/// How long a process may take to come to the end state. A wait, however long, that a clock of tests passes at once.
const DEADLINE: Duration = Duration::from_secs(120);

/// How often it is looked.
const LOOK: Duration = Duration::from_millis(50);

/// A running process.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) node: Node,
    pub(crate) statuses: Vec<Arc<SourceStatus>>,
    store: FaultStore,
    requests_max: u64,
    stop: CancellationToken,
    followers: Vec<JoinHandle<Result<(), FollowError>>>,
    others: Vec<JoinHandle<()>>,
}

/// What is different from one process to another.
#[derive(Debug, Clone, Default)]
pub(crate) struct Options {
    /// Where to begin at a source that is new.
    pub(crate) cursor: Option<i64>,
    /// Whether the cursor that is known is given up.
    pub(crate) resets: bool,
}

impl Process {
    /// Follows `sources` into the bucket in `store`, from the beginning or from where the last process stood.
    pub(crate) async fn start(
        store: &Arc<dyn ObjectStore>,
        network: &FakeNetwork,
        sources: &[&FakeHost],
        options: Options,
    ) -> Self {
        let store = FaultStore::new(Arc::clone(store));
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(RECORDED_US));
        let bucket = Bucket::open(
            Arc::new(store.clone()),
            Arc::clone(&clock),
            Settings::default(),
        );
        let node = Node::over(bucket.await.expect("a bucket"));
        let stop = CancellationToken::new();
        let settings = change_log::Settings {
            flush_interval: Duration::from_millis(5),
            ..change_log::Settings::default()
        };
        let log = ChangeLog::spawn(node.bucket(), settings, &CancellationToken::new());
        let outbound = Outbound::new(true).expect("a client");
        let plc_url: url::Url = network.directory().url().parse().expect("a URL");
        let settings = IdentitySettings {
            handle_resolver: Some(plc_url.clone()),
            ..IdentitySettings::of(plc_url)
        };
        let (identities, recorder) =
            Identities::directory(outbound.clone(), Arc::clone(&clock), &settings);
        let intake = Intake {
            log: log.clone(),
            clock,
            identities,
            known: Arc::new(KnownByTables::new(node.tables.clone())),
        };
        let (changed, taken) = IdentityQueue::bounded(1_000);
        let (queue, tasks) = ResyncQueue::bounded(1_000);
        let following = Following::new(intake.clone(), Some(queue.clone()), Some(changed));
        let mut process = Self {
            node,
            statuses: Vec::new(),
            store,
            requests_max: u64::MAX,
            stop: stop.clone(),
            followers: Vec::new(),
            others: Vec::new(),
        };
        let mut resynced = Vec::new();
        for source in sources {
            let endpoint = Endpoint::parse(&source.url()).expect("a source");
            resynced.push(ResyncSource {
                name: Arc::clone(endpoint.name()),
                heads: Arc::clone(endpoint.name()),
                marks_new: true,
            });
            let follower = following.add(endpoint, follow_settings(&options));
            process.statuses.push(follower.status());
            process
                .followers
                .push(tokio::spawn(follower.run(stop.clone())));
        }
        let settings = ResyncSettings {
            sources: resynced,
            pace: Pace {
                host_interval: Duration::ZERO,
                ..Pace::default()
            },
            fetch_time: Duration::from_secs(2),
            ..ResyncSettings::default()
        };
        let tables = process.node.tables.clone();
        let resyncer = Resyncer::new(&intake, tables, outbound, (queue, tasks), settings);
        let stopped = stop.clone();
        process.others.push(tokio::spawn(async move {
            // A log that was killed takes nothing more.
            let _ = resyncer.run(stopped).await;
        }));
        process.others.push(tokio::spawn(async move {
            let _ = recorder.run(log, taken, stop).await;
        }));
        process
    }

    /// Waits until the bucket holds the truth about `network`, and nothing is left to do.
    pub(crate) async fn comes_to(&self, network: &FakeNetwork, sources: &[&FakeHost]) {
        let look = async {
            let mut looks = tokio::time::interval(LOOK);
            loop {
                looks.tick().await;
                if self.is_through(sources) && differences(&self.node, network).await.is_empty() {
                    break;
                }
            }
        };
        if tokio::time::timeout(DEADLINE, look).await.is_err() {
            let found = differences(&self.node, network).await;
            let states: Vec<_> = self.statuses.iter().map(|status| status.state()).collect();
            panic!("{} differences: {found:#?}\n{states:#?}", found.len());
        }
    }

    /// Whether all that the sources told is durable.
    fn is_through(&self, sources: &[&FakeHost]) -> bool {
        let mut pairs = self.statuses.iter().zip(sources);
        pairs.all(|(status, source)| status.state().durable == Some(source.last_seq()))
    }

    /// Waits until a source's status is as it should be.
    pub(crate) async fn until(&self, source: usize, is_met: impl Fn(&ingest::SourceState) -> bool) {
        let look = async {
            let mut looks = tokio::time::interval(LOOK);
            while !self.statuses[source].read(&is_met) {
                looks.tick().await;
            }
        };
        if tokio::time::timeout(DEADLINE, look).await.is_err() {
            panic!("{:#?}", self.statuses[source].state());
        }
    }

    /// Ends in good order, and returns how each source ended.
    pub(crate) async fn stop(self) -> Vec<Result<(), FollowError>> {
        self.stop.cancel();
        let mut ends = Vec::new();
        for follower in self.followers {
            ends.push(follower.await.expect("no panic"));
        }
        for other in self.others {
            other.await.expect("no panic");
        }
        ends
    }

    /// Waits until a source ends by itself, and returns how.
    pub(crate) async fn ended(&mut self, source: usize) -> Result<(), FollowError> {
        let follower = &mut self.followers[source];
        let ended = tokio::time::timeout(DEADLINE, follower).await;
        ended.expect("it ends").expect("no panic")
    }

    /// Ends in the middle of whatever it does: nothing of it reaches the store any more.
    pub(crate) fn kill(self) {
        self.store.kill();
        self.followers.iter().for_each(JoinHandle::abort);
        self.others.iter().for_each(JoinHandle::abort);
    }

    /// Lets no more than so many further requests reach the store.
    pub(crate) fn dies_after(&mut self, requests: u32) {
        self.store.kill_after(requests);
        self.requests_max = self.store.counts().total() + u64::from(requests);
    }

    /// Waits until no request reaches the store any more.
    pub(crate) async fn is_dead(&self) {
        let look = async {
            let mut looks = tokio::time::interval(LOOK);
            while self.store.counts().total() <= self.requests_max {
                looks.tick().await;
            }
        };
        let looked = tokio::time::timeout(DEADLINE, look).await;
        looked.expect("it asks the store");
    }
}

fn follow_settings(options: &Options) -> FollowSettings {
    FollowSettings {
        cursor: options.cursor,
        resets: options.resets,
        resync_new: true,
        cursor_interval: Duration::from_millis(20),
        subscribe: SubscribeSettings {
            silence: Duration::from_secs(1),
            answer: Duration::from_millis(300),
            ..SubscribeSettings::default()
        },
        backoff: BackoffSettings {
            min: Duration::from_millis(10),
            max: Duration::from_millis(100),
        },
        ..FollowSettings::default()
    }
}
