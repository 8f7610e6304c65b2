//! The commands as a user types them: what they print where, and how they end.

use tempfile::TempDir;

use crate::process::{Running, address_in, alluvium, failure, get, succeed};

fn store(folder: &TempDir) -> String {
    folder
        .path()
        .join("data")
        .to_str()
        .expect("a path in UTF-8")
        .to_owned()
}

#[test]
fn every_command_has_help_with_an_example() {
    for command in [
        "up",
        "ingest",
        "serve",
        "compact",
        "collect",
        "replay",
        "import car",
        "lexicon add",
        "lexicon list",
        "sql",
        "status",
    ] {
        let mut arguments: Vec<&str> = command.split(' ').collect();
        arguments.push("--help");
        let help = succeed(&arguments);
        assert!(help.contains("Usage: alluvium"), "{help}");
        assert!(
            help.contains(&format!("  alluvium {command}")),
            "no example: {help}"
        );
    }
    assert!(succeed(&["--help"]).contains("alluvium up --demo"));
    assert!(succeed(&["--version"]).starts_with("alluvium 0."));
}

#[test]
fn wrong_usage_is_one_line_that_says_what_is_wrong() {
    assert!(failure(&["serve"], 2).contains("--store"));
    assert!(failure(&["sql", "SELECT 1"], 2).contains("--connect"));
    assert!(failure(&["up", "--once"], 2).contains("--demo"));
    assert!(failure(&["sql", "--store", "x", "--format", "xml", "SELECT 1"], 2).contains("ndjson"));
    assert!(failure(&["fly"], 2).contains("fly"));
}

#[test]
fn a_failure_is_one_line_and_says_what_to_do() {
    let folder = TempDir::new().expect("a folder");
    let missing = store(&folder);
    assert!(failure(&["sql", "--store", &missing, "SELECT 1"], 1).contains("no database here"));
    assert!(failure(&["status", "--store", &missing], 1).contains("no database here"));
    assert!(failure(&["serve", "--store", &missing], 1).contains("no database here"));
    assert!(
        !folder.path().join("data").exists(),
        "a command that only reads made a store"
    );
    assert!(failure(&["sql", "--store", "ftp://somewhere", "SELECT 1"], 1).contains("ftp"));
    assert!(
        failure(&["sql", "--connect", "localhost", "SELECT 1"], 1).contains("grpc://HOST:PORT")
    );
    assert!(
        failure(&["sql", "--connect", "grpc://127.0.0.1:1", "SELECT 1"], 1)
            .contains("no server answers")
    );
    assert!(failure(&["replay", "--store", &missing, "no-such-file"], 1).contains("no-such-file"));
    let shortened = [
        "compact",
        "--once",
        "--store",
        &missing,
        "--grace-seconds",
        "10",
    ];
    assert!(failure(&shortened, 1).contains("grace"));
}

#[test]
fn the_demo_prints_rows_and_keeps_them() {
    let folder = TempDir::new().expect("a folder");
    let data = store(&folder);
    let shown = succeed(&["up", "--demo", "--once", "--store", &data]);
    assert!(shown.contains("146 records written"), "{shown}");
    assert!(shown.contains("app.bsky.feed.like"), "{shown}");

    let count = [
        "sql",
        "--store",
        &data,
        "--format",
        "csv",
        "SELECT count(*) AS n FROM atproto.records",
    ];
    let first = succeed(&count);
    assert!(first.starts_with("n\n1"), "{first}");
    // Again on the same folder: nothing is counted twice.
    succeed(&["up", "--demo", "--once", "--store", &data]);
    assert_eq!(succeed(&count), first);
    assert!(succeed(&["status", "--store", &data]).contains(&data));
    let error = failure(
        &["sql", "--store", &data, "SELECT nothing FROM bsky.post"],
        1,
    );
    assert!(error.contains("nothing"), "{error}");
}

#[test]
fn off_loopback_a_server_wants_a_token() {
    let folder = TempDir::new().expect("a folder");
    let data = store(&folder);
    succeed(&["compact", "--once", "--store", &data]);
    let refused = failure(&["serve", "--store", &data, "--listen", "0.0.0.0:0"], 1);
    assert!(
        refused.contains("ALLUVIUM_TOKEN") && refused.contains("--token-file"),
        "{refused}"
    );
    let refused = failure(&["up", "--store", &data, "--listen", "0.0.0.0:0"], 1);
    assert!(refused.contains("ALLUVIUM_TOKEN"), "{refused}");

    let empty = folder.path().join("token");
    std::fs::write(&empty, "\n").expect("a file");
    let file = empty.to_str().expect("a path");
    let refused = failure(
        &[
            "serve",
            "--store",
            &data,
            "--listen",
            "0.0.0.0:0",
            "--token-file",
            file,
        ],
        1,
    );
    assert!(refused.contains("empty"), "{refused}");

    let mut command = alluvium(&["serve", "--store", &data, "--listen", "0.0.0.0:0"]);
    command.env("ALLUVIUM_TOKEN", "open-sesame");
    let mut server = Running::start(command);
    server.wait_for(address_in);
    let (status, said) = server.stop("TERM");
    assert!(status.success(), "{said:#?}");
}

