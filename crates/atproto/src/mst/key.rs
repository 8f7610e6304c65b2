//! Keys of the tree: which ones there may be, and how high each stands.
//!
//! A key is a record's path, `collection/rkey`. The tree is looser than [`Nsid`](crate::Nsid) and
//! [`RecordKey`](crate::RecordKey): whether a path names a record is for its reader to say.

use sha2::{Digest, Sha256};

/// How long a key may be.
pub const KEY_BYTES_MAX: usize = 1024;

/// How high a key may stand.
///
/// Four times as many keys are needed for each layer, so an honest tree would need 2^64 records to get here; keys
/// that stand higher were searched for, to make readers walk long chains of nodes.
pub const DEPTH_MAX: u8 = 32;

/// Returns in which layer `key` stands, counted from the leaves: half the zero bits that its SHA-256 starts with.
#[must_use]
pub fn depth(key: &[u8]) -> u8 {
    let mut zero_bits = 0;
    for byte in Sha256::digest(key) {
        zero_bits += byte.leading_zeros();
        if byte != 0 {
            break;
        }
    }
    // At most 256 zero bits, so at most 128.
    (zero_bits / 2) as u8
}

/// Returns how many bytes `left` and `right` start with in common.
#[must_use]
pub fn common_prefix(left: &[u8], right: &[u8]) -> usize {
    left.iter()
        .zip(right)
        .take_while(|(left, right)| left == right)
        .count()
}

/// Checks that a tree may have `key`: two non-empty parts of `A-Za-z0-9_~-:.` with one slash between, not too long.
///
/// # Errors
/// [`KeyError`] says which of it fails.
pub fn check_key(key: &str) -> Result<(), KeyError> {
    if key.len() > KEY_BYTES_MAX {
        return Err(KeyError::TooLong { bytes: key.len() });
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_~-:./".contains(&byte);
    if let Some(at) = key.bytes().position(|byte| !allowed(byte)) {
        return Err(KeyError::Character { at });
    }
    match key.split_once('/') {
        Some((collection, rkey))
            if !collection.is_empty() && !rkey.is_empty() && !rkey.contains('/') =>
        {
            Ok(())
        }
        _ => Err(KeyError::Parts),
    }
}

/// Why a tree may not have a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Longer than [`KEY_BYTES_MAX`].
    #[error("key of {bytes} bytes")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// A character that record paths do not have.
    #[error("key has a character that is not allowed at {at}")]
    Character {
        /// Which byte of the key.
        at: usize,
    },
    /// Not two parts with one slash between.
    #[error("key is not collection/rkey")]
    Parts,
    /// It stands higher than [`DEPTH_MAX`].
    #[error("key stands in layer {depth}")]
    TooHigh {
        /// Its layer.
        depth: u8,
    },
}
