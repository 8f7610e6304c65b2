//! What a DID document says about an account: who may sign for it, where it lives and what it is called.
//!
//! Only the fields that AT Protocol uses are read; the rest of a document may hold anything. A field that is missing or
//! malformed is none and spoils no other, since documents are made by whoever likes to. The handle is a claim: that it
//! points back to the DID is not checked here.

use serde_json::Value as Json;

use crate::{Did, Handle, PublicKey, SyntaxError};

/// The parts of a DID document that matter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DidDocument {
    /// Whose document it is.
    pub id: Did,
    /// The key that commits are signed with: the first method `#atproto`, if it is a multikey of a known curve.
    pub signing_key: Option<PublicKey>,
    /// The personal data server's URL: scheme, host and perhaps a port, without a slash at its end.
    pub pds: Option<String>,
    /// The first handle that it claims.
    pub handle: Option<Handle>,
}

impl DidDocument {
    /// Reads a document.
    ///
    /// # Errors
    /// If it is no object or has no valid `id`.
    pub fn parse(json: &Json) -> Result<Self, DidDocumentError> {
        let object = json.as_object().ok_or(DidDocumentError::NotObject)?;
        let id = object
            .get("id")
            .and_then(Json::as_str)
            .ok_or(DidDocumentError::NoId)?;
        let id: Did = id
            .parse()
            .map_err(|source| DidDocumentError::Id { source })?;
        Ok(Self {
            signing_key: entry(json, "verificationMethod", &id, "#atproto").and_then(signing_key),
            pds: entry(json, "service", &id, "#atproto_pds").and_then(pds),
            handle: handle(json),
            id,
        })
    }

    /// Reads the text of a document.
    ///
    /// # Errors
    /// As [`DidDocument::parse`], and [`DidDocumentError::Text`] if it is not JSON.
    pub fn parse_text(text: &str) -> Result<Self, DidDocumentError> {
        Self::parse(&serde_json::from_str(text)?)
    }
}

/// Returns the first object in the list `field` whose `id` is `fragment`, alone or behind the DID.
fn entry<'a>(json: &'a Json, field: &str, did: &Did, fragment: &str) -> Option<&'a Json> {
    json.get(field)?.as_array()?.iter().find(|entry| {
        entry
            .get("id")
            .and_then(Json::as_str)
            .is_some_and(|id| id.strip_prefix(did.as_str()).unwrap_or(id) == fragment)
    })
}

fn signing_key(method: &Json) -> Option<PublicKey> {
    let is_multikey = method.get("type")?.as_str()? == "Multikey";
    let text = method.get("publicKeyMultibase")?.as_str()?;
    if is_multikey {
        PublicKey::from_multikey(text).ok()
    } else {
        None
    }
}

fn pds(service: &Json) -> Option<String> {
    if service.get("type")?.as_str()? != "AtprotoPersonalDataServer" {
        return None;
    }
    let url = service.get("serviceEndpoint")?.as_str()?;
    let url = url.strip_suffix('/').unwrap_or(url);
    let host = url
        .strip_prefix("https://")
        .or_else(|| url.strip_prefix("http://"))?;
    let is_host = !host.is_empty()
        && host
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte));
    is_host.then(|| url.to_owned())
}

fn handle(json: &Json) -> Option<Handle> {
    let names = json.get("alsoKnownAs")?.as_array()?;
    names
        .iter()
        .filter_map(Json::as_str)
        .find_map(|name| name.strip_prefix("at://"))?
        .parse()
        .ok()
}

/// Why some JSON is no DID document.
#[derive(Debug, thiserror::Error)]
pub enum DidDocumentError {
    /// Not JSON.
    #[error("DID document is not JSON")]
    Text(#[from] serde_json::Error),
    /// Not an object.
    #[error("DID document is not an object")]
    NotObject,
    /// No `id`, or one that is not text.
    #[error("DID document has no id")]
    NoId,
    /// An `id` that is no DID.
    #[error("DID document's id is no DID")]
    Id {
        /// Why not.
        source: SyntaxError,
    },
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const KEY: &str = "zQ3shokFTS3brHcDQrn82RUDfCZESWL1ZdCEJwekUDPQiYBme";

    fn document() -> Json {
        json!({
            "id": "did:plc:asdf123",
            "alsoKnownAs": ["https://example.com", "at://jay.test", "at://other.test"],
            "verificationMethod": [
                {"id": "did:plc:asdf123#other", "type": "Multikey", "publicKeyMultibase": "z1"},
                {"id": "did:plc:asdf123#atproto", "type": "Multikey", "publicKeyMultibase": KEY},
            ],
            "service": [{
                "id": "#atproto_pds",
                "type": "AtprotoPersonalDataServer",
                "serviceEndpoint": "https://pds.test/",
            }],
        })
    }

    #[test]
    fn the_three_fields_are_found() {
        let document = DidDocument::parse(&document()).expect("valid");
        assert_eq!(document.id.as_str(), "did:plc:asdf123");
        assert_eq!(document.signing_key, PublicKey::from_multikey(KEY).ok());
        assert!(document.signing_key.is_some());
        assert_eq!(document.pds.as_deref(), Some("https://pds.test"));
        assert_eq!(document.handle, "jay.test".parse().ok());
    }

    #[test]
    fn a_malformed_field_spoils_no_other() {
        let mut json = document();
        json["verificationMethod"][1]["type"] = json!("EcdsaSecp256k1VerificationKey2019");
        json["service"] = json!({"id": 5});
        let document = DidDocument::parse(&json).expect("valid");
        assert_eq!((document.signing_key, document.pds), (None, None));
        assert_eq!(document.handle, "jay.test".parse().ok());
    }

    #[test]
    fn another_did_s_key_is_not_taken() {
        let mut json = document();
        json["verificationMethod"][1]["id"] = json!("did:plc:other#atproto");
        assert_eq!(DidDocument::parse(&json).expect("valid").signing_key, None);
    }

    #[test]
    fn a_server_s_url_is_a_host_alone() {
        for url in [
            "ftp://pds.test",
            "https://",
            "https://user@pds.test",
            "https://pds.test/path",
            "pds.test",
        ] {
            let mut json = document();
            json["service"][0]["serviceEndpoint"] = json!(url);
            assert_eq!(DidDocument::parse(&json).expect("valid").pds, None, "{url}");
        }
    }

    #[test]
    fn a_document_is_an_object_with_a_did() {
        assert!(matches!(
            DidDocument::parse_text("["),
            Err(DidDocumentError::Text(_))
        ));
        assert!(matches!(
            DidDocument::parse_text("[]"),
            Err(DidDocumentError::NotObject)
        ));
        assert!(matches!(
            DidDocument::parse_text("{}"),
            Err(DidDocumentError::NoId)
        ));
        assert!(matches!(
            DidDocument::parse_text(r#"{"id":"x"}"#),
            Err(DidDocumentError::Id { .. })
        ));
    }

    #[test]
    fn recorded_documents_have_all_three_fields() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../tests/fixtures/atproto/firehose/did_docs.json.zst"
        );
        let text = zstd::decode_all(std::fs::File::open(path).expect("recorded")).expect("zstd");
        let documents: serde_json::Map<String, Json> = serde_json::from_slice(&text).expect("JSON");
        assert!(documents.len() > 100, "{} documents", documents.len());
        for (did, document) in &documents {
            let document = DidDocument::parse(document).expect("valid");
            assert_eq!(document.id.as_str(), did);
            assert!(document.signing_key.is_some(), "{did}");
            assert!(document.pds.is_some(), "{did}");
            assert!(document.handle.is_some(), "{did}");
        }
    }
}
