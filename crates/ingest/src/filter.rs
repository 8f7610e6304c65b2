//! Which part of a source is taken: some collections, some repos.
//!
//! What is left out is recorded: the filter's text is the slice of the source's cursor, so that one part's cursor is
//! never another's, and heads of a part are kept under a name of their own, since a head must not claim commits of
//! which another part was taken.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use atproto::{CommitFrame, Did, Nsid};
use crdt::Coverage;

/// From how many DIDs on a slice has their hash in place of their names: it stands in keys.
const DIDS_NAMED_MAX: usize = 16;

/// A part of a source; the default is all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// The collections that are taken.
    pub coverage: Coverage,
    /// The repos that are taken; empty for all.
    pub dids: BTreeSet<Did>,
}

impl Filter {
    /// Whether it takes everything.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.coverage.is_everything() && self.dids.is_empty()
    }

    /// Whether a repo is taken.
    #[must_use]
    pub fn lists(&self, did: &Did) -> bool {
        self.dids.is_empty() || self.dids.contains(did)
    }

    /// Whether a collection is taken.
    #[must_use]
    pub fn covers(&self, collection: &Nsid) -> bool {
        self.coverage.covers(collection.as_str())
    }

    /// Whether a commit says that it changes something that is taken.
    #[must_use]
    pub fn touches(&self, commit: &CommitFrame) -> bool {
        self.coverage.is_everything()
            || commit.ops.iter().any(|op| {
                let collection = op.path.split('/').next().unwrap_or_default();
                self.coverage.covers(collection)
            })
    }

    /// The slice of a source's work that it is: empty for all.
    #[must_use]
    pub fn slice(&self) -> String {
        self.to_string()
    }

    /// The name under which heads of `source` are kept.
    #[must_use]
    pub fn heads_of(&self, source: &Arc<str>) -> Arc<str> {
        if self.is_everything() {
            return Arc::clone(source);
        }
        let hash = blake3::hash(self.slice().as_bytes()).to_hex();
        format!("{source}#{}", &hash[..8]).into()
    }
}

/// Its canonical text: that of the collections, then the DIDs, or how many there are and the hash of all.
impl fmt::Display for Filter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = Vec::new();
        if !self.coverage.is_everything() {
            words.push(self.coverage.to_string());
        }
        if self.dids.len() > DIDS_NAMED_MAX {
            let mut hasher = blake3::Hasher::new();
            for did in &self.dids {
                hasher.update(did.as_str().as_bytes());
                hasher.update(b" ");
            }
            let hash = hasher.finalize().to_hex();
            words.push(format!("dids:{}:{}", self.dids.len(), &hash[..32]));
        } else {
            words.extend(self.dids.iter().map(|did| did.as_str().to_owned()));
        }
        formatter.write_str(&words.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_has_no_text_and_no_name_of_its_own() {
        let all = Filter::default();
        assert_eq!((all.slice(), all.is_everything()), (String::new(), true));
        let source: Arc<str> = "https://relay.example".into();
        assert_eq!(all.heads_of(&source), source);
    }

    #[test]
    fn one_part_has_one_text_however_it_was_written() {
        let one = filter(
            "app.bsky.feed.* !app.bsky.feed.like",
            &["did:web:b", "did:web:a"],
        );
        let other = filter(
            "app.bsky.feed.post !app.bsky.feed.like app.bsky.feed.*",
            &["did:web:a", "did:web:b"],
        );
        assert_eq!(
            one.slice(),
            "app.bsky.feed.* !app.bsky.feed.like did:web:a.example did:web:b.example"
        );
        assert_eq!(one.slice(), other.slice());
        let source: Arc<str> = "https://relay.example".into();
        let name = one.heads_of(&source);
        assert_eq!(name.len(), source.len() + 9);
        assert!(name.starts_with("https://relay.example#"), "{name}");
        assert_ne!(name, filter("app.bsky.feed.*", &[]).heads_of(&source));
    }

    #[test]
    fn many_repos_are_named_by_their_hash() {
        let names: Vec<String> = (0..40).map(|number| format!("did:web:a{number}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let (all, less) = (filter("", &names), filter("", &names[1..]));
        assert!(all.slice().starts_with("dids:40:"), "{}", all.slice());
        assert_ne!(all.slice()[8..], less.slice()[8..]);
        assert!(all.slice().len() < 50);
    }

    #[test]
    fn what_is_not_named_is_left_out() {
        let filter = filter("app.bsky.feed.* !app.bsky.feed.like", &["did:web:a"]);
        assert!(filter.lists(&did("did:web:a")));
        assert!(!filter.lists(&did("did:web:b")));
        let covers = |collection: &str| filter.covers(&collection.parse().expect("an NSID"));
        assert!(covers("app.bsky.feed.post"));
        assert!(!covers("app.bsky.feed.like"));
        assert!(!covers("app.bsky.graph.follow"));
    }

    fn filter(coverage: &str, dids: &[&str]) -> Filter {
        Filter {
            coverage: coverage.parse().expect("patterns"),
            dids: dids.iter().map(|name| did(name)).collect(),
        }
    }

    fn did(name: &str) -> Did {
        format!("{name}.example").parse().expect("a DID")
    }
}
