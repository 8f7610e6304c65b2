//! Columns of a section: dictionaries, missing values, and the checks that all kinds share.
//!
//! Every reader here takes the number of rows that the section claims and gives exactly so many values, or the error
//! that names the column.

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::Arc;

use atproto::{Cid, Tid};
use bytes::Bytes;

use super::{DecodeError, proto};
use crate::change::{Delivery, Micros};
use crate::codes;

/// Collects a column of repeating strings.
#[derive(Default)]
pub(super) struct Dictionary<'a> {
    numbers: HashMap<&'a str, u32>,
    strings: proto::Strings,
}

impl<'a> Dictionary<'a> {
    pub(super) fn push(&mut self, value: &'a str) {
        let next = u32::try_from(self.strings.values.len()).unwrap_or(u32::MAX);
        let number = *self.numbers.entry(value).or_insert_with(|| {
            self.strings.values.push(value.to_owned());
            next
        });
        self.strings.index.push(number);
    }

    pub(super) fn finish(self) -> Option<proto::Strings> {
        Some(self.strings)
    }
}

impl<'a> FromIterator<&'a str> for Dictionary<'a> {
    fn from_iter<I: IntoIterator<Item = &'a str>>(values: I) -> Self {
        let mut dictionary = Self::default();
        values.into_iter().for_each(|value| dictionary.push(value));
        dictionary
    }
}

pub(super) fn optional_strings<'a>(
    values: impl Iterator<Item = Option<&'a str>>,
) -> Option<proto::OptionalStrings> {
    let mut column = proto::OptionalStrings::default();
    for value in values {
        column.present.push(value.is_some());
        column.values.push(value.unwrap_or_default().to_owned());
    }
    Some(column)
}

pub(super) fn optional_ints(
    values: impl Iterator<Item = Option<i64>>,
) -> Option<proto::OptionalInts> {
    let mut column = proto::OptionalInts::default();
    for value in values {
        column.present.push(value.is_some());
        column.values.push(value.unwrap_or_default());
    }
    Some(column)
}

pub(super) fn optional_tids(
    values: impl Iterator<Item = Option<Tid>>,
) -> Option<proto::OptionalTids> {
    let mut column = proto::OptionalTids::default();
    for value in values {
        column.present.push(value.is_some());
        column.values.push(value.map_or(0, Tid::value));
    }
    Some(column)
}

pub(super) fn optional_cid(cid: Option<&Cid>) -> Bytes {
    cid.map_or_else(Bytes::new, |cid| Bytes::copy_from_slice(cid.as_bytes()))
}

pub(super) fn deliveries<'a>(
    values: impl Iterator<Item = &'a Delivery> + Clone,
) -> Option<proto::Deliveries> {
    Some(proto::Deliveries {
        source: values
            .clone()
            .map(|d| &*d.source)
            .collect::<Dictionary<'_>>()
            .finish(),
        seq: optional_ints(values.clone().map(|d| d.seq)),
        indexed_at: values.clone().map(|d| d.indexed_at.0).collect(),
        time: optional_ints(values.clone().map(|d| d.time.map(|t| t.0))),
        verification: values
            .map(|d| u32::from(codes::verification(d.verification)))
            .collect(),
    })
}

/// `values` if they are as many as `rows`.
pub(super) fn column<T>(
    column: &'static str,
    values: Vec<T>,
    rows: usize,
) -> Result<Vec<T>, DecodeError> {
    if values.len() == rows {
        Ok(values)
    } else {
        Err(DecodeError::Length {
            column,
            expected: rows,
            found: values.len(),
        })
    }
}

/// `values`, as many as `rows`, each through `convert`.
pub(super) fn converted<T, U>(
    name: &'static str,
    values: Vec<T>,
    rows: usize,
    convert: impl Fn(T) -> Option<U>,
) -> Result<Vec<U>, DecodeError> {
    let values = column(name, values, rows)?.into_iter().enumerate();
    values
        .map(|(row, value)| convert(value).ok_or(DecodeError::Value { column: name, row }))
        .collect()
}

pub(super) fn parsed<T: FromStr>(
    name: &'static str,
    values: Vec<String>,
    rows: usize,
) -> Result<Vec<T>, DecodeError> {
    converted(name, values, rows, |value| value.parse().ok())
}

/// Like [`parsed`]; an empty string is none.
pub(super) fn parsed_or_empty<T: FromStr>(
    name: &'static str,
    values: Vec<String>,
    rows: usize,
) -> Result<Vec<Option<T>>, DecodeError> {
    converted(name, values, rows, |value| none_if_empty(&value))
}

