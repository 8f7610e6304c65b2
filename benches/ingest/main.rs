//! How fast commits come in, from a relay's bytes to acknowledged appends: all of it, and each step of it alone.
//!
//! `ingest [FRAMES] [ACCOUNTS] [RECORDS] [TARGETS]`: by default 60,000 frames of 300 accounts that hold 2,000 records
//! each before, so that trees are as deep as on the network. The frames are made first, into a recording; nothing of
//! that is measured. Then
//! - `parts`: every step for itself, on one thread;
//! - `replay`: the recording into a folder, as `alluvium replay` does;
//! - `follow`: the same frames from a relay in another process, over a WebSocket at full speed, into a folder;
//! - `minio`: as `follow`, into MinIO.
//!
//! TARGETS are some of these; without, all.

mod door;
mod measure;
mod minio;
mod network;
mod parts;

use network::Recorded;

const TARGETS: [&str; 4] = ["parts", "replay", "follow", "minio"];

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [command, recording] = &arguments[..]
        && command == door::SERVE
    {
        return door::serve(recording.as_ref()).await;
    }
    let numbers: Vec<usize> = arguments
        .iter()
        .filter_map(|text| text.parse().ok())
        .collect();
    let number = |place: usize, default| numbers.get(place).copied().unwrap_or(default);
    let is_wanted = |target: &str| {
        let named = |target: &str| arguments.iter().any(|argument| argument == target);
        named(target) || !TARGETS.into_iter().any(named)
    };
    let folder = tempfile::tempdir()?;
    let recorded = Recorded::make(
        folder.path(),
        number(0, 60_000),
        number(1, 300),
        number(2, 2_000),
    )?;
    println!("{recorded}");
    if is_wanted("parts") {
        parts::run(&recorded)?;
    }
    measure::heading();
    if is_wanted("replay") {
        door::replay(&recorded).await?;
    }
    if is_wanted("follow") {
        door::follow(&recorded).await?;
    }
    if is_wanted("minio") {
        door::follow_into_minio(&recorded).await?;
    }
    Ok(())
}
