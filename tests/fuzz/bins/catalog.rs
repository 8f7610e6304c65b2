//! `cargo fuzz` entry of the target `catalog`.
#![no_main]

#[path = "../targets/catalog.rs"]
mod catalog;

libfuzzer_sys::fuzz_target!(|data: &[u8]| catalog::catalog(data));
