//! What sources said of accounts: words on their states and hosts, from segments and from a tail.
//!
//! Words that were superseded may be among them: a law that takes the highest is not changed by lower ones.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Int64Type;
use crdt::merge::{is_told_by, rank};
use futures::TryStreamExt;

use super::dids::{Answers, ByDid, Dids};
use crate::error::TablesError;
use crate::key::{KeyError, orders};
use crate::schema::TableDef;
use crate::segment::{Scalar, SegmentEntry, segment_error, visit_rows};
use crate::view::Tables;

/// The columns that a word is read from, beside those of its order.
const COLUMNS: [&str; 3] = ["did", "source", "seq"];
const ACTIVE: &str = "active";
const PDS: &str = "pds";

/// One source's word on one account, where it said `said`.
#[derive(Clone, Debug)]
pub(super) struct Word<T> {
    source: Arc<str>,
    /// Where it stands among the source's words, encoded.
    order: Vec<u8>,
    /// Whether it has a sequence number: answers of those who were asked have none.
    has_seq: bool,
    said: T,
}

impl StateWord {
    /// Whether it says that the account is active.
    pub(super) fn is_active(&self) -> bool {
        self.said
    }
}

/// Whether the account is active.
pub(super) type StateWord = Word<bool>;
/// The URL of the account's host.
pub(super) type HostWord = Word<Option<Arc<str>>>;

/// Reads what a word says from a column.
pub(super) trait Said: Clone + Send + Sync + 'static {
    /// The column.
    const COLUMN: &'static str;

    /// What row `row` says.
    fn read(batch: &RecordBatch, row: usize) -> Result<Self, KeyError>;
}

impl Said for bool {
    const COLUMN: &'static str = ACTIVE;

    fn read(batch: &RecordBatch, row: usize) -> Result<Self, KeyError> {
        Ok(booleans(batch, ACTIVE)?.value(row))
    }
}

impl Said for Option<Arc<str>> {
    const COLUMN: &'static str = PDS;

    fn read(batch: &RecordBatch, row: usize) -> Result<Self, KeyError> {
        let pds = texts(batch, PDS)?;
        Ok((!pds.is_null(row)).then(|| Arc::from(pds.value(row))))
    }
}

/// The words in some rows of the table `def`.
pub(super) fn words_of<T: Said>(
    def: &TableDef,
    batch: &RecordBatch,
    rows: Range<usize>,
) -> Result<Vec<Word<T>>, TablesError> {
    let batch = batch.slice(rows.start, rows.len());
    let (sources, seqs) = (texts(&batch, "source")?, ints(&batch, "seq")?);
    let orders = orders(&batch, def.order)?;
    let word = |row| {
        Ok(Word {
            source: Arc::from(sources.value(row)),
            order: orders.get(row).to_vec(),
            has_seq: !seqs.is_null(row),
            said: T::read(&batch, row)?,
        })
    };
    (0..batch.num_rows()).map(word).collect()
}

/// The words in all rows of a batch, by did.
pub(super) fn words_by_did<T: Said>(
    def: &TableDef,
    batch: &RecordBatch,
) -> Result<BTreeMap<Arc<str>, Vec<Word<T>>>, TablesError> {
    let mut words: BTreeMap<Arc<str>, Vec<Word<T>>> = BTreeMap::new();
    let dids = texts(batch, "did")?;
    for (row, word) in words_of(def, batch, 0..batch.num_rows())?
        .into_iter()
        .enumerate()
    {
        words
            .entry(Arc::from(dids.value(row)))
            .or_default()
            .push(word);
    }
    Ok(words)
}

/// What a segment of `def` says of `wanted`, of which `known` is known already.
pub(super) async fn answers<T: Said>(
    tables: &Tables,
    def: &TableDef,
    entry: &Arc<SegmentEntry>,
    wanted: &Dids,
    known: &Answers<Vec<Word<T>>>,
) -> Result<Answers<Vec<Word<T>>>, TablesError> {
    let missing = known.missing(wanted);
    let mut found: Vec<ByDid<Vec<Word<T>>>> = Vec::new();
    if !missing.is_empty() {
        let reader = tables.cache().reader(tables.bucket(), entry).await?;
        let mut columns = COLUMNS.to_vec();
        columns.push(T::COLUMN);
        columns.extend(def.order.iter().filter(|name| !COLUMNS.contains(name)));
        visit_rows(&reader, "did", &columns, &missing, |visited| {
            let words = words_of(def, visited.block, visited.rows)?;
            found.push((Arc::clone(&missing[visited.probe]), words));
            Ok(())
        })
        .await?;
        join_blocks(&mut found);
    }
    Ok(known.turned(wanted, found).0)
}

