//! tables.

pub use {crdt, storage};

mod builtin_lexicons;
pub mod lexicon;
pub mod links;
pub mod rebuild;
pub mod rows;
pub mod schema;
pub mod shred;
