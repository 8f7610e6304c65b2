//! The merge laws through the real engine: whatever happens to a set of changes on its way, the rows are the model's.
//!
//! A case is a set of changes of all kinds, delivered in two permutations with duplicates, split over several writers,
//! with flushes (some of them racing), merges and collections in between, at moments drawn from its seed. After every
//! few steps, and at the end before and after everything is flushed and merged, each table's rows equal those of
//! [`crdt::merge_model::Model`] for what was acknowledged so far, in every column that is no observation.
//! What the generator must make is counted, and each situation must occur at least a hundred times in all.

mod generate;
mod rows;

use std::collections::BTreeMap;
use std::sync::Arc;

use crdt::merge_model::Model;
use crdt::{Change, ChangeBatch};
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};
use storage::{Bucket, LogWriter, ManualClock, Policy, Settings};
use tables::cache::{Cache, CacheSettings};
use tables::flush::{FlushSettings, flush};
use tables::merge::{MergeSettings, merge_once};
use tables::schema::Catalog;
use tables::view::{ReadView, Tables};
use testkit::fault_store::{FaultStore, Rates};

use generate::{NOW_US, Situations, history};

const CASES: u64 = 1_000;
const SITUATION_MIN: u64 = 100;

/// One bucket with its writers, and what it has acknowledged.
struct Case {
    rng: StdRng,
    clock: Arc<ManualClock>,
    tables: Tables,
    writers: Vec<LogWriter>,
    model: Model,
}

/// How often each thing was done to the buckets.
#[derive(Debug, Default)]
struct Steps {
    appends: u64,
    flushes: u64,
    races: u64,
    merges: u64,
    collections: u64,
    views: u64,
}

impl Case {
    async fn new(seed: u64, catalog: &Arc<Catalog>) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let clock = Arc::new(ManualClock::new(NOW_US));
        let store = FaultStore::in_memory();
        let bucket = Bucket::open(
            Arc::new(store.clone()),
            Arc::clone(&clock) as _,
            Settings::default(),
        )
        .await
        .expect("a bucket in memory opens");
        // Tasks that race take turns at any request, and some answers to PUTs are lost.
        store.seed(
            seed,
            Rates {
                after: 0.01,
                yields: 4,
                ..Rates::default()
            },
        );
        let writers = (0..rng.random_range(1..=3))
            .map(|_| LogWriter::new(bucket.clone()))
            .collect();
        let tables = Tables::new(
            bucket,
            Arc::new(Cache::new(CacheSettings::default())),
            Arc::clone(catalog),
        );
        Self {
            rng,
            clock,
            tables,
            writers,
            model: Model::default(),
        }
    }

    async fn append(&mut self, changes: &[Change], steps: &mut Steps) {
        let writer = self.rng.random_range(0..self.writers.len());
        let batch = ChangeBatch {
            changes: changes.to_vec(),
        };
        self.writers[writer]
            .append(batch.encode())
            .await
            .expect("an append to memory is acknowledged");
        changes.iter().for_each(|change| self.model.apply(change));
        steps.appends += 1;
    }

    async fn disturb(&mut self, steps: &mut Steps) {
        let merge = MergeSettings {
            fan_in: 2,
            ..MergeSettings::default()
        };
        match self.rng.random_range(0..10) {
            0..=2 => {
                let flushed = flush(&self.tables, "a", partial(&mut self.rng))
                    .await
                    .expect("a flush");
                steps.flushes += u64::from(flushed.root.is_some());
            }
            3..=4 => {
                let (a, b) = tokio::join!(
                    flush(&self.tables, "a", partial(&mut self.rng)),
                    flush(&self.tables, "b", FlushSettings::at_once())
                );
                steps.races += 1;
                steps.flushes += u64::from(a.expect("a flush").root.is_some());
                steps.flushes += u64::from(b.expect("a flush").root.is_some());
            }
            5..=6 => {
                let merged = merge_once(&self.tables, "a", &merge)
                    .await
                    .expect("a merge");
                steps.merges += u64::from(merged.is_some());
            }
            7 => {
                let (merged, flushed) = tokio::join!(
                    merge_once(&self.tables, "a", &merge),
                    flush(&self.tables, "b", FlushSettings::at_once())
                );
                steps.races += 1;
                steps.merges += u64::from(merged.expect("a merge").is_some());
                steps.flushes += u64::from(flushed.expect("a flush").root.is_some());
            }
            8 => self.collect(steps).await,
            _ => self.check("in between", steps).await,
        }
    }

    async fn collect(&mut self, steps: &mut Steps) {
        let settings = self.tables.bucket().settings();
        // Memory stamps objects with the real clock, which the manual one is far ahead of: all are old enough.
        self.clock.set(NOW_US + 30 * 365 * 86_400_000_000);
        let policy = Policy {
            retention: settings.retention,
            grace: settings.grace,
            is_dry: false,
        };
        storage::collect(
            self.tables.bucket(),
            self.tables.chain(),
            policy,
            "c",
            &self.tables,
        )
        .await
        .expect("a collection");
        steps.collections += 1;
    }

    async fn settle(&mut self, steps: &mut Steps) {
        while flush(&self.tables, "a", FlushSettings::at_once())
            .await
            .expect("a flush")
            .root
            .is_some()
        {
            steps.flushes += 1;
        }
        let merge = MergeSettings {
            fan_in: 2,
            ..MergeSettings::default()
        };
        while merge_once(&self.tables, "a", &merge)
            .await
            .expect("a merge")
            .is_some()
        {
            steps.merges += 1;
        }
    }

    async fn check(&self, moment: &str, steps: &mut Steps) {
        let view = ReadView::open(&self.tables).await.expect("a view");
        for def in view.catalog().tables() {
            let seen = rows::of_view(&view, def).await;
            let expected = rows::of_model(&self.model, view.catalog(), def);
            assert_eq!(seen, expected, "{moment}: {} at {}", def.name, view.name());
        }
        steps.views += 1;
    }
}

