//! Frames of `com.atproto.sync.subscribeRepos`: two DAG-CBOR maps, a header and a payload.
//!
//! Decoding checks the shape, the types and the protocol's limits. It proves nothing about the content: a
//! [`CommitFrame`] becomes a [`VerifiedCommit`](crate::VerifiedCommit) by
//! [`verify_commit`](crate::verify_commit). Kinds of frames and fields that are unknown are no error.

use std::str::FromStr;

use crate::{CborError, Cid, Did, Handle, Map, Tid, Value, cbor};

/// How long a frame may be.
pub const FRAME_BYTES_MAX: usize = 5_000_000;

/// How many operations a commit may have.
pub const OPS_MAX: usize = 200;

/// How long the CAR of a commit may be.
pub const COMMIT_BLOCKS_BYTES_MAX: usize = 2_000_000;

/// How long the CAR of a `#sync` may be.
pub const SYNC_BLOCKS_BYTES_MAX: usize = 10_000;

// Sequence numbers fit a JSON number.
const SEQ_MAX: i64 = (1 << 53) - 1;

/// A message of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// `#commit`: a repository changed.
    Commit(CommitFrame),
    /// `#sync`: this is a repository's state now.
    Sync(SyncFrame),
    /// `#identity`: a DID document or handle may have changed.
    Identity(IdentityFrame),
    /// `#account`: what the sender says about an account.
    Account(AccountFrame),
    /// `#info`: a remark on the stream, such as `OutdatedCursor`.
    Info {
        /// What it is about.
        name: String,
        /// For people.
        message: Option<String>,
    },
    /// The stream ends with an error, such as `FutureCursor`.
    Error {
        /// Which one.
        error: String,
        /// For people.
        message: Option<String>,
    },
    /// A kind of message that is not known here, to be ignored.
    Unknown {
        /// The header's `op`.
        op: i64,
        /// The header's `t`.
        t: Option<String>,
    },
}

/// A `#commit`, as its sender says; nothing of it is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitFrame {
    /// The sender's number for it.
    pub seq: i64,
    /// Whose repository.
    pub repo: Did,
    /// The revision.
    pub rev: Tid,
    /// The revision before, none in the first commit.
    pub since: Option<Tid>,
    /// The commit block's CID.
    pub commit: Cid,
    /// A CAR of what changed and what proves it.
    pub blocks: Vec<u8>,
    /// What changed.
    pub ops: Vec<RepoOp>,
    /// The root of the tree before.
    pub prev_data: Option<Cid>,
    /// When the sender says it was.
    pub time: String,
    /// Deprecated: the commit did not fit and its blocks are not all here.
    pub too_big: bool,
    /// Deprecated.
    pub rebase: bool,
}

/// One record's change in a `#commit`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepoOp {
    /// What happened.
    pub action: Action,
    /// The record's path.
    pub path: String,
    /// The record's CID, none after a delete.
    pub cid: Option<Cid>,
    /// The CID before, of updates and deletes.
    pub prev: Option<Cid>,
}

/// What an operation does to its record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// There was none.
    Create,
    /// There was another.
    Update,
    /// There is none.
    Delete,
}

impl Action {
    /// Returns the word that frames use.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }
}

impl std::fmt::Display for Action {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.pad(self.as_str())
    }
}

impl FromStr for Action {
    type Err = UnknownAction;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Create, Self::Update, Self::Delete]
            .into_iter()
            .find(|action| action.as_str() == text)
            .ok_or(UnknownAction)
    }
}

/// An action that there is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unknown action")]
pub struct UnknownAction;

/// A `#sync`, as its sender says; nothing of it is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncFrame {
    /// The sender's number for it.
    pub seq: i64,
    /// Whose repository.
    pub did: Did,
    /// The revision.
    pub rev: Tid,
    /// A CAR of the commit block.
    pub blocks: Vec<u8>,
    /// When the sender says it was.
    pub time: String,
}

/// An `#identity`. It is not signed: it only says that there is something to look up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityFrame {
    /// The sender's number for it.
    pub seq: i64,
    /// Whose identity.
    pub did: Did,
    /// When the sender says it was.
    pub time: String,
    /// What the sender believes to be the handle.
    pub handle: Option<Handle>,
}

/// An `#account`. It is not signed: it says what the sender does with the account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountFrame {
    /// The sender's number for it.
    pub seq: i64,
    /// Whose account.
    pub did: Did,
    /// When the sender says it was.
    pub time: String,
    /// Whether its content may be shown.
    pub active: bool,
    /// Why not, such as `deleted` or `takendown`; open-ended.
    pub status: Option<String>,
}

