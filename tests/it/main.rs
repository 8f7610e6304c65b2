//! The one binary of tests that cross crates and processes; each module says what it shows.

mod cli;
mod fleet;
mod flight;
mod fuzz;
mod merge_laws;
mod minio;
mod model;
mod process;
mod slt;
mod tidy;
