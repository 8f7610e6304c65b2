//! Repo floors, and heads of repos as their sources delivered them.

use bytes::Bytes;
use prost::Message;

use atproto::{Cid, Did, Nsid};

use super::columns::{cids, column, decode_deliveries, deliveries, parsed, tids};
use super::{DecodeError, proto};
use crate::change::{Change, FloorChange, HeadChange};

pub(super) fn encode_floors(changes: &[&FloorChange]) -> Vec<u8> {
    let rows = changes.iter();
    proto::Floors {
        did: rows.clone().map(|c| c.did.as_str().to_owned()).collect(),
        rev: rows.clone().map(|c| c.rev.value()).collect(),
        collection_count: rows
            .clone()
            .map(|c| u32::try_from(c.collections.len()).unwrap_or(u32::MAX))
            .collect(),
        collections: rows
            .clone()
            .flat_map(|c| c.collections.iter().map(|nsid| nsid.as_str().to_owned()))
            .collect(),
        delivery: deliveries(rows.map(|c| &c.delivery)),
    }
    .encode_to_vec()
}

pub(super) fn decode_floors(payload: Bytes, rows: usize) -> Result<Vec<Change>, DecodeError> {
    let columns = proto::Floors::decode(payload)?;
    let did = parsed::<Did>("did", columns.did, rows)?;
    let rev = tids("rev", columns.rev, rows)?;
    let counts = column("collection_count", columns.collection_count, rows)?;
    let total = columns.collections.len();
    let mut collections = parsed::<Nsid>("collections", columns.collections, total)?.into_iter();
    let delivery = decode_deliveries(columns.delivery, rows)?;
    let mut changes = Vec::with_capacity(rows);
    let columns = did.into_iter().zip(rev).zip(counts).zip(delivery);
    for (row, (((did, rev), count), delivery)) in columns.enumerate() {
        let malformed = DecodeError::Value {
            column: "collections",
            row,
        };
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let covered: Vec<Nsid> = collections.by_ref().take(count).collect();
        let sorted = covered.windows(2).all(|pair| pair[0] < pair[1]);
        if covered.len() != count || !sorted {
            return Err(malformed);
        }
        changes.push(Change::Floor(FloorChange {
            did,
            rev,
            collections: covered,
            delivery,
        }));
    }
    column("collections", collections.collect(), 0)?;
    Ok(changes)
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
