//! The root of one version, and its bytes.
//!
//! `"ALVMMAN1"`, the message (`proto/manifest.proto`), its length, its checksum, the magic again. A root with
//! fields that this version does not know is refused: a commit on top of it would drop them.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;

use crate::frame::{FormatError, Frame};
use crate::ids::{CommitId, DatabaseId, Seq, Version, WriterId};
use crate::proto::manifest as proto;

/// The largest root: what would outgrow it goes into objects that it names.
pub const ROOT_BYTES_MAX: usize = 1024 * 1024;

pub(crate) const FORMAT: u32 = 1;

const FRAME: Frame = Frame {
    magic: b"ALVMMAN1",
    context: "alluvium 2026-11 manifest root",
    format: FORMAT,
    message_bytes_max: ROOT_BYTES_MAX - 64,
};

/// What a commit was made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CommitKind {
    /// Nobody's: the empty database.
    Genesis,
    /// Took tails of the log into segments.
    Flush,
    /// Made segments of segments.
    Merge,
    /// Condemned versions and objects.
    Collect,
    /// Changed the catalog.
    Catalog,
}

impl CommitKind {
    /// The kind as people read it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Genesis => "genesis",
            Self::Flush => "flush",
            Self::Merge => "merge",
            Self::Collect => "collect",
            Self::Catalog => "catalog",
        }
    }
}

impl fmt::Display for CommitKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Log objects of one writer that a commit took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Took {
    /// Whose.
    pub writer: WriterId,
    /// The first.
    pub from: Seq,
    /// The last.
    pub to: Seq,
}

/// A version that stays although it is below the floor.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kept {
    /// Which.
    pub version: Version,
    /// For what.
    pub name: String,
    /// Until when, µs since the epoch. Only a commit that removes the entry ends it.
    pub expires_us: i64,
}

/// The root of one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    /// The database it belongs to.
    pub database: DatabaseId,
    /// Its version.
    pub version: Version,
    /// The commit that made it.
    pub commit: CommitId,
    /// Who committed: a name for people.
    pub committer: String,
    /// What for.
    pub kind: CommitKind,
    /// The committer's clock, µs since the epoch.
    pub committed_us: i64,
    /// What it took of the log.
    pub took: Vec<Took>,
    /// Versions below it are condemned, but for those in `kept`.
    pub floor: Version,
    /// A commit whose new objects have a base below it is refused.
    pub upload_floor: Version,
    /// The last log object of each writer that the tables hold. Entries only rise and are never dropped.
    pub merged: BTreeMap<WriterId, Seq>,
    /// Versions below the floor that stay, by ascending (version, name).
    pub kept: Vec<Kept>,
    /// What the tables keep here.
    pub body: Bytes,
}

impl Root {
    /// The root of version 0, which stands nowhere: a database that nobody has committed to.
    pub fn genesis(database: DatabaseId) -> Self {
        Self {
            database,
            version: Version::GENESIS,
            commit: CommitId::NONE,
            committer: String::new(),
            kind: CommitKind::Genesis,
            committed_us: 0,
            took: Vec::new(),
            floor: Version::GENESIS,
            upload_floor: Version::GENESIS,
            merged: BTreeMap::new(),
            kept: Vec::new(),
            body: Bytes::new(),
        }
    }

    /// Whether `version` may be read once this is the newest root: it was not condemned.
    pub fn answers_at(&self, version: Version) -> bool {
        let is_kept = self.kept.iter().any(|kept| kept.version == version);
        version <= self.version && (version >= self.floor || is_kept)
    }

    /// The bytes that stand in the bucket.
    ///
    /// # Errors
    /// [`FormatError::TooLarge`] above [`ROOT_BYTES_MAX`].
    pub fn encode(&self) -> Result<Bytes, FormatError> {
        let message = self.to_message();
        let mut bytes = FRAME.magic.to_vec();
        FRAME.close(&mut bytes, &message);
        if bytes.len() > ROOT_BYTES_MAX {
            return Err(too_large(bytes.len()));
        }
        Ok(Bytes::from(bytes))
    }

