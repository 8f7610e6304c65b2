//! What tests and benchmarks of several crates need: repositories that are signed, worlds that are made from a
//! seed, and a store that fails as it is told.
//!
//! Nothing of this runs in production, and nothing here reads a clock or a source of randomness that it was not given.

pub mod fault_store;
pub mod relay;
pub mod repo;
pub mod web;
