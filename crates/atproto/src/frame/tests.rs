//! Messages with each field missing or wrong, at each limit, and of kinds that are unknown.

use super::*;

fn map(fields: Vec<(&str, Value)>) -> Map {
    fields.into_iter().collect()
}

fn message(header: Vec<(&str, Value)>, payload: Value) -> Vec<u8> {
    let mut out = cbor::encode(&Value::Map(map(header)));
    cbor::encode_into(&payload, &mut out);
    out
}

fn decode(t: &str, payload: Map) -> Result<Frame, FrameError> {
    Frame::decode(&message(
        vec![("op", 1.into()), ("t", t.into())],
        Value::Map(payload),
    ))
}

fn op() -> Map {
    map(vec![
        ("action", "update".into()),
        ("path", "com.example.note/a".into()),
        ("cid", Cid::of_cbor(b"new").into()),
        ("prev", Cid::of_cbor(b"old").into()),
    ])
}

fn commit() -> Map {
    map(vec![
        ("seq", 7.into()),
        ("repo", "did:web:example.com".into()),
        ("rev", "3jzfcijpj2z2a".into()),
        ("since", Value::Null),
        ("commit", Cid::of_cbor(b"commit").into()),
        ("blocks", Value::Bytes(vec![1, 2])),
        ("ops", Value::List(vec![Value::Map(op())])),
        ("prevData", Cid::of_cbor(b"tree").into()),
        ("time", "2024-01-01T00:00:00.000Z".into()),
        ("tooBig", false.into()),
        ("rebase", false.into()),
        ("blobs", Value::List(Vec::new())),
    ])
}

fn sync() -> Map {
    map(vec![
        ("seq", 7.into()),
        ("did", "did:web:example.com".into()),
        ("rev", "3jzfcijpj2z2a".into()),
        ("blocks", Value::Bytes(vec![1, 2])),
        ("time", "2024-01-01T00:00:00.000Z".into()),
    ])
}

fn account() -> Map {
    map(vec![
        ("seq", 7.into()),
        ("did", "did:web:example.com".into()),
        ("time", "2024-01-01T00:00:00.000Z".into()),
        ("active", false.into()),
        ("status", "takendown".into()),
    ])
}

fn identity() -> Map {
    map(vec![
        ("seq", 7.into()),
        ("did", "did:web:example.com".into()),
        ("time", "2024-01-01T00:00:00.000Z".into()),
        ("handle", "alice.example.com".into()),
    ])
}

fn with(mut map: Map, field: &str, value: impl Into<Value>) -> Map {
    map.insert(field, value);
    map
}

fn without(mut map: Map, field: &str) -> Map {
    map.remove(field);
    map
}

