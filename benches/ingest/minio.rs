//! A MinIO server of its own, as the tests start it.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

const USER: &str = "alluvium-bench";
const PASSWORD: &str = "alluvium-bench-only";

/// A server over a folder that is removed again.
#[derive(Debug)]
pub(crate) struct Minio {
    _process: Child,
    _folder: TempDir,
    address: SocketAddr,
}

impl Minio {
    /// Its one bucket.
    pub(crate) const BUCKET: &str = "bench";

    /// Starts it, once `tests/servers/minio.sh` has made the program.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/servers/minio.sh");
        let made = Command::new(script)
            .stderr(Stdio::inherit())
            .output()
            .await?;
        anyhow::ensure!(made.status.success(), "there is no MinIO");
        let program = String::from_utf8(made.stdout)?;
        let folder = tempfile::tempdir()?;
        std::fs::create_dir(folder.path().join(Self::BUCKET))?;
        let (address, console) = (free_address()?, free_address()?);
        let process = Command::new(program.trim())
            .args(["server", "--quiet", "--address", &address.to_string()])
            .args(["--console-address", &console.to_string()])
            .arg(folder.path())
            .env("MINIO_ROOT_USER", USER)
            .env("MINIO_ROOT_PASSWORD", PASSWORD)
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        // Once it accepts, the store's own retries do the rest.
        let mut looks = tokio::time::interval(Duration::from_millis(50));
        while TcpStream::connect(address).await.is_err() {
            looks.tick().await;
        }
        Ok(Self {
            _process: process,
            _folder: folder,
            address,
        })
    }

    /// What a client needs to reach it.
    pub(crate) fn environment(&self) -> HashMap<String, String> {
        let variables = [
            ("AWS_ENDPOINT_URL", format!("http://{}", self.address)),
            ("AWS_ACCESS_KEY_ID", USER.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", PASSWORD.to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
        ];
        variables
            .map(|(name, value)| (name.to_owned(), value))
            .into()
    }
}

fn free_address() -> std::io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}
