//! The operator's listener: health, metrics and the API.
//!
//! Loopback is no authentication: any page in a browser on this machine can post to it, and a name
//! that is made to point here later reaches it too (DNS rebinding). So each request has to name this
//! listener in `Host`, come from no other `Origin`, and on `/api/*` carry a header that no page can send
//! across origins without asking first. Other users of the machine reach it as well, so the API asks for a token
//! there, too: the configured one, or one that the worker makes at each start for whoever may read its files. One has
//! to be configured when others can reach the address.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use secrecy::SecretString;

pub use super::admin_state::Admin;
use super::api;
pub use super::api::API_HEADER;
use super::health::healthz;
use super::refusal::{HttpRefusal, within_time};
use crate::error::{Class, Error, Result};
use crate::ingest::signature;
use crate::report::board;
use crate::report::metrics;
use crate::store::Stats;

impl Admin {
    /// Whether such an address may be served.
    ///
    /// # Errors
    /// `invalid`, naming the setting: others can reach the address and no token is set, or it can be guessed.
    pub fn check(address: SocketAddr, token: Option<&SecretString>) -> Result<()> {
        if let Some(token) = token {
            return signature::check_secret("admin.token", token);
        }
        if address.ip().is_loopback() {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "admin.token is missing: others can reach admin.listen = \"{address}\". Set it, or listen on loopback"
        )))
    }
}

/// The routes of the operator's listener.
pub fn router(admin: Arc<Admin>) -> Router {
    let scraped = Router::new()
        .route("/metrics", get(render_metrics))
        .layer(from_fn_with_state(
            Arc::clone(&admin),
            require_configured_token,
        ));
    let operator = Router::new()
        .nest("/api/v1", api::router(&admin))
        .fallback(not_found)
        .layer(from_fn_with_state(Arc::clone(&admin), require_token));
    Router::new()
        .route("/", get(front_page))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .merge(scraped)
        .merge(operator)
        .layer(from_fn_with_state(Arc::clone(&admin), require_own_origin))
        .layer(from_fn(add_strict_headers))
        .with_state(admin)
}

async fn front_page() -> &'static str {
    "harvester: see /api/v1, /metrics, /healthz and /readyz\n"
}

async fn not_found() -> HttpRefusal {
    HttpRefusal::not_found("no such page")
}

/// Recordings whose manifest is overdue that the metrics count at most.
const OVERDUE_COUNTED: u32 = 10_000;

/// Ready is: started, not shutting down, and the store answers. A bucket that refuses is told and changes nothing:
/// webhooks are taken in all the same, and would be lost if they were sent nowhere.
async fn readyz(State(admin): State<Arc<Admin>>) -> Response {
    if !admin.ready.load(Ordering::Acquire) {
        return (StatusCode::SERVICE_UNAVAILABLE, "not ready\n").into_response();
    }
    match stats(&admin).await {
        Ok(_) => match admin.progress.bucket_refusal() {
            Some(refusal) => {
                let text = board::bucket_refusal(&refusal, admin.clock.now());
                format!("ready; bucket {}\n", text.unwrap_or_default()).into_response()
            }
            None => "ready\n".into_response(),
        },
        Err(_) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "the store does not answer\n",
        )
            .into_response(),
    }
}

async fn render_metrics(State(admin): State<Arc<Admin>>) -> Result<Response, HttpRefusal> {
    let stats = stats(&admin).await?;
    let now = admin.clock.now();
    let least_slack_seconds = stats
        .least_latest_start
        .map(|start| start.duration_since(now).as_secs_f64());
    let overdue = admin.store.overdue_manifests(now, OVERDUE_COUNTED);
    let overdue = within_time(overdue).await?.len();
    admin.metrics.manifests_overdue(overdue);
    let text = admin.metrics.render(&stats.jobs, least_slack_seconds);
    Ok(([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response())
}

async fn stats(admin: &Admin) -> Result<Stats, HttpRefusal> {
    within_time(admin.store.stats()).await
}

async fn require_token(
    State(admin): State<Arc<Admin>>,
    request: Request,
    next: Next,
) -> Result<Response, HttpRefusal> {
    let is_required = admin.token.is_some() || admin.own_token.is_some();
    authorize(&admin, is_required, request, next).await
}

/// For counts, which name nobody: whoever collects them on this machine needs no token unless one is configured.
async fn require_configured_token(
    State(admin): State<Arc<Admin>>,
    request: Request,
    next: Next,
) -> Result<Response, HttpRefusal> {
    authorize(&admin, admin.token.is_some(), request, next).await
}

async fn authorize(
    admin: &Admin,
    is_required: bool,
    request: Request,
    next: Next,
) -> Result<Response, HttpRefusal> {
    let is_open = !is_required && admin.address.ip().is_loopback();
    if is_open || is_authorized(admin, request.headers()) {
        return Ok(next.run(request).await);
    }
    Err(HttpRefusal::new(
        StatusCode::UNAUTHORIZED,
        Class::Denied,
        "the bearer token of `admin.token` or of the file admin-PORT.token in `data_dir` is needed",
    ))
}

fn is_authorized(admin: &Admin, headers: &HeaderMap) -> bool {
    let presented = headers
        .get(header::AUTHORIZATION)
        .map(HeaderValue::as_bytes)
        .and_then(|value| value.split_at_checked("Bearer ".len()))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"Bearer "))
        .map(|(_, token)| token);
    let tokens: Vec<_> = admin
        .token
        .iter()
        .chain(&admin.own_token)
        .cloned()
        .collect();
    presented.is_some_and(|presented| signature::is_shared_secret(presented, &tokens))
}

