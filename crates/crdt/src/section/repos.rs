//! Repo floors, and heads of repos as their sources delivered them.

use bytes::Bytes;
use prost::Message;

use atproto::{Cid, Did};

use super::columns::{
    Dictionary, cids, column, decode_deliveries, deliveries, dictionary, parsed, tids,
};
use super::{DecodeError, proto};
use crate::change::{Change, FloorChange, HeadChange};
use crate::coverage::Coverage;

pub(super) fn encode_floors(changes: &[&FloorChange]) -> Vec<u8> {
    let rows = changes.iter();
    let coverages: Vec<String> = rows.clone().map(|c| c.coverage.to_string()).collect();
    proto::Floors {
        did: rows.clone().map(|c| c.did.as_str().to_owned()).collect(),
        rev: rows.clone().map(|c| c.rev.value()).collect(),
        delivery: deliveries(rows.map(|c| &c.delivery)),
        coverage: coverages
            .iter()
            .map(String::as_str)
            .collect::<Dictionary<'_>>()
            .finish(),
    }
    .encode_to_vec()
}

pub(super) fn decode_floors(payload: Bytes, rows: usize) -> Result<Vec<Change>, DecodeError> {
    let columns = proto::Floors::decode(payload)?;
    let did = parsed::<Did>("did", columns.did, rows)?;
    let rev = tids("rev", columns.rev, rows)?;
    let coverage = dictionary("coverage", columns.coverage, rows, Coverage::from_canonical)?;
    let delivery = decode_deliveries(columns.delivery, rows)?;
    Ok(did
        .into_iter()
        .zip(rev)
        .zip(coverage)
        .zip(delivery)
        .map(|(((did, rev), coverage), delivery)| {
            Change::Floor(FloorChange {
                did,
                rev,
                coverage,
                delivery,
            })
        })
        .collect())
}

pub(super) fn encode_heads(changes: &[&HeadChange]) -> Vec<u8> {
    let rows = changes.iter();
    proto::Heads {
        did: rows.clone().map(|c| c.did.as_str().to_owned()).collect(),
        rev: rows.clone().map(|c| c.rev.value()).collect(),
        data: rows
            .clone()
            .map(|c| Bytes::copy_from_slice(c.data.as_bytes()))
            .collect(),
        commit_block: rows.clone().map(|c| c.commit_block.clone()).collect(),
        delivery: deliveries(rows.map(|c| &c.delivery)),
    }
    .encode_to_vec()
}

pub(super) fn decode_heads(payload: Bytes, rows: usize) -> Result<Vec<Change>, DecodeError> {
    let columns = proto::Heads::decode(payload)?;
    let did = parsed::<Did>("did", columns.did, rows)?;
    let rev = tids("rev", columns.rev, rows)?;
    let data = cids("data", columns.data, rows)?;
    let commit_block = column("commit_block", columns.commit_block, rows)?;
    let delivery = decode_deliveries(columns.delivery, rows)?;
    Ok(did
        .into_iter()
        .zip(rev)
        .zip(data)
        .zip(commit_block)
        .zip(delivery)
        .map(|((((did, rev), data), commit_block), delivery)| {
            Change::Head(HeadChange {
                did,
                rev,
                data,
                commit: Cid::of_cbor(&commit_block),
                commit_block,
                delivery,
            })
        })
        .collect())
}
