//! Where a source is subscribed to, and what it is called.
//!
//! The name is the host's own URL, as DID documents write a host's: so what a host says of its accounts is known to be
//! its own word. Two ways to write one source are one name.

use std::sync::Arc;

use thiserror::Error;
use url::Url;

const PATH: &str = "/xrpc/com.atproto.sync.subscribeRepos";

/// Why a text names no source.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EndpointError {
    /// It is no URL.
    #[error("`{text}` is no URL of a relay or PDS, such as https://relay.example.com")]
    Url {
        /// The text.
        text: String,
        /// Why not.
        source: url::ParseError,
    },
    /// It is a URL of another kind.
    #[error(
        "`{text}` is no URL of a relay or PDS, such as https://relay.example.com, http://localhost:2583 or wss://…"
    )]
    Scheme {
        /// The text.
        text: String,
    },
}

/// A source that is subscribed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    name: Arc<str>,
    /// `ws` or `wss`, without a query.
    socket: Url,
}

impl Endpoint {
    /// Reads what an operator wrote: a URL of HTTP or WebSocket, with or without the method's path, or a host alone.
    ///
    /// # Errors
    /// [`EndpointError`].
    pub fn parse(text: &str) -> Result<Self, EndpointError> {
        let wrong = || EndpointError::Scheme {
            text: text.to_owned(),
        };
        let with_scheme = match text.contains("://") {
            true => text.to_owned(),
            false => format!("https://{text}"),
        };
        let mut url = Url::parse(&with_scheme).map_err(|source| EndpointError::Url {
            text: text.to_owned(),
            source,
        })?;
        let (plain, socket) = match url.scheme() {
            "https" | "wss" => ("https", "wss"),
            "http" | "ws" => ("http", "ws"),
            _ => return Err(wrong()),
        };
        let is_named = url.host_str().is_some_and(|host| !host.is_empty());
        if !is_named || !url.username().is_empty() || url.password().is_some() {
            return Err(wrong());
        }
        url.set_query(None);
        url.set_fragment(None);
        let path = url.path().trim_end_matches('/');
        let path = path.strip_suffix(PATH).unwrap_or(path).to_owned();
        url.set_path(&path);
        url.set_scheme(plain).map_err(|()| wrong())?;
        let name = url.as_str().trim_end_matches('/').into();
        url.set_scheme(socket).map_err(|()| wrong())?;
        url.set_path(&format!("{path}{PATH}"));
        Ok(Self { name, socket: url })
    }

    /// The source's name: its URL of HTTP, without a slash at its end.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The URL that is connected to.
    #[must_use]
    pub fn at(&self, cursor: Option<i64>) -> Url {
        let mut url = self.socket.clone();
        if let Some(cursor) = cursor {
            url.set_query(Some(&format!("cursor={cursor}")));
        }
        url
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_ways_to_write_a_source_are_one_name() {
        for text in [
            "relay.example",
            "https://relay.example/",
            "wss://relay.example",
            "https://relay.example:443",
            "wss://relay.example/xrpc/com.atproto.sync.subscribeRepos?cursor=5",
        ] {
            let endpoint = Endpoint::parse(text).expect("a source");
            assert_eq!(&**endpoint.name(), "https://relay.example", "{text}");
            assert_eq!(
                endpoint.at(Some(7)).as_str(),
                "wss://relay.example/xrpc/com.atproto.sync.subscribeRepos?cursor=7"
            );
        }
    }

    #[test]
    fn a_port_a_path_and_a_plain_connection_are_kept() {
        let endpoint = Endpoint::parse("ws://127.0.0.1:2583/relay/").expect("a source");
        assert_eq!(&**endpoint.name(), "http://127.0.0.1:2583/relay");
        assert_eq!(
            endpoint.at(None).as_str(),
            "ws://127.0.0.1:2583/relay/xrpc/com.atproto.sync.subscribeRepos"
        );
    }

    #[test]
    fn what_is_no_source_is_told_with_an_example() {
        for text in [
            "s3://bucket",
            "https://",
            "https://user@relay.example",
            "a b",
        ] {
            let error = Endpoint::parse(text).expect_err("no source").to_string();
            assert!(
                error.contains(text) && error.contains("https://"),
                "{error}"
            );
        }
    }
}
