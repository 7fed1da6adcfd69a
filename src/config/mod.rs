//! The configuration: a TOML file, environment over it, flags over both; resolved once, at the edge.
//!
//! The file is the one that `--config` names, else `./harvester.toml` if it is there and nobody else can have written
//! it, else none.
//! Every key is also an environment variable `HARVESTER_SECTION__KEY`, such as
//! `HARVESTER_ARCHIVE__BUCKET` or `HARVESTER_SOURCES__DAILY__API_KEY`; a list is then text with commas.
//! Source names are compared without case and with `_` for `-`, so `HARVESTER_SOURCES__MY_DAILY__API_KEY`
//! belongs to `[sources.my-daily]`; a source that only the environment names is in lower case.
//! Unknown keys are errors that name line and key, or the variable.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use secrecy::SecretString;
use serde::Deserialize;

use crate::model::Provider;

mod bandwidth;
mod definition;
mod faults;
mod folders;
mod implicit;
mod interval;
mod layers;
mod lenient;
mod load;
mod size;
mod toml_fault;
mod validate;
mod validate_source;

pub use bandwidth::{Bandwidth, BandwidthWindow};
pub use definition::DefinitionSetting;
pub use interval::Interval;
pub use layers::Layers;
pub use load::load;
pub use size::ByteSize;
pub use validate::MIN_MEMORY_BYTES;

/// The whole configuration. Without any, everything is embedded under `./harvester-data`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where the store and the embedded S3 keep their files.
    pub data_dir: PathBuf,
    /// The public listener, for webhooks.
    pub listen: SocketAddr,
    /// Proxies before the public listener: the limits of one sender are not for them.
    #[serde(deserialize_with = "lenient::networks")]
    pub trusted_proxies: Vec<IpNet>,
    /// The operator's listener.
    pub admin: AdminConfig,
    /// Where recordings go.
    pub archive: ArchiveConfig,
    /// Who sends events. Without any, every provider is a source of its own name.
    pub sources: BTreeMap<String, SourceConfig>,
    /// What may be fetched.
    pub guard: GuardConfig,
    /// Numbers.
    pub limits: LimitsConfig,
    /// The state.
    pub store: StoreConfig,
    /// The file that was read without being named, as a person names it.
    #[serde(skip)]
    pub implicit_file: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            data_dir: PathBuf::from("./harvester-data"),
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            trusted_proxies: Vec::new(),
            admin: AdminConfig::default(),
            archive: ArchiveConfig::default(),
            sources: BTreeMap::new(),
            guard: GuardConfig::default(),
            limits: LimitsConfig::default(),
            store: StoreConfig::default(),
            implicit_file: None,
        }
    }
}

impl Config {
    /// The sources by name, each with its provider: those that are configured, else one for every provider.
    pub fn resolved_sources(&self) -> BTreeMap<String, (Provider, SourceConfig)> {
        if self.sources.is_empty() {
            return Provider::ALL
                .into_iter()
                .map(|provider| {
                    let name = provider.as_str().to_owned();
                    (name, (provider, SourceConfig::default()))
                })
                .collect();
        }
        self.sources
            .iter()
            .filter_map(|(name, source)| {
                let provider = source.provider_under(name)?;
                Some((name.clone(), (provider, source.clone())))
            })
            .collect()
    }

    /// The SQLite file of the store.
    pub fn store_path(&self) -> PathBuf {
        match self.store.url.as_deref() {
            Some(url) => {
                let path = url.strip_prefix("sqlite:").unwrap_or(url);
                PathBuf::from(path.strip_prefix("//").unwrap_or(path))
            }
            None => self.data_dir.join("harvester.db"),
        }
    }
}

/// `[admin]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdminConfig {
    /// The operator's listener.
    pub listen: SocketAddr,
    /// Bearer token; required when `listen` is not loopback.
    #[serde(deserialize_with = "lenient::secret")]
    pub token: Option<SecretString>,
}

