//! Signed repositories made from a seed: keys, commits, frames, CARs, DID documents, and a small network of them.
//!
//! A [`RepoBuilder`] is what a well-behaved host keeps of one account. It writes what such hosts send: each `#commit`
//! carries the commit block, the records, and just those nodes of the tree that prove the operations and let a reader
//! undo them. Frames are plain values of [`atproto::frame`] until they are encoded, so a test makes a forgery by
//! changing one. The same seed gives the same bytes. Time is an argument; nothing here reads a clock.

mod account;
mod builder;
mod encode;
mod forgery;
mod network;
mod oddity;
mod record;

pub use account::{Account, Curve};
pub use builder::{CarFlaw, RepoBuilder, Stamp, Write};
pub use encode::{encode_account, encode_commit, encode_frame, encode_identity, encode_sync};
pub use forgery::{Forgery, resign};
pub use network::{Message, Network, NetworkConfig};
pub use oddity::Oddity;
pub use record::{Kind, Made, RecordMaker};

#[cfg(test)]
mod tests;
