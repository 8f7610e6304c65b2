//! Moving records over a bucket in memory: each is in exactly one table at every version, whatever happens on the way.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use arrow::array::Array;
use crdt::atproto::{cbor, json};
use crdt::merge_model::Model;
use crdt::{Body, Change, RecordChange};
use futures::TryStreamExt;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::json;
use testkit::fault_store::{Fault, Gate, Operation, Rates, Rule};

use super::*;
use crate::additions::{AddError, add};
use crate::flush::{FlushSettings, flush};
use crate::lexicon::LexiconDoc;
use crate::merge::{MergeSettings, merge_once};
use crate::view::ReadView;
use crate::world::{World, delivery, did, floor, tid};

const NOTE: &str = "com.example.note";
const OTHER: &str = "com.example.other";

/// The Lexicon of a note: at first it has a text, then a mood too.
fn lexicon(version: usize) -> LexiconDoc {
    let mut properties = json!({"text": {"type": "string"}});
    if version > 1 {
        properties["mood"] = json!({"type": "string"});
    }
    let json = json!({"lexicon": 1, "id": NOTE, "defs": {"main": {
        "type": "record", "record": {"type": "object", "properties": properties}}}});
    LexiconDoc::parse(&json).unwrap()
}

fn note(collection: &str, repo: usize, rkey: &str, rev: usize) -> RecordChange {
    let text = format!(
        r#"{{"$type":"{collection}","text":"{repo}/{rkey} at {rev}","mood":"m{}"}}"#,
        rev % 3
    );
    let cbor = cbor::encode(&json::from_text(&text).unwrap());
    RecordChange {
        did: did(repo),
        collection: collection.parse().unwrap(),
        rkey: rkey.parse().unwrap(),
        rev: tid(rev),
        body: Some(Body::of(cbor.into())),
        delivery: delivery(),
    }
}

fn deleted(record: RecordChange) -> RecordChange {
    RecordChange {
        body: None,
        ..record
    }
}

/// A record as a table shows it: who, which, its rev and CID, and the cells of a note's columns where it has them.
type Shown = BTreeMap<(String, String, String), (String, String, Option<[Option<String>; 2]>)>;

/// All records that a view shows, none twice, each in the table that it belongs to.
async fn shown(view: &ReadView) -> Shown {
    let mut shown = Shown::new();
    for def in view.catalog().tables().filter(|def| def.is_records()) {
        let scan = view.scan(def).await.unwrap();
        let mut batches = vec![scan.tail.clone()];
        for segment in &scan.segments {
            batches.extend(live(view, segment).await);
        }
        for reshred in &scan.reshred {
            let reshredder = Reshredder::new(&reshred.from, def).unwrap();
            let rows = live(view, &reshred.segment).await.into_iter();
            batches.extend(rows.map(|batch| reshredder.rows(&batch).unwrap()));
        }
        let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        assert_eq!(
            rows as u64,
            scan.rows(),
            "{}: counted without reading",
            def.name
        );
        for batch in &batches {
            for row in 0..batch.num_rows() {
                let cell = |name: &str| {
                    let array = batch.column_by_name(name)?.as_string::<i32>();
                    array.is_valid(row).then(|| array.value(row).to_owned())
                };
                let collection = match def.record_type() {
                    Some(record) => record.collection().to_owned(),
                    None => cell("collection").unwrap(),
                };
                assert_eq!(view.catalog().records_of(&collection).name, def.name);
                let has = |name: &str| def.schema.column_with_name(name).is_some();
                let cells = has("text").then(|| {
                    let mood = has("mood").then(|| cell("mood")).flatten();
                    [cell("text"), mood]
                });
                let key = (cell("did").unwrap(), collection, cell("rkey").unwrap());
                let value = (cell("rev").unwrap(), cell("cid").unwrap(), cells);
                assert!(shown.insert(key.clone(), value).is_none(), "{key:?} twice");
            }
        }
    }
    shown
}

