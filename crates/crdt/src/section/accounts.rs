//! What sources say of accounts' states and identities.

use bytes::Bytes;
use prost::Message;

use atproto::{Did, Handle};

use super::columns::{
    column, decode_deliveries, deliveries, ints_or_none, optional_ints, optional_strings, parsed,
    parsed_or_empty, strings_or_none,
};
use super::{DecodeError, proto};
use crate::change::{AccountChange, Change, IdentityChange, Micros};

pub(super) fn encode_accounts(changes: &[&AccountChange]) -> Vec<u8> {
    let rows = changes.iter();
    proto::Accounts {
        did: rows.clone().map(|c| c.did.as_str().to_owned()).collect(),
        time: rows.clone().map(|c| c.time.0).collect(),
        seq: optional_ints(rows.clone().map(|c| c.seq)),
        active: rows.clone().map(|c| c.active).collect(),
        status: optional_strings(rows.clone().map(|c| c.status.as_deref())),
        delivery: deliveries(rows.map(|c| &c.delivery)),
    }
    .encode_to_vec()
}

pub(super) fn decode_accounts(payload: Bytes, rows: usize) -> Result<Vec<Change>, DecodeError> {
    let columns = proto::Accounts::decode(payload)?;
    let did = parsed::<Did>("did", columns.did, rows)?;
    let time = column("time", columns.time, rows)?;
    let seq = ints_or_none("account_seq", columns.seq, rows)?;
    let active = column("active", columns.active, rows)?;
    let status = strings_or_none("status", columns.status, rows)?;
    let delivery = decode_deliveries(columns.delivery, rows)?;
    Ok(did
        .into_iter()
        .zip(time)
        .zip(seq)
        .zip(active)
        .zip(status)
        .zip(delivery)
        .map(|(((((did, time), seq), active), status), delivery)| {
            Change::Account(AccountChange {
                did,
                time: Micros(time),
                seq,
                active,
                status,
                delivery,
            })
        })
        .collect())
}

pub(super) fn encode_identities(changes: &[&IdentityChange]) -> Vec<u8> {
    let rows = changes.iter();
    proto::Identities {
        did: rows.clone().map(|c| c.did.as_str().to_owned()).collect(),
        time: rows.clone().map(|c| c.time.0).collect(),
        seq: optional_ints(rows.clone().map(|c| c.seq)),
        handle: rows
            .clone()
            .map(|c| c.handle.as_ref().map_or("", Handle::as_str).to_owned())
            .collect(),
        pds: optional_strings(rows.clone().map(|c| c.pds.as_deref())),
        delivery: deliveries(rows.map(|c| &c.delivery)),
    }
    .encode_to_vec()
}

pub(super) fn decode_identities(payload: Bytes, rows: usize) -> Result<Vec<Change>, DecodeError> {
    let columns = proto::Identities::decode(payload)?;
    let did = parsed::<Did>("did", columns.did, rows)?;
    let time = column("time", columns.time, rows)?;
    let seq = ints_or_none("identity_seq", columns.seq, rows)?;
    let handle = parsed_or_empty::<Handle>("handle", columns.handle, rows)?;
    let pds = strings_or_none("pds", columns.pds, rows)?;
    let delivery = decode_deliveries(columns.delivery, rows)?;
    Ok(did
        .into_iter()
        .zip(time)
        .zip(seq)
        .zip(handle)
        .zip(pds)
        .zip(delivery)
        .map(|(((((did, time), seq), handle), pds), delivery)| {
            Change::Identity(IdentityChange {
                did,
                time: Micros(time),
                seq,
                handle,
                pds,
                delivery,
            })
        })
        .collect())
}
