//! `cargo fuzz` entry of the target `cbor`.
#![no_main]

#[path = "../targets/cbor.rs"]
mod cbor;

libfuzzer_sys::fuzz_target!(|data: &[u8]| cbor::cbor(data));
