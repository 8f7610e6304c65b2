//! What people do on the network: records of every kind, edits, deletes and batches, with what is odd but allowed.
//!
//! Keys and times are made here and are the same in every run; DIDs and CIDs are the network's.

use std::collections::BTreeMap;

use atproto::{Tid, datetime};
use serde_json::{Value as Json, json};

use super::network::Network;

/// The moment of the first deed: half a year before the test was written, in microseconds.
const BEGIN_US: i64 = 1_780_000_000_000_000;

/// How far the deeds' times are apart.
const STEP_US: i64 = 61_000_000;

/// A picture of one pixel.
const PNG: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkM9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

/// The CID of the picture.
const PNG_CID: &str = "bafkreib7si2rvql3ekj2ygjt2jq3vrsugfydijymcr4y4fmtsixz65nct4";

/// A record type without a Lexicon.
const NOTE: &str = "org.example.note";

/// People with accounts, by name.
#[derive(Debug)]
pub(crate) struct People {
    pub(crate) network: Network,
    dids: BTreeMap<&'static str, String>,
    /// Posts that others like and answer.
    posts: Vec<Json>,
    deeds: i64,
}

impl People {
    /// Nobody yet.
    pub(crate) fn on(network: Network) -> People {
        People {
            network,
            dids: BTreeMap::new(),
            posts: Vec::new(),
            deeds: 0,
        }
    }

    /// Makes an account with a profile, a post, and a follow of everybody before.
    pub(crate) fn join(&mut self, name: &'static str) {
        let account = self.network.tell(&json!({"do": "account", "name": name}));
        let did = account["did"].as_str().expect("a DID").to_owned();
        let profile = json!({"displayName": name, "description": format!("{name} was here first")});
        self.put(name, "app.bsky.actor.profile", "self", profile);
        self.post(name, json!({"text": format!("hello, I am {name}")}));
        let others: Vec<String> = self.dids.values().cloned().collect();
        for other in others {
            self.create(name, "app.bsky.graph.follow", json!({"subject": other}));
        }
        self.dids.insert(name, did);
    }

    /// The DID of an account.
    pub(crate) fn did(&self, name: &str) -> &str {
        &self.dids[name]
    }

    /// Likes and reposts the newest post, and answers it.
    pub(crate) fn react(&mut self, name: &str) {
        let subject = self.posts.last().expect("a post").clone();
        self.create(name, "app.bsky.feed.like", json!({"subject": subject}));
        self.create(name, "app.bsky.feed.repost", json!({"subject": subject}));
        let reply = json!({"root": self.posts[0], "parent": subject});
        let text = format!("{name} answers, 🦀 and \u{202e}all");
        self.post(
            name,
            json!({"text": text, "reply": reply, "langs": ["en", "de"]}),
        );
    }

