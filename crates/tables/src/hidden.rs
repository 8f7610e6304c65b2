//! Which accounts are hidden, and which rows are theirs: content that no answer holds while its account is not active.
//!
//! Hiding is reversible and stands in no segment: it is a function of what the sources say of accounts
//! ([`crdt::merge::shown_account`]), worked out for a view when the first table of records is scanned. Merges and
//! flushes never see it. States are those of the segments and tail that are given: a view of an older version takes
//! those of the newest, since an account state applies to every view.
//!
//! What immutable segments hold is kept in memory: the inactive states of each, what it says of the accounts that were
//! ever asked for, and which of its rows are theirs. So a scan that finds nothing new asks the store for nothing, and
//! one changed state is looked up alone.

mod dids;
mod rows;
mod words;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use moka::future::Cache as Moka;
use roaring::RoaringBitmap;
use storage::Position;

use crdt::section::kind;

use self::dids::{Answers, ByDid};
use self::rows::HiddenRows;
use self::words::{HostWord, Said, StateWord, Word};
use crate::error::TablesError;
use crate::floors::Floors;
use crate::manifest::SegmentSet;
use crate::schema::{Catalog, TableDef, TableName};
use crate::segment::SegmentEntry;
use crate::tail::Tail;
use crate::view::{Tables, physical_name};

pub use self::dids::Dids;

/// The accounts whose records are in no answer. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct HiddenAccounts {
    dids: Dids,
}

impl HiddenAccounts {
    /// Those that the states and identities in `segments` and `tail` hide.
    ///
    /// # Errors
    /// [`TablesError`] if a segment can't be read.
    pub async fn of(
        tables: &Tables,
        segments: &SegmentSet,
        tail: &Tail,
    ) -> Result<Self, TablesError> {
        let catalog = tables.catalog(segments).await?;
        let told = Told {
            tables,
            states: Words::new(&catalog, "account_states", segments, tail)?,
            hosts: Words::new(&catalog, "identities", segments, tail)?,
        };
        let inputs = told.inputs(tail);
        let memo = tables.cache().hidden();
        let known = memo.last();
        if known.inputs == inputs {
            return Ok(known.accounts);
        }
        let candidates = told.candidates().await?.or_same(&known.candidates);
        let dids = told
            .hidden(&candidates)
            .await?
            .or_same(&known.accounts.dids);
        let accounts = Self { dids };
        memo.remember(Last {
            inputs,
            candidates,
            accounts: accounts.clone(),
        });
        Ok(accounts)
    }

    /// Their dids.
    #[must_use]
    pub fn dids(&self) -> &Dids {
        &self.dids
    }

    /// The rows of a tail's batch that are neither in `outdated` nor, where there is a did, theirs.
    ///
    /// # Errors
    /// [`TablesError`] if the batch can't be filtered.
    pub(crate) fn shown(
        &self,
        rows: &RecordBatch,
        outdated: &RoaringBitmap,
    ) -> Result<RecordBatch, TablesError> {
        let dids = match self.dids.is_empty() {
            true => None,
            false => Some(words::texts(rows, "did")?),
        };
        let is_shown = |row: usize| {
            let is_theirs = dids.is_some_and(|dids| self.dids.contains(dids.value(row)));
            !is_theirs && !outdated.contains(u32::try_from(row).unwrap_or(u32::MAX))
        };
        let shown: BooleanArray = (0..rows.num_rows())
            .map(|row| Some(is_shown(row)))
            .collect();
        Ok(filter_record_batch(rows, &shown)?)
    }

    /// Their rows in each of some segments of one table of records, in the segments' order.
    ///
    /// # Errors
    /// [`TablesError`] if a segment can't be read.
    pub async fn rows_of(
        &self,
        tables: &Tables,
        segments: &[Arc<SegmentEntry>],
    ) -> Result<Vec<Arc<RoaringBitmap>>, TablesError> {
        rows::rows_of(tables, &self.dids, segments).await
    }
}

/// What is known of segments that were asked: decoded, by budget, never stale.
#[derive(Debug)]
pub(crate) struct HiddenMemo {
    states: Moka<String, Arc<SegmentStates>>,
    hosts: Moka<String, Arc<Answers<Vec<HostWord>>>>,
    rows: Moka<String, Arc<HiddenRows>>,
    last: Mutex<Last>,
}

/// What was worked out last, and of what.
#[derive(Clone, Debug, Default)]
struct Last {
    inputs: Inputs,
    candidates: Dids,
    accounts: HiddenAccounts,
}

