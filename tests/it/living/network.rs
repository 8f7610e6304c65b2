//! A PLC directory and a PDS in a process of their own, and what clients ask of them.
//!
//! Everything is asked over the PDS's own methods by `tests/servers/network/network.mjs`; a deed that the PDS refuses
//! fails the test with what it said.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::{Value as Json, json};

use super::wait_until;
use crate::process::{Running, set_up};

/// How long one deed may take. It is never waited out when all is well.
const DEED_TIMEOUT: Duration = Duration::from_secs(60);

/// The program, and the script that installs its packages.
const PROGRAM: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/servers/network/network.mjs"
);
const PACKAGES: &str = "network.sh";

/// A running directory and PDS.
#[derive(Debug)]
pub(crate) struct Network {
    process: Running,
    deeds: ChildStdin,
    answers: mpsc::Receiver<String>,
    /// Deeds that were begun and not yet answered.
    begun: usize,
    /// The directory's URL.
    pub(crate) plc: String,
    /// The PDS's URL.
    pub(crate) pds: String,
}

impl Network {
    /// Starts both, with no account; the PDS keeps its data in `folder`. They end when this is dropped, or when the
    /// test's process ends however it ends.
    pub(crate) fn start(folder: &Path) -> Network {
        let mut command = Command::new("node");
        command.arg(PROGRAM).arg(set_up(PACKAGES)).arg(folder);
        command.stdin(Stdio::piped());
        let mut process = Running::start_into(command, Stdio::piped());
        let (deeds, stdout) = process.pipes();
        let (send, answers) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        let mut network = Network {
            process,
            deeds,
            answers,
            begun: 1,
            plc: String::new(),
            pds: String::new(),
        };
        let started = network.answer();
        let url = |name: &str| started[name].as_str().expect("a URL").to_owned();
        (network.plc, network.pds) = (url("plc"), url("pds"));
        network
    }

    /// The PDS as the relay names hosts.
    pub(crate) fn pds_host(&self) -> &str {
        let host = self.pds.strip_prefix("http://");
        host.expect("plain HTTP on loopback")
    }

    /// Begins a deed and does not wait for its answer.
    pub(crate) fn begin(&mut self, deed: &Json) {
        writeln!(self.deeds, "{deed}").expect("the network reads");
        self.begun += 1;
    }

    /// The answer to the oldest deed that was begun and not answered.
    pub(crate) fn answer(&mut self) -> Json {
        assert!(self.begun > 0, "no deed was begun");
        self.begun -= 1;
        let Ok(line) = self.answers.recv_timeout(DEED_TIMEOUT) else {
            panic!("the network did not answer: {:#?}", self.process.said())
        };
        let answer: Json = serde_json::from_str(&line).expect("a JSON object a line");
        match answer.get("ok") {
            Some(done) => done.clone(),
            None => panic!("the network refused: {}", answer["error"]),
        }
    }

    /// Waits for all deeds that were begun.
    pub(crate) fn finish(&mut self) {
        while self.begun > 0 {
            self.answer();
        }
    }

    /// Does one deed and returns its answer.
    pub(crate) fn tell(&mut self, deed: &Json) -> Json {
        assert_eq!(self.begun, 0, "deeds were begun and not answered");
        self.begin(deed);
        self.answer()
    }

    /// Waits until at least so many follow the PDS's events.
    pub(crate) fn wait_for_subscribers(&mut self, count: u64) {
        wait_until("somebody follows the PDS", || {
            let subscribers = self.tell(&json!({"do": "subscribers"}));
            subscribers.as_u64().is_some_and(|found| found >= count)
        });
    }

    /// Every account that was made, with all of its records as the PDS lists them.
    pub(crate) fn list(&mut self) -> Vec<Json> {
        match self.tell(&json!({"do": "list"})) {
            Json::Array(accounts) => accounts,
            other => panic!("not a list: {other}"),
        }
    }
}
