//! Holds the rules of style and layering that a machine can check, so that review time goes to ideas.
//!
//! Reads the checkout's text only; it does not know what the code does.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Which crate may use which: twenty edges. A new one is a design change.
const EDGES: [(&str, &[&str]); 9] = [
    ("storage", &[]),
    ("atproto", &[]),
    ("crdt", &["storage", "atproto"]),
    ("ingest", &["atproto", "crdt", "tables"]),
    ("tables", &["storage", "crdt"]),
    ("query", &["tables", "crdt"]),
    ("server", &["query", "crdt", "tables"]),
    ("testkit", &["atproto"]),
    (
        "alluvium",
        &[
            "storage", "atproto", "crdt", "ingest", "tables", "query", "server",
        ],
    ),
];

/// Which crates may name which outside crates: the layers that Arrow, DataFusion and the wires stand in.
const LAYERS: [(&[&str], &[&str]); 5] = [
    (
        &["arrow", "parquet", "arrow-array", "arrow-schema"],
        &["tables", "query", "server", "alluvium"],
    ),
    (&["datafusion"], &["query"]),
    (&["tonic", "tonic-health", "arrow-flight"], &["server"]),
    // Of the test kit: the relay that misbehaves.
    (&["axum"], &["server", "testkit"]),
    (
        &["anyhow", "clap", "rustyline", "tracing-subscriber"],
        &["alluvium"],
    ),
];

/// What stands at the top of the checkout, and nothing else.
const TOP_LEVEL: [&str; 15] = [
    ".cargo",
    ".ci",
    ".git",
    ".gitignore",
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "benches",
    "crates",
    "deploy",
    "examples",
    "proto",
    "tests",
];

const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 80;

/// Words that say nothing about what a thing is.
const EMPTY_NAMES: [&str; 3] = ["Manager", "Helper", "Util"];
const EMPTY_FILES: [&str; 6] = ["utils", "util", "common", "helpers", "helper", "misc"];

#[test]
fn crates_use_only_the_crates_that_the_design_lets_them() {
    let expected: BTreeMap<&str, BTreeSet<&str>> = EDGES
        .iter()
        .map(|(name, uses)| (*name, uses.iter().copied().collect()))
        .collect();
    for (name, manifest) in manifests() {
        let Some(expected) = expected.get(name.as_str()) else {
            panic!("crate {name} is not in the list of edges")
        };
        let ours = |dependency: &&String| EDGES.iter().any(|(name, _)| name == dependency);
        let uses: BTreeSet<&str> = manifest
            .dependencies
            .iter()
            .filter(ours)
            .map(String::as_str)
            .collect();
        assert_eq!(&uses, expected, "the crates that {name} uses");
        let reached = reached_from(&name);
        for dependency in manifest.dev_dependencies.iter().filter(ours) {
            let known = dependency == "testkit" || reached.contains(dependency.as_str());
            assert!(
                known,
                "the tests of {name} use {dependency}, which stands to its right"
            );
        }
    }
    assert_eq!(EDGES.iter().map(|(_, uses)| uses.len()).sum::<usize>(), 20);
}

#[test]
fn arrow_datafusion_and_the_wires_stay_in_their_layers() {
    for (name, manifest) in manifests() {
        for (outside, allowed) in LAYERS {
            for dependency in outside
                .iter()
                .filter(|outside| manifest.dependencies.contains(**outside))
            {
                assert!(
                    allowed.contains(&name.as_str()),
                    "{name} depends on {dependency}; {allowed:?} may"
                );
            }
        }
    }
}

#[test]
fn versions_stand_in_the_root_only() {
    for (path, text) in texts("toml")
        .into_iter()
        .filter(|(path, _)| path.starts_with("crates"))
    {
        for line in text
            .lines()
            .skip_while(|line| *line != "[dependencies]")
            .filter(|line| line.contains('='))
        {
            let set_here =
                line.contains("version") || line.contains("path =") || line.contains("git =");
            assert!(!set_here, "{}: {line}", path.display());
        }
    }
}

#[test]
fn only_the_command_line_reads_the_environment_and_signals() {
    let forbidden = [
        "env::var",
        "env::args",
        "env::current_dir",
        "tokio::signal",
        "process::exit",
    ];
    tidy(lines_with(&library_sources(), &forbidden));
}

#[test]
fn the_protocol_crate_is_pure() {
    let sources = library_sources().into_iter();
    let atproto: Vec<_> = sources
        .filter(|(path, _)| path.starts_with("crates/atproto"))
        .collect();
    let forbidden = [
        "async fn",
        "std::fs",
        "std::net",
        "tokio",
        "SystemTime::now",
        "Instant::now",
    ];
    tidy(lines_with(&atproto, &forbidden));
}