    /// Writes a record of every kind.
    pub(crate) fn write_everything(&mut self, name: &'static str, friend: &'static str) {
        let (did, other) = (self.did(name).to_owned(), self.did(friend).to_owned());
        let subject = self.posts.last().expect("a post").clone();
        let image = self.blob(name);
        let facets = json!([
            {"index": {"byteStart": 0, "byteEnd": 4}, "features": [
                {"$type": "app.bsky.richtext.facet#mention", "did": other},
                {"$type": "app.bsky.richtext.facet#tag", "tag": "sea"},
            ]},
            {"index": {"byteStart": 5, "byteEnd": 9}, "features": [
                {"$type": "app.bsky.richtext.facet#link", "uri": "https://example.com/a?b=c"},
            ]},
        ]);
        let external =
            json!({"uri": "https://example.com/", "title": "", "description": "d", "thumb": image});
        let images = json!([{"alt": "a pixel", "image": image,
                             "aspectRatio": {"width": 1, "height": 1}}]);
        let images = json!({"$type": "app.bsky.embed.images", "images": images});
        let quote = json!({"$type": "app.bsky.embed.record", "record": subject});
        let embeds = [
            json!({"$type": "app.bsky.embed.external", "external": external}),
            json!({"$type": "app.bsky.embed.recordWithMedia", "record": quote, "media": images}),
            images,
            quote,
        ];
        for embed in embeds {
            self.post(
                name,
                json!({"text": "with all of it", "facets": facets, "embed": embed, "tags": []}),
            );
        }
        let post = self.posts.last().expect("a post").clone();
        let post_key = last_part(&post["uri"]).to_owned();
        let self_label = json!({"$type": "com.atproto.label.defs#selfLabels",
                                "values": [{"val": "bot"}]});
        let profile = json!({"displayName": name, "avatar": image, "labels": self_label,
                             "pinnedPost": post, "website": "https://example.com"});
        self.put(name, "app.bsky.actor.profile", "self", profile);
        let list = self.create(
            name,
            "app.bsky.graph.list",
            json!({"name": "friends", "purpose": "app.bsky.graph.defs#curatelist"}),
        );
        self.create(
            name,
            "app.bsky.graph.listitem",
            json!({"list": list["uri"], "subject": other}),
        );
        self.create(
            name,
            "app.bsky.graph.starterpack",
            json!({"name": "begin here", "list": list["uri"], "feeds": []}),
        );
        self.create(name, "app.bsky.graph.block", json!({"subject": other}));
        self.put(
            name,
            "app.bsky.feed.generator",
            "the-sea",
            json!({"did": "did:web:feeds.example.com", "displayName": "the sea", "createdAt": "2024-02-29T23:59:59Z"}),
        );
        let gate = json!({"post": post["uri"], "allow": []});
        self.put(name, "app.bsky.feed.threadgate", &post_key, gate.clone());
        self.put(name, "app.bsky.feed.postgate", &post_key, gate);
        self.put(
            name,
            "chat.bsky.actor.declaration",
            "self",
            json!({"allowIncoming": "none", "createdAt": null}),
        );
        self.write_without_lexicon(name, &did);
    }

    /// Records that no Lexicon tells of, and values that no Lexicon expects.
    fn write_without_lexicon(&mut self, name: &str, did: &str) {
        let deep = json!({"a": [[], {}, [[{"b": null}]], "", false], "z": {"$link": PNG_CID}});
        self.put(
            name,
            NOTE,
            "a~b:c_d.e",
            json!({"deep": deep, "number": -9_007_199_254_740_991_i64}),
        );
        let bytes = json!({"$bytes": "AAEC/w"});
        self.create(
            name,
            NOTE,
            json!({"bytes": bytes, "about": format!("at://{did}"), "": "no name"}),
        );
        let odd = json!({"text": "more than the Lexicon knows", "createdAt": "2026-05-01T01:02:03.123456+02:00",
                         "extra": {"nested": [1, 2, 3]}, "langs": ["pt-BR"], "text2": null});
        self.post(name, odd);
    }

    /// Several writes in one commit: creates, an edit of the profile, and the deletion of the account's oldest post.
    pub(crate) fn write_batch(&mut self, name: &'static str, size: usize) {
        let mut writes: Vec<Json> = Vec::new();
        for number in 0..size {
            let record = self.record(
                "app.bsky.feed.post",
                json!({"text": format!("of many {number}")}),
            );
            writes.push(
                json!({"action": "create", "collection": "app.bsky.feed.post",
                               "rkey": self.rkey(), "value": record}),
            );
        }
        let profile = self.record(
            "app.bsky.actor.profile",
            json!({"displayName": format!("{name} in a batch")}),
        );
        writes.push(
            json!({"action": "update", "collection": "app.bsky.actor.profile",
                           "rkey": "self", "value": profile}),
        );
        if let Some(uri) = self.take_post(name) {
            writes.push(
                json!({"action": "delete", "collection": "app.bsky.feed.post",
                               "rkey": last_part(&uri)}),
            );
        }
        self.network
            .tell(&json!({"do": "batch", "name": name, "writes": writes}));
    }

