//! Who may sign for a DID, where it lives and what it is called: documents by DID, asked for when they are needed.
//!
//! A document is what its directory said last (`directory`); a refresh asks anew. What is recorded
//! ([`Identities::fixed`]) never changes and nobody is asked. What directories tell goes into the log ([`record`]), with
//! the handle if it leads back to the DID ([`handle`]).

mod directory;
pub mod handle;
pub mod record;

use std::sync::Arc;
use std::time::Duration;

use atproto::{Did, DidDocument};
use crdt::storage::Clock;
use thiserror::Error;
use tokio::sync::mpsc;
use url::Url;

use crate::did_docs::DidDocs;
use crate::outbound::Outbound;

use directory::Directory;
use handle::Handles;

pub use directory::{QUESTIONS_AT_ONCE, REFRESH_INTERVAL};
pub use handle::{HandleCheck, INVALID_HANDLE};
pub use record::IdentityRecorder;

/// Why there is no document of a DID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ResolveError {
    /// There is none: whoever was asked knows of none, or there is nobody to ask.
    #[error("no DID document")]
    NotFound,
    /// There was one; the DID was given up for good.
    #[error("the DID is a tombstone")]
    Tombstoned,
    /// The DID is none that its method has: nobody was asked.
    #[error("the DID is none that its method has")]
    Malformed,
    /// The DID's method is neither `plc` nor `web`: nobody can be asked.
    #[error("the DID's method is neither plc nor web")]
    UnknownMethod,
    /// The answer is no DID document.
    #[error("the directory's answer is no DID document")]
    NoDocument,
    /// The answer is another DID's document.
    #[error("the directory's answer is another DID's document")]
    OtherDid,
    /// The directory refuses to answer, or may not be asked.
    #[error("the DID's directory refuses to answer, or may not be asked")]
    Refused,
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
            Self::Tombstoned => "did_tombstoned",
            Self::Malformed => "did_malformed",
            Self::UnknownMethod => "did_method_unknown",
            Self::NoDocument => "did_document_malformed",
            Self::OtherDid => "did_document_of_other",
            Self::Refused => "did_document_refused",
            Self::Unavailable => "did_document_unavailable",
        }
    }
}

/// Which directory is asked, and how much is remembered.
#[derive(Clone, Debug)]
pub struct IdentitySettings {
    /// The PLC directory.
    pub plc_url: Url,
    /// Who is asked where a handle leads, instead of DNS and the handle's own host.
    pub handle_resolver: Option<Url>,
    /// How many documents are remembered, about 600 bytes each.
    pub cache_max: u64,
    /// How long a document is believed.
    pub cache_ttl: Duration,
}

impl IdentitySettings {
    /// Settings for a PLC directory.
    #[must_use]
    pub fn of(plc_url: Url) -> Self {
        Self {
            plc_url,
            handle_resolver: None,
            cache_max: 500_000,
            cache_ttl: Duration::from_secs(24 * 3600),
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
    Directory(Arc<Directory>, Handles),
}

impl Identities {
    /// Recorded documents; nobody is ever asked for others.
    #[must_use]
    pub fn fixed(docs: DidDocs) -> Self {
        Self {
            source: DocumentSource::Fixed(Arc::new(docs)),
        }
    }

    /// Documents of directories, and who records them: it has to run, or what it would record is counted as lost.
    #[must_use]
    pub fn directory(
        outbound: Outbound,
        clock: Arc<dyn Clock>,
        settings: &IdentitySettings,
    ) -> (Self, IdentityRecorder) {
        let handles = Handles::new(outbound.clone(), settings.handle_resolver.clone());
        Self::with_handles(outbound, clock, settings, handles)
    }

    fn with_handles(
        outbound: Outbound,
        clock: Arc<dyn Clock>,
        settings: &IdentitySettings,
        handles: Handles,
    ) -> (Self, IdentityRecorder) {
        let (directory, told) = Directory::new(outbound, clock, settings);
        let identities = Self {
            source: DocumentSource::Directory(Arc::new(directory), handles),
        };
        let recorder = IdentityRecorder::new(identities.clone(), told);
        (identities, recorder)
    }

    /// The document of `did`: the one at hand, else asked for.
    ///
    /// # Errors
    /// [`ResolveError`]: whether there is none, or nobody answers.
    pub async fn resolve(&self, did: &Did) -> Result<Arc<DidDocument>, ResolveError> {
        match &self.source {
            DocumentSource::Fixed(docs) => docs.shared(did).ok_or(ResolveError::NotFound),
            DocumentSource::Directory(directory, _) => directory.resolve(did).await,
        }
    }

    /// The document of `did`, asked for anew: once a minute for one DID, [`QUESTIONS_AT_ONCE`] at once. Between, the one
    /// at hand.
    ///
    /// # Errors
    /// As [`resolve`](Self::resolve); that nobody answers is an error here even if there is a document at hand.
    pub async fn refresh(&self, did: &Did) -> Result<Arc<DidDocument>, ResolveError> {
        match &self.source {
            DocumentSource::Fixed(_) => self.resolve(did).await,
            DocumentSource::Directory(directory, _) => directory.refresh(did).await,
        }
    }

    /// The document of `did`, asked for anew as soon as a refresh may ask, unless somebody asked since it was forgotten.
    ///
    /// # Errors
    /// As [`refresh`](Self::refresh).
    pub async fn renew(&self, did: &Did) -> Result<Arc<DidDocument>, ResolveError> {
        match &self.source {
            DocumentSource::Fixed(_) => self.resolve(did).await,
            DocumentSource::Directory(directory, _) => directory.renew(did).await,
        }
    }

    /// The document of `did` if it is at hand. Asks nobody.
    pub async fn at_hand(&self, did: &Did) -> Option<Arc<DidDocument>> {
        match &self.source {
            DocumentSource::Fixed(docs) => docs.shared(did),
            DocumentSource::Directory(directory, _) => directory.at_hand(did).await,
        }
    }

    /// Forgets what is at hand of `did`: its source says that it changed. It still serves while
    /// a refresh may not ask, so that nobody can make us ask without end.
    pub fn forget(&self, did: &Did) {
        match &self.source {
            DocumentSource::Fixed(_) => {}
            DocumentSource::Directory(directory, _) => directory.forget(did),
        }
    }

    /// Whether the handle that `document` claims leads back to its DID. Of recorded documents nobody is asked.
    pub async fn handle(&self, document: &DidDocument) -> HandleCheck {
        match &self.source {
            DocumentSource::Fixed(_) => HandleCheck::Unknown,
            DocumentSource::Directory(_, handles) => Box::pin(handles.check(document)).await,
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
