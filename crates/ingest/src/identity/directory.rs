//! Documents as directories tell them: did:plc by a PLC directory, did:web by the host that it names.
//!
//! An answer is kept for a time, a failure for a shorter one; a DID is asked for by one caller at a time, by refreshes
//! once a minute, and a few times at once since changes come together. While a directory does not answer, what it said last stays. A document of another DID is
//! no answer. Each new document is handed to whoever records it ([`Told`]). What a handle claims is not looked at here.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use atproto::{Did, DidDocument};
use crdt::Micros;
use crdt::storage::Clock;
use moka::future::Cache;
use tokio::sync::{Semaphore, mpsc};
use tracing::{debug, warn};
use url::Url;

use super::{IdentitySettings, ResolveError};
use crate::metrics;
use crate::outbound::{Answer, Limits, Outbound};

/// How often a DID is asked for again, on average.
pub const REFRESH_INTERVAL: Duration = Duration::from_secs(60);

/// How many questions about a DID may come at once: an account is made, changes its handle and its key, and each of
/// these is told by several sources.
pub const QUESTIONS_AT_ONCE: i64 = 4;

/// How long a failure is believed: one that may pass, and one that says what is.
const TRANSIENT_TTL: Duration = Duration::from_secs(15);
const FINAL_TTL: Duration = Duration::from_secs(600);

/// How many requests are under way at once.
const REQUESTS_MAX: usize = 64;

/// How long a directory is left alone that says 429 or 503 and not for how long.
const PARKED: Duration = Duration::from_secs(5);
const PARKED_MAX: Duration = Duration::from_secs(300);

/// How many DIDs are remembered as forgotten; beyond, all are.
const FORGOTTEN_MAX: usize = 65_536;

/// How many answers wait for whoever records them.
const TOLD_MAX: usize = 16_384;

/// A document as a directory told it.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    /// The document.
    pub(crate) document: Arc<DidDocument>,
    /// The directory's URL.
    pub(crate) source: Arc<str>,
    /// When.
    pub(crate) at: Micros,
}

/// Asks directories, and remembers.
#[derive(Debug)]
pub(crate) struct Directory {
    outbound: Outbound,
    clock: Arc<dyn Clock>,
    plc_url: Url,
    plc_name: Arc<str>,
    cache: Cache<Did, Arc<Known>>,
    cache_ttl: Duration,
    requests: Semaphore,
    /// Until when the PLC directory is left alone, in µs since the epoch.
    parked_until: AtomicI64,
    forgotten: Mutex<HashSet<Did>>,
    /// Raised when all are forgotten.
    generation: AtomicU64,
    told: mpsc::Sender<Told>,
}

/// What is known of a DID.
#[derive(Clone, Debug)]
struct Known {
    /// Its last document, and when that was told.
    document: Option<(Arc<DidDocument>, Micros)>,
    /// Why the last question had no answer.
    error: Option<ResolveError>,
    /// When it was asked for last.
    asked_at: Micros,
    /// When all questions so far would have been asked if each had waited for its minute.
    earned_at: Micros,
    generation: u64,
}

impl Known {
    fn answer(&self) -> Result<Arc<DidDocument>, ResolveError> {
        match (&self.document, &self.error) {
            // What a directory said last holds while it does not answer.
            (Some((document, _)), None | Some(ResolveError::Unavailable)) => {
                Ok(Arc::clone(document))
            }
            (_, Some(error)) => Err(*error),
            (None, None) => Err(ResolveError::NotFound),
        }
    }
}

impl Directory {
    /// A directory, and what it is told from now on.
    pub(crate) fn new(
        outbound: Outbound,
        clock: Arc<dyn Clock>,
        settings: &IdentitySettings,
    ) -> (Self, mpsc::Receiver<Told>) {
        let (told, taken) = mpsc::channel(TOLD_MAX);
        let plc_name = settings.plc_url.as_str().trim_end_matches('/').into();
        let directory = Self {
            outbound,
            clock,
            plc_url: settings.plc_url.clone(),
            plc_name,
            cache: Cache::new(settings.cache_max),
            cache_ttl: settings.cache_ttl,
            requests: Semaphore::new(REQUESTS_MAX),
            parked_until: AtomicI64::new(i64::MIN),
            forgotten: Mutex::default(),
            generation: AtomicU64::new(0),
            told,
        };
        (directory, taken)
    }

    /// The document at hand while it is fresh, else the directory's.
    pub(crate) async fn resolve(&self, did: &Did) -> Result<Arc<DidDocument>, ResolveError> {
        if let Some(known) = self.cache.get(did).await
            && self.is_fresh(did, &known)
        {
            return known.answer();
        }
        self.ask(did, |known| !self.is_fresh(did, known))
            .await
            .answer()
    }

