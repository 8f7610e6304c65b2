//! Writers, flushers, collectors and readers at once on a store that fails, with stalls and jumps of time.
//!
//! The tables of this simulation are a set of texts in the root's body, so a view's answer is that set and the
//! tail's texts. What must hold: a view shows all that was acknowledged before it was opened; what a view has
//! shown stays; in the end everything that was acknowledged is there.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use object_store::path::Path;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use testkit::fault_store::{Event, Fault, Gate, Operation, Rates, Rule};

use crate::bucket::Bucket;
use crate::collect::{CollectError, Named, Policy, collect};
use crate::ids::{Position, Version, WriterId};
use crate::log::{AppendError, LogWriter, ReadError, list_log, read_log};
use crate::manifest::{Apply, ApplyError, Chain, CommitError, CommitKind, Draft, Root, Took};
use crate::world::{MINUTE, World, section};

const RATES: Rates = Rates {
    before: 0.03,
    after: 0.04,
    conflict: 0.04,
    late: 0.04,
    truncate: 0.02,
    yields: 4,
};

/// What all that happened comes to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    acknowledged: usize,
    views: usize,
    views_with_tail: usize,
    flushes: usize,
    obsolete: usize,
    unknown: usize,
    manifests_deleted: u64,
    log_objects_deleted: u64,
    stalls: usize,
}

struct Simulation {
    world: World,
    random: RefCell<StdRng>,
    acknowledged: RefCell<BTreeSet<String>>,
    shown: RefCell<BTreeSet<String>>,
    tally: RefCell<Tally>,
    running: Cell<usize>,
}

/// What a reader or flusher has opened.
struct View {
    root: Arc<Root>,
    tail: Vec<(Took, Vec<String>)>,
}

impl View {
    fn texts(&self) -> BTreeSet<String> {
        let tail = self
            .tail
            .iter()
            .flat_map(|(_, texts)| texts.iter().cloned());
        texts_of(&self.root).into_iter().chain(tail).collect()
    }
}

fn texts_of(root: &Root) -> BTreeSet<String> {
    std::str::from_utf8(&root.body)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect()
}

/// Opens a view as readers do: the log first, then the newest root, and all again if it took too long or if
/// what it names is gone.
async fn open(bucket: &Bucket, chain: &Chain) -> View {
    loop {
        let started_us = bucket.clock().now_us();
        let Ok(known) = chain.newest_root().await else {
            continue;
        };
        let Ok(listing) = list_log(bucket, &known.merged).await else {
            continue;
        };
        let Ok(root) = chain.newest_root().await else {
            continue;
        };
        if bucket.is_past_half_grace(started_us) {
            continue;
        }
        if let Some(tail) = tail(bucket, &root, &listing).await {
            return View { root, tail };
        }
    }
}

async fn tail(
    bucket: &Bucket,
    root: &Root,
    listing: &crate::log::LogListing,
) -> Option<Vec<(Took, Vec<String>)>> {
    let mut tail = Vec::new();
    for &writer in listing.writers.keys() {
        let run = listing.run(writer, root.merged.get(&writer).copied());
        let mut texts = Vec::new();
        for &seq in &run {
            match read_log(bucket, Position { writer, seq }).await {
                Ok(object) => {
                    texts.push(String::from_utf8(object.sections[0].payload.to_vec()).unwrap())
                }
                Err(ReadError::Missing { .. } | ReadError::Store { .. }) => return None,
                Err(error) => panic!("{error:?}"),
            }
        }
        if let (Some(&from), Some(&to)) = (run.first(), run.last()) {
            tail.push((Took { writer, from, to }, texts));
        }
    }
    Some(tail)
}

/// Takes the tails of a view, if nobody has.
struct Flush(View);

#[async_trait]
impl Apply for Flush {
    async fn apply(&mut self, newest: &Root) -> Result<Draft, ApplyError> {
        let View { root, tail } = &self.0;
        let is_unchanged =
            |writer: WriterId| newest.merged.get(&writer) == root.merged.get(&writer);
        if !tail.iter().all(|(took, _)| is_unchanged(took.writer)) {
            return Err(ApplyError::Obsolete);
        }
        let mut draft = Draft::following(newest, CommitKind::Flush);
        let mut texts = texts_of(newest);
        texts.extend(tail.iter().flat_map(|(_, texts)| texts.iter().cloned()));
        draft.body = texts.into_iter().collect::<Vec<_>>().join("\n").into();
        draft.took = tail.iter().map(|(took, _)| *took).collect();
        draft
            .merged
            .extend(tail.iter().map(|(took, _)| (took.writer, took.to)));
        Ok(draft)
    }
}

