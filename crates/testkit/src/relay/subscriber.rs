//! One reader's WebSocket: what is kept from its cursor on, then what comes, and what goes wrong on the way.

use std::sync::Arc;

use atproto::{Map, Value, cbor};
use axum::extract::ws::{CloseFrame, Message, WebSocket};
use bytes::Bytes;
use futures::{FutureExt, SinkExt};

use super::backlog::Start;
use super::fault::WireFault;
use super::host::{Reader, Shared};
use super::wire::Wire;
use crate::repo::encode_frame;

/// Serves a reader until either side ends.
pub(super) async fn run(
    host: Arc<Shared>,
    socket: WebSocket,
    cursor: Option<i64>,
    wire: Arc<Wire>,
) {
    let mut line = Line {
        socket,
        wire,
        is_open: true,
    };
    let Some((reader, start)) = host.join(cursor) else {
        line.error("FutureCursor").await;
        return;
    };
    let mut subscriber = Subscriber {
        host: &host,
        reader,
        place: 0,
        was_up_to_date: false,
    };
    subscriber.place = match start {
        Start::At(place) => place,
        Start::Outdated(place) => {
            line.binary(info("OutdatedCursor")).await;
            place
        }
        Start::Future => return,
    };
    subscriber.serve(&mut line).await;
}

/// Where a reader is.
struct Subscriber<'a> {
    host: &'a Shared,
    reader: Reader<'a>,
    place: u64,
    was_up_to_date: bool,
}

/// What is next for a reader.
enum Next {
    /// A message, what happens to it, and whether another one is there already.
    Message(Bytes, Option<(WireFault, Option<Bytes>)>, bool),
    Nothing,
    TooSlow,
}

impl Subscriber<'_> {
    async fn serve(&mut self, line: &mut Line) {
        let mut changes = self.host.changes();
        while line.is_open {
            changes.mark_unchanged();
            match self.next() {
                Next::Message(bytes, fault, has_more) => {
                    // Pings are answered while there is much to send.
                    while let Some(read) = line.socket.recv().now_or_never() {
                        line.is_open &= matches!(read, Some(Ok(_)));
                        if !line.is_open {
                            return;
                        }
                    }
                    match (fault, has_more) {
                        // One packet may hold several messages, or a flood would be slower than its reader.
                        (None, true) => line.feed(bytes).await,
                        (fault, _) => {
                            line.flush().await;
                            self.send(line, bytes, fault).await;
                        }
                    }
                    self.place += 1;
                    if line.is_open {
                        self.reader.is_at(self.place);
                    }
                }
                Next::TooSlow => line.error("ConsumerTooSlow").await,
                Next::Nothing => {
                    self.was_up_to_date = true;
                    tokio::select! {
                        changed = changes.changed() => line.is_open &= changed.is_ok(),
                        read = line.socket.recv() => line.is_open &= matches!(read, Some(Ok(_))),
                    }
                }
            }
        }
    }

    fn next(&self) -> Next {
        let mut state = self.host.state();
        let state = &mut *state;
        let behind = state.backlog.end() - self.place;
        let is_told_off = self.was_up_to_date && state.lag_max.is_some_and(|max| behind > max);
        if is_told_off || self.place < state.backlog.first() {
            return Next::TooSlow;
        }
        let Some(sent) = state.backlog.get(self.place) else {
            return Next::Nothing;
        };
        let earlier = |back: u16| self.place.checked_sub(u64::from(back));
        let backlog = &state.backlog;
        let planned = state.wire_plan.turn(|fault| match fault {
            // Only what is kept can come again.
            WireFault::Rewind(back) => {
                let sent = backlog.get(earlier(back)?)?;
                Some(Some(sent.bytes.clone()))
            }
            _ => Some(None),
        });
        let has_more = self.place + 1 < state.backlog.end();
        Next::Message(sent.bytes.clone(), planned, has_more)
    }

    async fn send(&self, line: &mut Line, bytes: Bytes, fault: Option<(WireFault, Option<Bytes>)>) {
        match fault {
            None => {}
            Some((WireFault::Rewind(_), earlier)) => {
                line.binary(earlier.expect("an earlier message")).await;
            }
            Some((WireFault::Twice, _)) => line.binary(bytes.clone()).await,
            Some((WireFault::Truncated, _)) => {
                return line.binary(bytes.slice(..bytes.len() / 2)).await;
            }
            Some((WireFault::Close(code), _)) => return line.close(code).await,
            Some((WireFault::Reset, _)) => return line.cut(0),
            Some((WireFault::MidFrame, _)) => {
                line.wire.cut_after(bytes.len() / 2);
                line.binary(bytes).await;
                return line.cut(0);
            }
            Some((WireFault::Silence, _)) => return line.silence().await,
            Some((WireFault::TooSlow, _)) => return line.error("ConsumerTooSlow").await,
            Some((WireFault::Junk, _)) => line.binary(Bytes::from_static(&[0xff; 100])).await,
            Some((WireFault::TooLong, _)) => line.binary(vec![0; 5_000_001].into()).await,
            Some((WireFault::Text, _)) => line.send(Message::text("hello")).await,
            Some((WireFault::Info, _)) => line.binary(info("Weather")).await,
            Some((WireFault::Op, _)) => line.binary(unknown_op()).await,
        }
        line.binary(bytes).await;
    }
}

/// A WebSocket that knows whether it is still of use.
struct Line {
    socket: WebSocket,
    wire: Arc<Wire>,
    is_open: bool,
}

impl Line {
    async fn send(&mut self, message: Message) {
        self.is_open &= self.socket.send(message).await.is_ok();
    }

    /// Sends a message with the next ones.
    async fn feed(&mut self, bytes: Bytes) {
        self.is_open &= self.socket.feed(Message::Binary(bytes)).await.is_ok();
    }

    async fn flush(&mut self) {
        self.is_open &= self.socket.flush().await.is_ok();
    }

    async fn binary(&mut self, bytes: Bytes) {
        self.send(Message::Binary(bytes)).await;
    }

    /// Ends the stream with an error.
    async fn error(&mut self, name: &str) {
        let header: Map = [("op", Value::from(-1))].into_iter().collect();
        let payload: Map = [("error", Value::from(name)), ("message", Value::from("!"))]
            .into_iter()
            .collect();
        let mut bytes = cbor::encode(&Value::Map(header));
        cbor::encode_into(&Value::Map(payload), &mut bytes);
        self.binary(bytes.into()).await;
        self.close(1008).await;
    }

    async fn close(&mut self, code: u16) {
        let reason = "as told".into();
        self.send(Message::Close(Some(CloseFrame { code, reason })))
            .await;
        // The other side answers, or goes.
        while let Some(Ok(_)) = self.socket.recv().await {}
        self.is_open = false;
    }

    fn cut(&mut self, bytes: usize) {
        self.wire.cut_after(bytes);
        self.is_open = false;
    }

    /// Sends nothing any more, and waits for the other side to go.
    async fn silence(&mut self) {
        self.wire.mute();
        while let Some(Ok(_)) = self.socket.recv().await {}
        self.is_open = false;
    }
}

fn info(name: &str) -> Bytes {
    let payload: Map = [("name", Value::from(name))].into_iter().collect();
    encode_frame("#info", payload).into()
}

fn unknown_op() -> Bytes {
    let header: Map = [("op", Value::from(7))].into_iter().collect();
    let mut bytes = cbor::encode(&Value::Map(header));
    cbor::encode_into(&Value::Map(Map::new()), &mut bytes);
    bytes.into()
}
