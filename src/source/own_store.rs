//! Our own object store, which is no origin: what an event names there is ours already, or another's that our network
//! alone can reach.

use std::net::{IpAddr, SocketAddr};

use url::Url;

use crate::signed_url::same_host;

/// The archive's endpoint and bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnStore {
    host: String,
    port: u16,
    bucket: String,
    /// Whether everybody reaches it, so that others have buckets there too.
    is_public: bool,
    /// Where it answers, if only our network reaches it.
    addresses: Vec<SocketAddr>,
}

impl OwnStore {
    /// The store at `endpoint`, whose host has the addresses `found`; none when it could not be resolved. `is_public`
    /// says of an address whether everybody reaches it.
    pub fn new(
        endpoint: &Url,
        bucket: &str,
        found: &[IpAddr],
        is_public: impl Fn(IpAddr) -> bool,
    ) -> OwnStore {
        let port = endpoint.port_or_known_default().unwrap_or_default();
        let private = found.iter().filter(|address| !is_public(**address));
        OwnStore {
            host: endpoint.host_str().unwrap_or_default().to_owned(),
            port,
            bucket: bucket.to_owned(),
            is_public: !found.is_empty() && found.iter().all(|address| is_public(*address)),
            addresses: private
                .map(|address| SocketAddr::new(*address, port))
                .collect(),
        }
    }

    /// Where it answers, if only our network reaches it. A public store shares its addresses with others, so that they
    /// say nothing there.
    pub(super) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Whether `url` names it: its host and port; of a public store, where providers may have buckets of their own, our
    /// bucket there.
    pub(super) fn is_named_by(&self, url: &Url) -> bool {
        let host = url.host_str().unwrap_or_default();
        if url.port_or_known_default() != Some(self.port) {
            return false;
        }
        let below = || format!("{}.{}", self.bucket, self.host);
        if same_host(host, &below()) {
            return true;
        }
        same_host(host, &self.host) && (!self.is_public || self.is_in_bucket(url))
    }

    fn is_in_bucket(&self, url: &Url) -> bool {
        let first = url.path_segments().and_then(|mut segments| segments.next());
        let first = percent_encoding::percent_decode_str(first.unwrap_or_default());
        first.decode_utf8_lossy() == self.bucket
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(endpoint: &str, found: &[&str]) -> OwnStore {
        let found: Vec<IpAddr> = found.iter().map(|text| text.parse().unwrap()).collect();
        let is_public = |address: IpAddr| address.to_string().starts_with('8');
        OwnStore::new(&Url::parse(endpoint).unwrap(), "archive", &found, is_public)
    }

    fn is_named(store: &OwnStore, url: &str) -> bool {
        store.is_named_by(&Url::parse(url).unwrap())
    }

    // S16
    #[test]
    fn a_store_of_our_network_is_named_by_its_host_and_port() {
        let resolved = store("http://minio.lan:9000", &["10.0.0.7"]);
        assert_eq!(resolved.addresses(), ["10.0.0.7:9000".parse().unwrap()]);
        for store in [resolved, store("http://minio.lan:9000", &[])] {
            for url in [
                "http://minio.lan:9000/other/x",
                "https://MINIO.lan.:9000/",
                "http://archive.minio.lan:9000/x",
            ] {
                assert!(is_named(&store, url), "{url}");
            }
            for url in [
                "http://minio.lan/archive/x",
                "http://other.lan:9000/archive/x",
            ] {
                assert!(!is_named(&store, url), "{url}");
            }
        }
    }

    #[test]
    fn of_a_store_that_others_share_only_our_bucket_is_ours() {
        let store = store("https://s3.example.com", &["8.8.8.8", "8.8.4.4"]);
        assert_eq!(store.addresses(), []);
        for url in [
            "https://s3.example.com/archive/x",
            "https://s3.example.com:443/archive",
            "https://s3.example.com/%61rchive/x",
            "https://archive.s3.example.com/x",
        ] {
            assert!(is_named(&store, url), "{url}");
        }
        for url in [
            "https://s3.example.com/archive2/x",
            "https://b.s3.example.com/archive/x",
        ] {
            assert!(!is_named(&store, url), "{url}");
        }
    }
}
