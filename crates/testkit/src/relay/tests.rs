use atproto::Frame;
use futures::StreamExt;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::*;

mod accounts;
mod fetch;
mod stream;
mod wire;

/// A WebSocket's client.
struct Client(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Client {
    async fn connect(host: &FakeHost, cursor: Option<i64>) -> Result<Self, Error> {
        let mut url = format!("{}/xrpc/com.atproto.sync.subscribeRepos", host.ws_url());
        if let Some(cursor) = cursor {
            url = format!("{url}?cursor={cursor}");
        }
        Ok(Self(connect_async(url).await?.0))
    }

    async fn message(&mut self) -> Option<Result<Message, Error>> {
        self.0.next().await
    }

    async fn frame(&mut self) -> Frame {
        match self.message().await {
            Some(Ok(Message::Binary(bytes))) => Frame::decode(&bytes).expect("a frame"),
            other => panic!("no frame: {other:?}"),
        }
    }

    async fn seqs(&mut self, count: usize) -> Vec<i64> {
        let mut seqs = Vec::new();
        for _ in 0..count {
            seqs.push(seq(&self.frame().await).expect("a number"));
        }
        seqs
    }
}

fn seq(frame: &Frame) -> Option<i64> {
    match frame {
        Frame::Commit(frame) => Some(frame.seq),
        Frame::Sync(frame) => Some(frame.seq),
        Frame::Identity(frame) => Some(frame.seq),
        Frame::Account(frame) => Some(frame.seq),
        Frame::Info { .. } | Frame::Error { .. } | Frame::Unknown { .. } => None,
    }
}

/// The decoded messages that a host keeps.
fn kept(host: &FakeHost) -> Vec<Frame> {
    let kept = host.kept().into_iter();
    kept.map(|bytes| Frame::decode(&bytes).expect("a frame"))
        .collect()
}

fn kept_seqs(host: &FakeHost) -> Vec<i64> {
    kept(host).iter().filter_map(seq).collect()
}

async fn network() -> FakeNetwork {
    FakeNetwork::start(FakeNetworkConfig::default()).await
}