/// Joins what several blocks hold of one did.
fn join_blocks<T>(found: &mut Vec<ByDid<Vec<T>>>) {
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    found.dedup_by(|(did, words), (kept_did, kept)| {
        let is_same = did == kept_did;
        if is_same {
            kept.append(words);
        }
        is_same
    });
}

/// The rows of a segment of account states that are not active, each with its did, in row order. Reads two columns of
/// it, or nothing if its statistics say that there are none.
pub(super) async fn inactive(
    tables: &Tables,
    entry: &Arc<SegmentEntry>,
) -> Result<Vec<(u32, Arc<str>)>, TablesError> {
    let least = entry
        .columns
        .get(ACTIVE)
        .and_then(|stats| stats.min.as_ref());
    if matches!(least, Some(Scalar::Boolean(true))) {
        return Ok(Vec::new());
    }
    let reader = tables.cache().reader(tables.bucket(), entry).await?;
    let mut stream = reader.stream(Some(&["did", ACTIVE]), None)?;
    let failed = |source| segment_error(&entry.path, source);
    let (mut inactive, mut first_row) = (Vec::new(), 0);
    while let Some(batch) = stream.try_next().await.map_err(failed)? {
        let (dids, active) = (texts(&batch, "did")?, booleans(&batch, ACTIVE)?);
        for row in (0..batch.num_rows()).filter(|row| !active.value(*row)) {
            let place = u32::try_from(first_row + row).unwrap_or(u32::MAX);
            inactive.push((place, Arc::from(dids.value(row))));
        }
        first_row += batch.num_rows();
    }
    Ok(inactive)
}

/// Each source's latest word.
fn latest<'a, T>(words: impl IntoIterator<Item = &'a Word<T>>) -> Vec<&'a Word<T>> {
    let mut by_source: BTreeMap<&str, &Word<T>> = BTreeMap::new();
    for word in words {
        let latest = by_source.entry(&word.source).or_insert(word);
        if word.order > latest.order {
            *latest = word;
        }
    }
    by_source.into_values().collect()
}

/// What all words on an account's state agree on; none if its host has to be known to tell.
pub(super) fn agreed(words: &[&StateWord]) -> Option<bool> {
    let same = |words: &[&StateWord]| {
        let first = words.first()?.said;
        words.iter().all(|word| word.said == first).then_some(first)
    };
    // Nearly always all say the same, the superseded ones too.
    same(words).or_else(|| same(&latest(words.iter().copied())))
}

/// Whether the account is active, as [`crdt::merge::shown_account`] has it.
pub(super) fn shown_active<'a>(
    words: impl IntoIterator<Item = &'a StateWord>,
    host: Option<&str>,
) -> Option<bool> {
    let shown = words.into_iter().max_by_key(|word| {
        let knows = is_told_by(&word.source, host);
        rank(knows, word.order.as_slice(), Arc::clone(&word.source))
    });
    shown.map(|word| word.said)
}

/// The account's host, as [`crdt::merge::shown_host`] has it.
pub(super) fn shown_host<'a>(words: impl IntoIterator<Item = &'a HostWord>) -> Option<&'a str> {
    let told = latest(words).into_iter().filter(|word| word.said.is_some());
    let shown = told.max_by_key(|word| {
        rank(
            !word.has_seq,
            word.order.as_slice(),
            Arc::clone(&word.source),
        )
    });
    shown.and_then(|word| word.said.as_deref())
}

/// The text column `name`.
pub(super) fn texts<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a StringArray, KeyError> {
    let column = batch.column_by_name(name);
    column
        .and_then(|array| array.as_string_opt())
        .ok_or_else(|| missing(name))
}

fn ints<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a Int64Array, KeyError> {
    let column = batch.column_by_name(name);
    column
        .and_then(|array| array.as_primitive_opt::<Int64Type>())
        .ok_or_else(|| missing(name))
}

fn booleans<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a BooleanArray, KeyError> {
    let column = batch.column_by_name(name);
    column
        .and_then(|array| array.as_boolean_opt())
        .ok_or_else(|| missing(name))
}

fn missing(name: &str) -> KeyError {
    KeyError::NoColumn {
        column: name.to_owned(),
    }
}
