//! Which references a record makes, with a Lexicon and without.

#![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]

use crdt::atproto::json;
use serde_json::json;

use super::links_of;
use crate::schema::{Catalog, TableName};

const CID: &str = "bafyreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a";

/// Returns `path target`, one line per reference.
fn told(table: Option<&str>, record: &serde_json::Value) -> String {
    let catalog = Catalog::builtin();
    let table = table.map(|table| catalog.table(&TableName::new("bsky", table)).unwrap());
    let lexicon = table.and_then(|table| table.record_type());
    let links = links_of(
        &json::from_json(record).unwrap(),
        lexicon.map(AsRef::as_ref),
    );
    links
        .iter()
        .map(|link| format!("{} {}\n", link.path, link.target))
        .collect()
}

fn post() -> serde_json::Value {
    json!({
        "$type": "app.bsky.feed.post",
        "text": "https://in.text/ is no reference, nor is did:plc:text",
        "createdAt": "2026-07-20T10:11:12.123Z",
        "reply": {
            "root": {"uri": "at://did:plc:a/app.bsky.feed.post/1", "cid": CID},
            "parent": {"uri": "at://did:plc:b/app.bsky.feed.post/2", "cid": CID}},
        "facets": [
            {"index": {"byteStart": 0, "byteEnd": 1}, "features": [
                {"$type": "app.bsky.richtext.facet#mention", "did": "did:plc:c"},
                {"$type": "app.bsky.richtext.facet#link", "uri": "http://plain.example/"},
                {"$type": "app.bsky.richtext.facet#tag", "tag": "https://no.link/"}]},
            {"index": {"byteStart": 2, "byteEnd": 3}, "features": [
                {"$type": "app.bsky.richtext.facet#mention", "did": "did:plc:c"},
                {"$type": "org.example#unknown", "see": "https://found.example/", "who": "did:plc:d"}]}],
        "embed": {
            "$type": "app.bsky.embed.recordWithMedia",
            "record": {"$type": "app.bsky.embed.record", "record": {"uri": "at://did:plc:e/app.bsky.feed.post/3", "cid": CID}},
            "media": {"$type": "app.bsky.embed.external", "external": {
                "uri": "https://card.example/", "title": "https://title.example/", "description": "",
                "thumb": {"$type": "blob", "ref": {"$link": CID}, "mimeType": "https://blob.example/", "size": 1}}}},
        "bridgyOriginalUrl": "https://unknown.field/"
    })
}

#[test]
fn with_a_lexicon_formats_say_what_is_a_reference() {
    assert_eq!(
        told(Some("post"), &post()),
        "embed.media.external.uri https://card.example/\n\
         embed.record.record.uri at://did:plc:e/app.bsky.feed.post/3\n\
         reply.root.uri at://did:plc:a/app.bsky.feed.post/1\n\
         reply.parent.uri at://did:plc:b/app.bsky.feed.post/2\n\
         facets[].features[].did did:plc:c\n\
         facets[].features[].uri http://plain.example/\n\
         facets[].features[].see https://found.example/\n\
         facets[].features[].who did:plc:d\n\
         bridgyOriginalUrl https://unknown.field/\n"
    );
}

#[test]
fn without_a_lexicon_every_string_that_parses_is_a_reference() {
    assert_eq!(
        told(
            None,
            &json!({"$type": "x.y.z", "a": "at://did:plc:a", "b": ["did:web:b.example", "https://b/", "http://b/", "did:", "at://-"],
                "c": {"d": "see https://c/", "cid": CID, "blob": {"$type": "blob", "mimeType": "https://no/"}}})
        ),
        "a at://did:plc:a\nb[] did:web:b.example\nb[] https://b/\n"
    );
}

#[test]
fn a_value_of_another_type_than_the_lexicons_is_searched_whole() {
    assert_eq!(
        told(Some("follow"), &json!({"subject": {"did": "did:plc:a"}})),
        "subject.did did:plc:a\n"
    );
    assert_eq!(
        told(Some("follow"), &json!({"subject": "did:plc:a", "via": 1})),
        "subject did:plc:a\n"
    );
    assert_eq!(told(Some("follow"), &json!({"subject": "no did"})), "");
    assert_eq!(
        told(Some("follow"), &json!(["did:plc:a"])),
        "[] did:plc:a\n"
    );
}

#[test]
fn a_target_says_whose_it_is() {
    let record = json!({"a": "at://did:plc:a/app.bsky.feed.post/1", "b": "at://handle.example/app.bsky.feed.post/1", "c": "did:plc:c",
        "d": "https://d/"});
    let links = links_of(&json::from_json(&record).unwrap(), None);
    let told: Vec<_> = links
        .iter()
        .map(|l| (l.target_did.as_deref(), l.target_collection.as_deref()))
        .collect();
    let collection = Some("app.bsky.feed.post");
    assert_eq!(
        told,
        [
            (Some("did:plc:a"), collection),
            (None, collection),
            (Some("did:plc:c"), None),
            (None, None)
        ]
    );
}
