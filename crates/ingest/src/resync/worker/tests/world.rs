//! A bucket in memory, repos whose hosts are known, and hosts that give what is scripted.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use atproto::{Did, DidDocument, Tid, Value, Verification};
use bytes::Bytes;
use crdt::merge_model::Model;
use crdt::storage::object_store::memory::InMemory;
use crdt::storage::object_store::{ObjectStore, ObjectStoreExt};
use crdt::storage::{self, Bucket, Clock, ManualClock, list_log, read_log};
use crdt::{
    Change, ChangeBatch, ChangeLog, Delivery, Micros, NoticeChange, NoticeKind, RecordChange,
    ResyncStep, change_log,
};
use futures::TryStreamExt;
use futures::future::BoxFuture;
use tables::cache::{Cache, CacheSettings};
use tables::schema::Catalog;
use tables::view::Tables;
use testkit::repo::{Account, Curve, RepoBuilder, Stamp, Write};
use tokio_util::sync::CancellationToken;

use super::{ResyncSettings, Resyncer};
use crate::did_docs::DidDocs;
use crate::intake::Intake;
use crate::known::NothingKnown;
use crate::resync::hosts::{HostError, Hosts, ListPage, Listed};
use crate::resync::{ResyncQueue, Task};

pub(super) const START_US: i64 = 1_770_000_000_000_000;
pub(super) const HOUR_US: i64 = 3_600_000_000;
pub(super) const RELAY: &str = "https://relay.example";
pub(super) const POST: &str = "app.bsky.feed.post";
pub(super) const LIKE: &str = "app.bsky.feed.like";

/// A bucket in memory, hosts that say what they are told to, and the states of all marks.
pub(super) struct World {
    pub(super) store: Arc<InMemory>,
    pub(super) bucket: Bucket,
    pub(super) clock: Arc<ManualClock>,
    pub(super) log: ChangeLog,
    pub(super) docs: DidDocs,
    pub(super) hosts: Arc<FakeHosts>,
    pub(super) queue: Option<ResyncQueue>,
    pub(super) states: BTreeMap<(Option<Did>, [u8; 16]), (u32, ResyncStep)>,
    pub(super) marks: u8,
}

impl World {
    pub(super) async fn new() -> Self {
        Self::over(Arc::new(InMemory::new()), DidDocs::default()).await
    }

    pub(super) async fn over(store: Arc<InMemory>, docs: DidDocs) -> Self {
        let clock = Arc::new(ManualClock::new(START_US + HOUR_US));
        let opened = Bucket::open(
            Arc::clone(&store) as Arc<dyn ObjectStore>,
            Arc::clone(&clock) as Arc<dyn Clock>,
            storage::Settings::default(),
        );
        let bucket = opened.await.expect("a store in memory");
        let settings = change_log::Settings {
            flush_interval: Duration::ZERO,
            ..change_log::Settings::default()
        };
        Self {
            log: ChangeLog::spawn(&bucket, settings, &CancellationToken::new()),
            hosts: Arc::new(FakeHosts::new(Arc::clone(&clock))),
            store,
            bucket,
            clock,
            docs,
            queue: None,
            states: BTreeMap::new(),
            marks: 0,
        }
    }

    /// The world after a crash, of which so many log objects were durable.
    pub(super) async fn as_of(&self, objects: usize) -> Self {
        let store = Arc::new(InMemory::new());
        let names: Vec<_> = self.store.list(None).try_collect().await.expect("listed");
        let mut paths: Vec<_> = names.into_iter().map(|meta| meta.location).collect();
        paths.sort();
        let (log, others): (Vec<_>, Vec<_>) = paths
            .into_iter()
            .partition(|path| path.as_ref().starts_with("wal/"));
        for path in others.into_iter().chain(log.into_iter().take(objects)) {
            let bytes = self.store.get(&path).await.expect("there").bytes().await;
            store
                .put(&path, bytes.expect("read").into())
                .await
                .expect("put");
        }
        let mut world = Self::over(store, self.docs.clone()).await;
        world.look().await;
        world
    }

