//! Says what HTTP clients may reach, and builds all but the bucket's.
//!
//! Clients that reach out resolve names through the guard (hyper skips the resolver for literal
//! addresses; those are judged with the URL), use no proxy of the environment (it would resolve names
//! itself), follow no redirect (reqwest would send the signed URL along as Referer) and decode nothing.

use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::header::{ACCEPT_ENCODING, HeaderValue};
use http_body_util::Empty;
use hyper_util::client::legacy::connect::dns::Name;
use reqwest::dns::{Addrs, Resolve, Resolving};
use reqwest::redirect::Policy;
use tower::{BoxError, Service};

use super::guard::Guard;
use crate::error::{Error, Result};
use crate::{http1, tls};

/// Nothing decodes what comes.
pub(super) const IDENTITY: HeaderValue = HeaderValue::from_static("identity");

/// Asks origins.
pub(super) type OriginClient = http1::Client<Empty<Bytes>>;

/// How long the system's resolver may take for one name.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a name was not resolved to anything that may be connected to.
#[derive(Debug, thiserror::Error)]
#[error("{name} resolves to {reason}")]
pub(crate) struct AddressRefused {
    name: String,
    reason: &'static str,
}

/// A client for origins: HTTP/1.1 (HTTP/2 costs more and hands out smaller chunks), no total time limit, since a
/// recording may take hours; who reads the body watches its pace. A wary one is for URLs whose port is also one of our
/// own listeners': no name may resolve to where they listen.
///
/// # Errors
/// `internal` when TLS can't be set up.
pub(super) fn origin_client(
    guard: Arc<Guard>,
    is_wary: bool,
    connect_timeout: Duration,
) -> Result<OriginClient> {
    let resolver = GuardedResolver { guard, is_wary };
    http1::client(resolver, connect_timeout).map_err(|error| no_client().with_source(error))
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
        base()
            .default_headers([(ACCEPT_ENCODING, IDENTITY)].into_iter().collect())
            .dns_resolver(GuardedResolver {
                guard,
                is_wary: false,
            })
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
    let builder = base().http1_only().connect_timeout(RESOLVE_TIMEOUT);
    let builder = match timeout {
        Some(timeout) => builder.timeout(timeout),
        None => builder,
    };
    build(builder, &["http/1.1"])
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
        .user_agent(http1::USER_AGENT)
}

fn build(builder: reqwest::ClientBuilder, alpn: &[&str]) -> Result<reqwest::Client> {
    let tls = tls::client_config(alpn).map_err(|error| no_client().with_source(error))?;
    builder
        .tls_backend_preconfigured(tls)
        .build()
        .map_err(|error| no_client().with_source(error.without_url()))
}

fn no_client() -> Error {
    Error::internal("set up the HTTP client")
}

#[derive(Clone)]
struct GuardedResolver {
    guard: Arc<Guard>,
    is_wary: bool,
}

impl GuardedResolver {
    async fn look_up(self, name: &str) -> Result<Vec<SocketAddr>, BoxError> {
        let lookup = tokio::net::lookup_host((name, 0));
        let found: Vec<_> = tokio::time::timeout(RESOLVE_TIMEOUT, lookup)
            .await
            .map_err(|_| std::io::Error::other(format!("resolving {name} took over 5 s")))??
            .collect();
        for address in &found {
            let verdict = self.guard.judge_address(address.ip()).and_then(|()| {
                if self.is_wary && self.guard.is_own_address(address.ip()) {
                    Err("where the harvester or its object store listens")
                } else {
                    Ok(())
                }
            });
            if let Err(reason) = verdict {
                let name = name.to_owned();
                return Err(AddressRefused { name, reason }.into());
            }
        }
        Ok(found)
    }
}

impl Service<Name> for GuardedResolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let resolver = self.clone();
        Box::pin(async move { Ok(resolver.look_up(name.as_str()).await?.into_iter()) })
    }
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: reqwest::dns::Name) -> Resolving {
        let resolver = self.clone();
        Box::pin(async move {
            let found = resolver.look_up(name.as_str()).await?;
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
        let found = resolver.look_up("localhost").await;
        found.map(|found| found.len()).map_err(|e| {
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
            "localhost resolves to where the harvester or its object store listens"
        );
    }
}
