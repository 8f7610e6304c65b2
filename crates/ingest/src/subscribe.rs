//! One WebSocket connection to `com.atproto.sync.subscribeRepos` as a stream of messages.
//!
//! A connection ends once and says why. It asks a source that is silent whether it is still there before it gives it
//! up, and gives up one that only ever answers that: connecting anew costs nothing. What is in a message is not looked
//! at, nothing is read ahead, and nobody connects again here.

mod backoff;
mod endpoint;

use std::error::Error as StdError;
use std::time::Duration;

use atproto::frame::FRAME_BYTES_MAX;
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error as SocketError, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};

use crate::outbound::Retry;

pub(crate) use backoff::Backoff;
pub use backoff::BackoffSettings;
pub use endpoint::{Endpoint, EndpointError};

/// The longest message that is read at all. One between the protocol's limit and this is read to be refused by name;
/// a longer one ends the connection.
const MESSAGE_BYTES_MAX: usize = 2 * FRAME_BYTES_MAX;

const USER_AGENT: &str = concat!("alluvium/", env!("CARGO_PKG_VERSION"));

/// How long a connection waits for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubscribeSettings {
    /// For the connection, TLS and the answer to the request together.
    pub connect: Duration,
    /// For anything at all, before the source is asked whether it is there.
    pub silence: Duration,
    /// For the answer to that.
    pub answer: Duration,
    /// For a message, while the source does answer.
    pub message: Duration,
}

impl Default for SubscribeSettings {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(20),
            silence: Duration::from_secs(20),
            answer: Duration::from_secs(10),
            message: Duration::from_secs(300),
        }
    }
}

/// Why there is no connection.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// It took too long.
    #[error("no answer in time")]
    Timeout,
    /// The source answered with an HTTP status.
    #[error("answered with HTTP {status}")]
    Status {
        /// The status.
        status: u16,
        /// When it would like to be asked again.
        retry: Option<Retry>,
    },
    /// It can't be reached, or does not speak TLS or WebSocket.
    #[error("can't be reached")]
    Transport {
        /// What went wrong.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
}

impl ConnectError {
    /// A stable word for counting.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Timeout => "connect_timeout",
            Self::Status { status: 429, .. } => "rate_limited",
            Self::Status {
                status: 400..=499, ..
            } => "refused",
            Self::Status { .. } => "server_error",
            Self::Transport { .. } => "unreachable",
        }
    }

    /// What an operator might look at.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Status { status: 429, .. } => {
                "the source limits connections: it is asked again later"
            }
            Self::Status {
                status: 400..=499, ..
            } => "is this the URL of a relay or PDS?",
            Self::Timeout | Self::Status { .. } | Self::Transport { .. } => {
                "it is tried again; nothing is lost while the source keeps its window"
            }
        }
    }
}

/// Why a connection ended.
#[derive(Debug, Error)]
pub enum Disconnect {
    /// The source closed it.
    #[error("closed by the source ({code})")]
    Closed {
        /// The WebSocket close code; 1005 if it gave none, 1006 if it only hung up.
        code: u16,
    },
    /// The source did not answer when it was asked whether it is there.
    #[error("the source fell silent")]
    Silent,
    /// The source answers but sends nothing.
    #[error("the source sends nothing")]
    Idle,
    /// A message is longer than any may be.
    #[error("a message is longer than {MESSAGE_BYTES_MAX} bytes")]
    TooLong,
    /// A message is text.
    #[error("a message is text and not binary")]
    Text,
    /// The connection broke.
    #[error("the connection broke")]
    Transport {
        /// What went wrong.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
}

impl Disconnect {
    /// A stable word for counting.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Closed { .. } => "closed",
            Self::Silent => "silent",
            Self::Idle => "idle",
            Self::TooLong => "message_too_long",
            Self::Text => "message_text",
            Self::Transport { .. } => "connection_broken",
        }
    }
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Subscription {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    settings: SubscribeSettings,
    /// When anything came last, be it the answer to a ping.
    heard: Instant,
    /// When a message came last.
    told: Instant,
    /// Whether the source was asked since if it is there.
    is_asked: bool,
    /// When a message was given out last: from then on until somebody asks, nobody listens.
    left: Instant,
}

