//! What a manifest's root says of the tables: parts, and in them the entries of all segments of one version; and the
//! catalog.
//!
//! A root stays small because it names parts, not segments. A commit writes the parts that it touches anew and leaves
//! the rest; [`regroup`] keeps parts few by the rule of a binary counter, so that rewriting entries costs a logarithm.
//! Encoding and decoding are pure; nothing here reads the object store.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use prost::encoding::{DecodeContext, decode_key, skip_field};
use prost::{DecodeError, Message};

use crate::error::FormatError;
use crate::proto;
use crate::segment::{SegmentEntry, checksum};

/// The newest format of parts that this code reads, and the one that it writes.
const FORMAT: u32 = 1;
/// The newest format of bodies that this code reads. It is written where there is a catalog, else [`FORMAT`].
const BODY_FORMAT: u32 = 2;
/// Entries in a part at most.
pub const PART_SEGMENTS_MAX: usize = 1_000;
/// Bytes of a part at most, unless one entry alone is larger.
pub const PART_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of a catalog at most.
pub const CATALOG_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// A part of more bytes is none of ours: it is not even fetched to be decoded.
const PART_BYTES_READ_MAX: u64 = 16 * 1024 * 1024;

/// A part, as the root names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartRef {
    /// The object.
    pub path: String,
    /// How many entries it holds.
    pub segments: u32,
    /// The object's size.
    pub bytes: u64,
    /// The object's BLAKE3.
    pub checksum: [u8; 32],
}

/// The catalog, as the root names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatalogRef {
    /// The object.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// Its BLAKE3.
    pub checksum: [u8; 32],
    /// Collections that have a table, and may still have rows or tombstones in the table of records without a Lexicon.
    ///
    /// It is a promise that no row of theirs comes to stand there any more.
    pub waiting: BTreeSet<String>,
}

/// A root's body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Body {
    /// The parts: together they list every segment of the version, each once.
    pub parts: Vec<PartRef>,
    /// What was added to the built-in tables; none if nothing was.
    pub catalog: Option<CatalogRef>,
}

/// Encodes a root's body.
#[must_use]
pub fn encode_body(body: &Body) -> Bytes {
    let parts = body
        .parts
        .iter()
        .map(|part| proto::PartRef {
            path: part.path.clone(),
            segments: part.segments,
            bytes: part.bytes,
            checksum: part.checksum.to_vec().into(),
        })
        .collect();
    let catalog = body.catalog.as_ref().map(|catalog| proto::CatalogRef {
        path: catalog.path.clone(),
        bytes: catalog.bytes,
        checksum: catalog.checksum.to_vec().into(),
        waiting: catalog.waiting.iter().cloned().collect(),
    });
    proto::Body {
        format: if catalog.is_some() {
            BODY_FORMAT
        } else {
            FORMAT
        },
        parts,
        catalog,
    }
    .encode_to_vec()
    .into()
}

/// Decodes a root's body. The empty body is that of a bucket without tables.
///
/// # Errors
/// [`FormatError`] if it is none, or of a newer format.
pub fn decode_body(bytes: &[u8]) -> Result<Body, FormatError> {
    if bytes.is_empty() {
        return Ok(Body::default());
    }
    let body = proto::Body::decode(bytes).map_err(|source| FormatError::Protobuf { source })?;
    check_format(body.format, BODY_FORMAT, "body.format")?;
    let mut paths = HashSet::with_capacity(body.parts.len());
    if !body.parts.iter().all(|part| paths.insert(&part.path)) {
        return Err(FormatError::Field { field: "part.path" });
    }
    let parts = body.parts.into_iter().map(part_ref);
    Ok(Body {
        parts: parts.collect::<Result<_, _>>()?,
        catalog: body.catalog.map(catalog_ref).transpose()?,
    })
}

fn part_ref(part: proto::PartRef) -> Result<PartRef, FormatError> {
    if part.segments == 0 || part.segments as usize > PART_SEGMENTS_MAX {
        return Err(FormatError::Field {
            field: "part.segments",
        });
    }
    if part.path.is_empty() || part.bytes > PART_BYTES_READ_MAX {
        return Err(FormatError::Field {
            field: "part.bytes",
        });
    }
    Ok(PartRef {
        path: part.path,
        segments: part.segments,
        bytes: part.bytes,
        checksum: checksum(&part.checksum, "part.checksum")?,
    })
}

