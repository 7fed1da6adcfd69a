//! A provider's API call and its answer as plain data: `ingest` writes and reads them, `source` sends them.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use secrecy::SecretString;

/// What a source's credentials are; which of them a provider wants is the adapter's knowledge.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    /// The API key, token or access key.
    pub api_key: Option<SecretString>,
    /// The second half where the provider has one (100ms app secret, Dyte organization's key).
    pub api_secret: Option<SecretString>,
    /// Where the API is, when not at the provider's own address (tests, proxies, RealtimeKit accounts).
    pub base_url: Option<String>,
}

/// The HTTP method of an API call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// GET.
    Get,
    /// POST.
    Post,
}

/// A request to a provider's API.
#[derive(Clone, Debug)]
pub struct ApiRequest {
    /// The method.
    pub method: Method,
    /// The absolute URL, free of secrets.
    pub url: String,
    /// Headers; their values may be secret.
    pub headers: Vec<(&'static str, SecretString)>,
    /// The body of a POST, JSON.
    pub body: Option<String>,
}

/// What the provider's API said. The body may hold signed URLs: `Debug` shows only its length.
#[derive(Clone)]
pub struct ApiResponse {
    /// The HTTP status.
    pub status: u16,
    /// How long it asks us to wait.
    pub retry_after: Option<Duration>,
    /// The body, at most a few MiB.
    pub body: Bytes,
}

impl fmt::Debug for ApiResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiResponse")
            .field("status", &self.status)
            .field("retry_after", &self.retry_after)
            .field("body_bytes", &self.body.len())
            .finish()
    }
}
