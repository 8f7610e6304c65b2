//! Handles: the domain names that accounts go by.
//!
//! The syntax alone. Names that must not be resolved (`.local`, `.onion` and the like) are handles here.

use std::sync::Arc;

use super::{SyntaxError, check_label, checked_string, labels};

/// How long a handle may be.
pub const HANDLE_BYTES_MAX: usize = 253;

/// A handle such as `jay.bsky.team`, spelled as it was given. Case does not matter to what it names.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Handle(Arc<str>);

checked_string!(Handle);

pub(super) fn check(text: &str) -> Result<(), SyntaxError> {
    if text.is_empty() {
        return Err(SyntaxError::Empty);
    }
    if text.len() > HANDLE_BYTES_MAX {
        return Err(SyntaxError::Length {
            bytes: text.len(),
            max: HANDLE_BYTES_MAX,
        });
    }
    let mut found = 0;
    let mut last = (0, "");
    for (at, label) in labels(text) {
        check_label(label, at)?;
        found += 1;
        last = (at, label);
    }
    if found < 2 {
        return Err(SyntaxError::Parts { found, min: 2 });
    }
    // A top-level domain that starts with a digit would let IP addresses pass.
    if last.1.starts_with(|first: char| first.is_ascii_digit()) {
        return Err(SyntaxError::Character { at: last.0 });
    }
    Ok(())
}
