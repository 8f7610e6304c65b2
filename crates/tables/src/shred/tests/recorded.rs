//! The records of 148 recorded commits and of one repository. Where they come from is said in `tests/fixtures/MANIFEST.md`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bytes::Bytes;
use crdt::RecordChange;
use crdt::atproto::car::Car;
use crdt::atproto::frame::Frame;
use crdt::atproto::{cbor, json, verify_repo};

use super::{assert_comes_back, change_of, shred};
use crate::rebuild::Rebuilder;
use crate::schema::Catalog;

fn read(name: &str) -> Vec<u8> {
    let path: PathBuf = [
        env!("CARGO_MANIFEST_DIR"),
        "../../tests/fixtures/atproto/firehose",
        name,
    ]
    .iter()
    .collect();
    std::fs::read(path).unwrap()
}

/// Returns the records that the frames' commits write, not verified: this is about their shape.
fn of_frames() -> Vec<RecordChange> {
    let bytes = zstd::decode_all(read("frames.bin.zst").as_slice()).unwrap();
    let mut rest = bytes.as_slice();
    let mut changes = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let (frame, after) = after.split_at(u32::from_le_bytes(*length) as usize);
        rest = after;
        let Frame::Commit(commit) = Frame::decode(frame).unwrap() else {
            continue;
        };
        let car = Car::parse(&commit.blocks).unwrap();
        for op in &commit.ops {
            let Some(cid) = op.cid else { continue };
            let (collection, rkey) = op.path.split_once('/').unwrap();
            changes.push(change_of(
                collection,
                rkey,
                Bytes::copy_from_slice(car.get(&cid).unwrap()),
            ));
        }
    }
    changes
}

fn of_repository() -> Vec<RecordChange> {
    let repo = verify_repo(&read("repo.car"), None, 1_785_542_400_000_000).unwrap();
    repo.records()
        .iter()
        .map(|r| change_of(r.collection.as_str(), r.rkey.as_str(), r.record.clone()))
        .collect()
}

#[test]
fn every_recorded_record_comes_back_and_none_needs_raw() {
    let catalog = Catalog::builtin();
    let mut by_table: BTreeMap<_, Vec<RecordChange>> = BTreeMap::new();
    for change in of_frames().into_iter().chain(of_repository()) {
        by_table
            .entry(catalog.records_of(change.collection.as_str()).name.clone())
            .or_default()
            .push(change);
    }
    let mut records = 0;
    for (name, changes) in &by_table {
        let table = catalog.table(name).unwrap();
        let shredded = shred(table, changes);
        assert_eq!(shredded.raw, 0, "{name}");
        assert_comes_back(table, &shredded.batch, changes);
        let shown = Rebuilder::new(table)
            .unwrap()
            .json_column(&shredded.batch)
            .unwrap();
        for (change, shown) in changes.iter().zip(shown.iter()) {
            let value = cbor::decode(&change.body.as_ref().unwrap().cbor).unwrap();
            assert_eq!(
                serde_json::from_str::<serde_json::Value>(shown.unwrap()).unwrap(),
                json::to_json(&value)
            );
        }
        records += changes.len();
    }
    assert!(records >= 146, "{records}");
}
