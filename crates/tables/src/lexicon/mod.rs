//! Lexicons: what record types look like, and the columns that follow from it.
//!
//! [`LexiconDoc`] reads one Lexicon's JSON, a [`LexiconSet`] resolves references between many, and [`record_type`] turns
//! a record's definition into [`Column`]s. All of it is pure. A Lexicon is a hint, never a law: a record that breaks its
//! Lexicon is kept as it is, in `extra`. So constraints (lengths, known values, required fields) are not read at all.

pub(crate) mod columns;
mod document;
#[cfg(test)]
mod tests;

pub use columns::{Column, ColumnKind, RecordType, StructField, record_type, snake_case};
pub use document::{
    Def, Format, LexiconDoc, LexiconError, LexiconSet, Malformed, ObjectDef, TypeDef,
};