    /// The directory's document, or the one at hand if it was asked for too often of late.
    ///
    /// That it does not answer is an error here: the caller has reason to doubt what is at hand.
    pub(crate) async fn refresh(&self, did: &Did) -> Result<Arc<DidDocument>, ResolveError> {
        let known = self.ask(did, |known| self.wait(known).is_none()).await;
        match &known.error {
            Some(error) => Err(*error),
            None => known.answer(),
        }
    }

    /// Waits until a refresh may ask, then refreshes, unless somebody has asked since `did` was forgotten.
    pub(crate) async fn renew(&self, did: &Did) -> Result<Arc<DidDocument>, ResolveError> {
        if let Some(known) = self.cache.get(did).await {
            if !self.is_forgotten(did, &known) {
                return known.answer();
            }
            if let Some(wait) = self.wait(&known) {
                self.clock.sleep(wait).await;
            }
        }
        self.refresh(did).await
    }

    /// How long a refresh has to wait before it may ask.
    fn wait(&self, known: &Known) -> Option<Duration> {
        let at_once = (QUESTIONS_AT_ONCE - 1) * micros(REFRESH_INTERVAL);
        let wait = known.earned_at.0 - at_once - self.clock.now_us();
        (wait > 0).then(|| Duration::from_micros(wait.unsigned_abs()))
    }

    /// The document at hand, unless it was forgotten.
    pub(crate) async fn at_hand(&self, did: &Did) -> Option<Arc<DidDocument>> {
        let known = self.cache.get(did).await?;
        if self.is_forgotten(did, &known) {
            return None;
        }
        known.answer().ok()
    }

    /// What is at hand of `did` is asked for again at the next occasion.
    pub(crate) fn forget(&self, did: &Did) {
        let Ok(mut forgotten) = self.forgotten.lock() else {
            return;
        };
        if forgotten.len() >= FORGOTTEN_MAX {
            forgotten.clear();
            self.generation.fetch_add(1, Ordering::SeqCst);
            return;
        }
        forgotten.insert(did.clone());
    }

    fn is_forgotten(&self, did: &Did, known: &Known) -> bool {
        known.generation < self.generation.load(Ordering::SeqCst)
            || self
                .forgotten
                .lock()
                .is_ok_and(|forgotten| forgotten.contains(did))
    }

    fn is_fresh(&self, did: &Did, known: &Known) -> bool {
        let asked = self.age(known.asked_at);
        if self.wait(known).is_none() && self.is_forgotten(did, known) {
            return false;
        }
        match (&known.error, &known.document) {
            (Some(error), _) if error.is_transient() => asked < TRANSIENT_TTL,
            (Some(_), _) => asked < FINAL_TTL,
            (None, Some((_, told_at))) => self.age(*told_at) < self.cache_ttl,
            (None, None) => false,
        }
    }

    fn age(&self, since: Micros) -> Duration {
        let micros = self.clock.now_us().saturating_sub(since.0);
        Duration::from_micros(u64::try_from(micros).unwrap_or_default())
    }

    /// Asks for `did`, or waits for the answer of who asks already, if what is known is `outdated`.
    async fn ask(&self, did: &Did, outdated: impl Fn(&Known) -> bool + Send + Sync) -> Arc<Known> {
        let before = self.cache.get(did).await;
        // Boxed, since a question holds a connection's whole state and is rare beside answers that are at hand.
        let question = Box::pin(async { Arc::new(self.ask_now(did, before.as_deref()).await) });
        let entry = self.cache.entry_by_ref(did);
        let entry = Box::pin(entry.or_insert_with_if(question, |known| outdated(known)));
        entry.await.into_value()
    }

    async fn ask_now(&self, did: &Did, before: Option<&Known>) -> Known {
        // What is forgotten from here on may not be in the answer.
        if let Ok(mut forgotten) = self.forgotten.lock() {
            forgotten.remove(did);
        }
        let generation = self.generation.load(Ordering::SeqCst);
        let answer = self.fetch(did).await;
        let now = Micros(self.clock.now_us());
        let earned_at = before.map_or(now, |known| now.max(known.earned_at));
        let earned_at = earned_at.saturating_add(micros(REFRESH_INTERVAL));
        metrics::document_asked(match &answer {
            Ok(_) => "found",
            Err(error) => error.reason(),
        });
        match answer {
            Ok((document, source)) => {
                let document = Arc::new(document);
                // Of two answers the later one stays in the log, so it says so, whatever the clock does between.
                let before = before.and_then(|known| known.document.as_ref());
                let at = before.map_or(now, |(_, at)| now.max(at.saturating_add(1)));
                let told = Told {
                    document: Arc::clone(&document),
                    source,
                    at,
                };
                if self.told.try_send(told).is_err() {
                    // The document serves all the same; its host and handle are in no table until it is asked again.
                    metrics::identity_unrecorded();
                }
                Known {
                    document: Some((document, at)),
                    error: None,
                    asked_at: now,
                    earned_at,
                    generation,
                }
            }
            Err(error) => {
                debug!(%did, reason = error.reason(), "no DID document");
                let document = before.and_then(|known| known.document.clone());
                Known {
                    document: document.filter(|_| error.is_transient()),
                    error: Some(error),
                    asked_at: now,
                    earned_at,
                    generation,
                }
            }
        }
    }

