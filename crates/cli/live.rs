//! One line on a terminal that says how the sources are followed, kept current while the process runs.
//!
//! Where standard error is no terminal there is none: the log says it there, once a minute. What is logged meanwhile
//! goes above the line.

use std::io::{self, IsTerminal as _, Write};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crdt::Micros;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use ingest::status::{Connection, SourceState, SourceStatus};
use storage::{LogListing, Root};
use tables::view::Tables;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::fmt::MakeWriter;

/// How often the line is written anew.
const LINE_INTERVAL: Duration = Duration::from_secs(1);

/// How often the store is asked how much waits in the log: two LISTs.
const STORE_INTERVAL: Duration = Duration::from_secs(15);

/// The line; there is one terminal.
fn bar() -> &'static ProgressBar {
    static BAR: OnceLock<ProgressBar> = OnceLock::new();
    BAR.get_or_init(|| {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        if let Ok(style) = ProgressStyle::with_template("{wide_msg}") {
            bar.set_style(style);
        }
        bar
    })
}

/// Keeps the line current until `stop`. Does nothing where there is no terminal.
pub(crate) async fn run(sources: Vec<Arc<SourceStatus>>, tables: Tables, stop: CancellationToken) {
    if !io::stderr().is_terminal() {
        return;
    }
    bar().set_draw_target(ProgressDrawTarget::stderr());
    let mut rates = Rates::default();
    let (mut kept, mut asked) = (None, None::<Instant>);
    while stop
        .run_until_cancelled(tokio::time::sleep(LINE_INTERVAL))
        .await
        .is_some()
    {
        if asked.is_none_or(|asked| asked.elapsed() >= STORE_INTERVAL) {
            kept = Kept::ask(&tables).await;
            asked = Some(Instant::now());
        }
        let now = Micros(tables.bucket().clock().now_us());
        let states: Vec<Shown> = sources.iter().map(|source| Shown::of(source)).collect();
        let frames = states.iter().map(|shown| shown.state.summary.frames).sum();
        let rate = rates.take(frames);
        bar().set_message(line(&states, rate, kept, now));
    }
    bar().finish_and_clear();
}

/// One source as the line shows it.
#[derive(Debug)]
struct Shown {
    source: Arc<str>,
    state: SourceState,
    silent: Vec<String>,
}

impl Shown {
    fn of(source: &SourceStatus) -> Self {
        let silent = |watch: &mut ingest::silence::Watch| {
            let silent = watch.silent();
            silent.into_iter().map(ToString::to_string).collect()
        };
        Self {
            source: Arc::clone(source.source()),
            state: source.state(),
            silent: source.watch(silent),
        }
    }
}

/// How many frames a second came since it was asked last.
#[derive(Debug, Default)]
struct Rates {
    before: Option<(Instant, u64)>,
}

impl Rates {
    fn take(&mut self, frames: u64) -> u64 {
        let before = self.before.replace((Instant::now(), frames));
        let Some((since, frames_before)) = before else {
            return 0;
        };
        let millis = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
        frames.saturating_sub(frames_before) * 1_000 / millis.max(1)
    }
}

/// What the store holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Kept {
    log_bytes: u64,
    segments: u64,
}

impl Kept {
    /// None if the store does not answer: the line is no place for its error, and whoever works on it says it.
    async fn ask(tables: &Tables) -> Option<Self> {
        let root = tables.chain().newest_root().await.ok()?;
        let listing = storage::list_log(tables.bucket(), &root.merged)
            .await
            .ok()?;
        let segments = tables.cache().segments(tables.bucket(), &root).await.ok()?;
        Some(Self {
            log_bytes: waiting(&listing, &root),
            segments: segments.entries().count() as u64,
        })
    }
}

/// The bytes of the log that are not in segments yet.
fn waiting(listing: &LogListing, root: &Root) -> u64 {
    let mut bytes = 0;
    for (writer, objects) in &listing.writers {
        let merged = root.merged.get(writer);
        for (seq, object) in objects {
            if merged.is_none_or(|merged| seq > merged) {
                bytes += object.size;
            }
        }
    }
    bytes
}

