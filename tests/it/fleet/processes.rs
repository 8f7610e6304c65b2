//! The processes on one bucket, each behind a proxy of its own, killed and started again.
//!
//! A writer replays files and has acknowledged those that it printed a line of; after it is killed, only the others
//! are replayed. What it acknowledged and lost would be missing at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value as Json;

use super::STORE;
use super::proxy::{Moment, Prey, Proxy, Trap};
use super::recordings::{Recorded, Recordings};
use crate::process::{Minio, Running, address_in, alluvium, answer};

/// What all processes on the bucket are told: times that let the collector delete merged log objects within the
/// test, and keep all manifests.
const SHARED: [&str; 6] = [
    "--store",
    STORE,
    "--grace-seconds=30",
    "--query-seconds-max=15",
    "--retention-seconds=7200",
    "--retry-seconds=10",
];

const COMPACT: [&str; 3] = ["compact", "--compact-interval-ms=300", "--tail-age-ms=500"];
const COLLECT: [&str; 2] = ["collect", "--collect-interval-ms=1000"];
const SERVE: [&str; 3] = ["serve", "--listen", "127.0.0.1:0"];

/// `alluvium` on the bucket, without a proxy.
pub(crate) fn on_store(minio: &Minio, arguments: &[&str]) -> Command {
    let mut command = alluvium(&[arguments, &SHARED].concat());
    minio.lend(&mut command);
    command
}

/// The rows of a query that reads the store directly.
pub(crate) fn ask(minio: &Minio, sql: &str) -> Vec<Json> {
    rows(on_store(minio, &["sql", "--format=ndjson", sql]))
}

fn rows(command: Command) -> Vec<Json> {
    let text = answer(command);
    let rows = text.lines().map(serde_json::from_str);
    rows.collect::<Result<_, _>>()
        .expect("a JSON object a line")
}

/// Where one process runs, and after it is killed another of its kind.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) proxy: Proxy,
    process: Option<Running>,
    /// The ids of all processes so far.
    pub(crate) ids: BTreeSet<u32>,
}

impl Place {
    fn new(minio: &Minio) -> Place {
        Place {
            proxy: Proxy::start(minio.address()),
            process: None,
            ids: BTreeSet::new(),
        }
    }

    fn start(&mut self, minio: &Minio, arguments: &[&str], stdout: Stdio) -> &mut Running {
        let mut command = on_store(minio, arguments);
        let endpoint = format!("http://{}", self.proxy.address());
        command.env("AWS_ENDPOINT_URL", endpoint);
        let process = Running::start_into(command, stdout);
        self.ids.insert(process.id());
        self.process.insert(process)
    }

    /// Kills the process at once.
    fn kill(&mut self) {
        let process = self.process.take().expect("it runs");
        let (status, said) = process.stop("KILL");
        assert!(status.code().is_none(), "it ended by itself: {said:#?}");
    }

    /// Asks the process to end, which it does in order.
    fn end(&mut self) {
        let process = self.process.take().expect("it runs");
        let (status, said) = process.stop("TERM");
        assert!(status.success(), "{said:#?}");
    }
}

/// A writer, with the files that it has not acknowledged.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) place: Place,
    documents: PathBuf,
    pending: Vec<Recorded>,
    /// What its process prints.
    printed: PathBuf,
}

impl Writer {
    /// Starts a process that replays what is not acknowledged.
    fn start(&mut self, minio: &Minio) {
        let printed = File::create(&self.printed).expect("a file");
        let documents = self.documents.to_str().expect("UTF-8");
        let mut arguments = vec!["replay", "--did-docs", documents];
        let pending = self.pending.iter();
        arguments.extend(pending.map(|recorded| recorded.file.to_str().expect("UTF-8")));
        self.place.start(minio, &arguments, printed.into());
    }

    /// Forgets the files that the process has printed a line of.
    fn forget_acknowledged(&mut self) {
        let printed = std::fs::read_to_string(&self.printed).expect("a file");
        let is_acknowledged = |file: &Path| {
            let name = file.file_name().expect("a name").to_string_lossy();
            let mut lines = printed.lines().map(|line| line.split(": ").next());
            lines.any(|printed| printed == Some(&*name))
        };
        self.pending
            .retain(|recorded| !is_acknowledged(&recorded.file));
    }

    /// Waits until all is acknowledged.
    fn finish(&mut self) {
        let process = self.place.process.take().expect("it runs");
        let (status, said) = process.end();
        assert!(status.success(), "{said:#?}");
        self.forget_acknowledged();
        assert!(
            self.pending.is_empty(),
            "not acknowledged: {:?}",
            self.pending
        );
    }
}

/// Two kills of one step, both while a PUT is in flight.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Strike {
    /// Which writer and which compactor.
    pub(crate) side: usize,
    pub(crate) writer: (Moment, usize),
    pub(crate) compactor: (Prey, Moment),
}

/// How often processes were killed.
#[derive(Debug, Default)]
pub(crate) struct Kills {
    /// While a PUT was in flight: whose, where on its way, and how often.
    pub(crate) in_flight: BTreeMap<(&'static str, Moment), usize>,
    /// At any other time.
    pub(crate) other: usize,
}

impl Kills {
    /// How many while a PUT was in flight.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.values().sum()
    }

    fn count(&mut self, whose: &'static str, moment: Moment) {
        *self.in_flight.entry((whose, moment)).or_default() += 1;
    }
}

