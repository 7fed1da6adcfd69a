//! Bytes in and bytes across: real HTTP against an origin that misbehaves, real S3 API behind it.

mod door;
mod engine;
pub mod hls;
mod lanes;
mod outage;
mod refused;
mod sealing;
mod source;
mod stores;
mod throttle;
mod wire;
mod world;

use std::sync::Arc;
use std::time::Duration;

use recording_harvester::source::guard::{Guard, GuardSettings};
use recording_harvester::source::http::{HttpSettings, HttpSource};

/// A source that may reach loopback over http, and whose patience is short: for origins that hang or stall.
/// On a busy machine it gives up on healthy ones, too, so no test counts the requests that it makes.
pub fn loopback_source(forbidden: Vec<std::net::SocketAddr>) -> HttpSource {
    source_behind(loopback_guard(forbidden))
}

/// A source that may reach loopback over http, with the patience of production.
pub fn patient_source(forbidden: Vec<std::net::SocketAddr>) -> HttpSource {
    let guard = Arc::new(loopback_guard(forbidden));
    HttpSource::new(guard, HttpSettings::default()).unwrap()
}

fn loopback_guard(forbidden: Vec<std::net::SocketAddr>) -> Guard {
    Guard::new(GuardSettings {
        allow_networks: vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()],
        allow_http: true,
        forbidden,
    })
}

/// As [`loopback_source`], with one connection to a host at a time.
pub fn single_file_source() -> HttpSource {
    source_with(HttpSettings {
        per_host: 1,
        ..HttpSettings::default()
    })
}

/// A source that may reach loopback over http, with these settings.
pub fn source_with(settings: HttpSettings) -> HttpSource {
    let guard = Guard::new(GuardSettings {
        allow_networks: vec!["127.0.0.0/8".parse().unwrap()],
        allow_http: true,
        forbidden: Vec::new(),
    });
    HttpSource::new(Arc::new(guard), settings).unwrap()
}

/// A source behind `guard`, whose patience is short.
pub fn source_behind(guard: Guard) -> HttpSource {
    let settings = HttpSettings {
        head_timeout: Duration::from_millis(700),
        stall_timeout: Duration::from_millis(400),
        min_rate: 2000,
        api_timeout: Duration::from_secs(2),
        ..HttpSettings::default()
    };
    HttpSource::new(Arc::new(guard), settings).unwrap()
}
