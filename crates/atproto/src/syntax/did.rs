//! Decentralized identifiers: who an account is.
//!
//! Any DID method passes; that only `plc` and `web` can be resolved is for those to know who resolve.

use std::sync::Arc;

use super::{SyntaxError, checked_string, first_other};

/// How long a DID may be.
pub const DID_BYTES_MAX: usize = 2048;

/// A DID such as `did:plc:ewvi7nxzyoun6zhxrhs64oiz`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Did(Arc<str>);

checked_string!(Did);

impl Did {
    /// Returns the method, such as `plc`.
    #[must_use]
    pub fn method(&self) -> &str {
        self.0.split(':').nth(1).unwrap_or_default()
    }
}

pub(super) fn check(text: &str) -> Result<(), SyntaxError> {
    if text.len() > DID_BYTES_MAX {
        return Err(SyntaxError::Length {
            bytes: text.len(),
            max: DID_BYTES_MAX,
        });
    }
    let Some(rest) = text.strip_prefix("did:") else {
        return Err(SyntaxError::Prefix { expected: "did:" });
    };
    let Some((method, name)) = rest.split_once(':') else {
        return Err(SyntaxError::Parts { found: 2, min: 3 });
    };
    if method.is_empty() {
        return Err(SyntaxError::Part { at: 4 });
    }
    if let Some(at) = first_other(method, |byte| byte.is_ascii_lowercase()) {
        return Err(SyntaxError::Character { at: 4 + at });
    }
    let start = 5 + method.len();
    if name.is_empty() {
        return Err(SyntaxError::Part { at: start });
    }
    if let Some(at) = first_other(name, |byte| {
        byte.is_ascii_alphanumeric() || b"._:%-".contains(&byte)
    }) {
        return Err(SyntaxError::Character { at: start + at });
    }
    if name.ends_with([':', '%']) {
        return Err(SyntaxError::Character { at: text.len() - 1 });
    }
    Ok(())
}
