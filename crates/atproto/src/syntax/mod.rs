//! The identifiers of AT Protocol as strings that have been checked.
//!
//! Each type follows its page of the specification and keeps the text exactly as it was given: nothing is lower-cased
//! or normalized. Cloning is cheap. Whether what a string names exists is another question, and not asked here.

pub mod at_uri;
pub mod cid;
pub mod datetime;
pub mod did;
pub mod handle;
pub mod language;
pub mod nsid;
pub mod record_key;
pub mod tid;
pub mod uri;

pub use at_uri::AtUri;
pub use did::Did;
pub use handle::Handle;
pub use language::Language;
pub use nsid::Nsid;
pub use record_key::RecordKey;
pub use tid::Tid;

/// Why some text is not the identifier that it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SyntaxError {
    /// No text at all.
    #[error("empty")]
    Empty,
    /// Longer than its kind may be, or of another length than its kind has.
    #[error("{bytes} bytes where {max} are allowed")]
    Length {
        /// How many bytes there are.
        bytes: usize,
        /// How many there may be.
        max: usize,
    },
    /// The text does not start as its kind does.
    #[error("does not start with {expected}")]
    Prefix {
        /// How it should start.
        expected: &'static str,
    },
    /// A character that is not allowed where it stands.
    #[error("character at byte {at} is not allowed")]
    Character {
        /// Which byte of the text.
        at: usize,
    },
    /// Too few parts.
    #[error("{found} parts where {min} are needed")]
    Parts {
        /// How many there are.
        found: usize,
        /// How many there must be.
        min: usize,
    },
    /// A part is empty or too long.
    #[error("part at byte {at} is empty or too long")]
    Part {
        /// Where it starts.
        at: usize,
    },
    /// The text has the right form and is excluded by name, as `.` and `..` are for record keys.
    #[error("excluded by name")]
    Excluded,
    /// The form is right, but a number or a part is out of its range or repeated.
    #[error("value at byte {at} is out of range or repeated")]
    Value {
        /// Which byte of the text.
        at: usize,
    },
}

/// Returns the byte offset of the first byte that `allowed` refuses.
fn first_other(text: &str, allowed: impl Fn(u8) -> bool) -> Option<usize> {
    text.bytes().position(|byte| !allowed(byte))
}

/// Checks one label of a domain name: 1 to 63 letters, digits and hyphens, no hyphen at its ends.
fn check_label(label: &str, at: usize) -> Result<(), SyntaxError> {
    if label.is_empty() || label.len() > 63 {
        return Err(SyntaxError::Part { at });
    }
    if let Some(other) = first_other(label, |byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return Err(SyntaxError::Character { at: at + other });
    }
    if label.starts_with('-') {
        return Err(SyntaxError::Character { at });
    }
    if label.ends_with('-') {
        return Err(SyntaxError::Character {
            at: at + label.len() - 1,
        });
    }
    Ok(())
}

/// Returns the parts of `text` between dots, each with its byte offset.
fn labels(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut at = 0;
    text.split('.').map(move |label| {
        let start = at;
        at += label.len() + 1;
        (start, label)
    })
}

/// Gives a checked string type, whose check is the function `check` beside it, its common traits.
macro_rules! checked_string {
    ($name:ident) => {
        impl $name {
            /// Returns the text as it was given.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::SyntaxError;

            fn from_str(text: &str) -> Result<Self, $crate::SyntaxError> {
                check(text)?;
                Ok(Self(text.into()))
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.pad(&self.0)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Debug::fmt(&*self.0, formatter)
            }
        }
    };
}
use checked_string;
