//! A checked bucket: the store, the database that stands in it, and the times that all its processes share.
//!
//! [`Bucket::open`] refuses a store that does not honour create-if-absent, a database of a newer format or of
//! another id, and settings whose order would break what the protocol relies on.

mod document;
mod probe;
mod settings;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use object_store::{Error, ObjectStore};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use ulid::Ulid;

use crate::clock::{Clock, is_overdue};
use crate::create::CreateError;
use crate::ids::DatabaseId;

pub use document::DocumentError;
pub use settings::{Settings, SettingsError};

/// Why a bucket was not opened. Each sentence says what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The settings contradict each other.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The store takes a second create of one key.
    #[error(
        "the store does not honour conditional writes ({failed}); use one that supports `If-None-Match: *` on PUT (S3, MinIO, R2, a local folder)"
    )]
    NoConditionalWrites {
        /// What the probe saw.
        failed: &'static str,
    },
    /// The store ignores `If-Match` of a GET.
    #[error(
        "the store does not honour conditional reads (no ETag, or `If-Match` on GET is ignored); use one that does (S3, MinIO, R2, a local folder)"
    )]
    NoConditionalReads,
    /// The store does not let us in.
    #[error(
        "no permission to {action}; check the credentials and grant them list, get, put and delete on this bucket and prefix"
    )]
    NoPermission {
        /// What was refused.
        action: &'static str,
        /// The store's answer.
        source: Error,
    },
    /// Another database is there than the one that was asked for.
    #[error(
        "database {found} is here, not {expected}; check the URL, or leave the database's id out to take what is there"
    )]
    OtherDatabase {
        /// The id that was asked for.
        expected: DatabaseId,
        /// The id that is there.
        found: DatabaseId,
    },
    /// The database was written by a newer version of the software.
    #[error(
        "the database has format {found}, this version knows formats up to {known}; use a newer alluvium"
    )]
    NewerFormat {
        /// The database's format.
        found: u32,
        /// The newest that this version knows.
        known: u32,
    },
    /// `alluvium.json` is there but is not ours.
    #[error("alluvium.json is damaged; restore it from a backup, or choose another prefix")]
    Damaged(#[source] DocumentError),
    /// There is no database, and this command makes none.
    #[error(
        "no database here (alluvium.json is missing); check the URL, or create one with `alluvium up --store URL`"
    )]
    Missing,
    /// There are objects of a database, but `alluvium.json` is missing.
    #[error(
        "objects of a database are here ({found}), but alluvium.json is missing; restore it from a backup, or choose an empty prefix"
    )]
    Headless {
        /// One of them.
        found: object_store::path::Path,
    },
    /// The bucket or folder itself does not exist.
    #[error("the bucket does not exist; create it first, or check the URL")]
    NoBucket(#[source] Error),
    /// The store failed again and again.
    #[error("the store can't {action}; check that its address is right and that it is up")]
    Store {
        /// What failed.
        action: &'static str,
        /// The last answer.
        source: Error,
    },
    /// `alluvium.json` could not be created.
    #[error("alluvium.json could not be created")]
    Create(#[source] CreateError),
}

/// A store that was checked, rooted at the database's prefix. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Bucket(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Arc<dyn ObjectStore>,
    database: DatabaseId,
    clock: Arc<dyn Clock>,
    settings: Settings,
    random: Mutex<StdRng>,
}

impl Bucket {
    /// Opens the database in `store`, or makes one where nothing is.
    ///
    /// Probes create-if-absent and `If-Match` first: three PUTs, two GETs and a DELETE under `probe/`.
    ///
    /// # Errors
    /// See [`OpenError`]. Nothing of an existing database was changed.
    pub async fn open(
        store: Arc<dyn ObjectStore>,
        clock: Arc<dyn Clock>,
        settings: Settings,
    ) -> Result<Self, OpenError> {
        Self::open_seeded(store, clock, settings, rand::random()).await
    }

