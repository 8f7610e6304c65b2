//! What the PDS lists and what SQL answers, in one form, and how they differ.
//!
//! Records are compared by URI, CID and all of their JSON, typed tables by their counts, accounts by status, and by
//! handle while they are active.

use std::collections::BTreeMap;
use std::fmt::{Debug, Write as _};

use serde_json::Value as Json;

/// Record types whose typed tables are counted, with the tables.
const TYPED: [(&str, &str); 14] = [
    ("app.bsky.actor.profile", "bsky.profile"),
    ("app.bsky.feed.generator", "bsky.generator"),
    ("app.bsky.feed.like", "bsky.like"),
    ("app.bsky.feed.post", "bsky.post"),
    ("app.bsky.feed.postgate", "bsky.postgate"),
    ("app.bsky.feed.repost", "bsky.repost"),
    ("app.bsky.feed.threadgate", "bsky.threadgate"),
    ("app.bsky.graph.block", "bsky.block"),
    ("app.bsky.graph.follow", "bsky.follow"),
    ("app.bsky.graph.list", "bsky.list"),
    ("app.bsky.graph.listitem", "bsky.listitem"),
    ("app.bsky.graph.starterpack", "bsky.starterpack"),
    ("chat.bsky.actor.declaration", "bsky.actor_declaration"),
    ("org.example.note", "atproto.records"),
];

/// The links that likes make: each has one subject.
const LIKED: &str = "SELECT 'links of likes' AS collection, count(*) AS n FROM atproto.links \
                     WHERE collection = 'app.bsky.feed.like' AND path = 'subject.uri'";

/// At most so many differences are told.
const TOLD_MAX: usize = 20;

/// The state of the network, or what an Alluvium knows of it.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct State {
    /// CID and content of each record by its URI.
    records: BTreeMap<String, (String, Json)>,
    /// Live records by collection, of those in [`TYPED`] that have any, and the links of likes.
    counts: BTreeMap<String, u64>,
    /// Whether an account is active, its status, and its handle.
    accounts: BTreeMap<String, (bool, Option<String>, Option<String>)>,
}

impl State {
    /// What the PDS lists: an array of accounts with their records.
    pub(crate) fn listed(accounts: &[Json]) -> State {
        let mut state = State::default();
        for account in accounts {
            for record in account["records"].as_array().expect("records") {
                let uri = text(record, "uri");
                let collection = uri.split('/').nth(3).expect("a collection").to_owned();
                if TYPED.iter().any(|(typed, _)| *typed == collection) {
                    *state.counts.entry(collection).or_default() += 1;
                }
                let value = (text(record, "cid"), record["value"].clone());
                state.records.insert(uri, value);
            }
            state.take_account(account);
        }
        if let Some(likes) = state.counts.get("app.bsky.feed.like") {
            state.counts.insert("links of likes".to_owned(), *likes);
        }
        state
    }

    /// What SQL answers.
    pub(crate) fn answered(
        ask: impl Fn(&str) -> Result<Vec<Json>, String>,
    ) -> Result<State, String> {
        let mut state = State::default();
        for row in ask("SELECT uri, cid, record FROM atproto.records")? {
            let record = serde_json::from_str(&text(&row, "record")).expect("a record is JSON");
            let standing = state
                .records
                .insert(text(&row, "uri"), (text(&row, "cid"), record));
            if standing.is_some() {
                return Err(format!("{} is there twice", row["uri"]));
            }
        }
        let counts = TYPED.map(|(collection, table)| {
            format!(
                "SELECT '{collection}' AS collection, count(*) AS n FROM {table} \
                 WHERE uri LIKE 'at://%/{collection}/%'"
            )
        });
        let counts = [&counts[..], &[LIKED.to_owned()]].concat();
        for row in ask(&counts.join(" UNION ALL "))? {
            let count = row["n"].as_u64().expect("a count");
            if count > 0 {
                state.counts.insert(text(&row, "collection"), count);
            }
        }
        for row in ask("SELECT did, active, status, handle FROM atproto.accounts")? {
            state.take_account(&row);
        }
        Ok(state)
    }

    /// Each difference in a line: what is expected and not there, what is there and not expected, what is otherwise.
    pub(crate) fn differences(&self, found: &State) -> Vec<String> {
        let mut told = Vec::new();
        differ("record", &self.records, &found.records, &mut told);
        differ("count", &self.counts, &found.counts, &mut told);
        differ("account", &self.accounts, &found.accounts, &mut told);
        told
    }

    fn take_account(&mut self, account: &Json) {
        let active = account["active"].as_bool().expect("active or not");
        let text_of = |name: &str| account[name].as_str().map(str::to_owned);
        // Nobody can be asked for the handle of an account that is not served.
        let handle = text_of("handle").filter(|_| active);
        let state = (active, text_of("status"), handle);
        self.accounts.insert(text(account, "did"), state);
    }
}

/// The first differences, a line each, and how many there are.
pub(crate) fn tell(differences: &[String]) -> String {
    let mut text = format!("{} differences", differences.len());
    for difference in differences.iter().take(TOLD_MAX) {
        write!(text, "\n  {difference}").expect("a text takes all");
    }
    text
}

fn differ<T: Debug + PartialEq>(
    what: &str,
    expected: &BTreeMap<String, T>,
    found: &BTreeMap<String, T>,
    told: &mut Vec<String>,
) {
    for (key, value) in expected {
        match found.get(key) {
            None => told.push(format!("{what} {key} is missing: {value:?}")),
            Some(other) if other != value => {
                told.push(format!("{what} {key} is {other:?}, expected {value:?}"));
            }
            Some(_) => {}
        }
    }
    for (key, value) in found {
        if !expected.contains_key(key) {
            told.push(format!("{what} {key} is too much: {value:?}"));
        }
    }
}

fn text(row: &Json, name: &str) -> String {
    match row[name].as_str() {
        Some(text) => text.to_owned(),
        None => panic!("no {name} in {row}"),
    }
}