#[test]
fn every_file_says_what_it_is_for() {
    let mut found = Vec::new();
    // A file of tests beside its code has the code's story.
    let files = texts("rs").into_iter();
    for (path, text) in files.filter(|(path, _)| !path.ends_with("tests.rs")) {
        let story = text.lines().next().unwrap_or_default();
        let words = story.strip_prefix("//! ").unwrap_or_default();
        if words.split_whitespace().count() < 3 {
            found.push(format!("{}: {story:?}", path.display()));
        }
    }
    tidy(found);
}

#[test]
fn files_and_functions_fit_in_the_head() {
    let mut found = Vec::new();
    for (path, text) in texts("rs") {
        let lines: Vec<&str> = text.lines().collect();
        if lines.len() > FILE_LINES_MAX {
            found.push(format!("{} has {} lines", path.display(), lines.len()));
        }
        // A test may be a long table.
        let functions = functions(&lines).into_iter().filter(|_| !is_test(&path));
        for (at, length) in functions.filter(|(_, length)| *length > FUNCTION_LINES_MAX) {
            found.push(format!("{}:{} has {length} lines", path.display(), at + 1));
        }
    }
    tidy(found);
}

#[test]
fn names_say_what_things_are() {
    let mut found = Vec::new();
    for (path, text) in texts("rs") {
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        if stem.is_some_and(|stem| EMPTY_FILES.contains(&stem)) {
            found.push(format!("{} is named for nothing", path.display()));
        }
        let names = text.lines().filter_map(defined_type);
        for name in names.filter(|name| EMPTY_NAMES.iter().any(|empty| name.contains(empty))) {
            found.push(format!("{}: {name}", path.display()));
        }
    }
    tidy(found);
}

#[test]
fn errors_carry_fields_and_not_sentences() {
    let mut found = Vec::new();
    for (path, text) in texts("rs") {
        let mut within = None;
        for line in text.lines() {
            let name = line.split("enum ").nth(1);
            match name.and_then(|rest| rest.split([' ', '<']).next()) {
                Some(name) if name.ends_with("Error") => within = Some(name),
                _ if line.starts_with('}') => within = None,
                _ => {}
            }
            if let Some(name) = within
                && line.trim_end().trim_end_matches(',').ends_with("(String)")
            {
                found.push(format!("{}: {name}: {}", path.display(), line.trim()));
            }
        }
    }
    tidy(found);
}

#[test]
fn nothing_is_left_for_later() {
    // Written in two parts, so that this list does not find itself.
    let marks = [
        concat!("to", "do!("),
        concat!("unimplem", "ented!("),
        concat!("#[ig", "nore"),
        concat!("FIX", "ME"),
        concat!("TO", "DO"),
        concat!("XX", "X:"),
        concat!("db", "g!("),
    ];
    let texts: Vec<_> = ["rs", "proto", "toml", "md"]
        .into_iter()
        .flat_map(texts)
        .collect();
    tidy(lines_with(&texts, &marks));
}

#[test]
fn the_project_speaks_of_itself_alone() {
    let elsewhere = [
        concat!("/wo", "rk/"),
        concat!("../sha", "red"),
        concat!("/ro", "ot/"),
        concat!("/ho", "me/"),
    ];
    let extensions = [
        "rs", "md", "toml", "proto", "sh", "py", "slt", "yml", "yaml", "run",
    ];
    let mut found = Vec::new();
    for (path, text) in extensions.into_iter().flat_map(texts) {
        for (at, line) in text.lines().enumerate() {
            let mut places = elsewhere.iter().flat_map(|place| line.match_indices(place));
            // Within a longer path it is somebody else's folder of that name.
            if places.any(|(start, _)| !line[..start].ends_with(char::is_alphanumeric)) {
                found.push(format!("{}:{}: {}", path.display(), at + 1, line.trim()));
            }
        }
    }
    tidy(found);
}

#[test]
fn the_top_level_stays_small() {
    let ignored = std::fs::read_to_string(root().join(".gitignore")).expect(".gitignore is there");
    let ignored: BTreeSet<&str> = ignored.lines().map(|line| line.trim_matches('/')).collect();
    let entries = std::fs::read_dir(root()).expect("the checkout can be listed");
    let names = entries.map(|entry| {
        entry
            .expect("an entry")
            .file_name()
            .to_string_lossy()
            .into_owned()
    });
    let known = |name: &str| TOP_LEVEL.contains(&name) || ignored.contains(name);
    tidy(names.filter(|name| !known(name)).collect());
}

/// The crates that a crate uses, directly or through others.
fn reached_from(name: &str) -> BTreeSet<&'static str> {
    let uses = EDGES.iter().find(|(edge, _)| *edge == name);
    let uses = uses.map_or(&[] as &[&str], |(_, uses)| uses);
    let further = uses.iter().flat_map(|used| reached_from(used));
    further.chain(uses.iter().copied()).collect()
}

/// Fails with all that was found, so that one run shows everything.
fn tidy(found: Vec<String>) {
    assert!(
        found.is_empty(),
        "{} places:\n{}",
        found.len(),
        found.join("\n")
    );
}

