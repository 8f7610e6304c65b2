//! Alluvium on a bucket of its own, as one process or as one for each role, killed and started again.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::process::Command;

use serde_json::Value as Json;

use crate::process::{Minio, Running, address_in, alluvium, answer};

/// What all processes are told: rounds that are short, so that flushes, merges and collections happen within the test.
const TIMES: [&str; 4] = [
    "--grace-seconds=30",
    "--query-seconds-max=15",
    "--retention-seconds=60",
    "--retry-seconds=12",
];
const COMPACT: [&str; 2] = ["--compact-interval-ms=300", "--tail-age-ms=500"];
const COLLECT: &str = "--collect-interval-ms=2000";

/// How many lines of each process a failing test shows.
const LINES_TOLD_MAX: usize = 30;

const LISTEN: &str = "--listen=127.0.0.1:0";

/// Which processes work on the bucket.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Shape {
    /// `up`, which does everything.
    One,
    /// A process for each role.
    Many,
}

/// A bucket and the processes on it.
#[derive(Debug)]
pub(crate) struct Alluvium {
    shape: Shape,
    store: String,
    /// How to reach the store; another server may stand there after a while.
    environment: HashMap<String, String>,
    /// What `ingest` is told of its sources.
    sources: Vec<String>,
    processes: Vec<Running>,
    server: String,
}

impl Alluvium {
    /// Makes a database at `store` and starts to follow `sources`.
    pub(crate) fn start(shape: Shape, minio: &Minio, store: &str, sources: &[String]) -> Alluvium {
        let mut alluvium = Alluvium {
            shape,
            store: store.to_owned(),
            environment: minio.environment(),
            sources: sources.to_vec(),
            processes: Vec::new(),
            server: String::new(),
        };
        // A server makes no database.
        alluvium.compact();
        alluvium.start_again();
        alluvium
    }

    /// Starts all processes.
    pub(crate) fn start_again(&mut self) {
        assert!(self.processes.is_empty(), "they run");
        let sources: Vec<&str> = self.sources.iter().map(String::as_str).collect();
        let roles: Vec<Vec<&str>> = match self.shape {
            Shape::One => vec![[&["up", LISTEN, COLLECT], &COMPACT[..], &sources].concat()],
            Shape::Many => vec![
                [&["ingest"], &sources[..]].concat(),
                [&["compact"], &COMPACT[..]].concat(),
                vec!["collect", COLLECT],
                vec!["serve", LISTEN],
            ],
        };
        self.processes = roles
            .iter()
            .map(|role| Running::start(self.command(role)))
            .collect();
        // The last one serves in both shapes.
        let server = self.processes.last_mut().expect("at least one");
        self.server = format!("grpc://{}", server.wait_for(address_in));
    }

    /// Kills all processes at once.
    pub(crate) fn kill(&mut self) {
        for process in self.processes.drain(..) {
            let (status, said) = process.stop("KILL");
            assert!(status.code().is_none(), "it ended by itself: {said:#?}");
        }
    }

    /// Asks all processes to end, which they do in order.
    pub(crate) fn end(&mut self) {
        for process in self.processes.drain(..) {
            let (status, said) = process.stop("TERM");
            assert!(status.success(), "{said:#?}");
        }
    }

    /// Which bucket it is.
    pub(crate) fn store(&self) -> &str {
        &self.store
    }

    /// What a failing test shows: how the sources and resyncs stand, and what each process said last.
    pub(crate) fn explain(&mut self) -> String {
        let mut text = String::new();
        for table in ["sources", "resyncs", "rejections"] {
            let rows = self.ask(&format!("SELECT * FROM system.{table}"));
            writeln!(text, "system.{table}: {rows:#?}").expect("a text takes all");
        }
        for process in &mut self.processes {
            let said = process.said();
            let last = said.len().saturating_sub(LINES_TOLD_MAX);
            writeln!(text, "it said {:#?}", &said[last..]).expect("a text takes all");
        }
        text
    }

    /// The rows of a query that the running server answers, or what it said instead.
    pub(crate) fn ask(&self, sql: &str) -> Result<Vec<Json>, String> {
        let asked = ["sql", "--connect", &self.server, "--format=ndjson", sql];
        let output = alluvium(&asked).output().expect("alluvium starts");
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        Ok(rows(&text))
    }

    /// The rows of a query of a process that knows nothing but the store.
    pub(crate) fn ask_store(&self, sql: &str) -> Vec<Json> {
        rows(&answer(self.command(&["sql", "--format=ndjson", sql])))
    }

    /// Flushes and merges all that is there.
    pub(crate) fn compact(&self) {
        answer(self.command(&["compact", "--once"]));
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let store = ["--store", &self.store];
        let mut command = alluvium(&[arguments, &store, &TIMES].concat());
        command.envs(&self.environment);
        command
    }
}

fn rows(text: &str) -> Vec<Json> {
    let rows = text.lines().map(serde_json::from_str);
    rows.collect::<Result<_, _>>()
        .expect("a JSON object a line")
}