async fn live(view: &ReadView, segment: &crate::view::SegmentScan) -> Vec<RecordBatch> {
    let tables = view.tables();
    let reader = tables.cache().reader(tables.bucket(), &segment.entry).await;
    let live = read_live(&reader.unwrap(), &segment.dead).await.unwrap();
    let batches: Vec<_> = live.try_collect().await.unwrap();
    batches.into_iter().map(|(batch, _)| batch).collect()
}

/// What a view has to show of the model's records, given the columns that notes have.
fn expected(model: &Model, view: &ReadView) -> Shown {
    let def = view.catalog().records_of(NOTE);
    let has_mood = def.schema.column_with_name("mood").is_some();
    let records = model.records().map(|record| {
        let body = record.body.as_ref().unwrap();
        let value = cbor::decode(&body.cbor).unwrap();
        let field = |name: &str| value.get(name).and_then(|v| v.as_text().map(str::to_owned));
        let is_typed = record.collection.as_str() == NOTE && def.record_type().is_some();
        let cells = is_typed.then(|| [field("text"), has_mood.then(|| field("mood")).flatten()]);
        let key = [
            record.did.to_string(),
            record.collection.to_string(),
            record.rkey.to_string(),
        ];
        let [did, collection, rkey] = key;
        let value = (record.rev.to_string(), body.cid.to_string(), cells);
        ((did, collection, rkey), value)
    });
    records.collect()
}

async fn check(world: &World, model: &Model, moment: &str) {
    let view = ReadView::open(&world.tables).await.unwrap();
    assert_eq!(shown(&view).await, expected(model, &view), "{moment}");
}

/// Appends changes and tells the model.
async fn tell(world: &mut World, model: &mut Model, changes: Vec<Change>) {
    changes.iter().for_each(|change| model.apply(change));
    world.append(changes).await;
}

fn records(changes: impl IntoIterator<Item = RecordChange>) -> Vec<Change> {
    changes.into_iter().map(Change::Record).collect()
}

async fn reproject(world: &World, bytes_max: u64) -> Option<Reprojected> {
    let settings = ReprojectSettings { bytes_max };
    let moved = reproject_once(&world.tables, "test", &settings).await;
    moved.unwrap()
}

async fn waiting(world: &World) -> Vec<String> {
    let view = ReadView::open(&world.tables).await.unwrap();
    waiting_of(view.segments()).cloned().collect()
}

/// Three flushes of notes and others: created, updated, deleted, and a repo whose floor is above a note.
async fn world() -> (World, Model) {
    let (mut world, mut model) = (World::new().await, Model::default());
    for flush in 0..3 {
        let repos = flush * 4..flush * 4 + 4;
        let both = repos.flat_map(|repo| [NOTE, OTHER].map(|of| note(of, repo, "self", 10)));
        tell(&mut world, &mut model, records(both)).await;
        world.flush().await;
    }
    let changed = [
        note(NOTE, 1, "self", 20),
        deleted(note(NOTE, 2, "self", 20)),
        deleted(note(NOTE, 40, "gone", 30)),
    ];
    tell(&mut world, &mut model, records(changed)).await;
    tell(&mut world, &mut model, vec![floor(3, 15)]).await;
    world.flush().await;
    (world, model)
}

#[tokio::test]
async fn a_table_is_whole_from_the_version_that_adds_it_until_all_is_moved() {
    let (world, model) = world().await;
    check(&world, &model, "before").await;
    add(&world.tables, "test", vec![lexicon(1)]).await.unwrap();
    assert_eq!(waiting(&world).await, [NOTE]);
    check(&world, &model, "added").await;
    let (mut commits, mut moved, mut tombstones) = (0, 0, 0);
    while let Some(done) = reproject(&world, 1).await {
        commits += 1;
        moved += done.records;
        tombstones += done.tombstones;
        check(&world, &model, "between").await;
    }
    assert!(commits > 3, "one segment a commit, {commits} commits");
    assert_eq!((moved, tombstones), (10, 2));
    assert!(waiting(&world).await.is_empty());
    check(&world, &model, "after").await;
    let scan = world.scan(&note_table(&world).await).await;
    assert!(scan.reshred.is_empty());
    check(&world.another(1).await, &model, "in another process").await;
}

