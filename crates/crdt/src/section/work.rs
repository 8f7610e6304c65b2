//! Cursors and notices: how far the work on sources has come, and what did not go in.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;

use atproto::Did;

use super::columns::{
    Dictionary, column, converted, dictionary, ints_or_none, optional_ints, optional_tids,
    parsed_or_empty, tids_or_none,
};
use super::{DecodeError, proto};
use crate::change::{Change, CursorChange, Micros, NoticeChange};
use crate::codes;

pub(super) fn encode_cursors(changes: &[&CursorChange]) -> Vec<u8> {
    let rows = changes.iter();
    proto::Cursors {
        source: rows.clone().map(|c| c.source.to_string()).collect(),
        slice: rows.clone().map(|c| c.slice.clone()).collect(),
        generation: rows.clone().map(|c| c.generation).collect(),
        cursor: rows.clone().map(|c| c.cursor).collect(),
        indexed_at: rows.map(|c| c.indexed_at.0).collect(),
    }
    .encode_to_vec()
}

pub(super) fn decode_cursors(payload: Bytes, rows: usize) -> Result<Vec<Change>, DecodeError> {
    let columns = proto::Cursors::decode(payload)?;
    let source = column("source", columns.source, rows)?;
    let slice = column("slice", columns.slice, rows)?;
    let generation = column("generation", columns.generation, rows)?;
    let cursor = column("cursor", columns.cursor, rows)?;
    let indexed_at = column("indexed_at", columns.indexed_at, rows)?;
    Ok(source
        .into_iter()
        .zip(slice)
        .zip(generation)
        .zip(cursor)
        .zip(indexed_at)
        .map(|((((source, slice), generation), cursor), indexed_at)| {
            Change::Cursor(CursorChange {
                source: source.into(),
                slice,
                generation,
                cursor,
                indexed_at: Micros(indexed_at),
            })
        })
        .collect())
}

pub(super) fn encode_notices(changes: &[&NoticeChange]) -> Vec<u8> {
    let rows = changes.iter();
    proto::Notices {
        kind: rows
            .clone()
            .map(|c| u32::from(codes::notice_kind(c.kind)))
            .collect(),
        reason: rows
            .clone()
            .map(|c| c.reason.as_str())
            .collect::<Dictionary<'_>>()
            .finish(),
        source: rows
            .clone()
            .map(|c| &*c.source)
            .collect::<Dictionary<'_>>()
            .finish(),
        did: rows
            .clone()
            .map(|c| c.did.as_ref().map_or("", Did::as_str).to_owned())
            .collect(),
        rev: optional_tids(rows.clone().map(|c| c.rev)),
        seq: optional_ints(rows.clone().map(|c| c.seq)),
        frame_hash: rows
            .clone()
            .map(|c| Bytes::copy_from_slice(&c.frame_hash))
            .collect(),
        bytes: rows.clone().map(|c| c.bytes).collect(),
        attempt: rows.clone().map(|c| c.attempt).collect(),
        step: rows.clone().map(|c| c.step).collect(),
        indexed_at: rows.map(|c| c.indexed_at.0).collect(),
    }
    .encode_to_vec()
}

pub(super) fn decode_notices(payload: Bytes, rows: usize) -> Result<Vec<Change>, DecodeError> {
    let columns = proto::Notices::decode(payload)?;
    let mut kind = converted("kind", columns.kind, rows, codes::to_notice_kind)?.into_iter();
    let mut reason =
        dictionary("reason", columns.reason, rows, |s| Some(s.to_owned()))?.into_iter();
    let mut source = dictionary("source", columns.source, rows, |s| {
        Some(Arc::<str>::from(s))
    })?
    .into_iter();
    let mut did = parsed_or_empty::<Did>("did", columns.did, rows)?.into_iter();
    let mut rev = tids_or_none("rev", columns.rev, rows)?.into_iter();
    let mut seq = ints_or_none("seq", columns.seq, rows)?.into_iter();
    let mut frame_hash = converted("frame_hash", columns.frame_hash, rows, |hash| {
        <[u8; 16]>::try_from(&*hash).ok()
    })?
    .into_iter();
    let mut bytes = column("bytes", columns.bytes, rows)?.into_iter();
    let mut attempt = column("attempt", columns.attempt, rows)?.into_iter();
    let mut step = column("step", columns.step, rows)?.into_iter();
    let mut indexed_at = column("indexed_at", columns.indexed_at, rows)?.into_iter();
    // All columns have `rows` values, so none of these ends the row before the last.
    let mut row = || {
        Some(Change::Notice(NoticeChange {
            kind: kind.next()?,
            reason: reason.next()?,
            source: source.next()?,
            did: did.next()?,
            rev: rev.next()?,
            seq: seq.next()?,
            frame_hash: frame_hash.next()?,
            bytes: bytes.next()?,
            attempt: attempt.next()?,
            step: step.next()?,
            indexed_at: Micros(indexed_at.next()?),
        }))
    };
    Ok(std::iter::from_fn(&mut row).collect())
}
