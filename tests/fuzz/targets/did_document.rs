//! DID documents: any JSON is a document or is refused, and the parts that are found are checked ones.

use atproto::{DidDocument, PublicKey};

/// Fuzzes `DidDocument::parse_text`.
pub(crate) fn did_document(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(document) = DidDocument::parse_text(text) {
        if let Some(key) = &document.signing_key {
            assert_eq!(
                PublicKey::from_multikey(&key.to_multikey()).as_ref(),
                Ok(key)
            );
        }
        if let Some(pds) = &document.pds {
            assert!(
                pds.starts_with("http") && !pds.ends_with('/') && !pds.contains('@'),
                "{pds}"
            );
        }
    }
}
