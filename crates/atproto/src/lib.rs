//! AT Protocol bytes turned into checked values.
//!
//! Everything here is a pure function of its arguments: no I/O, no clock, no async, no randomness.
//! A value of a type from this crate has passed the checks that its documentation names; there is no other way to make one.
//!
//! Reading order: [`Cid`] and [`Value`] are the data model, [`cbor`] and [`json`] its two encodings, [`syntax`] the
//! identifiers, [`PublicKey`] and [`DidDocument`] who may sign. [`Car`], [`mst`] and [`Commit`] are a repository's parts,
//! [`Frame`] what a stream says of it, and [`verify`] makes the one of the other.

pub mod car;
pub mod cbor;
pub mod cid;
pub mod commit;
pub mod crypto;
pub mod did_document;
pub mod frame;
pub mod json;
pub mod mst;
pub mod record;
pub mod syntax;
pub mod value;
pub mod verification;
pub mod verify;

pub use car::{Car, CarError};
pub use cbor::CborError;
pub use cid::{Cid, CidError, Codec};
pub use commit::{Commit, CommitError};
pub use crypto::{KeyError, PublicKey, SignatureError};
pub use did_document::{DidDocument, DidDocumentError};
pub use frame::{
    AccountFrame, Action, CommitFrame, Frame, FrameError, IdentityFrame, RepoOp, SyncFrame,
};
pub use json::JsonError;
pub use mst::MstError;
pub use syntax::{AtUri, Did, Handle, Language, Nsid, RecordKey, SyntaxError, Tid, datetime};
pub use value::{Map, Value};
pub use verification::Verification;
pub use verify::{
    RecordProblem, RefusedRecord, RepoRecord, VerifiedCommit, VerifiedOp, VerifiedRepo,
    VerifiedSync, VerifyError, verify_commit, verify_repo, verify_sync,
};
