//! moto's S3: a server that we did not write, as a child process.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::ChecksumAlgorithm;
use recording_harvester::object::encode_crc64nvme;
use recording_harvester::object::s3::{S3Settings, StaticCredentials};
use secrecy::SecretString;
use tokio::process::{Child, Command};

use crate::harness::s3::{BUCKET, payload, raw_client};

/// moto is Python and takes seconds to start on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(60);

/// What is put to see whether moto can make the checksum.
const PROBE: &[u8] = b"probe";

/// A running moto with our bucket in it; killed when dropped.
pub struct Moto {
    endpoint: String,
    _process: Child,
}

impl Moto {
    /// `None`, loudly, when moto is not installed. With `REQUIRE_TEST_TOOLS=all` that fails instead.
    pub async fn start() -> Option<Moto> {
        let port = free_port();
        let spawned = Command::new(program())
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

    /// The same, and `None` as well for one without awscrt: it tells the CRC32 of an object as its CRC64NVME, which is
    /// rightly refused.
    pub async fn start_with_checksums() -> Option<Moto> {
        let moto = Moto::start().await?;
        let client = raw_client(&moto.endpoint, &any_credentials());
        let put = client
            .put_object()
            .bucket(BUCKET)
            .key("probe")
            .checksum_algorithm(ChecksumAlgorithm::Crc64Nvme)
            .body(ByteStream::from_static(PROBE))
            .send()
            .await
            .expect("moto takes an object");
        let expected = encode_crc64nvme(payload(PROBE).crc64nvme);
        if put.checksum_crc64_nvme() != Some(expected.as_str()) {
            crate::harness::skip("moto_server has no awscrt (pip install awscrt)");
            return None;
        }
        let gone = client.delete_object().bucket(BUCKET).key("probe").send();
        gone.await.expect("moto removes an object");
        Some(moto)
    }

    pub fn endpoint(&self) -> &str {
        &self.endpoint
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

/// The one that `.ci/run` installs, which has awscrt, if it is there.
fn program() -> PathBuf {
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/ci-tools/bin/moto_server");
    match installed.exists() {
        true => installed,
        false => PathBuf::from("moto_server"),
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
