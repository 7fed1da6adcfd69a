//! The embedded S3 server: what the archive is in when no bucket is configured, and what tests run on.
//!
//! Small, and strict where S3 is: checksums, part rules, conditions, order and paging of listings. Objects
//! are plain files under `<root>/<bucket>/<key>`, so that a person can open them; what else S3 knows of
//! them lies in hidden folders beside. ETags are opaque (CRC64NVME and a number, never an MD5), as they are
//! on S3 itself for encrypted objects.

mod abilities;
mod answers;
mod checksum;
mod complete;
mod conditions;
mod credentials;
mod disk;
mod drain;
mod files;
mod listing;
mod names;
mod object_meta;
mod receive;
mod server;
mod service;
mod uploads;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use s3s::auth::{SecretKey, SimpleAuth};
use s3s::service::S3ServiceBuilder;
use secrecy::ExposeSecret as _;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

pub use self::abilities::{Abilities, WriteConditionSupport};
use self::service::Service;
use super::s3::StaticCredentials;
use crate::clock::SharedClock;
use crate::error::{Class, Error, Result};

/// How long `stop` waits for requests that are being answered.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// A server that was just dropped holds its folder for a moment longer: `start` tries as often as this.
const LOCK_ATTEMPTS: u32 = 30;

/// And pauses in between.
const LOCK_PAUSE: Duration = Duration::from_millis(100);

/// Where the server keeps its files and listens.
#[derive(Clone, Debug)]
pub struct EmbeddedSettings {
    /// The folder of everything; one server at a time.
    pub root: PathBuf,
    /// A loopback address; port 0 takes a free one.
    pub listen: SocketAddr,
    /// A bucket that is there from the start.
    pub bucket: String,
    /// What it does beyond keeping bytes; all of it by default.
    pub abilities: Abilities,
}

/// A running server. Dropping it stops it without waiting; [`stop`](EmbeddedS3::stop) waits.
#[must_use = "the server stops when this is dropped"]
pub struct EmbeddedS3 {
    address: SocketAddr,
    credentials: StaticCredentials,
    tasks: TaskTracker,
    shutdown: DropGuard,
}

impl EmbeddedS3 {
    /// Opens the folder, finishes what a crash interrupted, and listens.
    ///
    /// # Errors
    /// `upload_denied` when the folder can't be used or is in use, or the address is taken or not loopback.
    pub async fn start(settings: EmbeddedSettings, clock: SharedClock) -> Result<EmbeddedS3> {
        if !settings.listen.ip().is_loopback() {
            let text = format!(
                "start the embedded object store: {} is not a loopback address",
                settings.listen
            );
            return Err(Error::new(Class::UploadDenied, text));
        }
        if !is_bucket_name(&settings.bucket) {
            let text = format!(
                "start the embedded object store: \"{}\" is no bucket name",
                settings.bucket
            );
            return Err(Error::new(Class::UploadDenied, text));
        }
        let (service, credentials) = open_patiently(&settings, &clock).await?;
        let listener = TcpListener::bind(settings.listen).await.map_err(|error| {
            let text = format!("start the embedded object store on {}", settings.listen);
            Error::new(Class::UploadDenied, text).with_source(error)
        })?;
        let address = listener.local_addr().map_err(|error| {
            Error::internal("learn the embedded object store's address").with_source(error)
        })?;
        let mut builder = S3ServiceBuilder::new(service);
        let secret = SecretKey::from(credentials.secret_key.expose_secret());
        builder.set_auth(SimpleAuth::from_single(&credentials.access_key, secret));
        let tasks = TaskTracker::new();
        let shutdown = CancellationToken::new();
        tasks.spawn(server::serve(
            listener,
            builder.build(),
            tasks.clone(),
            shutdown.clone(),
        ));
        Ok(EmbeddedS3 {
            address,
            credentials,
            tasks,
            shutdown: shutdown.drop_guard(),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its URL for S3 clients.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The access key that it takes; also in the file `credentials` under its root.
    pub fn credentials(&self) -> StaticCredentials {
        self.credentials.clone()
    }

    /// Stops accepting, lets requests in progress end for a bounded time, and lets go of the folder.
    pub async fn stop(self) {
        drop(self.shutdown);
        self.tasks.close();
        if tokio::time::timeout(STOP_LIMIT, self.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!("the embedded object store stops with requests unanswered");
        }
    }
}

/// The access key of the server of `root`, for another process of the same user; `None` when none has
/// ever run there.
pub fn read_credentials(root: &Path) -> Option<StaticCredentials> {
    credentials::read(root)
}

/// S3's rules for names, which also keep a bucket one plain folder.
fn is_bucket_name(name: &str) -> bool {
    let is_edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    (3..=63).contains(&name.len())
        && name.starts_with(is_edge)
        && name.ends_with(is_edge)
        && name.chars().all(|c| is_edge(c) || c == '-' || c == '.')
        && !name.contains("..")
}

async fn open_patiently(
    settings: &EmbeddedSettings,
    clock: &SharedClock,
) -> Result<(Service, StaticCredentials)> {
    let folder = settings.root.display();
    for _ in 0..LOCK_ATTEMPTS {
        let (settings, clock) = (settings.clone(), clock.clone());
        let opening = tokio::task::spawn_blocking(move || open(settings, clock));
        let opened = opening.await.map_err(|error| {
            Error::internal("open the embedded object store").with_source(error)
        })?;
        match opened {
            Ok(opened) => return Ok(opened),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                tokio::time::sleep(LOCK_PAUSE).await;
            }
            Err(error) => {
                let text = format!("open the embedded object store in {folder}");
                return Err(Error::new(Class::UploadDenied, text).with_source(error));
            }
        }
    }
    let text = format!("open the embedded object store in {folder}: another process uses it");
    Err(Error::new(Class::UploadDenied, text))
}

fn open(
    settings: EmbeddedSettings,
    clock: SharedClock,
) -> io::Result<(Service, StaticCredentials)> {
    let service = Service::open(settings, clock)?;
    let credentials = credentials::load_or_create(service.disk.root())?;
    Ok((service, credentials))
}