/// Each line of `texts` that holds one of `forbidden`.
fn lines_with(texts: &[(PathBuf, String)], forbidden: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in texts {
        for (at, line) in text.lines().enumerate() {
            if forbidden.iter().any(|forbidden| line.contains(forbidden)) {
                found.push(format!("{}:{}: {}", path.display(), at + 1, line.trim()));
            }
        }
    }
    found
}

/// What a crate says that it needs.
#[derive(Debug, Default)]
struct Manifest {
    dependencies: BTreeSet<String>,
    dev_dependencies: BTreeSet<String>,
}

/// The manifest of each crate, by its name; the root is `alluvium`.
fn manifests() -> BTreeMap<String, Manifest> {
    let mut found = BTreeMap::new();
    for (path, text) in texts("toml") {
        let name = match path.components().count() {
            1 if path.ends_with("Cargo.toml") => "alluvium".to_owned(),
            3 if path.starts_with("crates") && path.ends_with("Cargo.toml") => path
                .parent()
                .and_then(Path::file_name)
                .map(|name| name.to_string_lossy().into_owned())
                .expect("a crate"),
            _ => continue,
        };
        let mut manifest = Manifest::default();
        let mut section = "";
        for line in text.lines() {
            if line.starts_with('[') {
                section = line.trim_matches(['[', ']']);
            }
            let Some((dependency, _)) = line.split_once(['.', ' ', '=']) else {
                continue;
            };
            match section {
                "dependencies" => manifest.dependencies.insert(dependency.to_owned()),
                "dev-dependencies" => manifest.dev_dependencies.insert(dependency.to_owned()),
                _ => continue,
            };
        }
        found.insert(name, manifest);
    }
    assert_eq!(found.len(), EDGES.len(), "crates: {:?}", found.keys());
    found
}

/// Sources of the crates that are not the command line, without their build scripts and tests.
fn library_sources() -> Vec<(PathBuf, String)> {
    let is_source = |path: &Path| {
        let of_library = path.starts_with("crates") && !path.starts_with("crates/cli");
        of_library && !is_test(path) && !path.ends_with("build.rs")
    };
    let mut sources = texts("rs");
    sources.retain(|(path, _)| is_source(path));
    for (_, text) in &mut sources {
        if let Some(tests) = text.find("#[cfg(test)]\nmod tests {") {
            text.truncate(tests);
        }
    }
    sources
}

/// Whether a file holds tests alone.
fn is_test(path: &Path) -> bool {
    path.components()
        .any(|part| part.as_os_str() == "tests" || part.as_os_str() == "tests.rs")
}

/// The line and the length of each function with a body, in a formatted file.
fn functions(lines: &[&str]) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let words = code.split(' ').take_while(|word| *word != "fn");
        let is_start = code.contains("fn ")
            && words
                .into_iter()
                .all(|word| ["pub", "pub(crate)", "pub(super)", "async", "const"].contains(&word));
        if !is_start || code.ends_with('}') {
            continue;
        }
        let indent = &line[..line.len() - code.len()];
        // The signature ends in the first line at its own depth that opens a body, or that closes a declaration.
        let same_depth = |line: &&&str| {
            line.strip_prefix(indent)
                .is_some_and(|rest| !rest.starts_with(' '))
        };
        let end = lines[at..]
            .iter()
            .filter(same_depth)
            .find(|line| line.ends_with(['{', ';']));
        if end.is_some_and(|line| line.ends_with('{'))
            && let Some(length) = lines[at..]
                .iter()
                .position(|line| line.strip_prefix(indent) == Some("}"))
        {
            found.push((at, length + 1));
        }
    }
    found
}

/// The name of the type that a line defines.
fn defined_type(line: &str) -> Option<&str> {
    let code = line
        .trim_start()
        .trim_start_matches("pub ")
        .trim_start_matches("pub(crate) ");
    let rest = ["struct ", "enum ", "trait ", "type "]
        .iter()
        .find_map(|word| code.strip_prefix(word))?;
    rest.split(|c: char| !c.is_alphanumeric()).next()
}

/// All our texts with this extension, by their path from the root. A file without one is its own extension.
fn texts(extension: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder of the checkout") {
            let path = entry.expect("an entry").path();
            let from_root = path
                .strip_prefix(root())
                .expect("below the root")
                .to_owned();
            // Fixtures are the words of others, corpora are nobody's.
            let foreign = [
                "target",
                ".git",
                "alluvium-data",
                "tests/fixtures",
                "tests/fuzz/corpus",
                "tests/fuzz/target",
            ];
            if foreign
                .iter()
                .any(|foreign| from_root == Path::new(foreign))
            {
                continue;
            }
            let named = from_root
                .extension()
                .or(from_root.file_name())
                .is_some_and(|named| named == extension);
            if path.is_dir() {
                folders.push(path);
            } else if named {
                let text = std::fs::read_to_string(&path).expect("text is UTF-8");
                found.push((from_root, text));
            }
        }
    }
    assert!(
        !found.is_empty() || !["rs", "md", "toml"].contains(&extension),
        "no .{extension} at all"
    );
    found.sort();
    found
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}
