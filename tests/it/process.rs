//! Starts real processes on loopback for tests: `alluvium` itself, and MinIO as its store.
//!
//! A process gets a free port, is waited for until it answers, and is stopped by its id when dropped. One that does
//! not start fails the test with what it said; nothing is skipped.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// How long a process may take to answer. It is never waited out when all is well.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a process may take to end after it was asked to.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);

/// `alluvium` with these arguments, in a clean environment: no token, no credentials, no log filter.
pub(crate) fn alluvium(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_alluvium"));
    command.args(arguments).stdin(Stdio::null());
    for (name, _) in std::env::vars()
        .filter(|(name, _)| name.starts_with("ALLUVIUM_") || name.starts_with("AWS_"))
    {
        command.env_remove(name);
    }
    command
}

/// Runs `alluvium` to its end.
pub(crate) fn run(arguments: &[&str]) -> Output {
    alluvium(arguments)
        .output()
        .expect("alluvium can be started")
}

/// A command's standard error, which has to be one line, after it failed with `code`.
pub(crate) fn failure(arguments: &[&str], code: i32) -> String {
    let output = run(arguments);
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
    assert!(
        output.stdout.is_empty(),
        "{arguments:?} printed {:?}",
        String::from_utf8_lossy(&output.stdout)
    );
    assert_eq!(said.lines().count(), 1, "{arguments:?}: {said}");
    said
}

/// Runs `alluvium`, which has to succeed, and returns its standard output.
pub(crate) fn succeed(arguments: &[&str]) -> String {
    answer(alluvium(arguments))
}

/// Runs a command, which has to succeed, and returns its standard output.
pub(crate) fn answer(mut command: Command) -> String {
    let output = command.output().expect("a process can be started");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{command:?} ended with {}: {said}",
        output.status
    );
    String::from_utf8(output.stdout).expect("output is UTF-8")
}

/// A process that runs until it is stopped.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    /// Where its lines on standard error come out.
    lines: mpsc::Receiver<String>,
    /// What it said so far, for a failing test to show.
    said: Vec<String>,
}

impl Running {
    /// Starts `command`; its standard output is thrown away.
    pub(crate) fn start(command: Command) -> Running {
        Running::start_into(command, Stdio::null())
    }

    /// Starts `command` with this standard output.
    pub(crate) fn start_into(mut command: Command, stdout: Stdio) -> Running {
        let mut child = command
            .stdout(stdout)
            .stderr(Stdio::piped())
            .spawn()
            .expect("a process can be started");
        let stderr = child.stderr.take().expect("standard error is piped");
        let (send, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        Running {
            child,
            lines,
            said: Vec::new(),
        }
    }

    /// Waits for a line that `wanted` finds something in.
    pub(crate) fn wait_for<T>(&mut self, wanted: impl Fn(&str) -> Option<T>) -> T {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else {
                panic!(
                    "the process did not say what was waited for; it said {:#?}",
                    self.said
                );
            };
            self.said.push(line);
            if let Some(found) = self.said.last().and_then(|line| wanted(line)) {
                return found;
            }
        }
    }

