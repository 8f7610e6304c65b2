//! The one binary of tests that cross crates and processes; each module says what it shows.

mod accounts;
mod adverse;
mod cli;
mod damage;
mod examples;
mod firehose;
mod fleet;
mod flight;
mod follow;
mod freshness;
mod fuzz;
mod lexicon;
mod living;
mod lossless;
mod merge_laws;
mod minio;
mod model;
mod process;
mod repo_car;
mod slt;
mod tidy;
mod world;
