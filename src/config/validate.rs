//! What a configuration must hold beyond its types; each message names the key and what to set.

use std::net::SocketAddr;
use std::time::Duration;

use secrecy::ExposeSecret;

use super::bandwidth::MIN_BANDWIDTH;
use super::{ArchiveConfig, Config, SourceConfig, definition, load};
use crate::error::{Error, Result};
use crate::ingest::list;
use crate::model::{Layout, Provider};

/// Two of the smallest parts: one on its way in while the other is on its way out.
pub const MIN_MEMORY_BYTES: u64 = 2 * 8 * 1024 * 1024;

/// The largest object that S3 takes: 10,000 parts of 5 GiB.
const MAX_OBJECT_BYTES: u64 = 10_000 * 5 * (1 << 30);

/// A delivery that a provider repeats must still be known, and a loss must have been seen.
const MIN_RETENTION: Duration = Duration::from_secs(7 * 86_400);

/// More tasks than this gain nothing on one machine and would exhaust its descriptors.
const MAX_AT_ONCE: u32 = 1024;

/// Less holds no event.
const MIN_BODY_BYTES: u64 = 1024;

/// Half of the memory that is there for bodies.
const MAX_BODY_BYTES: u64 = 32 << 20;

impl Config {
    /// Checks what types can't.
    ///
    /// # Errors
    /// `invalid`, naming the key.
    pub fn validate(&self) -> Result<()> {
        Layout::new(&self.archive.prefix, &self.archive.template)?;
        self.archive.validate()?;
        self.validate_listeners()?;
        self.validate_limits()?;
        self.validate_store()?;
        for (name, source) in &self.sources {
            validate_source(name, source)?;
        }
        self.validate_source_names()
    }

    fn validate_listeners(&self) -> Result<()> {
        let token = self.admin.token.as_ref().map(ExposeSecret::expose_secret);
        if token.is_some_and(|token| token.trim().is_empty()) {
            return refuse("admin.token is empty");
        }
        if token.is_none() && !self.admin.listen.ip().is_loopback() {
            return refuse("admin.listen is not loopback: set admin.token as well");
        }
        if !self.archive.embedded_listen.ip().is_loopback() {
            return refuse("archive.embedded_listen must be a loopback address");
        }
        let addresses = [
            ("listen", self.listen),
            ("admin.listen", self.admin.listen),
            ("archive.embedded_listen", self.archive.embedded_listen),
        ];
        for (at, (name, address)) in addresses.iter().enumerate() {
            for (other, taken) in &addresses[..at] {
                if clash(*address, *taken) {
                    return refuse(format!("{other} and {name} are the same address"));
                }
            }
        }
        Ok(())
    }

    fn validate_limits(&self) -> Result<()> {
        for (name, value) in [
            ("transfers", self.limits.transfers),
            ("small_transfers", self.limits.small_transfers),
            ("per_host", self.limits.per_host),
            ("lanes", self.limits.lanes),
            ("all_lanes", self.limits.all_lanes),
            ("surge", self.limits.surge),
        ] {
            if !(1..=MAX_AT_ONCE).contains(&value) {
                return refuse(format!("limits.{name} must be from 1 to {MAX_AT_ONCE}"));
            }
        }
        if self.limits.memory.0 < MIN_MEMORY_BYTES {
            return refuse("limits.memory must be at least 16 MiB, two parts");
        }
        let rates = self.limits.bandwidth.0.iter();
        if rates
            .into_iter()
            .any(|window| window.rate.0 < MIN_BANDWIDTH)
        {
            return refuse("limits.bandwidth must be at least 64 KiB a second");
        }
        if self.limits.max_per_day.is_some_and(|size| size.0 == 0) {
            return refuse("limits.max_per_day is 0: leave it out for no limit");
        }
        if !(1..=MAX_OBJECT_BYTES).contains(&self.limits.max_object.0) {
            return refuse(
                "limits.max_object must be from 1 byte to 50000 GiB, the most that S3 takes",
            );
        }
        Ok(())
    }

