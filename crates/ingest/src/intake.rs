//! What every source needs to get its frames into the log.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use crdt::storage::Clock;
use crdt::{ChangeLog, Micros};

use crate::identity::Identities;
use crate::known::Known;
use crate::window::broken_off;

/// A log to append to, who may sign, and what is known already. Cheap to clone.
///
/// [`replay`](Self::replay) and [`import_car`](Self::import_car) are its doors; each returns when all that it took is
/// durable.
#[derive(Clone, Debug)]
pub struct Intake {
    /// Where changes go.
    pub log: ChangeLog,
    /// The time of arrivals, and what a rev may not be ahead of by more than five minutes.
    pub clock: Arc<dyn Clock>,
    /// Whose keys commits are verified with.
    pub identities: Identities,
    /// What the bucket holds of a source already.
    pub known: Arc<dyn Known>,
}

impl Intake {
    pub(crate) fn now(&self) -> Micros {
        Micros(self.clock.now_us())
    }
}

/// The name of a file by its content: `blake3:` and the hash in hexadecimal. Reads the file once.
///
/// # Errors
/// If the file can't be read.
pub async fn name_of_file(path: &Path) -> io::Result<String> {
    let path = path.to_owned();
    let task = tokio::task::spawn_blocking(move || {
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(File::open(path)?)?;
        Ok(format!("blake3:{}", hasher.finalize().to_hex()))
    });
    match task.await {
        Ok(name) => name,
        Err(error) => broken_off(error).await,
    }
}
