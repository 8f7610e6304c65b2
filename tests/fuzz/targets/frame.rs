//! Frames: what decodes is within the limits, and a commit that verifies is what its key signed.

use std::sync::LazyLock;

use atproto::{Action, Cid, Frame, PublicKey, cbor, frame, verify_commit, verify_sync};

/// The key that signed the commits in the corpus.
static KEY: LazyLock<Option<PublicKey>> = LazyLock::new(|| {
    PublicKey::from_multikey("zQ3shobQkqJDXZEtr76DkJMuEq6x7uHctKLrcfWyE6J9Njkc1").ok()
});

/// A time after every revision in the corpus.
const NOW_US: i64 = 1_800_000_000_000_000;

/// Fuzzes `Frame::decode`, `verify_commit` and `verify_sync`.
pub(crate) fn frame(data: &[u8]) {
    let key = KEY.as_ref().expect("a key");
    match Frame::decode(data) {
        Ok(Frame::Commit(frame)) => {
            assert!(frame.ops.len() <= frame::OPS_MAX);
            assert!(frame.blocks.len() <= frame::COMMIT_BLOCKS_BYTES_MAX);
            let Ok(commit) = verify_commit(&frame, key, NOW_US) else {
                return;
            };
            assert_eq!(
                (commit.did(), commit.rev(), commit.commit()),
                (&frame.repo, frame.rev, frame.commit)
            );
            assert_eq!(Cid::of_cbor(commit.commit_block()), frame.commit);
            for op in commit.ops() {
                assert_eq!(op.cid.is_none(), op.action == Action::Delete);
                assert_eq!(
                    op.cid.is_some(),
                    op.record.is_some() || op.problem.is_some()
                );
                if let Some(record) = &op.record {
                    assert_eq!(op.cid, Some(Cid::of_cbor(record)));
                    assert!(cbor::decode(record).is_ok());
                }
            }
        }
        Ok(Frame::Sync(frame)) => {
            assert!(frame.blocks.len() <= frame::SYNC_BLOCKS_BYTES_MAX);
            if let Ok(sync) = verify_sync(&frame, key, NOW_US) {
                assert_eq!((sync.did(), sync.rev()), (&frame.did, frame.rev));
            }
        }
        Ok(_) => {}
        Err(error) => assert!(!error.reason().is_empty()),
    }
}
