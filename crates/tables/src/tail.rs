//! The tail of the log: changes that are durable and not yet in segments, merged into rows for each table.
//!
//! Invariant: what a tail gives for a table is the merge of all its objects' changes of that table, less what the
//! tail's own repo floors cover. How those rows stand to the segments is [`crate::judge`]'s.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock};

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::concat_batches;
use crdt::{Change, MergeKey, Order, section::kind};
use storage::{LogObject, Position, Section, Seq, WriterId};

use crate::error::TablesError;
use crate::floors::Floors;
use crate::key::{Keys, keys, orders};
use crate::rows;
use crate::schema::{Catalog, TableDef, TableKind};
use crate::shred::{RecordRow, ShredError, Shredder};

/// One log object of a tail; its sections are decoded when first asked for.
#[derive(Debug)]
pub struct TailObject {
    position: Position,
    created_us: i64,
    bytes: usize,
    sections: Vec<TailSection>,
}

#[derive(Debug)]
struct TailSection {
    section: Section,
    changes: OnceLock<Result<Arc<Vec<Change>>, Arc<TablesError>>>,
}

impl TailObject {
    /// A log object, decoded as far as its sections.
    #[must_use]
    pub fn new(object: LogObject) -> Self {
        let sections: Vec<TailSection> = object
            .sections
            .into_iter()
            .map(|section| TailSection {
                section,
                changes: OnceLock::new(),
            })
            .collect();
        // Changes as values take some four times their columns.
        let bytes = sections
            .iter()
            .map(|section| section.section.payload.len() * 5)
            .sum::<usize>()
            + 256;
        Self {
            position: object.position,
            created_us: object.created_us,
            bytes,
            sections,
        }
    }

    /// About how much memory it takes when it is decoded.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Where it stands in the log.
    #[must_use]
    pub fn position(&self) -> Position {
        self.position
    }

    /// When it was made, µs since the epoch.
    #[must_use]
    pub fn created_us(&self) -> i64 {
        self.created_us
    }

    /// Changes in all its sections, by their own count.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.sections
            .iter()
            .map(|section| section.section.count)
            .sum()
    }

    /// The changes of all sections that `wanted` picks by kind and table.
    fn pick(
        &self,
        wanted: impl Fn(u32, &str) -> bool,
    ) -> Result<Vec<Arc<Vec<Change>>>, TablesError> {
        let mut picked = Vec::new();
        for TailSection { section, changes } in &self.sections {
            if !wanted(section.kind, &section.table) {
                continue;
            }
            let decoded = changes.get_or_init(|| {
                crdt::section::decode_section(section)
                    .map(Arc::new)
                    .map_err(|source| {
                        Arc::new(TablesError::Changes {
                            path: storage::layout::wal_object(self.position).to_string(),
                            source,
                        })
                    })
            });
            match decoded {
                Ok(changes) => picked.push(Arc::clone(changes)),
                Err(error) => {
                    return Err(TablesError::Shared {
                        source: Arc::clone(error),
                    });
                }
            }
        }
        Ok(picked)
    }

    /// Decodes every section, so that an object that can't be decoded is found before any of it is taken.
    ///
    /// # Errors
    /// [`TablesError::Changes`] for the first section that can't be.
    pub fn decode_all(&self) -> Result<(), TablesError> {
        self.pick(|_, _| true).map(drop)
    }

    /// Whether it has changes of one of these kinds of section.
    pub(crate) fn has_any(&self, kinds: &[u32]) -> bool {
        self.sections
            .iter()
            .any(|section| kinds.contains(&section.section.kind))
    }

    /// The collections of which it has records.
    fn collections(&self) -> impl Iterator<Item = &str> {
        self.sections
            .iter()
            .filter(|section| section.section.kind == kind::RECORDS)
            .map(|section| section.section.table.as_str())
    }
}

/// Rows of one table, one a key, in key order, with their keys and orders.
#[derive(Clone, Debug)]
pub struct SortedRows {
    /// The rows.
    pub batch: RecordBatch,
    /// Their keys, ascending.
    pub keys: Keys,
    /// Their orders.
    pub orders: Keys,
}

/// What a tail has for one table.
#[derive(Clone, Debug)]
pub struct TableTail {
    /// The winners that are rows.
    pub rows: SortedRows,
    /// The winners that are deletes.
    pub tombstones: Option<SortedRows>,
}

/// The changes of some objects of the log.
#[derive(Clone, Debug, Default)]
pub struct Tail {
    objects: Vec<Arc<TailObject>>,
}

impl Tail {
    /// The changes of `objects`.
    #[must_use]
    pub fn new(mut objects: Vec<Arc<TailObject>>) -> Self {
        objects.sort_by_key(|object| object.position());
        Self { objects }
    }

    /// Its log objects, by position.
    #[must_use]
    pub fn objects(&self) -> &[Arc<TailObject>] {
        &self.objects
    }

    /// The first and the last number of each writer.
    #[must_use]
    pub fn runs(&self) -> BTreeMap<WriterId, (Seq, Seq)> {
        let mut runs = BTreeMap::new();
        for object in &self.objects {
            let Position { writer, seq } = object.position();
            runs.entry(writer)
                .and_modify(|run: &mut (Seq, Seq)| run.1 = seq)
                .or_insert((seq, seq));
        }
        runs
    }

