//! A network on loopback that misbehaves as it is told: relays, hosts of accounts (PDSes) and a directory of documents.
//!
//! [`FakeNetwork`] owns the accounts and is the honest model: what [`FakeNetwork::truth`] tells is what whoever follows
//! the network should hold in the end. Its [`FakeHost`]s speak what real ones speak: `subscribeRepos` with a window of
//! past messages and a cursor, `getRepo`, `listRepos` and their like; [`FakeDirectory`] answers documents by DID.
//!
//! What goes wrong is of three kinds, each planned by a script or a seed ([`Plan`]) and counted when it occurs, so that
//! a test can assert that it did:
//! - [`StreamFault`]: the source lies. It is in what the host keeps, so every reader gets the same lie.
//! - [`WireFault`] and [`Refusal`]: a connection fails. The next one gets the same messages whole.
//! - [`FetchFault`]: a request fails, or is answered with something else.
//!
//! Everything is made from seeds, and time is the generator's; nothing here reads a clock.

mod accounts;
mod backlog;
mod desk;
mod directory;
mod distort;
mod fault;
mod host;
mod network;
mod server;
mod subscriber;
mod wire;
mod xrpc;

pub use accounts::AccountTruth;
pub use backlog::CursorRule;
pub use desk::Endpoint;
pub use directory::FakeDirectory;
pub use fault::{FetchFault, Plan, Refusal, StreamFault, WireFault};
pub use host::FakeHost;
pub use network::{FakeNetwork, FakeNetworkConfig};

#[cfg(test)]
mod tests;
