//! Turns what was verified, or is unsigned by nature, into changes.
//!
//! Pure: the caller says who delivered it and when. The delivery's `verification` is replaced by what the verified
//! value says of itself. A cursor is the caller's to add.

use atproto::{
    AccountFrame, Did, Handle, IdentityFrame, VerifiedCommit, VerifiedOp, VerifiedRepo,
    VerifiedSync,
};

use crate::change::{
    AccountChange, Body, Change, Delivery, EventChange, EventKind, FloorChange, HeadChange,
    IdentityChange, Micros, RecordChange,
};
use crate::coverage::Coverage;

/// The changes of a commit: its records, one event per operation, and the source's new head of the repo.
///
/// Where an operation's block is no record ([`VerifiedOp::problem`]), what stood at its path before is gone all the same:
/// that is a delete, and the operation's event tells what was claimed.
#[must_use]
pub fn changes_of_commit(commit: &VerifiedCommit, delivery: &Delivery) -> Vec<Change> {
    let delivery = Delivery {
        verification: commit.verification(),
        ..delivery.clone()
    };
    // The order of a frame's operations is not signed, and two relays need not agree on it. Their paths are.
    let mut ops: Vec<&VerifiedOp> = commit.ops().iter().collect();
    ops.sort_by(|a, b| (&a.collection, &a.rkey).cmp(&(&b.collection, &b.rkey)));
    let mut changes = Vec::with_capacity(2 * ops.len() + 1);
    changes.extend(ops.iter().map(|op| {
        Change::Record(RecordChange {
            did: commit.did().clone(),
            collection: op.collection.clone(),
            rkey: op.rkey.clone(),
            rev: commit.rev(),
            body: op
                .cid
                .zip(op.record.clone())
                .map(|(cid, cbor)| Body { cid, cbor }),
            delivery: delivery.clone(),
        })
    }));
    changes.extend((0..).zip(&ops).map(|(op_index, op)| {
        Change::Event(EventChange {
            rev: Some(commit.rev()),
            commit: Some(commit.commit()),
            op_index,
            operation: Some(op.action),
            collection: Some(op.collection.clone()),
            rkey: Some(op.rkey.clone()),
            cid: op.cid,
            ..event(
                EventKind::Commit,
                commit.did(),
                delivery.time.unwrap_or(Micros(commit.rev().micros())),
                &delivery,
            )
        })
    }));
    changes.push(Change::Head(HeadChange {
        did: commit.did().clone(),
        rev: commit.rev(),
        data: commit.data(),
        commit: commit.commit(),
        commit_block: commit.commit_block().clone(),
        delivery,
    }));
    changes
}

/// The changes of a whole repository: its records that `coverage` covers as writes at its rev, its head, and last, if
/// its signature was verified, the floor of that coverage. An archive raises no floor and tells of no head: nobody
/// signed it.
///
/// The floor must be appended after the rest, under the same writer id; in one batch it may stand with them.
#[must_use]
pub fn changes_of_repo(
    repo: &VerifiedRepo,
    coverage: &Coverage,
    delivery: &Delivery,
) -> Vec<Change> {
    let delivery = Delivery {
        verification: repo.verification(),
        ..delivery.clone()
    };
    let mut changes: Vec<Change> = repo
        .records()
        .iter()
        .filter(|record| coverage.covers(record.collection.as_str()))
        .map(|record| {
            Change::Record(RecordChange {
                did: repo.did().clone(),
                collection: record.collection.clone(),
                rkey: record.rkey.clone(),
                rev: repo.rev(),
                body: Some(Body {
                    cid: record.cid,
                    cbor: record.record.clone(),
                }),
                delivery: delivery.clone(),
            })
        })
        .collect();
    if repo.verification() > atproto::Verification::Archive {
        changes.push(Change::Head(HeadChange {
            did: repo.did().clone(),
            rev: repo.rev(),
            data: repo.data(),
            commit: repo.commit(),
            commit_block: repo.commit_block().clone(),
            delivery: delivery.clone(),
        }));
        changes.push(Change::Floor(FloorChange {
            did: repo.did().clone(),
            rev: repo.rev(),
            coverage: coverage.clone(),
            delivery,
        }));
    }
    changes
}

/// The changes of a `#sync` frame: an event and the source's new head.
///
/// It raises no floor: the records that live at its rev are not in it, so that takes a resync.
#[must_use]
pub fn changes_of_sync(sync: &VerifiedSync, time: Micros, delivery: &Delivery) -> Vec<Change> {
    let delivery = Delivery {
        verification: atproto::Verification::Signature,
        ..delivery.clone()
    };
    vec![
        Change::Event(EventChange {
            rev: Some(sync.rev()),
            commit: Some(sync.commit()),
            ..event(EventKind::Sync, sync.did(), time, &delivery)
        }),
        Change::Head(HeadChange {
            did: sync.did().clone(),
            rev: sync.rev(),
            data: sync.data(),
            commit: sync.commit(),
            commit_block: sync.commit_block().clone(),
            delivery,
        }),
    ]
}

/// The changes of an `#account` frame, which nobody signs: the account's state and an event.
#[must_use]
pub fn changes_of_account(frame: &AccountFrame, time: Micros, delivery: &Delivery) -> Vec<Change> {
    vec![
        Change::Account(AccountChange {
            did: frame.did.clone(),
            time,
            seq: delivery.seq,
            active: frame.active,
            status: frame.status.clone(),
            delivery: delivery.clone(),
        }),
        Change::Event(EventChange {
            active: Some(frame.active),
            status: frame.status.clone(),
            ..event(EventKind::Account, &frame.did, time, delivery)
        }),
    ]
}

/// The changes of an `#identity` frame, which nobody signs: who the account is, as the source and, where it was
/// looked up, its DID document's host say, and an event.
#[must_use]
pub fn changes_of_identity(
    frame: &IdentityFrame,
    pds: Option<&str>,
    time: Micros,
    delivery: &Delivery,
) -> Vec<Change> {
    let handle: Option<Handle> = frame.handle.clone();
    vec![
        Change::Identity(IdentityChange {
            did: frame.did.clone(),
            time,
            seq: delivery.seq,
            handle: handle.clone(),
            pds: pds.map(str::to_owned),
            delivery: delivery.clone(),
        }),
        Change::Event(EventChange {
            handle,
            ..event(EventKind::Identity, &frame.did, time, delivery)
        }),
    ]
}

/// An event of which only the common fields are filled in.
fn event(kind: EventKind, did: &Did, time: Micros, delivery: &Delivery) -> EventChange {
    EventChange {
        kind,
        did: did.clone(),
        time,
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
        delivery: delivery.clone(),
    }
}

#[cfg(test)]
mod tests;
