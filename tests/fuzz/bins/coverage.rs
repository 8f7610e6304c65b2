//! `cargo fuzz` entry of the target `coverage`.
#![no_main]

#[path = "../targets/coverage.rs"]
mod coverage;

libfuzzer_sys::fuzz_target!(|data: &[u8]| coverage::coverage(data));
