//! HTTP/1.1 for what is called thousands of times: connect, keep connections, send. There are no redirects, cookies,
//! proxies or repetitions here, and what a client with all of these does for each call is a seventh of the CPU that a
//! small file costs.

use std::net::SocketAddr;
use std::time::Duration;

use http::Uri;
use http_body::Body;
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tower::timeout::TimeoutLayer;
use tower::util::{BoxCloneSyncService, BoxCloneSyncServiceLayer};
use tower::{BoxError, Service, ServiceBuilder};

use crate::tls;

/// Sends requests with bodies `B`. Clones share connections.
pub type Client<B> = legacy::Client<Connector, B>;

/// Opens connections, over TLS where the URL wants it.
pub type Connector = BoxCloneSyncService<Uri, MaybeHttpsStream<TokioIo<TcpStream>>, BoxError>;

/// How servers know us.
pub const USER_AGENT: &str = concat!("recording-harvester/", env!("CARGO_PKG_VERSION"));

/// A connection that is not used for so long is closed.
const IDLE_LIMIT: Duration = Duration::from_secs(90);

/// The other side of a silent connection is asked this often whether it is still there, and given up after three questions.
const KEEPALIVE: Duration = Duration::from_secs(15);
const KEEPALIVE_TRIES: u32 = 3;

/// What was sent and is not acknowledged for so long goes nowhere.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED_LIMIT: Duration = Duration::from_secs(30);

/// A client whose `resolver` looks up the names, but not addresses that stand in a URL. A name, a connection and its TLS
/// may take `connect_limit` together.
///
/// # Errors
/// When the system's certificates can't be used.
#[expect(
    clippy::disallowed_methods,
    reason = "who asks for one says in source/client.rs or object/s3/connect.rs what it may reach"
)]
pub fn client<R, B>(resolver: R, connect_limit: Duration) -> Result<Client<B>, rustls::Error>
where
    R: Service<Name> + Clone + Send + Sync + 'static,
    R::Response: Iterator<Item = SocketAddr>,
    R::Error: Into<BoxError>,
    R::Future: Send,
    B: Body + Send,
    B::Data: Send,
{
    let mut tcp = HttpConnector::new_with_resolver(resolver);
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(KEEPALIVE));
    tcp.set_keepalive_interval(Some(KEEPALIVE));
    tcp.set_keepalive_retries(Some(KEEPALIVE_TRIES));
    #[cfg(target_os = "linux")]
    tcp.set_tcp_user_timeout(Some(UNACKNOWLEDGED_LIMIT));
    // Shared by the addresses of a name: one that is silent must not keep the others from being tried.
    tcp.set_connect_timeout(Some(connect_limit));
    let tls = tls::client_config(&["http/1.1"])?;
    let in_time = TimeoutLayer::new(connect_limit);
    let connector = ServiceBuilder::new()
        .layer(BoxCloneSyncServiceLayer::new(in_time))
        .service(HttpsConnector::from((tcp, tls)));
    Ok(legacy::Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_LIMIT)
        .build(connector))
}
