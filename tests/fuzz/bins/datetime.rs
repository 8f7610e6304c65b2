//! `cargo fuzz` entry of the target `datetime`.
#![no_main]

#[path = "../targets/datetime.rs"]
mod datetime;

libfuzzer_sys::fuzz_target!(|data: &[u8]| datetime::datetime(data));