    /// The repo floors in it.
    ///
    /// # Errors
    /// [`TablesError::Changes`] if they can't be decoded.
    pub fn floors(&self) -> Result<Floors, TablesError> {
        let mut floors = Floors::default();
        for object in &self.objects {
            for changes in object.pick(|section, _| section == kind::FLOORS)? {
                for change in changes.iter() {
                    if let Change::Floor(floor) = change {
                        floors.raise(floor.did.as_str(), floor.coverage.clone(), floor.rev);
                    }
                }
            }
        }
        Ok(floors)
    }

    /// The tables of which it has changes.
    #[must_use]
    pub fn tables(&self, catalog: &Catalog) -> Vec<Arc<TableDef>> {
        let mut tables: BTreeMap<_, Arc<TableDef>> = BTreeMap::new();
        for object in &self.objects {
            for collection in object.collections() {
                let def = catalog.records_of(collection);
                tables.insert(def.name.clone(), Arc::clone(def));
            }
            for def in catalog.tables().filter(|def| !def.is_records()) {
                if object
                    .sections
                    .iter()
                    .any(|section| Some(section.section.kind) == section_kind(&def.kind))
                {
                    tables.insert(def.name.clone(), Arc::clone(def));
                }
            }
        }
        tables.into_values().collect()
    }

    /// What it has for `def`: for each key the winner, less what `floors` cover.
    ///
    /// # Errors
    /// [`TablesError::Changes`] if a section can't be decoded.
    pub fn table(
        &self,
        catalog: &Catalog,
        def: &TableDef,
        floors: &Floors,
    ) -> Result<TableTail, TablesError> {
        let wanted = |section: u32, table: &str| match &def.kind {
            TableKind::Record(_) | TableKind::Untyped => {
                section == kind::RECORDS && catalog.records_of(table).name == def.name
            }
            other => Some(section) == section_kind(other),
        };
        let mut picked = Vec::new();
        for object in &self.objects {
            picked.extend(object.pick(wanted)?);
        }
        let mut winners: HashMap<MergeKey, (Order, &Change)> = HashMap::new();
        for change in picked.iter().flat_map(|changes| changes.iter()) {
            if let Change::Record(record) = change
                && floors
                    .of(record.did.as_str(), record.collection.as_str())
                    .is_some_and(|floor| record.rev < floor)
            {
                continue;
            }
            let order = change.order();
            let winner = winners
                .entry(change.key())
                .or_insert_with(|| (order.clone(), change));
            if order > winner.0 {
                *winner = (order, change);
            }
        }
        let winners = winners.into_values().map(|(_, change)| change);
        if !def.is_records() {
            let rows = sort(rows::rows_of(def, winners)?, def.key, def.order)?;
            return Ok(TableTail {
                rows,
                tombstones: None,
            });
        }
        let (mut live, mut deleted) = (Vec::new(), Vec::new());
        for change in winners {
            let Change::Record(record) = change else {
                continue;
            };
            match RecordRow::of(record) {
                Some(row) => live.push(row),
                None => deleted.push(record),
            }
        }
        let rows = sort(shred(def, &live)?, def.key, def.order)?;
        let tombstones = sort(rows::tombstones_of(def, deleted)?, def.key, TOMBSTONE_ORDER)?;
        Ok(TableTail {
            rows,
            tombstones: Some(tombstones),
        })
    }
}

/// Rows of records, in batches as large as a shredder takes, joined.
fn shred(def: &TableDef, records: &[RecordRow<'_>]) -> Result<RecordBatch, TablesError> {
    let mut batches = Vec::new();
    let mut shredder = Shredder::new(def)?;
    for record in records {
        if matches!(shredder.push(record), Err(ShredError::Full)) {
            let full = std::mem::replace(&mut shredder, Shredder::new(def)?);
            batches.push(full.finish().batch);
            shredder.push(record)?;
        }
    }
    batches.push(shredder.finish().batch);
    Ok(concat_batches(&def.schema, &batches)?)
}

/// The section kind that holds a table's changes; records have one section a collection.
fn section_kind(table: &TableKind) -> Option<u32> {
    Some(match table {
        TableKind::Record(_) | TableKind::Untyped => return None,
        TableKind::Events => kind::EVENTS,
        TableKind::Accounts => kind::ACCOUNTS,
        TableKind::Identities => kind::IDENTITIES,
        TableKind::Heads => kind::HEADS,
        TableKind::Floors => kind::FLOORS,
        TableKind::Cursors => kind::CURSORS,
        TableKind::Notices => kind::NOTICES,
    })
}

/// The order columns of tombstones: at equal rev a delete is the smallest, and a rev alone sorts before rev and CID.
pub(crate) const TOMBSTONE_ORDER: &[&str] = &["rev"];

/// Sorts rows by key; of rows with one key the highest order stays.
fn sort(batch: RecordBatch, key: &[&str], order: &[&str]) -> Result<SortedRows, TablesError> {
    let unsorted = keys(&batch, key)?;
    let unsorted_orders = orders(&batch, order)?;
    let mut permutation: Vec<u32> =
        (0..u32::try_from(batch.num_rows()).unwrap_or(u32::MAX)).collect();
    permutation.sort_unstable_by(|&a, &b| {
        let (a, b) = (a as usize, b as usize);
        unsorted
            .get(a)
            .cmp(unsorted.get(b))
            .then_with(|| unsorted_orders.get(b).cmp(unsorted_orders.get(a)))
    });
    permutation
        .dedup_by(|later, first| unsorted.get(*later as usize) == unsorted.get(*first as usize));
    let batch = arrow::compute::take_record_batch(&batch, &UInt32Array::from(permutation))?;
    let keys = keys(&batch, key)?;
    let orders = orders(&batch, order)?;
    Ok(SortedRows {
        batch,
        keys,
        orders,
    })
}
