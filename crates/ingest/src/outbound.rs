//! HTTP to hosts that others name: the only way in which this process asks a server that a DID document, a handle or a
//! redirect leads to.
//!
//! A host is reached over the public internet or not at all: names are resolved here and only public addresses are
//! handed to the connection, so no answer can change between the check and the use; addresses given literally are
//! refused. Redirects are followed three times, each checked like the first URL. Every answer is bounded in bytes, in
//! its whole time and in the time between two pieces. [`Outbound::get_configured`] leaves the first URL unchecked: it
//! is for servers that the operator named. What an answer means is not known here.

mod address;

use std::error::Error as StdError;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use crdt::Micros;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{ACCEPT, HeaderMap, LOCATION, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, Response};
use thiserror::Error;
use tokio::time::timeout;
use url::{Host, Url};

use address::is_public;

/// How many redirects are followed.
const REDIRECTS_MAX: usize = 3;

/// How much is read of an answer that tells of an error.
const ERROR_BYTES_MAX: u64 = 64 * 1024;

/// How long a connection may take.
const CONNECT_TIME: Duration = Duration::from_secs(10);

/// How long a connection that nobody uses is kept, and how many of one host.
const POOL_IDLE: Duration = Duration::from_secs(30);
const POOL_HOST_MAX: usize = 4;

/// What an answer may be at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Its bytes.
    pub bytes_max: u64,
    /// From the call to its last byte, redirects included.
    pub time: Duration,
    /// Between two pieces of it.
    pub idle: Duration,
}

impl Limits {
    /// A short document: 1 MiB within ten seconds.
    pub const DOCUMENT: Self = Self {
        bytes_max: 1 << 20,
        time: Duration::from_secs(10),
        idle: Duration::from_secs(5),
    };
}

/// An HTTP answer, whatever its status.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The body; of an error only the beginning.
    pub body: Bytes,
    /// When the server would like to be asked again.
    pub retry: Option<Retry>,
}

/// When a server would like to be asked again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// So much later.
    After(Duration),
    /// At this second since the epoch.
    At(i64),
}

impl Retry {
    /// How long to wait from `now` on.
    #[must_use]
    pub fn wait(self, now: Micros) -> Duration {
        match self {
            Self::After(wait) => wait,
            Self::At(second) => {
                let micros = second.saturating_mul(1_000_000).saturating_sub(now.0);
                Duration::from_micros(u64::try_from(micros).unwrap_or_default())
            }
        }
    }

    /// `Retry-After` in seconds, or the reset that AT Protocol's servers tell beside a 429.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let number =
            |name: &str| -> Option<i64> { headers.get(name)?.to_str().ok()?.trim().parse().ok() };
        let after = number(RETRY_AFTER.as_str()).and_then(|seconds| u64::try_from(seconds).ok());
        after
            .map(|seconds| Self::After(Duration::from_secs(seconds)))
            .or_else(|| number("ratelimit-reset").map(Self::At))
    }
}

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum OutboundError {
    /// The URL is no plain `http` or `https` one: nothing was asked.
    #[error("{url} is not a URL that may be asked")]
    Url {
        /// The URL.
        url: String,
    },
    /// The host is an address, or has none that is public: nothing was asked of it.
    #[error("{host} has no public address by name; --allow-private-addresses would ask it")]
    Forbidden {
        /// The host.
        host: String,
    },
    /// It redirects on and on.
    #[error("more than {REDIRECTS_MAX} redirects")]
    Redirects,
    /// The answer is longer than it may be; the rest was not read.
    #[error("answer is longer than {bytes_max} bytes")]
    TooLong {
        /// How long it may be.
        bytes_max: u64,
    },
    /// The caller had no room for more; the rest was not read.
    #[error("no room for the answer beyond {bytes} bytes now")]
    NoRoom {
        /// How many bytes there would have been by then.
        bytes: u64,
    },
    /// It took too long.
    #[error("no whole answer in time")]
    Timeout,
    /// The host can't be reached, or the connection broke.
    #[error("host can't be reached, or the connection broke")]
    Transport {
        /// What went wrong.
        #[source]
        source: reqwest::Error,
    },
}

