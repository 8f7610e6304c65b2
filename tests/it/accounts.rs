//! Accounts that are hidden and shown again, as SQL sees them: `tests/sql/accounts/*.slt` over the recorded frames.
//!
//! Each file runs after its change of state, from the log's tail and from segments.

use std::sync::Arc;

use atproto::Verification;
use crdt::{AccountChange, Change, ChangeBatch, Delivery, IdentityChange, Micros};
use storage::LogWriter;
use tables::flush::{FlushSettings, flush};

use crate::slt;

/// It has three posts among the recorded frames, with four links.
const DID: &str = "did:plc:u4lmvw4wwzaql3z5kcf3r7h4";
const RELAY: &str = "wss://relay.example";
const HOST: &str = "wss://pds.example";
const DIRECTORY: &str = "https://plc.example";

fn delivery(source: &str, hour: i64) -> Delivery {
    Delivery {
        source: Arc::from(source),
        seq: None,
        indexed_at: Micros(at(hour)),
        time: None,
        verification: Verification::Archive,
    }
}

fn at(hour: i64) -> i64 {
    1_783_200_000_000_000 + hour * 3_600_000_000
}

/// `source` says in hour `hour` that the account is active, or why it is not.
fn state(source: &str, hour: i64, status: Option<&str>) -> Change {
    Change::Account(AccountChange {
        did: DID.parse().expect("a DID"),
        time: Micros(at(hour)),
        seq: Some(hour),
        active: status.is_none(),
        status: status.map(str::to_owned),
        delivery: delivery(source, hour),
    })
}

/// `source` says in hour `hour` what the account's handle is and, a directory, which host it has.
fn identity(source: &str, hour: i64, handle: &str) -> Change {
    let is_directory = source == DIRECTORY;
    Change::Identity(IdentityChange {
        did: DID.parse().expect("a DID"),
        time: Micros(at(hour)),
        seq: (!is_directory).then_some(hour),
        handle: Some(handle.parse().expect("a handle")),
        pds: is_directory.then(|| "https://pds.example".to_owned()),
        delivery: delivery(source, hour),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn states_hide_and_show_an_accounts_records_in_every_table() {
    let tables = slt::replayed().await;
    let mut writer = LogWriter::new(tables.bucket().clone());
    let stages = [
        ("deactivated", vec![state(RELAY, 1, Some("deactivated"))]),
        ("reactivated", vec![state(RELAY, 2, None)]),
        ("deleted", vec![state(RELAY, 4, Some("deleted"))]),
        (
            "disagreed",
            vec![
                state(HOST, 3, None),
                identity(DIRECTORY, 3, "kept.example"),
                identity(RELAY, 4, "claimed.example"),
            ],
        ),
    ];
    for (stage, changes) in stages {
        let batch = ChangeBatch { changes };
        writer.append(batch.encode()).await.expect("appends");
        for _ in 0..2 {
            slt::run_file(&format!("tests/sql/accounts/{stage}.slt"), &tables).await;
            flush(&tables, "accounts", FlushSettings::at_once())
                .await
                .expect("flushes");
        }
    }
}