/// What hidden accounts are a function of: segments with their marks, and log objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Inputs {
    segments: Vec<(String, Option<(String, u64)>)>,
    tail: Vec<Position>,
}

/// A segment of account states: its rows that are not active, and what it says of the accounts that were asked for.
#[derive(Debug, Default)]
struct SegmentStates {
    inactive: Arc<Vec<(u32, Arc<str>)>>,
    answers: Answers<Vec<StateWord>>,
}

impl HiddenMemo {
    /// An empty one of about `bytes_max`.
    pub(crate) fn new(bytes_max: u64) -> Self {
        let weight =
            |path: &str, bytes: usize| u32::try_from(path.len() + bytes).unwrap_or(u32::MAX);
        let words = |count: usize| count * 2 * size_of::<(Arc<str>, StateWord)>();
        Self {
            states: Moka::builder()
                .max_capacity(bytes_max / 4)
                .weigher(move |path: &String, states: &Arc<SegmentStates>| {
                    let count = states.inactive.len() + states.answers.found().len();
                    weight(path, words(count))
                })
                .build(),
            hosts: Moka::builder()
                .max_capacity(bytes_max / 4)
                .weigher(move |path: &String, hosts: &Arc<Answers<Vec<HostWord>>>| {
                    weight(path, words(hosts.found().len()))
                })
                .build(),
            rows: Moka::builder()
                .max_capacity(bytes_max / 2)
                .weigher(move |path: &String, rows: &Arc<HiddenRows>| weight(path, rows.bytes()))
                .build(),
            last: Mutex::default(),
        }
    }

    fn last(&self) -> Last {
        self.last
            .lock()
            .map(|last| last.clone())
            .unwrap_or_default()
    }

    fn remember(&self, newer: Last) {
        // A lock that a panic poisoned only costs the next view the work.
        if let Ok(mut last) = self.last.lock() {
            *last = newer;
        }
    }
}

/// The rows of one table of words: its segments, and its rows in the tail.
struct Words<'a, T> {
    def: &'a TableDef,
    segments: &'a [Arc<SegmentEntry>],
    tail: BTreeMap<Arc<str>, Vec<Word<T>>>,
}

impl<'a, T: Said> Words<'a, T> {
    fn new(
        catalog: &'a Catalog,
        table: &str,
        segments: &'a SegmentSet,
        tail: &Tail,
    ) -> Result<Self, TablesError> {
        let name = TableName::new("atproto", table);
        let def = catalog
            .table(&name)
            .ok_or_else(|| TablesError::UnknownTable {
                table: name.to_string(),
            })?;
        let rows = tail.table(catalog, def, &Floors::default())?.rows;
        Ok(Self {
            def,
            segments: segments.of_table(&physical_name(def)),
            tail: words::words_by_did(def, &rows.batch)?,
        })
    }
}

/// All that sources say of accounts.
struct Told<'a> {
    tables: &'a Tables,
    states: Words<'a, bool>,
    hosts: Words<'a, Option<Arc<str>>>,
}

