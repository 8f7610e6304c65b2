//! The names of what stands in a bucket: database, writers, positions, versions, commits.

use std::fmt;
use std::str::FromStr;

use ulid::Ulid;

macro_rules! ulid_newtype {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub Ulid);

        impl $name {
            /// The 16 bytes of the ULID, big-endian.
            pub fn to_bytes(self) -> [u8; 16] {
                self.0.to_bytes()
            }

            /// Reads 16 bytes; `None` for any other number of them.
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                let bytes: [u8; 16] = bytes.try_into().ok()?;
                Some(Self(Ulid(u128::from_be_bytes(bytes))))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            /// Reads the canonical spelling (26 characters, upper case) only.
            fn from_str(text: &str) -> Result<Self, NameError> {
                let id = Ulid::from_string(text).map_err(|_| NameError)?;
                if id.to_string() == text { Ok(Self(id)) } else { Err(NameError) }
            }
        }
    };
}

/// A text is no canonical name of this kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no canonical ULID")]
pub struct NameError;

ulid_newtype! {
    /// A database: minted once, with its bucket.
    DatabaseId
}
ulid_newtype! {
    /// A writer of the log: minted at process start and whenever the old id can't be trusted any more.
    WriterId
}
ulid_newtype! {
    /// A commit, through all its attempts.
    CommitId
}

impl CommitId {
    /// The commit id of the version that nobody committed: the empty database.
    pub const NONE: Self = Self(Ulid(0));
}

/// The number of a log object under its writer, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub u64);

impl Seq {
    /// The first number of every writer.
    pub const FIRST: Self = Self(1);

    /// The number after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where a log object stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Its writer.
    pub writer: WriterId,
    /// Its number.
    pub seq: Seq,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.writer, self.seq)
    }
}

/// A version of the database. 0 is the empty database that nobody has committed to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u64);

impl Version {
    /// The empty database.
    pub const GENESIS: Self = Self(0);
    /// The base of a commit that brings no new objects: above every upload floor.
    pub const NO_OBJECTS: Self = Self(u64::MAX);

    /// The version after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