impl Frame {
    /// Decodes a message.
    ///
    /// # Errors
    /// [`FrameError`]; [`FrameError::ends_source`] tells a stream that cannot be read on from a message that is wrong.
    pub fn decode(bytes: &[u8]) -> Result<Self, FrameError> {
        if bytes.len() > FRAME_BYTES_MAX {
            return Err(FrameError::TooLong { bytes: bytes.len() });
        }
        let (header, payload) = cbor::decode_prefix(bytes).map_err(FrameError::Header)?;
        let header = header.as_map().ok_or(FrameError::HeaderShape)?;
        let payload = cbor::decode(payload).map_err(FrameError::Payload)?;
        let fields = Fields(payload.as_map().ok_or(FrameError::PayloadShape)?);
        let op = header
            .get("op")
            .and_then(Value::as_int)
            .ok_or(FrameError::HeaderShape)?;
        let t = match header.get("t") {
            None => None,
            Some(t) => Some(t.as_text().ok_or(FrameError::HeaderShape)?),
        };
        match (op, t) {
            (1, None) => Err(FrameError::HeaderShape),
            (1, Some("#commit")) => CommitFrame::of_fields(&fields).map(Self::Commit),
            (1, Some("#sync")) => SyncFrame::of_fields(&fields).map(Self::Sync),
            (1, Some("#identity")) => IdentityFrame::of_fields(&fields).map(Self::Identity),
            (1, Some("#account")) => AccountFrame::of_fields(&fields).map(Self::Account),
            (1, Some("#info")) => Ok(Self::Info {
                name: fields.text("name")?,
                message: fields.some_text("message")?,
            }),
            (-1, _) => Ok(Self::Error {
                error: fields.text("error")?,
                message: fields.some_text("message")?,
            }),
            _ => Ok(Self::Unknown {
                op,
                t: t.map(str::to_owned),
            }),
        }
    }
}

impl CommitFrame {
    fn of_fields(fields: &Fields<'_>) -> Result<Self, FrameError> {
        let ops = fields.of("ops", Value::as_list)?;
        if ops.len() > OPS_MAX {
            return Err(FrameError::TooManyOps { count: ops.len() });
        }
        Ok(Self {
            seq: fields.seq()?,
            repo: fields.parsed("repo")?,
            rev: fields.parsed("rev")?,
            since: fields.of("since", |since| {
                if since.is_null() {
                    Some(None)
                } else {
                    since.as_text()?.parse().ok().map(Some)
                }
            })?,
            commit: fields.of("commit", Value::as_link)?,
            blocks: fields.blocks(COMMIT_BLOCKS_BYTES_MAX)?,
            ops: ops.iter().map(RepoOp::of_value).collect::<Result<_, _>>()?,
            prev_data: fields.some("prevData", Value::as_link)?,
            time: fields.text("time")?,
            too_big: fields.some("tooBig", Value::as_bool)?.unwrap_or(false),
            rebase: fields.some("rebase", Value::as_bool)?.unwrap_or(false),
        })
    }
}

impl RepoOp {
    fn of_value(value: &Value) -> Result<Self, FrameError> {
        let fields = Fields(value.as_map().ok_or(FrameError::Field { field: "ops" })?);
        Ok(Self {
            action: fields.parsed("action")?,
            path: fields.text("path")?,
            cid: fields.of("cid", |cid| {
                if cid.is_null() {
                    Some(None)
                } else {
                    cid.as_link().map(Some)
                }
            })?,
            prev: fields.some("prev", Value::as_link)?,
        })
    }
}

impl SyncFrame {
    fn of_fields(fields: &Fields<'_>) -> Result<Self, FrameError> {
        Ok(Self {
            seq: fields.seq()?,
            did: fields.parsed("did")?,
            rev: fields.parsed("rev")?,
            blocks: fields.blocks(SYNC_BLOCKS_BYTES_MAX)?,
            time: fields.text("time")?,
        })
    }
}

impl IdentityFrame {
    fn of_fields(fields: &Fields<'_>) -> Result<Self, FrameError> {
        Ok(Self {
            seq: fields.seq()?,
            did: fields.parsed("did")?,
            time: fields.text("time")?,
            handle: fields.some("handle", |handle| handle.as_text()?.parse().ok())?,
        })
    }
}

