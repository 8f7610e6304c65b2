//! What log objects and manifests share: a message between two magics, with its length and checksum.
//!
//! `magic, anything, message, length (u32 LE), checksum (32 bytes), magic`. The checksum is BLAKE3 in
//! key-derivation mode, so that it fits this use only. What stands before the message is the format's own.

use prost::Message;

/// Magic, length and checksum behind the message.
const TRAILER_BYTES: usize = 4 + 32 + 8;

/// How bytes can fail to be an object of ours.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// Shorter than the smallest object, or than what it says of itself.
    #[error("truncated: {bytes} bytes")]
    Truncated {
        /// How many bytes there are.
        bytes: usize,
    },
    /// More bytes than such an object may have.
    #[error("{bytes} bytes, at most {bytes_max} are allowed")]
    TooLarge {
        /// How many bytes there are, or are claimed.
        bytes: u64,
        /// The limit.
        bytes_max: u64,
    },
    /// The first or last eight bytes are not this kind's.
    #[error("wrong magic")]
    Magic,
    /// The message's checksum does not match.
    #[error("checksum of the footer does not match")]
    Checksum,
    /// The message is no protobuf of this kind.
    #[error("footer is no valid message")]
    Message(#[from] prost::DecodeError),
    /// The message has unknown fields or is not encoded as we encode it.
    #[error("footer is not canonical")]
    NotCanonical,
    /// Made by a newer version of the software.
    #[error("format {found}, this version knows formats up to {known}")]
    NewerFormat {
        /// The object's format.
        found: u32,
        /// The newest format that this version knows.
        known: u32,
    },
    /// A field holds what it may not.
    #[error("field {field} is not valid")]
    Field {
        /// The field's name.
        field: &'static str,
    },
    /// A section's stored bytes do not match their checksum.
    #[error("checksum of section {index} does not match")]
    SectionChecksum {
        /// The section's number, from 0.
        index: usize,
    },
    /// The sections do not fill the object from magic to footer.
    #[error("section {index} does not follow the one before it")]
    SectionRange {
        /// The section's number, from 0.
        index: usize,
    },
    /// A section does not decompress to what its footer says.
    #[error("section {index} does not decompress to {raw_len} bytes")]
    SectionLength {
        /// The section's number, from 0.
        index: usize,
        /// What the footer says.
        raw_len: u64,
    },
}

/// One kind of object.
#[derive(Debug)]
pub(crate) struct Frame {
    /// Seven letters and a digit: the digit is the version of this frame.
    pub(crate) magic: &'static [u8; 8],
    /// BLAKE3's key-derivation context of the checksum.
    pub(crate) context: &'static str,
    /// The newest format that this version reads and writes.
    pub(crate) format: u32,
    pub(crate) message_bytes_max: usize,
}

impl Frame {
    /// Appends message, length, checksum and magic to `out`, which holds the magic and what is the format's own.
    pub(crate) fn close(&self, out: &mut Vec<u8>, message: &impl Message) {
        let start = out.len();
        out.extend_from_slice(&message.encode_to_vec());
        let len = u32::try_from(out.len() - start).unwrap_or(u32::MAX);
        let checksum = self.checksum(&out[start..]);
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(&checksum);
        out.extend_from_slice(self.magic);
    }

    /// Checks magic, length and checksum; returns what stands before the message (magic included) and the message.
    ///
    /// `format` reads the format's number out of a message: a newer one is refused before anything else of
    /// the message is judged.
    pub(crate) fn open<'a, M: Message + Default>(
        &self,
        bytes: &'a [u8],
        format: impl Fn(&M) -> u32,
    ) -> Result<(&'a [u8], M), FormatError> {
        let truncated = FormatError::Truncated { bytes: bytes.len() };
        if bytes.len() < self.magic.len() + TRAILER_BYTES {
            return Err(truncated);
        }
        self.check_magic(&bytes[..8])?;
        let (rest, magic) = bytes.split_at(bytes.len() - 8);
        self.check_magic(magic)?;
        let (rest, checksum) = rest.split_at(rest.len() - 32);
        let (rest, len) = rest.split_at(rest.len() - 4);
        let len = u32::from_le_bytes([len[0], len[1], len[2], len[3]]);
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        if len > self.message_bytes_max {
            return Err(FormatError::TooLarge {
                bytes: len as u64,
                bytes_max: self.message_bytes_max as u64,
            });
        }
        let Some(start) = rest.len().checked_sub(len).filter(|start| *start >= 8) else {
            return Err(truncated);
        };
        let (before, message) = rest.split_at(start);
        if self.checksum(message) != *checksum {
            return Err(FormatError::Checksum);
        }
        let decoded = M::decode(message)?;
        let found = format(&decoded);
        if found > self.format {
            return Err(FormatError::NewerFormat {
                found,
                known: self.format,
            });
        }
        if found == 0 {
            return Err(FormatError::Field { field: "format" });
        }
        if decoded.encode_to_vec() != message {
            return Err(FormatError::NotCanonical);
        }
        Ok((before, decoded))
    }

    fn check_magic(&self, found: &[u8]) -> Result<(), FormatError> {
        if found == self.magic {
            return Ok(());
        }
        match found.split_last() {
            Some((digit, name)) if *name == self.magic[..7] && (b'2'..=b'9').contains(digit) => {
                Err(FormatError::NewerFormat {
                    found: u32::from(digit - b'0'),
                    known: u32::from(self.magic[7] - b'0'),
                })
            }
            _ => Err(FormatError::Magic),
        }
    }

    fn checksum(&self, message: &[u8]) -> [u8; 32] {
        blake3::derive_key(self.context, message)
    }
}
