//! `cargo fuzz` entry of the target `cid`.
#![no_main]

#[path = "../targets/cid.rs"]
mod cid;

libfuzzer_sys::fuzz_target!(|data: &[u8]| cid::cid(data));
