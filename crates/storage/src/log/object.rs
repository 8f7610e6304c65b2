//! A log object's bytes.
//!
//! `"ALVMWAL1"`, the sections' stored bytes without a gap, the footer (`proto/log.proto`), its length, its
//! checksum, the magic again. Every byte is covered by a magic, a checksum or the footer's length, so a
//! truncated or changed object is never taken for another. A reader needs no more memory than the sections'
//! real size, whatever a footer claims.

use std::io::Read;

use bytes::Bytes;
use prost::Message;

use crate::create::OBJECT_BYTES_MAX;
use crate::frame::{FormatError, Frame};
use crate::ids::{DatabaseId, Position, Seq, WriterId};
use crate::multiset::MultisetHash;
use crate::proto::log as proto;

/// The most payload bytes of one object, uncompressed, all sections together.
pub const OBJECT_RAW_BYTES_MAX: u64 = 256 * 1024 * 1024;

pub(crate) const FORMAT: u32 = 1;

const FRAME: Frame = Frame {
    magic: b"ALVMWAL1",
    context: "alluvium 2026-11 log object footer",
    format: FORMAT,
    message_bytes_max: 4 * 1024 * 1024,
};

// Level 3 with its window of at most 2 MiB; a reader allows 16 MiB, so that a hostile frame can't ask for more.
const ZSTD_LEVEL: i32 = 3;
const ZSTD_WINDOW_LOG_MAX: u32 = 24;

/// Changes of one kind for one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// What the payload is; the numbers belong to the layer above.
    pub kind: u32,
    /// The table it belongs to, as the layer above names it.
    pub table: String,
    /// The changes, uncompressed.
    pub payload: Bytes,
    /// How many changes the payload holds.
    pub count: u64,
    /// The sum of the BLAKE3 of their identities.
    pub hash: MultisetHash,
}

/// A log object, decoded and checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogObject {
    /// Where it stands.
    pub position: Position,
    /// The writer's clock when it was made, µs since the epoch.
    pub created_us: i64,
    /// Its sections, in their order.
    pub sections: Vec<Section>,
}

/// What makes one object differ from another with the same sections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) database: DatabaseId,
    pub(crate) position: Position,
    pub(crate) nonce: [u8; 16],
    pub(crate) created_us: i64,
}

/// Sections as they are stored: compressed once, sealed under as many positions as it takes.
#[derive(Debug)]
pub(crate) struct Body {
    bytes: Vec<u8>,
    sections: Vec<proto::Section>,
}

/// The sections do not fit into one object. Nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BodyTooLarge {
    pub(crate) bytes: u64,
    pub(crate) bytes_max: u64,
}

impl Body {
    pub(crate) fn encode(sections: &[Section]) -> Result<Self, BodyTooLarge> {
        let raw: u64 = sections
            .iter()
            .map(|section| section.payload.len() as u64)
            .sum();
        fits(raw, OBJECT_RAW_BYTES_MAX)?;
        let mut body = Self {
            bytes: FRAME.magic.to_vec(),
            sections: Vec::with_capacity(sections.len()),
        };
        for section in sections {
            let (codec, stored) = compress(&section.payload);
            body.sections.push(proto::Section {
                kind: section.kind,
                table: section.table.clone(),
                offset: body.bytes.len() as u64,
                len: stored.len() as u64,
                raw_len: section.payload.len() as u64,
                checksum: Bytes::copy_from_slice(blake3::hash(&stored).as_bytes()),
                count: section.count,
                multiset_hash: Bytes::copy_from_slice(&section.hash.0),
                codec: codec.into(),
            });
            body.bytes.extend_from_slice(&stored);
        }
        let footer: u64 = body
            .sections
            .iter()
            .map(|section| section.encoded_len() as u64 + 16)
            .sum();
        fits(footer + 1024, FRAME.message_bytes_max as u64)?;
        fits(body.bytes.len() as u64 + footer + 2048, OBJECT_BYTES_MAX)?;
        Ok(body)
    }

    /// The bytes of the object under `header`.
    pub(crate) fn seal(&self, header: &Header) -> Bytes {
        let footer = proto::Footer {
            format: FORMAT,
            database: Bytes::copy_from_slice(&header.database.to_bytes()),
            writer: Bytes::copy_from_slice(&header.position.writer.to_bytes()),
            seq: header.position.seq.0,
            nonce: Bytes::copy_from_slice(&header.nonce),
            created_us: header.created_us,
            sections: self.sections.clone(),
        };
        let mut bytes = Vec::with_capacity(self.bytes.len() + footer.encoded_len() + 64);
        bytes.extend_from_slice(&self.bytes);
        FRAME.close(&mut bytes, &footer);
        Bytes::from(bytes)
    }
}

fn fits(bytes: u64, bytes_max: u64) -> Result<(), BodyTooLarge> {
    if bytes > bytes_max {
        return Err(BodyTooLarge { bytes, bytes_max });
    }
    Ok(())
}

