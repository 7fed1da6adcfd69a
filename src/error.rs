//! The one error of the harvester: what failed, in words for a person, and the class that says what happens next.
//!
//! A class exists only where somebody would act differently. It is decided where the type of the
//! cause is still known (at the HTTP client, the S3 adapter, the parser), never by searching text later.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Result of anything that can fail with an [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an artifact could not be saved. The names are part of the public interface
/// (errors, reports, API, metrics).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// The provider itself says that there is no file.
    ProviderFailed,
    /// The origin can no longer be opened: the URL's life is over.
    Expired,
    /// 401 or 403 before the deadline, or credentials that are missing.
    Denied,
    /// 404 or 410.
    Gone,
    /// Our own guard said no: address, host, scheme, size limit.
    Refused,
    /// Length, checksum or container is wrong.
    Corrupt,
    /// A transient trouble of the origin that outlasted all retries.
    Unreachable,
    /// The origin asked us to slow down until no retry was left.
    Throttled,
    /// The bucket refuses: missing, no rights, quota.
    UploadDenied,
    /// The bucket failed although it lets us in.
    UploadFailed,
    /// Several files belong to the artifact and some of them are lost.
    Partial,
    /// The event or playlist can't be understood.
    Invalid,
    /// A fault of the harvester or of its machine.
    Internal,
}

impl Class {
    /// Every class, in the order of the documentation.
    pub const ALL: [Class; 13] = [
        Class::ProviderFailed,
        Class::Expired,
        Class::Denied,
        Class::Gone,
        Class::Refused,
        Class::Corrupt,
        Class::Unreachable,
        Class::Throttled,
        Class::UploadDenied,
        Class::UploadFailed,
        Class::Partial,
        Class::Invalid,
        Class::Internal,
    ];

