//! `alluvium replay` and `alluvium import car`: files in, a summary out, and an end only when all of it is durable.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use crdt::{ChangeLog, change_log};
use ingest::{DidDocs, Identities, Intake, KnownByTables, Summary};
use tables::view::Tables;
use tokio_util::sync::CancellationToken;

use crate::config::{ImportArgs, ReplayArgs};
use crate::{database, roles};

/// How long a batch waits for others: a file can be read again, so fewer and larger objects win.
const FLUSH_INTERVAL: Duration = Duration::from_secs(1);

/// How often progress is said.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);

/// Puts recorded frames into the log, one file after the other.
pub(crate) async fn replay(args: ReplayArgs, stop: CancellationToken) -> Result<()> {
    let bucket = database::open(&args.store.store, &args.store.times).await?;
    let docs = did_docs(args.did_docs.as_deref())?;
    let intake = Entry::open(&roles::tables_of(bucket), docs);
    let work = async {
        for file in &args.files {
            intake.replay(file, args.source.as_deref()).await?;
        }
        Ok(())
    };
    intake.until(work, &stop).await
}

/// Puts repositories into the log, one file after the other.
pub(crate) async fn import_car(args: ImportArgs, stop: CancellationToken) -> Result<()> {
    let bucket = database::open(&args.store.store, &args.store.times).await?;
    let docs = did_docs(args.did_docs.as_deref())?;
    let intake = Entry::open(&roles::tables_of(bucket), docs);
    let work = async {
        for file in &args.files {
            let summary = intake
                .intake
                .import_car(file, args.source.as_deref())
                .await?;
            println!("{}", line(file, &summary));
        }
        Ok(())
    };
    intake.until(work, &stop).await
}

/// A log that files go into.
pub(crate) struct Entry {
    log: ChangeLog,
    intake: Intake,
}

impl Entry {
    /// Opens a log of its own; what the tables hold of a source is not taken again.
    pub(crate) fn open(tables: &Tables, docs: DidDocs) -> Entry {
        let bucket = tables.bucket();
        let settings = change_log::Settings {
            flush_interval: FLUSH_INTERVAL,
            ..change_log::Settings::default()
        };
        // Not the signal's token: a stop lets what was taken become durable first.
        let log = ChangeLog::spawn(bucket, settings, &CancellationToken::new());
        let clock = Arc::clone(bucket.clock());
        let known = Arc::new(KnownByTables::new(tables.clone()));
        let intake = Intake {
            log: log.clone(),
            clock,
            identities: Identities::fixed(docs),
            known,
        };
        Entry { log, intake }
    }

    /// Replays one recording, tells its progress on standard error and its summary on standard output.
    pub(crate) async fn replay(&self, file: &Path, source: Option<&str>) -> Result<Summary> {
        let mut said = Instant::now();
        let mut progress = |summary: &Summary| {
            if said.elapsed() >= PROGRESS_INTERVAL {
                said = Instant::now();
                eprintln!(
                    "{}: {} frames, {} records …",
                    file.display(),
                    summary.frames,
                    summary.records
                );
            }
        };
        let summary = self.intake.replay(file, source, &mut progress).await?;
        println!("{}", line(file, &summary));
        Ok(summary)
    }

    /// Runs `work` to its end or until `stop`; either way what the log has taken becomes durable.
    pub(crate) async fn until(
        &self,
        work: impl Future<Output = Result<()>>,
        stop: &CancellationToken,
    ) -> Result<()> {
        let outcome = stop.run_until_cancelled(work).await;
        self.log.close().await;
        match outcome {
            Some(outcome) => outcome,
            None => bail!(
                "stopped; what was taken so far is durable, and the same command goes on from there"
            ),
        }
    }
}

/// The documents in a file, or none.
pub(crate) fn did_docs(path: Option<&Path>) -> Result<DidDocs> {
    match path {
        Some(path) => DidDocs::open(path)
            .with_context(|| format!("the DID documents in {} can't be read", path.display())),
        None => Ok(DidDocs::default()),
    }
}

/// One line about one file: what went in, and what did not and why.
fn line(file: &Path, summary: &Summary) -> String {
    let name = file
        .file_name()
        .unwrap_or(file.as_os_str())
        .to_string_lossy();
    let mut parts = vec![
        format!("{} records written", summary.records),
        format!("{} deleted", summary.deletes),
    ];
    let mut count = |count: u64, what: &str| {
        if count > 0 {
            parts.push(format!("{count} {what}"));
        }
    };
    count(summary.frames, "frames");
    count(summary.skipped, "frames skipped as known");
    count(summary.replays, "commits already known");
    count(summary.floors, "repo floors");
    count(summary.gaps, "gaps");
    for (reason, refused) in &summary.rejected {
        count(*refused, &format!("refused ({reason})"));
    }
    format!("{name}: {}", parts.join(", "))
}