/// Compresses, or keeps what does not get smaller.
fn compress(payload: &Bytes) -> (proto::Codec, Bytes) {
    match zstd::bulk::compress(payload, ZSTD_LEVEL) {
        Ok(smaller) if smaller.len() < payload.len() => (proto::Codec::Zstd, Bytes::from(smaller)),
        _ => (proto::Codec::Stored, payload.clone()),
    }
}

/// Decodes a log object and checks all of it but the database it belongs to.
///
/// # Errors
/// What is wrong with the bytes; nothing of them is returned then.
pub fn decode_log_object(bytes: &[u8]) -> Result<LogObject, FormatError> {
    decode(bytes).map(|(_, object)| object)
}

/// As [`decode_log_object`], with what identifies the object.
pub(crate) fn decode(bytes: &[u8]) -> Result<(Header, LogObject), FormatError> {
    if bytes.len() as u64 > OBJECT_BYTES_MAX {
        let bytes = bytes.len() as u64;
        return Err(FormatError::TooLarge {
            bytes,
            bytes_max: OBJECT_BYTES_MAX,
        });
    }
    let (body, footer) = FRAME.open(bytes, |footer: &proto::Footer| footer.format)?;
    let header = header(&footer)?;
    let raw = footer
        .sections
        .iter()
        .try_fold(0_u64, |sum, section| sum.checked_add(section.raw_len));
    let raw = raw.unwrap_or(u64::MAX);
    if raw > OBJECT_RAW_BYTES_MAX {
        return Err(FormatError::TooLarge {
            bytes: raw,
            bytes_max: OBJECT_RAW_BYTES_MAX,
        });
    }
    let mut rest = &body[FRAME.magic.len()..];
    let mut offset = FRAME.magic.len() as u64;
    let mut sections = Vec::with_capacity(footer.sections.len());
    for (index, entry) in footer.sections.into_iter().enumerate() {
        let len = usize::try_from(entry.len).unwrap_or(usize::MAX);
        if entry.offset != offset || len > rest.len() {
            return Err(FormatError::SectionRange { index });
        }
        let (stored, after) = rest.split_at(len);
        sections.push(section(index, stored, entry)?);
        rest = after;
        offset += len as u64;
    }
    if !rest.is_empty() {
        return Err(FormatError::SectionRange {
            index: sections.len(),
        });
    }
    let object = LogObject {
        position: header.position,
        created_us: header.created_us,
        sections,
    };
    Ok((header, object))
}

fn header(footer: &proto::Footer) -> Result<Header, FormatError> {
    let field = |field| FormatError::Field { field };
    let seq = Seq(footer.seq);
    if seq < Seq::FIRST {
        return Err(field("seq"));
    }
    Ok(Header {
        database: DatabaseId::from_slice(&footer.database).ok_or(field("database"))?,
        position: Position {
            writer: WriterId::from_slice(&footer.writer).ok_or(field("writer"))?,
            seq,
        },
        nonce: footer
            .nonce
            .as_ref()
            .try_into()
            .map_err(|_| field("nonce"))?,
        created_us: footer.created_us,
    })
}

fn section(index: usize, stored: &[u8], entry: proto::Section) -> Result<Section, FormatError> {
    let codec = entry.codec();
    if i32::from(codec) != entry.codec {
        return Err(FormatError::Field { field: "codec" });
    }
    if *blake3::hash(stored).as_bytes() != *entry.checksum {
        return Err(FormatError::SectionChecksum { index });
    }
    let hash = entry.multiset_hash.as_ref().try_into();
    let hash = hash.map_err(|_| FormatError::Field {
        field: "multiset_hash",
    })?;
    let payload = match codec {
        proto::Codec::Stored => Some(Bytes::copy_from_slice(stored)),
        proto::Codec::Zstd => decompress(stored, entry.raw_len),
    };
    let payload = payload.filter(|payload| payload.len() as u64 == entry.raw_len);
    let raw_len = entry.raw_len;
    Ok(Section {
        kind: entry.kind,
        table: entry.table,
        payload: payload.ok_or(FormatError::SectionLength { index, raw_len })?,
        count: entry.count,
        hash: MultisetHash(hash),
    })
}

/// One zstd frame and nothing behind it; at most one byte more than `raw_len` is ever unpacked.
fn decompress(stored: &[u8], raw_len: u64) -> Option<Bytes> {
    let mut decoder = zstd::stream::read::Decoder::with_buffer(stored)
        .ok()?
        .single_frame();
    decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).ok()?;
    let mut raw = Vec::new();
    decoder
        .by_ref()
        .take(raw_len.saturating_add(1))
        .read_to_end(&mut raw)
        .ok()?;
    let rest = decoder.finish();
    rest.is_empty().then(|| Bytes::from(raw))
}

#[cfg(test)]
#[path = "object/tests.rs"]
mod tests;
