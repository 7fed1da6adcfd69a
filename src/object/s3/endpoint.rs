//! What the address of a store says about the way to it.

use std::net::IpAddr;

use url::Url;

pub(super) fn is_plain_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    let is_loopback = host == "localhost" || address.is_ok_and(|ip| ip.is_loopback());
    url.scheme() == "http" && is_loopback
}

/// Whether what goes to `endpoint` can be read and changed on its way.
pub(super) fn is_exposed(endpoint: &str) -> bool {
    let url = Url::parse(endpoint);
    url.is_ok_and(|url| url.scheme() == "http" && !is_plain_loopback(&url))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_http_to_another_machine_is_exposed() {
        for (endpoint, expected) in [
            ("http://minio:9000", true),
            ("http://10.0.0.7:9000/bucket/", true),
            ("http://0.0.0.0:9000", true),
            ("http://127.0.0.1.example.com", true),
            ("http://127.0.0.1:8082/bucket/", false),
            ("http://[::1]:8082", false),
            ("http://localhost:9000", false),
            ("https://minio:9000", false),
            ("https://bucket.s3.eu-central-1.amazonaws.com/", false),
        ] {
            assert_eq!(is_exposed(endpoint), expected, "{endpoint}");
        }
    }
}
