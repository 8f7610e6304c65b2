//! Events: what happened, without content.

use bytes::Bytes;
use prost::Message;

use atproto::{Did, Handle, Nsid, RecordKey};

use super::columns::{
    Dictionary, cids_or_none, column, converted, decode_deliveries, deliveries, dictionary,
    none_if_empty, optional_cid, optional_strings, optional_tids, parsed_or_empty, strings_or_none,
    tids_or_none,
};
use super::{DecodeError, proto};
use crate::change::{Change, EventChange, Micros};
use crate::codes;

pub(super) fn encode(changes: &[&EventChange]) -> Vec<u8> {
    let rows = changes.iter();
    proto::Events {
        kind: rows
            .clone()
            .map(|c| u32::from(codes::event_kind(c.kind)))
            .collect(),
        did: rows
            .clone()
            .map(|c| c.did.as_str())
            .collect::<Dictionary<'_>>()
            .finish(),
        time: rows.clone().map(|c| c.time.0).collect(),
        rev: optional_tids(rows.clone().map(|c| c.rev)),
        commit: rows
            .clone()
            .map(|c| optional_cid(c.commit.as_ref()))
            .collect(),
        op_index: rows.clone().map(|c| c.op_index).collect(),
        operation: rows
            .clone()
            .map(|c| c.operation.map_or(0, |a| u32::from(codes::action(a))))
            .collect(),
        collection: rows
            .clone()
            .map(|c| c.collection.as_ref().map_or("", Nsid::as_str))
            .collect::<Dictionary<'_>>()
            .finish(),
        rkey: rows
            .clone()
            .map(|c| c.rkey.as_ref().map_or("", RecordKey::as_str).to_owned())
            .collect(),
        cid: rows.clone().map(|c| optional_cid(c.cid.as_ref())).collect(),
        handle: rows
            .clone()
            .map(|c| c.handle.as_ref().map_or("", Handle::as_str).to_owned())
            .collect(),
        active: rows
            .clone()
            .map(|c| c.active.map_or(0, |active| 1 + u32::from(active)))
            .collect(),
        status: optional_strings(rows.clone().map(|c| c.status.as_deref())),
        delivery: deliveries(rows.map(|c| &c.delivery)),
    }
    .encode_to_vec()
}

pub(super) fn decode(payload: Bytes, rows: usize) -> Result<Vec<Change>, DecodeError> {
    let columns = proto::Events::decode(payload)?;
    let mut kind = converted("kind", columns.kind, rows, codes::to_event_kind)?.into_iter();
    let mut did = dictionary("did", columns.did, rows, |s| s.parse::<Did>().ok())?.into_iter();
    let mut time = column("time", columns.time, rows)?.into_iter();
    let mut rev = tids_or_none("rev", columns.rev, rows)?.into_iter();
    let mut commit = cids_or_none("commit", columns.commit, rows)?.into_iter();
    let mut op_index = column("op_index", columns.op_index, rows)?.into_iter();
    let mut operation =
        converted("operation", columns.operation, rows, codes::to_action)?.into_iter();
    let mut collection = dictionary(
        "collection",
        columns.collection,
        rows,
        none_if_empty::<Nsid>,
    )?
    .into_iter();
    let mut rkey = parsed_or_empty::<RecordKey>("rkey", columns.rkey, rows)?.into_iter();
    let mut cid = cids_or_none("cid", columns.cid, rows)?.into_iter();
    let mut handle = parsed_or_empty::<Handle>("handle", columns.handle, rows)?.into_iter();
    let mut active = converted("active", columns.active, rows, |code| match code {
        0 => Some(None),
        1 => Some(Some(false)),
        2 => Some(Some(true)),
        _ => None,
    })?
    .into_iter();
    let mut status = strings_or_none("status", columns.status, rows)?.into_iter();
    let mut delivery = decode_deliveries(columns.delivery, rows)?.into_iter();
    // All columns have `rows` values, so none of these ends the row before the last.
    let mut row = || {
        Some(Change::Event(EventChange {
            kind: kind.next()?,
            did: did.next()?,
            time: Micros(time.next()?),
            rev: rev.next()?,
            commit: commit.next()?,
            op_index: op_index.next()?,
            operation: operation.next()?,
            collection: collection.next()?,
            rkey: rkey.next()?,
            cid: cid.next()?,
            handle: handle.next()?,
            active: active.next()?,
            status: status.next()?,
            delivery: delivery.next()?,
        }))
    };
    Ok(std::iter::from_fn(&mut row).collect())
}
