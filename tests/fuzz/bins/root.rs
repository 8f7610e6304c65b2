//! `cargo fuzz` entry of the target `root`.
#![no_main]

#[path = "../targets/root.rs"]
mod root;

libfuzzer_sys::fuzz_target!(|data: &[u8]| root::root(data));
