//! `cargo fuzz` entry of the target `marks`.
#![no_main]

#[path = "../targets/marks.rs"]
mod marks;

libfuzzer_sys::fuzz_target!(|data: &[u8]| marks::marks(data));