    /// Waits until the process answers `path` at `address` with 200.
    pub(crate) fn wait_until_ready(&mut self, address: SocketAddr, path: &str) {
        let deadline = Instant::now() + START_TIMEOUT;
        while !get(address, path).starts_with("HTTP/1.1 200") {
            let ended = self.child.try_wait().expect("the process can be asked");
            self.said.extend(self.lines.try_iter());
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "the process did not answer {path}: {:#?}",
                self.said
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// What it said since it was started, or since it was last asked.
    pub(crate) fn said(&mut self) -> Vec<String> {
        self.said.extend(self.lines.try_iter());
        std::mem::take(&mut self.said)
    }

    /// The pipes of a process that was started with pipes as its standard input and output.
    pub(crate) fn pipes(&mut self) -> (ChildStdin, ChildStdout) {
        let pipes = (self.child.stdin.take(), self.child.stdout.take());
        let (Some(stdin), Some(stdout)) = pipes else {
            panic!("it was started without pipes, or they are taken")
        };
        (stdin, stdout)
    }

    /// The process's id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends `signal` (as `kill` names it), waits for the end, and returns its status and all that it said.
    pub(crate) fn stop(self, signal: &str) -> (ExitStatus, Vec<String>) {
        let sent = Command::new("kill")
            .arg(format!("-{signal}"))
            .arg(self.id().to_string())
            .status();
        assert!(
            sent.expect("kill is there").success(),
            "the process had ended; it said {:#?}",
            self.said
        );
        self.end()
    }

    /// Waits until the process ends by itself, and returns its status and all that it said.
    pub(crate) fn end(mut self) -> (ExitStatus, Vec<String>) {
        let deadline = Instant::now() + STOP_TIMEOUT;
        while let Ok(line) = self
            .lines
            .recv_timeout(deadline.saturating_duration_since(Instant::now()))
        {
            self.said.push(line);
        }
        assert!(
            Instant::now() < deadline,
            "the process did not end; it said {:#?}",
            self.said
        );
        let status = self.child.wait().expect("the process can be waited for");
        (status, std::mem::take(&mut self.said))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already where a test stopped it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The address in a line such as `serving … at grpc://127.0.0.1:7070`.
pub(crate) fn address_in(line: &str) -> Option<SocketAddr> {
    line.split("grpc://")
        .nth(1)?
        .split_whitespace()
        .next()?
        .parse()
        .ok()
}

/// A MinIO server over a folder, with one user.
#[derive(Debug)]
pub(crate) struct Minio {
    process: Running,
    address: SocketAddr,
}

/// The name and the password of its user.
const MINIO_USER: &str = "alluvium-test";
const MINIO_PASSWORD: &str = "alluvium-test-only";

impl Minio {
    /// Starts a server that keeps its buckets in `folder`; a bucket is a folder there.
    pub(crate) fn start(folder: &Path) -> Minio {
        Minio::start_at(free_address(), folder)
    }

    /// Starts a server where another one was.
    pub(crate) fn start_at(address: SocketAddr, folder: &Path) -> Minio {
        let program = set_up("minio.sh");
        let mut command = Command::new(program);
        command.args(["server", "--quiet", "--address", &address.to_string()]);
        command
            .args(["--console-address", &free_address().to_string()])
            .arg(folder);
        command
            .env("MINIO_ROOT_USER", MINIO_USER)
            .env("MINIO_ROOT_PASSWORD", MINIO_PASSWORD);
        let mut process = Running::start(command);
        process.wait_until_ready(address, "/minio/health/ready");
        Minio { process, address }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Kills it at once; another one may be started where it was.
    pub(crate) fn kill(self) {
        self.process.stop("KILL");
    }

    /// The variables that a client needs to reach this server.
    pub(crate) fn environment(&self) -> HashMap<String, String> {
        let variables = [
            ("AWS_ENDPOINT_URL", format!("http://{}", self.address)),
            ("AWS_ACCESS_KEY_ID", MINIO_USER.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", MINIO_PASSWORD.to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
        ];
        variables
            .map(|(name, value)| (name.to_owned(), value))
            .into()
    }

    /// Gives `command` what it needs to reach this server.
    pub(crate) fn lend(&self, command: &mut Command) {
        command.envs(self.environment());
    }
}

/// Runs a script of `tests/servers`, which makes a program and prints its path.
pub(crate) fn set_up(script: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/servers")
        .join(script);
    let output = Command::new(path)
        .output()
        .expect("the script can be started");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{script} failed, which `tests/run` calls before the tests: {said}"
    );
    PathBuf::from(String::from_utf8(output.stdout).expect("a path").trim())
}

/// An address on loopback that nobody listens on now.
pub(crate) fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address")
}

/// The whole answer to one HTTP request, headers included; empty when nobody answers.
pub(crate) fn get(address: SocketAddr, path: &str) -> String {
    get_as(address, path, None)
}

/// As [`get`], with a token.
pub(crate) fn get_as(address: SocketAddr, path: &str, token: Option<&str>) -> String {
    use std::io::{Read as _, Write as _};
    let authorization = token
        .map(|token| format!("authorization: Bearer {token}\r\n"))
        .unwrap_or_default();
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n{authorization}\r\n"
    );
    let ask = || -> std::io::Result<String> {
        let mut stream = std::net::TcpStream::connect(address)?;
        stream.set_read_timeout(Some(START_TIMEOUT))?;
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().unwrap_or_default()
}
