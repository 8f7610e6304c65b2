//! A local folder as a durable store.
//!
//! [`LocalFileSystem`] of object_store 0.13 returns before file and directory are synced. This decorator
//! writes a staged file, syncs it, links it under its name (which fails where the name is taken), and syncs
//! the directories that hold the new names, before it reports success. Before it says that a name is taken it
//! syncs the directory too, so what the caller then reads there is durable. Staged files are invisible, and
//! those that a dead process left are swept when the folder is opened.

use std::collections::HashSet;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::ops::Range;
use std::path::{Path as FsPath, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult,
    RenameOptions, Result,
};
use tracing::{debug, info};
use ulid::Ulid;

use crate::layout;
use crate::store::StoreError;

/// Holds staged files. Their names end in `#1`, which [`LocalFileSystem`] hides from every LIST.
const STAGING: &str = ".staging";

/// A staged file this old has no process any more: a PUT takes seconds.
const STAGED_FOR_MAX: Duration = Duration::from_secs(3_600);

/// How often a PUT makes its directory again that a collector removes as empty.
const DIRECTORY_ATTEMPTS_MAX: u32 = 8;

/// A store in a local folder that has synced what it says is written.
#[derive(Clone, Debug)]
pub struct LocalDurable {
    inner: Arc<LocalFileSystem>,
    folder: Arc<Folder>,
}

#[derive(Debug)]
struct Folder {
    root: PathBuf,
    staging: PathBuf,
    /// Directories whose own names are durable in the ones above.
    synced: Mutex<HashSet<PathBuf>>,
}

impl LocalDurable {
    /// Opens `root`, which is created where it is not, and sweeps what dead processes left staged.
    ///
    /// # Errors
    /// [`StoreError::Folder`] if it can't be made or read.
    pub fn open(root: PathBuf) -> Result<Self, StoreError> {
        let failed = |source| StoreError::Folder {
            path: root.clone(),
            source,
        };
        fs::create_dir_all(&root).map_err(failed)?;
        let absolute = root.canonicalize().map_err(failed)?;
        let staging = absolute.join(STAGING);
        fs::create_dir_all(&staging).map_err(failed)?;
        sweep(&staging, SystemTime::now()).map_err(failed)?;
        // The folder's own name, where we made it.
        if let Some(parent) = absolute.parent() {
            sync_directory(parent).or_else(|error| match error.kind() {
                ErrorKind::PermissionDenied => Ok(()),
                _ => Err(failed(error)),
            })?;
        }
        let inner = LocalFileSystem::new_with_prefix(&absolute);
        let inner = inner.map_err(|source| StoreError::Local {
            path: root.clone(),
            source,
        })?;
        let folder = Folder {
            root: absolute,
            staging,
            synced: Mutex::default(),
        };
        Ok(Self {
            inner: Arc::new(inner),
            folder: Arc::new(folder),
        })
    }
}

