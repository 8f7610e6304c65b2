//! How far a row's content was checked.

use std::fmt;
use std::str::FromStr;

/// What stands behind a record, from least to most.
///
/// A check that fails rejects; a check that cannot be made leaves a record at a lower level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Verification {
    /// The bytes hash to their CIDs and a commit names them; who signed it was not checked.
    Archive = 0,
    /// And the commit's signature is that of the repository's key.
    Signature = 1,
    /// And the operations say what the commit's tree holds.
    Inclusion = 2,
    /// And undoing the operations gives the tree of the commit before: nothing was left out.
    Inverted = 3,
}

impl Verification {
    /// All levels, from least to most.
    pub const ALL: [Self; 4] = [
        Self::Archive,
        Self::Signature,
        Self::Inclusion,
        Self::Inverted,
    ];

    /// Returns the level as it is called in tables.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Archive => "archive",
            Self::Signature => "signature",
            Self::Inclusion => "inclusion",
            Self::Inverted => "inverted",
        }
    }
}

impl fmt::Display for Verification {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

impl FromStr for Verification {
    type Err = UnknownVerification;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|level| level.as_str() == text)
            .ok_or(UnknownVerification)
    }
}

impl TryFrom<u8> for Verification {
    type Error = UnknownVerification;

    fn try_from(level: u8) -> Result<Self, Self::Error> {
        Self::ALL
            .get(usize::from(level))
            .copied()
            .ok_or(UnknownVerification)
    }
}

/// A level that there is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unknown verification level")]
pub struct UnknownVerification;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_read_back_from_their_names_and_numbers() {
        for level in Verification::ALL {
            assert_eq!(level.as_str().parse(), Ok(level));
            assert_eq!(Verification::try_from(level as u8), Ok(level));
        }
        assert_eq!(Verification::try_from(4), Err(UnknownVerification));
        assert_eq!("Inverted".parse::<Verification>(), Err(UnknownVerification));
    }

    #[test]
    fn more_checks_are_greater() {
        assert!(Verification::ALL.is_sorted());
        assert!(Verification::Archive < Verification::Inverted);
    }
}
