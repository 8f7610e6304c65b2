//! `cargo fuzz` entry of the target `frame`.
#![no_main]

#[path = "../targets/frame.rs"]
mod frame;

libfuzzer_sys::fuzz_target!(|data: &[u8]| frame::frame(data));
