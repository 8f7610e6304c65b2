//! A small HTTP server that answers as a test says, and remembers what it was asked.
//!
//! It listens on the loopback address, at a port of the system's choice, until it is dropped. What is asked, and in which
//! order, is told by [`Web::asked`]; the server itself knows no protocol but HTTP.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, Response, StatusCode};
use bytes::Bytes;
use futures::StreamExt;
use tokio_util::sync::{CancellationToken, DropGuard};

/// What the server says to one request.
#[derive(Clone, Debug)]
pub struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    pieces: Vec<Bytes>,
    is_endless: bool,
}

impl Reply {
    /// An answer of this status without a body.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            pieces: Vec::new(),
            is_endless: false,
        }
    }

    /// An answer of these bytes.
    #[must_use]
    pub fn bytes(bytes: impl Into<Bytes>) -> Self {
        Self {
            pieces: vec![bytes.into()],
            ..Self::status(200)
        }
    }

    /// An answer of this JSON.
    #[must_use]
    pub fn json(json: &serde_json::Value) -> Self {
        Self::bytes(json.to_string()).with("content-type", "application/json")
    }

    /// An answer in pieces, of no length that is told before.
    #[must_use]
    pub fn pieces<B: Into<Bytes>>(pieces: impl IntoIterator<Item = B>) -> Self {
        Self {
            pieces: pieces.into_iter().map(Into::into).collect(),
            ..Self::status(200)
        }
    }

    /// An error as XRPC has it.
    #[must_use]
    pub fn error(status: u16, error: &str) -> Self {
        let mut reply = Self::json(&serde_json::json!({"error": error, "message": "as told"}));
        reply.status = status;
        reply
    }

    /// A redirect.
    #[must_use]
    pub fn redirect(to: impl Into<String>) -> Self {
        Self::status(302).with("location", to)
    }

    /// The same with one more header.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// The same, but its body never ends.
    #[must_use]
    pub fn endless(mut self) -> Self {
        self.is_endless = true;
        self
    }

    fn response(self) -> Response<Body> {
        let is_whole = !self.is_endless && self.pieces.len() < 2;
        let body = if is_whole {
            Body::from(self.pieces.into_iter().next().unwrap_or_default())
        } else {
            let pieces = futures::stream::iter(self.pieces.into_iter().map(std::io::Result::Ok));
            if self.is_endless {
                Body::from_stream(pieces.chain(futures::stream::pending()))
            } else {
                Body::from_stream(pieces)
            }
        };
        let mut response = Response::new(body);
        *response.status_mut() = StatusCode::from_u16(self.status).expect("a status");
        for (name, value) in self.headers {
            let value = HeaderValue::from_str(&value).expect("a header's value");
            response
                .headers_mut()
                .append(HeaderName::from_static(name), value);
        }
        response
    }
}

/// A server that runs until it is dropped.
#[derive(Debug)]
pub struct Web {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    _stop: DropGuard,
}

impl Web {
    /// Serves what `answer` says to each path with its query.
    ///
    /// # Panics
    /// If no port is free.
    pub async fn serve<F>(answer: F) -> Self
    where
        F: Fn(&str) -> Reply + Send + Sync + 'static,
    {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0))
            .await
            .expect("a free port");
        let address = listener.local_addr().expect("bound");
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let stop = CancellationToken::new();
        let (answer, log) = (Arc::new(answer), Arc::clone(&asked));
        let app = Router::new().fallback(move |request: Request| {
            let (answer, log) = (Arc::clone(&answer), Arc::clone(&log));
            async move {
                let path = request.uri().path_and_query().map_or("/", |p| p.as_str());
                log.lock().expect("no panic").push(path.to_owned());
                answer(path).response()
            }
        });
        let stopped = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                served = axum::serve(listener, app) => served.expect("a listener serves"),
                () = stopped.cancelled() => {}
            }
        });
        Self {
            address,
            asked,
            _stop: stop.drop_guard(),
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of a path.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// What it was asked so far, in order: paths with their queries.
    ///
    /// # Panics
    /// If an answer panicked.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("no panic").clone()
    }
}
