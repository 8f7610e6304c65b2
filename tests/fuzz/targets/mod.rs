//! What is fuzzed: for each decoder a function of any bytes that panics if a promise of the decoder does not hold.
//!
//! Most inputs are refused, and that is fine; what is accepted must be what its documentation says it is.

pub(crate) mod body;
pub(crate) mod car;
pub(crate) mod catalog;
pub(crate) mod cbor;
pub(crate) mod cid;
pub(crate) mod coverage;
pub(crate) mod datetime;
pub(crate) mod did_document;
pub(crate) mod frame;
pub(crate) mod index;
pub(crate) mod json;
pub(crate) mod log_object;
pub(crate) mod marks;
pub(crate) mod mst;
pub(crate) mod multikey;
pub(crate) mod part;
pub(crate) mod recording;
pub(crate) mod root;
pub(crate) mod section;
pub(crate) mod syntax;