async fn note_table(world: &World) -> Arc<TableDef> {
    let view = ReadView::open(&world.tables).await.unwrap();
    Arc::clone(view.catalog().records_of(NOTE))
}

#[tokio::test]
async fn later_changes_find_what_waits_and_what_was_moved() {
    let (mut world, mut model) = world().await;
    add(&world.tables, "test", vec![lexicon(1)]).await.unwrap();
    // Above and below what waits: an update, a delete, late ones of both, and a floor.
    let changes = records([
        note(NOTE, 5, "self", 20),
        deleted(note(NOTE, 6, "self", 20)),
        note(NOTE, 7, "self", 5),
        deleted(note(NOTE, 8, "self", 5)),
        note(NOTE, 2, "self", 15),
        note(NOTE, 40, "gone", 25),
        note(NOTE, 3, "self", 12),
    ]);
    tell(&mut world, &mut model, changes).await;
    tell(&mut world, &mut model, vec![floor(9, 50)]).await;
    check(&world, &model, "in the tail").await;
    world.flush().await;
    check(&world, &model, "flushed while the others wait").await;
    assert!(reproject(&world, 1).await.is_some());
    let late = [note(NOTE, 1, "self", 12), note(NOTE, 40, "gone", 28)];
    tell(&mut world, &mut model, records(late)).await;
    check(&world, &model, "late, in the tail").await;
    world.flush().await;
    while reproject(&world, 1).await.is_some() {}
    let last = [
        note(NOTE, 40, "gone", 29),
        deleted(note(NOTE, 1, "self", 21)),
    ];
    tell(&mut world, &mut model, records(last)).await;
    world.flush().await;
    check(&world, &model, "after all was moved").await;
}

#[tokio::test]
async fn a_flush_that_began_before_the_table_is_made_again_with_it() {
    let (mut world, mut model) = world().await;
    let changes = records([note(NOTE, 20, "self", 10), note(OTHER, 20, "self", 10)]);
    tell(&mut world, &mut model, changes).await;
    let gate = Gate::default();
    let hold = Fault::Hold(gate.clone());
    world
        .store
        .script(Rule::next(Operation::Put, "manifest/", hold));
    let other = world.another(1).await;
    let flushing = async {
        flush(&world.tables, "late", FlushSettings::at_once())
            .await
            .unwrap()
    };
    let adding = async {
        gate.arrived().await;
        add(&other.tables, "test", vec![lexicon(1)]).await.unwrap();
        gate.open();
    };
    let (flushed, ()) = tokio::join!(flushing, adding);
    assert!(flushed.root.is_none() && flushed.more, "{flushed:?}");
    check(&world, &model, "refused").await;
    assert!(world.flush().await.root.is_some());
    check(&world, &model, "made again").await;
    while reproject(&world, u64::MAX).await.is_some() {}
    let scan = world.scan(&note_table(&world).await).await;
    assert_eq!(scan.rows_before(), 0);
    check(&world, &model, "after").await;
}

#[tokio::test]
async fn columns_that_a_newer_lexicon_adds_are_filled_at_once_and_by_merges() {
    let (mut world, mut model) = world().await;
    add(&world.tables, "test", vec![lexicon(1)]).await.unwrap();
    while reproject(&world, u64::MAX).await.is_some() {}
    tell(
        &mut world,
        &mut model,
        records([note(NOTE, 21, "self", 10)]),
    )
    .await;
    world.flush().await;
    add(&world.tables, "test", vec![lexicon(2)]).await.unwrap();
    tell(
        &mut world,
        &mut model,
        records([note(NOTE, 22, "self", 10)]),
    )
    .await;
    world.flush().await;
    check(&world, &model, "from `extra`").await;
    let scan = world.scan(&note_table(&world).await).await;
    assert!(!scan.reshred.is_empty() && !scan.segments.is_empty());
    // One merge of old and new segments, then those that no tier is full of.
    let twos = MergeSettings {
        fan_in: 2,
        ..MergeSettings::default()
    };
    let mut merges = 0;
    while merge_once(&world.tables, "test", &twos)
        .await
        .unwrap()
        .is_some()
    {
        merges += 1;
        check(&world, &model, "merged").await;
    }
    assert!(merges > 0);
    let scan = world.scan(&note_table(&world).await).await;
    assert!(scan.reshred.is_empty());
}

