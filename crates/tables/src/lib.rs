//! tables.

pub use {crdt, storage};

mod builtin_lexicons;
pub mod lexicon;
pub mod schema;
