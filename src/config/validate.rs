//! What a configuration must hold beyond its types; each message names the key and what to set.

use std::net::SocketAddr;
use std::time::Duration;

use secrecy::ExposeSecret;

use super::bandwidth::MIN_BANDWIDTH;
use super::faults::Faults;
use super::validate_source::{validate_http_url, validate_source};
use super::{ArchiveConfig, Config, layers};
use crate::error::Result;
use crate::model::Layout;

/// Two of the smallest parts: one on its way in while the other is on its way out.
pub const MIN_MEMORY_BYTES: u64 = 2 * 8 * 1024 * 1024;

/// The largest object that S3 takes: 10,000 parts of 5 GiB.
const MAX_OBJECT_BYTES: u64 = 10_000 * 5 * (1 << 30);

/// A delivery that a provider repeats must still be known, and a loss must have been seen.
const MIN_RETENTION: Duration = Duration::from_secs(7 * 86_400);

/// More tasks than this gain nothing on one machine and would exhaust its descriptors.
const MAX_AT_ONCE: u32 = 1024;

impl Config {
    /// Checks what types can't.
    ///
    /// # Errors
    /// `invalid`, naming each key that is wrong.
    pub fn validate(&self) -> Result<()> {
        let mut found = Faults::default();
        found.add_error(Layout::new(&self.archive.prefix, &self.archive.template).err());
        self.archive.validate(&mut found);
        self.validate_listeners(&mut found);
        self.validate_limits(&mut found);
        self.validate_store(&mut found);
        for (name, source) in &self.sources {
            validate_source(name, source, &mut found);
        }
        self.validate_source_names(&mut found);
        found.into_result()
    }

    fn validate_listeners(&self, found: &mut Faults) {
        let token = self.admin.token.as_ref().map(ExposeSecret::expose_secret);
        if token.is_some_and(|token| token.trim().is_empty()) {
            found.add("admin.token is empty");
        }
        if token.is_none() && !self.admin.listen.ip().is_loopback() {
            found.add("admin.listen is not loopback: set admin.token as well");
        }
        if !self.archive.embedded_listen.ip().is_loopback() {
            found.add("archive.embedded_listen must be a loopback address");
        }
        let addresses = [
            ("listen", self.listen),
            ("admin.listen", self.admin.listen),
            ("archive.embedded_listen", self.archive.embedded_listen),
        ];
        for (at, (name, address)) in addresses.iter().enumerate() {
            for (other, taken) in &addresses[..at] {
                if clash(*address, *taken) {
                    found.add(format!("{other} and {name} are the same address"));
                }
            }
        }
    }

    fn validate_limits(&self, found: &mut Faults) {
        for (name, value) in [
            ("transfers", self.limits.transfers),
            ("small_transfers", self.limits.small_transfers),
            ("per_host", self.limits.per_host),
            ("lanes", self.limits.lanes),
            ("all_lanes", self.limits.all_lanes),
            ("surge", self.limits.surge),
        ] {
            if !(1..=MAX_AT_ONCE).contains(&value) {
                found.add(format!("limits.{name} must be from 1 to {MAX_AT_ONCE}"));
            }
        }
        if self.limits.memory.0 < MIN_MEMORY_BYTES {
            found.add("limits.memory must be at least 16 MiB, two parts");
        }
        let rates = self.limits.bandwidth.0.iter();
        if rates
            .into_iter()
            .any(|window| window.rate.0 < MIN_BANDWIDTH)
        {
            found.add("limits.bandwidth must be at least 64 KiB a second");
        }
        if self.limits.max_per_day.is_some_and(|size| size.0 == 0) {
            found.add("limits.max_per_day is 0: leave it out for no limit");
        }
        if !(1..=MAX_OBJECT_BYTES).contains(&self.limits.max_object.0) {
            found.add("limits.max_object must be from 1 byte to 50000 GiB, the most that S3 takes");
        }
    }

    fn validate_store(&self, found: &mut Faults) {
        let retention = self.store.retention;
        if retention.is_some_and(|retention| retention.0 < MIN_RETENTION) {
            found.add("store.retention must be at least 7d: providers repeat deliveries for days");
        }
        // The URL is not repeated: one day it may hold a password.
        let url = self.store.url.as_deref();
        let is_sqlite =
            |url: &str| url.starts_with("sqlite:") && url.trim_end_matches('/') != "sqlite:";
        if url.is_some_and(|url| !is_sqlite(url)) {
            found.add("store.url must be sqlite:PATH");
        }
    }

    /// Names that the environment can't tell apart would make a secret go to the wrong source.
    fn validate_source_names(&self, found: &mut Faults) {
        let names: Vec<_> = self.sources.keys().collect();
        for (at, name) in names.iter().enumerate() {
            let same = |other: &&&String| layers::folded(other) == layers::folded(name);
            if let Some(other) = names[..at].iter().find(same) {
                found.add(format!(
                    "sources.{other} and sources.{name} differ only in case, dash or underscore"
                ));
            }
        }
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

    fn validate_options(&self, found: &mut Faults) {
        let is_tag = |tag: &String| {
            tag.split_once('=').is_some_and(|(key, value)| {
                (1..=128).contains(&key.trim().len()) && value.len() <= 256
            })
        };
        if self.tags.len() > 10 || !self.tags.iter().all(is_tag) {
            found.add("archive.tags holds up to ten of the form \"key=value\"");
        }
        if !matches!(
            self.disposition.as_deref(),
            None | Some("attachment" | "inline")
        ) {
            found.add("archive.disposition is \"attachment\" or \"inline\"");
        }
        match (self.lock_mode.as_deref(), self.lock_days) {
            (None, 0) | (Some("governance" | "compliance"), 1..) => {}
            (None, _) | (_, 0) => {
                found.add("archive.lock_mode and archive.lock_days go together");
            }
            _ => found.add("archive.lock_mode is \"governance\" or \"compliance\""),
        }
        let needs_bucket = [
            ("storage_class", self.storage_class.is_some()),
            ("kms_key_id", self.kms_key_id.is_some()),
            ("tags", !self.tags.is_empty()),
            ("lock_mode", self.lock_mode.is_some()),
        ];
        let named = needs_bucket.iter().filter(|(_, is_set)| *is_set);
        for (name, _) in named.filter(|_| self.bucket.is_none()) {
            found.add(format!(
                "archive.{name} needs archive.bucket: the embedded server has none of that"
            ));
        }
    }

    fn validate(&self, found: &mut Faults) {
        if let Some(bucket) = &self.bucket
            && !is_bucket_name(bucket)
        {
            found.add(
                "archive.bucket is no bucket name: 3 to 63 lower-case letters, digits, dots and dashes, \
                 beginning and ending with a letter or digit",
            );
        }
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./=".contains(c);
        if !self.prefix.chars().all(is_plain) || self.prefix.split('/').any(|part| part == "..") {
            found.add("archive.prefix may hold letters, digits and - _ . / = only");
        }
        // Leaves room for what the template adds below S3's 1,024 bytes.
        if self.prefix.len() > 256 {
            found.add("archive.prefix is longer than 256 characters");
        }
        self.validate_options(found);
        let Some(endpoint) = &self.endpoint else {
            return;
        };
        validate_http_url("archive.endpoint", endpoint, found);
        if self.bucket.is_none() {
            found.add("archive.endpoint is set: set archive.bucket as well");
        }
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
