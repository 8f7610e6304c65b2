//! Reading one log object.

use object_store::Error;

use crate::bucket::Bucket;
use crate::frame::FormatError;
use crate::ids::Position;
use crate::layout;
use crate::log::object::{LogObject, decode};
use crate::read::read;

/// Why a log object was not read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// No object is there: not yet, or merged and collected.
    #[error("no log object at {position}")]
    Missing {
        /// Where.
        position: Position,
    },
    /// The object is not what its writer wrote. It is neither served nor merged.
    #[error("log object {position} is damaged")]
    Damaged {
        /// Where.
        position: Position,
        /// What is wrong.
        source: FormatError,
    },
    /// The object says that it belongs elsewhere: to another database or position.
    #[error("log object {position} belongs elsewhere: it was copied here")]
    Foreign {
        /// Where it was found.
        position: Position,
    },
    /// A newer version of the software wrote it.
    #[error(
        "log object {position} has format {found}, this version knows formats up to {known}; use a newer alluvium"
    )]
    NewerFormat {
        /// Where.
        position: Position,
        /// The object's format.
        found: u32,
        /// The newest that this version knows.
        known: u32,
    },
    /// The store did not answer.
    #[error("log object {position} can't be read")]
    Store {
        /// Where.
        position: Position,
        /// The store's answer.
        source: Error,
    },
}

/// Reads and checks the log object at `position`: one GET.
///
/// # Errors
/// See [`ReadError`]: of these only [`ReadError::Store`] may go away by itself.
pub async fn read_log(bucket: &Bucket, position: Position) -> Result<LogObject, ReadError> {
    let bytes = match read(bucket, &layout::wal_object(position)).await {
        Ok(bytes) => bytes,
        Err(Error::NotFound { .. }) => return Err(ReadError::Missing { position }),
        Err(source) => return Err(ReadError::Store { position, source }),
    };
    match decode(&bytes) {
        Ok((header, object))
            if header.database == bucket.database() && header.position == position =>
        {
            Ok(object)
        }
        Ok(_) => Err(ReadError::Foreign { position }),
        Err(FormatError::NewerFormat { found, known }) => Err(ReadError::NewerFormat {
            position,
            found,
            known,
        }),
        Err(source) => Err(ReadError::Damaged { position, source }),
    }
}
