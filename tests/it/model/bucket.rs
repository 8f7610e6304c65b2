//! The objects of the bucket, as far as the protocol looks into them.
//!
//! Knows no process. A field named *ghost* is read by the judge alone, never by a process.

use super::bits::Bits;
use std::hash::{Hash, Hasher};

/// Writer ids that may be minted.
pub(super) const IDS: usize = 4;
/// Numbers of one writer id; the model counts from 0.
pub(super) const NUMBERS: usize = 3;
/// Versions of the manifest, genesis included.
pub(super) const VERSIONS: usize = 8;
/// Segments that may be uploaded.
pub(super) const SEGMENTS: usize = 6;

/// The commit id of version 0, which is there from the start.
pub(super) const GENESIS: u8 = u8::MAX;

/// Per writer id: the numbers that a LIST showed.
pub(super) type Listing = [Bits; IDS];
/// Per writer id: how many of its objects are meant, from its first.
pub(super) type Ends = [u8; IDS];

/// The root of one version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Manifest {
    /// The commit id; 0 where no object is.
    pub commit: u8,
    pub merged: Ends,
    pub segments: Bits,
    /// Per segment: the rows that a later change or a duplicate has marked.
    pub marks: [Bits; SEGMENTS],
    pub floor: u8,
    pub upload_floor: u8,
    pub repo_floor: u8,
    /// Stands for the catalog: how many grants were made, which no precondition guards.
    pub grants: u8,
    /// Ghost: the changes that were flushed into this manifest's chain.
    pub covers: Bits,
}

impl Manifest {
    pub(super) fn is_there(&self) -> bool {
        self.commit != 0
    }
}

impl Hash for Manifest {
    // One write for all fields: hashing state field by field took half of the checker's time.
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        if !self.is_there() {
            hasher.write_u8(0);
            return;
        }
        let mut bytes = [0; 8 + IDS + SEGMENTS];
        bytes[..8].copy_from_slice(&[
            self.commit,
            self.segments.byte(),
            self.floor,
            self.upload_floor,
            self.repo_floor,
            self.grants,
            self.covers.byte(),
            0,
        ]);
        bytes[8..8 + IDS].copy_from_slice(&self.merged);
        bytes[8 + IDS..].copy_from_slice(&self.marks.map(Bits::byte));
        hasher.write(&bytes);
    }
}

/// A Parquet file: rows and tombstones, unique per key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Segment {
    pub is_there: bool,
    /// The version that its maker had read.
    pub base: u8,
    pub rows: Bits,
    pub tombstones: Bits,
}

/// All objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Bucket {
    /// Per writer id and number: the changes of a log object; empty where none is.
    pub log: [[Bits; NUMBERS]; IDS],
    pub manifests: [Manifest; VERSIONS],
    pub segments: [Segment; SEGMENTS],
}

impl Bucket {
    pub(super) fn new() -> Bucket {
        let mut bucket = Bucket::default();
        bucket.manifests[0].commit = GENESIS;
        bucket
    }

    /// What a LIST of all manifests shows as the newest.
    pub(super) fn newest(&self) -> usize {
        (0..VERSIONS)
            .rev()
            .find(|&version| self.manifests[version].is_there())
            .unwrap_or(0)
    }

    /// The numbers that are there under `id`.
    pub(super) fn numbers(&self, id: usize) -> Bits {
        (0..NUMBERS)
            .filter(|&number| !self.log[id][number].is_empty())
            .map(Bits::one)
            .collect()
    }

    /// A LIST of the log in one instant.
    pub(super) fn list_log(&self) -> Listing {
        std::array::from_fn(|id| self.numbers(id))
    }

    /// The changes of the listed log objects from `from` up to `to`; none if one of them is gone.
    pub(super) fn read_log(&self, listing: &Listing, from: &Ends, to: &Ends) -> Option<Bits> {
        let mut changes = Bits::EMPTY;
        for id in 0..IDS {
            for number in usize::from(from[id])..usize::from(to[id]) {
                if listing[id].has(number) {
                    let object = self.log[id][number];
                    if object.is_empty() {
                        return None;
                    }
                    changes |= object;
                }
            }
        }
        Some(changes)
    }
}
