//! What a scraper sees.

use super::*;
use crate::report::board;

fn record(state: State, class: Option<Class>) -> Record {
    Record {
        id: JobId(uuid::Uuid::nil()),
        source: "hms-eu".to_owned(),
        state,
        class,
        size_bytes: Some(1000),
        attempts: 1,
        ..board::tests::record("recording.mp4")
    }
}

fn lines(metrics: &Metrics) -> Vec<String> {
    let text = metrics.render(&[(State::Pending, 3)], Some(12.5));
    text.lines().map(str::to_owned).collect()
}

#[track_caller]
fn check(metrics: &Metrics, expected: &[&str]) {
    let lines = lines(metrics);
    for line in expected {
        assert!(
            lines.iter().any(|l| l == line),
            "missing {line} in\n{lines:#?}"
        );
    }
}

// N4
#[test]
fn a_bucket_that_refuses_is_shown_until_it_does_not() {
    let metrics = Metrics::new("1.2.3");
    check(&metrics, &["harvester_bucket_refuses 0"]);
    metrics.observe(&ProgressEvent::BucketRefuses {
        class: Class::UploadDenied,
        message: "check bucket b: NoSuchBucket".to_owned(),
        waiting: 3,
        until: jiff::Timestamp::UNIX_EPOCH,
    });
    check(&metrics, &["harvester_bucket_refuses 1"]);
    metrics.observe(&ProgressEvent::BucketAccepts);
    check(&metrics, &["harvester_bucket_refuses 0"]);
}

#[test]
fn a_transfer_is_counted_once_whatever_its_retries() {
    let metrics = Metrics::new("1.2.3");
    let id = JobId(uuid::Uuid::nil());
    let bytes = |done| ProgressEvent::Bytes {
        id,
        done,
        total: Some(1000),
    };
    metrics.observe(&ProgressEvent::Started {
        record: record(State::Running, None).into(),
    });
    metrics.observe(&bytes(400));
    check(&metrics, &["harvester_transfers_active 1"]);
    metrics.observe(&ProgressEvent::Retrying {
        id,
        class: Class::Unreachable,
        message: "reset".to_owned(),
        at: jiff::Timestamp::UNIX_EPOCH,
    });
    let resumed = Record {
        bytes_done: 400,
        ..record(State::Running, None)
    };
    metrics.observe(&ProgressEvent::Started {
        record: resumed.into(),
    });
    metrics.observe(&bytes(900));
    metrics.observe(&ProgressEvent::Settled {
        record: record(State::Archived, None).into(),
    });
    check(
        &metrics,
        &[
            "harvester_bytes_downloaded_total 1000",
            "harvester_bytes_uploaded_total 1000",
            "harvester_transfers_active 0",
            "harvester_transfer_duration_seconds_count 1",
            "harvester_retries_total{stage=\"download\",class=\"unreachable\"} 1",
            "harvester_artifacts_archived_total{source=\"hms-eu\",kind=\"video\"} 1",
        ],
    );
}

#[test]
fn losses_are_counted_by_class_and_a_cancelled_one_is_none() {
    let metrics = Metrics::new("1.2.3");
    for (state, class) in [
        (State::Failed, Some(Class::Gone)),
        (State::Expired, None),
        (State::Cancelled, None),
    ] {
        metrics.observe(&ProgressEvent::Settled {
            record: record(state, class).into(),
        });
    }
    check(
        &metrics,
        &[
            "harvester_artifacts_failed_total{source=\"hms-eu\",class=\"gone\"} 1",
            "harvester_artifacts_failed_total{source=\"hms-eu\",class=\"expired\"} 1",
        ],
    );
    let failed = lines(&metrics)
        .iter()
        .filter(|line| line.starts_with("harvester_artifacts_failed_total{"))
        .count();
    assert_eq!(failed, 2);
}

#[test]
fn the_queue_and_the_build_are_rendered() {
    let metrics = Metrics::new("1.2.3");
    metrics.event_received("hms-eu", EventClass::ArtifactsAndFailure);
    metrics.webhook_rejected(UNKNOWN_SOURCE, "unknown_source");
    metrics.webhook_answered(Duration::from_millis(4));
    check(
        &metrics,
        &[
            "harvester_jobs{state=\"pending\"} 3",
            "harvester_jobs{state=\"failed\"} 0",
            "harvester_least_slack_seconds 12.5",
            "harvester_build_info{version=\"1.2.3\"} 1",
            "harvester_events_received_total{source=\"hms-eu\",class=\"artifacts+failure\"} 1",
            "harvester_webhooks_rejected_total{source=\"unknown\",reason=\"unknown_source\"} 1",
            "harvester_webhook_duration_seconds_bucket{le=\"0.005\"} 1",
        ],
    );
    let empty = metrics.render(&[], None);
    assert!(empty.contains("harvester_least_slack_seconds NaN\n"));
    assert!(empty.ends_with("# EOF\n"));
}
