//! The stock Python ADBC driver against `alluvium serve`: what a data scientist's notebook does.

use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::process::{Running, address_in, alluvium, get, get_as, set_up, succeed};

const TOKEN: &str = "open-sesame";

/// A server over the demo's data, and where it listens.
fn serve(folder: &TempDir) -> (Running, std::net::SocketAddr) {
    let data = folder
        .path()
        .join("data")
        .to_str()
        .expect("a path in UTF-8")
        .to_owned();
    succeed(&["up", "--demo", "--once", "--store", &data]);
    let mut command = alluvium(&["serve", "--store", &data, "--listen", "127.0.0.1:0"]);
    command.env("ALLUVIUM_TOKEN", TOKEN);
    let mut server = Running::start(command);
    let address = server.wait_for(address_in);
    (server, address)
}

#[test]
fn the_adbc_driver_lists_prepares_streams_and_sees_errors() {
    let folder = TempDir::new().expect("a folder");
    let (server, address) = serve(&folder);
    let saw = session(&format!("grpc://{address}"));

    assert_eq!(saw["server"], "Alluvium");
    let columns = saw["tables"]["bsky.post"]
        .as_array()
        .expect("bsky.post is listed with its columns");
    for column in ["uri", "did", "rkey", "text", "created_at"] {
        assert!(
            columns.contains(&json!(column)),
            "bsky.post has no {column}: {columns:?}"
        );
    }
    for table in ["atproto.records", "atproto.events", "system.manifests"] {
        assert!(saw["tables"][table].is_array(), "{table} is not listed");
    }
    assert!(
        saw["table_types"]
            .as_array()
            .expect("types")
            .contains(&json!("TABLE"))
    );

    assert_eq!(saw["parameters"], json!(["string"]));
    let counts: Vec<i64> = serde_json::from_value(saw["counts"].clone()).expect("counts");
    assert!(counts[0] >= 16 && counts[1] >= 100, "{counts:?}");
    assert_eq!(counts[2], 0);
    assert_eq!(saw["echo"], json!(["text", 7]));

    assert_eq!(saw["rows"], 100_000);
    assert!(
        saw["batches"].as_u64() > Some(1),
        "the answer came in one piece"
    );

    let error = |name: &str| saw["errors"][name].as_str().expect("a text").to_owned();
    assert!(error("column").contains("nothing"), "{}", error("column"));
    assert!(
        error("table").contains("did you mean"),
        "{}",
        error("table")
    );
    assert!(error("syntax").contains("SELEC"), "{}", error("syntax"));
    assert!(error("write").contains("read-only"), "{}", error("write"));
    assert!(
        error("update").contains("takes no updates"),
        "{}",
        error("update")
    );
    assert!(
        error("parameters").contains("1 parameters, 2 were given"),
        "{}",
        error("parameters")
    );
    assert!(
        error("late").contains("Divide by zero"),
        "{}",
        error("late")
    );
    assert!(
        error("token").contains("authorization: Bearer"),
        "{}",
        error("token")
    );
    assert_eq!(saw["after"], 1);
    assert!(saw["bounded"].as_i64() > Some(100));

    let metrics = get_as(address, "/metrics", Some(TOKEN));
    assert!(metrics.contains("server_sent_rows_total"), "{metrics}");
    let (status, said) = server.stop("TERM");
    assert!(status.success(), "{said:#?}");
}

#[test]
fn every_wire_but_health_asks_for_the_token() {
    let folder = TempDir::new().expect("a folder");
    let (_server, address) = serve(&folder);
    assert!(get(address, "/healthz").starts_with("HTTP/1.1 200"));
    assert!(get(address, "/readyz").starts_with("HTTP/1.1 200"));
    assert!(get(address, "/metrics").starts_with("HTTP/1.1 401"));
    assert!(get(address, "/nowhere").starts_with("HTTP/1.1 401"));
    assert!(get_as(address, "/nowhere", Some(TOKEN)).starts_with("HTTP/1.1 404"));
    assert!(get_as(address, "/metrics", Some("open-sesam")).starts_with("HTTP/1.1 401"));

    let url = format!("grpc://{address}");
    let ask = [
        "sql",
        "--connect",
        &url,
        "--format",
        "csv",
        "SELECT 1 AS one",
    ];
    let refused = alluvium(&ask).output().expect("alluvium starts");
    assert!(
        String::from_utf8_lossy(&refused.stderr).contains("asks for a token"),
        "{refused:?}"
    );
    let admitted = alluvium(&ask)
        .env("ALLUVIUM_TOKEN", TOKEN)
        .output()
        .expect("alluvium starts");
    assert_eq!(String::from_utf8_lossy(&admitted.stdout), "one\n1\n");
}

/// Runs the driver's session and returns what it saw.
fn session(url: &str) -> Value {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/flight/session.py");
    let output = Command::new(set_up("adbc.sh"))
        .args([script, url])
        .env("ALLUVIUM_TOKEN", TOKEN)
        .output();
    let output = output.expect("Python can be started");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).expect("the session prints JSON")
}
