//! DAG-CBOR in its strict form (DRISL), which has exactly one spelling for each value.
//!
//! [`decode`] refuses whatever [`encode`] would not have written: longer integers than needed, unsorted or repeated
//! keys, indefinite lengths, tags other than 42, floats, `undefined` and other simple values, text that is not UTF-8,
//! bytes after the end. So bytes that decode are bytes that re-encode to themselves.
//! Depth, container sizes and key lengths are bounded, and no length is trusted before the bytes behind it are there.

use std::cmp::Ordering;

use crate::{Cid, CidError, Map, Value};

/// How deep lists and maps may stand in each other; a flat map has depth 1.
pub const DEPTH_MAX: usize = 32;

/// How many entries a list or a map may have.
pub const CONTAINER_MAX: usize = 131_072;

/// How long a map's key may be.
pub const KEY_BYTES_MAX: usize = 8 * 1024;

// A container's claimed length is only a claim: 32 nested claims of 131,072 entries would reserve 128 MiB for a
// message of 200 kB. Nearly all real containers are smaller than this.
const RESERVE_MAX: usize = 32;

const TAG_CID: u64 = 42;

const UNSIGNED: u8 = 0;
const NEGATIVE: u8 = 1;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const LIST: u8 = 4;
const MAP: u8 = 5;
const TAG: u8 = 6;
const SIMPLE: u8 = 7;

/// Decodes one value that is the whole of `bytes`.
///
/// # Errors
/// Whatever is not the canonical encoding of a value within the limits, see [`CborError`].
pub fn decode(bytes: &[u8]) -> Result<Value, CborError> {
    let (value, rest) = decode_prefix(bytes)?;
    if rest.is_empty() {
        Ok(value)
    } else {
        Err(CborError::Trailing {
            at: bytes.len() - rest.len(),
        })
    }
}

/// Decodes the value that `bytes` starts with and returns it with the bytes behind it.
///
/// # Errors
/// As [`decode`], except that bytes may follow.
pub fn decode_prefix(bytes: &[u8]) -> Result<(Value, &[u8]), CborError> {
    let mut reader = Reader::new(bytes);
    let value = reader.value(DEPTH_MAX)?;
    Ok((value, reader.rest()))
}

/// Checks that `bytes` are one canonical value, without building it.
///
/// # Errors
/// Exactly those of [`decode`].
pub fn check(bytes: &[u8]) -> Result<(), CborError> {
    let mut reader = Reader::new(bytes);
    reader.skip(DEPTH_MAX)?;
    if reader.rest().is_empty() {
        Ok(())
    } else {
        Err(CborError::Trailing { at: reader.at })
    }
}

/// Returns the canonical encoding of `value`.
///
/// It decodes again if the value is within [`DEPTH_MAX`], [`CONTAINER_MAX`] and [`KEY_BYTES_MAX`].
#[must_use]
pub fn encode(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    encode_into(value, &mut out);
    out
}

/// Appends the canonical encoding of `value` to `out`.
pub fn encode_into(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.push(0xf6),
        Value::Bool(false) => out.push(0xf4),
        Value::Bool(true) => out.push(0xf5),
        // `!int` is `-1 - int`, which is what CBOR stores of a negative integer.
        Value::Int(int) if *int < 0 => put_head(NEGATIVE, !*int as u64, out),
        Value::Int(int) => put_head(UNSIGNED, *int as u64, out),
        Value::Text(text) => put_text(text, out),
        Value::Bytes(bytes) => {
            put_head(BYTES, bytes.len() as u64, out);
            out.extend_from_slice(bytes);
        }
        Value::Link(cid) => {
            put_head(TAG, TAG_CID, out);
            put_head(BYTES, 1 + cid.as_bytes().len() as u64, out);
            out.push(0);
            out.extend_from_slice(cid.as_bytes());
        }
        Value::List(list) => {
            put_head(LIST, list.len() as u64, out);
            for item in list {
                encode_into(item, out);
            }
        }
        Value::Map(map) => {
            put_head(MAP, map.len() as u64, out);
            for (key, value) in map.iter() {
                put_text(key, out);
                encode_into(value, out);
            }
        }
    }
}

fn put_text(text: &str, out: &mut Vec<u8>) {
    put_head(TEXT, text.len() as u64, out);
    out.extend_from_slice(text.as_bytes());
}

fn put_head(major: u8, argument: u64, out: &mut Vec<u8>) {
    let major = major << 5;
    match argument {
        0..24 => out.push(major | argument as u8),
        24..0x100 => out.extend_from_slice(&[major | 24, argument as u8]),
        0x100..0x1_0000 => {
            out.push(major | 25);
            out.extend_from_slice(&(argument as u16).to_be_bytes());
        }
        0x1_0000..0x1_0000_0000 => {
            out.push(major | 26);
            out.extend_from_slice(&(argument as u32).to_be_bytes());
        }
        _ => {
            out.push(major | 27);
            out.extend_from_slice(&argument.to_be_bytes());
        }
    }
}

