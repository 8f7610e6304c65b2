//! The one binary of tests that cross crates and processes; each module says what it shows.

mod fuzz;
mod merge_laws;
mod model;
mod tidy;
