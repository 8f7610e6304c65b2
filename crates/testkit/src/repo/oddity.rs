//! Records as the network also has them: legal in a repository, and not what a Lexicon or a clock would have.

use atproto::{Cid, Map, Value};
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use super::record::{Kind, Made, RecordMaker, facet, tid, value};

/// Something that is odd about a record, though a repository may hold it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Oddity {
    /// A field that the Lexicon does not have, with a value of every type.
    UnknownField,
    /// A field of another type than the Lexicon says.
    WrongType,
    /// A `createdAt` that is no date, or not of these times, or not written as usual.
    WeirdCreatedAt,
    /// No `createdAt`.
    NoCreatedAt,
    /// An embed of a type that nobody knows.
    UnknownUnion,
    /// A collection without a Lexicon.
    ForeignCollection,
    /// A record key that is no TID where there should be one.
    NamedRkey,
    /// A record key that is a TID of an absurd time.
    AbsurdTid,
    /// No `$type`.
    NoType,
    /// A `$type` that is not the collection.
    OtherType,
    /// Nested as deep as a record may be.
    Deep,
    /// Integers at the ends of their range.
    HugeIntegers,
    /// A blob as it was written in 2022.
    LegacyBlob,
    /// Text with a zero byte, a lone combining mark and letters that read from the right.
    StrangeText,
    /// Facets that point beyond the text or into a character.
    BadFacets,
    /// Nothing at all.
    Empty,
    /// Nulls where fields could be left out.
    Nulls,
}

impl Oddity {
    /// All of them.
    pub const ALL: [Self; 17] = [
        Self::UnknownField,
        Self::WrongType,
        Self::WeirdCreatedAt,
        Self::NoCreatedAt,
        Self::UnknownUnion,
        Self::ForeignCollection,
        Self::NamedRkey,
        Self::AbsurdTid,
        Self::NoType,
        Self::OtherType,
        Self::Deep,
        Self::HugeIntegers,
        Self::LegacyBlob,
        Self::StrangeText,
        Self::BadFacets,
        Self::Empty,
        Self::Nulls,
    ];
}

impl RecordMaker {
    /// Makes a record with `oddity` at the time `at_us`.
    pub fn odd(&self, oddity: Oddity, at_us: i64, random: &mut StdRng) -> Made {
        let mut made = self.make(Kind::Post, at_us, random);
        let Value::Map(record) = &mut made.record else {
            return made;
        };
        match oddity {
            Oddity::NoCreatedAt => drop(record.remove("createdAt")),
            Oddity::NoType => drop(record.remove("$type")),
            Oddity::Empty => made.record = Value::Map(Map::new()),
            Oddity::ForeignCollection => {
                made.collection = "com.example.blog.entry".to_owned();
                record.insert("$type", "com.example.blog.entry");
                record.insert("body", every_type());
            }
            Oddity::NamedRkey => {
                let number = random.random_range(0..1_000_000);
                made.rkey = format!("my~post:{number}.{}", "x".repeat(40));
            }
            Oddity::AbsurdTid => {
                let micros = *[0, 1, (1 << 53) - 1].choose(random).unwrap_or(&0);
                made.rkey = tid(micros, random);
            }
            Oddity::Nulls => {
                for field in ["langs", "embed", "reply", "labels"] {
                    record.insert(field, Value::Null);
                }
            }
            _ => {
                let (field, value) = odd_field(oddity, random);
                record.insert(field, value);
            }
        }
        made
    }
}

/// Returns the field that makes a post odd.
fn odd_field(oddity: Oddity, random: &mut StdRng) -> (&'static str, Value) {
    match oddity {
        Oddity::WrongType => {
            let wrong = [
                Value::from(42),
                every_type(),
                Value::Bytes(vec![0, 1, 255]),
                Value::Null,
            ];
            let field = ["text", "langs", "reply"]
                .choose(random)
                .copied()
                .unwrap_or("text");
            (field, wrong.choose(random).cloned().unwrap_or(Value::Null))
        }
        Oddity::WeirdCreatedAt => (
            "createdAt",
            Value::from(WEIRD_TIMES.choose(random).copied().unwrap_or("")),
        ),
        Oddity::UnknownUnion => {
            let hologram = [
                ("$type", Value::from("com.example.embed#hologram")),
                ("depth", Value::from(3)),
            ];
            ("embed", value(hologram))
        }
        Oddity::OtherType => ("$type", Value::from("app.bsky.feed.like")),
        Oddity::Deep => ("deep", deep(28)),
        Oddity::HugeIntegers => {
            let ends = [
                i64::MIN,
                -1,
                0,
                i64::MAX,
                (1 << 53) - 1,
                1 << 53,
                -(1 << 53),
            ];
            (
                "ends",
                Value::List(ends.into_iter().map(Value::from).collect()),
            )
        }
        Oddity::LegacyBlob => {
            let blob = value([
                ("cid", Value::from(Cid::of_raw(b"legacy").to_string())),
                ("mimeType", Value::from("image/jpeg")),
            ]);
            let image = value([("alt", Value::from("")), ("image", blob)]);
            let images = ("images", Value::List(vec![image]));
            (
                "embed",
                value([("$type", Value::from("app.bsky.embed.images")), images]),
            )
        }
        Oddity::StrangeText => ("text", Value::from(STRANGE_TEXT)),
        Oddity::BadFacets => ("facets", bad_facets()),
        _ => ("xExtension", every_type()),
    }
}

const STRANGE_TEXT: &str = "a\u{0}b \u{301} \u{202e}שלום\u{202c} \u{feff}\u{10ffff}";

const WEIRD_TIMES: [&str; 9] = [
    "yesterday",
    "",
    "0000-01-01T00:00:00.000Z",
    "9999-12-31T23:59:59.999999999Z",
    "2024-02-30T12:00:00Z",
    "2024-02-29T12:00:00.123456+05:30",
    "1985-04-12T23:20:50.123-00:00",
    "2024-02-29 12:00:00",
    "2024-06-30T23:59:60Z",
];

fn bad_facets() -> Value {
    let link = || {
        value([
            ("$type", Value::from("app.bsky.richtext.facet#link")),
            ("uri", Value::from("no uri")),
        ])
    };
    Value::List(vec![
        facet(1, 1_000_000, link()),
        facet(9, 3, link()),
        facet(-1, 1, link()),
        Value::Null,
    ])
}

fn every_type() -> Value {
    value([
        ("null", Value::Null),
        ("no", Value::from(false)),
        ("int", Value::from(-7)),
        ("text", Value::from("ü")),
        ("bytes", Value::Bytes(vec![0, 128, 255])),
        ("link", Value::from(Cid::of_raw(b"blob"))),
        (
            "list",
            Value::List(vec![
                Value::from(1),
                Value::from("a"),
                Value::List(Vec::new()),
            ]),
        ),
        (
            "map",
            value([
                ("", Value::from("empty key")),
                ("$type", Value::from("com.example.thing")),
            ]),
        ),
    ])
}

fn deep(levels: usize) -> Value {
    (0..levels).fold(Value::from("bottom"), |inner, _| Value::List(vec![inner]))
}
