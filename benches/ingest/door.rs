//! The ways in: a recording replayed, and a relay followed, into a folder or MinIO.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use crdt::{ChangeLog, change_log};
use ingest::identity::Identities;
use ingest::{Intake, KnownByTables};
use storage::{Bucket, Clock, SystemClock};
use tables::cache::{Cache, CacheSettings};
use tables::schema::Catalog;
use tables::view::Tables;
use testkit::fault_store::FaultStore;
use tokio_util::sync::CancellationToken;

use crate::measure::Run;
use crate::network::Recorded;

/// The command by which the program calls itself as a relay.
pub(crate) const SERVE: &str = "serve";

/// A bucket of its own, and who appends to it.
#[derive(Debug)]
struct Target {
    store: FaultStore,
    intake: Intake,
}

impl Target {
    async fn over(
        url: &str,
        environment: &HashMap<String, String>,
        identities: Identities,
    ) -> anyhow::Result<Self> {
        let store = FaultStore::new(storage::open_store(url, environment)?);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let open = Bucket::open(
            Arc::new(store.clone()),
            Arc::clone(&clock),
            storage::Settings::default(),
        );
        let bucket = open.await?;
        let cache = Arc::new(Cache::new(CacheSettings::default()));
        let tables = Tables::new(bucket.clone(), cache, Arc::new(Catalog::builtin()));
        let log = ChangeLog::spawn(
            &bucket,
            change_log::Settings::default(),
            &CancellationToken::new(),
        );
        let intake = Intake {
            log,
            clock,
            identities,
            known: Arc::new(KnownByTables::new(tables)),
        };
        Ok(Self { store, intake })
    }
}

/// Replays the recording into a folder.
pub(crate) async fn replay(recorded: &Recorded) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let url = folder.path().to_string_lossy();
    let identities = Identities::fixed(recorded.docs()?);
    let target = Target::over(&url, &HashMap::new(), identities).await?;
    let run = Run::begin();
    let summary = target
        .intake
        .replay(&recorded.path, Some("bench"), &mut |_| {})
        .await?;
    anyhow::ensure!(summary.commits == recorded.commits as u64, "{summary:?}");
    run.end(
        "replay, folder",
        recorded.commits,
        recorded.frames,
        &target.store,
    );
    Ok(())
}

/// Serves the recording as a relay until the process is killed.
pub(crate) async fn serve(_recording: &Path) -> anyhow::Result<()> {
    anyhow::bail!("there is no follower yet")
}

/// Follows the recording into a folder.
pub(crate) async fn follow(_recorded: &Recorded) -> anyhow::Result<()> {
    println!("follow: there is no follower yet");
    Ok(())
}

/// Follows the recording into MinIO.
pub(crate) async fn follow_into_minio(_recorded: &Recorded) -> anyhow::Result<()> {
    println!("minio: there is no follower yet");
    Ok(())
}