#[derive(Debug)]
struct NamesNothing;

#[async_trait]
impl Named for NamesNothing {
    async fn names(
        &self,
        _: &Root,
    ) -> Result<HashSet<Path>, Box<dyn std::error::Error + Send + Sync>> {
        Ok(HashSet::new())
    }
}

impl Simulation {
    async fn new(seed: u64) -> Self {
        let world = World::new(seed).await;
        world.store.seed(seed, RATES);
        Self {
            world,
            random: RefCell::new(StdRng::seed_from_u64(seed)),
            acknowledged: RefCell::default(),
            shown: RefCell::default(),
            tally: RefCell::default(),
            running: Cell::new(0),
        }
    }

    fn random(&self, below: u32) -> u32 {
        self.random.borrow_mut().random_range(0..below)
    }

    /// Lets others run, and sometimes minutes or hours pass.
    async fn pause(&self) {
        for _ in 0..self.random(12) {
            tokio::task::yield_now().await;
        }
        match self.random(12) {
            0 => self.world.clock.advance(MINUTE * self.random(240)),
            1 | 2 => self.world.clock.advance(MINUTE * self.random(14)),
            _ => self
                .world
                .clock
                .advance(Duration::from_secs(u64::from(self.random(60)))),
        }
    }

    async fn write(&self, name: &str) {
        let mut writer = LogWriter::new(self.world.bucket.clone());
        for number in 0..14 {
            let text = format!("{name}.{number}");
            match writer.append(vec![section(&text)]).await {
                Ok(_) => {
                    self.acknowledged.borrow_mut().insert(text);
                    self.tally.borrow_mut().acknowledged += 1;
                }
                Err(AppendError::Unknown { .. }) => {}
                Err(error) => panic!("{error:?}"),
            }
            self.pause().await;
        }
        self.running.set(self.running.get() - 1);
    }

    async fn flush(&self, name: &str) {
        let chain = Chain::new(self.world.bucket.clone());
        while self.running.get() > 0 {
            let view = open(&self.world.bucket, &chain).await;
            self.pause().await;
            let base = view.root.version;
            if !view.tail.is_empty() {
                let done = chain.commit(base, name, &mut Flush(view)).await;
                let mut tally = self.tally.borrow_mut();
                match done {
                    Ok(_) => tally.flushes += 1,
                    Err(CommitError::Obsolete { .. } | CommitError::BelowUploadFloor { .. }) => {
                        tally.obsolete += 1
                    }
                    Err(CommitError::Unknown { .. }) => tally.unknown += 1,
                    Err(CommitError::Chain(_) | CommitError::Outrun { .. }) => {}
                    Err(error) => panic!("{error:?}"),
                }
            }
            self.pause().await;
        }
    }

    async fn collect(&self) {
        let chain = Chain::new(self.world.bucket.clone());
        // The floor follows closely, so that numbers are collected while somebody stalls before them.
        let policy = Policy {
            retention: MINUTE * 30,
            ..Policy::from(self.world.bucket.settings())
        };
        while self.running.get() > 0 {
            match collect(
                &self.world.bucket,
                &chain,
                policy,
                "collector",
                &NamesNothing,
            )
            .await
            {
                Ok(done) => {
                    let mut tally = self.tally.borrow_mut();
                    tally.manifests_deleted += done.manifests;
                    tally.log_objects_deleted += done.log_objects;
                }
                Err(CollectError::Named { version, .. }) => panic!("{version}"),
                Err(_) => {}
            }
            self.pause().await;
        }
    }

    async fn read(&self) {
        let chain = Chain::new(self.world.bucket.clone());
        while self.running.get() > 0 {
            let before: BTreeSet<_> = self
                .acknowledged
                .borrow()
                .union(&self.shown.borrow())
                .cloned()
                .collect();
            let view = open(&self.world.bucket, &chain).await;
            let texts = view.texts();
            let missing: Vec<_> = before.difference(&texts).collect();
            assert!(
                missing.is_empty(),
                "a view of version {} misses {missing:?}",
                view.root.version
            );
            self.shown.borrow_mut().extend(texts);
            let has_tail = !view.tail.is_empty();
            {
                let mut tally = self.tally.borrow_mut();
                tally.views += 1;
                tally.views_with_tail += usize::from(has_tail);
            }
            self.pause().await;
        }
    }

