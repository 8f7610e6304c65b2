//! Records: the columns of one collection's creates, updates and deletes.
//!
//! The CID is not stored but computed from the body, so a body that is not the one that was appended has another CID,
//! another identity, and fails the section's multiset hash.

use bytes::Bytes;
use prost::Message;

use atproto::{Nsid, RecordKey};

use super::columns::{Dictionary, column, decode_deliveries, deliveries, dictionary, parsed, tids};
use super::{DecodeError, kind, proto};
use crate::change::{Body, Change, RecordChange};

pub(super) fn encode(changes: &[&RecordChange]) -> Vec<u8> {
    let rows = changes.iter();
    proto::Records {
        did: rows
            .clone()
            .map(|c| c.did.as_str())
            .collect::<Dictionary<'_>>()
            .finish(),
        rkey: rows.clone().map(|c| c.rkey.as_str().to_owned()).collect(),
        rev: rows.clone().map(|c| c.rev.value()).collect(),
        body: rows
            .clone()
            .map(|c| c.body.as_ref().map_or_else(Bytes::new, |b| b.cbor.clone()))
            .collect(),
        delivery: deliveries(rows.map(|c| &c.delivery)),
    }
    .encode_to_vec()
}

pub(super) fn decode(table: &str, payload: Bytes, rows: usize) -> Result<Vec<Change>, DecodeError> {
    let collection: Nsid = table.parse().map_err(|_| DecodeError::Table {
        kind: kind::RECORDS,
        table: table.to_owned(),
    })?;
    let columns = proto::Records::decode(payload)?;
    let did = dictionary("did", columns.did, rows, |s| s.parse().ok())?;
    let rkey = parsed::<RecordKey>("rkey", columns.rkey, rows)?;
    let rev = tids("rev", columns.rev, rows)?;
    let body = column("body", columns.body, rows)?;
    let delivery = decode_deliveries(columns.delivery, rows)?;
    Ok(did
        .into_iter()
        .zip(rkey)
        .zip(rev)
        .zip(body)
        .zip(delivery)
        .map(|((((did, rkey), rev), cbor), delivery)| {
            Change::Record(RecordChange {
                did,
                collection: collection.clone(),
                rkey,
                rev,
                body: (!cbor.is_empty()).then(|| Body::of(cbor)),
                delivery,
            })
        })
        .collect())
}