    fn validate_store(&self) -> Result<()> {
        let retention = self.store.retention;
        if retention.is_some_and(|retention| retention.0 < MIN_RETENTION) {
            return refuse(
                "store.retention must be at least 7d: providers repeat deliveries for days",
            );
        }
        // The URL is not repeated: one day it may hold a password.
        match self.store.url.as_deref() {
            Some(url) if !url.starts_with("sqlite:") || url.trim_end_matches('/') == "sqlite:" => {
                refuse("store.url must be sqlite:PATH")
            }
            _ => Ok(()),
        }
    }

    /// Names that the environment can't tell apart would make a secret go to the wrong source.
    fn validate_source_names(&self) -> Result<()> {
        let names: Vec<_> = self.sources.keys().collect();
        for (at, name) in names.iter().enumerate() {
            let same = |other: &&&String| load::folded(other) == load::folded(name);
            if let Some(other) = names[..at].iter().find(same) {
                return refuse(format!(
                    "sources.{other} and sources.{name} differ only in case, dash or underscore"
                ));
            }
        }
        Ok(())
    }
}

impl ArchiveConfig {
    /// The tags as pairs.
    pub fn tag_pairs(&self) -> Vec<(String, String)> {
        let pairs = self.tags.iter().filter_map(|tag| tag.split_once('='));
        pairs
            .map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()))
            .collect()
    }

    fn validate_options(&self) -> Result<()> {
        let is_tag = |tag: &String| {
            tag.split_once('=').is_some_and(|(key, value)| {
                (1..=128).contains(&key.trim().len()) && value.len() <= 256
            })
        };
        if self.tags.len() > 10 || !self.tags.iter().all(is_tag) {
            return refuse("archive.tags holds up to ten of the form \"key=value\"");
        }
        if !matches!(
            self.disposition.as_deref(),
            None | Some("attachment" | "inline")
        ) {
            return refuse("archive.disposition is \"attachment\" or \"inline\"");
        }
        match (self.lock_mode.as_deref(), self.lock_days) {
            (None, 0) | (Some("governance" | "compliance"), 1..) => {}
            (None, _) | (_, 0) => {
                return refuse("archive.lock_mode and archive.lock_days go together");
            }
            _ => return refuse("archive.lock_mode is \"governance\" or \"compliance\""),
        }
        let needs_bucket = [
            ("storage_class", self.storage_class.is_some()),
            ("kms_key_id", self.kms_key_id.is_some()),
            ("tags", !self.tags.is_empty()),
            ("lock_mode", self.lock_mode.is_some()),
        ];
        match needs_bucket.iter().find(|(_, is_set)| *is_set) {
            Some((name, _)) if self.bucket.is_none() => refuse(format!(
                "archive.{name} needs archive.bucket: the embedded server has none of that"
            )),
            _ => Ok(()),
        }
    }

    fn validate(&self) -> Result<()> {
        if let Some(bucket) = &self.bucket
            && !is_bucket_name(bucket)
        {
            return refuse(
                "archive.bucket is no bucket name: 3 to 63 lower-case letters, digits, dots and dashes, \
                 beginning and ending with a letter or digit",
            );
        }
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./=".contains(c);
        if !self.prefix.chars().all(is_plain) || self.prefix.split('/').any(|part| part == "..") {
            return refuse("archive.prefix may hold letters, digits and - _ . / = only");
        }
        // Leaves room for what the template adds below S3's 1,024 bytes.
        if self.prefix.len() > 256 {
            return refuse("archive.prefix is longer than 256 characters");
        }
        self.validate_options()?;
        let Some(endpoint) = &self.endpoint else {
            return Ok(());
        };
        validate_http_url("archive.endpoint", endpoint)?;
        if self.bucket.is_none() {
            return refuse("archive.endpoint is set: set archive.bucket as well");
        }
        Ok(())
    }
}

