//! One node as a block: strict reading, canonical writing.
//!
//! A node is `{e: [{k, p, t, v}], l}`. Whatever has another shape, an unsorted key, a prefix that is not compressed
//! as far as it goes, or keys of several layers is refused. What needs the node's neighbours (its range, its layer)
//! is for [`Tree`](super::Tree) to check.

use super::key::{self, DEPTH_MAX, KEY_BYTES_MAX, KeyError};
use crate::{Cid, CidError};

/// How many entries a node may have.
///
/// Each entry is followed by another in the same node with probability 3/4, so honest nodes end long before; a node
/// that does not has keys that were searched for, and each change to it would cost its writer nothing and us its size.
pub const NODE_ENTRIES_MAX: usize = 1024;

/// A node with its keys written out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Node {
    /// The subtree before the first entry.
    pub left: Option<Cid>,
    /// The entries in key order.
    pub entries: Vec<NodeEntry>,
}

/// One record in a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeEntry {
    /// The record's path.
    pub key: String,
    /// The record's CID.
    pub value: Cid,
    /// The subtree between this entry and the next.
    pub right: Option<Cid>,
}

impl Node {
    /// Decodes a node.
    ///
    /// # Errors
    /// [`NodeError`] for every block that [`Node::encode`] would not have written.
    pub fn decode(block: &[u8]) -> Result<Self, NodeError> {
        let mut reader = Reader {
            bytes: block,
            at: 0,
        };
        reader.exactly(b"\xa2\x61e")?;
        let count = reader.head(LIST)?;
        if count > NODE_ENTRIES_MAX {
            return Err(NodeError::TooManyEntries { count });
        }
        let mut entries = Vec::new();
        let mut layer = None;
        for _ in 0..count {
            let entry = reader.entry(entries.last())?;
            let depth = key::depth(entry.key.as_bytes());
            if depth > DEPTH_MAX {
                return Err(NodeError::Key {
                    source: KeyError::TooHigh { depth },
                });
            }
            if *layer.get_or_insert(depth) != depth {
                return Err(NodeError::Layers);
            }
            entries.push(entry);
        }
        reader.exactly(b"\x61l")?;
        let left = reader.link_or_null()?;
        if reader.at < block.len() {
            return Err(NodeError::Shape { at: reader.at });
        }
        Ok(Self { left, entries })
    }

    /// Returns the node's block. The keys must be sorted.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + self.entries.len() * 96);
        out.extend_from_slice(b"\xa2\x61e");
        put_head(LIST, self.entries.len(), &mut out);
        let mut previous: &[u8] = b"";
        for entry in &self.entries {
            let key = entry.key.as_bytes();
            let prefix = key::common_prefix(previous, key);
            out.extend_from_slice(b"\xa4\x61k");
            put_head(BYTES, key.len() - prefix, &mut out);
            out.extend_from_slice(&key[prefix..]);
            out.extend_from_slice(b"\x61p");
            put_head(UNSIGNED, prefix, &mut out);
            out.extend_from_slice(b"\x61t");
            put_link_or_null(entry.right, &mut out);
            out.extend_from_slice(b"\x61v");
            put_link_or_null(Some(entry.value), &mut out);
            previous = key;
        }
        out.extend_from_slice(b"\x61l");
        put_link_or_null(self.left, &mut out);
        out
    }

    /// Returns the layer of the node's keys, if it has any.
    #[must_use]
    pub fn layer(&self) -> Option<u8> {
        self.entries
            .first()
            .map(|entry| key::depth(entry.key.as_bytes()))
    }
}

const UNSIGNED: u8 = 0;
const BYTES: u8 = 2;
const LIST: u8 = 4;
const NULL: u8 = 0xf6;
// Tag 42, bytes of length 37, the zero byte that stands before a binary CID.
const LINK: &[u8] = b"\xd8\x2a\x58\x25\x00";

fn put_head(major: u8, argument: usize, out: &mut Vec<u8>) {
    let major = major << 5;
    match argument {
        0..24 => out.push(major | argument as u8),
        24..0x100 => out.extend_from_slice(&[major | 24, argument as u8]),
        // Keys and nodes are far shorter than 64 KiB.
        _ => {
            debug_assert!(argument < 0x1_0000, "beyond what a node may hold");
            out.push(major | 25);
            out.extend_from_slice(&(argument as u16).to_be_bytes());
        }
    }
}

fn put_link_or_null(link: Option<Cid>, out: &mut Vec<u8>) {
    match link {
        Some(cid) => {
            out.extend_from_slice(LINK);
            out.extend_from_slice(cid.as_bytes());
        }
        None => out.push(NULL),
    }
}

