//! Connecting to where recordings go: the configured bucket, or the embedded server.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::SharedClock;
use crate::config::{ArchiveConfig, Config};
use crate::error::{Error, Result};
use crate::object::ObjectStore;
use crate::object::embedded::{self, Abilities, EmbeddedS3, EmbeddedSettings};
use crate::object::s3::{Retention, S3Settings, S3Store, UploadOptions};
use crate::source::guard::is_public;
use crate::source::own_store::OwnStore;

/// The bucket of the embedded server.
const EMBEDDED_BUCKET: &str = "archive";

/// How long the name of the archive's endpoint may take to resolve at the start.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);

/// An upload slower than this has failed: a part of 5 MiB then takes almost three minutes.
const SLOWEST_UPLOAD_BYTES_PER_SECOND: u64 = 32 * 1024;

/// Where recordings go.
pub struct ArchiveTarget {
    /// The bucket.
    pub objects: Arc<dyn ObjectStore>,
    /// For a person: what it is and how to look into it.
    pub description: String,
    pub(super) embedded: Option<EmbeddedS3>,
    pub(super) own_store: Option<OwnStore>,
}

impl ArchiveTarget {
    /// Whether it can be written to, as far as asking tells.
    ///
    /// # Errors
    /// As [`ObjectStore::check_bucket`].
    pub async fn check(&self) -> Result<()> {
        self.objects.check_bucket().await
    }

    /// The embedded server's address, when this process runs it.
    pub fn embedded_address(&self) -> Option<SocketAddr> {
        self.embedded.as_ref().map(EmbeddedS3::address)
    }

    /// Stops the embedded server, if this process runs it.
    pub async fn close(self) {
        if let Some(server) = self.embedded {
            server.stop().await;
        }
    }
}

/// Whose embedded server to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Embedded {
    /// Only one of this process, which lives as long as it does.
    Own,
    /// That of a running worker on the same data folder if there is one.
    MayShare,
}

/// Where recordings can go: all that connecting has to know.
pub(crate) struct BucketConnector<'a> {
    /// The settings.
    pub(crate) config: &'a Config,
    /// For the embedded server.
    pub(crate) clock: &'a SharedClock,
}