/// Bytes and how far they have been read.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    fn value(&mut self, depth: usize) -> Result<Value, CborError> {
        let start = self.at;
        let (major, argument) = self.head()?;
        Ok(match major {
            UNSIGNED => Value::Int(int(argument, start)?),
            NEGATIVE => Value::Int(!int(argument, start)?),
            BYTES => Value::Bytes(self.take(argument)?.to_vec()),
            TEXT => Value::Text(self.text(argument)?.to_owned()),
            LIST => {
                let count = self.count(argument, 1, start)?;
                let depth = below(depth, start)?;
                let mut list = Vec::with_capacity(count.min(RESERVE_MAX));
                for _ in 0..count {
                    list.push(self.value(depth)?);
                }
                Value::List(list)
            }
            MAP => {
                let count = self.count(argument, 2, start)?;
                let depth = below(depth, start)?;
                let mut entries = Vec::with_capacity(count.min(RESERVE_MAX));
                let mut before = None;
                for _ in 0..count {
                    let key = self.key(before)?;
                    before = Some(key);
                    entries.push((key.to_owned(), self.value(depth)?));
                }
                Value::Map(Map::from_ordered(entries))
            }
            TAG => Value::Link(self.link(argument, start)?),
            _ => match argument {
                20 => Value::Bool(false),
                21 => Value::Bool(true),
                _ => Value::Null,
            },
        })
    }

    /// Does what [`Reader::value`] does, but keeps nothing.
    fn skip(&mut self, depth: usize) -> Result<(), CborError> {
        let start = self.at;
        let (major, argument) = self.head()?;
        match major {
            UNSIGNED | NEGATIVE => {
                int(argument, start)?;
            }
            BYTES => {
                self.take(argument)?;
            }
            TEXT => {
                self.text(argument)?;
            }
            LIST => {
                let count = self.count(argument, 1, start)?;
                let depth = below(depth, start)?;
                for _ in 0..count {
                    self.skip(depth)?;
                }
            }
            MAP => {
                let count = self.count(argument, 2, start)?;
                let depth = below(depth, start)?;
                let mut before = None;
                for _ in 0..count {
                    before = Some(self.key(before)?);
                    self.skip(depth)?;
                }
            }
            TAG => {
                self.link(argument, start)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Reads an initial byte and its argument; of the simple values it lets only false, true and null pass.
    fn head(&mut self) -> Result<(u8, u64), CborError> {
        let start = self.at;
        let initial = self.take(1)?[0];
        let (major, info) = (initial >> 5, initial & 31);
        if major == SIMPLE {
            return match info {
                20..=22 => Ok((major, u64::from(info))),
                23 => Err(CborError::Undefined { at: start }),
                25..=27 => Err(CborError::Float { at: start }),
                31 => Err(CborError::Indefinite { at: start }),
                _ => Err(CborError::Simple { at: start }),
            };
        }
        let (argument, least) = match info {
            0..24 => return Ok((major, u64::from(info))),
            24 => (u64::from(self.take(1)?[0]), 24),
            25 => (self.big_endian(2)?, 0x100),
            26 => (self.big_endian(4)?, 0x1_0000),
            27 => (self.big_endian(8)?, 0x1_0000_0000),
            31 => return Err(CborError::Indefinite { at: start }),
            _ => return Err(CborError::Reserved { at: start }),
        };
        if argument < least {
            Err(CborError::NotShortest { at: start })
        } else {
            Ok((major, argument))
        }
    }

    fn big_endian(&mut self, count: u64) -> Result<u64, CborError> {
        Ok(self
            .take(count)?
            .iter()
            .fold(0, |sum, byte| (sum << 8) | u64::from(*byte)))
    }

    fn take(&mut self, count: u64) -> Result<&'a [u8], CborError> {
        let rest = self.rest();
        match usize::try_from(count) {
            Ok(count) if count <= rest.len() => {
                self.at += count;
                Ok(&rest[..count])
            }
            _ => Err(CborError::Truncated {
                at: self.bytes.len(),
            }),
        }
    }

    fn text(&mut self, bytes: u64) -> Result<&'a str, CborError> {
        let start = self.at;
        std::str::from_utf8(self.take(bytes)?).map_err(|error| CborError::Utf8 {
            at: start + error.valid_up_to(),
        })
    }

    /// Checks how many entries a container says it has; each takes at least `entry_bytes`.
    fn count(&self, argument: u64, entry_bytes: usize, at: usize) -> Result<usize, CborError> {
        match usize::try_from(argument) {
            Ok(count) if count <= CONTAINER_MAX => {
                if count * entry_bytes <= self.rest().len() {
                    Ok(count)
                } else {
                    Err(CborError::Truncated {
                        at: self.bytes.len(),
                    })
                }
            }
            _ => Err(CborError::ContainerTooLarge { at }),
        }
    }

    fn key(&mut self, before: Option<&str>) -> Result<&'a str, CborError> {
        let start = self.at;
        let (major, bytes) = self.head()?;
        if major != TEXT {
            return Err(CborError::KeyNotText { at: start });
        }
        if bytes > KEY_BYTES_MAX as u64 {
            return Err(CborError::KeyTooLong { at: start });
        }
        let key = self.text(bytes)?;
        match before.map_or(Ordering::Less, |before| {
            crate::value::key_order(before, key)
        }) {
            Ordering::Less => Ok(key),
            Ordering::Equal => Err(CborError::KeyRepeated { at: start }),
            Ordering::Greater => Err(CborError::KeyOrder { at: start }),
        }
    }

    fn link(&mut self, tag: u64, at: usize) -> Result<Cid, CborError> {
        if tag != TAG_CID {
            return Err(CborError::Tag { at, tag });
        }
        let (major, bytes) = self.head()?;
        if major != BYTES {
            return Err(CborError::LinkNotBytes { at });
        }
        match self.take(bytes)?.split_first() {
            Some((0, cid)) => Cid::from_bytes(cid).map_err(|source| CborError::Link { at, source }),
            _ => Err(CborError::LinkPrefix { at }),
        }
    }
}