fn catalog_ref(catalog: proto::CatalogRef) -> Result<CatalogRef, FormatError> {
    if catalog.path.is_empty() || catalog.bytes > CATALOG_BYTES_MAX {
        return Err(FormatError::Field {
            field: "catalog.bytes",
        });
    }
    if !catalog.waiting.is_sorted_by(|a, b| a < b) {
        return Err(FormatError::Field {
            field: "catalog.waiting",
        });
    }
    Ok(CatalogRef {
        path: catalog.path,
        bytes: catalog.bytes,
        checksum: checksum(&catalog.checksum, "catalog.checksum")?,
        waiting: catalog.waiting.into_iter().collect(),
    })
}

/// Encodes a part.
#[must_use]
pub fn encode_part(entries: &[Arc<SegmentEntry>]) -> Bytes {
    let segments = entries.iter().map(|entry| entry.to_proto()).collect();
    proto::Part {
        format: FORMAT,
        segments,
    }
    .encode_to_vec()
    .into()
}

/// Decodes a part.
///
/// # Errors
/// [`FormatError`] if it is none, or of a newer format.
pub fn decode_part(bytes: &[u8]) -> Result<Vec<Arc<SegmentEntry>>, FormatError> {
    // Counted first: an entry of two bytes takes hundreds in memory.
    let count = count_segments(bytes).map_err(|source| FormatError::Protobuf { source })?;
    if count > PART_SEGMENTS_MAX {
        return Err(FormatError::Field {
            field: "part.segments",
        });
    }
    let part = proto::Part::decode(bytes).map_err(|source| FormatError::Protobuf { source })?;
    check_format(part.format, FORMAT, "part.format")?;
    part.segments
        .into_iter()
        .map(|segment| SegmentEntry::from_proto(segment).map(Arc::new))
        .collect()
}

/// How many segments an encoded part lists.
fn count_segments(mut part: &[u8]) -> Result<usize, DecodeError> {
    const SEGMENTS: u32 = 2;
    let mut count = 0;
    while !part.is_empty() {
        let (tag, wire_type) = decode_key(&mut part)?;
        count += usize::from(tag == SEGMENTS);
        skip_field(wire_type, tag, &mut part, DecodeContext::default())?;
    }
    Ok(count)
}

/// Refuses a format that is newer than `known`.
pub(crate) fn check_format(
    format: u32,
    known: u32,
    field: &'static str,
) -> Result<(), FormatError> {
    match format {
        0 => Err(FormatError::Field { field }),
        format if format <= known => Ok(()),
        format => Err(FormatError::Newer { format, known }),
    }
}

/// A part with its entries.
#[derive(Clone, Debug)]
pub struct Part {
    /// How the root names it.
    pub reference: PartRef,
    /// Its entries.
    pub entries: Arc<Vec<Arc<SegmentEntry>>>,
}

/// All segments of one version.
#[derive(Clone, Debug, Default)]
pub struct SegmentSet {
    parts: Vec<Part>,
    tables: BTreeMap<String, Vec<Arc<SegmentEntry>>>,
    paths: HashSet<String>,
    catalog: Option<CatalogRef>,
}

impl SegmentSet {
    /// The segments that `parts` list, beside a catalog.
    #[must_use]
    pub fn new(parts: Vec<Part>, catalog: Option<CatalogRef>) -> Self {
        let mut tables: BTreeMap<String, Vec<Arc<SegmentEntry>>> = BTreeMap::new();
        let mut paths = HashSet::new();
        for entry in parts.iter().flat_map(|part| part.entries.iter()) {
            paths.insert(entry.path.clone());
            tables
                .entry(entry.table.clone())
                .or_default()
                .push(Arc::clone(entry));
        }
        Self {
            parts,
            tables,
            paths,
            catalog,
        }
    }

    /// The parts, in the root's order.
    #[must_use]
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The catalog that the version names.
    #[must_use]
    pub fn catalog(&self) -> Option<&CatalogRef> {
        self.catalog.as_ref()
    }

    /// Whether rows of `collection`, which has a table, may still stand among the records without one.
    #[must_use]
    pub fn is_waiting(&self, collection: &str) -> bool {
        self.catalog
            .as_ref()
            .is_some_and(|catalog| catalog.waiting.contains(collection))
    }