    /// Holds PUTs of manifests and log objects for a long while.
    async fn stall(&self) {
        while self.running.get() > 0 {
            let gate = Gate::default();
            let prefix = ["manifest/", "wal/"][self.random(2) as usize];
            let fault = [Fault::Hold(gate.clone()), Fault::HoldAnswer(gate.clone())]
                [self.random(2) as usize]
                .clone();
            self.world
                .store
                .script(Rule::next(Operation::Put, prefix, fault).after(self.random(3)));
            let mut polls = 0;
            let mut arrived = std::pin::pin!(gate.arrived());
            while self.running.get() > 0
                && polls < 5_000
                && futures::poll!(arrived.as_mut()).is_pending()
            {
                polls += 1;
                tokio::task::yield_now().await;
            }
            for _ in 0..self.random(1_500) {
                tokio::task::yield_now().await;
            }
            self.tally.borrow_mut().stalls += 1;
            gate.open();
        }
    }
}

async fn history(seed: u64) -> (Tally, Vec<Event>) {
    let simulation = Simulation::new(seed).await;
    simulation.running.set(2);
    futures::join!(
        simulation.write("a"),
        simulation.write("b"),
        simulation.flush("flush-1"),
        simulation.flush("flush-2"),
        simulation.collect(),
        simulation.read(),
        simulation.stall(),
    );
    let world = &simulation.world;
    world.store.land_late().await;
    world.store.calm();
    let chain = Chain::new(world.bucket.clone());
    let last = open(&world.bucket, &chain).await;
    let texts = last.texts();
    assert!(
        texts.is_superset(&simulation.acknowledged.borrow()),
        "seed {seed}: acknowledged and lost"
    );
    assert!(
        texts.is_superset(&simulation.shown.borrow()),
        "seed {seed}: shown and lost"
    );
    recover(world, &chain, last).await;
    (simulation.tally.into_inner(), world.store.history())
}

/// Without faults, one flush and one collection leave no tail, and the same answer.
async fn recover(world: &World, chain: &Chain, last: View) {
    let texts = last.texts();
    if !last.tail.is_empty() {
        chain
            .commit(last.root.version, "recovery", &mut Flush(last))
            .await
            .unwrap();
    }
    world.clock.advance(MINUTE * 60 * 24);
    let policy = Policy::from(world.bucket.settings());
    collect(&world.bucket, chain, policy, "recovery", &NamesNothing)
        .await
        .unwrap();
    let root = chain.newest_root().await.unwrap();
    assert_eq!(texts_of(&root), texts);
    let left = list_log(&world.bucket, &BTreeMap::new()).await.unwrap();
    assert_eq!(
        left.writers,
        BTreeMap::new(),
        "log objects that nobody can take"
    );
    assert!(
        chain
            .versions()
            .await
            .unwrap()
            .iter()
            .all(|listed| listed.version >= root.floor)
    );
    assert!(root.version > Version::GENESIS);
}

#[tokio::test]
async fn a_view_shows_all_that_was_acknowledged_whatever_else_happens() {
    let mut all = Tally::default();
    for seed in 0..60 {
        println!("seed {seed}");
        let (tally, _) = history(seed).await;
        all.acknowledged += tally.acknowledged;
        all.views += tally.views;
        all.views_with_tail += tally.views_with_tail;
        all.flushes += tally.flushes;
        all.obsolete += tally.obsolete;
        all.unknown += tally.unknown;
        all.manifests_deleted += tally.manifests_deleted;
        all.log_objects_deleted += tally.log_objects_deleted;
        all.stalls += tally.stalls;
    }
    println!("{all:?}");
    assert!(
        all.acknowledged > 1_000
            && all.views_with_tail > 100
            && all.flushes > 100
            && all.obsolete > 10
    );
    assert!(all.manifests_deleted > 100 && all.log_objects_deleted > 100 && all.stalls > 100);
}

#[tokio::test]
async fn one_seed_gives_one_history() {
    for seed in [2, 41] {
        assert_eq!(history(seed).await, history(seed).await);
    }
}