async fn require_own_origin(
    State(admin): State<Arc<Admin>>,
    request: Request,
    next: Next,
) -> Result<Response, HttpRefusal> {
    check_origin(admin.address, request.uri(), request.headers()).map_err(|message| {
        tracing::warn!(message, "refused a request to the admin listener");
        HttpRefusal::new(StatusCode::FORBIDDEN, Class::Refused, message)
    })?;
    Ok(next.run(request).await)
}

/// Whether a request was meant for the listener at `address` and comes from no foreign page.
fn check_origin(address: SocketAddr, uri: &Uri, headers: &HeaderMap) -> Result<(), &'static str> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = match (hosts.next().map(HeaderValue::to_str), hosts.next()) {
        (Some(Ok(host)), None) => host.to_ascii_lowercase(),
        _ => return Err("one Host header is needed"),
    };
    let is_own_target = uri
        .authority()
        .is_none_or(|authority| authority.as_str().eq_ignore_ascii_case(&host));
    if !is_own_target || !is_own_host(address, &host) {
        return Err("the Host header does not name this listener");
    }
    if let Some(origin) = headers.get(header::ORIGIN) {
        let origin = origin.to_str().unwrap_or_default().to_ascii_lowercase();
        // https as well: a proxy in front may speak it.
        let own = [format!("http://{host}"), format!("https://{host}")];
        if !own.contains(&origin) {
            return Err("a page of another origin sent this");
        }
    }
    Ok(())
}

fn is_own_host(address: SocketAddr, host: &str) -> bool {
    let port = address.port();
    let has_port = |name: &str| {
        host.strip_prefix(name)
            .is_some_and(|rest| rest == format!(":{port}") || (port == 80 && rest.is_empty()))
    };
    match address.ip() {
        ip if ip.is_loopback() => ["127.0.0.1", "localhost", "[::1]"]
            .into_iter()
            .any(has_port),
        // Behind every address of the machine there are names that only its operator knows; the
        // token, which such an address has to have, is what a foreign page lacks.
        ip if ip.is_unspecified() => true,
        IpAddr::V4(ip) => has_port(&ip.to_string()),
        IpAddr::V6(ip) => has_port(&format!("[{ip}]")),
    }
}

/// Nothing that is shown here may be run, framed, guessed at or kept by a browser.
async fn add_strict_headers(request: Request, next: Next) -> Response {
    const HEADERS: [(HeaderName, HeaderValue); 6] = [
        (
            header::CONTENT_SECURITY_POLICY,
            HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"),
        ),
        (
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ),
        (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (
            header::REFERRER_POLICY,
            HeaderValue::from_static("no-referrer"),
        ),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            HeaderValue::from_static("same-origin"),
        ),
    ];
    let mut response = next.run(request).await;
    response.headers_mut().extend(HEADERS);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(
        address: &str,
        host: &str,
        origin: Option<&'static str>,
    ) -> Result<(), &'static str> {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, HeaderValue::from_static(origin));
        }
        check_origin(
            address.parse().unwrap(),
            &Uri::from_static("/api/v1/artifacts"),
            &headers,
        )
    }

    #[test]
    fn only_the_listeners_own_names_are_hosts() {
        let loopback = "127.0.0.1:8081";
        for (address, host, is_own) in [
            (loopback, "127.0.0.1:8081", true),
            (loopback, "LocalHost:8081", true),
            (loopback, "[::1]:8081", true),
            (loopback, "127.0.0.1", false),
            (loopback, "127.0.0.1:80811", false),
            (loopback, "127.0.0.1:8080", false),
            (loopback, "attacker.example:8081", false),
            (loopback, "localhost.attacker.example:8081", false),
            (loopback, "", false),
            ("192.0.2.7:8081", "192.0.2.7:8081", true),
            ("192.0.2.7:8081", "localhost:8081", false),
            ("[2001:db8::7]:8081", "[2001:db8::7]:8081", true),
            ("0.0.0.0:8081", "harvester.internal:8081", true),
        ] {
            assert_eq!(
                verdict(address, host, None).is_ok(),
                is_own,
                "{address} {host}"
            );
        }
    }

    #[test]
    fn a_foreign_origin_is_refused_whatever_it_looks_like() {
        for (origin, is_own) in [
            ("http://127.0.0.1:8081", true),
            ("http://127.0.0.1:8080", false),
            ("http://localhost:8081", false),
            ("https://attacker.example", false),
            ("null", false),
            ("", false),
        ] {
            assert_eq!(
                verdict("127.0.0.1:8081", "127.0.0.1:8081", Some(origin)).is_ok(),
                is_own,
                "{origin}"
            );
        }
    }

    #[test]
    fn a_second_host_header_or_another_target_is_refused() {
        let mut headers = HeaderMap::new();
        headers.append(header::HOST, HeaderValue::from_static("127.0.0.1:8081"));
        let address = "127.0.0.1:8081".parse().unwrap();
        let foreign = Uri::from_static("http://attacker.example/metrics");
        assert!(check_origin(address, &foreign, &headers).is_err());
        headers.append(header::HOST, HeaderValue::from_static("attacker.example"));
        assert!(check_origin(address, &Uri::from_static("/metrics"), &headers).is_err());
    }

    #[test]
    fn an_address_that_others_can_reach_needs_a_token() {
        let check = |address: &str, token: Option<&str>| {
            let token = token.map(SecretString::from);
            Admin::check(address.parse().unwrap(), token.as_ref()).is_ok()
        };
        assert!(check("127.0.0.1:8081", None));
        assert!(check("[::1]:8081", None));
        assert!(!check("0.0.0.0:8081", None));
        assert!(!check("192.0.2.7:8081", None));
        assert!(check("0.0.0.0:8081", Some("sixteen-bytes-ok")));
        assert!(!check("0.0.0.0:8081", Some("t")));
    }
}