/// Two writers, two compactors, a collector and a server on one bucket.
#[derive(Debug)]
pub(crate) struct Fleet {
    pub(crate) minio: Minio,
    pub(crate) writers: [Writer; 2],
    pub(crate) compactors: [Place; 2],
    collector: Place,
    server: Place,
    server_url: String,
    pub(crate) kills: Kills,
    /// The store's answers to PUTs that arrived after their senders' death.
    pub(crate) late: Vec<String>,
}

impl Fleet {
    /// Starts all but the writers.
    pub(crate) fn start(minio: Minio, folder: &Path, recordings: &Recordings) -> Fleet {
        let writer = |side: usize| Writer {
            place: Place::new(&minio),
            documents: recordings.documents.clone(),
            pending: Vec::new(),
            printed: folder.join(format!("printed-{side}")),
        };
        let place = || Place::new(&minio);
        let mut fleet = Fleet {
            writers: [writer(0), writer(1)],
            compactors: [place(), place()],
            collector: place(),
            server: place(),
            server_url: String::new(),
            kills: Kills::default(),
            late: Vec::new(),
            minio,
        };
        for compactor in &mut fleet.compactors {
            compactor.start(&fleet.minio, &COMPACT, Stdio::null());
        }
        // The server makes no database; a compactor does.
        let said = |line: &str| line.contains("compacting").then_some(());
        let first = fleet.compactors[0].process.as_mut();
        first.expect("it was started").wait_for(said);
        fleet.collector.start(&fleet.minio, &COLLECT, Stdio::null());
        fleet.start_server();
        fleet
    }

    fn start_server(&mut self) {
        let process = self.server.start(&self.minio, &SERVE, Stdio::null());
        let address = process.wait_for(address_in);
        self.server_url = format!("grpc://{address}");
    }

    /// Replays `files` of both writers, with kills on the way, until all of them are acknowledged.
    pub(crate) fn step(&mut self, files: [&[Recorded]; 2], strike: Strike) {
        let Strike {
            side,
            writer,
            compactor,
        } = strike;
        for (writer, files) in self.writers.iter_mut().zip(files) {
            writer.pending = files.to_vec();
        }
        let (moment, passing) = writer;
        let trap = Trap {
            prey: Prey::Log,
            moment,
            passing,
        };
        self.writers[side].place.proxy.arm(trap);
        let (prey, moment) = compactor;
        let trap = Trap {
            prey,
            moment,
            passing: 0,
        };
        self.compactors[side].proxy.arm(trap);
        // Else the other one could take every tail before this one does.
        self.compactors[1 - side].proxy.pause(true);
        for writer in &mut self.writers {
            writer.start(&self.minio);
        }
        self.strike_writer(side, writer.0);
        self.strike_compactor(side, prey, moment);
        for writer in &mut self.writers {
            writer.finish();
        }
    }

    fn strike_writer(&mut self, side: usize, moment: Moment) {
        let writer = &mut self.writers[side];
        writer.place.proxy.caught();
        writer.place.kill();
        self.kills.count("writer", moment);
        writer.forget_acknowledged();
        assert!(
            !writer.pending.is_empty(),
            "acknowledged before it was durable"
        );
        writer.place.proxy.let_go();
        if moment == Moment::Late {
            self.late.push(writer.place.proxy.status());
        }
        writer.start(&self.minio);
    }

    fn strike_compactor(&mut self, side: usize, prey: Prey, moment: Moment) {
        self.compactors[side].proxy.caught();
        self.compactors[side].kill();
        self.kills.count("compactor", moment);
        let proxy = &self.compactors[1 - side].proxy;
        let versions = proxy.done(Prey::Manifest);
        proxy.pause(false);
        if moment == Moment::Late {
            // Meanwhile the other one makes the version, of the same log objects.
            proxy.wait_until_done(Prey::Manifest, versions + 1);
        }
        let struck = &mut self.compactors[side];
        struck.proxy.let_go();
        if moment == Moment::Late {
            let status = struck.proxy.status();
            assert!(
                prey != Prey::Manifest || status.contains(" 412 "),
                "{status}"
            );
            self.late.push(status);
        }
        struck.start(&self.minio, &COMPACT, Stdio::null());
    }

    /// Lets the collector run into a trap when it next commits.
    pub(crate) fn arm_collector(&self, moment: Moment) {
        let trap = Trap {
            prey: Prey::Manifest,
            moment,
            passing: 0,
        };
        self.collector.proxy.arm(trap);
    }

    /// Kills the collector in the trap that was set for it.
    pub(crate) fn strike_collector(&mut self, moment: Moment) {
        self.collector.proxy.caught();
        self.collector.kill();
        self.kills.count("collector", moment);
        self.collector.proxy.let_go();
        self.collector.start(&self.minio, &COLLECT, Stdio::null());
    }

    /// Kills the collector whatever it does.
    pub(crate) fn kill_collector(&mut self) {
        self.collector.kill();
        self.kills.other += 1;
        self.collector.start(&self.minio, &COLLECT, Stdio::null());
    }

    /// Kills the server whatever it does.
    pub(crate) fn kill_server(&mut self) {
        self.server.kill();
        self.kills.other += 1;
        self.start_server();
    }

    /// The rows of a query that the server answers.
    pub(crate) fn ask_server(&self, sql: &str) -> Vec<Json> {
        let asked = ["sql", "--connect", &self.server_url, "--format=ndjson", sql];
        rows(alluvium(&asked))
    }

    /// Ends the compactors and the collector in order; the server goes on.
    pub(crate) fn end_background(&mut self) {
        for place in self.compactors.iter_mut().chain([&mut self.collector]) {
            place.end();
        }
    }

    /// Ends the server in order.
    pub(crate) fn end(mut self) {
        self.server.end();
    }
}
