//! Binds one port and answers all wires on it until told to stop.
//!
//! Stopping is graceful: new connections are refused, answers under way have [`DRAIN_TIMEOUT`] to end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arrow_flight::flight_service_server::FlightServiceServer;
use axum::Router;
use axum::middleware;
use axum::serve::ListenerExt as _;
use query::Engine;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use crate::auth::{self, Token};
use crate::error::ServeError;
use crate::flight::FlightSql;
use crate::{http, metrics};

/// How long answers under way may go on after a stop was asked for.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// The largest message that a client may send: parameters, mostly.
const REQUEST_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What a server is started with.
#[derive(Debug)]
pub struct ServeConfig {
    /// `HOST:PORT`; port 0 takes a free one.
    pub listen: String,
    /// What clients have to bring. `None` is only possible on loopback.
    pub token: Option<Token>,
    /// What answers their queries.
    pub engine: Arc<Engine>,
}

/// A server whose port is bound, and which does not answer yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    router: Router,
    /// Says to clients of gRPC that it stops; a process that answers no queries has none.
    health: Option<tonic_health::server::HealthReporter>,
}

impl Server {
    /// Binds the port, so that its number is known and a refusal comes before any work.
    ///
    /// # Errors
    /// [`ServeError::TokenMissing`] if other machines could reach it and no token is asked for; the others if the
    /// address is unknown or taken.
    pub async fn bind(config: ServeConfig) -> Result<Server, ServeError> {
        let ServeConfig {
            listen,
            token,
            engine,
        } = config;
        let (listener, address) = bind(listen, token.as_ref()).await?;
        let (health, health_service) = tonic_health::server::health_reporter();
        let flight = FlightServiceServer::new(FlightSql::new(Arc::clone(&engine)))
            .max_decoding_message_size(REQUEST_BYTES_MAX);
        let router = Routes::new(flight)
            .add_service(health_service)
            .into_axum_router()
            .merge(http::routes(engine))
            .fallback(http::unknown)
            .layer(middleware::from_fn_with_state(token, auth::gate));
        Ok(Server {
            listener,
            address,
            router,
            health: Some(health),
        })
    }

    /// Binds the port of a process that answers no queries: it has `/healthz`, `/readyz` and `/metrics` only.
    ///
    /// # Errors
    /// As [`Server::bind`].
    pub async fn bind_without_queries(
        listen: String,
        token: Option<Token>,
    ) -> Result<Server, ServeError> {
        let (listener, address) = bind(listen, token.as_ref()).await?;
        let router = http::routes_without_queries()
            .fallback(http::unknown)
            .layer(middleware::from_fn_with_state(token, auth::gate));
        Ok(Server {
            listener,
            address,
            router,
            health: None,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `shutdown` is cancelled and the answers under way have ended, or their time is up.
    ///
    /// # Errors
    /// [`ServeError::Listener`] if the port can no longer be listened on.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), ServeError> {
        let Server {
            listener,
            address,
            router,
            health,
        } = self;
        if let Some(health) = &health {
            health.set_serving::<FlightServiceServer<FlightSql>>().await;
        }
        tracing::info!(%address, "serving");
        // Without TCP_NODELAY a small answer waits for the client's delayed acknowledgement, 40 ms.
        let listener = listener.tap_io(|stream| {
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "TCP_NODELAY could not be set");
            }
        });
        let stopping = shutdown.clone();
        let graceful = async move {
            stopping.cancelled().await;
            if let Some(health) = health {
                health
                    .set_not_serving::<FlightServiceServer<FlightSql>>()
                    .await;
            }
        };
        let serving = axum::serve(listener, router)
            .with_graceful_shutdown(graceful)
            .into_future();
        tokio::select! {
            ended = serving => ended.map_err(|source| ServeError::Listener { source }),
            () = drained(&shutdown) => {
                tracing::warn!(seconds = DRAIN_TIMEOUT.as_secs(), "stopped while answers were under way");
                Ok(())
            }
            () = upkeep() => Ok(()),
        }
    }
}

/// Binds the port and starts recording; refuses to be open to other machines without a token.
async fn bind(
    listen: String,
    token: Option<&Token>,
) -> Result<(TcpListener, SocketAddr), ServeError> {
    let addresses = resolve(&listen).await?;
    if let Some(open) = addresses.iter().find(|address| !address.ip().is_loopback())
        && token.is_none()
    {
        return Err(ServeError::TokenMissing { address: *open });
    }
    let bound = async {
        let listener = TcpListener::bind(addresses.as_slice()).await?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    };
    let bound = bound
        .await
        .map_err(|source| ServeError::Bind { listen, source })?;
    metrics::recorder();
    Ok(bound)
}

async fn resolve(listen: &str) -> Result<Vec<SocketAddr>, ServeError> {
    let found = tokio::net::lookup_host(listen).await;
    match found.map(|addresses| addresses.collect::<Vec<_>>()) {
        Ok(addresses) if !addresses.is_empty() => Ok(addresses),
        Ok(_) => Err(ServeError::Address {
            listen: listen.to_owned(),
            source: std::io::ErrorKind::NotFound.into(),
        }),
        Err(source) => Err(ServeError::Address {
            listen: listen.to_owned(),
            source,
        }),
    }
}

async fn drained(shutdown: &CancellationToken) {
    shutdown.cancelled().await;
    tokio::time::sleep(DRAIN_TIMEOUT).await;
}

/// Never returns.
async fn upkeep() {
    let mut interval = tokio::time::interval(metrics::UPKEEP_INTERVAL);
    loop {
        interval.tick().await;
        metrics::recorder().run_upkeep();
    }
}