    /// Edits a post in place and the profile, deletes another post, and makes one anew where one was.
    pub(crate) fn change_mind(&mut self, name: &'static str) {
        let kept = self.post(name, json!({"text": "first thought"}));
        let gone = self.post(name, json!({"text": "regret"}));
        let key = last_part(&kept["uri"]).to_owned();
        self.put(
            name,
            "app.bsky.feed.post",
            &key,
            json!({"text": "second thought", "langs": ["en"]}),
        );
        let key = last_part(&gone["uri"]).to_owned();
        let delete =
            json!({"do": "delete", "name": name, "collection": "app.bsky.feed.post", "rkey": key});
        self.network.tell(&delete);
        self.posts.retain(|post| post["uri"] != gone["uri"]);
        self.put(name, NOTE, "twice", json!({"life": 1}));
        let delete = json!({"do": "delete", "name": name, "collection": NOTE, "rkey": "twice"});
        self.network.tell(&delete);
        self.put(name, NOTE, "twice", json!({"life": 2}));
    }

    /// Begins `count` posts of each of `names`, in turn, and does not wait for them.
    pub(crate) fn begin_posts(&mut self, names: &[&'static str], count: usize) {
        for number in 0..count {
            for name in names {
                let record = self.record(
                    "app.bsky.feed.post",
                    json!({"text": format!("live {number}")}),
                );
                let deed = json!({"do": "create", "name": name, "collection": "app.bsky.feed.post",
                                  "rkey": self.rkey(), "record": record});
                self.network.begin(&deed);
            }
        }
    }

    /// Something that an account does without more: `deactivate`, `activate`, `remove`, `rotate`.
    pub(crate) fn account(&mut self, deed: &str, name: &str) {
        self.network.tell(&json!({"do": deed, "name": name}));
    }

    /// Takes an account down, or lifts that.
    pub(crate) fn take_down(&mut self, name: &str, applied: bool) {
        self.network
            .tell(&json!({"do": "takedown", "name": name, "applied": applied}));
    }

    /// Gives an account another handle.
    pub(crate) fn rename(&mut self, name: &str, handle: &str) {
        self.network
            .tell(&json!({"do": "handle", "name": name, "handle": handle}));
    }

    fn post(&mut self, name: &str, fields: Json) -> Json {
        let made = self.create(name, "app.bsky.feed.post", fields);
        let made = json!({"uri": made["uri"], "cid": made["cid"]});
        self.posts.push(made.clone());
        made
    }

    /// Forgets the account's oldest post, for it to be deleted.
    fn take_post(&mut self, name: &str) -> Option<Json> {
        let authority = format!("at://{}/", self.did(name));
        let is_own = |post: &Json| {
            post["uri"]
                .as_str()
                .is_some_and(|uri| uri.starts_with(&authority))
        };
        let at = self.posts.iter().position(is_own)?;
        Some(self.posts.remove(at)["uri"].clone())
    }

    fn create(&mut self, name: &str, collection: &str, fields: Json) -> Json {
        let record = self.record(collection, fields);
        let rkey = self.rkey();
        let deed = json!({"do": "create", "name": name, "collection": collection, "rkey": rkey, "record": record});
        self.network.tell(&deed)
    }

    fn put(&mut self, name: &str, collection: &str, rkey: &str, fields: Json) {
        let record = self.record(collection, fields);
        let deed = json!({"do": "put", "name": name, "collection": collection, "rkey": rkey, "record": record});
        self.network.tell(&deed);
    }

    fn blob(&mut self, name: &str) -> Json {
        self.network
            .tell(&json!({"do": "blob", "name": name, "type": "image/png", "base64": PNG}))
    }

    /// A record of these fields, with a time of its own unless it has one.
    fn record(&mut self, collection: &str, mut fields: Json) -> Json {
        self.deeds += 1;
        let created = datetime::canonical(BEGIN_US + self.deeds * STEP_US);
        let map = fields.as_object_mut().expect("fields");
        map.insert("$type".to_owned(), collection.into());
        map.entry("createdAt").or_insert(created.into());
        fields
    }

    /// A key that no record had before.
    fn rkey(&mut self) -> String {
        self.deeds += 1;
        let tid = Tid::new(BEGIN_US + self.deeds * STEP_US, 7);
        tid.expect("a time of our century").to_string()
    }
}

/// The record key at the end of a URI.
fn last_part(uri: &Json) -> &str {
    let uri = uri.as_str().expect("a URI");
    uri.rsplit('/').next().expect("a part")
}