    /// A repo of three posts whose host is known, and that host.
    pub(super) fn repo(&mut self, seed: u64) -> (RepoBuilder, String) {
        let mut repo = RepoBuilder::new(Account::new(seed, Curve::P256));
        let document = DidDocument::parse(&repo.account().did_document()).expect("a document");
        let pds = document.pds.clone().expect("a host");
        self.docs.insert(document);
        for number in 0..3 {
            repo.commit(stamp(number), &[put(&number.to_string())]);
        }
        (repo, pds)
    }

    /// A record of the repo as the stream told it.
    pub(super) fn live(&self, repo: &RepoBuilder, rkey: &str, number: i64) -> Change {
        self.live_at(
            repo,
            rkey,
            Tid::new(START_US - HOUR_US + number, 0).expect("a time"),
        )
    }

    pub(super) fn live_at(&self, repo: &RepoBuilder, rkey: &str, rev: Tid) -> Change {
        Change::Record(RecordChange {
            did: repo.account().did().clone(),
            collection: POST.parse().expect("an NSID"),
            rkey: rkey.parse().expect("a key"),
            rev,
            body: Some(crdt::Body::of(atproto::cbor::encode(&record(99)).into())),
            delivery: delivery(RELAY),
        })
    }

    pub(super) async fn append(&self, changes: Vec<Change>) {
        self.log.append(changes.into()).await.expect("durable");
    }

    /// Marks a repo: durable, and handed over to whoever runs.
    pub(super) async fn mark(&mut self, repo: &RepoBuilder, reason: &str, rev: Option<Tid>) {
        self.marks += 1;
        let notice = NoticeChange {
            did: Some(repo.account().did().clone()),
            rev,
            ..notice(reason, self.marks)
        };
        self.append(vec![Change::Notice(notice.clone())]).await;
        if let (Some(queue), Some(task)) = (&self.queue, Task::of(&notice)) {
            queue.push(task);
        }
    }

    pub(super) async fn reconcile(&mut self, hash: u8) {
        self.append(vec![Change::Notice(notice("outdated_cursor", 200 + hash))])
            .await;
    }

    pub(super) fn resyncer(&self, settings: ResyncSettings) -> (Resyncer, ResyncQueue) {
        let intake = Intake {
            log: self.log.clone(),
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            identities: crate::Identities::fixed(self.docs.clone()),
            known: Arc::new(NothingKnown),
        };
        let cache = Arc::new(Cache::new(CacheSettings::default()));
        let tables = Tables::new(self.bucket.clone(), cache, Arc::new(Catalog::builtin()));
        let (queue, tasks) = ResyncQueue::bounded(16);
        let hosts = Arc::clone(&self.hosts) as Arc<dyn Hosts>;
        let ends = (queue.clone(), tasks);
        let resyncer = Resyncer::with_hosts(&intake, tables, hosts, ends, settings);
        (resyncer, queue)
    }

    pub(super) async fn run_until(&mut self, done: impl Fn(&Self) -> bool) {
        self.run_with(ResyncSettings::default(), done).await;
    }

    /// Runs until the states of the marks are as they should be.
    pub(super) async fn run_with(
        &mut self,
        settings: ResyncSettings,
        done: impl Fn(&Self) -> bool,
    ) {
        let (resyncer, queue) = self.resyncer(settings);
        self.queue = Some(queue);
        let stop = CancellationToken::new();
        let run = tokio::spawn(resyncer.run(stop.clone()));
        let mut rounds = 0;
        loop {
            self.look().await;
            if done(self) {
                break;
            }
            rounds += 1;
            assert!(rounds < 20_000, "it comes to: {:?}", self.states);
            // What a look costs is more than what most steps do.
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
        }
        stop.cancel();
        run.await.expect("no panic").expect("the log takes it");
    }