    /// The public name, as it stands in JSON, metrics and `retry --class`.
    pub fn as_str(self) -> &'static str {
        match self {
            Class::ProviderFailed => "provider_failed",
            Class::Expired => "expired",
            Class::Denied => "denied",
            Class::Gone => "gone",
            Class::Refused => "refused",
            Class::Corrupt => "corrupt",
            Class::Unreachable => "unreachable",
            Class::Throttled => "throttled",
            Class::UploadDenied => "upload_denied",
            Class::UploadFailed => "upload_failed",
            Class::Partial => "partial",
            Class::Invalid => "invalid",
            Class::Internal => "internal",
        }
    }

    /// The class of that public name.
    pub fn parse(name: &str) -> Option<Class> {
        Class::ALL.into_iter().find(|class| class.as_str() == name)
    }

    /// One sentence for the operator: what to do about a failure of this class.
    pub fn action(self) -> &'static str {
        match self {
            Class::ProviderFailed => {
                "Ask the provider why it has no file; if one appears later, its event is picked up by itself."
            }
            Class::Expired => {
                "Get a fresh URL: resend the event from the provider, or set the source's api_key and run `harvester retry`."
            }
            Class::Denied => {
                "Check the credentials: set the source's api_key (or have the provider sign a new URL, or let this machine read the bucket), then run `harvester retry`."
            }
            Class::Gone => {
                "Check at the provider whether the file still exists, then run `harvester retry`."
            }
            Class::Refused => {
                "If this address or size is right, allow it in [guard], the source's allow_hosts or [limits], then run `harvester retry`."
            }
            Class::Corrupt => {
                "Run `harvester retry`; if it happens again, the file is damaged at the provider: ask for it to be made anew."
            }
            Class::Unreachable => {
                "Check the network and the provider's status page, then run `harvester retry`."
            }
            Class::Throttled => "Lower limits.per_host or wait, then run `harvester retry`.",
            Class::UploadDenied => {
                "Check the bucket's name, credentials, rights and quota; a running worker goes on by itself."
            }
            Class::UploadFailed => "Check the object store's health, then run `harvester retry`.",
            Class::Partial => {
                "See which pieces are missing, make them reachable, then run `harvester retry`."
            }
            Class::Invalid => {
                "Look at the raw event; if it is right, report it as a bug of the harvester."
            }
            Class::Internal => {
                "Look at the log of the worker; if it is not the machine's fault, report it as a bug."
            }
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A failure with its class. The message fits after "failed to", names the thing and the limit,
/// and never holds a URL's query, a token or a key.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    class: Class,
    message: String,
    transient: bool,
    retry_after: Option<Duration>,
    has_stale_url: bool,
    has_refused_parts: bool,
    is_held_back: bool,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// A failure that trying again would not change.
    pub fn new(class: Class, message: impl Into<String>) -> Self {
        Error {
            class,
            message: message.into(),
            transient: false,
            retry_after: None,
            has_stale_url: false,
            has_refused_parts: false,
            is_held_back: false,
            source: None,
        }
    }

    /// A failure that another try may cure.
    pub fn transient(class: Class, message: impl Into<String>) -> Self {
        Error {
            transient: true,
            ..Error::new(class, message)
        }
    }

    /// A fault of our own.
    pub fn internal(message: impl Into<String>) -> Self {
        Error::new(Class::Internal, message)
    }

    /// Something that can't be understood.
    pub fn invalid(message: impl Into<String>) -> Self {
        Error::new(Class::Invalid, message)
    }

    /// Keeps the cause. The cause must be free of secrets: `reqwest` errors go through `without_url()` first.
    #[must_use]
    pub fn with_source(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Keeps how long the other side asked us to wait.
    #[must_use]
    pub fn with_retry_after(mut self, wait: Option<Duration>) -> Self {
        self.retry_after = wait;
        self
    }

    /// Notes that a signature was refused on the way: a fresh URL may cure it, whatever its class.
    #[must_use]
    pub fn with_stale_url(mut self) -> Self {
        self.has_stale_url = true;
        self
    }

    /// Notes that the object store does not take the parts of an upload for what was sent: its list tells more.
    #[must_use]
    pub fn with_refused_parts(mut self) -> Self {
        self.has_refused_parts = true;
        self
    }

    /// Notes that we ourselves, by a limit of the configuration, hold back what failed: nobody refused it, so that no
    /// attempt is counted.
    #[must_use]
    pub fn held_back(mut self, wait: Duration) -> Self {
        self.is_held_back = true;
        self.retry_after = Some(wait);
        self
    }

    /// What kind of failure it is.
    pub fn class(&self) -> Class {
        self.class
    }

    /// Whether another try may cure it.
    pub fn is_transient(&self) -> bool {
        self.transient
    }

    /// How long the other side asked us to wait (RFC 9110, Retry-After).
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// Whether a fresh URL may cure it.
    pub fn has_stale_url(&self) -> bool {
        self.has_stale_url
    }

    /// Whether it is about the parts of an upload, which the object store has refused.
    pub fn has_refused_parts(&self) -> bool {
        self.has_refused_parts
    }

    /// Whether we ourselves hold it back.
    pub fn is_held_back(&self) -> bool {
        self.is_held_back
    }

    /// The message followed by its causes, for a log line or a report.
    pub fn full_message(&self) -> String {
        let mut text = self.message.clone();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            let next = error.to_string();
            if !text.contains(&next) {
                text.push_str(": ");
                text.push_str(&next);
            }
            cause = error.source();
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_has_a_name_that_reads_back_and_a_sentence_of_advice() {
        for class in Class::ALL {
            assert_eq!(Class::parse(class.as_str()), Some(class));
            assert!(class.action().ends_with('.'));
            assert_eq!(
                serde_json::to_value(class).unwrap(),
                serde_json::json!(class.as_str())
            );
        }
    }

    #[test]
    fn full_message_names_each_cause_once() {
        let error = Error::internal("open the store")
            .with_source(std::io::Error::other("disk is read-only"));
        assert_eq!(error.full_message(), "open the store: disk is read-only");
    }
}
