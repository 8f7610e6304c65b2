//! Records as the network has them, and records as it also has them.

use atproto::{Cid, Map, Tid, Value, datetime};
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

/// A kind of record that applications write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `app.bsky.feed.post`, with facets, languages, replies and embeds.
    Post,
    /// `app.bsky.feed.like`.
    Like,
    /// `app.bsky.feed.repost`.
    Repost,
    /// `app.bsky.graph.follow`.
    Follow,
    /// `app.bsky.actor.profile`, always at `self`.
    Profile,
    /// `app.bsky.graph.block`.
    Block,
    /// `app.bsky.graph.list`.
    List,
    /// `app.bsky.graph.listitem`.
    ListItem,
    /// `app.bsky.feed.threadgate`, at the record key of a post.
    Threadgate,
    /// `chat.bsky.actor.declaration`, always at `self`.
    ChatDeclaration,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Post,
        Self::Like,
        Self::Repost,
        Self::Follow,
        Self::Profile,
        Self::Block,
        Self::List,
        Self::ListItem,
        Self::Threadgate,
        Self::ChatDeclaration,
    ];

    /// Returns the collection.
    #[must_use]
    pub fn collection(self) -> &'static str {
        match self {
            Self::Post => "app.bsky.feed.post",
            Self::Like => "app.bsky.feed.like",
            Self::Repost => "app.bsky.feed.repost",
            Self::Follow => "app.bsky.graph.follow",
            Self::Profile => "app.bsky.actor.profile",
            Self::Block => "app.bsky.graph.block",
            Self::List => "app.bsky.graph.list",
            Self::ListItem => "app.bsky.graph.listitem",
            Self::Threadgate => "app.bsky.feed.threadgate",
            Self::ChatDeclaration => "chat.bsky.actor.declaration",
        }
    }
}

/// A record and where it goes.
#[derive(Debug, Clone, PartialEq)]
pub struct Made {
    /// The collection.
    pub collection: String,
    /// The record key.
    pub rkey: String,
    /// The record.
    pub record: Value,
}

impl Made {
    /// Returns `collection/rkey`.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{}/{}", self.collection, self.rkey)
    }
}

/// What records refer to: the accounts and posts there are.
#[derive(Debug, Clone, Default)]
pub struct RecordMaker {
    dids: Vec<String>,
    posts: Vec<(String, Cid)>,
    lists: Vec<String>,
}

// Enough to refer to, and bounded however long a network runs.
const REMEMBERED_MAX: usize = 4096;

const WORDS: [&str; 40] = [
    "the",
    "sky",
    "today",
    "cat",
    "photo",
    "just",
    "really",
    "think",
    "about",
    "coffee",
    "morning",
    "new",
    "music",
    "game",
    "art",
    "thread",
    "please",
    "read",
    "this",
    "never",
    "again",
    "love",
    "weather",
    "rain",
    "train",
    "今日は",
    "いい天気",
    "猫",
    "ですね",
    "写真",
    "bom",
    "dia",
    "você",
    "também",
    "Straße",
    "schön",
    "🦋",
    "👩‍👩‍👧",
    "😂😂",
    "…",
];
const LANGUAGES: [&str; 7] = ["en", "en", "en", "ja", "pt", "de", "en-US"];
const TAGS: [&str; 6] = ["art", "cats", "rustlang", "nsfw", "写真", "Photography"];

pub(super) fn map<const N: usize>(fields: [(&str, Value); N]) -> Map {
    fields.into_iter().collect()
}

pub(super) fn value<const N: usize>(fields: [(&str, Value); N]) -> Value {
    Value::Map(map(fields))
}

impl RecordMaker {
    /// Makes the maker of records that may refer to `dids`.
    #[must_use]
    pub fn new(dids: Vec<String>) -> Self {
        assert!(!dids.is_empty(), "records refer to accounts");
        Self {
            dids,
            ..Self::default()
        }
    }

    /// Lets later records refer to `made`, which is now in the repository of `did`.
    pub fn remember(&mut self, did: &str, made: &Made, cid: Cid) {
        let uri = format!("at://{did}/{}", made.path());
        match made.collection.as_str() {
            "app.bsky.feed.post" => keep(&mut self.posts, (uri, cid)),
            "app.bsky.graph.list" => keep(&mut self.lists, uri),
            _ => {}
        }
    }

