//! The examples' SQL beside a plain computation, over a generated network that nobody checks by hand.
//!
//! The records are those of `testkit`'s repositories at two moments: the second one's changes and deletions lie over the
//! first one's. The computation reads the second one's records as JSON and counts in maps.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use atproto::{Tid, Verification, cbor, json};
use bytes::Bytes;
use crdt::{Body, Change, Delivery, Micros, RecordChange};
use serde_json::Value as Json;
use testkit::repo::{Network, NetworkConfig};

use crate::slt::{compact, rows_of};
use crate::world::{Node, World, append};

const MESSAGES: usize = 1500;

#[tokio::test(flavor = "multi_thread")]
async fn the_answers_are_those_of_a_plain_computation() {
    let mut network = Network::new(NetworkConfig {
        seed: 29,
        accounts: 30,
        step_us: 60_000_000,
        odd_per_mille: 0,
        ..NetworkConfig::default()
    });
    let world = World::in_memory().await;
    let (mut before, mut deletes) = (Records::new(), 0);
    for moment in 1..=2 {
        network.by_ref().take(MESSAGES).for_each(drop);
        let now = records_of(&network);
        let changes = difference(&before, &now, moment);
        deletes += changes.iter().filter(|change| is_delete(change)).count();
        append(&mut world.node.writer(), changes).await;
        if moment == 1 {
            compact(&world.node.tables).await;
        }
        before = now;
    }
    assert!(deletes > 50, "{deletes} deletes");
    let plain = Plain::of(&before);
    let node = &world.node;
    plain.check_accounts(node).await;
    plain.check_posts(node).await;
    plain.check_topics(node).await;
    compact(&node.tables).await;
    plain.check_accounts(node).await;
    plain.check_posts(node).await;
    plain.check_topics(node).await;
}

/// DAG-CBOR by DID and path.
type Records = BTreeMap<(String, String), Vec<u8>>;

fn records_of(network: &Network) -> Records {
    let repos = network.repos().iter();
    let records = repos.flat_map(|repo| {
        let did = repo.account().did().to_string();
        let records = repo.records().iter();
        records.map(move |(path, bytes)| ((did.clone(), path.clone()), bytes.clone()))
    });
    records.collect()
}

fn difference(before: &Records, now: &Records, moment: i64) -> Vec<Change> {
    let written = now
        .iter()
        .filter(|(key, bytes)| before.get(*key) != Some(*bytes));
    let deleted = before.keys().filter(|key| !now.contains_key(*key));
    let written = written.map(|(key, bytes)| change(key, Some(bytes), moment));
    written
        .chain(deleted.map(|key| change(key, None, moment)))
        .collect()
}

fn change((did, path): &(String, String), bytes: Option<&Vec<u8>>, moment: i64) -> Change {
    let (collection, rkey) = path.split_once('/').expect("a path");
    let at_us = 1_760_000_000_000_000 + moment;
    Change::Record(RecordChange {
        did: did.parse().expect("a DID"),
        collection: collection.parse().expect("an NSID"),
        rkey: rkey.parse().expect("a record key"),
        rev: Tid::new(at_us, 0).expect("a TID"),
        body: bytes.map(|bytes| Body::of(Bytes::from(bytes.clone()))),
        delivery: Delivery {
            source: "test".into(),
            seq: Some(moment),
            indexed_at: Micros(at_us),
            time: Some(Micros(at_us)),
            verification: Verification::Inverted,
        },
    })
}

fn is_delete(change: &Change) -> bool {
    matches!(change, Change::Record(record) if record.body.is_none())
}

/// An edge: who, and to whom or to which post.
type Edges = Vec<(String, String)>;

/// DIDs or URIs, each once.
type Names<'a> = BTreeSet<&'a str>;

/// The network as plain vectors.
struct Plain {
    dids: BTreeSet<String>,
    follows: Edges,
    blocks: Edges,
    likes: Edges,
    reposts: Edges,
    /// Who, URI, record.
    posts: Vec<(String, String, Json)>,
}

fn text(value: &Json, pointer: &str) -> String {
    let found = value.pointer(pointer).and_then(Json::as_str);
    found.unwrap_or_default().to_owned()
}

fn is_edge_to(wanted: &str) -> impl Fn(&&(String, String)) -> bool {
    move |(_, subject)| subject == wanted
}

fn row<const N: usize>(cells: [&dyn ToString; N]) -> Vec<String> {
    cells.iter().map(|cell| cell.to_string()).collect()
}

