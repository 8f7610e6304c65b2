//! `cargo fuzz` entry of the target `index`.
#![no_main]

#[path = "../targets/index.rs"]
mod index;

libfuzzer_sys::fuzz_target!(|data: &[u8]| index::index(data));
