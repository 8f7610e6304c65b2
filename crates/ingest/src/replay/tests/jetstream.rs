//! Events joined with the rows they are about, in the words of Jetstream's first version.

use atproto::{cbor, json};
use crdt::merge_model::Model;
use crdt::{Change, EventChange, EventKind};
use serde_json::Value as Json;

/// A line of Jetstream's, without the one field that only it knows.
pub(super) fn without_its_clock(line: &str) -> String {
    let mut json: Json = serde_json::from_str(line).expect("JSON");
    json.as_object_mut().expect("an object").remove("time_us");
    json.to_string()
}

/// An event joined with the rows of its record, account or identity, in Jetstream's words.
pub(super) fn as_jetstream_tells(event: &EventChange, model: &Model) -> String {
    let did = event.did.as_str();
    let kind = event.kind.as_str();
    let time = atproto::datetime::canonical;
    let json = match event.kind {
        EventKind::Commit => {
            let text = |value: Option<String>| value.expect("of a commit");
            let mut commit = serde_json::json!({
                "rev": text(event.rev.map(|rev| rev.to_string())),
                "operation": event.operation.expect("of a commit").as_str(),
                "collection": text(event.collection.as_ref().map(ToString::to_string)),
                "rkey": text(event.rkey.as_ref().map(ToString::to_string)),
            });
            if let Some(cid) = event.cid {
                let record = model.records().find(|record| {
                    (&record.did, Some(&record.rkey)) == (&event.did, event.rkey.as_ref())
                        && Some(&record.collection) == event.collection.as_ref()
                });
                let body = record
                    .and_then(|record| record.body.as_ref())
                    .expect("live");
                assert_eq!(body.cid, cid);
                let value = cbor::decode(&body.cbor).expect("a record");
                commit["cid"] = cid.to_string().into();
                commit["record"] = json::to_json(&value);
            }
            serde_json::json!({"did": did, "kind": kind, "commit": commit})
        }
        EventKind::Identity => {
            let state = model.rows().find_map(|change| match change {
                Change::Identity(state) if state.did == event.did => Some(state),
                _ => None,
            });
            let state = state.expect("a state");
            let mut identity = serde_json::json!({
                "did": did, "seq": state.seq, "time": time(state.time.0),
            });
            if let Some(handle) = &state.handle {
                identity["handle"] = handle.as_str().into();
            }
            serde_json::json!({"did": did, "kind": kind, "identity": identity})
        }
        EventKind::Account => {
            let state = model.rows().find_map(|change| match change {
                Change::Account(state) if state.did == event.did => Some(state),
                _ => None,
            });
            let state = state.expect("a state");
            let mut account = serde_json::json!({
                "did": did, "seq": state.seq, "time": time(state.time.0), "active": state.active,
            });
            if let Some(status) = &state.status {
                account["status"] = status.as_str().into();
            }
            serde_json::json!({"did": did, "kind": kind, "account": account})
        }
        EventKind::Sync => panic!("none was recorded"),
    };
    json.to_string()
}