impl BucketConnector<'_> {
    /// Connects to the configured bucket, or starts the embedded server.
    pub(crate) async fn destination(&self, embedded: Embedded) -> Result<ArchiveTarget> {
        match &self.config.archive.bucket {
            Some(bucket) => self.real_bucket(bucket).await,
            None => self.embedded_bucket(embedded).await,
        }
    }

    async fn real_bucket(&self, bucket: &str) -> Result<ArchiveTarget> {
        let archive = &self.config.archive;
        let store = S3Store::connect(S3Settings {
            bucket: bucket.to_owned(),
            region: archive.region.clone(),
            endpoint: archive.endpoint.clone(),
            path_style: archive.path_style.unwrap_or(archive.endpoint.is_some()),
            credentials: None,
            slowest_bytes_per_second: SLOWEST_UPLOAD_BYTES_PER_SECOND,
        })
        .await?
        .with_options(upload_options(archive), Arc::clone(self.clock));
        let mut description = format!("s3://{bucket}/{}", archive.prefix.trim_matches('/'));
        if let Some(endpoint) = &archive.endpoint {
            description.push_str(&format!(" at {endpoint}"));
        }
        Ok(ArchiveTarget {
            objects: Arc::new(store),
            description,
            embedded: None,
            own_store: match &archive.endpoint {
                Some(endpoint) => own_store(endpoint, bucket).await,
                None => None,
            },
        })
    }

    /// Another harvester of the same data folder may be serving it already: two servers on one folder would
    /// not see each other's uploads, so then we are its client.
    async fn embedded_bucket(&self, embedded: Embedded) -> Result<ArchiveTarget> {
        let root = self.embedded_root();
        let listen = self.config.archive.embedded_listen;
        if embedded == Embedded::MayShare
            && let Some(objects) = self.running_embedded(&root, listen).await
        {
            return Ok(ArchiveTarget {
                objects: Arc::new(objects),
                description: describe_embedded(&root, &format!("http://{listen}")),
                embedded: None,
                own_store: None,
            });
        }
        let settings = EmbeddedSettings {
            root: root.clone(),
            listen,
            bucket: EMBEDDED_BUCKET.to_owned(),
            abilities: Abilities {
                checksums: self.config.archive.embedded_checksums,
                ..Abilities::default()
            },
        };
        let server = EmbeddedS3::start(settings, Arc::clone(self.clock))
            .await
            .map_err(|error| {
                let why = error.full_message();
                Error::invalid(format!(
                    "{why}; is another harvester running? `archive.embedded_listen` sets the address, `archive.bucket` a bucket of your own"
                ))
            })?;
        let settings = embedded_client(server.endpoint(), server.credentials());
        Ok(ArchiveTarget {
            objects: Arc::new(S3Store::connect(settings).await?),
            description: describe_embedded(&root, &server.endpoint()),
            embedded: Some(server),
            own_store: None,
        })
    }

    fn embedded_root(&self) -> PathBuf {
        self.config.data_dir.join("s3")
    }

    /// A server on the port that knows our credentials is one of ours, on this folder.
    async fn running_embedded(
        &self,
        root: &std::path::Path,
        listen: SocketAddr,
    ) -> Option<S3Store> {
        let credentials = embedded::read_credentials(root)?;
        if listen.port() == 0 || tokio::net::TcpStream::connect(listen).await.is_err() {
            return None;
        }
        let settings = embedded_client(format!("http://{listen}"), credentials);
        let store = S3Store::connect(settings).await.ok()?;
        store.check_bucket().await.is_ok().then_some(store)
    }
}

/// The configured store, as the guard knows it. One whose name can't be resolved now is refused by its name.
async fn own_store(endpoint: &str, bucket: &str) -> Option<OwnStore> {
    let endpoint = url::Url::parse(endpoint).ok()?;
    let found = async {
        let found = tokio::task::spawn_blocking({
            let endpoint = endpoint.clone();
            move || endpoint.socket_addrs(|| None)
        });
        found.await.ok()?.ok()
    };
    let found = tokio::time::timeout(RESOLVE_TIMEOUT, found).await;
    let found = found.ok().flatten().unwrap_or_default();
    let found: Vec<_> = found.iter().map(SocketAddr::ip).collect();
    Some(OwnStore::new(&endpoint, bucket, &found, is_public))
}

pub(super) fn upload_options(archive: &ArchiveConfig) -> UploadOptions {
    let prefix = archive.prefix.trim_matches('/');
    let slash = if prefix.is_empty() { "" } else { "/" };
    UploadOptions {
        storage_class: archive.storage_class.clone(),
        kms_key_id: archive.kms_key_id.clone(),
        tags: archive.tag_pairs(),
        retention: archive.lock_mode.as_deref().map(|mode| Retention {
            is_compliance: mode == "compliance",
            days: archive.lock_days,
        }),
        probe_key: format!("{prefix}{slash}.harvester-probe"),
    }
}

fn embedded_client(
    endpoint: String,
    credentials: crate::object::s3::StaticCredentials,
) -> S3Settings {
    S3Settings {
        bucket: EMBEDDED_BUCKET.to_owned(),
        region: Some("us-east-1".to_owned()),
        endpoint: Some(endpoint),
        path_style: true,
        credentials: Some(credentials),
        slowest_bytes_per_second: SLOWEST_UPLOAD_BYTES_PER_SECOND,
    }
}

fn describe_embedded(root: &std::path::Path, endpoint: &str) -> String {
    let root = root.display();
    format!(
        "the embedded S3 server at {endpoint}, bucket {EMBEDDED_BUCKET} (files under {root}, keys in {root}/credentials)"
    )
}
