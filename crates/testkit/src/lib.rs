//! What tests and benchmarks of several crates need: repositories that are signed, and worlds that are made from a seed.
//!
//! Nothing of this runs in production, and nothing here reads a clock or a source of randomness that it was not given.

pub mod repo;
