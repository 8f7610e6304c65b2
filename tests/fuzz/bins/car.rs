//! `cargo fuzz` entry of the target `car`.
#![no_main]

#[path = "../targets/car.rs"]
mod car;

libfuzzer_sys::fuzz_target!(|data: &[u8]| car::car(data));
