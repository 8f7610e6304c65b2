//! `cargo fuzz` entry of the target `part`.
#![no_main]

#[path = "../targets/part.rs"]
mod part;

libfuzzer_sys::fuzz_target!(|data: &[u8]| part::part(data));