fn as_commit(payload: Map) -> CommitFrame {
    match decode("#commit", payload) {
        Ok(Frame::Commit(commit)) => commit,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_commit_has_its_fields() {
    let frame = as_commit(commit());
    assert_eq!((frame.seq, frame.repo.as_str()), (7, "did:web:example.com"));
    assert_eq!(frame.rev.to_string(), "3jzfcijpj2z2a");
    assert_eq!((frame.since, frame.commit), (None, Cid::of_cbor(b"commit")));
    assert_eq!(frame.prev_data, Some(Cid::of_cbor(b"tree")));
    let [op] = frame.ops.as_slice() else {
        panic!("one operation")
    };
    assert_eq!(
        (op.action, op.path.as_str()),
        (Action::Update, "com.example.note/a")
    );
    assert_eq!(
        (op.cid, op.prev),
        (Some(Cid::of_cbor(b"new")), Some(Cid::of_cbor(b"old")))
    );
}

#[test]
fn the_other_kinds_have_their_fields() {
    assert!(matches!(
        decode("#sync", sync()),
        Ok(Frame::Sync(SyncFrame { seq: 7, .. }))
    ));
    let Ok(Frame::Account(frame)) = decode("#account", account()) else {
        panic!("an account")
    };
    assert_eq!(
        (frame.active, frame.status.as_deref()),
        (false, Some("takendown"))
    );
    let Ok(Frame::Identity(frame)) = decode("#identity", identity()) else {
        panic!("an identity")
    };
    assert_eq!(
        frame.handle.as_ref().map(Handle::as_str),
        Some("alice.example.com")
    );
    let info = map(vec![("name", "OutdatedCursor".into())]);
    assert_eq!(
        decode("#info", info),
        Ok(Frame::Info {
            name: "OutdatedCursor".into(),
            message: None
        })
    );
    let error = map(vec![
        ("error", "FutureCursor".into()),
        ("message", "no".into()),
    ]);
    let error = Frame::decode(&message(vec![("op", (-1).into())], Value::Map(error)));
    assert_eq!(
        error,
        Ok(Frame::Error {
            error: "FutureCursor".into(),
            message: Some("no".into())
        })
    );
}

#[test]
fn a_required_field_that_is_missing_or_wrong_is_named() {
    let kinds: [(&str, Map, &[&str]); 4] = [
        (
            "#commit",
            commit(),
            &[
                "seq", "repo", "rev", "since", "commit", "blocks", "ops", "time",
            ],
        ),
        ("#sync", sync(), &["seq", "did", "rev", "blocks", "time"]),
        ("#account", account(), &["seq", "did", "time", "active"]),
        ("#identity", identity(), &["seq", "did", "time"]),
    ];
    for (t, payload, fields) in kinds {
        for field in fields {
            assert_eq!(
                decode(t, without(payload.clone(), field)),
                Err(FrameError::Missing { field }),
                "{t}"
            );
            let wrong = decode(t, with(payload.clone(), field, Value::Map(Map::new())));
            assert_eq!(wrong, Err(FrameError::Field { field }), "{t}");
        }
    }
    for field in ["action", "path", "cid"] {
        let ops = |op: Map| {
            decode(
                "#commit",
                with(commit(), "ops", Value::List(vec![Value::Map(op)])),
            )
        };
        assert_eq!(
            ops(without(op(), field)),
            Err(FrameError::Missing { field })
        );
        assert_eq!(ops(with(op(), field, 1)), Err(FrameError::Field { field }));
    }
    let ops = with(commit(), "ops", Value::List(vec![1.into()]));
    assert_eq!(
        decode("#commit", ops),
        Err(FrameError::Field { field: "ops" })
    );
}

#[test]
fn a_field_that_need_not_be_there_may_be_null_but_not_wrong() {
    for field in ["prevData", "tooBig", "rebase"] {
        assert!(decode("#commit", without(commit(), field)).is_ok());
        assert!(decode("#commit", with(commit(), field, Value::Null)).is_ok());
        let wrong = decode("#commit", with(commit(), field, "x"));
        assert_eq!(wrong, Err(FrameError::Field { field }));
    }
    assert!(decode("#account", without(account(), "status")).is_ok());
    assert!(decode("#identity", without(identity(), "handle")).is_ok());
    let wrong = decode("#identity", with(identity(), "handle", "no handle"));
    assert_eq!(wrong, Err(FrameError::Field { field: "handle" }));
}

#[test]
fn text_that_is_no_did_tid_or_action_is_refused() {
    for (field, text) in [
        ("repo", "did:Plc:x"),
        ("rev", "3jzfcijpj2z2"),
        ("since", "zzzzzzzzzzzzz"),
    ] {
        assert_eq!(
            decode("#commit", with(commit(), field, text)),
            Err(FrameError::Field { field })
        );
    }
    let op = with(op(), "action", "merge");
    let frame = decode(
        "#commit",
        with(commit(), "ops", Value::List(vec![Value::Map(op)])),
    );
    assert_eq!(frame, Err(FrameError::Field { field: "action" }));
}

#[test]
fn sequence_numbers_are_positive_and_fit_json() {
    for seq in [1, SEQ_MAX] {
        assert_eq!(as_commit(with(commit(), "seq", seq)).seq, seq);
    }
    for seq in [0, -1, SEQ_MAX + 1, i64::MAX] {
        let frame = decode("#commit", with(commit(), "seq", seq));
        assert_eq!(frame, Err(FrameError::Field { field: "seq" }));
    }
}

#[test]
fn fields_that_are_unknown_are_ignored() {
    assert_eq!(
        as_commit(with(commit(), "later", Value::List(vec![1.into()]))),
        as_commit(commit())
    );
    let frame = message(
        vec![("op", 1.into()), ("t", "#commit".into()), ("v", 2.into())],
        Value::Map(commit()),
    );
    assert_eq!(
        Frame::decode(&frame),
        Ok(Frame::Commit(as_commit(commit())))
    );
}

#[test]
fn kinds_that_are_unknown_are_no_error() {
    for t in ["#handle", "#tombstone", "#later", ""] {
        assert_eq!(
            decode(t, Map::new()),
            Ok(Frame::Unknown {
                op: 1,
                t: Some(t.to_owned())
            })
        );
    }
    for op in [0, 2, -2, i64::MAX] {
        let frame = message(vec![("op", op.into())], Value::Map(Map::new()));
        assert_eq!(Frame::decode(&frame), Ok(Frame::Unknown { op, t: None }));
    }
}

#[test]
fn broken_framing_ends_the_source() {
    let good = message(
        vec![("op", 1.into()), ("t", "#commit".into())],
        Value::Map(commit()),
    );
    let header_only = cbor::encode(&Value::Map(map(vec![
        ("op", 1.into()),
        ("t", "#commit".into()),
    ])));
    let broken: Vec<Vec<u8>> = vec![
        Vec::new(),
        b"\xff".to_vec(),
        header_only,
        [good.as_slice(), b"\0"].concat(),
        good[..good.len() - 1].to_vec(),
        message(
            vec![("op", 1.into()), ("t", "#commit".into())],
            Value::List(Vec::new()),
        ),
        message(
            vec![("op", 1.into()), ("t", 1.into())],
            Value::Map(commit()),
        ),
        message(vec![("op", 1.into())], Value::Map(commit())),
        message(vec![("op", "1".into())], Value::Map(commit())),
        message(vec![("t", "#commit".into())], Value::Map(commit())),
        // A float, and keys out of order.
        b"\xa1\x62op\xf9\x3c\x00\xa0".to_vec(),
        b"\xa2\x62op\x01\x61t\x67#commit\xa0".to_vec(),
    ];
    for (index, bytes) in broken.iter().enumerate() {
        let error = Frame::decode(bytes).expect_err("broken");
        assert!(error.ends_source(), "{index}: {error}");
    }
    assert!(!FrameError::Missing { field: "seq" }.ends_source());
    assert!(!FrameError::TooLong { bytes: 1 }.ends_source());
}

#[test]
fn each_limit_holds_and_one_more_is_refused() {
    let ops = |count: usize| {
        decode(
            "#commit",
            with(commit(), "ops", vec![Value::Map(op()); count]),
        )
    };
    assert!(ops(OPS_MAX).is_ok());
    assert_eq!(
        ops(OPS_MAX + 1),
        Err(FrameError::TooManyOps { count: OPS_MAX + 1 })
    );

    let blocks =
        |t, payload, bytes: usize| decode(t, with(payload, "blocks", Value::Bytes(vec![0; bytes])));
    for (t, payload, bytes_max) in [
        ("#commit", commit(), COMMIT_BLOCKS_BYTES_MAX),
        ("#sync", sync(), SYNC_BLOCKS_BYTES_MAX),
    ] {
        assert!(blocks(t, payload.clone(), bytes_max).is_ok());
        let error = FrameError::BlocksTooLong {
            bytes: bytes_max + 1,
        };
        assert_eq!(blocks(t, payload, bytes_max + 1), Err(error));
    }

    // Filled up with a field that is unknown.
    let padded = |padding: usize| {
        let payload = with(commit(), "x", Value::Bytes(vec![0; padding]));
        message(
            vec![("op", 1.into()), ("t", "#commit".into())],
            Value::Map(payload),
        )
    };
    let rest = padded(100_000).len() - 100_000;
    assert!(Frame::decode(&padded(FRAME_BYTES_MAX - rest)).is_ok());
    let longer = Frame::decode(&padded(FRAME_BYTES_MAX - rest + 1));
    assert_eq!(
        longer,
        Err(FrameError::TooLong {
            bytes: FRAME_BYTES_MAX + 1
        })
    );
}