/// The distinct first ends of edges.
fn who<'a>(edges: impl Iterator<Item = &'a (String, String)>) -> BTreeSet<&'a str> {
    edges.map(|(did, _)| did.as_str()).collect()
}

impl Plain {
    fn of(records: &Records) -> Self {
        let mut plain = Self {
            dids: records.keys().map(|(did, _)| did.clone()).collect(),
            follows: Vec::new(),
            blocks: Vec::new(),
            likes: Vec::new(),
            reposts: Vec::new(),
            posts: Vec::new(),
        };
        for ((did, path), bytes) in records {
            let record = json::to_json(&cbor::decode(bytes).expect("DAG-CBOR"));
            let edge = |pointer| (did.clone(), text(&record, pointer));
            match path.split('/').next().unwrap_or_default() {
                "app.bsky.graph.follow" => plain.follows.push(edge("/subject")),
                "app.bsky.graph.block" => plain.blocks.push(edge("/subject")),
                "app.bsky.feed.like" => plain.likes.push(edge("/subject/uri")),
                "app.bsky.feed.repost" => plain.reposts.push(edge("/subject/uri")),
                "app.bsky.feed.post" => {
                    let uri = format!("at://{did}/{path}");
                    plain.posts.push((did.clone(), uri, record));
                }
                _ => {}
            }
        }
        plain
    }

    fn followers(&self, did: &str) -> BTreeSet<&str> {
        who(self.follows.iter().filter(is_edge_to(did)))
    }

    fn followees(&self, did: &str) -> BTreeSet<&str> {
        let mine = self.follows.iter().filter(|(who, _)| who == did);
        mine.map(|(_, subject)| subject.as_str()).collect()
    }

    async fn check_accounts(&self, node: &Node) {
        let mut seen = 0;
        for did in self.dids.iter().step_by(6) {
            let ask = |name: &str| format!("alluvium sql --file examples/{name}.sql -p did={did}");
            let followers = self.followers(did);
            let answer = rows_of(&node.engine, &ask("followers")).await;
            let answered: BTreeSet<&str> = answer.iter().map(|row| row[0].as_str()).collect();
            assert_eq!((answer.len(), &answered), (followers.len(), &followers));

            let followees = self.followees(did);
            let mutuals: BTreeSet<&str> = followers.intersection(&followees).copied().collect();
            let answer = rows_of(&node.engine, &ask("mutuals")).await;
            let answered: BTreeSet<&str> = answer.iter().map(|row| row[0].as_str()).collect();
            assert_eq!((answer.len(), &answered), (mutuals.len(), &mutuals));

            let ring = self.candidates(did, &followers, |candidate, through| {
                self.followees(candidate).contains(through)
            });
            assert_eq!(
                rows_of(&node.engine, &ask("followers_of_followers")).await,
                ring
            );

            let mut recommended = self.candidates(did, &followees, |candidate, through| {
                self.followees(through).contains(candidate)
            });
            let blocks = |a: &str, b: &str| self.blocks.iter().any(|(x, y)| x == a && y == b);
            recommended.retain(|row| !blocks(did, &row[0]) && !blocks(&row[0], did));
            assert_eq!(
                rows_of(&node.engine, &ask("follow_recommendations")).await,
                recommended
            );
            seen += mutuals.len() + ring.len() + recommended.len();
        }
        assert!(
            seen > 50,
            "the network is too thin to show anything: {seen}"
        );
    }

    /// Accounts outside of `ring` and how many of it connect them, most first.
    fn candidates(
        &self,
        did: &str,
        ring: &BTreeSet<&str>,
        connects: impl Fn(&str, &str) -> bool,
    ) -> Vec<Vec<String>> {
        let outside = self
            .dids
            .iter()
            .filter(|candidate| candidate.as_str() != did && !ring.contains(candidate.as_str()));
        let counted = outside.map(|candidate| {
            let through = ring.iter().filter(|through| connects(candidate, through));
            (Reverse(through.count()), candidate)
        });
        let mut counted: Vec<_> = counted.filter(|(count, _)| count.0 > 0).collect();
        counted.sort();
        counted
            .into_iter()
            .map(|(count, candidate)| row([candidate, &count.0]))
            .collect()
    }

