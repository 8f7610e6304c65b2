//! A log section's payload: changes of one kind as columnar protobuf (`proto/change.proto`).
//!
//! [`encode_sections`] and [`decode_section`] are inverses, up to the order of changes between sections. Decoding is
//! strict: columns of one length, every value in its syntax, the count and the multiset hash equal to what the section
//! claims; anything else is a [`DecodeError`], never a panic and never a part of the changes. It does not look into
//! record bodies beyond their CIDs.
//!
//! The kinds' numbers are part of the log's format. Those of later kinds are reserved here: a reader that meets one
//! refuses it and deletes nothing.

mod accounts;
mod columns;
mod events;
mod records;
mod repos;
mod work;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use storage::{MultisetHash, Section};
use thiserror::Error;

use crate::change::{
    AccountChange, Change, CursorChange, EventChange, FloorChange, HeadChange, IdentityChange,
    NoticeChange, RecordChange,
};

#[allow(
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    reason = "made by prost-build; proto/change.proto documents it"
)]
mod proto {
    include!(concat!(env!("OUT_DIR"), "/alluvium.change.v1.rs"));
}

/// The numbers of the section kinds.
pub mod kind {
    /// Records of one collection, which is the section's table.
    pub const RECORDS: u32 = 1;
    /// Repo floors.
    pub const FLOORS: u32 = 2;
    /// Events.
    pub const EVENTS: u32 = 3;
    /// Account states.
    pub const ACCOUNTS: u32 = 4;
    /// Identity states.
    pub const IDENTITIES: u32 = 5;
    /// Heads of repos, per source.
    pub const HEADS: u32 = 6;
    /// Cursors.
    pub const CURSORS: u32 = 7;
    /// Notices.
    pub const NOTICES: u32 = 8;
    /// Reserved: erasures.
    pub const ERASURES: u32 = 9;
    /// Reserved: lifts of erasures.
    pub const LIFTS: u32 = 10;
    /// Reserved: labels.
    pub const LABELS: u32 = 11;
    /// Reserved: document changes.
    pub const DOCUMENTS: u32 = 12;
}

/// Why a section is not what it claims, or not of this version.
#[derive(Debug, Error)]
pub enum DecodeError {
    /// A kind that this version doesn't read: the log is newer than the reader.
    #[error("section kind {kind} is not known to this version")]
    UnknownKind {
        /// The kind's number.
        kind: u32,
    },
    /// A section of records whose table is no collection, or another kind's with a wrong table.
    #[error("a section of kind {kind} can't have the table {table:?}")]
    Table {
        /// The kind's number.
        kind: u32,
        /// The table that it names.
        table: String,
    },
    /// The payload is no protobuf.
    #[error("section payload is malformed")]
    Payload {
        /// What is wrong with it.
        #[from]
        source: prost::DecodeError,
    },
    /// A column has more or fewer rows than the section claims.
    #[error("column {column} has {found} rows, not {expected}")]
    Length {
        /// The column.
        column: &'static str,
        /// The section's count.
        expected: usize,
        /// The column's rows.
        found: usize,
    },
    /// A value is not in its column's syntax.
    #[error("column {column} has a malformed value in row {row}")]
    Value {
        /// The column.
        column: &'static str,
        /// The row, or the dictionary's entry.
        row: usize,
    },
    /// The changes are not those that were encoded.
    #[error("multiset hash of the section differs from its claim")]
    Hash,
}

impl Change {
    /// The number of the section kind that holds it.
    #[must_use]
    pub fn section_kind(&self) -> u32 {
        match self {
            Self::Record(_) => kind::RECORDS,
            Self::Floor(_) => kind::FLOORS,
            Self::Event(_) => kind::EVENTS,
            Self::Account(_) => kind::ACCOUNTS,
            Self::Identity(_) => kind::IDENTITIES,
            Self::Head(_) => kind::HEADS,
            Self::Cursor(_) => kind::CURSORS,
            Self::Notice(_) => kind::NOTICES,
        }
    }
}

/// Encodes `changes` as sections: one per collection of records, one per other kind, each in the order given.
#[must_use]
pub fn encode_sections<'a>(changes: impl IntoIterator<Item = &'a Change>) -> Vec<Section> {
    let mut groups = Groups::default();
    for change in changes {
        groups.push(change);
    }
    groups.encode()
}

