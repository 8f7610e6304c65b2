//! Integration tests.

mod fuzz;