    /// The states that the log tells.
    pub(super) async fn look(&mut self) {
        let model = self.model().await;
        self.states = model
            .rows()
            .filter_map(|change| match change {
                Change::Notice(notice) if notice.kind == NoticeKind::Resync => Some((
                    (notice.did.clone(), notice.frame_hash),
                    (notice.attempt, ResyncStep::of(notice.step)?),
                )),
                _ => None,
            })
            .collect();
    }

    /// The states of a repo's marks, in the order of their making.
    pub(super) fn state(&self, repo: &RepoBuilder) -> Vec<(u32, &'static str)> {
        let own = self
            .states
            .iter()
            .filter(|((did, _), _)| did.as_ref() == Some(repo.account().did()));
        own.map(|(_, (attempt, step))| (*attempt, step.as_str()))
            .collect()
    }

    pub(super) async fn objects(&self) -> Vec<Vec<Change>> {
        let listing = list_log(&self.bucket, &BTreeMap::new())
            .await
            .expect("listed");
        let mut objects = Vec::new();
        for (writer, seqs) in listing.writers {
            for seq in seqs.into_keys() {
                let position = storage::Position { writer, seq };
                let object = read_log(&self.bucket, position).await.expect("there");
                objects.push(ChangeBatch::decode(&object).expect("ours").changes);
            }
        }
        objects
    }

    pub(super) async fn changes(&self) -> Vec<Change> {
        self.objects().await.into_iter().flatten().collect()
    }

    pub(super) async fn model(&self) -> Model {
        self.changes().await.iter().collect()
    }

    pub(super) async fn floors(&self) -> usize {
        let changes = self.changes().await;
        let floors = changes
            .iter()
            .filter(|change| matches!(change, Change::Floor(_)));
        floors.count()
    }
}

pub(super) type Given = Result<Vec<u8>, HostError>;

/// Gives what is scripted, one after the other, then what it has.
#[derive(Debug)]
pub(super) struct FakeHosts {
    pub(super) clock: Arc<ManualClock>,
    scripts: Mutex<HashMap<Did, Vec<Given>>>,
    cars: Mutex<HashMap<Did, Vec<u8>>>,
    list: Mutex<Vec<Listed>>,
    asked: Mutex<Vec<Micros>>,
}

impl FakeHosts {
    pub(super) fn new(clock: Arc<ManualClock>) -> Self {
        Self {
            clock,
            scripts: Mutex::default(),
            cars: Mutex::default(),
            list: Mutex::default(),
            asked: Mutex::default(),
        }
    }

    pub(super) fn give(&self, repo: &RepoBuilder) {
        let mut cars = self.cars.lock().expect("no panic");
        cars.insert(repo.account().did().clone(), car_of(repo));
    }

    pub(super) fn script(&self, repo: &RepoBuilder, mut answers: Vec<Given>) {
        answers.reverse();
        let mut scripts = self.scripts.lock().expect("no panic");
        scripts.insert(repo.account().did().clone(), answers);
    }

    pub(super) fn list(&self, listed: Vec<Listed>) {
        *self.list.lock().expect("no panic") = listed;
    }

    /// When it was asked for repos.
    pub(super) fn asked_at(&self) -> Vec<Micros> {
        self.asked.lock().expect("no panic").clone()
    }

    pub(super) fn answer(&self, did: &Did) -> Given {
        self.asked
            .lock()
            .expect("no panic")
            .push(Micros(self.clock.now_us()));
        let mut scripts = self.scripts.lock().expect("no panic");
        if let Some(answer) = scripts.get_mut(did).and_then(Vec::pop) {
            return answer;
        }
        let cars = self.cars.lock().expect("no panic");
        cars.get(did)
            .cloned()
            .ok_or(HostError::Status { status: 418 })
    }
}

