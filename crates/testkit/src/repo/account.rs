//! An account's identity: a DID, a key, and the document that joins them.

use atproto::{Did, Handle, PublicKey};
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};
use serde_json::json;
use sha2::{Digest, Sha256};

/// The curve of a signing key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Curve {
    /// secp256k1, which nearly all accounts use.
    K256,
    /// NIST P-256.
    P256,
}

#[derive(Clone)]
enum SigningKey {
    K256(k256::ecdsa::SigningKey),
    P256(p256::ecdsa::SigningKey),
}

/// A DID with the key that signs for it.
#[derive(Clone)]
pub struct Account {
    did: Did,
    handle: Handle,
    key: SigningKey,
}

// The key is secret by habit, so it is not shown.
impl std::fmt::Debug for Account {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Account")
            .field("did", &self.did)
            .finish_non_exhaustive()
    }
}

impl Account {
    /// Makes the account of `seed`. Two seeds give two accounts.
    #[must_use]
    pub fn new(seed: u64, curve: Curve) -> Self {
        let digest = Sha256::digest(seed.to_be_bytes());
        let base32 = b"abcdefghijklmnopqrstuvwxyz234567";
        let text: String = digest
            .iter()
            .take(24)
            .map(|byte| char::from(base32[usize::from(byte % 32)]))
            .collect();
        Self {
            did: format!("did:plc:{text}").parse().expect("a DID"),
            handle: format!("u{seed}.example.com").parse().expect("a handle"),
            key: SigningKey::new(seed, curve),
        }
    }

    /// Returns the same account with another key, as after a rotation.
    #[must_use]
    pub fn with_key_of(&self, seed: u64, curve: Curve) -> Self {
        Self {
            key: SigningKey::new(seed, curve),
            ..self.clone()
        }
    }

    /// Returns the same account under another handle.
    #[must_use]
    pub fn with_handle(&self, handle: Handle) -> Self {
        Self {
            handle,
            ..self.clone()
        }
    }

    /// Returns the DID.
    #[must_use]
    pub fn did(&self) -> &Did {
        &self.did
    }

    /// Returns the handle that the DID document names.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Returns the key that verifies what [`Account::sign`] signs.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        match &self.key {
            SigningKey::K256(key) => PublicKey::K256(*key.verifying_key()),
            SigningKey::P256(key) => PublicKey::P256(*key.verifying_key()),
        }
    }

    /// Returns the low-S signature of `message`.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        match &self.key {
            SigningKey::K256(key) => {
                let signature: k256::ecdsa::Signature =
                    k256::ecdsa::signature::Signer::sign(key, message);
                signature
                    .normalize_s()
                    .unwrap_or(signature)
                    .to_bytes()
                    .into()
            }
            SigningKey::P256(key) => {
                let signature: p256::ecdsa::Signature =
                    p256::ecdsa::signature::Signer::sign(key, message);
                signature
                    .normalize_s()
                    .unwrap_or(signature)
                    .to_bytes()
                    .into()
            }
        }
    }

    /// Returns the other signature of the same message and key, which is not low-S and which readers must refuse.
    #[must_use]
    pub fn sign_high_s(&self, message: &[u8]) -> [u8; 64] {
        let mut signature = self.sign(message);
        let order = match &self.key {
            SigningKey::K256(_) => K256_ORDER,
            SigningKey::P256(_) => P256_ORDER,
        };
        let mut borrow = 0;
        for (s, order) in signature[32..].iter_mut().zip(order).rev() {
            let difference = i16::from(order) - i16::from(*s) - borrow;
            borrow = i16::from(difference < 0);
            *s = difference.rem_euclid(256) as u8;
        }
        signature
    }

    /// Returns the DID document, with a host that nobody can reach.
    #[must_use]
    pub fn did_document(&self) -> serde_json::Value {
        self.did_document_at("https://pds.example.com")
    }

    /// Returns the DID document that names `pds`, a URL, as the account's host.
    #[must_use]
    pub fn did_document_at(&self, pds: &str) -> serde_json::Value {
        let did = self.did.as_str();
        json!({
            "@context": ["https://www.w3.org/ns/did/v1", "https://w3id.org/security/multikey/v1"],
            "id": did,
            "alsoKnownAs": [format!("at://{}", self.handle)],
            "verificationMethod": [{
                "id": format!("{did}#atproto"),
                "type": "Multikey",
                "controller": did,
                "publicKeyMultibase": self.public_key().to_multikey(),
            }],
            "service": [{
                "id": "#atproto_pds",
                "type": "AtprotoPersonalDataServer",
                "serviceEndpoint": pds,
            }],
        })
    }
}

// The order of each curve's group, big-endian: SEC 2, sections 2.4.1 and 2.4.2.
const K256_ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe,
    0xba, 0xae, 0xdc, 0xe6, 0xaf, 0x48, 0xa0, 0x3b, 0xbf, 0xd2, 0x5e, 0x8c, 0xd0, 0x36, 0x41, 0x41,
];
const P256_ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xbc, 0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];

impl SigningKey {
    fn new(seed: u64, curve: Curve) -> Self {
        // Nearly all 32 bytes are a key; the loop is for those that are not.
        let mut random = StdRng::seed_from_u64(seed);
        loop {
            let mut bytes = [0; 32];
            random.fill_bytes(&mut bytes);
            let key = match curve {
                Curve::K256 => k256::ecdsa::SigningKey::from_slice(&bytes)
                    .ok()
                    .map(Self::K256),
                Curve::P256 => p256::ecdsa::SigningKey::from_slice(&bytes)
                    .ok()
                    .map(Self::P256),
            };
            if let Some(key) = key {
                return key;
            }
        }
    }
}
