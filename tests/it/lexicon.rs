//! A Lexicon that is added while a store is in use: by the command, seen by processes that run already, in SQL.

use std::path::PathBuf;

use serde_json::{Value as Json, json};
use tables::compactor::{Compactor, CompactorSettings};
use tables::flush::FlushSettings;
use tables::lexicon::LexiconDoc;
use tempfile::TempDir;

use crate::process::{run, succeed};
use crate::slt::run_all;
use crate::world::{World, append, record_change, rows_equal_their_cids};

const RECIPE: &str = "com.example.recipe";

fn lexicon_file() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/sql/lexicon/com.example.recipe.json")
}

fn lexicon() -> LexiconDoc {
    let text = std::fs::read_to_string(lexicon_file()).expect("the Lexicon");
    LexiconDoc::parse(&serde_json::from_str(&text).expect("JSON")).expect("a Lexicon")
}

fn did(letter: &str) -> String {
    format!("did:plc:{}", letter.repeat(24))
}

fn recipe(name: &str, more: Json) -> Json {
    let mut recipe = json!({
        "$type": RECIPE, "name": name, "createdAt": "2026-07-04T12:00:00.000Z"
    });
    let Json::Object(more) = more else {
        panic!("fields")
    };
    for (field, value) in more {
        recipe[field] = value;
    }
    recipe
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_answers_alike_before_and_after_its_records_are_moved() {
    let world = World::in_memory().await;
    // A process that runs from before the Lexicon to the end.
    let old = world.another_process().await;
    let (a, b) = (did("a"), did("b"));
    let mut writer = world.node.writer();
    let crepes = format!("at://{b}/{RECIPE}/3mptbyp63ih2m");
    let pancakes = json!({
        "servings": 4,
        "ingredients": [{"name": "flour", "grams": 200}, {"name": "milk", "grams": 300}],
        "basedOn": crepes,
        "tip": {"$type": "com.example.recipe#tip", "text": "wait an hour", "by": b},
    });
    let at = |rkey: &str| format!("{RECIPE}/{rkey}");
    let changes = vec![
        record_change(
            &a,
            &at("3mptbyplj5d2a"),
            1,
            Some(&recipe("Pancakes", pancakes)),
        ),
        record_change(
            &b,
            &at("3mptbyp63ih2m"),
            1,
            Some(&recipe("Crêpes", json!({"servings": "two"}))),
        ),
        record_change(
            &a,
            &at("3mpsjbtci2c2o"),
            1,
            Some(&recipe("Soup", json!({}))),
        ),
        record_change(
            &a,
            "com.example.thing/self",
            1,
            Some(&json!({"$type": "com.example.thing", "what": "spoon"})),
        ),
    ];
    append(&mut writer, changes).await;
    world.node.flush().await;
    let lexicons = vec![lexicon()];
    let added = tables::additions::add(&world.node.tables, "test", lexicons).await;
    assert!(added.expect("added").root.is_some());
    let waffles = recipe(
        "Waffles",
        json!({"servings": 2, "ingredients": [{"name": "flour"}]}),
    );
    let later = vec![
        record_change(&a, &at("3mptbyplj5d22"), 2, Some(&waffles)),
        record_change(&a, &at("3mpsjbtci2c2o"), 2, None),
    ];
    append(&mut writer, later).await;
    let before = rows_equal_their_cids(&world.node).await;
    for node in [&world.node, &old] {
        run_all("tests/sql/lexicon", &node.tables).await;
    }
    world.node.flush().await;
    run_all("tests/sql/lexicon", &old.tables).await;
    let settings = CompactorSettings {
        flush: FlushSettings::at_once(),
        ..CompactorSettings::default()
    };
    // By the process that has known of no such table when it began.
    let compactor = Compactor::new(old.tables.clone(), "test".to_owned(), settings);
    let mut moved = 0;
    loop {
        let round = compactor.run_once().await.expect("compacts");
        moved += round.reprojected;
        if round.root.is_none() {
            break;
        }
    }
    assert_eq!(moved, 2, "the soup was deleted before");
    for node in [&world.node, &old, &world.another_process().await] {
        run_all("tests/sql/lexicon", &node.tables).await;
        assert_eq!(rows_equal_their_cids(node).await, before);
    }
}

#[test]
fn the_command_adds_lists_and_says_what_is_wrong_where() {
    let folder = TempDir::new().expect("a folder");
    let data = folder.path().join("data").display().to_string();
    let file = lexicon_file().display().to_string();
    let none = run(&["lexicon", "list", "--store", &data]);
    assert!(!none.status.success(), "a list makes no store");

    let added = succeed(&["lexicon", "add", "--store", &data, &file]);
    assert!(
        added.starts_with("added com.example.recipe at version 1\n"),
        "{added}"
    );
    assert!(
        added.contains("atproto.\"com.example.recipe\"\n  name Utf8, "),
        "{added}"
    );
    assert!(
        added.contains("based_on Utf8") && added.contains("review_uri Utf8"),
        "{added}"
    );
    assert!(added.contains("0 records, 0 of them wait"), "{added}");
    let again = succeed(&["lexicon", "add", "--store", &data, &file]);
    assert!(again.starts_with("nothing to add"), "{again}");
    let listed = succeed(&["lexicon", "list", "--store", &data]);
    assert!(listed.contains("servings Int64"), "{listed}");

    let lexicons = folder.path().join("lexicons/deeper");
    std::fs::create_dir_all(&lexicons).expect("folders");
    let book = json!([
        {"lexicon": 1, "id": "com.example.book", "defs": {"main": {"type": "record", "record": {
            "type": "object", "properties": {"by": {"type": "ref", "ref": "com.example.defs#person"}}}}}},
        {"lexicon": 1, "id": "com.example.defs", "defs": {"person": {"type": "object", "properties": {
            "name": {"type": "string"}}}}}
    ]);
    std::fs::write(lexicons.join("book.json"), book.to_string()).expect("a file");
    let parent = folder.path().join("lexicons").display().to_string();
    let added = succeed(&["lexicon", "add", "--store", &data, &parent]);
    assert!(
        added.contains("com.example.book") && added.contains("by Struct"),
        "{added}"
    );
    let none = "SELECT count(*) AS n FROM atproto.\"com.example.book\"";
    let counted = succeed(&["sql", "--store", &data, "--format", "csv", none]);
    assert_eq!(counted, "n\n0\n");

    let wrong = json!({"lexicon": 1, "id": "com.example.bad", "defs": {"main": {"type": "record", "record": {
        "type": "object", "properties": {"steps": {"type": "array"}}}}}});
    let bad = folder.path().join("bad.json");
    std::fs::write(&bad, wrong.to_string()).expect("a file");
    let refused = run(&[
        "lexicon",
        "add",
        "--store",
        &data,
        &bad.display().to_string(),
    ]);
    let said = String::from_utf8(refused.stderr).expect("UTF-8");
    assert_eq!(
        (refused.status.code(), said.lines().count()),
        (Some(1), 1),
        "{said}"
    );
    assert!(
        said.contains("bad.json")
            && said.contains("defs.main.record.properties.steps: it has no items"),
        "{said}"
    );
}
