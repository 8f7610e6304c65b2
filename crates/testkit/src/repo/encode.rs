//! Frames as the bytes of the stream, the reverse of [`Frame::decode`](atproto::Frame::decode).

use atproto::{AccountFrame, CommitFrame, IdentityFrame, Map, RepoOp, SyncFrame, Value, cbor};

/// Returns a message of kind `t`, such as `#commit`, with `payload`.
#[must_use]
pub fn encode_frame(t: &str, payload: Map) -> Vec<u8> {
    let header: Map = [("op", Value::from(1)), ("t", Value::from(t))]
        .into_iter()
        .collect();
    let mut out = cbor::encode(&Value::Map(header));
    cbor::encode_into(&Value::Map(payload), &mut out);
    out
}

/// Returns a `#commit`, with the deprecated fields that hosts still send.
#[must_use]
pub fn encode_commit(frame: &CommitFrame) -> Vec<u8> {
    let mut payload: Map = [
        ("seq", Value::from(frame.seq)),
        ("repo", Value::from(frame.repo.as_str())),
        ("rev", Value::from(frame.rev.to_string())),
        (
            "since",
            frame
                .since
                .map_or(Value::Null, |since| Value::from(since.to_string())),
        ),
        ("commit", Value::from(frame.commit)),
        ("blocks", Value::Bytes(frame.blocks.clone())),
        ("ops", Value::List(frame.ops.iter().map(op).collect())),
        ("blobs", Value::List(Vec::new())),
        ("time", Value::from(frame.time.as_str())),
        ("tooBig", Value::Bool(frame.too_big)),
        ("rebase", Value::Bool(frame.rebase)),
    ]
    .into_iter()
    .collect();
    if let Some(prev_data) = frame.prev_data {
        payload.insert("prevData", prev_data);
    }
    encode_frame("#commit", payload)
}

fn op(op: &RepoOp) -> Value {
    let mut fields: Map = [
        ("action", Value::from(op.action.as_str())),
        ("path", Value::from(op.path.as_str())),
        ("cid", op.cid.map_or(Value::Null, Value::from)),
    ]
    .into_iter()
    .collect();
    if let Some(prev) = op.prev {
        fields.insert("prev", prev);
    }
    Value::Map(fields)
}

/// Returns a `#sync`.
#[must_use]
pub fn encode_sync(frame: &SyncFrame) -> Vec<u8> {
    let payload = [
        ("seq", Value::from(frame.seq)),
        ("did", Value::from(frame.did.as_str())),
        ("rev", Value::from(frame.rev.to_string())),
        ("blocks", Value::Bytes(frame.blocks.clone())),
        ("time", Value::from(frame.time.as_str())),
    ];
    encode_frame("#sync", payload.into_iter().collect())
}

/// Returns an `#identity`.
#[must_use]
pub fn encode_identity(frame: &IdentityFrame) -> Vec<u8> {
    let mut payload: Map = [
        ("seq", Value::from(frame.seq)),
        ("did", Value::from(frame.did.as_str())),
        ("time", Value::from(frame.time.as_str())),
    ]
    .into_iter()
    .collect();
    if let Some(handle) = &frame.handle {
        payload.insert("handle", handle.as_str());
    }
    encode_frame("#identity", payload)
}

/// Returns an `#account`.
#[must_use]
pub fn encode_account(frame: &AccountFrame) -> Vec<u8> {
    let mut payload: Map = [
        ("seq", Value::from(frame.seq)),
        ("did", Value::from(frame.did.as_str())),
        ("time", Value::from(frame.time.as_str())),
        ("active", Value::from(frame.active)),
    ]
    .into_iter()
    .collect();
    if let Some(status) = &frame.status {
        payload.insert("status", status.as_str());
    }
    encode_frame("#account", payload)
}
