//! The one binary of tests that cross crates and processes; each module says what it shows.

mod fuzz;
mod model;
mod tidy;
