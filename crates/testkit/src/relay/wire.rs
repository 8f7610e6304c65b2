//! The TCP side of a fake server: connections that can be cut after some bytes, muted, or all be ended at once.

use std::future::Future;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// What is to happen to one connection.
#[derive(Debug, Default)]
pub(super) struct Wire(Mutex<Orders>);

#[derive(Debug, Default, Clone, Copy)]
struct Orders {
    /// How many bytes may still be written before it is cut.
    left: Option<usize>,
    is_muted: bool,
}

impl Wire {
    /// Cuts the connection when `bytes` more have been written.
    pub(super) fn cut_after(&self, bytes: usize) {
        self.orders().left = Some(bytes);
    }

    /// Writes nothing any more, though the connection stays open.
    pub(super) fn mute(&self) {
        self.orders().is_muted = true;
    }

    fn orders(&self) -> std::sync::MutexGuard<'_, Orders> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Accepts connections until it is ended, which ends them too.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) listener: TcpListener,
    pub(super) ended: CancellationToken,
}

impl Listener for Door {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let (stream, address) = Listener::accept(&mut self.listener).await;
        let connection = Connection {
            stream,
            wire: Arc::default(),
            ended: Box::pin(self.ended.clone().cancelled_owned()),
        };
        (connection, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// One accepted connection.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    wire: Arc<Wire>,
    ended: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Connection {
    /// Whether it goes on; it wakes its task when the server ends.
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<Orders> {
        let orders = *self.wire.orders();
        if orders.left == Some(0) || self.ended.as_mut().poll(context).is_ready() {
            return Err(ErrorKind::ConnectionReset.into());
        }
        Ok(orders)
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let orders = self.check(context)?;
        if orders.is_muted {
            return Poll::Pending;
        }
        let allowed = orders.left.unwrap_or(bytes.len()).min(bytes.len());
        let written = Pin::new(&mut self.stream).poll_write(context, &bytes[..allowed]);
        if let Poll::Ready(Ok(written)) = written
            && let Some(left) = &mut self.wire.orders().left
        {
            *left -= written;
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// The connection that a request came by.
#[derive(Debug, Clone)]
pub(super) struct Peer(pub(super) Arc<Wire>);

impl Connected<IncomingStream<'_, Door>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Door>) -> Self {
        Self(Arc::clone(&stream.io().wire))
    }
}