impl AccountFrame {
    fn of_fields(fields: &Fields<'_>) -> Result<Self, FrameError> {
        Ok(Self {
            seq: fields.seq()?,
            did: fields.parsed("did")?,
            time: fields.text("time")?,
            active: fields.of("active", Value::as_bool)?,
            status: fields.some_text("status")?,
        })
    }
}

/// The fields of a map, read by name and type.
struct Fields<'m>(&'m Map);

impl<'m> Fields<'m> {
    fn of<T>(
        &self,
        field: &'static str,
        read: impl Fn(&'m Value) -> Option<T>,
    ) -> Result<T, FrameError> {
        let value = self.0.get(field).ok_or(FrameError::Missing { field })?;
        read(value).ok_or(FrameError::Field { field })
    }

    /// Reads a field that may be absent or null.
    fn some<T>(
        &self,
        field: &'static str,
        read: impl Fn(&'m Value) -> Option<T>,
    ) -> Result<Option<T>, FrameError> {
        match self.0.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => read(value).map(Some).ok_or(FrameError::Field { field }),
        }
    }

    fn text(&self, field: &'static str) -> Result<String, FrameError> {
        self.of(field, |text| text.as_text().map(str::to_owned))
    }

    fn some_text(&self, field: &'static str) -> Result<Option<String>, FrameError> {
        self.some(field, |text| text.as_text().map(str::to_owned))
    }

    fn parsed<T: FromStr>(&self, field: &'static str) -> Result<T, FrameError> {
        self.of(field, |text| text.as_text()?.parse().ok())
    }

    fn seq(&self) -> Result<i64, FrameError> {
        self.of("seq", |seq| {
            seq.as_int().filter(|seq| (1..=SEQ_MAX).contains(seq))
        })
    }

    fn blocks(&self, bytes_max: usize) -> Result<Vec<u8>, FrameError> {
        let blocks = self.of("blocks", Value::as_bytes)?;
        if blocks.len() > bytes_max {
            return Err(FrameError::BlocksTooLong {
                bytes: blocks.len(),
            });
        }
        Ok(blocks.to_vec())
    }
}

/// Why some bytes are no frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Longer than [`FRAME_BYTES_MAX`].
    #[error("frame of {bytes} bytes")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// The header is not DAG-CBOR.
    #[error("frame header")]
    Header(#[source] CborError),
    /// The header is not `{op, t}`.
    #[error("frame header has no op or t")]
    HeaderShape,
    /// What follows the header is not exactly one DAG-CBOR value.
    #[error("frame payload")]
    Payload(#[source] CborError),
    /// The payload is not a map.
    #[error("frame payload is no map")]
    PayloadShape,
    /// A field that must be there is not.
    #[error("frame without {field}")]
    Missing {
        /// Its name.
        field: &'static str,
    },
    /// A field of another type or form.
    #[error("frame has a wrong {field}")]
    Field {
        /// Its name.
        field: &'static str,
    },
    /// A commit of more than [`OPS_MAX`] operations.
    #[error("commit of {count} operations")]
    TooManyOps {
        /// How many.
        count: usize,
    },
    /// A CAR longer than [`COMMIT_BLOCKS_BYTES_MAX`] or [`SYNC_BLOCKS_BYTES_MAX`].
    #[error("blocks of {bytes} bytes")]
    BlocksTooLong {
        /// Its length.
        bytes: usize,
    },
}

impl FrameError {
    /// Whether the stream is broken: its framing or CBOR is wrong, so what follows cannot be trusted to be a stream.
    ///
    /// Otherwise only this message is wrong.
    #[must_use]
    pub fn ends_source(&self) -> bool {
        match self {
            Self::Header(_) | Self::HeaderShape | Self::Payload(_) | Self::PayloadShape => true,
            Self::TooLong { .. }
            | Self::Missing { .. }
            | Self::Field { .. }
            | Self::TooManyOps { .. }
            | Self::BlocksTooLong { .. } => false,
        }
    }

    /// Returns a stable word for counting.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::TooLong { .. } => "frame_too_long",
            Self::Header(_) | Self::HeaderShape => "frame_header",
            Self::Payload(_) | Self::PayloadShape => "frame_payload",
            Self::Missing { .. } => "frame_field_missing",
            Self::Field { .. } => "frame_field",
            Self::TooManyOps { .. } => "frame_too_many_ops",
            Self::BlocksTooLong { .. } => "frame_blocks_too_long",
        }
    }
}

#[cfg(test)]
mod tests;
