//! AT URIs: the address of a repository, of a collection in it, or of a record.
//!
//! The restricted form that records use: no fragment, no query, no more than two path segments.

use std::sync::Arc;

use super::{Nsid, SyntaxError, checked_string, did, handle, nsid, record_key};

/// How long an AT URI may be.
pub const AT_URI_BYTES_MAX: usize = 8 * 1024;

const SCHEME: &str = "at://";

/// An AT URI such as `at://did:plc:ewvi7nxzyoun6zhxrhs64oiz/app.bsky.feed.post/3jzfcijpj2z2a`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AtUri(Arc<str>);

checked_string!(AtUri);

impl AtUri {
    /// Makes the address of a record.
    #[must_use]
    pub fn of_record(did: &super::Did, collection: &Nsid, rkey: &super::RecordKey) -> Self {
        Self(format!("{SCHEME}{did}/{collection}/{rkey}").into())
    }

    /// Returns whose repository it is: a DID or a handle.
    #[must_use]
    pub fn authority(&self) -> &str {
        self.parts().next().unwrap_or_default()
    }

    /// Returns the collection's NSID.
    #[must_use]
    pub fn collection(&self) -> Option<&str> {
        self.parts().nth(1)
    }

    /// Returns the record's key.
    #[must_use]
    pub fn rkey(&self) -> Option<&str> {
        self.parts().nth(2)
    }

    fn parts(&self) -> impl Iterator<Item = &str> {
        self.0[SCHEME.len()..].split('/')
    }
}

pub(super) fn check(text: &str) -> Result<(), SyntaxError> {
    if text.len() > AT_URI_BYTES_MAX {
        return Err(SyntaxError::Length {
            bytes: text.len(),
            max: AT_URI_BYTES_MAX,
        });
    }
    let Some(rest) = text.strip_prefix(SCHEME) else {
        return Err(SyntaxError::Prefix { expected: SCHEME });
    };
    let mut at = SCHEME.len();
    for (index, part) in rest.split('/').enumerate() {
        match index {
            0 => check_authority(part),
            1 => nsid::check(part),
            2 => record_key::check(part),
            _ => return Err(SyntaxError::Character { at: at - 1 }),
        }
        .map_err(|error| moved(error, at))?;
        at += part.len() + 1;
    }
    Ok(())
}

/// Checks that `text` is a DID or a handle.
pub(super) fn check_authority(text: &str) -> Result<(), SyntaxError> {
    if text.starts_with("did:") {
        did::check(text)
    } else {
        handle::check(text)
    }
}

/// Whether `text` is a DID or a handle, which Lexicons call `at-identifier`.
#[must_use]
pub fn is_at_identifier(text: &str) -> bool {
    check_authority(text).is_ok()
}

/// Moves the place of an error in a part to its place in the whole.
fn moved(error: SyntaxError, by: usize) -> SyntaxError {
    match error {
        SyntaxError::Empty => SyntaxError::Part { at: by },
        SyntaxError::Character { at } => SyntaxError::Character { at: at + by },
        SyntaxError::Part { at } => SyntaxError::Part { at: at + by },
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_at_uri_comes_apart() {
        let uri: AtUri = "at://did:plc:asdf123/app.bsky.feed.post/self"
            .parse()
            .expect("valid");
        assert_eq!(uri.authority(), "did:plc:asdf123");
        assert_eq!(uri.collection(), Some("app.bsky.feed.post"));
        assert_eq!(uri.rkey(), Some("self"));
        let uri: AtUri = "at://jay.bsky.team".parse().expect("valid");
        assert_eq!(
            (uri.authority(), uri.collection(), uri.rkey()),
            ("jay.bsky.team", None, None)
        );
    }
}