    /// The segments of a table by its physical name, rows and tombstones.
    #[must_use]
    pub fn of_table(&self, table: &str) -> &[Arc<SegmentEntry>] {
        self.tables.get(table).map_or(&[], Vec::as_slice)
    }

    /// The physical names of the tables that have segments.
    pub fn tables(&self) -> impl Iterator<Item = &str> {
        self.tables.keys().map(String::as_str)
    }

    /// All segments.
    pub fn entries(&self) -> impl Iterator<Item = &Arc<SegmentEntry>> {
        self.tables.values().flatten()
    }

    /// Whether the segment at `path` is one of them.
    #[must_use]
    pub fn has(&self, path: &str) -> bool {
        self.paths.contains(path)
    }
}

/// The lists of entries that become new parts, and the parts that stay as they are.
#[derive(Debug, Default)]
pub struct Regrouped {
    /// Parts that no change touches.
    pub kept: Vec<PartRef>,
    /// Entries of parts to be written.
    pub written: Vec<Vec<Arc<SegmentEntry>>>,
}

/// Applies a change of entries to the parts of a version.
///
/// `replace` says what becomes of an entry: the same, another (new marks), or none (merged away). `added` are new ones.
/// A part whose entries all stay the same is kept; the entries of the others, the new ones, and those of kept parts
/// that are not larger than what is written so far, are written together.
#[must_use]
pub fn regroup(
    parts: &[Part],
    mut replace: impl FnMut(&Arc<SegmentEntry>) -> Option<Arc<SegmentEntry>>,
    added: Vec<Arc<SegmentEntry>>,
) -> Regrouped {
    let mut untouched: Vec<&Part> = Vec::new();
    let mut fresh: Vec<Arc<SegmentEntry>> = Vec::new();
    let mut touched_any = !added.is_empty();
    for part in parts {
        let replaced: Vec<Option<Arc<SegmentEntry>>> =
            part.entries.iter().map(&mut replace).collect();
        let same = part
            .entries
            .iter()
            .zip(&replaced)
            .all(|(old, new)| new.as_ref().is_some_and(|new| Arc::ptr_eq(old, new)));
        if same {
            untouched.push(part);
        } else {
            touched_any = true;
            fresh.extend(replaced.into_iter().flatten());
        }
    }
    fresh.extend(added);
    if touched_any {
        untouched.sort_by_key(|part| std::cmp::Reverse(part.entries.len()));
        let mut bytes: u64 = fresh.iter().map(|entry| encoded_bytes(entry) as u64).sum();
        while let Some(smallest) = untouched.last() {
            if smallest.entries.len() > fresh.len()
                || smallest.entries.len() + fresh.len() > PART_SEGMENTS_MAX
                || smallest.reference.bytes + bytes > PART_BYTES_MAX as u64
            {
                break;
            }
            bytes += smallest.reference.bytes;
            fresh.extend(smallest.entries.iter().cloned());
            untouched.pop();
        }
    }
    fresh.sort_by(|a, b| (&a.table, &a.partition, &a.path).cmp(&(&b.table, &b.partition, &b.path)));
    Regrouped {
        kept: untouched
            .into_iter()
            .map(|part| part.reference.clone())
            .collect(),
        written: chunks(fresh),
    }
}

/// Cuts entries into parts by number and bytes, in their order.
fn chunks(entries: Vec<Arc<SegmentEntry>>) -> Vec<Vec<Arc<SegmentEntry>>> {
    let mut chunks: Vec<Vec<Arc<SegmentEntry>>> = Vec::new();
    let mut room = 0;
    for entry in entries {
        let bytes = encoded_bytes(&entry);
        match chunks.last_mut() {
            Some(chunk) if chunk.len() < PART_SEGMENTS_MAX && bytes <= room => {
                room -= bytes;
                chunk.push(entry);
            }
            _ => {
                room = PART_BYTES_MAX.saturating_sub(bytes);
                chunks.push(vec![entry]);
            }
        }
    }
    chunks
}

/// What an entry takes in a part.
fn encoded_bytes(entry: &SegmentEntry) -> usize {
    // Its tag, and the longest length that a part may have.
    const FRAMING: usize = 5;
    entry.to_proto().encoded_len() + FRAMING
}

#[cfg(test)]
mod tests;
