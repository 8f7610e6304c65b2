//! What a bucket answers, compared with what the hosts of the accounts hold.

use std::collections::{BTreeMap, BTreeSet};

use atproto::Cid;
use serde_json::Value as Json;
use testkit::relay::FakeNetwork;

use crate::world::Node;

/// All in which `node` differs from the truth about `network`, and from being done; empty if it does not.
pub(crate) async fn differences(node: &Node, network: &FakeNetwork) -> Vec<String> {
    let mut found = compare(&accounts(node).await, &expected_accounts(network));
    found.extend(compare(&records(node).await, &expected_records(network)));
    let open = "SELECT source, did, reason, attempt, step FROM system.resyncs
                WHERE kind = 'resync' AND step NOT IN (3, 4)";
    let open = node.rows(open).await;
    // Of whom no directory knows, a mark stays: a source may tell of anybody.
    let dids: BTreeSet<String> = network.dids().iter().map(ToString::to_string).collect();
    let open = open.iter().filter(|row| dids.contains(&text(row, "did")));
    found.extend(open.map(|row| format!("not done: {row}")));
    found
}

/// How often which reason was given for a refusal.
pub(crate) async fn rejections(node: &Node) -> BTreeMap<String, u64> {
    counted(
        node,
        "SELECT reason, count(*) AS n FROM system.rejections GROUP BY reason",
    )
    .await
}

/// How often which reason was given for a resync, other than that a repository or a source was new.
pub(crate) async fn resyncs(node: &Node) -> BTreeMap<String, u64> {
    let sql = "SELECT reason, count(*) AS n FROM system.resyncs WHERE kind = 'resync'
               AND NOT starts_with(reason, 'first_') GROUP BY reason";
    counted(node, sql).await
}

async fn counted(node: &Node, sql: &str) -> BTreeMap<String, u64> {
    let rows = node.rows(sql).await;
    let counted = rows
        .iter()
        .map(|row| (text(row, "reason"), row["n"].as_u64().unwrap_or(0)));
    counted.collect()
}

fn compare(found: &BTreeMap<String, String>, expected: &BTreeMap<String, String>) -> Vec<String> {
    let keys: BTreeSet<&String> = found.keys().chain(expected.keys()).collect();
    let differing = keys
        .into_iter()
        .filter(|key| found.get(*key) != expected.get(*key));
    differing
        .map(|key| format!("{key}: {:?}, not {:?}", found.get(key), expected.get(key)))
        .collect()
}

async fn records(node: &Node) -> BTreeMap<String, String> {
    let rows = node.rows("SELECT uri, cid FROM atproto.records").await;
    rows.iter()
        .map(|row| (text(row, "uri"), text(row, "cid")))
        .collect()
}

fn expected_records(network: &FakeNetwork) -> BTreeMap<String, String> {
    let mut expected = BTreeMap::new();
    for (did, truth) in network.truth() {
        if truth.status.is_none() {
            expected.extend(truth.records.iter().map(|(path, record)| {
                let cid = Cid::of_cbor(record).to_string();
                (format!("at://{did}/{path}"), cid)
            }));
        }
    }
    expected
}

async fn accounts(node: &Node) -> BTreeMap<String, String> {
    let sql = "SELECT did, handle, active, status, pds FROM atproto.accounts";
    let rows = node.rows(sql).await;
    let accounts = rows.iter().map(|row| {
        let fields = ["handle", "active", "status", "pds"].map(|name| row[name].to_string());
        (text(row, "did"), fields.join(" "))
    });
    accounts.collect()
}

fn expected_accounts(network: &FakeNetwork) -> BTreeMap<String, String> {
    let met = network
        .truth()
        .into_iter()
        .filter(|(_, truth)| truth.rev.is_some());
    let expected = met.map(|(did, truth)| {
        let fields = [
            Json::from(truth.handle.as_str()),
            truth.status.is_none().into(),
            truth.status.map_or(Json::Null, Json::from),
            Json::from(truth.pds),
        ];
        (
            did.to_string(),
            fields.map(|field| field.to_string()).join(" "),
        )
    });
    expected.collect()
}

fn text(row: &Json, name: &str) -> String {
    row[name].as_str().unwrap_or_default().to_owned()
}