impl Told<'_> {
    fn inputs(&self, tail: &Tail) -> Inputs {
        let segments = self.states.segments.iter().chain(self.hosts.segments);
        let marks = |entry: &SegmentEntry| {
            let bitmap = &entry.marks.as_ref()?.bitmap;
            Some((bitmap.path.clone(), bitmap.offset))
        };
        let told = tail
            .objects()
            .iter()
            .filter(|object| object.has_any(&[kind::ACCOUNTS, kind::IDENTITIES]));
        Inputs {
            segments: segments
                .map(|entry| (entry.path.clone(), marks(entry)))
                .collect(),
            tail: told.map(|object| object.position()).collect(),
        }
    }

    /// The accounts of which some source says, and did not take back, that they are not active.
    async fn candidates(&self) -> Result<Dids, TablesError> {
        let mut candidates = Vec::new();
        for entry in self.states.segments {
            let known = self.states_of(entry).await?;
            let marks = self
                .tables
                .cache()
                .marks(self.tables.bucket(), entry)
                .await?;
            let standing = known
                .inactive
                .iter()
                .filter(|(row, _)| !marks.contains(*row));
            candidates.extend(standing.map(|(_, did)| Arc::clone(did)));
        }
        let in_tail = &self.states.tail;
        candidates.extend(
            in_tail
                .iter()
                .filter(|(_, words)| words.iter().any(|word| !word.is_active()))
                .map(|(did, _)| Arc::clone(did)),
        );
        Ok(Dids::new(candidates))
    }

    async fn states_of(
        &self,
        entry: &Arc<SegmentEntry>,
    ) -> Result<Arc<SegmentStates>, TablesError> {
        let memo = &self.tables.cache().hidden().states;
        if let Some(known) = memo.get(&entry.path).await {
            return Ok(known);
        }
        let states = Arc::new(SegmentStates {
            inactive: Arc::new(words::inactive(self.tables, entry).await?),
            answers: Answers::default(),
        });
        memo.insert(entry.path.clone(), Arc::clone(&states)).await;
        Ok(states)
    }

    /// Those of `candidates` that are hidden.
    async fn hidden(&self, candidates: &Dids) -> Result<Dids, TablesError> {
        if candidates.is_empty() {
            return Ok(Dids::default());
        }
        let mut known = Vec::with_capacity(self.states.segments.len());
        for entry in self.states.segments {
            known.push(self.asked_states(entry, candidates).await?);
        }
        let segments: Vec<_> = known.iter().map(|states| states.answers.found()).collect();
        let words = by_candidate(candidates, &segments, &self.states.tail);
        let (mut hidden, mut contested) = (Vec::new(), Vec::new());
        for (did, words) in candidates.as_slice().iter().zip(&words) {
            match words::agreed(words) {
                Some(true) => {}
                Some(false) => hidden.push(Arc::clone(did)),
                None => contested.push((did, words)),
            }
        }
        let asked = Dids::new(contested.iter().map(|(did, _)| Arc::clone(did)).collect());
        let hosts = self.hosts_of(&asked).await?;
        for ((did, words), host) in contested.into_iter().zip(&hosts) {
            let shown = words::shown_active(words.iter().copied(), host.as_deref());
            if shown == Some(false) {
                hidden.push(Arc::clone(did));
            }
        }
        Ok(Dids::new(hidden))
    }

    async fn asked_states(
        &self,
        entry: &Arc<SegmentEntry>,
        candidates: &Dids,
    ) -> Result<Arc<SegmentStates>, TablesError> {
        let known = self.states_of(entry).await?;
        if known.answers.are_of(candidates) {
            return Ok(known);
        }
        let (tables, def) = (self.tables, self.states.def);
        let states = Arc::new(SegmentStates {
            inactive: Arc::clone(&known.inactive),
            answers: words::answers(tables, def, entry, candidates, &known.answers).await?,
        });
        let memo = &tables.cache().hidden().states;
        memo.insert(entry.path.clone(), Arc::clone(&states)).await;
        Ok(states)
    }

    /// The hosts of `dids`, in their order, where anything is known of them.
    async fn hosts_of(&self, dids: &Dids) -> Result<Vec<Option<String>>, TablesError> {
        if dids.is_empty() {
            return Ok(Vec::new());
        }
        let memo = &self.tables.cache().hidden().hosts;
        let mut known = Vec::with_capacity(self.hosts.segments.len());
        for entry in self.hosts.segments {
            let mut answers = memo.get(&entry.path).await.unwrap_or_default();
            if !answers.are_of(dids) {
                let (tables, def) = (self.tables, self.hosts.def);
                answers = Arc::new(words::answers(tables, def, entry, dids, &answers).await?);
                memo.insert(entry.path.clone(), Arc::clone(&answers)).await;
            }
            known.push(answers);
        }
        let segments: Vec<_> = known.iter().map(|answers| answers.found()).collect();
        let words = by_candidate(dids, &segments, &self.hosts.tail);
        let host =
            |words: &Vec<&HostWord>| words::shown_host(words.iter().copied()).map(str::to_owned);
        Ok(words.iter().map(host).collect())
    }
}

/// All words on each of `dids`, in their order.
fn by_candidate<'a, T>(
    dids: &Dids,
    segments: &[&'a [ByDid<Vec<Word<T>>>]],
    tail: &'a BTreeMap<Arc<str>, Vec<Word<T>>>,
) -> Vec<Vec<&'a Word<T>>> {
    let mut all: Vec<Vec<&Word<T>>> = vec![Vec::new(); dids.as_slice().len()];
    for found in segments {
        let mut found = found.iter().peekable();
        for (did, words) in dids.as_slice().iter().zip(&mut all) {
            while found.next_if(|(other, _)| other < did).is_some() {}
            if let Some((_, more)) = found.next_if(|(other, _)| other == did) {
                words.extend(more);
            }
        }
    }
    if !tail.is_empty() {
        for (did, words) in dids.as_slice().iter().zip(&mut all) {
            words.extend(tail.get(did).into_iter().flatten());
        }
    }
    all
}

#[cfg(test)]
mod tests;