/// A flush of a few objects, so that tails are taken in parts.
fn partial(rng: &mut StdRng) -> FlushSettings {
    FlushSettings {
        take_bytes_max: rng.random_range(1..4_000),
        ..FlushSettings::at_once()
    }
}

async fn run(seed: u64, catalog: &Arc<Catalog>, situations: &mut Situations) -> Steps {
    let mut case = Case::new(seed, catalog).await;
    let mut steps = Steps::default();
    let changes = history(&mut case.rng);
    let mut told = changes.clone();
    let copies = case.rng.random_range(0..changes.len() / 2);
    told.extend(changes.choose_multiple(&mut case.rng, copies).cloned());
    told.shuffle(&mut case.rng);
    situations.count(&changes, &told);
    let mut rest = told.as_slice();
    while !rest.is_empty() {
        let (batch, behind) = rest.split_at(case.rng.random_range(1..=rest.len().min(40)));
        rest = behind;
        case.append(batch, &mut steps).await;
        if case.rng.random_bool(0.7) {
            case.disturb(&mut steps).await;
        }
    }
    assert_eq!(
        case.model.state(),
        changes.iter().collect::<Model>().state(),
        "the model itself keeps the laws"
    );
    case.check("with a tail", &mut steps).await;
    case.settle(&mut steps).await;
    case.check("without a tail", &mut steps).await;
    steps
}

#[test]
fn any_way_of_a_change_ends_in_the_same_rows() {
    let first = std::env::var("ALLUVIUM_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(0);
    let catalog = Arc::new(Catalog::builtin());
    let workers = 2;
    let results: Vec<(Situations, Vec<Steps>)> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..workers)
            .map(|worker| {
                let catalog = Arc::clone(&catalog);
                scope.spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread()
                        .enable_all()
                        .build()
                        .expect("a runtime");
                    let mut situations = Situations::default();
                    let steps = (first..first + CASES)
                        .filter(|seed| seed % workers == worker)
                        .map(|seed| {
                            let ran =
                                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                                    runtime.block_on(run(seed, &catalog, &mut situations))
                                }));
                            ran.unwrap_or_else(|cause| {
                                eprintln!(
                                    "seed {seed} failed; ALLUVIUM_SEED={seed} begins with it"
                                );
                                std::panic::resume_unwind(cause)
                            })
                        })
                        .collect();
                    (situations, steps)
                })
            })
            .collect();
        handles
            .into_iter()
            .map(|handle| handle.join().expect("no case fails"))
            .collect()
    });
    let mut situations: BTreeMap<&str, u64> = BTreeMap::new();
    let mut total = Steps::default();
    for (counted, steps) in &results {
        for (name, count) in counted.iter() {
            *situations.entry(name).or_default() += count;
        }
        for step in steps {
            total.appends += step.appends;
            total.flushes += step.flushes;
            total.races += step.races;
            total.merges += step.merges;
            total.collections += step.collections;
            total.views += step.views;
        }
    }
    println!("{CASES} cases: {total:?}; {situations:?}");
    for (name, count) in &situations {
        assert!(
            *count >= SITUATION_MIN,
            "{name} occurred only {count} times"
        );
    }
    for (name, count) in [
        ("races", total.races),
        ("merges", total.merges),
        ("collections", total.collections),
    ] {
        assert!(count >= SITUATION_MIN, "{name} occurred only {count} times");
    }
}