    async fn check_posts(&self, node: &Node) {
        let mut likers: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (did, post) in &self.likes {
            likers.entry(post).or_default().insert(did);
        }
        let mut liked: Vec<_> = likers
            .iter()
            .map(|(post, who)| (Reverse(who.len()), *post))
            .collect();
        liked.sort();
        for (count, uri) in liked.into_iter().take(3) {
            let at = |pointer: &str| {
                let said = self
                    .posts
                    .iter()
                    .filter(|post| text(&post.2, pointer) == uri);
                said.count()
            };
            let reposts = who(self.reposts.iter().filter(is_edge_to(uri))).len();
            let quotes = at("/embed/record/uri") + at("/embed/record/record/uri");
            let counts = row([
                &count.0,
                &reposts,
                &at("/reply/parent/uri"),
                &at("/reply/root/uri"),
                &quotes,
            ]);
            let ask = |name: &str| format!("alluvium sql --file examples/{name}.sql -p uri={uri}");
            assert_eq!(rows_of(&node.engine, &ask("post_counts")).await, [counts]);

            let others = likers.iter().filter(|(post, _)| **post != uri);
            let shared = others.map(|(post, who)| {
                let together = who.intersection(&likers[uri]).count();
                (Reverse(together), who.len(), *post)
            });
            let mut shared: Vec<_> = shared.filter(|(together, _, _)| together.0 > 0).collect();
            shared.sort();
            let expected: Vec<_> = shared
                .into_iter()
                .take(20)
                .map(|(together, likes, post)| row([&post, &together.0, &likes]))
                .collect();
            assert_eq!(expected.len(), 20);
            assert_eq!(
                rows_of(&node.engine, &ask("liked_together")).await,
                expected
            );
        }
    }

    async fn check_topics(&self, node: &Node) {
        const PERIOD: &str = "-p since=2025-01-01 -p until=2026-01-01";
        let mut tags: BTreeMap<(String, String), (Names<'_>, Names<'_>)> = BTreeMap::new();
        let mut languages: BTreeMap<String, (usize, BTreeSet<&str>)> = BTreeMap::new();
        for (did, uri, record) in &self.posts {
            let day: String = text(record, "/createdAt").chars().take(10).collect();
            let facets = record["facets"].as_array().into_iter().flatten();
            let features =
                facets.flat_map(|facet| facet["features"].as_array().into_iter().flatten());
            for tag in features.filter_map(|feature| feature["tag"].as_str()) {
                let (accounts, posts) = tags.entry((day.clone(), tag.to_lowercase())).or_default();
                accounts.insert(did);
                posts.insert(uri);
            }
            let lang = record["langs"][0].as_str().unwrap_or("none");
            let lang = lang.split('-').next().unwrap_or_default().to_owned();
            let (posts, accounts) = languages.entry(lang).or_default();
            *posts += 1;
            accounts.insert(did);
        }
        let mut ranked: Vec<_> = tags
            .iter()
            .map(|((day, tag), (who, posts))| (day, Reverse((who.len(), posts.len())), tag))
            .collect();
        ranked.sort();
        let (mut place, mut last) = (0, "");
        let mut expected = Vec::new();
        for (day, Reverse((accounts, posts)), tag) in ranked {
            place = if last == day { place + 1 } else { 1 };
            last = day;
            let start = format!("{day}T00:00:00Z");
            expected.push(row([&start, &place, tag, &accounts, &posts]));
        }
        assert!(expected.len() > 6, "{expected:?}");
        let command =
            format!("alluvium sql --file examples/trending_hashtags.sql -p grain=day {PERIOD}");
        assert_eq!(rows_of(&node.engine, &command).await, expected);

        let mut expected: Vec<_> = languages
            .into_iter()
            .map(|(language, (posts, who))| (Reverse(posts), language, who.len()))
            .collect();
        expected.sort();
        let expected: Vec<_> = expected
            .into_iter()
            .map(|(posts, language, accounts)| row([&language, &posts.0, &accounts]))
            .collect();
        let command = format!("alluvium sql --file examples/posts_per_language.sql {PERIOD}");
        assert_eq!(rows_of(&node.engine, &command).await, expected);

        let mut records: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
        for (kind, edges) in [("like", &self.likes), ("follow", &self.follows)] {
            for (did, subject) in edges {
                records.entry((kind, subject)).or_default().push(did);
            }
        }
        let counted = records.into_iter().map(|((kind, subject), dids)| {
            let accounts: BTreeSet<&str> = dids.iter().copied().collect();
            (kind, subject, dids.len(), accounts.len())
        });
        let expected: Vec<_> = counted
            .filter(|(_, _, records, accounts)| records > accounts)
            .map(|(kind, subject, records, accounts)| row([&kind, &subject, &records, &accounts]))
            .collect();
        assert!(expected.len() > 6, "{expected:?}");
        let command = "alluvium sql --file examples/duplicates.sql";
        assert_eq!(rows_of(&node.engine, command).await, expected);
    }
}
