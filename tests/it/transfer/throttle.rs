//! What all downloads together may take, over real HTTP.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use recording_harvester::clock::ManualClock;
use recording_harvester::error::Class;
use recording_harvester::model::Deadline;
use recording_harvester::signed_url::SignedUrl;
use recording_harvester::source::http::{HttpSettings, HttpSource};
use recording_harvester::source::throttle::{RateWindow, ThrottleSettings};
use recording_harvester::source::{OpenRequest, Source as _, Waits};

use super::source_with;
use crate::harness::origin::{Behaviour, TestOrigin};

const LENGTH: usize = 400_000;

async fn world(throttle: ThrottleSettings, clock: Arc<ManualClock>) -> (TestOrigin, HttpSource) {
    let origin = TestOrigin::start().await;
    origin.serve("/a", vec![7; LENGTH], Behaviour::default());
    let source = source_with(HttpSettings {
        throttle,
        clock,
        ..HttpSettings::default()
    });
    (origin, source)
}

fn request(origin: &TestOrigin) -> OpenRequest {
    OpenRequest {
        url: SignedUrl::new(origin.url("/a")),
        range: None,
        validator: None,
        allow_hosts: Vec::new(),
        deadline: Deadline::NONE,
        waits: Waits::default(),
    }
}

async fn read(source: &HttpSource, origin: &TestOrigin) -> usize {
    let mut body = source.open(&request(origin)).await.unwrap().body;
    let mut length = 0;
    while let Some(chunk) = body.next().await {
        length += chunk.unwrap().len();
    }
    length
}

// S19
#[tokio::test]
async fn two_downloads_share_the_bandwidth() {
    let throttle = ThrottleSettings {
        windows: vec![RateWindow {
            from_minute: 0,
            to_minute: 24 * 60,
            bytes_per_second: LENGTH as u64,
        }],
        max_per_day: None,
    };
    let clock = ManualClock::at("2026-03-02T10:00:00Z".parse().unwrap());
    let (origin, source) = world(throttle, clock).await;
    let began = Instant::now();
    let both = tokio::join!(read(&source, &origin), read(&source, &origin));
    assert_eq!(both, (LENGTH, LENGTH));
    // Two seconds' worth; only for what comes after the last chunks nobody waits. Unbounded it takes milliseconds.
    assert!(
        began.elapsed() > Duration::from_secs(1),
        "{:?}",
        began.elapsed()
    );
}

// S19, threat 20
#[tokio::test]
async fn after_the_days_bytes_nothing_is_asked_for_until_the_next_day() {
    let throttle = ThrottleSettings {
        windows: Vec::new(),
        max_per_day: Some(LENGTH as u64),
    };
    let clock = ManualClock::at("2026-03-02T22:00:00Z".parse().unwrap());
    let (origin, source) = world(throttle, Arc::clone(&clock)).await;
    assert_eq!(read(&source, &origin).await, LENGTH);
    let error = source.open(&request(&origin)).await.err().unwrap();
    assert_eq!(error.class(), Class::Throttled);
    assert!(error.is_held_back(), "it costs no attempt");
    assert_eq!(error.retry_after(), Some(Duration::from_secs(2 * 3600)));
    assert_eq!(origin.requests("/a").len(), 1);
    clock.set("2026-03-03T00:00:01Z".parse().unwrap());
    assert_eq!(read(&source, &origin).await, LENGTH);
}
