//! The manifest chain: one small root per version, newest found by LIST.
//!
//! A commit creates version N+1 as a function of the newest root, and again after a lost race. What a root's
//! `body` means is the tables' affair.

mod chain;
mod commit;
mod root;

pub use chain::{Chain, ChainError, Listed};
pub use commit::{Apply, ApplyError, CommitError, Draft};
pub use root::{CommitKind, Kept, ROOT_BYTES_MAX, Root, Took, decode_root};
