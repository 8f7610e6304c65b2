//! The ways in: a recording replayed, and a relay followed, into a folder or MinIO.

use std::collections::HashMap;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use atproto::Frame;
use crdt::{ChangeLog, change_log};
use ingest::identity::Identities;
use ingest::{Endpoint, FollowSettings, Following, Intake, KnownByTables};
use storage::{Bucket, Clock, SystemClock};
use tables::cache::{Cache, CacheSettings};
use tables::schema::Catalog;
use tables::view::Tables;
use testkit::fault_store::FaultStore;
use testkit::relay::{FakeNetwork, FakeNetworkConfig};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use crate::measure::Run;
use crate::minio::Minio;
use crate::network::{Recorded, frames, seq};

/// The command by which the program calls itself as a relay.
pub(crate) const SERVE: &str = "serve";

/// How often it is looked whether all is durable.
const LOOK: Duration = Duration::from_millis(5);

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

/// Serves the recording as a relay until the process is killed, and says where on standard output.
pub(crate) async fn serve(recording: &Path) -> anyhow::Result<()> {
    let network = FakeNetwork::start(FakeNetworkConfig::default()).await;
    let relay = network.relay(0);
    for bytes in frames(recording)? {
        let seq = seq(&Frame::decode(&bytes)?).context("a frame with a number")?;
        relay.push(seq, bytes);
    }
    println!("{}", relay.url());
    std::future::pending().await
}

/// Follows the recording into a folder.
pub(crate) async fn follow(recorded: &Recorded) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let url = folder.path().to_string_lossy();
    follow_into("follow, folder", &url, &HashMap::new(), recorded).await
}

/// Follows the recording into MinIO.
pub(crate) async fn follow_into_minio(recorded: &Recorded) -> anyhow::Result<()> {
    let minio = Minio::start().await?;
    let url = format!("s3://{}/database", Minio::BUCKET);
    follow_into("follow, MinIO", &url, &minio.environment(), recorded).await
}

async fn follow_into(
    what: &str,
    url: &str,
    environment: &HashMap<String, String>,
    recorded: &Recorded,
) -> anyhow::Result<()> {
    let (_relay, source) = start_relay(recorded).await?;
    let identities = Identities::fixed(recorded.docs()?);
    let target = Target::over(url, environment, identities).await?;
    let settings = FollowSettings {
        cursor: Some(0),
        ..FollowSettings::default()
    };
    let following = Following::new(target.intake.clone(), None, None);
    let follower = following.add(Endpoint::parse(&source)?, settings);
    let (status, stop) = (follower.status(), CancellationToken::new());
    let run = Run::begin();
    let task = tokio::spawn(follower.run(stop.clone()));
    let mut looks = tokio::time::interval(LOOK);
    while status.state().durable != Some(recorded.seq_last) {
        looks.tick().await;
        anyhow::ensure!(!task.is_finished(), "it stopped: {:?}", status.state());
    }
    let summary = status.state().summary;
    anyhow::ensure!(summary.commits == recorded.commits as u64, "{summary:?}");
    run.end(what, recorded.commits, recorded.frames, &target.store);
    stop.cancel();
    Ok(task.await??)
}

/// Starts this program again, as the relay.
async fn start_relay(recorded: &Recorded) -> anyhow::Result<(Child, String)> {
    let mut relay = Command::new(std::env::current_exe()?)
        .arg(SERVE)
        .arg(&recorded.path)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let stdout = relay.stdout.take().context("standard output")?;
    let line = BufReader::new(stdout).lines().next_line().await?;
    Ok((relay, line.context("the relay says where it is")?))
}
