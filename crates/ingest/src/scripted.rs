//! A source that does what a test says, step by step: the test accepts each connection and sends each message.

use std::collections::VecDeque;
use std::net::SocketAddr;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::{WebSocketStream, accept_hdr_async};

use crate::subscribe::Endpoint;

/// A source on a port of its own.
pub(crate) struct Scripted {
    listener: TcpListener,
    address: SocketAddr,
}

/// A connection that a test accepted.
pub(crate) struct Accepted {
    /// The cursor that was asked for.
    pub(crate) cursor: Option<i64>,
    pub(crate) socket: WebSocketStream<TcpStream>,
}

impl Scripted {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        Self { listener, address }
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        Endpoint::parse(&self.name()).expect("a source")
    }

    pub(crate) fn name(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The next connection.
    pub(crate) async fn accept(&self) -> Accepted {
        let (stream, _) = self.listener.accept().await.expect("accepted");
        let mut asked = None;
        #[allow(
            clippy::result_large_err,
            reason = "the callback's type is the library's"
        )]
        let look = |request: &Request, response: Response| {
            asked = Some(request.uri().to_string());
            Ok(response)
        };
        let socket = accept_hdr_async(stream, look).await.expect("a WebSocket");
        let asked = asked.expect("a request");
        assert!(
            asked.starts_with("/xrpc/com.atproto.sync.subscribeRepos"),
            "{asked}"
        );
        let cursor = asked.split_once("cursor=").map(|(_, cursor)| cursor);
        Accepted {
            cursor: cursor.map(|cursor| cursor.parse().expect("a number")),
            socket,
        }
    }

    /// The next connection, which is closed before anything is read of it.
    pub(crate) async fn refuse_at_once(&self) {
        let (stream, _) = self.listener.accept().await.expect("accepted");
        drop(stream);
    }

    /// The next connection, which is answered with an HTTP response and closed.
    pub(crate) async fn refuse(&self, response: &str) {
        let (mut stream, _) = self.listener.accept().await.expect("accepted");
        let mut request = VecDeque::new();
        while !request.make_contiguous().ends_with(b"\r\n\r\n") {
            let byte = stream.read_u8().await.expect("a request");
            request.push_back(byte);
        }
        let response = format!("HTTP/1.1 {response}\r\nContent-Length: 0\r\n\r\n");
        stream.write_all(response.as_bytes()).await.expect("sent");
        stream.shutdown().await.expect("closed");
    }
}

impl Accepted {
    pub(crate) async fn send(&mut self, frame: impl AsRef<[u8]>) {
        let frame = Bytes::copy_from_slice(frame.as_ref());
        let sent = self.socket.send(Message::Binary(frame)).await;
        sent.expect("sent");
    }

    pub(crate) async fn close(mut self, code: u16) {
        let frame = CloseFrame {
            code: code.into(),
            reason: "as told".into(),
        };
        let sent = self.socket.close(Some(frame)).await;
        sent.expect("sent");
        self.ended().await;
    }

    /// Waits until the other side is gone.
    pub(crate) async fn ended(mut self) {
        while let Some(Ok(_)) = self.socket.next().await {}
    }
}
