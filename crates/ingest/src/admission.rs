//! Admission: what a source's commit is to what that source delivered before. Pure, and about one source only.
//!
//! It is not merging. A commit that another source delivered already is new from this one and goes in; what is outdated,
//! the merge ignores. So a mistake here costs a duplicate or a notice, never a wrong row.

use atproto::{Cid, Tid};

use crate::known::KnownHead;

/// Whether a commit or `#sync` at `rev` is one that the source delivered already, or an older one.
#[must_use]
pub fn is_replay(known: Option<KnownHead>, rev: Tid) -> bool {
    known.is_some_and(|known| rev <= known.rev)
}

/// Why a commit does not join what its source delivered before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gap {
    /// It follows another rev.
    Since,
    /// It follows another tree.
    PrevData,
}

impl Gap {
    /// A stable word for counting.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Since => "since_mismatch",
            Self::PrevData => "prev_data_mismatch",
        }
    }
}

/// The gap between what is known and a commit that says what it follows; a repo's first commit from a source has none.
#[must_use]
pub fn gap(known: Option<KnownHead>, since: Option<Tid>, prev_data: Option<Cid>) -> Option<Gap> {
    let known = known?;
    if since != Some(known.rev) {
        return Some(Gap::Since);
    }
    // Senders older than Sync 1.1 don't say it.
    if prev_data.is_some_and(|prev_data| prev_data != known.data) {
        return Some(Gap::PrevData);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_newer_is_a_replay() {
        assert!(!is_replay(None, rev(1)));
        assert!(is_replay(Some(head(2)), rev(1)));
        assert!(is_replay(Some(head(2)), rev(2)));
        assert!(!is_replay(Some(head(2)), rev(3)));
    }

    #[test]
    fn a_commit_joins_the_rev_and_the_tree_before_it() {
        let known = Some(head(2));
        assert_eq!(gap(None, Some(rev(1)), Some(data(1))), None);
        assert_eq!(gap(known, Some(rev(2)), Some(data(2))), None);
        assert_eq!(gap(known, Some(rev(2)), None), None);
        assert_eq!(gap(known, Some(rev(2)), Some(data(3))), Some(Gap::PrevData));
        assert_eq!(gap(known, Some(rev(3)), Some(data(2))), Some(Gap::Since));
        assert_eq!(gap(known, None, None), Some(Gap::Since));
    }

    fn head(number: u64) -> KnownHead {
        KnownHead {
            rev: rev(number),
            data: data(number),
        }
    }

    fn rev(number: u64) -> Tid {
        Tid::from_value(number)
    }

    fn data(number: u64) -> Cid {
        Cid::of_cbor(&number.to_be_bytes())
    }
}
