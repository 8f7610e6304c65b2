//! Content identifiers: the one shape of CID that AT Protocol repositories use.
//!
//! A [`Cid`] is always version 1, SHA-256, codec dag-cbor or raw, so it is 36 bytes and `Copy`, and its text is base32.
//! Whether some bytes hash to it is a question that callers ask with [`Cid::matches`]; holding a `Cid` proves nothing.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

/// Length of the binary form.
pub const CID_BYTES: usize = 36;

/// Length of the text form: `b` and 58 base32 digits.
pub const CID_TEXT_BYTES: usize = 59;

const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
const VERSION: u8 = 0x01;
const DAG_CBOR: u8 = 0x71;
const RAW: u8 = 0x55;
const SHA2_256: u8 = 0x12;
const DIGEST_BYTES: u8 = 32;

/// What the bytes behind a [`Cid`] are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// DAG-CBOR (0x71): records, commits, tree nodes.
    DagCbor,
    /// Plain bytes (0x55): blobs.
    Raw,
}

/// A CIDv1 with SHA-256, of a dag-cbor or raw block. Ordered by its bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cid([u8; CID_BYTES]);

impl Cid {
    /// Returns the CID of a DAG-CBOR block.
    #[must_use]
    pub fn of_cbor(block: &[u8]) -> Self {
        Self::of(DAG_CBOR, block)
    }

    /// Returns the CID of a raw block.
    #[must_use]
    pub fn of_raw(block: &[u8]) -> Self {
        Self::of(RAW, block)
    }

    fn of(codec: u8, block: &[u8]) -> Self {
        let mut bytes = [0; CID_BYTES];
        bytes[..4].copy_from_slice(&[VERSION, codec, SHA2_256, DIGEST_BYTES]);
        bytes[4..].copy_from_slice(&Sha256::digest(block));
        Self(bytes)
    }

    /// Reads the binary form, which must be the whole of `bytes`.
    ///
    /// # Errors
    /// Every CID that is not version 1, SHA-256, dag-cbor or raw is refused.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CidError> {
        if bytes.len() < 4 {
            return Err(CidError::Length { bytes: bytes.len() });
        }
        if bytes[0] != VERSION {
            return Err(CidError::Version { found: bytes[0] });
        }
        if bytes[1] != DAG_CBOR && bytes[1] != RAW {
            return Err(CidError::Codec { found: bytes[1] });
        }
        if bytes[2] != SHA2_256 || bytes[3] != DIGEST_BYTES {
            return Err(CidError::Hash { found: bytes[2] });
        }
        match bytes.try_into() {
            Ok(bytes) => Ok(Self(bytes)),
            Err(_) => Err(CidError::Length { bytes: bytes.len() }),
        }
    }

    /// Returns the binary form.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; CID_BYTES] {
        &self.0
    }

    /// Returns what kind of block this names.
    #[must_use]
    pub fn codec(&self) -> Codec {
        if self.0[1] == RAW {
            Codec::Raw
        } else {
            Codec::DagCbor
        }
    }

    /// Returns the SHA-256 of the block.
    #[must_use]
    pub fn digest(&self) -> &[u8] {
        &self.0[4..]
    }

    /// Whether `block` hashes to this CID.
    #[must_use]
    pub fn matches(&self, block: &[u8]) -> bool {
        self.digest() == &Sha256::digest(block)[..]
    }

    /// Returns the text form as ASCII, without an allocation.
    #[must_use]
    pub fn to_text(&self) -> [u8; CID_TEXT_BYTES] {
        let mut text = [b'b'; CID_TEXT_BYTES];
        let (mut bits, mut held, mut at) = (0_u32, 0_u32, 1);
        for &byte in &self.0 {
            bits = (bits << 8) | u32::from(byte);
            held += 8;
            while held >= 5 {
                held -= 5;
                text[at] = ALPHABET[(bits >> held) as usize & 31];
                at += 1;
            }
        }
        text[at] = ALPHABET[(bits << (5 - held)) as usize & 31];
        text
    }
}

impl fmt::Display for Cid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The alphabet is ASCII, so the fallback is never taken.
        formatter.pad(std::str::from_utf8(&self.to_text()).unwrap_or_default())
    }
}

impl fmt::Debug for Cid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl FromStr for Cid {
    type Err = CidError;