    /// Makes a record of `kind` at the time `at_us`.
    pub fn make(&self, kind: Kind, at_us: i64, random: &mut StdRng) -> Made {
        let mut rkey = tid(at_us, random);
        let mut record = match kind {
            Kind::Post => self.post(random),
            Kind::Like | Kind::Repost => map([("subject", self.post_ref(random))]),
            Kind::Follow | Kind::Block => map([("subject", Value::from(self.did(random)))]),
            Kind::Profile => {
                rkey = "self".to_owned();
                self.profile(random)
            }
            Kind::List => map([
                ("name", Value::from(text(random, 3))),
                ("purpose", Value::from("app.bsky.graph.defs#curatelist")),
                ("description", Value::from(text(random, 12))),
            ]),
            Kind::ListItem => {
                let list = self.lists.choose(random).cloned();
                let list = list.unwrap_or_else(|| {
                    format!("at://{}/app.bsky.graph.list/3jzfcijpj2z2a", self.dids[0])
                });
                map([
                    ("subject", Value::from(self.did(random))),
                    ("list", Value::from(list)),
                ])
            }
            Kind::Threadgate => {
                let (uri, _) = self.post_of(random);
                rkey = uri.rsplit('/').next().unwrap_or_default().to_owned();
                let rule = value([("$type", Value::from("app.bsky.feed.threadgate#mentionRule"))]);
                map([
                    ("post", Value::from(uri)),
                    ("allow", Value::List(vec![rule])),
                ])
            }
            Kind::ChatDeclaration => {
                rkey = "self".to_owned();
                map([(
                    "allowIncoming",
                    Value::from(
                        *["all", "none", "following"]
                            .choose(random)
                            .unwrap_or(&"all"),
                    ),
                )])
            }
        };
        record.insert("$type", kind.collection());
        if kind != Kind::ChatDeclaration {
            record.insert("createdAt", created_at(at_us, random));
        }
        Made {
            collection: kind.collection().to_owned(),
            rkey,
            record: Value::Map(record),
        }
    }

    fn did(&self, random: &mut StdRng) -> String {
        self.dids[popular(self.dids.len(), random)].clone()
    }

    /// Returns a post to refer to, one of this network if there is one yet.
    fn post_of(&self, random: &mut StdRng) -> (String, Cid) {
        // The newest stand last and are the most popular.
        match self.posts.len() {
            0 => (
                format!("at://{}/app.bsky.feed.post/3jzfcijpj2z2a", self.did(random)),
                Cid::of_cbor(b"elsewhere"),
            ),
            count => self.posts[count - 1 - popular(count, random)].clone(),
        }
    }

    fn post_ref(&self, random: &mut StdRng) -> Value {
        let (uri, cid) = self.post_of(random);
        value([
            ("cid", Value::from(cid.to_string())),
            ("uri", Value::from(uri)),
        ])
    }

    fn profile(&self, random: &mut StdRng) -> Map {
        let mut record = map([("displayName", Value::from(text(random, 2)))]);
        if random.random_bool(0.8) {
            record.insert("description", text(random, 20));
        }
        if random.random_bool(0.7) {
            record.insert("avatar", blob("image/jpeg", random));
        }
        if random.random_bool(0.1) {
            let label = value([("val", Value::from("!no-unauthenticated"))]);
            record.insert(
                "labels",
                value([
                    ("$type", Value::from("com.atproto.label.defs#selfLabels")),
                    ("values", Value::List(vec![label])),
                ]),
            );
        }
        record
    }

    fn post(&self, random: &mut StdRng) -> Map {
        let words = random.random_range(1..30);
        let mut body = text(random, words);
        let mut facets = Vec::new();
        if random.random_bool(0.2) {
            let tag = *TAGS.choose(random).unwrap_or(&"art");
            let feature = value([
                ("$type", Value::from("app.bsky.richtext.facet#tag")),
                ("tag", Value::from(tag)),
            ]);
            facets.push(append(&mut body, &format!("#{tag}"), feature));
        }
        if random.random_bool(0.1) {
            let feature = value([
                ("$type", Value::from("app.bsky.richtext.facet#mention")),
                ("did", Value::from(self.did(random))),
            ]);
            facets.push(append(&mut body, "@someone.example.com", feature));
        }
        if random.random_bool(0.15) {
            let link = format!("https://example.com/{}", random.random_range(0..100_000));
            let feature = value([
                ("$type", Value::from("app.bsky.richtext.facet#link")),
                ("uri", Value::from(link.as_str())),
            ]);
            facets.push(append(&mut body, &link, feature));
        }
        let mut record = map([("text", Value::from(body))]);
        if !facets.is_empty() {
            record.insert("facets", Value::List(facets));
        }
        if random.random_bool(0.9) {
            record.insert(
                "langs",
                Value::List(vec![Value::from(
                    *LANGUAGES.choose(random).unwrap_or(&"en"),
                )]),
            );
        }
        if random.random_bool(0.4) && !self.posts.is_empty() {
            let parent = self.post_ref(random);
            let root = if random.random_bool(0.5) {
                parent.clone()
            } else {
                self.post_ref(random)
            };
            record.insert("reply", value([("parent", parent), ("root", root)]));
        }
        if random.random_bool(0.3) {
            record.insert("embed", self.embed(random));
        }
        record
    }

