//! `cargo fuzz` entry of the target `log_object`.
#![no_main]

#[path = "../targets/log_object.rs"]
mod log_object;

libfuzzer_sys::fuzz_target!(|data: &[u8]| log_object::log_object(data));
