//! A batch of changes: what is appended together and becomes durable together.

use storage::{LogObject, Section};

use crate::change::Change;
use crate::section::{DecodeError, decode_section, encode_sections};

/// Changes that stand in one log object, all of them or none.
///
/// A source's commit is never split over batches, and the cursor that covers changes rides in their batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChangeBatch {
    /// The changes; their order is kept within a kind and, for records, within a collection.
    pub changes: Vec<Change>,
}

impl ChangeBatch {
    /// Encodes the batch as sections: one per collection of records, one per other kind.
    #[must_use]
    pub fn encode(&self) -> Vec<Section> {
        encode_sections(&self.changes)
    }

    /// Decodes all changes of a log object.
    ///
    /// # Errors
    /// [`DecodeError`] for the first section that is of a later version, or not what it claims; then none of the
    /// object's changes may be used.
    pub fn decode(object: &LogObject) -> Result<Self, DecodeError> {
        let mut changes = Vec::new();
        for section in &object.sections {
            changes.extend(decode_section(section)?);
        }
        Ok(Self { changes })
    }

    /// About how many bytes the batch takes in a log object, before compression: what flush triggers and budgets count.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.changes.iter().map(bytes_of).sum()
    }
}

impl From<Vec<Change>> for ChangeBatch {
    fn from(changes: Vec<Change>) -> Self {
        Self { changes }
    }
}

/// What one change takes: its large fields, and a flat amount for the columns of the others.
fn bytes_of(change: &Change) -> usize {
    const COLUMNS: usize = 64;
    COLUMNS
        + match change {
            Change::Record(c) => {
                c.did.as_str().len()
                    + c.rkey.as_str().len()
                    + c.body.as_ref().map_or(0, |body| body.cbor.len())
            }
            Change::Head(c) => c.did.as_str().len() + c.commit_block.len() + 36,
            Change::Event(c) => {
                let rkey = c.rkey.as_ref().map_or(0, |rkey| rkey.as_str().len());
                c.did.as_str().len() + rkey + 72
            }
            Change::Floor(c) => c.did.as_str().len() + c.coverage.text_bytes(),
            Change::Account(c) => c.did.as_str().len(),
            Change::Identity(c) => c.did.as_str().len() + c.pds.as_ref().map_or(0, String::len),
            Change::Cursor(c) => c.source.len() + c.slice.len(),
            Change::Notice(c) => c.reason.len() + 32,
        }
}