fn validate_source(name: &str, source: &SourceConfig) -> Result<()> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    if name.is_empty() || name.len() > 64 || !name.chars().all(is_plain) {
        return refuse(format!(
            "sources.{}: a source's name has 1 to 64 letters, digits, dashes and underscores",
            name.escape_debug()
        ));
    }
    definition::validate(name, source)?;
    let provider = source.provider_under(name);
    if provider.is_none_or(|provider| provider == Provider::Adhoc) {
        return refuse(format!(
            "sources.{name}.provider is missing: one of 100ms, meetingbaas, daily, dyte, realtimekit, or custom with a definition"
        ));
    }
    if source
        .secrets
        .iter()
        .any(|secret| secret.expose_secret().is_empty())
    {
        return refuse(format!("sources.{name}.secrets holds an empty secret"));
    }
    if let Some(header) = &source.header {
        if http::HeaderName::try_from(header.as_str()).is_err() {
            return refuse(format!(
                "sources.{name}.header is no name of an HTTP header"
            ));
        }
        if source.secrets.is_empty() {
            return refuse(format!(
                "sources.{name}.secrets is missing: sources.{name}.header is to carry one of them"
            ));
        }
    }
    if source
        .max_body
        .is_some_and(|limit| !(MIN_BODY_BYTES..=MAX_BODY_BYTES).contains(&limit.0))
    {
        return refuse(format!(
            "sources.{name}.max_body must be from 1 KiB to 32 MiB"
        ));
    }
    let signs_for_all = matches!(provider, Some(Provider::Dyte | Provider::RealtimeKit));
    if !source.account.is_empty() && !signs_for_all {
        return refuse(format!(
            "sources.{name}.account is for dyte and realtimekit, whose events name it: remove it"
        ));
    }
    if let Some(url) = &source.base_url {
        validate_http_url(&format!("sources.{name}.base_url"), url)?;
    }
    if source
        .api_rate
        .is_some_and(|rate| !(1..=10_000).contains(&rate))
    {
        return refuse(format!(
            "sources.{name}.api_rate must be from 1 to 10000 calls a second"
        ));
    }
    if source
        .event_rate
        .is_some_and(|rate| !(1..=100_000).contains(&rate))
    {
        return refuse(format!(
            "sources.{name}.event_rate must be from 1 to 100000 deliveries a second"
        ));
    }
    let has_list = provider.is_none_or(|provider| !list::lists(provider).is_empty());
    if source.reconcile.is_some() && !has_list {
        return refuse(format!(
            "sources.{name}.reconcile is set, and its provider has no list that could be asked: remove it"
        ));
    }
    if source.reconcile.is_some() && source.api_key.is_none() {
        return refuse(format!(
            "sources.{name}.reconcile is set: set sources.{name}.api_key as well"
        ));
    }
    for host in &source.allow_hosts {
        let plain = host.strip_prefix("*.").unwrap_or(host);
        if plain.is_empty() || plain.contains(['*', '/', ':', '@', '?']) {
            return refuse(format!(
                "sources.{name}.allow_hosts: `{}` is neither a host nor `*.` and a domain",
                host.escape_debug()
            ));
        }
    }
    Ok(())
}

fn validate_http_url(key: &str, text: &str) -> Result<()> {
    // Not repeated in the message: somebody may have put a password in it.
    let expected = || {
        Error::invalid(format!(
            "{key} must be an http or https URL without user, query or fragment"
        ))
    };
    let url = url::Url::parse(text).map_err(|_| expected())?;
    let is_plain = url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    let is_http = matches!(url.scheme(), "http" | "https") && url.has_host();
    if is_http && is_plain {
        Ok(())
    } else {
        Err(expected())
    }
}

/// The rules of S3 for general purpose buckets.
fn is_bucket_name(name: &str) -> bool {
    let is_edge =
        |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let bytes = name.as_bytes();
    (3..=63).contains(&bytes.len())
        && bytes
            .iter()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(b))
        && is_edge(bytes.first())
        && is_edge(bytes.last())
        && !name.contains("..")
        && name.parse::<std::net::Ipv4Addr>().is_err()
}

/// Whether both can't be listened on at once. Port 0 is any free one.
fn clash(one: SocketAddr, other: SocketAddr) -> bool {
    let same_ip =
        one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() != 0 && one.port() == other.port() && same_ip
}

