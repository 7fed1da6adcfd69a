//! How the SDK's client is made.

use std::time::Duration;

use aws_config::meta::region::RegionProviderChain;
use aws_config::{BehaviorVersion, ConfigLoader};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    Credentials, ProvideCredentials, Region, RequestChecksumCalculation,
    StalledStreamProtectionConfig,
};
use http::Uri;
use hyper_util::client::legacy::connect::dns::GaiResolver;
use hyper_util::client::proxy::matcher::Matcher;
use secrecy::ExposeSecret as _;
use url::Url;

use super::S3Settings;
use super::classify::chain;
use super::direct::{Direct, HttpClient};
use super::endpoint::{is_exposed, is_plain_loopback};
use crate::error::{Class, Error, Result};
use crate::http1;

/// A store that does not take a connection within this is down, for now.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// The first send and one repetition: retrying beyond that is the caller's decision.
pub(super) const SDK_ATTEMPTS: u32 = 2;

/// Set by hand because the SDK's patience is only 5 s when it is left unset.
const STALL_GRACE: Duration = Duration::from_secs(30);

/// S3-compatible stores mostly ignore the region, but a signature has to name one.
const REGION_OF_ENDPOINTS: &str = "us-east-1";

/// The SDK's client, the same calls without it where that is possible, and whether what is sent is exposed on its way.
pub(super) async fn client(settings: &S3Settings) -> Result<(Client, Option<Direct>, bool)> {
    let shared = loader(settings)?.load().await;
    if shared.region().is_none() {
        return Err(Error::new(
            Class::UploadDenied,
            "find the bucket's region: set archive.region or AWS_REGION",
        ));
    }
    let credentials = shared.credentials_provider().ok_or_else(no_credentials)?;
    credentials.provide_credentials().await.map_err(|error| {
        Error::new(
            Class::UploadDenied,
            format!(
                "find AWS credentials for bucket {}: {}",
                settings.bucket,
                chain(&error)
            ),
        )
    })?;
    let config = aws_sdk_s3::config::Builder::from(&shared)
        .force_path_style(settings.path_style)
        // Our own CRC64NVME goes along by hand; the default would add a CRC32, and an environment
        // variable could change it.
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .build();
    let client = Client::from_conf(config);
    let is_loopback = settings
        .endpoint
        .as_deref()
        .and_then(|endpoint| Url::parse(endpoint).ok())
        .is_some_and(|url| is_plain_loopback(&url));
    let direct = match http_client() {
        Some(http) => Direct::learn(&client, &settings.bucket, credentials, http).await,
        None => None,
    };
    // The environment may name another endpoint than the settings.
    let base = direct.as_ref().map(Direct::base);
    let is_exposed = base
        .or(settings.endpoint.as_deref())
        .is_some_and(is_exposed);
    // Through a proxy the SDK knows the way.
    let direct = direct.filter(|direct| is_loopback || !has_proxy(direct.base()));
    Ok((client, direct, is_exposed))
}

/// For the calls that are made without the SDK. The bucket is named by the configuration and nobody else, so no guard is
/// asked.
fn http_client() -> Option<HttpClient> {
    http1::client(GaiResolver::new(), CONNECT_LIMIT).ok()
}

/// Whether the environment names a proxy for this URL.
fn has_proxy(url: &str) -> bool {
    let url = url.parse::<Uri>();
    url.is_ok_and(|url| Matcher::from_env().intercept(&url).is_some())
}

fn loader(settings: &S3Settings) -> Result<ConfigLoader> {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT_LIMIT)
        .build();
    let stalls = StalledStreamProtectionConfig::enabled()
        .grace_period(STALL_GRACE)
        .build();
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .retry_config(RetryConfig::standard().with_max_attempts(SDK_ATTEMPTS))
        .timeout_config(timeouts)
        .stalled_stream_protection(stalls)
        .region(region(settings));
    if let Some(own) = &settings.credentials {
        loader = loader.credentials_provider(Credentials::new(
            &own.access_key,
            own.secret_key.expose_secret(),
            None,
            None,
            "settings",
        ));
    }
    if let Some(endpoint) = &settings.endpoint {
        let url = Url::parse(endpoint).map_err(|error| {
            Error::new(Class::UploadDenied, "read archive.endpoint as a URL").with_source(error)
        })?;
        loader = loader.endpoint_url(endpoint);
        if is_plain_loopback(&url) {
            // The SDK's own client obeys HTTP_PROXY, and no proxy can reach our loopback.
            loader = loader.http_client(aws_smithy_http_client::Builder::new().build_http());
        }
    }
    Ok(loader)
}

fn region(settings: &S3Settings) -> RegionProviderChain {
    let named = settings.region.clone().map(Region::new);
    match (&settings.endpoint, &settings.credentials) {
        // Nothing here comes from the AWS chain, so it is not asked: it would look for an EC2
        // metadata service and wait for it.
        (Some(_), Some(_)) => RegionProviderChain::first_try(named).or_else(REGION_OF_ENDPOINTS),
        (Some(_), None) => RegionProviderChain::first_try(named)
            .or_default_provider()
            .or_else(REGION_OF_ENDPOINTS),
        (None, _) => RegionProviderChain::first_try(named).or_default_provider(),
    }
}

fn no_credentials() -> Error {
    Error::new(Class::UploadDenied, "find AWS credentials: none are set")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_loopback_endpoints_bypass_the_proxy() {
        for (endpoint, expected) in [
            ("http://127.0.0.1:8082", true),
            ("http://[::1]:8082", true),
            ("http://localhost:9000", true),
            ("https://127.0.0.1:8082", false),
            ("http://minio:9000", false),
            ("http://127.0.0.1.example.com", false),
        ] {
            let url = Url::parse(endpoint).unwrap();
            assert_eq!(is_plain_loopback(&url), expected, "{endpoint}");
        }
    }
}