/// A dictionary's rows, each distinct value parsed once.
pub(super) fn dictionary<T: Clone>(
    name: &'static str,
    strings: Option<proto::Strings>,
    rows: usize,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<Vec<T>, DecodeError> {
    let strings = strings.unwrap_or_default();
    let count = strings.values.len();
    let values = converted(name, strings.values, count, |value| parse(&value))?;
    converted(name, strings.index, rows, |number| {
        values.get(usize::try_from(number).ok()?).cloned()
    })
}

/// `None` for a malformed value, `Some(None)` for the empty one.
#[allow(
    clippy::option_option,
    reason = "malformed and absent are different answers"
)]
pub(super) fn none_if_empty<T: FromStr>(value: &str) -> Option<Option<T>> {
    if value.is_empty() {
        Some(None)
    } else {
        value.parse().ok().map(Some)
    }
}

pub(super) fn strings_or_none(
    name: &'static str,
    strings: Option<proto::OptionalStrings>,
    rows: usize,
) -> Result<Vec<Option<String>>, DecodeError> {
    let strings = strings.unwrap_or_default();
    let pairs = present(name, strings.values, strings.present, rows)?;
    Ok(pairs.collect())
}

pub(super) fn ints_or_none(
    name: &'static str,
    ints: Option<proto::OptionalInts>,
    rows: usize,
) -> Result<Vec<Option<i64>>, DecodeError> {
    let ints = ints.unwrap_or_default();
    let pairs = present(name, ints.values, ints.present, rows)?;
    Ok(pairs.collect())
}

pub(super) fn tids_or_none(
    name: &'static str,
    tids: Option<proto::OptionalTids>,
    rows: usize,
) -> Result<Vec<Option<Tid>>, DecodeError> {
    let values = tids.unwrap_or_default();
    let pairs = present(name, values.values, values.present, rows)?;
    Ok(pairs.map(|value| value.map(Tid::from_value)).collect())
}

pub(super) fn tids(
    name: &'static str,
    values: Vec<u64>,
    rows: usize,
) -> Result<Vec<Tid>, DecodeError> {
    let values = column(name, values, rows)?;
    Ok(values.into_iter().map(Tid::from_value).collect())
}

pub(super) fn cids(
    name: &'static str,
    values: Vec<Bytes>,
    rows: usize,
) -> Result<Vec<Cid>, DecodeError> {
    converted(name, values, rows, |value| Cid::from_bytes(&value).ok())
}

pub(super) fn cids_or_none(
    name: &'static str,
    values: Vec<Bytes>,
    rows: usize,
) -> Result<Vec<Option<Cid>>, DecodeError> {
    converted(name, values, rows, |value| {
        if value.is_empty() {
            Some(None)
        } else {
            Cid::from_bytes(&value).ok().map(Some)
        }
    })
}

pub(super) fn decode_deliveries(
    columns: Option<proto::Deliveries>,
    rows: usize,
) -> Result<Vec<Delivery>, DecodeError> {
    let columns = columns.unwrap_or_default();
    let source = dictionary("source", columns.source, rows, |s| {
        Some(Arc::<str>::from(s))
    })?;
    let seq = ints_or_none("seq", columns.seq, rows)?;
    let indexed_at = column("indexed_at", columns.indexed_at, rows)?;
    let time = ints_or_none("time", columns.time, rows)?;
    let verification = converted(
        "verification",
        columns.verification,
        rows,
        codes::to_verification,
    )?;
    Ok(source
        .into_iter()
        .zip(seq)
        .zip(indexed_at)
        .zip(time)
        .zip(verification)
        .map(
            |((((source, seq), indexed_at), time), verification)| Delivery {
                source,
                seq,
                indexed_at: Micros(indexed_at),
                time: time.map(Micros),
                verification,
            },
        )
        .collect())
}

/// Values with those that are not present as none; such a value must be the default, or the encoding is no function.
fn present<T: Default + PartialEq>(
    name: &'static str,
    values: Vec<T>,
    present: Vec<bool>,
    rows: usize,
) -> Result<impl Iterator<Item = Option<T>>, DecodeError> {
    let values = column(name, values, rows)?;
    let present = column(name, present, rows)?;
    let stray = |(value, present): (&T, &bool)| !present && *value != T::default();
    if let Some(row) = values.iter().zip(&present).position(stray) {
        return Err(DecodeError::Value { column: name, row });
    }
    let pairs = values.into_iter().zip(present);
    Ok(pairs.map(|(value, present)| present.then_some(value)))
}
