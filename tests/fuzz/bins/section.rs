//! `cargo fuzz` entry of the target `section`.
#![no_main]

#[path = "../targets/section.rs"]
mod section;

libfuzzer_sys::fuzz_target!(|data: &[u8]| section::section(data));