    /// As [`Bucket::open`], with all random bytes (ids, nonces, jitter) from `seed`: for simulations.
    ///
    /// # Errors
    /// As [`Bucket::open`].
    pub async fn open_seeded(
        store: Arc<dyn ObjectStore>,
        clock: Arc<dyn Clock>,
        settings: Settings,
        seed: u64,
    ) -> Result<Self, OpenError> {
        settings.check()?;
        let mut bucket = Self::unchecked(store, clock, settings, seed);
        probe::run(&bucket).await?;
        let database = match document::read(&bucket).await {
            Err(OpenError::Missing) => document::create(&bucket).await?,
            other => other?,
        };
        bucket.take(database)?;
        Ok(bucket)
    }

    /// Opens the database in `store`; makes none, and writes nothing.
    ///
    /// # Errors
    /// [`OpenError::Missing`] where no database is; see [`OpenError`].
    pub async fn open_existing(
        store: Arc<dyn ObjectStore>,
        clock: Arc<dyn Clock>,
        settings: Settings,
    ) -> Result<Self, OpenError> {
        settings.check()?;
        let mut bucket = Self::unchecked(store, clock, settings, rand::random());
        let database = document::read(&bucket).await?;
        bucket.take(database)?;
        Ok(bucket)
    }

    /// The store, rooted at the database.
    pub fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.0.store
    }

    /// The database's id.
    pub fn database(&self) -> DatabaseId {
        self.0.database
    }

    /// The clock that all ages are measured on.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.0.clock
    }

    /// The settings, checked.
    pub fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// Whether more than half the grace lies between `since_us` and now, or the clock went backwards: then an
    /// opening that began at `since_us` is given up, and an answer confirms nothing.
    pub fn is_past_half_grace(&self, since_us: i64) -> bool {
        is_overdue(
            since_us,
            self.0.clock.now_us(),
            self.0.settings.half_grace(),
        )
    }

    /// A new ULID, of the bucket's clock and random source.
    pub fn mint(&self) -> Ulid {
        let now_ms = u64::try_from(self.0.clock.now_us() / 1_000).unwrap_or(0);
        Ulid::from_parts(now_ms, self.random(|random| random.random()))
    }

    /// 16 random bytes.
    pub(crate) fn nonce(&self) -> [u8; 16] {
        self.random(|random| random.random())
    }

    pub(crate) fn random_in(&self, range: Range<f64>) -> f64 {
        self.random(|random| random.random_range(range))
    }

    fn random<T>(&self, draw: impl FnOnce(&mut StdRng) -> T) -> T {
        // A generator is whole after a panic of another thread: the lock's poison says nothing about it.
        draw(&mut self.0.random.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn unchecked(
        store: Arc<dyn ObjectStore>,
        clock: Arc<dyn Clock>,
        settings: Settings,
        seed: u64,
    ) -> Self {
        Self(Arc::new(Inner {
            store,
            database: DatabaseId(Ulid(0)),
            clock,
            settings,
            random: Mutex::new(StdRng::seed_from_u64(seed)),
        }))
    }

    /// Takes `found` as the database, if it is the one that the settings ask for.
    fn take(&mut self, found: DatabaseId) -> Result<(), OpenError> {
        if let Some(expected) = self.settings().database
            && expected != found
        {
            return Err(OpenError::OtherDatabase { expected, found });
        }
        let Inner {
            store,
            clock,
            settings,
            ..
        } = &*self.0;
        *self = Self(Arc::new(Inner {
            store: Arc::clone(store),
            database: found,
            clock: Arc::clone(clock),
            settings: settings.clone(),
            random: Mutex::new(StdRng::from_seed(self.random(|random| random.random()))),
        }));
        Ok(())
    }
}

/// Sorts an error of the store into what the one who opens should do.
fn refused(action: &'static str, source: Error) -> OpenError {
    if crate::retry::is_denied(&source) {
        OpenError::NoPermission { action, source }
    } else if matches!(source, Error::NotFound { .. }) {
        OpenError::NoBucket(source)
    } else {
        OpenError::Store { action, source }
    }
}
