//! What became of a source's frames, counted.

use std::collections::BTreeMap;

use crdt::storage::Position;
use crdt::{Change, NoticeKind};

/// Counts of what a source delivered and what went into the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// The source's name.
    pub source: String,
    /// Frames that were read and taken care of, whatever became of them.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Frames that the source's cursor says were taken care of before.
    pub skipped: u64,
    /// Commits that went in.
    pub commits: u64,
    /// `#sync` that went in.
    pub syncs: u64,
    /// `#identity` that went in.
    pub identities: u64,
    /// `#account` that went in.
    pub accounts: u64,
    /// Commits and `#sync` that this source had delivered before: dropped.
    pub replays: u64,
    /// Frames that are not of the part that is taken.
    pub filtered: u64,
    /// Frames without meaning here: `#info`, and kinds that are not known.
    pub ignored: u64,
    /// Records written.
    pub records: u64,
    /// Records deleted.
    pub deletes: u64,
    /// Events.
    pub events: u64,
    /// Repo floors.
    pub floors: u64,
    /// Commits that did not join what the source delivered before; they went in.
    pub gaps: u64,
    /// Repos that have to be fetched again.
    pub resyncs: u64,
    /// Frames and records that were refused, by reason.
    pub rejected: BTreeMap<String, u64>,
    /// Records written and deleted, by how far they were verified.
    pub verified: BTreeMap<&'static str, u64>,
    /// Log objects' positions of the appends, without repetitions; only of work that ends.
    pub positions: Vec<Position>,
}

impl Summary {
    /// The summary of a source of which nothing was read yet.
    pub(crate) fn of(source: &str) -> Self {
        Self {
            source: source.to_owned(),
            ..Self::default()
        }
    }

    /// How many frames and records were refused.
    #[must_use]
    pub fn rejections(&self) -> u64 {
        self.rejected.values().sum()
    }

    /// Counts a change that goes in.
    pub(crate) fn count(&mut self, change: &Change) {
        match change {
            Change::Record(record) => {
                let count = match record.body {
                    Some(_) => &mut self.records,
                    None => &mut self.deletes,
                };
                *count += 1;
                let verification = record.delivery.verification.as_str();
                *self.verified.entry(verification).or_default() += 1;
            }
            Change::Event(_) => self.events += 1,
            Change::Floor(_) => self.floors += 1,
            Change::Notice(notice) => match notice.kind {
                NoticeKind::Rejection => {
                    *self.rejected.entry(notice.reason.clone()).or_default() += 1;
                }
                NoticeKind::Gap => self.gaps += 1,
                NoticeKind::Resync => self.resyncs += 1,
                NoticeKind::Silence => {}
            },
            Change::Account(_) | Change::Identity(_) | Change::Head(_) | Change::Cursor(_) => {}
        }
    }

    pub(crate) fn appended(&mut self, position: Position) {
        if self.positions.last() != Some(&position) {
            self.positions.push(position);
        }
    }
}
