//! Names, aliases and columns of the built-in tables, and tables of a Lexicon of one's own.

#![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]

use arrow::datatypes::DataType;
use serde_json::json;

use super::{Catalog, TableDef, TableName};

fn typed_columns(def: &TableDef) -> Vec<String> {
    let names: Vec<&str> = def
        .schema
        .fields()
        .iter()
        .map(|field| field.name().as_str())
        .collect();
    let from = names
        .iter()
        .position(|name| *name == "verification")
        .unwrap()
        + 1;
    names[from..names.len() - 2]
        .iter()
        .map(|name| (*name).to_owned())
        .collect()
}

fn bsky(table: &str) -> TableName {
    TableName::new("bsky", table)
}

#[test]
fn every_builtin_lexicon_is_well_formed_and_every_record_type_has_a_table() {
    let catalog = Catalog::builtin();
    let records: Vec<&str> = catalog
        .tables()
        .filter(|def| def.record_type().is_some())
        .map(|def| def.name.table.as_str())
        .collect();
    assert_eq!(records.len(), 19, "{records:?}");
}

#[test]
fn aliases_are_the_last_part_of_the_nsid_in_lower_case() {
    let catalog = Catalog::builtin();
    let aliases: Vec<String> = catalog
        .tables()
        .flat_map(|def| &def.aliases)
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        aliases.join(" "),
        "bsky.contentvisibilitydeclaration bsky.profile bsky.status bsky.generator bsky.like bsky.post bsky.postgate bsky.repost \
         bsky.threadgate bsky.block bsky.follow bsky.list bsky.listblock bsky.listitem bsky.starterpack bsky.verification \
         bsky.service bsky.declaration bsky.actor_declaration"
    );
    let table = |alias: &str| catalog.table(&bsky(alias)).unwrap().name.to_string();
    assert_eq!(
        table("declaration"),
        "atproto.\"app.bsky.notification.declaration\""
    );
    assert_eq!(
        table("actor_declaration"),
        "atproto.\"chat.bsky.actor.declaration\""
    );
}

#[test]
fn a_post_has_the_columns_that_its_lexicon_gives() {
    let catalog = Catalog::builtin();
    let post = catalog.table(&bsky("post")).unwrap();
    assert_eq!(
        typed_columns(post).join(" "),
        "text embed entities facets labels langs reply_root_uri reply_root_cid reply_parent_uri reply_parent_cid tags"
    );
    assert_eq!(
        post.schema.field_with_name("embed").unwrap().data_type(),
        &DataType::Utf8
    );
    facets_are_structs(post);
}

fn facets_are_structs(post: &TableDef) {
    let DataType::List(facet) = post.schema.field_with_name("facets").unwrap().data_type() else {
        panic!("a list")
    };
    let DataType::Struct(fields) = facet.data_type() else {
        panic!("of structs")
    };
    let names: Vec<&str> = fields.iter().map(|field| field.name().as_str()).collect();
    assert_eq!(names, ["index", "features"]);
    let DataType::List(feature) = fields[1].data_type() else {
        panic!("a list of features")
    };
    assert_eq!(
        feature.data_type(),
        &DataType::Utf8,
        "an open union is JSON text"
    );
}

#[test]
fn a_property_whose_name_is_taken_gets_a_prefix() {
    let catalog = Catalog::builtin();
    let generator = typed_columns(catalog.table(&bsky("generator")).unwrap());
    assert!(
        generator.contains(&"record_did".to_owned()),
        "{generator:?}"
    );
    assert!(!generator.contains(&"created_at".to_owned()));
}

#[test]
fn a_lexicon_of_ones_own_becomes_a_table_and_later_versions_only_add_columns() {
    let lexicon = |properties: serde_json::Value| {
        json!({"lexicon": 1, "id": "org.example.note", "defs": {
            "main": {"type": "record", "key": "tid", "record": {"type": "object", "required": ["body"], "properties": properties}}}})
    };
    let string = json!({"type": "string"});
    let first = Catalog::builtin()
        .with_lexicon(&lexicon(
            json!({"body": string, "rating": {"type": "integer"}}),
        ))
        .unwrap();
    let table = first.records_of("org.example.note");
    assert_eq!(table.name.to_string(), "atproto.\"org.example.note\"");
    assert_eq!(typed_columns(table), ["body", "rating"]);

    let second = first
        .with_lexicon(&lexicon(
            json!({"body": string, "rating": string, "aboutURL": string}),
        ))
        .unwrap();
    let table = second.records_of("org.example.note");
    assert_eq!(typed_columns(table), ["body", "rating", "about_url"]);
    assert_eq!(
        table.schema.field_with_name("rating").unwrap().data_type(),
        &DataType::Int64
    );
    assert_eq!(second.added_lexicons().len(), 2);
}

#[test]
fn records_without_a_lexicon_stand_in_the_untyped_table() {
    let catalog = Catalog::builtin();
    let def = catalog.records_of("com.example.unheard");
    assert_eq!(def.key, ["did", "collection", "rkey"]);
    assert!(def.hidden);
    assert_eq!(def.tombstone_schema().unwrap().fields().len(), 5);
}

#[test]
fn key_columns_are_there_and_not_null() {
    for def in Catalog::builtin().tables() {
        for column in def.key {
            assert!(
                !def.schema.field_with_name(column).unwrap().is_nullable(),
                "{} {column}",
                def.name
            );
        }
        for column in def.order {
            assert!(
                def.schema.field_with_name(column).is_ok(),
                "{} {column}",
                def.name
            );
        }
    }
}

#[test]
fn an_alias_once_given_stays_with_its_table() {
    let lexicon = |id: &str| json!({"lexicon": 1, "id": id, "defs": {"main": {"type": "record", "record": {"type": "object"}}}});
    let mut catalog = Catalog::builtin();
    for id in [
        "app.bsky.aaa.post",
        "chat.bsky.convo.message",
        "app.bsky.feed.post",
        "org.example.post",
        "app.bsky.aab.post",
    ] {
        catalog = catalog.with_lexicon(&lexicon(id)).unwrap();
    }
    let aliases = |id: &str| {
        catalog
            .records_of(id)
            .aliases
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(aliases("app.bsky.feed.post"), "bsky.post");
    assert_eq!(aliases("app.bsky.aaa.post"), "bsky.aaa_post");
    assert_eq!(aliases("app.bsky.aab.post"), "bsky.aab_post");
    assert_eq!(aliases("chat.bsky.convo.message"), "bsky.message");
    assert_eq!(aliases("org.example.post"), "");
    assert!(typed_columns(catalog.records_of("app.bsky.feed.post")).contains(&"facets".to_owned()));
}