impl Folder {
    /// Writes, syncs and links or renames; see the module.
    fn put(&self, target: &FsPath, payload: &PutPayload, is_create: bool) -> io::Result<()> {
        let staged = Staged::write(&self.staging, payload)?;
        let mut attempts = 0;
        loop {
            attempts += 1;
            let directory = self.directory_of(target)?;
            let linked = if is_create {
                fs::hard_link(&staged.0, target)
            } else {
                fs::rename(&staged.0, target)
            };
            match linked {
                Ok(()) => return sync_directory(directory),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    sync_directory(directory)?;
                    return Err(error);
                }
                Err(error)
                    if error.kind() == ErrorKind::NotFound && attempts < DIRECTORY_ATTEMPTS_MAX =>
                {
                    self.synced().clear();
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Makes the directory of `target`, with its name durable in those above.
    fn directory_of<'a>(&self, target: &'a FsPath) -> io::Result<&'a FsPath> {
        let directory = target.parent().ok_or(ErrorKind::InvalidInput)?;
        if self.synced().contains(directory) {
            return Ok(directory);
        }
        fs::create_dir_all(directory)?;
        let above = directory
            .ancestors()
            .skip(1)
            .take_while(|above| above.starts_with(&self.root));
        for above in above {
            sync_directory(above)?;
        }
        self.synced().insert(directory.to_owned());
        Ok(directory)
    }

    /// Removes the directory that a deletion has left empty, of the log's only: there one process alone makes
    /// objects, so none takes a name for durable that another has removed and made again.
    fn tidy(&self, target: &FsPath) {
        let Some(directory) = target.parent() else {
            return;
        };
        if directory.parent() == Some(&self.root.join(layout::LOG))
            && fs::remove_dir(directory).is_ok()
        {
            self.synced().remove(directory);
        }
    }

    fn synced(&self) -> std::sync::MutexGuard<'_, HashSet<PathBuf>> {
        // Forgetting is harmless and every entry is true, so the set is good after a panic elsewhere.
        self.synced.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A staged file; removed when dropped, where it still has its name.
struct Staged(PathBuf);

impl Staged {
    fn write(staging: &FsPath, payload: &PutPayload) -> io::Result<Self> {
        let staged = Self(staging.join(format!("{}#1", Ulid::new())));
        let open = || {
            OpenOptions::new()
                .write(true)
                .create_new(true)
                .open(&staged.0)
        };
        let mut file = match open() {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                fs::create_dir_all(staging)?;
                open()
            }
            other => other,
        }?;
        for chunk in payload {
            file.write_all(chunk)?;
        }
        file.sync_all()?;
        Ok(staged)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // After a rename there is nothing to remove; else the sweep takes what stays.
        if let Err(error) = fs::remove_file(&self.0)
            && error.kind() != ErrorKind::NotFound
        {
            debug!(path = ?self.0, %error, "staged file stays");
        }
    }
}

fn sweep(staging: &FsPath, now: SystemTime) -> io::Result<()> {
    for entry in fs::read_dir(staging)? {
        let entry = entry?;
        // Another process may finish with it, and remove it, while we look.
        let Ok(modified) = entry.metadata().and_then(|meta| meta.modified()) else {
            continue;
        };
        if now
            .duration_since(modified)
            .is_ok_and(|age| age > STAGED_FOR_MAX)
        {
            match fs::remove_file(entry.path()) {
                Ok(()) => info!(path = ?entry.path(), "swept a staged file"),
                Err(error) => debug!(path = ?entry.path(), %error, "staged file stays"),
            }
        }
    }
    Ok(())
}

fn sync_directory(directory: &FsPath) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

impl fmt::Display for LocalDurable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LocalDurable({})", self.folder.root.display())
    }
}

fn not_implemented(operation: &str) -> Error {
    Error::NotImplemented {
        operation: operation.to_owned(),
        implementer: "LocalDurable".to_owned(),
    }
}

fn put_error(location: &Path, error: io::Error) -> Error {
    let path = location.to_string();
    match error.kind() {
        ErrorKind::AlreadyExists => Error::AlreadyExists {
            path,
            source: error.into(),
        },
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Error::PermissionDenied {
            path,
            source: error.into(),
        },
        _ => Error::Generic {
            store: "LocalDurable",
            source: error.into(),
        },
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for LocalDurable {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        let is_create = match opts.mode {
            PutMode::Create => true,
            PutMode::Overwrite => false,
            PutMode::Update(_) => {
                return Err(not_implemented("`put_opts` with mode `PutMode::Update`"));
            }
        };
        if !opts.attributes.is_empty() {
            return Err(not_implemented("`put_opts` with attributes"));
        }
        let target = self.inner.path_to_filesystem(location)?;
        let folder = Arc::clone(&self.folder);
        let put = move || folder.put(&target, &payload, is_create);
        let done = tokio::task::spawn_blocking(put).await?;
        done.map_err(|error| put_error(location, error))?;
        let meta = self.inner.head(location).await?;
        Ok(PutResult {
            e_tag: meta.e_tag,
            version: None,
        })
    }

    async fn put_multipart_opts(
        &self,
        _: &Path,
        _: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        Err(not_implemented("`put_multipart_opts`: it is not synced"))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let this = self.clone();
        let deleted = self.inner.delete_stream(locations);
        deleted
            .inspect(move |location| {
                if let Ok(location) = location
                    && let Ok(target) = this.inner.path_to_filesystem(location)
                {
                    this.folder.tidy(&target);
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(not_implemented("`copy_opts`: it is not synced"))
    }

    async fn rename_opts(&self, _: &Path, _: &Path, _: RenameOptions) -> Result<()> {
        Err(not_implemented("`rename_opts`: it is not synced"))
    }
}

#[cfg(test)]
#[path = "local/tests.rs"]
mod tests;
