//! `cargo fuzz` entry of the target `syntax`.
#![no_main]

#[path = "../targets/syntax.rs"]
mod syntax;

libfuzzer_sys::fuzz_target!(|data: &[u8]| syntax::syntax(data));