/// A node's block and how far it has been read.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], NodeError> {
        let rest = &self.bytes[self.at..];
        let taken = rest.get(..count).ok_or(NodeError::Truncated {
            at: self.bytes.len(),
        })?;
        self.at += count;
        Ok(taken)
    }

    fn exactly(&mut self, expected: &[u8]) -> Result<(), NodeError> {
        let at = self.at;
        if self.take(expected.len())? == expected {
            Ok(())
        } else {
            Err(NodeError::Shape { at })
        }
    }

    /// Reads the head of an item of type `major` in its shortest form; larger arguments than nodes need are refused.
    fn head(&mut self, major: u8) -> Result<usize, NodeError> {
        let at = self.at;
        let first = self.take(1)?[0];
        let argument = match first & 0x1f {
            argument @ 0..24 => usize::from(argument),
            24 => usize::from(self.take(1)?[0]),
            25 => self
                .take(2)?
                .iter()
                .fold(0, |argument, byte| (argument << 8) | usize::from(*byte)),
            _ => return Err(NodeError::Shape { at }),
        };
        let shortest = match first & 0x1f {
            24 => argument >= 24,
            25 => argument >= 0x100,
            _ => true,
        };
        if first >> 5 == major && shortest {
            Ok(argument)
        } else {
            Err(NodeError::Shape { at })
        }
    }

    fn link(&mut self) -> Result<Cid, NodeError> {
        let at = self.at;
        self.exactly(LINK)?;
        Cid::from_bytes(self.take(crate::cid::CID_BYTES)?)
            .map_err(|source| NodeError::Link { at, source })
    }

    fn link_or_null(&mut self) -> Result<Option<Cid>, NodeError> {
        if self.bytes.get(self.at) == Some(&NULL) {
            self.at += 1;
            return Ok(None);
        }
        self.link().map(Some)
    }

    fn entry(&mut self, previous: Option<&NodeEntry>) -> Result<NodeEntry, NodeError> {
        self.exactly(b"\xa4\x61k")?;
        let at = self.at;
        let length = self.head(BYTES)?;
        let suffix = self.take(length)?;
        self.exactly(b"\x61p")?;
        let prefix = self.head(UNSIGNED)?;
        let previous = previous.map_or("", |entry| entry.key.as_str()).as_bytes();
        let shared = previous.get(..prefix).ok_or(NodeError::Prefix { at })?;
        if prefix + length > KEY_BYTES_MAX {
            return Err(NodeError::Key {
                source: KeyError::TooLong {
                    bytes: prefix + length,
                },
            });
        }
        let key = [shared, suffix].concat();
        if key.as_slice() <= previous {
            return Err(NodeError::KeyOrder { at });
        }
        if key::common_prefix(previous, &key) != prefix {
            return Err(NodeError::Prefix { at });
        }
        let key = String::from_utf8(key).map_err(|error| NodeError::Key {
            source: KeyError::Character {
                at: error.utf8_error().valid_up_to(),
            },
        })?;
        key::check_key(&key).map_err(|source| NodeError::Key { source })?;
        self.exactly(b"\x61t")?;
        let right = self.link_or_null()?;
        self.exactly(b"\x61v")?;
        let value = self.link()?;
        Ok(NodeEntry { key, value, right })
    }
}

/// Why a block is no canonical node; `at` is the offset of what is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(
    missing_docs,
    reason = "the field `at` is the same in all variants and said above"
)]
pub enum NodeError {
    /// The block ends early.
    #[error("node ends early, after {at} bytes")]
    Truncated { at: usize },
    /// Not the fields that a node has, or not in their canonical encoding.
    #[error("node has another shape at {at}")]
    Shape { at: usize },
    /// More than [`NODE_ENTRIES_MAX`] entries.
    #[error("node of {count} entries")]
    TooManyEntries { count: usize },
    /// An entry shares more with the entry before it than there is, or less than it could.
    #[error("node shares a wrong prefix at {at}")]
    Prefix { at: usize },
    /// An entry's key is not greater than that of the entry before it.
    #[error("node has a key out of order at {at}")]
    KeyOrder { at: usize },
    /// A key that trees do not have.
    #[error("node key")]
    Key { source: KeyError },
    /// Keys of several layers stand in the node.
    #[error("node has keys of several layers")]
    Layers,
    /// A link to something that repositories do not have.
    #[error("node link at {at}")]
    Link { at: usize, source: CidError },
}
