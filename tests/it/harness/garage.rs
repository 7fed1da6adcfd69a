//! Garage: an S3 server that we did not write, as a child process with one node.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use recording_harvester::object::s3::StaticCredentials;
use secrecy::{ExposeSecret as _, SecretString};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::s3::{BUCKET, raw_client};

/// A busy machine takes seconds to start it.
const START_LIMIT: Duration = Duration::from_secs(60);

/// Garage takes keys of this form only: `GK` and 24 hexadecimal digits, and a secret of 64.
const ACCESS_KEY: &str = "GK31c2f218a2e44f485b94239e";
const SECRET_KEY: &str = "b892c0665f0ada8a4755dae98baa3b133590e11dae3bcc1f9d769d67f16c3835";

/// A running Garage with our bucket in it; killed when dropped.
pub struct Garage {
    endpoint: String,
    folder: TempDir,
    _server: Child,
}

impl Garage {
    /// `None`, loudly, when Garage is not installed. With `REQUIRE_TEST_TOOLS=all` that fails instead.
    pub async fn start() -> Option<Garage> {
        let folder = tempfile::tempdir().unwrap();
        let [api, rpc] = free_ports();
        let config = configure(folder.path(), api, rpc);
        let spawned = garage(&config).arg("server").spawn();
        let Ok(server) = spawned else {
            super::skip("garage not found");
            return None;
        };
        let garage = Garage {
            endpoint: format!("http://127.0.0.1:{api}"),
            folder,
            _server: server,
        };
        tokio::time::timeout(START_LIMIT, garage.prepare())
            .await
            .expect("garage did not start in time");
        Some(garage)
    }

    /// A client that knows nothing of ours.
    pub fn client(&self) -> aws_sdk_s3::Client {
        raw_client(&self.endpoint, &credentials())
    }

    /// What `[archive]` needs to name this bucket.
    pub fn archive_settings(&self) -> String {
        format!(
            "bucket = \"{BUCKET}\"\nregion = \"us-east-1\"\nendpoint = \"{}\"\npath_style = true\n",
            self.endpoint
        )
    }

    /// The node gets all of the space, the key and the bucket are made.
    async fn prepare(&self) {
        let node = loop {
            if let Some(id) = self.try_command(&["node", "id", "-q"]).await
                && self.try_command(&["status"]).await.is_some()
            {
                break id.split('@').next().unwrap().trim().to_owned();
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        for arguments in [
            &["layout", "assign", "-z", "here", "-c", "10G", &node][..],
            &["layout", "apply", "--version", "1"],
            &[
                "key", "import", "--yes", "-n", "tests", ACCESS_KEY, SECRET_KEY,
            ],
            &["bucket", "create", BUCKET],
            &[
                "bucket", "allow", "--read", "--write", "--owner", BUCKET, "--key", ACCESS_KEY,
            ],
        ] {
            let done = self.try_command(arguments).await;
            assert!(done.is_some(), "garage {arguments:?} failed");
        }
        let client = self.client();
        while client.head_bucket().bucket(BUCKET).send().await.is_err() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// What the command printed, when it ended well.
    async fn try_command(&self, arguments: &[&str]) -> Option<String> {
        let config = self.folder.path().join("garage.toml");
        let output = garage(&config)
            .args(arguments)
            .stdout(Stdio::piped())
            .output()
            .await
            .unwrap();
        let is_done = output.status.success();
        is_done.then(|| String::from_utf8(output.stdout).unwrap())
    }
}

/// The environment that gives the program the key of the bucket.
pub const ENVIRONMENT: [(&str, &str); 2] = [
    ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
    ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
];

fn credentials() -> StaticCredentials {
    StaticCredentials {
        access_key: ACCESS_KEY.to_owned(),
        secret_key: SecretString::from(SECRET_KEY),
    }
}

fn garage(config: &Path) -> Command {
    let mut command = Command::new("garage");
    command
        .arg("-c")
        .arg(config)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    command
}

fn configure(folder: &Path, api: u16, rpc: u16) -> PathBuf {
    let config = format!(
        r#"
metadata_dir = "{folder}/meta"
data_dir = "{folder}/data"
db_engine = "lmdb"
replication_factor = 1
rpc_bind_addr = "127.0.0.1:{rpc}"
rpc_public_addr = "127.0.0.1:{rpc}"
rpc_secret = "{secret}"

[s3_api]
s3_region = "us-east-1"
api_bind_addr = "127.0.0.1:{api}"
"#,
        folder = folder.display(),
        secret = credentials().secret_key.expose_secret(),
    );
    let path = folder.join("garage.toml");
    std::fs::write(&path, config).unwrap();
    path
}

/// Free at this moment; Garage can't be asked to take port 0 and tell.
fn free_ports() -> [u16; 2] {
    let listeners = [0, 1].map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}