#[test]
fn ctrl_c_ends_the_demo_in_order_and_says_what_was_kept() {
    for signal in ["INT", "TERM"] {
        let folder = TempDir::new().expect("a folder");
        let data = store(&folder);
        let mut up = Running::start(alluvium(&[
            "up",
            "--demo",
            "--store",
            &data,
            "--listen",
            "127.0.0.1:0",
        ]));
        let address = up.wait_for(address_in);
        assert!(get(address, "/healthz").starts_with("HTTP/1.1 200"));
        assert!(get(address, "/readyz").starts_with("HTTP/1.1 200"));
        let asked = [
            "sql",
            "--connect",
            &format!("grpc://{address}"),
            "--format",
            "json",
            "SELECT 1 AS one",
        ];
        assert_eq!(succeed(&asked), "[{\"one\":1}]\n");
        let (status, said) = up.stop(signal);
        assert!(status.success(), "{said:#?}");
        let kept = said
            .iter()
            .any(|line| line.starts_with("kept in ") && line.contains(&data));
        assert!(kept, "{said:#?}");
    }
}

#[test]
fn statements_come_from_standard_input_too() {
    use std::io::Write as _;
    let folder = TempDir::new().expect("a folder");
    let data = store(&folder);
    succeed(&["compact", "--once", "--store", &data]);
    let mut command = alluvium(&["sql", "--store", &data, "--format", "csv"]);
    command
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped());
    let mut child = command.spawn().expect("alluvium starts");
    let mut input = child.stdin.take().expect("standard input");
    input
        .write_all(b"SELECT 1\n  AS a;\nSELECT 'x;y' AS b")
        .expect("statements");
    drop(input);
    let output = child.wait_with_output().expect("an end");
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stdout), "a\n1\nb\nx;y\n");
}

#[test]
fn a_file_and_its_parameters_are_asked_of_a_store_and_of_a_server() {
    let folder = TempDir::new().expect("a folder");
    let data = store(&folder);
    succeed(&["up", "--demo", "--once", "--store", &data]);
    let file = folder.path().join("of.sql");
    let sql = "-- Whose likes? $nobody\nSELECT count(*) AS n, $note AS note, $did LIKE 'did:%' AS did,\n\
               '{\"a\":[1,2]}' -> 'a' AS json\n\
               FROM bsky.like WHERE time >= $since AND did <> $did LIMIT $limit;\n";
    std::fs::write(&file, sql).expect("a file");
    let file = file.to_str().expect("a path");
    let ask = |source: [&str; 2]| {
        let mut arguments = vec!["sql", "--format", "csv", "--file", file];
        arguments.extend(source);
        for value in [
            "did=did:plc:x",
            "since=2026-07-04T14:38:00Z",
            "limit=1",
            "note=it's = \"1\"",
        ] {
            arguments.extend(["-p", value]);
        }
        succeed(&arguments)
    };
    let from_store = ask(["--store", &data]);
    assert!(
        from_store.starts_with("n,note,did,json\n10"),
        "{from_store}"
    );
    assert!(
        from_store.contains("\"it's = \"\"1\"\"\",true,\"[1,2]\""),
        "{from_store}"
    );

    let mut server = Running::start(alluvium(&[
        "serve",
        "--store",
        &data,
        "--listen",
        "127.0.0.1:0",
    ]));
    let address = format!("grpc://{}", server.wait_for(address_in));
    assert_eq!(ask(["--connect", &address]), from_store);

    for source in [["--store", &data], ["--connect", &address]] {
        let refused = |rest: &[&str]| {
            let arguments: Vec<&str> = ["sql"].iter().chain(&source).chain(rest).copied().collect();
            failure(&arguments, 1)
        };
        let missing = refused(&["SELECT $a, $b", "-p", "a=1"]);
        assert!(
            missing.contains("$b has no value; it has $a, $b"),
            "{missing}"
        );
        let unknown = refused(&["SELECT 1", "-p", "a=1"]);
        assert!(
            unknown.contains("no parameter $a; it has none"),
            "{unknown}"
        );
        let mistyped = refused(&["SELECT 1 WHERE TIMESTAMP '2026-07-04' > $t", "-p", "t=soon"]);
        assert!(mistyped.contains("soon"), "{mistyped}");
    }
    assert!(
        failure(&["sql", "--store", &data, "--file", "no-such.sql"], 1).contains("no-such.sql")
    );
    assert!(failure(&["sql", "--store", &data, "-p", "a", "SELECT 1"], 2).contains("NAME=VALUE"));
    assert!(failure(&["sql", "--store", &data, "-p", "a=1"], 2).contains("--file"));
    let (status, said) = server.stop("TERM");
    assert!(status.success(), "{said:#?}");
}