fn int(argument: u64, at: usize) -> Result<i64, CborError> {
    i64::try_from(argument).map_err(|_| CborError::IntRange { at })
}

fn below(depth: usize, at: usize) -> Result<usize, CborError> {
    depth.checked_sub(1).ok_or(CborError::TooDeep { at })
}

/// Why some bytes are not the canonical encoding of a value; `at` is the offset of what is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(
    missing_docs,
    reason = "the field `at` is the same in all variants and said above"
)]
pub enum CborError {
    /// The bytes end before the value does.
    #[error("CBOR ends early, after {at} bytes")]
    Truncated { at: usize },
    /// The value ends before the bytes do.
    #[error("CBOR has bytes after its end at {at}")]
    Trailing { at: usize },
    /// A length or integer could have been written shorter.
    #[error("CBOR integer at {at} is not in its shortest form")]
    NotShortest { at: usize },
    /// An integer beyond 64 bits with sign.
    #[error("CBOR integer at {at} is out of range")]
    IntRange { at: usize },
    /// An indefinite length, or a break without one.
    #[error("CBOR item at {at} has an indefinite length")]
    Indefinite { at: usize },
    /// An additional information value that CBOR reserves.
    #[error("CBOR item at {at} has a reserved form")]
    Reserved { at: usize },
    /// A float, which the data model does not have.
    #[error("CBOR item at {at} is a float")]
    Float { at: usize },
    /// The value `undefined`.
    #[error("CBOR item at {at} is undefined")]
    Undefined { at: usize },
    /// A simple value other than false, true and null.
    #[error("CBOR item at {at} is a simple value")]
    Simple { at: usize },
    /// Text that is not UTF-8.
    #[error("CBOR text is not UTF-8 at {at}")]
    Utf8 { at: usize },
    /// More than [`DEPTH_MAX`] containers in each other.
    #[error("CBOR container at {at} is nested too deep")]
    TooDeep { at: usize },
    /// More than [`CONTAINER_MAX`] entries.
    #[error("CBOR container at {at} has too many entries")]
    ContainerTooLarge { at: usize },
    /// A map's key is not text.
    #[error("CBOR map key at {at} is not text")]
    KeyNotText { at: usize },
    /// A map's key is longer than [`KEY_BYTES_MAX`].
    #[error("CBOR map key at {at} is too long")]
    KeyTooLong { at: usize },
    /// A map's key stands after one that it should stand before.
    #[error("CBOR map key at {at} is out of order")]
    KeyOrder { at: usize },
    /// A map has a key twice.
    #[error("CBOR map key at {at} is repeated")]
    KeyRepeated { at: usize },
    /// A tag other than 42.
    #[error("CBOR item at {at} has tag {tag}")]
    Tag { at: usize, tag: u64 },
    /// Tag 42 on something else than bytes.
    #[error("CBOR link at {at} is not bytes")]
    LinkNotBytes { at: usize },
    /// Tag 42 on bytes that do not start with zero.
    #[error("CBOR link at {at} lacks its zero prefix")]
    LinkPrefix { at: usize },
    /// Tag 42 on a CID that repositories do not use.
    #[error("CBOR link at {at}")]
    Link { at: usize, source: CidError },
}

#[cfg(test)]
pub(crate) mod tests;
