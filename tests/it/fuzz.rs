//! Runs every fuzz target over its corpus and over seeded mutations of it.
//!
//! `cargo fuzz` explores for hours and needs a nightly compiler; this is the part of it that a stable one does in
//! seconds, the same on every run. An input that fails is printed in hexadecimal: put its bytes into
//! `tests/fuzz/corpus/<target>/`, and it stays covered.

use std::panic::catch_unwind;
use std::path::PathBuf;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

#[path = "../fuzz/targets/mod.rs"]
mod targets;

/// Takes any bytes, and panics if a decoder breaks its promises on them.
type Target = fn(&[u8]);

/// Every target, named as its folder in the corpus and its entry in `tests/fuzz/Cargo.toml` are.
const TARGETS: &[(&str, Target)] = &[
    ("body", targets::body::body),
    ("car", targets::car::car),
    ("catalog", targets::catalog::catalog),
    ("cbor", targets::cbor::cbor),
    ("cid", targets::cid::cid),
    ("coverage", targets::coverage::coverage),
    ("datetime", targets::datetime::datetime),
    ("did_document", targets::did_document::did_document),
    ("frame", targets::frame::frame),
    ("index", targets::index::index),
    ("json", targets::json::json),
    ("log_object", targets::log_object::log_object),
    ("marks", targets::marks::marks),
    ("mst", targets::mst::mst),
    ("multikey", targets::multikey::multikey),
    ("part", targets::part::part),
    ("recording", targets::recording::recording),
    ("root", targets::root::root),
    ("section", targets::section::section),
    ("syntax", targets::syntax::syntax),
];

const SEED: u64 = 0x0a11_0711;

/// How many mutated inputs each target gets.
const MUTATIONS: usize = 20_000;

/// How much longer than its seeds a mutated input may get.
const GROWTH_MAX: usize = 4 * 1024;

/// Bytes at which decoders branch: limits of integers, CBOR's heads, JSON's and identifiers' punctuation.
const TELLING: &[u8] = b"\x00\x01\x17\x18\x1b\x20\x3b\x40\x58\x5f\x60\x7f\x80\x9f\xa0\xbf\xd8\xf4\xf6\xf7\xf9\xfb\xff{}[]\",:\\.-/%+=$09azAZT";

#[test]
fn every_target_holds_on_its_corpus_and_on_mutations_of_it() {
    for (name, target) in TARGETS {
        let corpus = corpus(name);
        for seed in &corpus {
            hold(name, *target, seed);
        }
        let mut random = StdRng::seed_from_u64(SEED);
        for _ in 0..MUTATIONS {
            hold(name, *target, &mutated(&corpus, &mut random));
        }
        hold(name, *target, &[]);
    }
}

#[test]
fn mutations_are_the_same_on_every_run() {
    let corpus = corpus("cbor");
    let run = |seed| {
        let mut random = StdRng::seed_from_u64(seed);
        (0..100)
            .map(|_| mutated(&corpus, &mut random))
            .collect::<Vec<_>>()
    };
    assert_eq!(run(SEED), run(SEED));
    assert_ne!(run(SEED), run(SEED + 1));
}

#[test]
fn every_target_has_a_corpus_and_an_entry_for_cargo_fuzz() {
    let manifest =
        std::fs::read_to_string(folder().join("Cargo.toml")).expect("tests/fuzz/Cargo.toml");
    for (name, _) in TARGETS {
        assert!(!corpus(name).is_empty(), "{name} has no corpus");
        assert!(
            manifest.contains(&format!("path = \"bins/{name}.rs\"")),
            "{name} is no [[bin]]"
        );
        let entry = std::fs::read_to_string(folder().join(format!("bins/{name}.rs")));
        assert!(
            entry.is_ok_and(|entry| entry.contains("fuzz_target!")),
            "{name} has no entry"
        );
    }
    let targets = std::fs::read_dir(folder().join("targets"))
        .expect("tests/fuzz/targets")
        .count();
    assert_eq!(
        targets,
        TARGETS.len() + 1,
        "each target in the table, and mod.rs"
    );
}

/// Runs `target` on `input`; says which input it was if that panics.
fn hold(name: &str, target: Target, input: &[u8]) {
    if catch_unwind(|| target(input)).is_err() {
        let hex: String = input.iter().map(|byte| format!("{byte:02x}")).collect();
        panic!("fuzz target {name} does not hold on {hex}");
    }
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz")
}

/// Returns the seeds of a target in the order of their names.
fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = folder().join("corpus").join(name);
    let entries =
        std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.sort();
    paths
        .iter()
        .map(|path| std::fs::read(path).expect("a seed"))
        .collect()
}

/// Changes a random seed in one to four places.
fn mutated(corpus: &[Vec<u8>], random: &mut StdRng) -> Vec<u8> {
    let mut input = corpus[random.random_range(0..corpus.len())].clone();
    let length_max = input.len() + GROWTH_MAX;
    for _ in 0..random.random_range(1..=4) {
        mutate(&mut input, corpus, random);
        input.truncate(length_max);
    }
    input
}

fn mutate(input: &mut Vec<u8>, corpus: &[Vec<u8>], random: &mut StdRng) {
    let at = random.random_range(0..=input.len());
    let end = random.random_range(at..=input.len().min(at + 16));
    let telling = TELLING[random.random_range(0..TELLING.len())];
    match random.random_range(0..9) {
        0 if at < input.len() => input[at] ^= 1 << random.random_range(0..8),
        1 if at < input.len() => input[at] = telling,
        2 if at < input.len() => {
            input[at] = input[at]
                .wrapping_add(random.random_range(0..=2))
                .wrapping_sub(1)
        }
        3 => input.insert(at, telling),
        4 => {
            input.drain(at..end);
        }
        5 => {
            let again = input[at..end].to_vec();
            let times = random.random_range(1..=40);
            input.splice(at..at, again.repeat(times));
        }
        6 => {
            let other = &corpus[random.random_range(0..corpus.len())];
            let from = random.random_range(0..=other.len());
            input.truncate(at);
            input.extend_from_slice(&other[from..]);
        }
        7 => input.truncate(at),
        _ => {
            let number: u64 = 1 << random.random_range(0..64);
            let number = number
                .wrapping_sub(random.random_range(0..=1))
                .to_be_bytes();
            let width = 1 << random.random_range(0..4);
            input.splice(at..end, number[8 - width..].iter().copied());
        }
    }
}
