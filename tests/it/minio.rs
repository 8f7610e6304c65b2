//! The same commands on a real S3 server, MinIO, with every role a process of its own.

use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::process::{Minio, Running, address_in, alluvium, answer};

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
    answer(command(&["compact", "--once", "--store", STORE]));
    let mut server = Running::start(command(&[
        "serve",
        "--store",
        STORE,
        "--listen",
        "127.0.0.1:0",
    ]));
    let url = format!("grpc://{}", server.wait_for(address_in));
    let ask = |sql: &str| answer(command(&["sql", "--connect", &url, "--format", "csv", sql]));
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
    assert!(answer(command(&replay)).contains("146 records written"));
    assert_eq!(ask(COUNT), "n\n146\n", "before any compaction");
    assert_eq!(ask("SELECT count(*) FROM system.segments"), "count(*)\n0\n");

    answer(command(&["compact", "--once", "--store", STORE]));
    answer(command(&["collect", "--once", "--store", STORE]));
    assert_eq!(ask(COUNT), "n\n146\n", "after compaction");
    assert_eq!(
        ask("SELECT count(*) > 0 AS some FROM system.segments"),
        "some\ntrue\n"
    );
    assert_eq!(
        ask("SELECT count(*) FROM system.wal WHERE NOT merged"),
        "count(*)\n0\n"
    );
    assert!(answer(command(&["status", "--store", STORE])).contains("file:sample"));
    let (status, said) = server.stop("TERM");
    assert!(status.success(), "{said:#?}");
}

#[test]
fn a_store_that_must_not_be_used_is_refused_with_a_sentence() {
    let folder = TempDir::new().expect("a folder");
    std::fs::create_dir(folder.path().join("test")).expect("a bucket");
    let minio = Minio::start(folder.path());
    let on_store = |arguments: &[&str], store: &str| {
        let mut command = alluvium(&[arguments, &["--retry-seconds=1", "--store", store]].concat());
        minio.lend(&mut command);
        command
    };
    let frames = folder.path().join("frames");
    std::fs::write(&frames, []).expect("a file");
    let frames = frames.to_str().expect("UTF-8");
    let commands: [&[&str]; 7] = [
        &["up", "--demo", "--once"],
        &["replay", frames],
        &["compact", "--once"],
        &["collect", "--once"],
        &["serve", "--listen=127.0.0.1:0"],
        &["sql", "SELECT 1"],
        &["status"],
    ];
    for arguments in commands {
        let mut command = on_store(arguments, STORE);
        command.env("AWS_SECRET_ACCESS_KEY", "not-the-password");
        let refused = refusal(command);
        assert!(
            refused.contains("no permission") && refused.contains("credentials"),
            "{refused}"
        );

        let refused = refusal(on_store(arguments, "s3://no-such-bucket/x"));
        let is_clear = refused.contains("does not exist") || refused.contains("no database here");
        assert!(is_clear, "{refused}");
    }
    let newer = br#"{"format":2,"database":"of another time","keys":[]}"#;
    let before = objects_after(&minio, Some(newer));
    for arguments in commands {
        let refused = refusal(on_store(arguments, STORE));
        assert!(
            refused.contains("format 2") && refused.contains("use a newer alluvium"),
            "{refused}"
        );
    }
    assert_eq!(
        objects_after(&minio, None),
        before,
        "something was written or deleted"
    );
}

/// What a command says, in one line, when it refuses.
fn refusal(mut command: Command) -> String {
    let output = command
        .stdin(Stdio::null())
        .output()
        .expect("alluvium starts");
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(1), "{command:?}: {said}");
    assert_eq!(said.lines().count(), 1, "{command:?}: {said}");
    said
}

/// All objects under the prefix, after putting an `alluvium.json` there.
fn objects_after(minio: &Minio, document: Option<&[u8]>) -> Vec<String> {
    use futures::TryStreamExt as _;
    use object_store::{ObjectStoreExt as _, path::Path};
    let store = storage::open_store(STORE, &minio.environment()).expect("a store");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        if let Some(document) = document {
            let path = Path::from("alluvium.json");
            let put = store.put(&path, document.to_vec().into()).await;
            put.expect("a PUT");
        }
        let listed: Vec<_> = store.list(None).try_collect().await.expect("a LIST");
        let mut names: Vec<String> = listed
            .into_iter()
            .map(|meta| format!("{} {:?}", meta.location, meta.e_tag))
            .collect();
        names.sort_unstable();
        names
    })
}
