//! The same commands on a real S3 server, MinIO, with every role a process of its own.

use std::process::Command;

use tempfile::TempDir;

use crate::process::{Minio, Running, address_in, alluvium};

const STORE: &str = "s3://test/alluvium";

/// Frames and DID documents of the demo, as files.
const FRAMES: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/fixtures/atproto/firehose/frames.bin.zst"
);
const DID_DOCS: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/fixtures/atproto/firehose/did_docs.json.zst"
);

const COUNT: &str = "SELECT count(*) AS n FROM atproto.records";

#[test]
fn an_append_of_one_process_is_in_the_next_answer_of_another() {
    let folder = TempDir::new().expect("a folder");
    std::fs::create_dir(folder.path().join("test")).expect("a bucket");
    let minio = Minio::start(folder.path());
    let command = |arguments: &[&str]| {
        let mut command = alluvium(arguments);
        minio.lend(&mut command);
        command
    };
    succeed(command(&["compact", "--once", "--store", STORE]));
    let mut server = Running::start(command(&[
        "serve",
        "--store",
        STORE,
        "--listen",
        "127.0.0.1:0",
    ]));
    let url = format!("grpc://{}", server.wait_for(address_in));
    let ask = |sql: &str| succeed(command(&["sql", "--connect", &url, "--format", "csv", sql]));
    assert_eq!(ask(COUNT), "n\n0\n");

    let replay = [
        "replay",
        "--store",
        STORE,
        "--did-docs",
        DID_DOCS,
        "--source",
        "file:sample",
        FRAMES,
    ];
    assert!(succeed(command(&replay)).contains("146 records written"));
    assert_eq!(ask(COUNT), "n\n146\n", "before any compaction");
    assert_eq!(ask("SELECT count(*) FROM system.segments"), "count(*)\n0\n");

    succeed(command(&["compact", "--once", "--store", STORE]));
    succeed(command(&["collect", "--once", "--store", STORE]));
    assert_eq!(ask(COUNT), "n\n146\n", "after compaction");
    assert_eq!(
        ask("SELECT count(*) > 0 AS some FROM system.segments"),
        "some\ntrue\n"
    );
    assert_eq!(
        ask("SELECT count(*) FROM system.wal WHERE NOT merged"),
        "count(*)\n0\n"
    );
    assert!(succeed(command(&["status", "--store", STORE])).contains("file:sample"));
    let (status, said) = server.stop("TERM");
    assert!(status.success(), "{said:#?}");
}

#[test]
fn a_bucket_that_is_not_there_is_said_to_be_missing() {
    let folder = TempDir::new().expect("a folder");
    let minio = Minio::start(folder.path());
    let mut command = alluvium(&[
        "up",
        "--demo",
        "--once",
        "--store",
        "s3://nowhere/x",
        "--retry-seconds",
        "1",
    ]);
    minio.lend(&mut command);
    let output = command.output().expect("alluvium starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && said.contains("bucket does not exist"),
        "{said}"
    );
}

#[test]
fn wrong_credentials_are_said_to_be_wrong() {
    let folder = TempDir::new().expect("a folder");
    std::fs::create_dir(folder.path().join("test")).expect("a bucket");
    let minio = Minio::start(folder.path());
    let mut command = alluvium(&[
        "up",
        "--demo",
        "--once",
        "--store",
        STORE,
        "--retry-seconds",
        "1",
    ]);
    minio.lend(&mut command);
    command.env("AWS_SECRET_ACCESS_KEY", "not-the-password");
    let output = command.output().expect("alluvium starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && said.contains("no permission"),
        "{said}"
    );
}

/// Runs a command, which has to succeed, and returns its standard output.
fn succeed(mut command: Command) -> String {
    let output = command.output().expect("alluvium starts");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("output is UTF-8")
}
