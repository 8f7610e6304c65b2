//! From recorded frames and repositories to acknowledged appends.
//!
//! I/O is at the edges: a [`Recording`] gives frames, a [`ChangeLog`](crdt::ChangeLog) takes batches. Between them is
//! what one source's frames go through: decoding, admission in that source's order ([`admission`]), verification on
//! all cores in order per repo, and their change into a batch that carries the source's cursor. What fails is counted
//! by its reason and leaves a notice, without content; the rest goes in.
//!
//! This crate knows no tables but through [`Known`], which answers what the bucket already holds of a source.

pub mod admission;
mod batching;
pub mod did_docs;
pub mod filter;
#[cfg(test)]
mod fixture;
pub mod follow;
pub mod identity;
pub mod import;
pub mod intake;
pub mod known;
pub mod metrics;
pub mod outbound;
pub mod recording;
pub mod replay;
mod repo;
pub mod resync;
#[cfg(test)]
mod scripted;
pub mod silence;
mod standing;
pub mod status;
mod stream;
pub mod subscribe;
pub mod summary;
pub mod watch;
mod whole_repo;
mod window;

pub use did_docs::{DidDocs, DidDocsError};
pub use filter::Filter;
pub use follow::{FollowError, FollowSettings, Follower, Following};
pub use identity::{
    HandleCheck, Identities, IdentityQueue, IdentityRecorder, IdentitySettings, ResolveError,
};
pub use import::ImportError;
pub use intake::{Intake, name_of_file};
pub use known::{Known, KnownByTables, KnownCursor, KnownError, KnownHead, NothingKnown};
pub use recording::{Recording, RecordingError};
pub use replay::ReplayError;
pub use resync::{Mark, Reconcile, ResyncQueue, ResyncTasks, Task};
pub use status::{Connection, SourceState, SourceStatus};
pub use stream::StreamError;
pub use subscribe::{Endpoint, EndpointError};
pub use summary::Summary;
