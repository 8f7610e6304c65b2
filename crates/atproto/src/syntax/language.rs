//! Language tags of BCP 47, as posts name the languages they are in.
//!
//! The form is checked, and that no variant or extension is repeated; the registry of languages is not consulted.

use std::sync::Arc;

use super::{SyntaxError, checked_string, first_other};

/// How long a language tag may be.
pub const LANGUAGE_BYTES_MAX: usize = 128;

/// A language tag such as `pt-BR`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Language(Arc<str>);

checked_string!(Language);

/// Whether `text` has the form of a language tag; its variants and extensions may be repeated.
#[must_use]
pub fn is_well_formed(text: &str) -> bool {
    check_form(text).is_ok()
}

fn check(text: &str) -> Result<(), SyntaxError> {
    check_form(text)?;
    let primary = text.split('-').next().unwrap_or_default();
    // RFC 5646 section 2.2.9; private use and the grandfathered `i-` tags have neither variants nor extensions.
    if primary.len() == 1 {
        return Ok(());
    }
    let mut seen: Vec<&str> = Vec::new();
    let mut in_extension = false;
    let mut at = primary.len() + 1;
    for part in text.split('-').skip(1) {
        let singleton = part.len() == 1;
        if part.eq_ignore_ascii_case("x") {
            break;
        }
        let variant = part.len() >= 5
            || (part.len() == 4 && part.starts_with(|first: char| first.is_ascii_digit()));
        if singleton || (variant && !in_extension) {
            if seen.iter().any(|other| other.eq_ignore_ascii_case(part)) {
                return Err(SyntaxError::Value { at });
            }
            seen.push(part);
        }
        in_extension |= singleton;
        at += part.len() + 1;
    }
    Ok(())
}

fn check_form(text: &str) -> Result<(), SyntaxError> {
    if text.is_empty() {
        return Err(SyntaxError::Empty);
    }
    if text.len() > LANGUAGE_BYTES_MAX {
        return Err(SyntaxError::Length {
            bytes: text.len(),
            max: LANGUAGE_BYTES_MAX,
        });
    }
    let mut at = 0;
    let mut found = 0;
    for part in text.split('-') {
        if part.is_empty() || part.len() > 8 {
            return Err(SyntaxError::Part { at });
        }
        if let Some(other) = first_other(part, |byte| byte.is_ascii_alphanumeric()) {
            return Err(SyntaxError::Character { at: at + other });
        }
        let is_primary = match part {
            "i" | "x" | "X" => true,
            _ => {
                (2..=3).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_lowercase())
            }
        };
        if found == 0 && !is_primary {
            return Err(SyntaxError::Part { at });
        }
        found += 1;
        at += part.len() + 1;
    }
    if found == 1 && text.len() == 1 {
        Err(SyntaxError::Parts { found, min: 2 })
    } else {
        Ok(())
    }
}