impl Hosts for FakeHosts {
    fn repo<'a>(
        &'a self,
        _pds: &'a str,
        did: &'a Did,
        room: &'a mut (dyn FnMut(u64) -> bool + Send),
    ) -> BoxFuture<'a, Result<Bytes, HostError>> {
        Box::pin(async move {
            let car = self.answer(did)?;
            assert!(room(car.len() as u64));
            Ok(car.into())
        })
    }

    /// One repo a page.
    fn list<'a>(
        &'a self,
        _source: &'a str,
        cursor: Option<&'a str>,
    ) -> BoxFuture<'a, Result<ListPage, HostError>> {
        Box::pin(async move {
            let place: usize = cursor.map_or(0, |cursor| cursor.parse().expect("a number"));
            let list = self.list.lock().expect("no panic");
            let repos: Vec<Listed> = list.iter().skip(place).take(1).cloned().collect();
            let cursor = (place + 1 < list.len()).then(|| (place + 1).to_string());
            Ok(ListPage { repos, cursor })
        })
    }
}

/// What a mark's failure says of itself.
pub(super) fn failure_of(change: &Change) -> Option<&str> {
    match change {
        Change::Notice(notice) if notice.step == ResyncStep::Failed.number() => {
            Some(&notice.reason)
        }
        _ => None,
    }
}

pub(super) fn step_of(change: &Change) -> Option<u32> {
    match change {
        Change::Notice(notice) if notice.kind == NoticeKind::Resync => Some(notice.step),
        _ => None,
    }
}

pub(super) fn records_of(model: &Model) -> BTreeMap<String, Tid> {
    let name = |record: &RecordChange| (format!("{}/{}", record.did, record.rkey), record.rev);
    model.records().map(name).collect()
}

/// Where each section of a CAR ends: its header and its blocks.
pub(super) fn block_ends(car: &[u8]) -> Vec<usize> {
    let (mut ends, mut at) = (Vec::new(), 0);
    while at < car.len() {
        let (mut length, mut shift) = (0, 0);
        loop {
            let byte = car[at];
            at += 1;
            length |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
        at += length;
        ends.push(at);
    }
    ends
}

pub(super) fn car_of(repo: &RepoBuilder) -> Vec<u8> {
    repo.clone().car()
}

pub(super) fn head(repo: &RepoBuilder, source: &str) -> Change {
    let car = car_of(repo);
    let verified = atproto::verify_repo(&car, None, START_US + HOUR_US).expect("a repo");
    let head = crdt::HeadChange {
        did: verified.did().clone(),
        rev: verified.rev(),
        data: verified.data(),
        commit: verified.commit(),
        commit_block: verified.commit_block().clone(),
        delivery: delivery(source),
    };
    Change::Head(head)
}

pub(super) fn notice(reason: &str, hash: u8) -> NoticeChange {
    NoticeChange {
        kind: NoticeKind::Resync,
        reason: reason.to_owned(),
        source: RELAY.into(),
        did: None,
        rev: None,
        seq: Some(7),
        frame_hash: [hash; 16],
        bytes: 100,
        attempt: 0,
        step: 0,
        indexed_at: Micros(START_US),
    }
}

pub(super) fn delivery(source: &str) -> Delivery {
    Delivery {
        source: source.into(),
        seq: Some(7),
        indexed_at: Micros(START_US),
        time: None,
        verification: Verification::Inverted,
    }
}

pub(super) fn put(rkey: &str) -> Write {
    // Records of their own: equal ones would be one block.
    let number = rkey.bytes().map(i64::from).sum();
    Write::put(format!("{POST}/{rkey}"), &record(number))
}

pub(super) fn record(number: i64) -> Value {
    Value::Map(
        [("n".to_owned(), Value::from(number))]
            .into_iter()
            .collect(),
    )
}

pub(super) fn stamp(number: i64) -> Stamp {
    Stamp {
        seq: number + 1,
        at_us: START_US + number * 1_000_000,
    }
}

pub(super) fn after(rev: Option<Tid>) -> Tid {
    Tid::from_value(rev.expect("a commit").value() + 1)
}
