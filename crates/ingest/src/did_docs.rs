//! DID documents from a file: a JSON object of DIDs to documents, plain or zstd.
//!
//! They are what they were when somebody fetched them: a key that was rotated since verifies nothing.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use atproto::{Did, DidDocument, PublicKey};
use serde_json::Value as Json;
use thiserror::Error;

use crate::recording::unpacked;

/// The most bytes of documents, unpacked: they are all held in memory.
pub const DID_DOCS_BYTES_MAX: u64 = 1 << 30;

/// Why a file of DID documents is not used.
#[derive(Debug, Error)]
pub enum DidDocsError {
    /// The file can't be read, or its zstd is damaged.
    #[error("DID documents can't be read")]
    Io {
        /// What the system says.
        #[from]
        source: io::Error,
    },
    /// Unpacked, the file is longer than [`DID_DOCS_BYTES_MAX`].
    #[error("DID documents are longer than {DID_DOCS_BYTES_MAX} bytes")]
    TooLong,
    /// The file is no JSON object.
    #[error("DID documents are not a JSON object of DIDs to documents")]
    Json {
        /// Where it is wrong.
        #[from]
        source: serde_json::Error,
    },
}

/// The documents of some DIDs.
#[derive(Clone, Debug, Default)]
pub struct DidDocs {
    documents: HashMap<Did, DidDocument>,
    unusable: u64,
}

impl DidDocs {
    /// Reads a file.
    ///
    /// # Errors
    /// [`DidDocsError`]. A single document that is malformed, or another DID's, is only counted.
    pub fn open(path: &Path) -> Result<Self, DidDocsError> {
        let mut bytes = Vec::new();
        let limit = DID_DOCS_BYTES_MAX + 1;
        unpacked(File::open(path)?)?
            .take(limit)
            .read_to_end(&mut bytes)?;
        if bytes.len() as u64 == limit {
            return Err(DidDocsError::TooLong);
        }
        Self::parse(&bytes)
    }

    /// Parses the JSON text of a file.
    ///
    /// # Errors
    /// [`DidDocsError::Json`].
    pub fn parse(json: &[u8]) -> Result<Self, DidDocsError> {
        let mut docs = Self::default();
        for (did, json) in serde_json::from_slice::<HashMap<String, Json>>(json)? {
            match DidDocument::parse(&json) {
                Ok(document) if document.id.as_str() == did => docs.insert(document),
                _ => docs.unusable += 1,
            }
        }
        Ok(docs)
    }

    /// Adds a document, in place of one that was there.
    pub fn insert(&mut self, document: DidDocument) {
        self.documents.insert(document.id.clone(), document);
    }

    /// The document of a DID.
    #[must_use]
    pub fn get(&self, did: &Did) -> Option<&DidDocument> {
        self.documents.get(did)
    }

    /// The key that signs a DID's commits.
    ///
    /// # Errors
    /// [`NoKey`] tells whether there is no document, or none with a key.
    pub fn key(&self, did: &Did) -> Result<&PublicKey, NoKey> {
        let document = self.get(did).ok_or(NoKey::Document)?;
        document.signing_key.as_ref().ok_or(NoKey::Key)
    }

    /// How many documents there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.documents.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.documents.is_empty()
    }

    /// How many documents of the file were malformed, or another DID's.
    #[must_use]
    pub fn unusable(&self) -> u64 {
        self.unusable
    }
}

/// Why a DID's commits can't be verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NoKey {
    /// There is no document of the DID.
    #[error("no DID document")]
    Document,
    /// Its document has no signing key of a known kind.
    #[error("no signing key in the DID document")]
    Key,
}

impl NoKey {
    /// A stable word for counting.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Document => "no_did_document",
            Self::Key => "no_signing_key",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_found_by_their_did() {
        let docs = DidDocs::parse(
            br#"{"did:web:a.example": {"id": "did:web:a.example"},
                 "did:web:b.example": {"id": "did:web:c.example"},
                 "nonsense": 5}"#,
        )
        .expect("an object");
        assert_eq!((docs.len(), docs.unusable()), (1, 2));
        let key = |did: &str| docs.key(&did.parse().expect("valid")).err();
        assert_eq!(key("did:web:a.example"), Some(NoKey::Key));
        assert_eq!(key("did:web:b.example"), Some(NoKey::Document));
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for json in ["", "[]", "{", "5"] {
            assert!(matches!(
                DidDocs::parse(json.as_bytes()),
                Err(DidDocsError::Json { .. })
            ));
        }
    }
}
