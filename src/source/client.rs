//! Builds HTTP clients: the only place that does.
//!
//! Clients that reach out resolve names through the guard (hyper skips the resolver for literal
//! addresses; those are judged with the URL), use no proxy of the environment (it would resolve names
//! itself), follow no redirect (reqwest would send the signed URL along as Referer) and decode nothing.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{ACCEPT_ENCODING, HeaderMap, HeaderValue};
use reqwest::redirect::Policy;

use super::guard::Guard;
use crate::error::{Error, Result};
use crate::tls;

/// The protocol that a server is asked for.
const HTTP1: &[&str] = &["http/1.1"];

/// How long the system's resolver may take for one name.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a name was not resolved to anything that may be connected to.
#[derive(Debug, thiserror::Error)]
#[error("{name} resolves to {reason}")]
pub(crate) struct AddressRefused {
    name: String,
    reason: &'static str,
}

/// A client for origins: HTTP/1.1 (HTTP/2 costs more and hands out smaller chunks), no total time
/// limit, since a recording may take hours; who reads the body watches its pace.
///
/// # Errors
/// `internal` when TLS can't be set up.
pub fn origin_client(guard: Arc<Guard>, connect_timeout: Duration) -> Result<reqwest::Client> {
    build(
        http1(guarded(guard, false)).connect_timeout(connect_timeout),
        HTTP1,
    )
}

/// As [`origin_client`], for URLs whose port is also one of our own listeners': no name may
/// resolve to where they listen.
pub(crate) fn wary_origin_client(
    guard: Arc<Guard>,
    connect_timeout: Duration,
) -> Result<reqwest::Client> {
    build(
        http1(guarded(guard, true)).connect_timeout(connect_timeout),
        HTTP1,
    )
}

/// A client for providers' APIs, with `timeout` for a whole call.
///
/// # Errors
/// `internal` when TLS can't be set up.
pub fn api_client(
    guard: Arc<Guard>,
    connect_timeout: Duration,
    timeout: Duration,
) -> Result<reqwest::Client> {
    build(
        guarded(guard, false)
            .connect_timeout(connect_timeout)
            .timeout(timeout),
        &["h2", "http/1.1"],
    )
}

/// A client for our own admin listener, which the guard forbids to everybody else. `timeout` is for
/// a whole call; `None` for live streams.
///
/// # Errors
/// `internal` when TLS can't be set up.
pub fn local_client(timeout: Option<Duration>) -> Result<reqwest::Client> {
    let builder = http1(base()).connect_timeout(RESOLVE_TIMEOUT);
    let builder = match timeout {
        Some(timeout) => builder.timeout(timeout),
        None => builder,
    };
    build(builder, HTTP1)
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the one place that builds clients"
)]
fn base() -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .no_proxy()
        .redirect(Policy::none())
        .referer(false)
        .user_agent(concat!("recording-harvester/", env!("CARGO_PKG_VERSION")))
}

/// HTTP/1.1 alone. reqwest repeats by itself what a server of HTTP/2 has refused unseen, and copies every request for that
/// case.
fn http1(builder: reqwest::ClientBuilder) -> reqwest::ClientBuilder {
    builder.http1_only().retry(reqwest::retry::never())
}

fn build(builder: reqwest::ClientBuilder, alpn: &[&str]) -> Result<reqwest::Client> {
    let failed = || Error::internal("set up the HTTP client");
    let tls = tls::client_config(alpn).map_err(|e| failed().with_source(e))?;
    builder
        .tls_backend_preconfigured(tls)
        .build()
        .map_err(|e| failed().with_source(e.without_url()))
}

fn guarded(guard: Arc<Guard>, is_wary: bool) -> reqwest::ClientBuilder {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    base()
        .default_headers(headers)
        .dns_resolver(GuardedResolver { guard, is_wary })
}

struct GuardedResolver {
    guard: Arc<Guard>,
    is_wary: bool,
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = self.guard.clone();
        let is_wary = self.is_wary;
        Box::pin(async move {
            let name = name.as_str().to_owned();
            let lookup = tokio::net::lookup_host((name.as_str(), 0));
            let found: Vec<SocketAddr> = tokio::time::timeout(RESOLVE_TIMEOUT, lookup)
                .await
                .map_err(|_| std::io::Error::other(format!("resolving {name} took over 5 s")))??
                .collect();
            for address in &found {
                let verdict = guard.judge_address(address.ip()).and_then(|()| {
                    if is_wary && guard.is_own_address(address.ip()) {
                        Err("the harvester's own listener")
                    } else {
                        Ok(())
                    }
                });
                if let Err(reason) = verdict {
                    return Err(AddressRefused { name, reason }.into());
                }
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::guard::GuardSettings;

    async fn resolve(allow: &[&str], is_wary: bool) -> Result<usize, String> {
        let guard = Guard::new(GuardSettings {
            allow_networks: allow.iter().map(|net| net.parse().unwrap()).collect(),
            allow_http: true,
            forbidden: vec![
                "127.0.0.1:8081".parse().unwrap(),
                "[::1]:8081".parse().unwrap(),
            ],
        });
        let resolver = GuardedResolver {
            guard: Arc::new(guard),
            is_wary,
        };
        let found = resolver.resolve("localhost".parse().unwrap()).await;
        found.map(Iterator::count).map_err(|e| {
            assert!(e.downcast_ref::<AddressRefused>().is_some(), "{e}");
            e.to_string()
        })
    }

    #[tokio::test]
    async fn a_name_with_a_forbidden_address_is_not_resolved() {
        let both = ["127.0.0.0/8", "::1/128"];
        assert!(resolve(&both, false).await.unwrap() > 0);
        assert_eq!(
            resolve(&[], false).await.unwrap_err(),
            "localhost resolves to a loopback address"
        );
        assert_eq!(
            resolve(&both, true).await.unwrap_err(),
            "localhost resolves to the harvester's own listener"
        );
    }
}
