//! `cargo fuzz` entry of the target `mst`.
#![no_main]

#[path = "../targets/mst.rs"]
mod mst;

libfuzzer_sys::fuzz_target!(|data: &[u8]| mst::mst(data));
