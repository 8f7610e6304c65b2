//! `syntax/`: one identifier per line, valid or not; blanks within a line count.

use atproto::syntax::{at_uri, cid, datetime, language, uri};
use atproto::{AtUri, Did, Handle, Language, Nsid, RecordKey, Tid};

/// Returns the lines that are vectors: not empty, no comment.
fn lines(name: &str) -> Vec<String> {
    let text = super::read(&format!("syntax/{name}.txt"));
    text.lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(str::to_owned)
        .collect()
}

/// Asserts of each line of `name` whether `accepts` takes it, and how many there are.
fn run(name: &str, count: usize, valid: bool, accepts: impl Fn(&str) -> bool) {
    let lines = lines(name);
    assert_eq!(lines.len(), count, "vectors in {name}");
    for line in lines {
        assert_eq!(accepts(&line), valid, "{name}: {line:?}");
    }
}

fn parses<T: std::str::FromStr + std::fmt::Display>(text: &str) -> bool {
    match text.parse::<T>() {
        Ok(parsed) => {
            assert_eq!(parsed.to_string(), text, "an identifier keeps its text");
            true
        }
        Err(_) => false,
    }
}

#[test]
fn dids() {
    run("did_syntax_valid", 24, true, parses::<Did>);
    run("did_syntax_invalid", 18, false, parses::<Did>);
}

#[test]
fn handles() {
    run("handle_syntax_valid", 71, true, parses::<Handle>);
    run("handle_syntax_invalid", 48, false, parses::<Handle>);
}

#[test]
fn at_identifiers() {
    run(
        "atidentifier_syntax_valid",
        11,
        true,
        at_uri::is_at_identifier,
    );
    run(
        "atidentifier_syntax_invalid",
        22,
        false,
        at_uri::is_at_identifier,
    );
}

#[test]
fn nsids() {
    run("nsid_syntax_valid", 25, true, parses::<Nsid>);
    run("nsid_syntax_invalid", 27, false, parses::<Nsid>);
}

#[test]
fn record_keys() {
    run("recordkey_syntax_valid", 16, true, parses::<RecordKey>);
    run("recordkey_syntax_invalid", 11, false, parses::<RecordKey>);
}

#[test]
fn tids() {
    run("tid_syntax_valid", 4, true, parses::<Tid>);
    run("tid_syntax_invalid", 9, false, parses::<Tid>);
}

#[test]
fn at_uris() {
    run("aturi_syntax_valid", 23, true, parses::<AtUri>);
    run("aturi_syntax_invalid", 72, false, parses::<AtUri>);
}

#[test]
fn uris() {
    run("uri_syntax_valid", 9, true, uri::is_uri);
    run("uri_syntax_invalid", 12, false, uri::is_uri);
}

#[test]
fn cids() {
    run("cid_syntax_valid", 8, true, cid::is_cid);
    run("cid_syntax_invalid", 10, false, cid::is_cid);
}

#[test]
fn languages() {
    run("language_syntax_valid", 18, true, parses::<Language>);
    run("language_syntax_valid", 18, true, language::is_well_formed);
    run(
        "language_syntax_invalid",
        7,
        false,
        language::is_well_formed,
    );
    run("language_syntax_invalid", 7, false, parses::<Language>);
    run("language_parse_invalid", 4, true, language::is_well_formed);
    run("language_parse_invalid", 4, false, parses::<Language>);
}

#[test]
fn datetimes() {
    let parses = |text: &str| datetime::parse(text).is_ok();
    run("datetime_syntax_valid", 35, true, parses);
    run("datetime_syntax_valid", 35, true, datetime::is_well_formed);
    run(
        "datetime_syntax_invalid",
        45,
        false,
        datetime::is_well_formed,
    );
    run("datetime_syntax_invalid", 45, false, parses);
    run("datetime_parse_invalid", 7, true, datetime::is_well_formed);
    run("datetime_parse_invalid", 7, false, parses);
}

#[test]
fn no_file_is_left_out() {
    let source = include_str!("syntax.rs");
    let folder = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/fixtures/atproto/interop/syntax"
    );
    let mut files = 0;
    for entry in std::fs::read_dir(folder).expect("the vectors") {
        let name = entry
            .expect("an entry")
            .file_name()
            .into_string()
            .expect("UTF-8");
        let name = name.strip_suffix(".txt").expect("a text file");
        assert!(source.contains(&format!("\"{name}\"")), "{name} is not run");
        files += 1;
    }
    assert_eq!(files, 24);
}
