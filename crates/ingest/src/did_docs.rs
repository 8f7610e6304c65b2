//! DID documents from a file: a JSON object of DIDs to documents, plain or zstd.
//!
//! They are what they were when somebody fetched them: a key that was rotated since verifies nothing.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use atproto::{Did, DidDocument};
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
    documents: HashMap<Did, Arc<DidDocument>>,
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
        self.documents
            .insert(document.id.clone(), Arc::new(document));
    }

    /// The document of a DID.
    #[must_use]
    pub fn get(&self, did: &Did) -> Option<&DidDocument> {
        self.documents.get(did).map(Arc::as_ref)
    }

    pub(crate) fn shared(&self, did: &Did) -> Option<Arc<DidDocument>> {
        self.documents.get(did).cloned()
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
        let is_there = |did: &str| docs.get(&did.parse().expect("valid")).is_some();
        assert!(is_there("did:web:a.example"));
        assert!(!is_there("did:web:b.example"));
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