    /// Reads the text form: `b` and lower-case base32 without padding, of exactly one spelling per CID.
    fn from_str(text: &str) -> Result<Self, CidError> {
        let Some(digits) = text.strip_prefix('b') else {
            return Err(CidError::Base);
        };
        if text.len() != CID_TEXT_BYTES {
            return Err(CidError::Length { bytes: text.len() });
        }
        let mut bytes = [0; CID_BYTES];
        let (mut bits, mut held, mut at) = (0_u32, 0_u32, 0);
        for (index, digit) in digits.bytes().enumerate() {
            let value = match digit {
                b'a'..=b'z' => digit - b'a',
                b'2'..=b'7' => digit - b'2' + 26,
                _ => return Err(CidError::Digit { at: index + 1 }),
            };
            bits = (bits << 5) | u32::from(value);
            held += 5;
            if held >= 8 {
                held -= 8;
                bytes[at] = (bits >> held) as u8;
                at += 1;
            }
        }
        if bits & ((1 << held) - 1) != 0 {
            return Err(CidError::Digit { at: text.len() - 1 });
        }
        Self::from_bytes(&bytes)
    }
}

/// Why some bytes or some text are no [`Cid`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CidError {
    /// Too few or too many bytes.
    #[error("CID of {bytes} bytes")]
    Length {
        /// How many there are.
        bytes: usize,
    },
    /// Another version than 1.
    #[error("CID version {found}")]
    Version {
        /// The version byte.
        found: u8,
    },
    /// Neither dag-cbor nor raw.
    #[error("CID codec {found:#04x}")]
    Codec {
        /// The codec byte.
        found: u8,
    },
    /// Another hash than SHA-256 of 32 bytes.
    #[error("CID hash {found:#04x}")]
    Hash {
        /// The hash byte.
        found: u8,
    },
    /// The text does not start with `b` for base32.
    #[error("CID text is not lower-case base32")]
    Base,
    /// A character that base32 does not have, or bits set beyond the last byte.
    #[error("CID text is wrong at byte {at}")]
    Digit {
        /// Which byte of the text.
        at: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_bytes_are_one_cid() {
        let cid = Cid::of_cbor(b"\xa0");
        assert_eq!(
            cid.to_string(),
            "bafyreigbtj4x7ip5legnfznufuopl4sg4knzc2cof6duas4b3q2fy6swua"
        );
        assert_eq!(cid.to_string().parse(), Ok(cid));
        assert_eq!(Cid::from_bytes(cid.as_bytes()), Ok(cid));
        assert_eq!(cid.codec(), Codec::DagCbor);
        assert!(cid.matches(b"\xa0"));
        assert!(!cid.matches(b"\xa1"));
    }

    #[test]
    fn a_raw_cid_starts_with_bafkrei() {
        let cid = Cid::of_raw(b"");
        assert!(cid.to_string().starts_with("bafkrei"));
        assert_eq!(cid.codec(), Codec::Raw);
    }

    #[test]
    fn each_other_kind_of_cid_is_refused_by_name() {
        let mut bytes = *Cid::of_cbor(b"").as_bytes();
        assert_eq!(
            Cid::from_bytes(&bytes[..35]),
            Err(CidError::Length { bytes: 35 })
        );
        bytes[1] = 0x70;
        assert_eq!(
            Cid::from_bytes(&bytes),
            Err(CidError::Codec { found: 0x70 })
        );
        bytes[0] = 0x12;
        assert_eq!(
            Cid::from_bytes(&bytes),
            Err(CidError::Version { found: 0x12 })
        );
        bytes[..4].copy_from_slice(&[1, 0x71, 0x1e, 32]);
        assert_eq!(Cid::from_bytes(&bytes), Err(CidError::Hash { found: 0x1e }));
    }

    #[test]
    fn text_has_one_spelling() {
        let text = Cid::of_cbor(b"").to_string();
        assert_eq!(text.to_uppercase().parse::<Cid>(), Err(CidError::Base));
        let mut other = text.into_bytes();
        let last = other.len() - 1;
        other[last] += 1;
        let other = String::from_utf8(other).expect("ASCII");
        assert_eq!(other.parse::<Cid>(), Err(CidError::Digit { at: last }));
    }
}
