//! Coverages: their canonical text, and that it covers what was asked for.

use proptest::prelude::*;
use proptest::sample::select;

use super::*;

const NAMES: [&str; 6] = [
    "app.bsky.feed.post",
    "app.bsky.feed.like",
    "app.bsky.feed",
    "app.bskyother.feed.post",
    "com.example.thing",
    "a.b.c",
];
const FRONTS: [&str; 5] = ["app.*", "app.bsky.*", "app.bsky.feed.*", "com.*", "a.b.*"];

fn coverage(text: &str) -> Coverage {
    text.parse().expect("a coverage")
}

#[test]
fn a_prefix_covers_whole_labels() {
    let front = coverage("app.bsky.*");
    assert!(front.covers("app.bsky.feed.post"));
    assert!(front.covers("app.bsky.feed"));
    assert!(!front.covers("app.bskyother.feed.post"));
    assert!(!front.covers("app.bsky"));
}

#[test]
fn an_exclusion_is_taken_from_what_is_included() {
    let some = coverage("app.bsky.* !app.bsky.feed.like");
    assert!(some.covers("app.bsky.feed.post"));
    assert!(!some.covers("app.bsky.feed.like"));
    let most = coverage("!app.bsky.feed.like");
    assert!(most.covers("com.example.thing"));
    assert!(!most.covers("app.bsky.feed.like"));
    assert!(!most.is_everything());
}

#[test]
fn the_text_is_canonical() {
    for (text, canonical) in [
        ("", ""),
        ("  ", ""),
        ("b.b.b a.a.a", "a.a.a b.b.b"),
        ("a.a.a a.a.a", "a.a.a"),
        ("a.a.* a.a.a", "a.a.*"),
        ("a.a.a a.* a.a.*", "a.*"),
        ("a.a.a !b.b.b", "a.a.a"),
        ("!b.b.b a.a.a a.a.b !a.a.b", "a.a.a"),
        ("!b.b.b !a.a.a", "!a.a.a !b.b.b"),
        ("a.* !a.a.b !a.a.a", "a.* !a.a.a !a.a.b"),
    ] {
        let coverage = coverage(text);
        assert_eq!(coverage.to_string(), canonical, "of {text:?}");
        assert_eq!(coverage.text_bytes(), canonical.len());
        assert_eq!(Coverage::from_canonical(text).is_some(), text == canonical);
    }
    assert_eq!(coverage(""), Coverage::default());
    assert!(Coverage::default().is_everything());
    let post: Nsid = "app.bsky.feed.post".parse().expect("valid");
    assert_eq!(Coverage::of(post), coverage("app.bsky.feed.post"));
}

#[test]
fn what_is_no_pattern_is_named() {
    for text in [
        "post",
        "*",
        ".*",
        "app*",
        "app.bsky*",
        "app..*",
        "-a.*",
        "1a.*",
        "app.*.post",
        "!app.bsky.*",
        "!",
    ] {
        let error = text.parse::<Coverage>().expect_err(text);
        assert!(
            matches!(&error, CoverageError::Pattern { pattern, .. } if pattern == text),
            "{text}: {error:?}"
        );
    }
    assert_eq!(
        "a.a.a !a.a.a".parse::<Coverage>(),
        Err(CoverageError::Nothing)
    );
    let long: Vec<String> = (0..1_000).map(|number| format!("a.a.a{number}")).collect();
    assert!(matches!(
        long.join(" ").parse::<Coverage>(),
        Err(CoverageError::TooLong { bytes: 8_889 })
    ));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn it_covers_what_its_words_say(
        include in prop::collection::vec(select([&NAMES[..], &FRONTS[..]].concat()), 0..4),
        exclude in prop::collection::vec(select(NAMES.to_vec()), 0..3),
    ) {
        let words: Vec<Pattern> = include.iter().map(|word| word.parse().expect("a pattern")).collect();
        let names = || exclude.iter().map(|name| name.parse::<Nsid>().expect("an NSID"));
        let asked = |name: &str| {
            (words.is_empty() || words.iter().any(|word| word.covers(name))) && !exclude.contains(&name)
        };
        match Coverage::new(words.clone(), names()) {
            Ok(coverage) => {
                for name in NAMES {
                    prop_assert_eq!(coverage.covers(name), asked(name), "{} of {}", name, coverage);
                }
                let text = coverage.to_string();
                prop_assert_eq!(Coverage::from_canonical(&text), Some(coverage.clone()));
                let turned = Coverage::new(words.into_iter().rev(), names().rev());
                prop_assert_eq!(turned, Ok(coverage));
            }
            Err(CoverageError::Nothing) => prop_assert!(!NAMES.into_iter().any(asked)),
            Err(error) => prop_assert!(false, "{error}"),
        }
    }
}
