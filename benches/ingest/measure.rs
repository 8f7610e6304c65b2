//! What a run cost: time, processor, memory, requests.

use std::time::{Duration, Instant};

use testkit::fault_store::{Counts, FaultStore};

/// A run that is under way.
#[derive(Debug)]
pub(crate) struct Run {
    started: Instant,
    cpu: Duration,
}

impl Run {
    /// Begins; memory that was used before is not counted, except what is still held.
    pub(crate) fn begin() -> Self {
        // Where the system has no such file, the peak is that of the whole process.
        let _ = std::fs::write("/proc/self/clear_refs", "5");
        Self {
            started: Instant::now(),
            cpu: cpu(),
        }
    }

    /// Prints what it cost to take `commits` in `events` frames.
    pub(crate) fn end(self, what: &str, commits: usize, events: usize, store: &FaultStore) {
        let (elapsed, cpu) = (self.started.elapsed(), cpu() - self.cpu);
        let counts: Counts = store.counts();
        let per_million = |requests: u64| requests as f64 * 1e6 / events as f64;
        println!(
            "{what:<20} {:>10.0} {:>14.0} {:>10} {:>8.0} {:>8.0} {:>8.0}",
            commits as f64 / elapsed.as_secs_f64(),
            commits as f64 / cpu.as_secs_f64(),
            peak_mib().map_or("?".to_owned(), |peak| peak.to_string()),
            per_million(counts.put),
            per_million(counts.get),
            per_million(counts.lists()),
        );
    }
}

/// Prints the columns of [`Run::end`].
pub(crate) fn heading() {
    println!(
        "\n{:<20} {:>10} {:>14} {:>10} {:>8} {:>8} {:>8}",
        "verified commits", "per s", "per core and s", "peak MiB", "PUT/M", "GET/M", "LIST/M"
    );
}

/// The processor time of this process so far, of all its threads.
fn cpu() -> Duration {
    // In ticks, of which there are 100 a second on every Linux; behind the name, which may hold spaces.
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks: u64 = ticks.filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

fn peak_mib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib / 1024)
}