impl OutboundError {
    /// Whether asking again later may help.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Timeout | Self::Transport { .. } | Self::NoRoom { .. }
        )
    }

    /// A stable word for counting.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Url { .. } => "url",
            Self::Forbidden { .. } => "private_address",
            Self::Redirects => "redirects",
            Self::TooLong { .. } => "too_long",
            Self::NoRoom { .. } => "no_room",
            Self::Timeout => "timeout",
            Self::Transport { .. } => "unreachable",
        }
    }
}

/// Asks servers by HTTP. Clones share connections.
#[derive(Clone, Debug)]
pub struct Outbound {
    guarded: Client,
    configured: Client,
    allow_private: bool,
}

impl Outbound {
    /// Resolves names as the system does. With `allow_private` nothing is refused for its address.
    ///
    /// # Errors
    /// If TLS can't be set up.
    pub fn new(allow_private: bool) -> Result<Self, OutboundError> {
        Self::with_dns(allow_private, Arc::new(SystemDns))
    }

    /// One that finds every name on this machine, and so may ask nobody.
    #[cfg(test)]
    pub(crate) fn to_loopback_only() -> Self {
        Self::with_dns(false, Arc::new(tests::LoopbackDns)).expect("TLS")
    }

    /// Resolves names by `dns`.
    fn with_dns(allow_private: bool, dns: Arc<dyn Resolve>) -> Result<Self, OutboundError> {
        let client = |dns: Arc<dyn Resolve>| {
            Client::builder()
                // A proxy would resolve names itself, out of our sight.
                .no_proxy()
                .redirect(Policy::none())
                .connect_timeout(CONNECT_TIME)
                .pool_idle_timeout(POOL_IDLE)
                .pool_max_idle_per_host(POOL_HOST_MAX)
                .user_agent(concat!("alluvium/", env!("CARGO_PKG_VERSION")))
                .dns_resolver2(dns)
                .build()
                .map_err(|source| OutboundError::Transport { source })
        };
        let configured = client(Arc::clone(&dns))?;
        Ok(Self {
            guarded: if allow_private {
                configured.clone()
            } else {
                client(Arc::new(PublicDns(dns)))?
            },
            configured,
            allow_private,
        })
    }

    /// Whether private addresses may be asked.
    #[must_use]
    pub fn allows_private(&self) -> bool {
        self.allow_private
    }

    /// Asks `url`, which somebody else named.
    ///
    /// # Errors
    /// [`OutboundError`]; a status is no error.
    pub async fn get(&self, url: &Url, limits: Limits) -> Result<Answer, OutboundError> {
        self.get_into(url, limits, &mut |_| true).await
    }

    /// As [`get`](Self::get), where `room` says before more is held whether so many bytes in all have room.
    ///
    /// # Errors
    /// As [`get`](Self::get), and [`OutboundError::NoRoom`].
    pub async fn get_into(
        &self,
        url: &Url,
        limits: Limits,
        room: &mut (dyn FnMut(u64) -> bool + Send),
    ) -> Result<Answer, OutboundError> {
        timeout(limits.time, self.follow(url, true, limits, room))
            .await
            .unwrap_or(Err(OutboundError::Timeout))
    }