    fn to_message(&self) -> proto::Root {
        let id = |bytes: [u8; 16]| Bytes::copy_from_slice(&bytes);
        let took = self.took.iter().map(|took| proto::Took {
            writer: id(took.writer.to_bytes()),
            from: took.from.0,
            to: took.to.0,
        });
        let merged = self.merged.iter().map(|(writer, seq)| proto::Merged {
            writer: id(writer.to_bytes()),
            seq: seq.0,
        });
        let mut kept = self.kept.clone();
        kept.sort();
        let kept = kept.into_iter().map(|kept| proto::Kept {
            version: kept.version.0,
            name: kept.name,
            expires_us: kept.expires_us,
        });
        proto::Root {
            format: FORMAT,
            database: id(self.database.to_bytes()),
            version: self.version.0,
            commit: id(self.commit.to_bytes()),
            committer: self.committer.clone(),
            kind: encode_kind(self.kind).into(),
            committed_us: self.committed_us,
            took: took.collect(),
            floor: self.floor.0,
            upload_floor: self.upload_floor.0,
            merged: merged.collect(),
            kept: kept.collect(),
            body: self.body.clone(),
        }
    }
}

fn too_large(bytes: usize) -> FormatError {
    FormatError::TooLarge {
        bytes: bytes as u64,
        bytes_max: ROOT_BYTES_MAX as u64,
    }
}

/// Decodes a root and checks all of it but where it belongs.
///
/// # Errors
/// What is wrong with the bytes.
pub fn decode_root(bytes: &[u8]) -> Result<Root, FormatError> {
    if bytes.len() > ROOT_BYTES_MAX {
        return Err(too_large(bytes.len()));
    }
    let (before, message) = FRAME.open(bytes, |root: &proto::Root| root.format)?;
    let field = |field| FormatError::Field { field };
    if before.len() != FRAME.magic.len() {
        return Err(field("magic"));
    }
    let root = Root {
        database: DatabaseId::from_slice(&message.database).ok_or(field("database"))?,
        version: Version(message.version),
        commit: CommitId::from_slice(&message.commit).ok_or(field("commit"))?,
        kind: decode_kind(message.kind).ok_or(field("kind"))?,
        committer: message.committer,
        committed_us: message.committed_us,
        took: message
            .took
            .iter()
            .map(decode_took)
            .collect::<Option<_>>()
            .ok_or(field("took"))?,
        floor: Version(message.floor),
        upload_floor: Version(message.upload_floor),
        merged: decode_merged(&message.merged).ok_or(field("merged"))?,
        kept: decode_kept(message.kept).ok_or(field("kept"))?,
        body: message.body,
    };
    if root.version == Version::GENESIS {
        return Err(field("version"));
    }
    if root.floor > root.version {
        return Err(field("floor"));
    }
    if root.upload_floor > root.version {
        return Err(field("upload_floor"));
    }
    Ok(root)
}

fn decode_took(took: &proto::Took) -> Option<Took> {
    let (from, to) = (Seq(took.from), Seq(took.to));
    let writer = WriterId::from_slice(&took.writer)?;
    (Seq::FIRST <= from && from <= to).then_some(Took { writer, from, to })
}

fn decode_merged(entries: &[proto::Merged]) -> Option<BTreeMap<WriterId, Seq>> {
    let mut merged = BTreeMap::new();
    for entry in entries {
        let writer = WriterId::from_slice(&entry.writer)?;
        let is_next = merged
            .last_key_value()
            .is_none_or(|(last, _)| *last < writer);
        if !is_next || entry.seq < Seq::FIRST.0 {
            return None;
        }
        merged.insert(writer, Seq(entry.seq));
    }
    Some(merged)
}

fn decode_kept(entries: Vec<proto::Kept>) -> Option<Vec<Kept>> {
    let kept: Vec<_> = entries
        .into_iter()
        .map(|kept| Kept {
            version: Version(kept.version),
            name: kept.name,
            expires_us: kept.expires_us,
        })
        .collect();
    let key = |kept: &Kept| (kept.version, kept.name.clone());
    kept.windows(2)
        .all(|pair| key(&pair[0]) < key(&pair[1]))
        .then_some(kept)
}

fn encode_kind(kind: CommitKind) -> proto::CommitKind {
    match kind {
        CommitKind::Genesis => proto::CommitKind::Genesis,
        CommitKind::Flush => proto::CommitKind::Flush,
        CommitKind::Merge => proto::CommitKind::Merge,
        CommitKind::Collect => proto::CommitKind::Collect,
        CommitKind::Catalog => proto::CommitKind::Catalog,
    }
}

fn decode_kind(kind: i32) -> Option<CommitKind> {
    Some(match proto::CommitKind::try_from(kind).ok()? {
        proto::CommitKind::Unspecified => return None,
        proto::CommitKind::Genesis => CommitKind::Genesis,
        proto::CommitKind::Flush => CommitKind::Flush,
        proto::CommitKind::Merge => CommitKind::Merge,
        proto::CommitKind::Collect => CommitKind::Collect,
        proto::CommitKind::Catalog => CommitKind::Catalog,
    })
}

#[cfg(test)]
#[path = "root/tests.rs"]
mod tests;
