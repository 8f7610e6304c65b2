//! AT Protocol bytes turned into checked values.
//!
//! Everything here is a pure function of its arguments: no I/O, no clock, no async, no randomness.
//! A value of a type from this crate has passed the checks that its documentation names; there is no other way to make one.
//!
//! Reading order: [`Cid`] and [`Value`] are the data model, [`cbor`] and [`json`] its two encodings, [`syntax`] the
//! identifiers, [`PublicKey`] and [`DidDocument`] who may sign.

pub mod cbor;
pub mod cid;
pub mod crypto;
pub mod did_document;
pub mod json;
pub mod record;
pub mod syntax;
pub mod value;

pub use cbor::CborError;
pub use cid::{Cid, CidError, Codec};
pub use crypto::{KeyError, PublicKey, SignatureError};
pub use did_document::{DidDocument, DidDocumentError};
pub use json::JsonError;
pub use syntax::{AtUri, Did, Handle, Language, Nsid, RecordKey, SyntaxError, Tid, datetime};
pub use value::{Map, Value};
