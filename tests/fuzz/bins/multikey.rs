//! `cargo fuzz` entry of the target `multikey`.
#![no_main]

#[path = "../targets/multikey.rs"]
mod multikey;

libfuzzer_sys::fuzz_target!(|data: &[u8]| multikey::multikey(data));
