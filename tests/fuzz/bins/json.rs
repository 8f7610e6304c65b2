//! `cargo fuzz` entry of the target `json`.
#![no_main]

#[path = "../targets/json.rs"]
mod json;

libfuzzer_sys::fuzz_target!(|data: &[u8]| json::json(data));