    fn embed(&self, random: &mut StdRng) -> Value {
        let image = |random: &mut StdRng| {
            value([
                ("alt", Value::from(text(random, 6))),
                ("image", blob("image/jpeg", random)),
                (
                    "aspectRatio",
                    value([("width", Value::from(1600)), ("height", Value::from(1200))]),
                ),
            ])
        };
        match random.random_range(0..4) {
            0 => {
                let images = (0..random.random_range(1..=4))
                    .map(|_| image(random))
                    .collect();
                value([
                    ("$type", Value::from("app.bsky.embed.images")),
                    ("images", Value::List(images)),
                ])
            }
            1 => value([
                ("$type", Value::from("app.bsky.embed.external")),
                (
                    "external",
                    value([
                        (
                            "uri",
                            Value::from(format!(
                                "https://example.com/{}",
                                random.random_range(0..1000)
                            )),
                        ),
                        ("title", Value::from(text(random, 5))),
                        ("description", Value::from(text(random, 15))),
                        ("thumb", blob("image/png", random)),
                    ]),
                ),
            ]),
            2 => value([
                ("$type", Value::from("app.bsky.embed.record")),
                ("record", self.post_ref(random)),
            ]),
            _ => {
                let media = value([
                    ("$type", Value::from("app.bsky.embed.images")),
                    ("images", Value::List(vec![image(random)])),
                ]);
                let record = value([
                    ("$type", Value::from("app.bsky.embed.record")),
                    ("record", self.post_ref(random)),
                ]);
                value([
                    ("$type", Value::from("app.bsky.embed.recordWithMedia")),
                    ("record", record),
                    ("media", media),
                ])
            }
        }
    }
}

fn keep<T>(kept: &mut Vec<T>, new: T) {
    if kept.len() == REMEMBERED_MAX {
        kept.remove(0);
    }
    kept.push(new);
}

/// Returns an index below `count`, mostly a small one.
fn popular(count: usize, random: &mut StdRng) -> usize {
    let uniform: f64 = random.random();
    ((uniform.powi(3) * count as f64) as usize).min(count - 1)
}

pub(super) fn tid(at_us: i64, random: &mut StdRng) -> String {
    Tid::new(at_us, random.random_range(0..1024))
        .map(|tid| tid.to_string())
        .unwrap_or_default()
}

fn created_at(at_us: i64, random: &mut StdRng) -> String {
    let text = datetime::canonical(at_us - random.random_range(0..3_000_000));
    // Some clients write a zone, some no fraction.
    match random.random_range(0..20) {
        0 => text.replace('Z', "+00:00"),
        1 => format!("{}Z", text.split('.').next().unwrap_or_default()),
        _ => text,
    }
}

fn text(random: &mut StdRng, words: usize) -> String {
    let words: Vec<&str> = (0..words)
        .filter_map(|_| WORDS.choose(random).copied())
        .collect();
    words.join(" ")
}

/// Appends `part` to `body` and returns the facet that covers it.
fn append(body: &mut String, part: &str, feature: Value) -> Value {
    body.push(' ');
    let start = body.len();
    body.push_str(part);
    facet(start as i64, body.len() as i64, feature)
}

pub(super) fn facet(start: i64, end: i64, feature: Value) -> Value {
    value([
        ("features", Value::List(vec![feature])),
        (
            "index",
            value([
                ("byteStart", Value::from(start)),
                ("byteEnd", Value::from(end)),
            ]),
        ),
    ])
}

fn blob(mime: &str, random: &mut StdRng) -> Value {
    let number: u64 = random.random();
    value([
        ("$type", Value::from("blob")),
        ("ref", Value::from(Cid::of_raw(&number.to_be_bytes()))),
        ("mimeType", Value::from(mime)),
        ("size", Value::from(random.random_range(1..1_000_000))),
    ])
}
