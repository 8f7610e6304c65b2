//! Record keys: the name of a record within its collection.

use std::sync::Arc;

use super::{SyntaxError, checked_string, first_other};

/// How long a record key may be.
pub const RECORD_KEY_BYTES_MAX: usize = 512;

/// A record key such as `self` or `3jzfcijpj2z2a`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordKey(Arc<str>);

checked_string!(RecordKey);

pub(super) fn check(text: &str) -> Result<(), SyntaxError> {
    if text.is_empty() {
        return Err(SyntaxError::Empty);
    }
    if text.len() > RECORD_KEY_BYTES_MAX {
        return Err(SyntaxError::Length {
            bytes: text.len(),
            max: RECORD_KEY_BYTES_MAX,
        });
    }
    if let Some(at) = first_other(text, |byte| {
        byte.is_ascii_alphanumeric() || b".-_:~".contains(&byte)
    }) {
        return Err(SyntaxError::Character { at });
    }
    if text == "." || text == ".." {
        Err(SyntaxError::Excluded)
    } else {
        Ok(())
    }
}
