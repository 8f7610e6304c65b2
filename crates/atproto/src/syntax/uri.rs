//! URIs of any scheme, as Lexicons' string format `uri` has them: checked by their form alone.

/// How long a URI may be.
pub const URI_BYTES_MAX: usize = 8 * 1024;

/// Whether `text` is a scheme, a colon and something visible.
#[must_use]
pub fn is_uri(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else {
        return false;
    };
    text.len() <= URI_BYTES_MAX
        && (1..=81).contains(&scheme.len())
        && scheme.starts_with(|first: char| first.is_ascii_lowercase())
        && scheme.bytes().all(|byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+-.".contains(&byte)
        })
        && !rest.is_empty()
        && !rest.contains(|other: char| other.is_whitespace() || other.is_control())
}