impl Subscription {
    /// Connects behind `cursor`, or to what is new.
    pub(crate) async fn connect(
        endpoint: &Endpoint,
        cursor: Option<i64>,
        settings: SubscribeSettings,
    ) -> Result<Self, ConnectError> {
        let request = endpoint.at(cursor).as_str().into_client_request();
        let mut request = request.map_err(transport)?;
        let agent = HeaderValue::from_static(USER_AGENT);
        request.headers_mut().insert("User-Agent", agent);
        let limits = WebSocketConfig::default()
            .max_message_size(Some(MESSAGE_BYTES_MAX))
            .max_frame_size(Some(MESSAGE_BYTES_MAX));
        // It holds buffers for TLS: some 20 KiB.
        let connect = Box::pin(connect_async_with_config(request, Some(limits), true));
        let socket = match timeout(settings.connect, connect).await {
            Err(_) => return Err(ConnectError::Timeout),
            Ok(Ok((socket, _))) => socket,
            Ok(Err(SocketError::Http(answer))) => {
                return Err(ConnectError::Status {
                    status: answer.status().as_u16(),
                    retry: Retry::of(answer.headers()),
                });
            }
            Ok(Err(error)) => return Err(transport(error)),
        };
        let now = Instant::now();
        Ok(Self {
            socket,
            settings,
            heard: now,
            told: now,
            is_asked: false,
            left: now,
        })
    }

    /// The next message. Dropping the future loses nothing.
    ///
    /// Time in which nobody asks is no silence of the source's.
    pub(crate) async fn next(&mut self) -> Result<Bytes, Disconnect> {
        let now = Instant::now();
        let unheard = now - self.left;
        self.heard += unheard;
        self.told += unheard;
        self.left = now;
        loop {
            let wait = match self.is_asked {
                true => self.settings.answer,
                false => self.settings.silence,
            };
            let limit = (self.heard + wait).min(self.told + self.settings.message);
            let message = match timeout_at(limit, self.socket.next()).await {
                Ok(Some(message)) => message,
                Ok(None) => return Err(Disconnect::Closed { code: 1006 }),
                Err(_) => {
                    self.ask().await?;
                    continue;
                }
            };
            self.heard = Instant::now();
            self.is_asked = false;
            match message {
                Ok(Message::Binary(bytes)) => {
                    self.told = self.heard;
                    self.left = self.heard;
                    return Ok(bytes);
                }
                Ok(Message::Text(_)) => return Err(Disconnect::Text),
                Ok(Message::Close(frame)) => {
                    let code = frame.map_or(1005, |frame| u16::from(frame.code));
                    return Err(Disconnect::Closed { code });
                }
                Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => {}
                Err(SocketError::ConnectionClosed | SocketError::AlreadyClosed) => {
                    return Err(Disconnect::Closed { code: 1006 });
                }
                Err(SocketError::Capacity(_)) => return Err(Disconnect::TooLong),
                Err(error) => {
                    return Err(Disconnect::Transport {
                        source: Box::new(error),
                    });
                }
            }
        }
    }

    /// Asks a source that is silent whether it is there; an error if it was asked already, or says nothing else.
    async fn ask(&mut self) -> Result<(), Disconnect> {
        let now = Instant::now();
        if self.is_asked && now >= self.heard + self.settings.answer {
            return Err(Disconnect::Silent);
        }
        if now >= self.told + self.settings.message {
            return Err(Disconnect::Idle);
        }
        // Before it is sent: who drops us within the sending has asked.
        self.is_asked = true;
        self.heard = now;
        let ping = self.socket.send(Message::Ping(Bytes::new()));
        match timeout(self.settings.answer, ping).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Disconnect::Transport {
                source: Box::new(error),
            }),
            Err(_) => Err(Disconnect::Silent),
        }
    }
}

fn transport(error: SocketError) -> ConnectError {
    ConnectError::Transport {
        source: Box::new(error),
    }
}

#[cfg(test)]
mod tests;