impl Default for AdminConfig {
    fn default() -> Self {
        AdminConfig {
            listen: SocketAddr::from(([127, 0, 0, 1], 8081)),
            token: None,
        }
    }
}

/// `[archive]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ArchiveConfig {
    /// The bucket. Without one, the embedded S3 server is used.
    pub bucket: Option<String>,
    /// Put before every key.
    pub prefix: String,
    /// The AWS region; else the AWS chain decides.
    pub region: Option<String>,
    /// An S3-compatible store's address.
    pub endpoint: Option<String>,
    /// Bucket in the path instead of the host name; on by default with an endpoint.
    #[serde(deserialize_with = "lenient::optional_boolean")]
    pub path_style: Option<bool>,
    /// How keys are made.
    pub template: String,
    /// The storage class of recordings, such as `STANDARD_IA`; else the bucket's own.
    pub storage_class: Option<String>,
    /// The key of SSE-KMS; else the bucket's own encryption.
    pub kms_key_id: Option<String>,
    /// Tags of what is uploaded, as `key=value`.
    #[serde(deserialize_with = "lenient::words")]
    pub tags: Vec<String>,
    /// Content-Disposition of recordings: `attachment` or `inline`, with the file's name.
    pub disposition: Option<String>,
    /// Object lock of recordings: `governance` or `compliance`; with `lock_days`.
    pub lock_mode: Option<String>,
    /// For how long recordings are locked.
    #[serde(deserialize_with = "lenient::number")]
    pub lock_days: u32,
    /// Whether to compute SHA-256 as well, which costs more than all the rest of a transfer.
    #[serde(deserialize_with = "lenient::boolean")]
    pub sha256: bool,
    /// Where the embedded S3 server listens.
    pub embedded_listen: SocketAddr,
    /// Whether the embedded S3 server knows checksums; without them it stands for a store that does less.
    #[serde(deserialize_with = "lenient::boolean")]
    pub embedded_checksums: bool,
}

impl Default for ArchiveConfig {
    fn default() -> Self {
        ArchiveConfig {
            bucket: None,
            prefix: String::new(),
            region: None,
            endpoint: None,
            path_style: None,
            template: crate::model::key::DEFAULT_TEMPLATE.to_owned(),
            storage_class: None,
            kms_key_id: None,
            tags: Vec::new(),
            disposition: None,
            lock_mode: None,
            lock_days: 0,
            sha256: false,
            embedded_listen: SocketAddr::from(([127, 0, 0, 1], 8082)),
            embedded_checksums: true,
        }
    }
}

