//! Records at random, from a seed: as their Lexicon says, damaged in some places, or of no shape at all.

use crdt::atproto::{Cid, Map, Value};

use crate::lexicon::{Format, LexiconSet, ObjectDef, TypeDef};
use crate::schema::TableDef;

/// A random source (SplitMix64) whose every draw follows from its seed.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64, salt: &str) -> Self {
        Self(
            salt.bytes()
                .fold(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15), |state, byte| {
                    state.rotate_left(9) ^ u64::from(byte)
                }),
        )
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    fn one_in(&mut self, bound: usize) -> bool {
        self.below(bound) == 0
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// Returns a record for `table`: a third as the Lexicon says, a third damaged, a third anything.
pub(crate) fn record(dice: &mut Dice, table: &TableDef) -> Value {
    let Some(record) = table.record_type() else {
        return anything_like_a_record(dice, "com.example.thing");
    };
    if dice.one_in(3) {
        return anything_like_a_record(dice, record.collection());
    }
    let mut value = Value::Map(object(dice, record.object(), record.lexicons(), 0));
    if let Value::Map(map) = &mut value {
        map.insert("$type", record.collection());
    }
    if dice.one_in(2) {
        for _ in 0..=dice.below(4) {
            // What is no map is no record.
            if value.as_map().is_some_and(|map| !map.is_empty()) {
                damage(dice, &mut value);
            }
        }
    }
    value
}

fn anything_like_a_record(dice: &mut Dice, collection: &str) -> Value {
    let mut map = Map::new();
    for _ in 0..dice.below(8) {
        map.insert(name(dice), anything(dice, 0));
    }
    if !dice.one_in(4) {
        map.insert("$type", collection);
    }
    Value::Map(map)
}

/// Changes one place of a value: takes it away, puts anything there, or adds to it.
fn damage(dice: &mut Dice, value: &mut Value) {
    let deeper = !dice.one_in(3);
    match value {
        Value::Map(map) if !map.is_empty() => {
            let at = dice.below(map.len());
            let key = map.iter().nth(at).unwrap().0.to_owned();
            if deeper {
                damage(dice, map.get_mut(&key).unwrap());
                return;
            }
            match dice.below(3) {
                0 => drop(map.remove(&key)),
                1 => drop(map.insert(name(dice), anything(dice, 0))),
                _ => drop(map.insert(key, anything(dice, 0))),
            }
        }
        Value::List(list) if !list.is_empty() => {
            let at = dice.below(list.len());
            match (deeper, dice.below(3)) {
                (true, _) => damage(dice, &mut list[at]),
                (_, 0) => drop(list.remove(at)),
                (_, 1) => list.insert(at, anything(dice, 0)),
                _ => list[at] = anything(dice, 0),
            }
        }
        other => *other = anything(dice, 0),
    }
}

fn object(dice: &mut Dice, def: &ObjectDef, set: &LexiconSet, depth: usize) -> Map {
    let mut map = Map::new();
    for (name, def) in &def.properties {
        if !dice.one_in(3) {
            map.insert(name.as_str(), typed(dice, def, set, depth + 1));
        }
    }
    map
}

fn typed(dice: &mut Dice, def: &TypeDef, set: &LexiconSet, depth: usize) -> Value {
    if depth > 8 {
        return Value::Null;
    }
    match set.follow(def) {
        TypeDef::Boolean => Value::Bool(dice.one_in(2)),
        TypeDef::Integer => Value::Int(integer(dice)),
        TypeDef::String(Format::Datetime) => Value::from(datetime(dice)),
        TypeDef::String(_) => Value::from(text(dice)),
        TypeDef::Bytes => Value::Bytes(text(dice).into_bytes()),
        TypeDef::CidLink => Value::Link(cid(dice)),
        TypeDef::Blob => blob(dice),
        TypeDef::Array(item) => (0..dice.below(4))
            .map(|_| typed(dice, item, set, depth + 1))
            .collect::<Vec<_>>()
            .into(),
        TypeDef::Object(inner) => {
            let mut map = object(dice, inner, set, depth + 1);
            if let (TypeDef::Ref(reference), true) = (def, dice.one_in(3)) {
                map.insert("$type", reference.as_str());
            }
            Value::Map(map)
        }
        TypeDef::Union(members) => {
            let member = dice.pick(members);
            match set.resolve(member) {
                Some(TypeDef::Object(inner)) => {
                    let mut map = object(dice, inner, set, depth + 1);
                    map.insert("$type", member.as_str());
                    Value::Map(map)
                }
                _ => anything(dice, depth),
            }
        }
        TypeDef::Ref(_) | TypeDef::Unknown => anything(dice, depth),
    }
}

pub(crate) fn anything(dice: &mut Dice, depth: usize) -> Value {
    match dice.below(if depth > 4 { 8 } else { 10 }) {
        0 => Value::Null,
        1 => Value::Bool(dice.one_in(2)),
        2 => Value::Int(integer(dice)),
        3 => Value::from(text(dice)),
        4 => Value::from(datetime(dice)),
        5 => Value::Bytes(text(dice).into_bytes()),
        6 => Value::Link(cid(dice)),
        7 => blob(dice),
        8 => (0..dice.below(4))
            .map(|_| anything(dice, depth + 1))
            .collect::<Vec<_>>()
            .into(),
        _ => (0..dice.below(4))
            .map(|_| (name(dice), anything(dice, depth + 1)))
            .collect::<Map>()
            .into(),
    }
}

fn name(dice: &mut Dice) -> String {
    // A map with one of these two names has no JSON of its own, and they must not crowd out the rest.
    if dice.one_in(20_000) {
        return (*dice.pick(&["$link", "$bytes"])).to_owned();
    }
    let names = [
        "text",
        "createdAt",
        "subject",
        "uri",
        "cid",
        "embed",
        "facets",
        "langs",
        "reply",
        "root",
        "parent",
        "avatar",
        "$type",
        "",
        "/",
        "/reply",
        "-/$type",
        "~",
        "~1",
        "a/b",
        "did",
        "rkey",
        "extra",
        "raw",
        "index",
        "0",
        "tags",
        "list",
        "name",
        "värde",
    ];
    if dice.one_in(5) {
        text(dice)
    } else {
        (*dice.pick(&names)).to_owned()
    }
}

fn text(dice: &mut Dice) -> String {
    let texts = [
        "",
        "null",
        "{}",
        "at://did:plc:a/app.bsky.feed.post/3k",
        "did:plc:a",
        "https://example.com/",
        "\u{0}\u{7f}\"\\\n",
        "é🦀",
    ];
    if dice.one_in(3) {
        return (0..dice.below(12))
            .map(|_| char::from_u32(u32::try_from(dice.below(0x2ff)).unwrap()).unwrap())
            .collect();
    }
    (*dice.pick(&texts)).to_owned()
}

fn datetime(dice: &mut Dice) -> String {
    let canonical = format!(
        "20{:02}-0{}-1{}T0{}:00:00.{:03}Z",
        dice.below(40),
        1 + dice.below(9),
        dice.below(9),
        dice.below(9),
        dice.below(1000)
    );
    let others = [
        "2026-07-20T10:11:12Z",
        "2026-07-20T10:11:12.1Z",
        "2026-07-20T10:11:12.123456Z",
        "2026-07-20T10:11:12.123456789Z",
        "2026-07-20T10:11:12.000+00:00",
        "2026-07-20T10:11:12.123-05:00",
        "0000-01-01T00:00:00.000Z",
        "0001-01-01T00:00:00.000Z",
        "9999-12-31T23:59:59.999Z",
        "2026-02-30T00:00:00.000Z",
        "2016-12-31T23:59:60.000Z",
        "now",
        "2026-07-20",
    ];
    if dice.one_in(2) {
        canonical
    } else {
        (*dice.pick(&others)).to_owned()
    }
}

fn integer(dice: &mut Dice) -> i64 {
    let edges = [
        0,
        -1,
        23,
        24,
        255,
        256,
        65_536,
        1 << 53,
        (1 << 53) + 1,
        i64::MAX,
        i64::MIN,
    ];
    if dice.one_in(2) {
        *dice.pick(&edges)
    } else {
        dice.next().cast_signed()
    }
}

fn cid(dice: &mut Dice) -> Cid {
    let bytes = dice.next().to_le_bytes();
    if dice.one_in(2) {
        Cid::of_cbor(&bytes)
    } else {
        Cid::of_raw(&bytes)
    }
}

fn blob(dice: &mut Dice) -> Value {
    let mut map = Map::new();
    map.insert("$type", "blob");
    map.insert("ref", cid(dice));
    map.insert("mimeType", "image/png");
    map.insert("size", integer(dice));
    if dice.one_in(5) {
        map.insert(name(dice), text(dice));
    }
    Value::Map(map)
}