fn refuse<T>(message: impl Into<String>) -> Result<T> {
    Err(Error::invalid(message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let config: Config = toml::from_str(text).unwrap();
        let message = config.validate().expect_err(text).full_message();
        assert!(message.contains(expected), "{text}: {message}");
    }

    #[test]
    fn each_refusal_names_its_key() {
        check("[archive]\ntemplate = \"{name}\"", "archive.template");
        check("[archive]\nprefix = \"a/../b\"", "archive.prefix");
        check("[archive]\nprefix = \"a b\"", "archive.prefix");
        check("[archive]\nbucket = \"Upper\"", "archive.bucket");
        check(
            "[archive]\nendpoint = \"http://x\"",
            "set archive.bucket as well",
        );
        check(
            "[archive]\nbucket = \"abc\"\nendpoint = \"http://u:p@x\"",
            "archive.endpoint must be",
        );
        check(
            "[archive]\nembedded_listen = \"0.0.0.0:1\"",
            "archive.embedded_listen",
        );
        check("[admin]\nlisten = \"0.0.0.0:1\"", "set admin.token");
        check("[admin]\ntoken = \"\"", "admin.token is empty");
        check("listen = \"127.0.0.1:8081\"", "listen and admin.listen");
        check("[limits]\nmemory = \"1 MiB\"", "limits.memory");
        check("[limits]\nlanes = 0", "limits.lanes");
        check("[limits]\nbandwidth = \"1 KiB\"", "limits.bandwidth");
        check("[limits]\nmax_per_day = 0", "limits.max_per_day");
        check(
            "[sources.daily]\nevent_rate = 0",
            "sources.daily.event_rate",
        );
        check("[archive]\ntags = [\"team\"]", "archive.tags");
        check("[archive]\ntags = [\"a=b\"]", "archive.bucket");
        check("[archive]\ndisposition = \"no\"", "archive.disposition");
        check("[archive]\nlock_days = 3", "archive.lock_mode");
        check("[limits]\nmax_object = 0", "limits.max_object");
        check("[sources.daily]\nmax_body = 10", "sources.daily.max_body");
        check("[sources.daily]\nmax_body = \"33 MiB\"", "max_body");
        check(
            "[sources.daily]\naccount = [\"a\"]",
            "sources.daily.account",
        );
        check("[store]\nretention = \"6d\"", "store.retention");
        check("[store]\nurl = \"postgres://u:p@h/d\"", "store.url");
        check("[sources.mine]\n", "sources.mine.provider is missing");
        check("[sources.\"a/b\"]\nprovider = \"daily\"", "a source's name");
        check("[sources.daily]\nsecrets = [\"\"]", "empty secret");
        check(
            "[sources.daily]\nheader = \"x-a\"",
            "sources.daily.secrets is missing",
        );
        check(
            "[sources.daily]\nheader = \"x a\"\nsecrets = [\"s\"]",
            "sources.daily.header",
        );
        check(
            "[sources.daily]\nbase_url = \"ftp://x\"",
            "sources.daily.base_url",
        );
        check(
            "[sources.daily]\nallow_hosts = [\"https://x\"]",
            "allow_hosts",
        );
        check(
            "[sources.daily]\n[sources.Daily]\nprovider = \"daily\"",
            "differ only in case",
        );
    }

    #[test]
    fn what_is_safe_is_accepted() {
        for text in [
            "",
            "listen = \"0.0.0.0:80\"\n[sources.daily]\nsecrets = [\"s\"]",
            "listen = \"0.0.0.0:80\"\n[sources.100ms]\ninsecure = true\n[sources.dyte]\npublic_key = \"well-known\"",
            "[admin]\nlisten = \"0.0.0.0:81\"\ntoken = \"t\"",
            "[archive]\nbucket = \"my-bucket.eu\"\nprefix = \"a/b\"\nendpoint = \"https://s3.example.com\"",
            "listen = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"",
            "[sources.100ms]\nhls_keys = \"decrypt\"\n[sources.dyte]\nhls_keys = \"omit\"",
        ] {
            let config: Config = toml::from_str(text).unwrap();
            config.validate().expect(text);
        }
    }

    #[test]
    fn bucket_names_follow_the_rules_of_s3() {
        for name in ["abc", "my-bucket", "a.b.c", "1bucket1"] {
            assert!(is_bucket_name(name), "{name}");
        }
        let long = "a".repeat(64);
        for name in [
            "ab",
            "-abc",
            "abc-",
            "a..b",
            "a_b",
            "192.168.0.1",
            long.as_str(),
        ] {
            assert!(!is_bucket_name(name), "{name}");
        }
    }
}
