//! The write-ahead log: objects of sections, each under the prefix of the one writer that made it.
//!
//! A writer is alone under its prefix for ever and has one PUT in flight. What its sections mean is the
//! caller's; here they are bytes with a count and a multiset hash.

mod listing;
mod object;
mod reader;
mod writer;

pub(crate) use listing::list_log_whole;
pub use listing::{ListError, LogListing, ObjectInfo, list_log};
pub use object::{LogObject, OBJECT_RAW_BYTES_MAX, Section, decode_log_object};
pub use reader::{ReadError, read_log};
pub use writer::{AppendError, LogWriter};
