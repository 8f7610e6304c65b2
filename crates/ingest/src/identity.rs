//! Who may sign for a DID, where it lives and what it is called: documents by DID, asked for when they are needed.
//!
//! A document is what its directory said last; a refresh asks anew. What is recorded ([`Identities::fixed`]) never
//! changes and nobody is asked.

use std::sync::Arc;

use atproto::{Did, DidDocument};
use thiserror::Error;
use tokio::sync::mpsc;

use crate::did_docs::DidDocs;

/// Why there is no document of a DID.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ResolveError {
    /// There is none: whoever was asked knows of none, or there is nobody to ask.
    #[error("no DID document")]
    NotFound,
    /// Whoever could tell does not answer now. Asking later may help.
    #[error("the DID's directory does not answer")]
    Unavailable,
}

impl ResolveError {
    /// Whether asking later may give another answer.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable)
    }

    /// A stable word for counting.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotFound => "no_did_document",
            Self::Unavailable => "did_document_unavailable",
        }
    }
}

/// Documents by DID. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Identities {
    source: DocumentSource,
}

/// Where documents come from.
#[derive(Clone, Debug)]
enum DocumentSource {
    Fixed(Arc<DidDocs>),
}

impl Identities {
    /// Recorded documents; nobody is ever asked for others.
    #[must_use]
    pub fn fixed(docs: DidDocs) -> Self {
        Self {
            source: DocumentSource::Fixed(Arc::new(docs)),
        }
    }

    /// The document of `did`: the one at hand, else asked for.
    ///
    /// # Errors
    /// [`ResolveError`]: whether there is none, or nobody answers.
    #[allow(clippy::unused_async, reason = "a directory is asked over the network")]
    pub async fn resolve(&self, did: &Did) -> Result<Arc<DidDocument>, ResolveError> {
        match &self.source {
            DocumentSource::Fixed(docs) => docs.shared(did).ok_or(ResolveError::NotFound),
        }
    }

    /// The document of `did`, asked for anew, at most once a minute for one DID: between, the one at hand.
    ///
    /// # Errors
    /// As [`resolve`](Self::resolve).
    pub async fn refresh(&self, did: &Did) -> Result<Arc<DidDocument>, ResolveError> {
        self.resolve(did).await
    }

    /// The document of `did` if it is at hand. Asks nobody.
    #[allow(clippy::unused_async, reason = "as `resolve`")]
    pub async fn at_hand(&self, did: &Did) -> Option<Arc<DidDocument>> {
        match &self.source {
            DocumentSource::Fixed(docs) => docs.shared(did),
        }
    }

    /// Forgets what is at hand of `did`: its source says that it changed.
    pub fn forget(&self, _did: &Did) {
        match &self.source {
            DocumentSource::Fixed(_) => {}
        }
    }
}

/// DIDs whose identity a source says has changed: what the follower hands over, and whoever asks directories takes.
///
/// Handing over never waits. Of what does not fit the queue nothing is lost but time: the document is forgotten all the
/// same, and asked for when it is needed next.
#[derive(Clone, Debug)]
pub struct IdentityQueue {
    changed: mpsc::Sender<Did>,
}

impl IdentityQueue {
    /// A queue of at most `dids_max`, and its other end.
    #[must_use]
    pub fn bounded(dids_max: usize) -> (Self, mpsc::Receiver<Did>) {
        let (changed, taken) = mpsc::channel(dids_max);
        (Self { changed }, taken)
    }

    /// Whether `did` found a place.
    pub fn changed(&self, did: Did) -> bool {
        self.changed.try_send(did).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn recorded_documents_answer_for_their_dids_only() {
        let docs = DidDocs::parse(br#"{"did:web:a.example": {"id": "did:web:a.example"}}"#);
        let identities = Identities::fixed(docs.expect("an object"));
        let (known, other) = (did("did:web:a.example"), did("did:web:b.example"));
        identities.forget(&known);
        let document = identities.resolve(&known).await.expect("recorded");
        assert_eq!(document.id, known);
        assert_eq!(identities.at_hand(&known).await, Some(document));
        for answer in [
            identities.resolve(&other).await,
            identities.refresh(&other).await,
        ] {
            assert_eq!(answer, Err(ResolveError::NotFound));
        }
    }

    #[tokio::test]
    async fn a_full_queue_says_so() {
        let (queue, mut taken) = IdentityQueue::bounded(1);
        assert!(queue.changed(did("did:web:a.example")));
        assert!(!queue.changed(did("did:web:b.example")));
        assert_eq!(taken.recv().await, Some(did("did:web:a.example")));
    }

    fn did(text: &str) -> Did {
        text.parse().expect("a DID")
    }
}