/// Decodes a section's changes and checks them against its claims.
///
/// # Errors
/// [`DecodeError::UnknownKind`] for a section of a later version, another variant for a damaged one.
pub fn decode_section(section: &Section) -> Result<Vec<Change>, DecodeError> {
    let rows = usize::try_from(section.count).map_err(|_| DecodeError::Length {
        column: "count",
        expected: usize::MAX,
        found: 0,
    })?;
    let payload = section.payload.clone();
    let table = table_of(section.kind).ok_or(DecodeError::UnknownKind { kind: section.kind })?;
    if section.kind != kind::RECORDS && section.table != table {
        return Err(DecodeError::Table {
            kind: section.kind,
            table: section.table.clone(),
        });
    }
    let changes = match section.kind {
        kind::RECORDS => records::decode(&section.table, payload, rows),
        kind::FLOORS => repos::decode_floors(payload, rows),
        kind::EVENTS => events::decode(payload, rows),
        kind::ACCOUNTS => accounts::decode_accounts(payload, rows),
        kind::IDENTITIES => accounts::decode_identities(payload, rows),
        kind::HEADS => repos::decode_heads(payload, rows),
        kind::CURSORS => work::decode_cursors(payload, rows),
        kind::NOTICES => work::decode_notices(payload, rows),
        kind => Err(DecodeError::UnknownKind { kind }),
    }?;
    if multiset_hash(&changes) != section.hash {
        return Err(DecodeError::Hash);
    }
    Ok(changes)
}

/// The table that a section of this kind names; empty for records, whose table is their collection.
fn table_of(kind: u32) -> Option<&'static str> {
    Some(match kind {
        kind::RECORDS => "",
        kind::FLOORS => "floors",
        kind::EVENTS => "events",
        kind::ACCOUNTS => "accounts",
        kind::IDENTITIES => "identities",
        kind::HEADS => "heads",
        kind::CURSORS => "cursors",
        kind::NOTICES => "notices",
        _ => return None,
    })
}

/// The sum of the changes' identities modulo 2^256.
#[must_use]
pub fn multiset_hash<'a>(changes: impl IntoIterator<Item = &'a Change>) -> MultisetHash {
    let mut hash = MultisetHash::default();
    for change in changes {
        hash.add(&change.identity());
    }
    hash
}

/// Changes by the section that will hold them.
#[derive(Default)]
struct Groups<'a> {
    records: BTreeMap<&'a str, Vec<&'a RecordChange>>,
    floors: Vec<&'a FloorChange>,
    events: Vec<&'a EventChange>,
    accounts: Vec<&'a AccountChange>,
    identities: Vec<&'a IdentityChange>,
    heads: Vec<&'a HeadChange>,
    cursors: Vec<&'a CursorChange>,
    notices: Vec<&'a NoticeChange>,
    hashes: BTreeMap<(u32, &'a str), (u64, MultisetHash)>,
}

impl<'a> Groups<'a> {
    fn push(&mut self, change: &'a Change) {
        let mut table = table_of(change.section_kind()).unwrap_or_default();
        match change {
            Change::Record(c) => {
                table = c.collection.as_str();
                self.records.entry(table).or_default().push(c);
            }
            Change::Floor(c) => self.floors.push(c),
            Change::Event(c) => self.events.push(c),
            Change::Account(c) => self.accounts.push(c),
            Change::Identity(c) => self.identities.push(c),
            Change::Head(c) => self.heads.push(c),
            Change::Cursor(c) => self.cursors.push(c),
            Change::Notice(c) => self.notices.push(c),
        }
        let (count, hash) = self
            .hashes
            .entry((change.section_kind(), table))
            .or_default();
        *count += 1;
        hash.add(&change.identity());
    }

    fn encode(self) -> Vec<Section> {
        let payload = |kind: u32, table: &str| match kind {
            kind::RECORDS => records::encode(self.records.get(table).map_or(&[], Vec::as_slice)),
            kind::FLOORS => repos::encode_floors(&self.floors),
            kind::EVENTS => events::encode(&self.events),
            kind::ACCOUNTS => accounts::encode_accounts(&self.accounts),
            kind::IDENTITIES => accounts::encode_identities(&self.identities),
            kind::HEADS => repos::encode_heads(&self.heads),
            kind::CURSORS => work::encode_cursors(&self.cursors),
            _ => work::encode_notices(&self.notices),
        };
        self.hashes
            .iter()
            .map(|(&(kind, table), &(count, hash))| Section {
                kind,
                table: table.to_owned(),
                payload: payload(kind, table).into(),
                count,
                hash,
            })
            .collect()
    }
}
