//! moto's S3: a server that we did not write, as a child process.

use std::process::Stdio;
use std::time::Duration;

use recording_harvester::object::s3::{S3Settings, StaticCredentials};
use secrecy::SecretString;
use tokio::process::{Child, Command};

use crate::harness::s3::{BUCKET, raw_client};

/// moto is Python and takes seconds to start on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(60);

/// A running moto with our bucket in it; killed when dropped.
pub struct Moto {
    endpoint: String,
    _process: Child,
}

impl Moto {
    /// `None`, loudly, when moto is not installed. With `REQUIRE_TEST_TOOLS=all` that fails instead.
    pub async fn start() -> Option<Moto> {
        let port = free_port();
        let spawned = Command::new("moto_server")
            .args(["-H", "127.0.0.1", "-p", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        let Ok(process) = spawned else {
            crate::harness::skip("moto_server not found");
            return None;
        };
        let moto = Moto {
            endpoint: format!("http://127.0.0.1:{port}"),
            _process: process,
        };
        moto.create_bucket().await;
        Some(moto)
    }

    pub fn settings(&self) -> S3Settings {
        S3Settings {
            bucket: BUCKET.to_owned(),
            region: None,
            endpoint: Some(self.endpoint.clone()),
            path_style: true,
            credentials: Some(any_credentials()),
            slowest_bytes_per_second: 1 << 20,
        }
    }

    /// Waits until it answers: a connection is refused until then.
    async fn create_bucket(&self) {
        let client = raw_client(&self.endpoint, &any_credentials());
        let create = async {
            while client.create_bucket().bucket(BUCKET).send().await.is_err() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let started = tokio::time::timeout(START_LIMIT, create).await;
        started.expect("moto_server did not start in time");
    }
}

/// moto asks nobody for the right key.
fn any_credentials() -> StaticCredentials {
    StaticCredentials {
        access_key: "moto".to_owned(),
        secret_key: SecretString::from("moto"),
    }
}

/// Free at this moment; moto can't be asked to take port 0 and tell.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}