/// The line: what matters first, since a narrow terminal cuts it.
fn line(shown: &[Shown], rate: u64, kept: Option<Kept>, now: Micros) -> String {
    let states = || shown.iter().map(|shown| &shown.state);
    let mut parts = vec![format!("{rate} events/s")];
    if let Some(lag) = states().filter_map(|state| state.lag_us(now)).max() {
        parts.push(format!("{} behind", age(lag)));
    }
    let rejected: u64 = states().map(|state| state.summary.rejections()).sum();
    if rejected > 0 {
        parts.push(format!("rejected {rejected}: {}", reasons(shown)));
    }
    let resyncs: u64 = states().map(|state| state.summary.resyncs).sum();
    if resyncs > 0 {
        parts.push(format!("{resyncs} resyncs"));
    }
    let silent: Vec<&str> = shown
        .iter()
        .flat_map(|shown| shown.silent.iter().map(String::as_str))
        .collect();
    if !silent.is_empty() {
        parts.push(format!("SILENT {}", silent.join(", ")));
    }
    if let Some(kept) = kept {
        let mib = kept.log_bytes.div_ceil(1024 * 1024);
        parts.push(format!("log {mib} MiB, {} segments", kept.segments));
    }
    for Shown { source, state, .. } in shown {
        let name = source
            .split_once("://")
            .map_or(source.as_ref(), |(_, rest)| rest);
        parts.push(match (&state.connection, state.durable) {
            (Connection::Connected { .. }, Some(durable)) => format!("{name} at {durable}"),
            (Connection::Connected { .. }, None) => format!("{name} connected"),
            (Connection::Connecting, _) => format!("{name} connecting"),
            (Connection::Waiting { reason, until }, _) => {
                format!("{name} {reason}, again in {}", age(until.0 - now.0))
            }
            (Connection::Stopped { reason }, _) => format!("{name} stopped: {reason}"),
        });
    }
    parts.join(" · ")
}

/// Why frames were rejected, the most frequent first.
fn reasons(shown: &[Shown]) -> String {
    let mut counts: Vec<(&str, u64)> = Vec::new();
    for (reason, count) in shown
        .iter()
        .flat_map(|shown| shown.state.summary.rejected.iter())
    {
        match counts.iter_mut().find(|(known, _)| known == reason) {
            Some((_, sum)) => *sum += count,
            None => counts.push((reason, *count)),
        }
    }
    counts.sort_by_key(|(reason, count)| (std::cmp::Reverse(*count), *reason));
    let shown: Vec<String> = counts
        .iter()
        .take(3)
        .map(|(reason, count)| format!("{reason} {count}"))
        .collect();
    shown.join(", ")
}

fn age(micros: i64) -> String {
    let seconds = micros.max(0) / 1_000_000;
    match seconds {
        0..60 => format!("{}.{} s", seconds, micros.max(0) / 100_000 % 10),
        60..3600 => format!("{} min", seconds / 60),
        _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

/// Writes to standard error, above the line if there is one.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct AboveLine;

impl Write for AboveLine {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        bar().suspend(|| io::stderr().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

impl<'a> MakeWriter<'a> for AboveLine {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        *self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_what_matters_first() {
        let mut state = SourceState {
            connection: Connection::Connected { since: Micros(0) },
            durable: Some(42),
            frame_time: Some(Micros(1_000_000)),
            ..SourceState::default()
        };
        state.summary.rejected = [("signature".to_owned(), 3), ("rev".to_owned(), 9)].into();
        let states = [Shown {
            source: "https://relay.example".into(),
            state,
            silent: vec!["app.bsky.feed.like".to_owned()],
        }];
        let kept = Kept {
            log_bytes: 1,
            segments: 7,
        };
        assert_eq!(
            line(&states, 1012, Some(kept), Micros(2_400_000)),
            "1012 events/s · 1.4 s behind · rejected 12: rev 9, signature 3 · SILENT app.bsky.feed.like · \
             log 1 MiB, 7 segments · relay.example at 42"
        );
    }

    #[test]
    fn a_source_that_waits_says_why_and_how_long() {
        let state = SourceState {
            connection: Connection::Waiting {
                reason: "refused",
                until: Micros(95_000_000),
            },
            ..SourceState::default()
        };
        let states = [Shown {
            source: "https://relay.example".into(),
            state,
            silent: Vec::new(),
        }];
        assert_eq!(
            line(&states, 0, None, Micros(0)),
            "0 events/s · relay.example refused, again in 1 min"
        );
    }

    #[test]
    fn ages_are_short() {
        assert_eq!(age(-5), "0.0 s");
        assert_eq!(age(59_990_000), "59.9 s");
        assert_eq!(age(7_260_000_000), "2 h 1 min");
    }
}
