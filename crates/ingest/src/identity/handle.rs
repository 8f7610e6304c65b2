//! Whether a handle that a DID document claims leads back to its DID.
//!
//! It does if `_atproto.HANDLE` has a TXT record of the DID, or else `https://HANDLE/.well-known/atproto-did` says it;
//! or, where the operator named a resolver, if that says so. Nobody else is believed. That nobody could be asked is
//! another answer than that somebody disagrees.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use atproto::{Did, DidDocument, Handle};
use futures::future::BoxFuture;
use hickory_resolver::TokioResolver;
use serde_json::Value as Json;
use tracing::debug;
use url::Url;

use crate::outbound::{Limits, Outbound};

/// What a handle is that is none any more.
pub const INVALID_HANDLE: &str = "handle.invalid";

/// Names that never lead anywhere.
const DISALLOWED: [&str; 8] = [
    "alt",
    "arpa",
    "example",
    "internal",
    "invalid",
    "local",
    "localhost",
    "onion",
];

/// How long a name server may take, asked twice.
const DNS_TIME: Duration = Duration::from_secs(3);

/// What was found of a document's handle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HandleCheck {
    /// It leads back to the DID.
    Verified(Handle),
    /// There is none, or it leads nowhere, or to another DID.
    Invalid,
    /// Nobody could be asked now.
    Unknown,
}

/// Asks for TXT records.
pub(crate) trait Txt: Debug + Send + Sync {
    /// The texts at `name`; none if there are none. An error if nobody answers.
    fn texts<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<String>, NoAnswer>>;
}

/// Nobody answers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NoAnswer;

/// The name servers of the system.
#[derive(Debug)]
struct SystemTxt(TokioResolver);

impl Txt for SystemTxt {
    fn texts<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<String>, NoAnswer>> {
        Box::pin(async move {
            match self.0.txt_lookup(name).await {
                Ok(found) => Ok(found.iter().map(ToString::to_string).collect()),
                Err(error) if error.is_nx_domain() || error.is_no_records_found() => Ok(Vec::new()),
                Err(error) => {
                    debug!(name, %error, "no answer from DNS");
                    Err(NoAnswer)
                }
            }
        })
    }
}

/// A system without name servers.
#[derive(Debug)]
struct NoTxt;

impl Txt for NoTxt {
    fn texts<'a>(&'a self, _name: &'a str) -> BoxFuture<'a, Result<Vec<String>, NoAnswer>> {
        Box::pin(async { Err(NoAnswer) })
    }
}

/// Checks handles.
#[derive(Clone, Debug)]
pub(crate) struct Handles {
    outbound: Outbound,
    txt: Arc<dyn Txt>,
    resolver: Option<Url>,
}

impl Handles {
    /// Asks the system's name servers, or `resolver` instead.
    pub(crate) fn new(outbound: Outbound, resolver: Option<Url>) -> Self {
        Self::with_txt(outbound, resolver, system_txt())
    }

    pub(crate) fn with_txt(outbound: Outbound, resolver: Option<Url>, txt: Arc<dyn Txt>) -> Self {
        Self {
            outbound,
            txt,
            resolver,
        }
    }

    /// What is found of the handle that `document` claims.
    pub(crate) async fn check(&self, document: &DidDocument) -> HandleCheck {
        let Some(handle) = &document.handle else {
            return HandleCheck::Invalid;
        };
        let name = handle.as_str().to_ascii_lowercase();
        let found = match &self.resolver {
            Some(resolver) => self.by_resolver(resolver, &name).await,
            None if is_disallowed(&name) => Ok(None),
            None => self.by_name(&name).await,
        };
        match found {
            Ok(Some(did)) if did == document.id.as_str() => HandleCheck::Verified(handle.clone()),
            Ok(_) => HandleCheck::Invalid,
            Err(NoAnswer) => HandleCheck::Unknown,
        }
    }

    /// The DID to which a name leads, by DNS, else by its host.
    async fn by_name(&self, name: &str) -> Result<Option<String>, NoAnswer> {
        // With a dot at the end no search domain of the system is tried.
        let texts = self.txt.texts(&format!("_atproto.{name}.")).await;
        if let Ok(texts) = &texts {
            let mut dids: Vec<&str> = texts
                .iter()
                .filter_map(|text| text.strip_prefix("did="))
                .collect();
            dids.sort_unstable();
            dids.dedup();
            match dids.as_slice() {
                [] => {}
                [did] => return Ok(Some((*did).to_owned())),
                // The specification: more than one is no answer at all.
                _ => return Ok(None),
            }
        }
        let found = self.by_host(name).await;
        match (texts, found) {
            (_, Ok(Some(did))) => Ok(Some(did)),
            (Ok(_), Ok(None)) => Ok(None),
            _ => Err(NoAnswer),
        }
    }

    async fn by_host(&self, name: &str) -> Result<Option<String>, NoAnswer> {
        let url = format!("https://{name}/.well-known/atproto-did");
        let url = url.parse().map_err(|_| NoAnswer)?;
        let limits = Limits {
            bytes_max: 4096,
            ..Limits::DOCUMENT
        };
        let answer = match self.outbound.get(&url, limits).await {
            Ok(answer) => answer,
            Err(error) => {
                debug!(
                    name,
                    reason = error.reason(),
                    "handle's host does not answer"
                );
                return if error.is_transient() {
                    Err(NoAnswer)
                } else {
                    Ok(None)
                };
            }
        };
        match answer.status {
            200 => {
                let text = std::str::from_utf8(&answer.body).unwrap_or_default().trim();
                Ok(text.parse::<Did>().ok().map(|did| did.to_string()))
            }
            429 | 500.. => Err(NoAnswer),
            _ => Ok(None),
        }
    }

    async fn by_resolver(&self, resolver: &Url, name: &str) -> Result<Option<String>, NoAnswer> {
        let mut url = resolver
            .join("/xrpc/com.atproto.identity.resolveHandle")
            .map_err(|_| NoAnswer)?;
        url.query_pairs_mut().append_pair("handle", name);
        let answer = self.outbound.get_configured(&url, Limits::DOCUMENT).await;
        let answer = answer.map_err(|error| {
            debug!(
                name,
                reason = error.reason(),
                "handle resolver does not answer"
            );
            NoAnswer
        })?;
        match answer.status {
            200 => {
                let json: Json = serde_json::from_slice(&answer.body).map_err(|_| NoAnswer)?;
                Ok(json.get("did").and_then(Json::as_str).map(str::to_owned))
            }
            // XRPC's word for a handle that leads nowhere.
            400 | 404 => Ok(None),
            _ => Err(NoAnswer),
        }
    }
}

fn is_disallowed(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or_default();
    DISALLOWED.contains(&last)
}

fn system_txt() -> Arc<dyn Txt> {
    let mut builder = match TokioResolver::builder_tokio() {
        Ok(builder) => builder,
        Err(error) => {
            tracing::warn!(%error, "no name servers: handles are not checked by DNS");
            return Arc::new(NoTxt);
        }
    };
    let options = builder.options_mut();
    options.timeout = DNS_TIME;
    options.attempts = 2;
    Arc::new(SystemTxt(builder.build()))
}

#[cfg(test)]
mod tests;