    async fn fetch(&self, did: &Did) -> Result<(DidDocument, Arc<str>), ResolveError> {
        let place = self.place(did)?;
        let is_plc = matches!(place, Place::Plc(_));
        let now = Micros(self.clock.now_us());
        if is_plc && now.0 < self.parked_until.load(Ordering::SeqCst) {
            return Err(ResolveError::Unavailable);
        }
        let _request = self.requests.acquire().await;
        let (answer, source) = match &place {
            Place::Plc(url) => (
                self.outbound.get_configured(url, Limits::DOCUMENT).await,
                Arc::clone(&self.plc_name),
            ),
            Place::Web(url) => (
                self.outbound.get(url, Limits::DOCUMENT).await,
                url.origin().ascii_serialization().into(),
            ),
        };
        let answer = answer.map_err(|error| {
            debug!(%did, reason = error.reason(), "directory does not answer");
            if error.is_transient() {
                ResolveError::Unavailable
            } else {
                ResolveError::Refused
            }
        })?;
        if is_plc && matches!(answer.status, 429 | 503) {
            self.park(&answer);
        }
        Ok((document_of(did, &answer)?, source))
    }

    /// Leaves the directory alone for as long as it says.
    fn park(&self, answer: &Answer) {
        let now = Micros(self.clock.now_us());
        let wait = answer.retry.map_or(PARKED, |retry| retry.wait(now));
        let wait = wait.clamp(PARKED, PARKED_MAX);
        warn!(
            status = answer.status,
            ?wait,
            "PLC directory asks to be left alone"
        );
        self.parked_until
            .fetch_max(now.saturating_add(micros(wait)).0, Ordering::SeqCst);
    }

    /// Where the document of `did` is.
    fn place(&self, did: &Did) -> Result<Place, ResolveError> {
        let name = did.as_str().splitn(3, ':').nth(2).unwrap_or_default();
        match did.method() {
            "plc" => {
                let is_plc = name.len() == 24
                    && name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'2'..=b'7'));
                if !is_plc {
                    return Err(ResolveError::Malformed);
                }
                let mut url = self.plc_url.clone();
                url.path_segments_mut()
                    .map_err(|()| ResolveError::Malformed)?
                    .pop_if_empty()
                    .push(did.as_str());
                Ok(Place::Plc(url))
            }
            "web" => {
                // A path would have colons, a port a percent sign; AT Protocol has neither, but for tests.
                let local = name.strip_prefix("localhost%3A");
                let url = match local.filter(|_| self.outbound.allows_private()) {
                    Some(port) if port.bytes().all(|b| b.is_ascii_digit()) => {
                        format!("http://localhost:{port}/.well-known/did.json")
                    }
                    _ if name.contains([':', '%']) || !name.contains('.') => {
                        return Err(ResolveError::Malformed);
                    }
                    _ => format!("https://{name}/.well-known/did.json"),
                };
                let url = url.parse().map_err(|_| ResolveError::Malformed)?;
                Ok(Place::Web(url))
            }
            _ => Err(ResolveError::UnknownMethod),
        }
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

enum Place {
    Plc(Url),
    Web(Url),
}

fn document_of(did: &Did, answer: &Answer) -> Result<DidDocument, ResolveError> {
    match answer.status {
        200 => {}
        404 => return Err(ResolveError::NotFound),
        410 => return Err(ResolveError::Tombstoned),
        429 | 500.. => return Err(ResolveError::Unavailable),
        _ => return Err(ResolveError::Refused),
    }
    let json = serde_json::from_slice(&answer.body).map_err(|_| ResolveError::NoDocument)?;
    let document = DidDocument::parse(&json).map_err(|_| ResolveError::NoDocument)?;
    if document.id != *did {
        return Err(ResolveError::OtherDid);
    }
    Ok(document)
}

#[cfg(test)]
mod tests;
