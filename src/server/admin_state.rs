//! All that the operator's pages and API draw on.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use secrecy::SecretString;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::clock::SharedClock;
use crate::report::metrics::Metrics;
use crate::report::progress::ProgressStream;
use crate::store::OperatorAccess;

/// Everything that the operator's listener shows and does.
pub struct Admin {
    /// The state.
    pub store: Arc<dyn OperatorAccess>,
    /// What is going on.
    pub progress: ProgressStream,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What time it is.
    pub clock: SharedClock,
    /// Bearer token of the configuration; required when `address` is not loopback.
    pub token: Option<SecretString>,
    /// Bearer token of this start: as good as the configured one, and required by the API without one.
    pub own_token: Option<SecretString>,
    /// Where it really listens (the port that was given, not 0).
    pub address: SocketAddr,
    /// Whether this process wants traffic: set after the start, cleared when a shutdown begins.
    pub ready: Arc<AtomicBool>,
    /// Rung when jobs were put back.
    pub bell: Arc<Notify>,
    /// Ends the live streams.
    pub shutdown: CancellationToken,
}
