//! An HTTP server on a free port of loopback that can be stopped and started again at the same address.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use axum::Router;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::wire::{Door, Peer};

/// A server; dropping it ends it and its connections.
#[derive(Debug)]
pub(super) struct Server {
    address: SocketAddr,
    app: Router,
    ended: Mutex<CancellationToken>,
}

impl Server {
    /// Listens on a free port; nothing is answered before [`Server::serve`].
    pub(super) async fn listen() -> TcpListener {
        let listener = TcpListener::bind("127.0.0.1:0").await;
        listener.expect("a free port on loopback")
    }

    /// Serves `app` to whoever `listener` accepts.
    pub(super) fn serve(listener: TcpListener, app: Router) -> Self {
        let server = Self {
            address: listener.local_addr().expect("an address"),
            app,
            ended: Mutex::default(),
        };
        server.run(listener);
        server
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends all connections and accepts no more.
    pub(super) fn stop(&self) {
        self.ended().cancel();
    }

    /// Listens again where it did before.
    pub(super) async fn start(&self) {
        assert!(self.ended().is_cancelled(), "it has been stopped");
        let listener = TcpListener::bind(self.address).await;
        *self.ended() = CancellationToken::new();
        self.run(listener.expect("the address is still free"));
    }

    fn run(&self, listener: TcpListener) {
        let ended = self.ended().clone();
        let door = Door {
            listener,
            ended: ended.clone(),
        };
        let service = self
            .app
            .clone()
            .into_make_service_with_connect_info::<Peer>();
        tokio::spawn(async move {
            tokio::select! {
                () = ended.cancelled() => {}
                served = axum::serve(door, service) => served.expect("it accepts for ever"),
            }
        });
    }

    fn ended(&self) -> std::sync::MutexGuard<'_, CancellationToken> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}