/// Lets processes die after each request of `work`, then checks what the next one finds and finishes.
async fn killed_everywhere(work: impl AsyncFn(&World) -> bool) {
    let mut survived = false;
    let mut requests = 0;
    while !survived {
        let (mut world, mut model) = (World::new().await, Model::default());
        let early = [
            note(NOTE, 1, "self", 10),
            note(OTHER, 1, "self", 10),
            deleted(note(NOTE, 2, "self", 9)),
        ];
        tell(&mut world, &mut model, records(early)).await;
        world.flush().await;
        tell(&mut world, &mut model, records([note(NOTE, 1, "self", 12)])).await;
        let victim = world.another(1).await;
        victim.store.kill_after(requests);
        survived = work(&victim).await;
        check(&world, &model, &format!("killed after {requests} requests")).await;
        let heir = world.another(2).await;
        assert!(work(&heir).await, "finished after {requests} requests");
        check(&world, &model, "finished").await;
        check(&heir, &model, "finished, in the process that did").await;
        requests += 1;
    }
    assert!(requests > 20, "{requests} requests");
}

#[tokio::test]
async fn a_kill_between_any_two_requests_loses_nothing() {
    killed_everywhere(async |process: &World| {
        let tables = &process.tables;
        let done = async {
            add(tables, "test", vec![lexicon(1)]).await.ok()?;
            let flushed = flush(tables, "test", FlushSettings::at_once()).await.ok()?;
            let settings = ReprojectSettings { bytes_max: 1 };
            while reproject_once(tables, "test", &settings)
                .await
                .ok()?
                .is_some()
            {}
            Some(flushed)
        };
        done.await.is_some()
    })
    .await;
}

/// Random histories; 600 took no failure when this was written, and as many seconds.
const HISTORIES: u64 = 40;

/// How often what the random histories are made for occurred in them.
#[derive(Debug, Default)]
struct Occurred {
    moved: u64,
    refused: u64,
    views_between: u64,
    races: u64,
    kills: u64,
}

struct History {
    rng: StdRng,
    world: World,
    model: Model,
    processes: u64,
    occurred: Occurred,
}

impl History {
    async fn new(seed: u64) -> Self {
        let world = World::new().await;
        world.store.seed(
            seed,
            Rates {
                after: 0.02,
                yields: 3,
                ..Rates::default()
            },
        );
        Self {
            rng: StdRng::seed_from_u64(seed),
            world,
            model: Model::default(),
            processes: 0,
            occurred: Occurred::default(),
        }
    }

    fn change(&mut self) -> Change {
        let (repo, rev) = (self.rng.random_range(0..3), self.rng.random_range(1..12));
        if self.rng.random_bool(0.04) {
            return floor(repo, rev);
        }
        let collection = if self.rng.random_bool(0.8) {
            NOTE
        } else {
            OTHER
        };
        let rkey = ["self", "3mptbyplj5d2a", "a"][self.rng.random_range(0..3)];
        let record = note(collection, repo, rkey, rev);
        Change::Record(if self.rng.random_bool(0.25) {
            deleted(record)
        } else {
            record
        })
    }

    async fn another(&mut self) -> World {
        self.processes += 1;
        self.world.another(self.processes).await
    }

