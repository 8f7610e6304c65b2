//! The wires of Alluvium: Arrow Flight SQL and health over gRPC, and a little HTTP, all on one port.
//!
//! A server holds nothing that is not in the bucket: a prepared statement's handle carries the statement and its
//! bound parameters, so any server answers any handle and a restart loses none.
//!
//! Guarantees: with a token set, every request but `/healthz` and `/readyz` is refused without it; off loopback a
//! server does not start without one. What goes wrong reaches the client as text, with a code chosen in [`error`].
//!
//! This crate does not know how a query is answered (`query` does), nor what a caller may read.

mod auth;
pub mod client;
pub mod error;
mod flight;
mod http;
mod metrics;
mod serve;

pub use auth::{Token, TokenError};
pub use error::ServeError;
pub use serve::{ServeConfig, Server};
