//! Which gRPC code each failure gets, in one place, and why a server does not start.
//!
//! The text of a [`Status`] is the error's own sentence: clients show it, so it says what to do.

use std::net::SocketAddr;

use query::{ErrorKind, QueryError};
use tonic::{Code, Status};

use crate::flight::HandleError;

/// Why a server did not start, or stopped by itself.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Others could reach it, and it would answer them all.
    #[error(
        "{address} can be reached from other machines, and there is no token: set ALLUVIUM_TOKEN or --token-file, \
         or listen on 127.0.0.1"
    )]
    TokenMissing {
        /// Where it was to listen.
        address: SocketAddr,
    },
    /// The name before the port means nothing here.
    #[error(
        "can't listen on {listen}: no such address (write HOST:PORT, for example 127.0.0.1:7070)"
    )]
    Address {
        /// What was to be listened on.
        listen: String,
        /// What the resolver said.
        source: std::io::Error,
    },
    /// The port is taken or not permitted.
    #[error("can't listen on {listen}: {source}")]
    Bind {
        /// What was to be listened on.
        listen: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The listener failed while serving.
    #[error("the listener failed: {source}")]
    Listener {
        /// What the system said.
        source: std::io::Error,
    },
}

/// What a query's sender is told: the error's sentence, with its causes where they are not the sender's own doing.
pub fn sentence(error: &QueryError) -> String {
    match error.kind() {
        ErrorKind::Unavailable | ErrorKind::Internal => with_causes(error),
        ErrorKind::Invalid | ErrorKind::NotFound | ErrorKind::Exhausted => error.to_string(),
    }
}

/// The status of a query that failed before or between its rows.
pub(crate) fn query_status(error: &QueryError) -> Status {
    let code = match error.kind() {
        ErrorKind::Invalid => Code::InvalidArgument,
        ErrorKind::NotFound => Code::NotFound,
        ErrorKind::Unavailable => Code::Unavailable,
        ErrorKind::Exhausted => Code::ResourceExhausted,
        ErrorKind::Internal => Code::Internal,
    };
    counted(code, &sentence(error))
}

/// The status of a handle or a binding that is refused.
pub(crate) fn handle_status(error: &HandleError) -> Status {
    counted(Code::InvalidArgument, &error.to_string())
}

/// The status of a request that can't be read.
pub(crate) fn request_status(reason: &str) -> Status {
    counted(Code::InvalidArgument, reason)
}

/// The status of what this server does not offer.
pub(crate) fn unsupported(reason: &str) -> Status {
    counted(Code::Unimplemented, reason)
}

/// The status of an answer of ours that could not be encoded.
pub(crate) fn encoding_status(error: &arrow::error::ArrowError) -> Status {
    counted(Code::Internal, &error.to_string())
}

fn counted(code: Code, text: &str) -> Status {
    crate::metrics::error(code);
    Status::new(code, text)
}

/// One sentence of an error and its causes, leaving out a cause whose text the sentence already holds.
fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        let said = said.lines().next().unwrap_or_default();
        if !said.is_empty() && !text.contains(said) && !said.contains(&text) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    text
}
