//! Lexicons as they are read, the official vectors, and the names and kinds of columns.

#![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use crdt::RecordChange;
use crdt::atproto::{cbor, json};
use serde_json::{Value as Json, json};

use super::{
    ColumnKind, LexiconDoc, LexiconError, LexiconSet, RecordType, record_type, snake_case,
};
use crate::schema::Catalog;
use crate::shred::tests::{assert_comes_back, change_of, shred};

/// Returns one of the official vectors; `tests/fixtures/MANIFEST.md` says where they come from.
fn vectors(name: &str) -> Json {
    let path: PathBuf = [
        env!("CARGO_MANIFEST_DIR"),
        "../../tests/fixtures/atproto/interop/lexicon",
        name,
    ]
    .iter()
    .collect();
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn record_of(defs: Json) -> RecordType {
    let mut set = LexiconSet::default();
    set.insert(
        LexiconDoc::parse(&json!({"lexicon": 1, "id": "org.example.thing", "defs": defs})).unwrap(),
    );
    record_type(&Arc::new(set), "org.example.thing", None).unwrap()
}

fn record_with(properties: Json) -> RecordType {
    record_of(
        json!({"main": {"type": "record", "record": {"type": "object", "properties": properties}}}),
    )
}

#[test]
fn the_official_lexicons_are_read_or_refused_as_they_should_be() {
    for case in vectors("lexicon-valid.json").as_array().unwrap() {
        LexiconDoc::parse(&case["lexicon"]).unwrap();
    }
    for case in vectors("lexicon-invalid.json").as_array().unwrap() {
        assert!(
            LexiconDoc::parse(&case["lexicon"]).is_err(),
            "{}",
            case["name"]
        );
    }
    for name in [
        "permission-set",
        "procedure",
        "query",
        "record",
        "subscription",
    ] {
        LexiconDoc::parse(&vectors(&format!("catalog/{name}.json"))).unwrap();
    }
}

#[test]
fn the_official_records_come_back_valid_or_not_and_need_no_raw() {
    let catalog = Catalog::builtin()
        .with_lexicon(&vectors("catalog/record.json"))
        .unwrap();
    let table = catalog.records_of("example.lexicon.record");
    let cases = [
        vectors("record-data-valid.json"),
        vectors("record-data-invalid.json"),
    ];
    let changes: Vec<RecordChange> = cases
        .iter()
        .flat_map(|cases| cases.as_array().unwrap())
        .filter_map(|case| json::from_json(&case["data"]).ok())
        .map(|data| {
            change_of(
                "example.lexicon.record",
                "demo",
                Bytes::from(cbor::encode(&data)),
            )
        })
        .collect();
    let shredded = shred(table, &changes);
    assert_comes_back(table, &shredded.batch, &changes);
    assert_eq!(shredded.raw, 0);
    assert!(changes.len() >= 50, "{}", changes.len());
}

#[test]
fn what_is_malformed_is_named() {
    let parse = |json: Json| LexiconDoc::parse(&json).unwrap_err();
    assert_eq!(parse(json!([])), LexiconError::NotAnObject);
    assert_eq!(
        parse(json!({"id": "a.b.c", "defs": {}})),
        LexiconError::Language
    );
    assert_eq!(
        parse(json!({"lexicon": 2, "id": "a.b.c", "defs": {}})),
        LexiconError::Language
    );
    assert_eq!(parse(json!({"lexicon": 1, "defs": {}})), LexiconError::Id);
    assert_eq!(
        parse(json!({"lexicon": 1, "id": "a.b.c"})),
        LexiconError::NoDefs {
            id: "a.b.c".to_owned()
        }
    );
    let at = |def: Json| match parse(json!({"lexicon": 1, "id": "a.b.c", "defs": {"x": def}})) {
        LexiconError::Definition { id, at, what } => {
            assert_eq!(id, "a.b.c");
            format!("{at}: {what}")
        }
        other => panic!("{other}"),
    };
    for (def, place) in [
        (json!(5), "defs.x: it has no type"),
        (json!({"type": 5}), "defs.x.type: a text belongs here"),
        (json!({"type": "array"}), "defs.x: it has no items"),
        (
            json!({"type": "union", "refs": [5]}),
            "defs.x.refs[0]: a text belongs here",
        ),
        (
            json!({"type": "object", "properties": {"a": {"type": "array", "items": 5}}}),
            "defs.x.properties.a.items: it has no type",
        ),
        (
            json!({"type": "object", "properties": []}),
            "defs.x.properties: a JSON object belongs here",
        ),
        (
            json!({"type": "record"}),
            "defs.x: only the definition main can be a record",
        ),
        (
            json!({"type": "unknown"}),
            "defs.x: a definition can't be of the types ref and unknown",
        ),
    ] {
        assert_eq!(at(def), place);
    }
    let mut nested = json!({"type": "string"});
    for _ in 0..100 {
        nested = json!({"type": "array", "items": nested});
    }
    assert!(at(nested).ends_with(".items: definitions are nested more than 32 deep"));
}

#[test]
fn a_lexicon_without_a_record_gives_no_table() {
    let defs =
        json!({"lexicon": 1, "id": "org.example.defs", "defs": {"thing": {"type": "string"}}});
    let before = Catalog::builtin();
    let after = before.with_lexicon(&defs).unwrap();
    assert_eq!(after.tables().count(), before.tables().count());
    assert_eq!(after.added_lexicons().len(), 1);
}

#[test]
fn each_type_has_its_kind_of_column() {
    let record = record_with(json!({
        "a": {"type": "string"}, "b": {"type": "string", "format": "datetime"}, "c": {"type": "integer"}, "d": {"type": "boolean"},
        "e": {"type": "bytes"}, "f": {"type": "cid-link"}, "g": {"type": "blob"}, "h": {"type": "unknown"},
        "i": {"type": "union", "refs": ["#x"]}, "j": {"type": "array", "items": {"type": "integer"}},
        "k": {"type": "object", "properties": {}}, "l": {"type": "ref", "ref": "org.elsewhere.defs#gone"},
        "m": {"type": "brand-new"}, "n": {"type": "ref", "ref": "com.atproto.repo.strongRef"}}));
    let kinds: Vec<(&str, &ColumnKind)> = record
        .columns()
        .iter()
        .map(|column| (column.name.as_str(), &column.kind))
        .collect();
    let list = ColumnKind::List(Box::new(ColumnKind::Integer));
    assert_eq!(
        kinds,
        [
            ("a", &ColumnKind::Text),
            ("b", &ColumnKind::Datetime),
            ("c", &ColumnKind::Integer),
            ("d", &ColumnKind::Boolean),
            ("e", &ColumnKind::Bytes),
            ("f", &ColumnKind::CidLink),
            ("g", &ColumnKind::Blob),
            ("h", &ColumnKind::Json),
            ("i", &ColumnKind::Json),
            ("j", &list),
            ("k", &ColumnKind::Json),
            ("l", &ColumnKind::Json),
            ("m", &ColumnKind::Json),
            ("n_uri", &ColumnKind::Text),
            ("n_cid", &ColumnKind::Text),
        ]
    );
}

#[test]
fn definitions_that_hold_themselves_end_as_json() {
    let record = record_of(json!({
        "main": {"type": "record", "record": {"type": "object", "properties": {
            "tree": {"type": "ref", "ref": "#tree"}, "nest": {"type": "ref", "ref": "#nest"}, "loop": {"type": "ref", "ref": "#loop"}}}},
        "tree": {"type": "object", "properties": {"left": {"type": "ref", "ref": "#tree"}, "name": {"type": "string"}}},
        "nest": {"type": "array", "items": {"type": "ref", "ref": "#nest"}},
        "loop": {"type": "array", "items": {"type": "ref", "ref": "org.example.thing#loop"}}}));
    let depth = |kind: &ColumnKind| {
        let shown = format!("{kind:?}");
        shown
            .matches("Struct(")
            .count()
            .max(shown.matches("List(").count())
    };
    for column in record.columns() {
        assert_eq!(depth(&column.kind), 4, "{column:?}");
        assert!(format!("{:?}", column.kind).contains("Json"));
    }
}

#[test]
fn definitions_that_multiply_end_as_json() {
    let fields = |reference: &str| {
        let field = |n: usize| (format!("f{n}"), json!({"type": "ref", "ref": reference}));
        (0..50).map(field).collect::<serde_json::Map<_, _>>()
    };
    let object = |reference: &str| json!({"type": "object", "properties": fields(reference)});
    let record = record_of(json!({
        "main": {"type": "record", "record": object("#a")}, "a": object("#b"), "b": object("#c"), "c": object("#refs"),
        "refs": object("com.atproto.repo.strongRef")}));
    assert_eq!(record.columns().len(), 50);
    let fields = format!("{:?}", record.columns())
        .matches("StructField")
        .count();
    assert_eq!(fields, super::columns::FIELDS_MAX);

    let record = record_of(
        json!({"main": {"type": "record", "record": object("#refs")}, "refs": object("com.atproto.repo.strongRef")}),
    );
    let fit = super::columns::FIELDS_MAX / 50;
    assert_eq!(record.columns().len(), fit * 100 + (50 - fit));
}

#[test]
fn names_that_meet_in_snake_case_are_told_apart() {
    let string = json!({"type": "string"});
    let record = record_with(json!({
        "fooBar": string, "foo_bar": string, "FooBar": string, "uri": string, "createdAt": string, "subject": {"type": "ref",
        "ref": "com.atproto.repo.strongRef"}, "subject_uri": string, "$type": string}));
    let names: Vec<&str> = record
        .columns()
        .iter()
        .map(|column| column.name.as_str())
        .collect();
    assert_eq!(
        names.join(" "),
        "foo_bar record_created_at record_foo_bar record_foo_bar_2 subject_uri subject_cid record_subject_uri record_uri"
    );
}

#[test]
fn snake_case_splits_words_and_acronyms() {
    let cases = [
        ("text", "text"),
        ("createdAt", "created_at"),
        ("detachedEmbeddingUris", "detached_embedding_uris"),
        ("avatarURL", "avatar_url"),
        ("HTTPServer", "http_server"),
        ("sha256Sum", "sha256_sum"),
        ("kebab-case.dot", "kebab_case_dot"),
        ("Ärger", "ärger"),
    ];
    for (name, snake) in cases {
        assert_eq!(snake_case(name), snake);
    }
}
