//! The identity of a change: the BLAKE3 of its key and order, the same in every process and version.
//!
//! Log sections carry the sum of their changes' identities (the multiset hash), so a section that was decoded into
//! other changes than were encoded is noticed. Changing what is hashed here is a change of the log's format.

use atproto::{Cid, Nsid, RecordKey, Tid};

use crate::change::Change;
use crate::codes;
use crate::merge::{MergeKey, Order};

impl Change {
    /// The BLAKE3 of the change's key and order; two deliveries of one change have the same.
    #[must_use]
    pub fn identity(&self) -> [u8; 32] {
        let mut hash = Hash::new("change");
        hash.key(&self.key()).order(&self.order());
        hash.long()
    }
}

/// A BLAKE3 over fields with their lengths, so that no two different sequences of fields are hashed alike.
pub(crate) struct Hash(blake3::Hasher);

impl Hash {
    /// A hash in the domain `domain`.
    pub(crate) fn new(domain: &str) -> Self {
        let mut hash = Self(blake3::Hasher::new());
        hash.text("alluvium").text(domain);
        hash
    }

    pub(crate) fn u8(&mut self, value: u8) -> &mut Self {
        self.0.update(&[value]);
        self
    }

    pub(crate) fn u32(&mut self, value: u32) -> &mut Self {
        self.0.update(&value.to_le_bytes());
        self
    }

    pub(crate) fn u64(&mut self, value: u64) -> &mut Self {
        self.0.update(&value.to_le_bytes());
        self
    }

    pub(crate) fn i64(&mut self, value: i64) -> &mut Self {
        self.0.update(&value.to_le_bytes());
        self
    }

    pub(crate) fn bytes(&mut self, value: &[u8]) -> &mut Self {
        self.u64(value.len() as u64);
        self.0.update(value);
        self
    }

    pub(crate) fn text(&mut self, value: &str) -> &mut Self {
        self.bytes(value.as_bytes())
    }

    pub(crate) fn optional(&mut self, value: Option<u8>) -> &mut Self {
        match value {
            None => self.u8(0),
            Some(value) => self.u8(1).u8(value),
        }
    }

    pub(crate) fn optional_text(&mut self, value: Option<&str>) -> &mut Self {
        match value {
            None => self.u8(0),
            Some(value) => self.u8(1).text(value),
        }
    }

    pub(crate) fn tid(&mut self, value: Option<Tid>) -> &mut Self {
        match value {
            None => self.u8(0),
            Some(value) => self.u8(1).u64(value.value()),
        }
    }

    pub(crate) fn cid(&mut self, value: Option<&Cid>) -> &mut Self {
        match value {
            None => self.u8(0),
            Some(value) => self.u8(1).bytes(value.as_bytes()),
        }
    }

    fn key(&mut self, key: &MergeKey) -> &mut Self {
        match key {
            MergeKey::Record {
                did,
                collection,
                rkey,
            } => self
                .u8(1)
                .text(did.as_str())
                .text(Nsid::as_str(collection))
                .text(RecordKey::as_str(rkey)),
            MergeKey::Floor { did, coverage } => {
                self.u8(2).text(did.as_str()).text(&coverage.to_string())
            }
            MergeKey::Event(id) => self.u8(3).bytes(id),
            MergeKey::Account { did, source } => self.u8(4).text(did.as_str()).text(source),
            MergeKey::Identity { did, source } => self.u8(5).text(did.as_str()).text(source),
            MergeKey::Head { did, source } => self.u8(6).text(did.as_str()).text(source),
            MergeKey::Cursor { source, slice } => self.u8(7).text(source).text(slice),
            MergeKey::Notice {
                kind,
                source,
                did,
                rev,
                frame_hash,
            } => self
                .u8(8)
                .u8(codes::notice_kind(*kind))
                .text(source)
                .optional_text(did.as_ref().map(atproto::Did::as_str))
                .tid(*rev)
                .bytes(frame_hash),
        }
    }

    fn order(&mut self, order: &Order) -> &mut Self {
        match order {
            Order::Record { rev, cid } => self.tid(Some(*rev)).cid(cid.as_ref()),
            Order::Floor { rev } => self.tid(Some(*rev)),
            Order::Once => self,
            Order::State { at, seq, bytes } => {
                self.i64(at.0);
                match seq {
                    None => self.u8(0),
                    Some(seq) => self.u8(1).i64(*seq),
                }
                .bytes(bytes)
            }
            Order::Head { rev, commit } => self.tid(Some(*rev)).cid(Some(commit)),
            Order::Cursor { generation, cursor } => self.u64(*generation).i64(*cursor),
            Order::Notice {
                attempt,
                step,
                reason,
                bytes,
            } => self.u32(*attempt).u32(*step).text(reason).u64(*bytes),
        }
    }

    fn long(&self) -> [u8; 32] {
        *self.0.finalize().as_bytes()
    }

    /// The first 16 bytes.
    pub(crate) fn short(&self) -> [u8; 16] {
        let mut short = [0; 16];
        short.copy_from_slice(&self.0.finalize().as_bytes()[..16]);
        short
    }
}
