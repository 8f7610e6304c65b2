//! Public keys as DID documents spell them, and the one way in which commits are signed.
//!
//! A signature is ECDSA over the SHA-256 of the message, 64 bytes (`r`, then `s`), with `s` in the lower half of the
//! group's order. The other spelling of the same signature, and DER, are refused: else one commit had two encodings.
//! There are no private keys here.

use k256::ecdsa::signature::Verifier;

/// Length of a signature.
pub const SIGNATURE_BYTES: usize = 64;

const COMPRESSED_BYTES: usize = 33;
const K256_CODE: [u8; 2] = [0xe7, 0x01];
const P256_CODE: [u8; 2] = [0x80, 0x24];
const DID_KEY: &str = "did:key:";

/// A point on one of the two curves that the protocol allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublicKey {
    /// secp256k1.
    K256(k256::ecdsa::VerifyingKey),
    /// NIST P-256, also called secp256r1.
    P256(p256::ecdsa::VerifyingKey),
}

impl PublicKey {
    /// Reads a multikey: `z`, then the base58 of the curve's code and the compressed point.
    ///
    /// # Errors
    /// Other bases, other curves, uncompressed points, points that are not on their curve.
    pub fn from_multikey(text: &str) -> Result<Self, KeyError> {
        let digits = text.strip_prefix('z').ok_or(KeyError::Base)?;
        let mut bytes = [0; 2 + COMPRESSED_BYTES];
        // A longer key does not fit and says so, so the work is bounded by the buffer, not by the text.
        let length = bs58::decode(digits)
            .onto(&mut bytes[..])
            .map_err(|error| match error {
                bs58::decode::Error::BufferTooSmall => KeyError::Length,
                _ => KeyError::Base58,
            })?;
        let (code, point) = match bytes[..length].split_first_chunk::<2>() {
            Some((code, point)) if point.len() == COMPRESSED_BYTES => (*code, point),
            _ => return Err(KeyError::Length),
        };
        match code {
            K256_CODE => Ok(Self::K256(
                k256::ecdsa::VerifyingKey::from_sec1_bytes(point).map_err(|_| KeyError::Point)?,
            )),
            P256_CODE => Ok(Self::P256(
                p256::ecdsa::VerifyingKey::from_sec1_bytes(point).map_err(|_| KeyError::Point)?,
            )),
            code => Err(KeyError::Curve { code }),
        }
    }

    /// Reads a `did:key:` identifier.
    ///
    /// # Errors
    /// As [`PublicKey::from_multikey`], and text that does not start with `did:key:`.
    pub fn from_did_key(text: &str) -> Result<Self, KeyError> {
        Self::from_multikey(text.strip_prefix(DID_KEY).ok_or(KeyError::NotDidKey)?)
    }

    /// Returns the multikey of this key.
    #[must_use]
    pub fn to_multikey(&self) -> String {
        let code = match self {
            Self::K256(_) => K256_CODE,
            Self::P256(_) => P256_CODE,
        };
        let mut bytes = code.to_vec();
        bytes.extend_from_slice(&self.to_compressed());
        format!("z{}", bs58::encode(bytes).into_string())
    }

    /// Returns the `did:key:` identifier of this key.
    #[must_use]
    pub fn to_did_key(&self) -> String {
        format!("{DID_KEY}{}", self.to_multikey())
    }

    /// Returns the compressed point: its sign and its `x`, 33 bytes.
    #[must_use]
    pub fn to_compressed(&self) -> Vec<u8> {
        match self {
            Self::K256(key) => key.to_encoded_point(true).as_bytes().to_vec(),
            Self::P256(key) => key.to_encoded_point(true).as_bytes().to_vec(),
        }
    }

    /// Checks that `signature` is this key's signature of `message`.
    ///
    /// # Errors
    /// Why it is not; the message and the key may be fine where the signature's form is not.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), SignatureError> {
        if signature.len() != SIGNATURE_BYTES {
            return Err(SignatureError::Length {
                bytes: signature.len(),
            });
        }
        match self {
            Self::K256(key) => {
                let signature = k256::ecdsa::Signature::from_slice(signature)
                    .map_err(|_| SignatureError::Range)?;
                if signature.normalize_s().is_some() {
                    return Err(SignatureError::HighS);
                }
                key.verify(message, &signature)
                    .map_err(|_| SignatureError::Mismatch)
            }
            Self::P256(key) => {
                let signature = p256::ecdsa::Signature::from_slice(signature)
                    .map_err(|_| SignatureError::Range)?;
                if signature.normalize_s().is_some() {
                    return Err(SignatureError::HighS);
                }
                key.verify(message, &signature)
                    .map_err(|_| SignatureError::Mismatch)
            }
        }
    }
}

/// Why some text is no [`PublicKey`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The text does not start with `did:key:`.
    #[error("does not start with did:key:")]
    NotDidKey,
    /// The text does not start with `z` for base58.
    #[error("multikey is not base58btc")]
    Base,
    /// A character that base58 does not have.
    #[error("multikey has a character that base58 does not have")]
    Base58,
    /// Not a curve's code and a compressed point.
    #[error("multikey is not 35 bytes")]
    Length,
    /// A curve that the protocol does not use.
    #[error("multikey is of curve {code:02x?}")]
    Curve {
        /// The first two bytes.
        code: [u8; 2],
    },
    /// The point is not on its curve.
    #[error("multikey is no point of its curve")]
    Point,
}

/// Why a signature does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// Not 64 bytes; DER is mostly longer.
    #[error("signature of {bytes} bytes")]
    Length {
        /// How many there are.
        bytes: usize,
    },
    /// One of the two numbers is zero or not below the group's order.
    #[error("signature has a number out of range")]
    Range,
    /// `s` is in the upper half.
    #[error("signature is not low-S")]
    HighS,
    /// Another message or another key.
    #[error("signature does not match")]
    Mismatch,
}
