//! Namespaced identifiers: the names of collections and of all that Lexicons define.

use std::sync::Arc;

use super::{SyntaxError, check_label, checked_string, first_other, labels};

/// How long an NSID may be.
pub const NSID_BYTES_MAX: usize = 317;

/// An NSID such as `app.bsky.feed.post`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nsid(Arc<str>);

checked_string!(Nsid);

impl Nsid {
    /// Returns the last part, such as `post`.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.rsplit_once('.').map_or("", |(_, name)| name)
    }

    /// Returns what stands before the last part, such as `app.bsky.feed`.
    #[must_use]
    pub fn authority(&self) -> &str {
        self.0
            .rsplit_once('.')
            .map_or("", |(authority, _)| authority)
    }
}

pub(super) fn check(text: &str) -> Result<(), SyntaxError> {
    if text.is_empty() {
        return Err(SyntaxError::Empty);
    }
    if text.len() > NSID_BYTES_MAX {
        return Err(SyntaxError::Length {
            bytes: text.len(),
            max: NSID_BYTES_MAX,
        });
    }
    let Some((authority, name)) = text.rsplit_once('.') else {
        return Err(SyntaxError::Parts { found: 1, min: 3 });
    };
    // The authority has no bound of its own: an official vector has one longer than a domain name can be.
    let mut found = 1;
    for (at, label) in labels(authority) {
        check_label(label, at)?;
        found += 1;
    }
    if found < 3 {
        return Err(SyntaxError::Parts { found, min: 3 });
    }
    if text.starts_with(|first: char| first.is_ascii_digit()) {
        return Err(SyntaxError::Character { at: 0 });
    }
    let start = authority.len() + 1;
    if name.is_empty() || name.len() > 63 {
        return Err(SyntaxError::Part { at: start });
    }
    if let Some(at) = first_other(name, |byte| byte.is_ascii_alphanumeric()) {
        return Err(SyntaxError::Character { at: start + at });
    }
    if name.starts_with(|first: char| first.is_ascii_digit()) {
        return Err(SyntaxError::Character { at: start });
    }
    Ok(())
}
