//! Reads the network that the examples are asked about: `tests/sql/examples/network.txt`.
//!
//! One line is one change, `TIME WHAT WHO …`; the file's head says which there are. What a line leaves out is filled
//! in as a client would: `$type`, `createdAt`, and the CID beside a URI. Nothing is signed: how changes get into the
//! log is shown elsewhere.

use std::path::Path;

use arrow::compute::kernels::cast_utils::string_to_timestamp_nanos;
use atproto::{Action, Cid, Tid, Verification, cbor, json};
use bytes::Bytes;
use crdt::{
    AccountChange, Body, Change, Delivery, EventChange, EventKind, IdentityChange, Micros,
    RecordChange,
};
use serde_json::Value as Json;

/// All changes of the network, in the file's order.
pub(crate) fn read() -> Vec<Change> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sql/examples/network.txt");
    let text = std::fs::read_to_string(path).expect("the network");
    let lines = text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .enumerate()
        .flat_map(|(number, line)| Line::new(number, line).changes())
        .collect()
}

struct Line<'a> {
    /// Its place among the lines, which is its sequence number.
    seq: i64,
    time: &'a str,
    what: &'a str,
    did: String,
    rest: &'a str,
}

impl<'a> Line<'a> {
    fn new(number: usize, line: &'a str) -> Self {
        let mut words = line.splitn(4, ' ');
        let mut word = || words.next().unwrap_or_else(|| panic!("four words: {line}"));
        let (time, what, who, rest) = (word(), word(), word(), word());
        Self {
            seq: number as i64,
            time,
            what,
            did: format!("did:plc:{who}"),
            rest,
        }
    }

    fn at_us(&self) -> i64 {
        let nanos = string_to_timestamp_nanos(&format!("{}:00Z", self.time));
        nanos.unwrap_or_else(|_| panic!("a time: {}", self.time)) / 1000
    }

    fn rev(&self) -> Tid {
        Tid::new(self.at_us(), 0).expect("a TID")
    }

    /// It arrives a second after it was made.
    fn delivery(&self) -> Delivery {
        Delivery {
            source: "wss://relay.example".into(),
            seq: Some(self.seq),
            indexed_at: Micros(self.at_us() + 1_000_000),
            time: Some(Micros(self.at_us())),
            verification: Verification::Inverted,
        }
    }

    fn event(&self, kind: EventKind) -> EventChange {
        EventChange {
            kind,
            did: self.did.parse().expect("a DID"),
            time: Micros(self.at_us()),
            rev: None,
            commit: None,
            op_index: 0,
            operation: None,
            collection: None,
            rkey: None,
            cid: None,
            handle: None,
            active: None,
            status: None,
            delivery: self.delivery(),
        }
    }

    fn changes(&self) -> Vec<Change> {
        match self.what {
            "create" => self.write(Action::Create),
            "update" => self.write(Action::Update),
            "delete" => self.write(Action::Delete),
            "handle" => self.handle(),
            "account" => self.account(),
            other => panic!("{other} is no change"),
        }
    }

    fn write(&self, action: Action) -> Vec<Change> {
        let (path, record) = self.rest.split_once(' ').unwrap_or((self.rest, ""));
        let (collection, rkey) = path.split_once('/').expect("a path");
        let body = (action != Action::Delete).then(|| self.body(collection, record));
        let record = RecordChange {
            did: self.did.parse().expect("a DID"),
            collection: collection.parse().expect("an NSID"),
            rkey: rkey.parse().expect("a record key"),
            rev: self.rev(),
            body: body.clone(),
            delivery: self.delivery(),
        };
        let event = EventChange {
            rev: Some(self.rev()),
            commit: Some(Cid::of_cbor(&self.seq.to_be_bytes())),
            operation: Some(action),
            collection: Some(record.collection.clone()),
            rkey: Some(record.rkey.clone()),
            cid: body.map(|body| body.cid),
            ..self.event(EventKind::Commit)
        };
        vec![Change::Record(record), Change::Event(event)]
    }

    fn body(&self, collection: &str, record: &str) -> Body {
        let mut record: Json =
            serde_json::from_str(record).unwrap_or_else(|error| panic!("{error}: {record}"));
        add_cids(&mut record);
        let fields = record.as_object_mut().expect("an object");
        fields.insert("$type".to_owned(), collection.into());
        let created_at = format!("{}:00.000Z", self.time);
        fields
            .entry("createdAt")
            .or_insert_with(|| created_at.into());
        let value = json::from_json(&record).expect("AT Protocol JSON");
        Body::of(Bytes::from(cbor::encode(&value)))
    }

    fn handle(&self) -> Vec<Change> {
        let handle = Some(self.rest.parse().expect("a handle"));
        let identity = IdentityChange {
            did: self.did.parse().expect("a DID"),
            time: Micros(self.at_us()),
            seq: Some(self.seq),
            handle: handle.clone(),
            pds: None,
            delivery: self.delivery(),
        };
        let event = EventChange {
            handle,
            ..self.event(EventKind::Identity)
        };
        vec![Change::Identity(identity), Change::Event(event)]
    }

    fn account(&self) -> Vec<Change> {
        let active = self.rest == "active";
        let status = (!active).then(|| self.rest.to_owned());
        let account = AccountChange {
            did: self.did.parse().expect("a DID"),
            time: Micros(self.at_us()),
            seq: Some(self.seq),
            active,
            status: status.clone(),
            delivery: self.delivery(),
        };
        let event = EventChange {
            active: Some(active),
            status,
            ..self.event(EventKind::Account)
        };
        vec![Change::Account(account), Change::Event(event)]
    }
}

/// Gives each reference to a record the CID that it must have beside its URI.
fn add_cids(value: &mut Json) {
    match value {
        Json::Array(items) => items.iter_mut().for_each(add_cids),
        Json::Object(fields) => {
            fields.values_mut().for_each(add_cids);
            let uri = fields.get("uri").and_then(Json::as_str);
            if let Some(uri) = uri.filter(|uri| uri.starts_with("at://")) {
                let cid = Cid::of_cbor(uri.as_bytes()).to_string();
                fields.insert("cid".to_owned(), cid.into());
            }
        }
        _ => {}
    }
}
