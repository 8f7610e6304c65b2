//! CIDs as Lexicons' string format `cid` has them: any version-1 CID in any base, checked by its form alone.
//!
//! Links in records and trees are [`crate::Cid`], which is far stricter.

/// Whether `text` has the form of a CID; what it names may be of any kind.
#[must_use]
pub fn is_cid(text: &str) -> bool {
    (8..=256).contains(&text.len())
        // Version 0 has no prefix for its base.
        && !text.starts_with("Qm")
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'=')
}
