//! `cargo fuzz` entry of the target `did_document`.
#![no_main]

#[path = "../targets/did_document.rs"]
mod did_document;

libfuzzer_sys::fuzz_target!(|data: &[u8]| did_document::did_document(data));