    /// Asks `url`, which the operator named; where it redirects to is checked.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn get_configured(&self, url: &Url, limits: Limits) -> Result<Answer, OutboundError> {
        timeout(limits.time, self.follow(url, false, limits, &mut |_| true))
            .await
            .unwrap_or(Err(OutboundError::Timeout))
    }

    async fn follow(
        &self,
        url: &Url,
        is_guarded: bool,
        limits: Limits,
        room: &mut (dyn FnMut(u64) -> bool + Send),
    ) -> Result<Answer, OutboundError> {
        let mut url = url.clone();
        for redirects in 0..=REDIRECTS_MAX {
            let is_guarded = is_guarded || redirects > 0;
            self.check(&url, is_guarded)?;
            let client = if is_guarded {
                &self.guarded
            } else {
                &self.configured
            };
            let request = client.get(url.clone()).header(ACCEPT, "*/*").send();
            let response = timeout(limits.idle.max(CONNECT_TIME), request)
                .await
                .map_err(|_| OutboundError::Timeout)?
                .map_err(failed)?;
            match target(&url, &response) {
                Some(next) => url = next,
                None => return read(response, limits, room).await,
            }
        }
        Err(OutboundError::Redirects)
    }

    fn check(&self, url: &Url, is_guarded: bool) -> Result<(), OutboundError> {
        let is_plain = matches!(url.scheme(), "http" | "https")
            && url.username().is_empty()
            && url.password().is_none();
        match url.host() {
            Some(Host::Domain(_)) if is_plain => Ok(()),
            Some(host) if is_plain => {
                if is_guarded && !self.allow_private {
                    let host = host.to_string();
                    return Err(OutboundError::Forbidden { host });
                }
                Ok(())
            }
            _ => Err(OutboundError::Url {
                url: url.to_string(),
            }),
        }
    }
}

/// Where an answer redirects to. One that says no place, or from `https` to `http`, is an answer like any other.
fn target(from: &Url, response: &Response) -> Option<Url> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let location = response.headers().get(LOCATION)?.to_str().ok()?;
    let to = from.join(location).ok()?;
    (from.scheme() != "https" || to.scheme() == "https").then_some(to)
}

async fn read(
    mut response: Response,
    limits: Limits,
    room: &mut (dyn FnMut(u64) -> bool + Send),
) -> Result<Answer, OutboundError> {
    let is_good = response.status().is_success();
    let bytes_max = if is_good {
        limits.bytes_max
    } else {
        ERROR_BYTES_MAX
    };
    let announced = response.content_length().unwrap_or_default();
    if is_good && announced > bytes_max {
        return Err(OutboundError::TooLong { bytes_max });
    }
    let retry = Retry::of(response.headers());
    let status = response.status().as_u16();
    let mut body = BytesMut::new();
    loop {
        let next = timeout(limits.idle, response.chunk()).await;
        let Some(piece) = next.map_err(|_| OutboundError::Timeout)?.map_err(failed)? else {
            break;
        };
        let bytes = (body.len() + piece.len()) as u64;
        if bytes > bytes_max {
            if is_good {
                return Err(OutboundError::TooLong { bytes_max });
            }
            break;
        }
        if is_good && !room(bytes) {
            return Err(OutboundError::NoRoom { bytes });
        }
        body.extend_from_slice(&piece);
    }
    Ok(Answer {
        status,
        body: body.freeze(),
        retry,
    })
}

/// Finds a refusal of ours among the reasons of a failed request.
fn failed(error: reqwest::Error) -> OutboundError {
    let mut source: Option<&(dyn StdError + 'static)> = Some(&error);
    while let Some(reason) = source {
        if let Some(NoPublicAddress { host }) = reason.downcast_ref() {
            return OutboundError::Forbidden { host: host.clone() };
        }
        source = reason.source();
    }
    if error.is_timeout() {
        return OutboundError::Timeout;
    }
    OutboundError::Transport { source: error }
}

/// The resolver of the system.
#[derive(Debug)]
struct SystemDns;

impl Resolve for SystemDns {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            Ok(Box::new(found.collect::<Vec<_>>().into_iter()) as Addrs)
        })
    }
}

/// Another resolver's public addresses alone.
struct PublicDns(Arc<dyn Resolve>);

/// A name that leads to no public address.
#[derive(Debug, Error)]
#[error("{host} has no public address")]
struct NoPublicAddress {
    host: String,
}

impl Resolve for PublicDns {
    fn resolve(&self, name: Name) -> Resolving {
        let host = name.as_str().to_owned();
        let found = self.0.resolve(name);
        Box::pin(async move {
            let mut public: Vec<SocketAddr> = found.await?.collect();
            public.retain(|address| is_public(address.ip()));
            if public.is_empty() {
                return Err(NoPublicAddress { host }.into());
            }
            Ok(Box::new(public.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests;
