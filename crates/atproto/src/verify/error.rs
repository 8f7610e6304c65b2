//! Every way in which a commit, a `#sync`, a repository or a record of it can be wrong.

use crate::{CarError, CborError, Cid, CommitError, MstError, SignatureError, Tid};

/// Why what a repository holds at a path is no record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordProblem {
    /// The path is not an NSID and a record key.
    #[error("path is not a collection and a record key")]
    Path,
    /// Named as if it were a blob.
    #[error("record is named by a raw CID")]
    Codec,
    /// Longer than [`RECORD_BYTES_MAX`](super::RECORD_BYTES_MAX).
    #[error("record of {bytes} bytes")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// Not canonical DAG-CBOR, or nested too deep.
    #[error("record")]
    Cbor {
        /// What is wrong.
        source: CborError,
    },
    /// Not a map.
    #[error("record is no map")]
    NotMap,
}

impl RecordProblem {
    /// Returns a stable word for counting.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Path => "record_path",
            Self::Codec => "record_codec",
            Self::TooLong { .. } => "record_too_long",
            Self::Cbor {
                source: CborError::TooDeep { .. },
            } => "record_too_deep",
            Self::Cbor { .. } => "record_cbor",
            Self::NotMap => "record_not_map",
        }
    }
}

/// Why a commit, a `#sync` or a repository is rejected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// A deprecated kind of commit whose blocks are not all in the frame.
    #[error("commit says tooBig")]
    TooBig,
    /// A deprecated kind of commit that rewrites history.
    #[error("commit says rebase")]
    Rebase,
    /// Two operations on one path.
    #[error("commit names {path} twice")]
    PathRepeated {
        /// The path.
        path: String,
    },
    /// An operation's path is not an NSID and a record key.
    #[error("commit has an operation on {path:?}, which is no record path")]
    Path {
        /// The path.
        path: String,
    },
    /// An operation has a CID that its action excludes, or lacks one that it needs.
    #[error("operation on {path} has CIDs that do not fit its action")]
    OpFields {
        /// The path.
        path: String,
    },
    /// The blocks are no CAR, or a block does not hash to its CID.
    #[error(transparent)]
    Car(#[from] CarError),
    /// The CAR's root is not the frame's `commit`.
    #[error("frame names another commit than its blocks")]
    RootMismatch,
    /// A block that is needed is not in the CAR: the commit block, or a record.
    #[error("block {cid} is missing")]
    MissingBlock {
        /// The block.
        cid: Cid,
    },
    /// The commit block is named as if it were a blob.
    #[error("commit is named by a raw CID")]
    CommitCodec,
    /// The root block is no commit.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The revision lies further in the future than [`REV_AHEAD_US_MAX`](super::REV_AHEAD_US_MAX).
    #[error("revision {rev} is in the future")]
    RevInFuture {
        /// The revision.
        rev: Tid,
    },
    /// The commit block is of another repository than the frame says.
    #[error("commit is of another repository")]
    DidMismatch,
    /// The commit block has another revision than the frame says.
    #[error("commit has another revision")]
    RevMismatch,
    /// The signature is not one of the key over this commit.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// The tree is wrong, or a node of it is missing.
    #[error(transparent)]
    Tree(#[from] MstError),
    /// The tree does not hold what an operation says.
    #[error("tree does not hold what the operation on {path} says")]
    NotIncluded {
        /// The path.
        path: String,
    },
    /// The operations cannot be undone: a node that this needs is wrong or missing.
    #[error("operations cannot be undone")]
    Inversion(#[source] MstError),
    /// Undoing the operations does not give the tree before.
    #[error("undoing the operations gives another tree than prevData")]
    InversionMismatch,
}

impl VerifyError {
    /// Returns a stable word for counting.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::TooBig => "too_big",
            Self::Rebase => "rebase",
            Self::PathRepeated { .. } => "op_path_repeated",
            Self::Path { .. } => "op_path",
            Self::OpFields { .. } => "op_fields",
            Self::Car(error) => error.reason(),
            Self::RootMismatch => "commit_root_mismatch",
            Self::MissingBlock { .. } => "missing_block",
            Self::CommitCodec => "commit_codec",
            Self::Commit(error) => error.reason(),
            Self::RevInFuture { .. } => "rev_in_future",
            Self::DidMismatch => "did_mismatch",
            Self::RevMismatch => "rev_mismatch",
            Self::Signature(_) => "signature",
            Self::Tree(error) => error.reason(),
            Self::NotIncluded { .. } => "op_not_included",
            Self::Inversion(_) => "inversion_failed",
            Self::InversionMismatch => "inversion_mismatch",
        }
    }

    /// Whether the reason may be that the key, or what is known of the repository, is out of date.
    #[must_use]
    pub fn is_signature(&self) -> bool {
        matches!(self, Self::Signature(_))
    }
}
