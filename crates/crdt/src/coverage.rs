//! Which collections something speaks of: all, some by name or by the front of their names, less some.
//!
//! A coverage is canonical: two that cover the same collections are equal and have the same text, so it may stand in a
//! key. A pattern that another one includes, and an exclusion of what nothing includes, are left out of it. It knows
//! nothing of what covers: floors and filters are elsewhere.

use std::fmt;
use std::str::FromStr;

use atproto::{Nsid, SyntaxError};

/// How long a coverage's text may be, bytes: it stands in keys.
pub const COVERAGE_BYTES_MAX: usize = 8 * 1024;

/// One collection, or all whose names begin alike.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pattern {
    /// The collection of this name.
    Collection(Nsid),
    /// All collections whose names begin with this text, whole labels with the dot behind them: `app.bsky.`.
    Prefix(String),
}

impl Pattern {
    /// Whether it matches a collection.
    #[must_use]
    pub fn covers(&self, collection: &str) -> bool {
        match self {
            Self::Collection(nsid) => nsid.as_str() == collection,
            Self::Prefix(front) => collection.starts_with(front.as_str()),
        }
    }

    /// Whether it matches everything that `other` matches.
    fn includes(&self, other: &Self) -> bool {
        match other {
            Self::Collection(nsid) => self.covers(nsid.as_str()),
            Self::Prefix(front) => {
                matches!(self, Self::Prefix(own) if front.starts_with(own.as_str()))
            }
        }
    }
}

/// As it is written: an NSID, or labels and `.*`.
impl fmt::Display for Pattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Collection(nsid) => formatter.write_str(nsid.as_str()),
            Self::Prefix(front) => write!(formatter, "{front}*"),
        }
    }
}

impl FromStr for Pattern {
    type Err = CoverageError;

    fn from_str(text: &str) -> Result<Self, CoverageError> {
        let wrong = |source| CoverageError::Pattern {
            pattern: text.to_owned(),
            source,
        };
        match text.strip_suffix('*') {
            None => text.parse().map(Self::Collection).map_err(wrong),
            Some(front) => {
                // `front` ends in a dot, and some NSID begins with it.
                let example = format!("{front}a.a");
                let is_labels = front.ends_with('.');
                let labels = if is_labels { &example } else { text };
                labels.parse::<Nsid>().map_err(wrong)?;
                Ok(Self::Prefix(front.to_owned()))
            }
        }
    }
}

/// Why some patterns are no coverage.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CoverageError {
    /// A pattern is neither an NSID nor the front of one.
    #[error(
        "`{pattern}` is neither a collection such as app.bsky.feed.post nor a prefix such as app.bsky.*"
    )]
    Pattern {
        /// The pattern.
        pattern: String,
        /// Why.
        source: SyntaxError,
    },
    /// Everything that is included is excluded again.
    #[error("nothing is left: all that is included is excluded too")]
    Nothing,
    /// It is longer than a key may be.
    #[error(
        "the patterns take {bytes} bytes, at most {COVERAGE_BYTES_MAX} are possible; use prefixes"
    )]
    TooLong {
        /// Its length.
        bytes: usize,
    },
}

/// A set of collections; the default is all.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Coverage {
    /// Sorted; none includes another. Empty covers all.
    include: Vec<Pattern>,
    /// Sorted; each is included.
    exclude: Vec<Nsid>,
}

impl Coverage {
    /// Covers what one of `include` matches (everything if there is none) and `exclude` does not name.
    ///
    /// # Errors
    /// [`CoverageError::Nothing`] if no collection is left, [`CoverageError::TooLong`].
    pub fn new(
        include: impl IntoIterator<Item = Pattern>,
        exclude: impl IntoIterator<Item = Nsid>,
    ) -> Result<Self, CoverageError> {
        let mut include: Vec<Pattern> = include.into_iter().collect();
        let mut exclude: Vec<Nsid> = exclude.into_iter().collect();
        include.sort_by_cached_key(ToString::to_string);
        include.dedup();
        let includes_all = include.is_empty();
        let all = include.clone();
        include.retain(|pattern| {
            let is_covered = all
                .iter()
                .any(|other| other != pattern && other.includes(pattern));
            let is_excluded =
                matches!(pattern, Pattern::Collection(nsid) if exclude.contains(nsid));
            !is_covered && !is_excluded
        });
        if include.is_empty() && !includes_all {
            return Err(CoverageError::Nothing);
        }
        exclude.retain(|nsid| {
            includes_all || include.iter().any(|pattern| pattern.covers(nsid.as_str()))
        });
        exclude.sort_unstable();
        exclude.dedup();
        let coverage = Self { include, exclude };
        let bytes = coverage.text_bytes();
        if bytes > COVERAGE_BYTES_MAX {
            return Err(CoverageError::TooLong { bytes });
        }
        Ok(coverage)
    }

    /// Covers one collection.
    #[must_use]
    pub fn of(collection: Nsid) -> Self {
        Self {
            include: vec![Pattern::Collection(collection)],
            exclude: Vec::new(),
        }
    }

    /// Whether it covers a collection.
    #[must_use]
    pub fn covers(&self, collection: &str) -> bool {
        let is_included = self.include.is_empty()
            || self
                .include
                .iter()
                .any(|pattern| pattern.covers(collection));
        is_included && !self.exclude.iter().any(|nsid| nsid.as_str() == collection)
    }

    /// Whether it covers every collection.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.include.is_empty() && self.exclude.is_empty()
    }

    /// What it includes, sorted; empty includes all.
    #[must_use]
    pub fn include(&self) -> &[Pattern] {
        &self.include
    }

    /// What it leaves out of that, sorted.
    #[must_use]
    pub fn exclude(&self) -> &[Nsid] {
        &self.exclude
    }

    /// How long its text is, bytes.
    #[must_use]
    pub fn text_bytes(&self) -> usize {
        let include = self.include.iter().map(|pattern| match pattern {
            Pattern::Collection(nsid) => nsid.as_str().len() + 1,
            Pattern::Prefix(front) => front.len() + 2,
        });
        let exclude = self.exclude.iter().map(|nsid| nsid.as_str().len() + 2);
        (include.sum::<usize>() + exclude.sum::<usize>()).saturating_sub(1)
    }

    /// Parses a text that must be canonical already: what a key holds.
    #[must_use]
    pub fn from_canonical(text: &str) -> Option<Self> {
        let coverage: Self = text.parse().ok()?;
        (coverage.to_string() == text).then_some(coverage)
    }
}

/// Its canonical text: what it includes, then what it leaves out with `!` in front, joined by spaces; empty for
/// everything.
impl fmt::Display for Coverage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut space = "";
        for pattern in &self.include {
            write!(formatter, "{space}{pattern}")?;
            space = " ";
        }
        for nsid in &self.exclude {
            write!(formatter, "{space}!{nsid}")?;
            space = " ";
        }
        Ok(())
    }
}

/// Patterns and exclusions in any order.
impl FromStr for Coverage {
    type Err = CoverageError;

    fn from_str(text: &str) -> Result<Self, CoverageError> {
        let (mut include, mut exclude) = (Vec::new(), Vec::new());
        for word in text.split_ascii_whitespace() {
            match word.strip_prefix('!') {
                None => include.push(word.parse()?),
                Some(nsid) => {
                    exclude.push(nsid.parse().map_err(|source| CoverageError::Pattern {
                        pattern: word.to_owned(),
                        source,
                    })?);
                }
            }
        }
        Self::new(include, exclude)
    }
}

#[cfg(test)]
mod tests;
