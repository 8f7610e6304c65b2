//! A real relay that follows the PDS, killed and started again where it was.
//!
//! A relay refuses hosts on loopback, on its admin route too. So it makes its database in a first run, gets the PDS as
//! a row of its own table of hosts, and subscribes to it in the second run, as after any restart.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value as Json;

use super::network::Network;
use super::wait_until;
use crate::process::{Running, answer, free_address, get, set_up};

/// A host that was not read from yet, and is trusted, so without rate limits.
const ADD_HOST: &str = "INSERT INTO host
    (created_at, updated_at, hostname, no_ssl, account_limit, trusted, status, last_seq, account_count)
    VALUES (datetime('now'), datetime('now'), ?, 1, 1000000, 1, 'active', -1, 0)";

/// A host that will be read from its next event on.
const FORGET_CURSOR: &str = "UPDATE host SET last_seq = -1 WHERE hostname = ?";

/// Runs the statement `argv[2]` with the parameter `argv[3]` on the database `argv[1]`.
const ON_DATABASE: &str = "
import sqlite3, sys
with sqlite3.connect(sys.argv[1]) as database:
    assert database.execute(sys.argv[2], sys.argv[3:]).rowcount == 1
";

/// A relay of one PDS.
#[derive(Debug)]
pub(crate) struct Relay {
    process: Option<Running>,
    address: SocketAddr,
    folder: PathBuf,
    plc: String,
    host: String,
}

impl Relay {
    /// Starts a relay that keeps its data in `folder` and waits until it follows the PDS, from its next event on.
    pub(crate) fn start(folder: &Path, network: &mut Network) -> Relay {
        let mut relay = Relay {
            process: None,
            address: free_address(),
            folder: folder.to_owned(),
            plc: network.plc.clone(),
            host: network.pds_host().to_owned(),
        };
        std::fs::create_dir_all(folder).expect("a folder");
        relay.start_again();
        let first = relay.process.take().expect("it runs");
        first.stop("TERM");
        relay.on_database(ADD_HOST);
        relay.start_again();
        network.wait_for_subscribers(1);
        relay
    }

    fn on_database(&self, statement: &str) {
        let mut python = Command::new("python3");
        python.args(["-c", ON_DATABASE]);
        python.args([&self.database(), statement, &self.host]);
        answer(python);
    }

    /// Lets the relay, which does not run, skip what the PDS emits until it is started again.
    pub(crate) fn forget_cursor(&self) {
        self.on_database(FORGET_CURSOR);
    }

    /// The URL that its consumers connect to.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn database(&self) -> String {
        let path = self.folder.join("relay.sqlite");
        path.to_str().expect("UTF-8").to_owned()
    }

    /// Kills it at once, when it has noted where it is in the PDS's events: before that it would begin anew with the
    /// next event, and there would be nothing to go on from.
    pub(crate) fn kill(&mut self) {
        let path = format!(
            "/xrpc/com.atproto.sync.getHostStatus?hostname={}",
            self.host
        );
        wait_until("the relay notes where it is", || {
            let status = get(self.address, &path);
            let body = status.split("\r\n\r\n").nth(1).unwrap_or_default();
            let status: Json = serde_json::from_str(body).unwrap_or_default();
            status["seq"].as_i64().is_some_and(|seq| seq > 0)
        });
        let (status, said) = self.process.take().expect("it runs").stop("KILL");
        assert!(status.code().is_none(), "it ended by itself: {said:#?}");
    }

    /// Starts it where it was.
    pub(crate) fn start_again(&mut self) {
        let mut command = Command::new(set_up("relay.sh"));
        command.args(["--plc-host", &self.plc, "--log-level", "warn", "serve"]);
        command.args(["--bind", &self.address.to_string()]);
        command.args(["--metrics-listen", &free_address().to_string()]);
        command.args(["--db-url", &format!("sqlite://{}", self.database())]);
        command
            .arg("--persist-dir")
            .arg(self.folder.join("persist"));
        command.arg("--allow-insecure-hosts");
        command.env("RELAY_ADMIN_PASSWORD", "relay-test-only");
        let mut process = Running::start(command);
        process.wait_until_ready(self.address, "/xrpc/_health");
        self.process = Some(process);
    }
}