    async fn step(&mut self) {
        match self.rng.random_range(0..12) {
            0..=3 => {
                let changes = (0..self.rng.random_range(1..6)).map(|_| self.change());
                let changes = changes.collect();
                tell(&mut self.world, &mut self.model, changes).await;
            }
            4..=5 => {
                let mut other = self.another().await;
                let changes = (0..self.rng.random_range(1..4)).map(|_| self.change());
                let changes = changes.collect();
                tell(&mut other, &mut self.model, changes).await;
                self.world.flush().await;
            }
            6 => {
                let twos = MergeSettings {
                    fan_in: 2,
                    ..MergeSettings::default()
                };
                merge_once(&self.world.tables, "m", &twos).await.unwrap();
            }
            7 => self.occurred.moved += reproject(&self.world, 1).await.map_or(0, |m| m.records),
            8..=9 => Box::pin(self.race()).await,
            10 => self.kill().await,
            _ => {
                let version = self.rng.random_range(1..=2);
                let added = add(&self.world.tables, "a", vec![lexicon(version)]).await;
                assert!(matches!(added, Ok(_) | Err(AddError::Unknown { .. })));
            }
        }
        let view = ReadView::open(&self.world.tables).await.unwrap();
        let is_between = waiting_of(view.segments()).next().is_some();
        self.occurred.views_between += u64::from(is_between);
        check(&self.world, &self.model, "in between").await;
    }

    /// Two of add, flush, merge and re-projection at once, by two processes.
    async fn race(&mut self) {
        let other = self.another().await;
        let (here, there) = (self.rng.random_range(0..4), self.rng.random_range(0..4));
        let (first, second) = tokio::join!(work(&self.world, here), work(&other, there));
        self.occurred.races += 1;
        self.occurred.refused += u64::from(first.unwrap()) + u64::from(second.unwrap());
    }

    /// A process that dies in the middle of its work.
    async fn kill(&mut self) {
        let victim = self.another().await;
        victim.store.kill_after(self.rng.random_range(3..40));
        let what = self.rng.random_range(0..4);
        self.occurred.kills += u64::from(work(&victim, what).await.is_err());
    }
}

/// One piece of work; says whether it was refused because of what others did meanwhile.
async fn work(world: &World, which: usize) -> Result<bool, String> {
    let tables = &world.tables;
    let told = |error: &dyn std::error::Error| error.to_string();
    match which {
        0 => match add(tables, "a", vec![lexicon(1)]).await {
            Ok(_) | Err(AddError::Unknown { .. }) => Ok(false),
            Err(error) => Err(told(&error)),
        },
        1 => {
            let flushed = flush(tables, "f", FlushSettings::at_once()).await;
            let flushed = flushed.map_err(|error| told(&error))?;
            Ok(flushed.root.is_none() && flushed.more)
        }
        2 => {
            let twos = MergeSettings {
                fan_in: 2,
                ..MergeSettings::default()
            };
            let merged = merge_once(tables, "m", &twos).await;
            merged.map(|_| false).map_err(|error| told(&error))
        }
        _ => {
            let settings = ReprojectSettings { bytes_max: 4_000 };
            let moved = reproject_once(tables, "r", &settings).await;
            moved.map(|_| false).map_err(|error| told(&error))
        }
    }
}

async fn history(seed: u64) -> Occurred {
    let mut history = History::new(seed).await;
    for _ in 0..24 {
        Box::pin(history.step()).await;
    }
    history.world.flush().await;
    while let Some(moved) = reproject(&history.world, 1).await {
        history.occurred.moved += moved.records;
    }
    check(&history.world, &history.model, "at the end").await;
    history.world.store.calm();
    check(&history.another().await, &history.model, "in a new process").await;
    history.occurred
}

#[tokio::test]
async fn any_interleaving_shows_every_record_once() {
    let first = std::env::var("ALLUVIUM_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(0);
    let mut total = Occurred::default();
    for seed in first..first + HISTORIES {
        let ran = tokio::spawn(history(seed)).await;
        let occurred = ran.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        total.moved += occurred.moved;
        total.refused += occurred.refused;
        total.views_between += occurred.views_between;
        total.races += occurred.races;
        total.kills += occurred.kills;
    }
    println!("{HISTORIES} histories: {total:?}");
    for (name, count) in [
        ("records moved", total.moved),
        ("flushes refused", total.refused),
        ("views while records wait", total.views_between),
        ("races", total.races),
        ("kills", total.kills),
    ] {
        assert!(count >= HISTORIES / 8, "{name}: {count}");
    }
}
