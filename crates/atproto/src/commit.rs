//! The commit block: the signed root of a repository.
//!
//! [`Commit::decode`] checks the fields; whether the signature is good is what [`Commit::verify`] says.

use crate::{CborError, Cid, Did, Map, PublicKey, SignatureError, Tid, Value, cbor};

/// The only version that is still written.
pub const VERSION: i64 = 3;

/// A commit block's fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// Whose repository.
    pub did: Did,
    /// The root of the tree.
    pub data: Cid,
    /// The revision, which only goes up.
    pub rev: Tid,
    /// The commit before; writers leave it null.
    pub prev: Option<Cid>,
    signed: Vec<u8>,
    signature: [u8; 64],
}

impl Commit {
    /// Decodes a commit block. Fields that are unknown are kept under the signature and otherwise ignored.
    ///
    /// # Errors
    /// [`CommitError`] names the field that is missing or wrong.
    pub fn decode(block: &[u8]) -> Result<Self, CommitError> {
        let Value::Map(mut map) = cbor::decode(block)? else {
            return Err(CommitError::Shape);
        };
        let version = field(&map, "version", Value::as_int)?;
        if version != VERSION {
            return Err(CommitError::Version { version });
        }
        let text = |name: &'static str| field(&map, name, Value::as_text);
        let did = text("did")?
            .parse()
            .map_err(|_| CommitError::Field { field: "did" })?;
        let rev = text("rev")?
            .parse()
            .map_err(|_| CommitError::Field { field: "rev" })?;
        let data = field(&map, "data", Value::as_link)?;
        let prev = field(&map, "prev", |prev| {
            if prev.is_null() {
                Some(None)
            } else {
                prev.as_link().map(Some)
            }
        })?;
        let signature = field(&map, "sig", |sig| sig.as_bytes()?.try_into().ok())?;
        map.remove("sig");
        Ok(Self {
            did,
            data,
            rev,
            prev,
            signed: cbor::encode(&Value::Map(map)),
            signature,
        })
    }

    /// Checks the signature.
    ///
    /// # Errors
    /// [`SignatureError`] if it is not one of `key` over this commit, or not in its one accepted form.
    pub fn verify(&self, key: &PublicKey) -> Result<(), SignatureError> {
        key.verify(&self.signed, &self.signature)
    }
}

/// The fields of a commit that is to be signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnsignedCommit {
    /// Whose repository.
    pub did: Did,
    /// The root of the tree.
    pub data: Cid,
    /// The revision.
    pub rev: Tid,
}

impl UnsignedCommit {
    /// Returns the bytes to sign.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        cbor::encode(&Value::Map(self.fields()))
    }

    /// Returns the commit block with `signature`.
    #[must_use]
    pub fn encode_signed(&self, signature: &[u8; 64]) -> Vec<u8> {
        let mut fields = self.fields();
        fields.insert("sig", Value::Bytes(signature.to_vec()));
        cbor::encode(&Value::Map(fields))
    }

    fn fields(&self) -> Map {
        [
            ("did", Value::from(self.did.as_str())),
            ("version", Value::from(VERSION)),
            ("data", Value::from(self.data)),
            ("rev", Value::from(self.rev.to_string())),
            ("prev", Value::Null),
        ]
        .into_iter()
        .collect()
    }
}

fn field<'m, T>(
    map: &'m Map,
    field: &'static str,
    read: impl Fn(&'m Value) -> Option<T>,
) -> Result<T, CommitError> {
    let value = map.get(field).ok_or(CommitError::Missing { field })?;
    read(value).ok_or(CommitError::Field { field })
}

/// Why a block is no commit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// Not DAG-CBOR.
    #[error("commit block")]
    Cbor(#[from] CborError),
    /// Not a map.
    #[error("commit block is no map")]
    Shape,
    /// Another version than [`VERSION`].
    #[error("commit version {version}")]
    Version {
        /// The version it says.
        version: i64,
    },
    /// A field that must be there is not.
    #[error("commit without {field}")]
    Missing {
        /// Its name.
        field: &'static str,
    },
    /// A field of another type or form.
    #[error("commit has a wrong {field}")]
    Field {
        /// Its name.
        field: &'static str,
    },
}

impl CommitError {
    /// Returns a stable word for counting.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Cbor(_) | Self::Shape => "commit_block",
            Self::Version { .. } => "commit_version",
            Self::Missing { .. } => "commit_field_missing",
            Self::Field { .. } => "commit_field",
        }
    }
}

#[cfg(test)]
mod tests;