/// `[sources.NAME]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SourceConfig {
    /// Whose events come here; may be left out when the source has a provider's name, or a definition.
    #[serde(deserialize_with = "definition::provider")]
    pub provider: Option<Provider>,
    /// What the events of a provider of one's own say: a file, or the tables themselves.
    pub definition: Option<DefinitionSetting>,
    /// Secrets that deliveries are signed with, or carry; any will do, several for rotation.
    #[serde(deserialize_with = "lenient::secrets")]
    pub secrets: Vec<SecretString>,
    /// The header that carries the secret itself, when the provider does not sign; beside `public_key` both must hold.
    pub header: Option<String>,
    /// The key that the provider signs with: PEM, `well-known`, or the address of an answer that holds it.
    pub public_key: Option<String>,
    /// The accounts at the provider whose events these are, where it signs everybody's with one key.
    #[serde(deserialize_with = "lenient::words")]
    pub account: Vec<String>,
    /// The largest body of a delivery; else the provider's usual one.
    pub max_body: Option<ByteSize>,
    /// Networks that deliveries may come from; empty means any.
    #[serde(deserialize_with = "lenient::networks")]
    pub allow_senders: Vec<IpNet>,
    /// Whether everyone may post events.
    #[serde(deserialize_with = "lenient::boolean")]
    pub insecure: bool,
    /// The provider's API key, for lookups and fresh URLs.
    #[serde(deserialize_with = "lenient::secret")]
    pub api_key: Option<SecretString>,
    /// Its second half where there is one.
    #[serde(deserialize_with = "lenient::secret")]
    pub api_secret: Option<SecretString>,
    /// The API's address, when not the provider's own.
    pub base_url: Option<String>,
    /// Hosts that its URLs may name (`example.com` or `*.example.com`); empty means any public one.
    #[serde(deserialize_with = "lenient::words")]
    pub allow_hosts: Vec<String>,
    /// Calls of its API in a second, at most; else ten.
    #[serde(deserialize_with = "lenient::optional_number")]
    pub api_rate: Option<u32>,
    /// Deliveries of a second that are taken in on average, a minute's worth at once; else a thousand.
    #[serde(deserialize_with = "lenient::optional_number")]
    pub event_rate: Option<u32>,
    /// How often the provider is asked what exists, such as `15m`; without it, never.
    pub reconcile: Option<Interval>,
    /// Whether a webhook that the provider has switched off (Daily) may be switched on again.
    #[serde(deserialize_with = "lenient::boolean")]
    pub reactivate_webhook: bool,
    /// What is done with the keys of encrypted HLS recordings.
    pub hls_keys: HlsKeysConfig,
    /// Whether ZIPs of HLS recordings are unpacked beside themselves as well.
    #[serde(deserialize_with = "lenient::boolean")]
    pub hls_unpack: bool,
}

/// `hls_keys`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HlsKeysConfig {
    /// They are archived beside the segments.
    #[default]
    Store,
    /// They stay where they are; what is archived is ciphertext.
    Omit,
    /// They are not kept: what is archived is decrypted.
    Decrypt,
}

/// `[guard]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GuardConfig {
    /// Networks that may be reached although they are not public.
    #[serde(deserialize_with = "lenient::networks")]
    pub allow_networks: Vec<IpNet>,
    /// Whether plain http is allowed.
    #[serde(deserialize_with = "lenient::boolean")]
    pub allow_http: bool,
}

/// `[limits]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// Large transfers at once.
    #[serde(deserialize_with = "lenient::number")]
    pub transfers: u32,
    /// Small ones at once, in a lane of their own: each is one request in and one out.
    #[serde(deserialize_with = "lenient::number")]
    pub small_transfers: u32,
    /// Connections to one origin host at once.
    #[serde(deserialize_with = "lenient::number")]
    pub per_host: u32,
    /// Connections to the origin for one artifact, where more of them are faster.
    #[serde(deserialize_with = "lenient::number")]
    pub lanes: u32,
    /// Connections beyond the first of each artifact, all transfers together.
    #[serde(deserialize_with = "lenient::number")]
    pub all_lanes: u32,
    /// How many more there may be for URLs that are about to die.
    #[serde(deserialize_with = "lenient::number")]
    pub surge: u32,
    /// Bytes held in memory by all transfers together.
    pub memory: ByteSize,
    /// A larger object is refused.
    pub max_object: ByteSize,
    /// Bytes a second for all downloads together, or by time of day; without it, as fast as they come.
    pub bandwidth: Bandwidth,
    /// Bytes that are downloaded in a day (UTC); more waits for the next one. Without it, any number.
    pub max_per_day: Option<ByteSize>,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        LimitsConfig {
            transfers: 8,
            small_transfers: 64,
            per_host: 32,
            lanes: 24,
            all_lanes: 64,
            surge: 32,
            memory: ByteSize(256 << 20),
            max_object: ByteSize(64 << 30),
            bandwidth: Bandwidth::default(),
            max_per_day: None,
        }
    }
}

/// `[store]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoreConfig {
    /// `sqlite:PATH`; by default `harvester.db` under `data_dir`.
    pub url: Option<String>,
    /// How long what is known of a sealed recording stays after its last change, such as `90d`; without it, for ever.
    pub retention: Option<Interval>,
}
