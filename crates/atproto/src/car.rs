//! CAR version 1: the blocks of a commit or of a whole repository, in one piece of bytes.
//!
//! Every block of a [`Car`] hashes to its CID. Which blocks there should be is not known here: they may come in any
//! order, more than once, and more of them than anything needs.

use std::collections::BTreeMap;

use crate::cid::CID_BYTES;
use crate::mst::Blocks;
use crate::{CborError, Cid, CidError, Map, Value, cbor};

/// How long one block may be: a record of 1 MiB, with room to spare.
pub const BLOCK_BYTES_MAX: usize = 2 * 1024 * 1024;

/// How many roots a header may name; repositories have one.
pub const ROOTS_MAX: usize = 16;

// Room for the roots and the field names.
const HEADER_BYTES_MAX: usize = 64 + ROOTS_MAX * 48;

/// The roots and blocks of a CAR, borrowed from its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Car<'a> {
    roots: Vec<Cid>,
    blocks: BTreeMap<Cid, &'a [u8]>,
}

impl<'a> Car<'a> {
    /// Parses `bytes` and hashes every block.
    ///
    /// # Errors
    /// [`CarError`] if the bytes end early, a length is not a shortest varint, the header is not `{roots, version: 1}`
    /// with at least one root, or a block is too long or does not hash to its CID.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, CarError> {
        let mut reader = Reader { bytes, at: 0 };
        let roots = roots(reader.section(HEADER_BYTES_MAX)?)?;
        let mut blocks = BTreeMap::new();
        while reader.at < bytes.len() {
            let at = reader.at;
            let section = reader.section(BLOCK_BYTES_MAX + CID_BYTES)?;
            let (cid, block) = section
                .split_at_checked(CID_BYTES)
                .ok_or(CarError::NoCid { at })?;
            let cid = Cid::from_bytes(cid).map_err(|source| CarError::Cid { at, source })?;
            if !cid.matches(block) {
                return Err(CarError::Hash { cid });
            }
            blocks.insert(cid, block);
        }
        Ok(Self { roots, blocks })
    }

    /// Returns the first root: in a commit or a repository, the commit block.
    #[must_use]
    pub fn root(&self) -> Cid {
        self.roots[0]
    }

    /// Returns all roots, at least one.
    #[must_use]
    pub fn roots(&self) -> &[Cid] {
        &self.roots
    }

    /// Returns the block that `cid` names, if it is here.
    #[must_use]
    pub fn get(&self, cid: &Cid) -> Option<&'a [u8]> {
        self.blocks.get(cid).copied()
    }

    /// Returns all blocks, each once, in CID order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (Cid, &'a [u8])> {
        self.blocks.iter().map(|(cid, block)| (*cid, *block))
    }
}

impl Blocks for Car<'_> {
    fn block(&self, cid: &Cid) -> Option<&[u8]> {
        self.get(cid)
    }
}

/// Returns a CAR of `blocks` in the given order.
#[must_use]
pub fn encode<'b>(roots: &[Cid], blocks: impl IntoIterator<Item = (Cid, &'b [u8])>) -> Vec<u8> {
    let roots: Vec<Value> = roots.iter().map(|root| Value::from(*root)).collect();
    let header: Map = [("roots", Value::from(roots)), ("version", Value::from(1))]
        .into_iter()
        .collect();
    let header = cbor::encode(&Value::from(header));
    let mut out = Vec::new();
    put_varint(header.len(), &mut out);
    out.extend_from_slice(&header);
    for (cid, block) in blocks {
        put_varint(CID_BYTES + block.len(), &mut out);
        out.extend_from_slice(cid.as_bytes());
        out.extend_from_slice(block);
    }
    out
}

fn put_varint(mut value: usize, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn roots(header: &[u8]) -> Result<Vec<Cid>, CarError> {
    let header = cbor::decode(header).map_err(CarError::Header)?;
    let header = header.as_map().ok_or(CarError::HeaderShape)?;
    let version = header
        .get("version")
        .and_then(Value::as_int)
        .ok_or(CarError::HeaderShape)?;
    if version != 1 {
        return Err(CarError::Version { version });
    }
    let roots = header
        .get("roots")
        .and_then(Value::as_list)
        .ok_or(CarError::HeaderShape)?;
    if header.len() != 2 {
        return Err(CarError::HeaderShape);
    }
    if roots.is_empty() || roots.len() > ROOTS_MAX {
        return Err(CarError::Roots { count: roots.len() });
    }
    roots
        .iter()
        .map(|root| root.as_link().ok_or(CarError::HeaderShape))
        .collect()
}

/// The bytes of a CAR and how far they have been read.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Reads a length and that many bytes.
    fn section(&mut self, length_max: usize) -> Result<&'a [u8], CarError> {
        let at = self.at;
        let length = self.varint()?;
        if length > length_max {
            return Err(CarError::TooLong { at, length });
        }
        let section = self.bytes[self.at..]
            .get(..length)
            .ok_or(CarError::Truncated {
                at: self.bytes.len(),
            })?;
        self.at += length;
        Ok(section)
    }

    fn varint(&mut self) -> Result<usize, CarError> {
        let start = self.at;
        let mut value = 0;
        // Four bytes hold 2^28, far beyond any section; so the shift below stays within `usize`.
        for shift in [0, 7, 14, 21] {
            let byte = *self.bytes.get(self.at).ok_or(CarError::Truncated {
                at: self.bytes.len(),
            })?;
            self.at += 1;
            value |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                // A last byte of zero adds nothing: the number has a shorter form.
                return if byte == 0 && shift > 0 {
                    Err(CarError::Varint { at: start })
                } else {
                    Ok(value)
                };
            }
        }
        Err(CarError::Varint { at: start })
    }
}

/// Why some bytes are no CAR; `at` is the offset of what is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(
    missing_docs,
    reason = "the field `at` is the same in all variants and said above"
)]
pub enum CarError {
    /// The bytes end in a section.
    #[error("CAR ends early, after {at} bytes")]
    Truncated { at: usize },
    /// A length that is longer than four bytes or not in its shortest form.
    #[error("CAR length at {at} is not a short varint")]
    Varint { at: usize },
    /// A header or block longer than allowed.
    #[error("CAR section at {at} is {length} bytes long")]
    TooLong { at: usize, length: usize },
    /// The header is not DAG-CBOR.
    #[error("CAR header")]
    Header(#[source] CborError),
    /// The header is not `{roots, version}`.
    #[error("CAR header has other fields than roots and version")]
    HeaderShape,
    /// Another version than 1.
    #[error("CAR version {version}")]
    Version { version: i64 },
    /// No root, or more than [`ROOTS_MAX`].
    #[error("CAR with {count} roots")]
    Roots { count: usize },
    /// A section too short for a CID.
    #[error("CAR section at {at} has no CID")]
    NoCid { at: usize },
    /// A block named by a CID that repositories do not use.
    #[error("CAR section at {at}")]
    Cid { at: usize, source: CidError },
    /// A block that does not hash to its CID.
    #[error("CAR block {cid} has another hash")]
    Hash { cid: Cid },
}

impl CarError {
    /// Returns a stable word for counting.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Truncated { .. } => "car_truncated",
            Self::Varint { .. } => "car_varint",
            Self::TooLong { .. } => "car_section_too_long",
            Self::Header(_) | Self::HeaderShape => "car_header",
            Self::Version { .. } => "car_version",
            Self::Roots { .. } => "car_roots",
            Self::NoCid { .. } | Self::Cid { .. } => "car_cid",
            Self::Hash { .. } => "car_block_hash",
        }
    }
}

#[cfg(test)]
mod tests;
