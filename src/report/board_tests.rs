use jiff::SignedDuration;
use std::sync::Arc;

use super::*;
use crate::error::Class;
use crate::model::{DeadlineFrom, Format, Kind, Provider, RecordingId};

pub(crate) fn record(name: &str) -> Record {
    Record {
        id: JobId(uuid::Uuid::from_u128(1)),
        recording_id: RecordingId(uuid::Uuid::from_u128(2)),
        provider: Provider::Hms,
        source: "100ms".to_owned(),
        name: name.to_owned(),
        kind: Kind::Video,
        format: Format::Mp4,
        state: State::Pending,
        class: None,
        message: None,
        action: None,
        key: format!("100ms/2026/03/02/s/r/{name}"),
        size_bytes: None,
        crc64nvme: None,
        sha256: None,
        etag: None,
        version_id: None,
        deadline: None,
        deadline_from: DeadlineFrom::None,
        is_upper_bound: false,
        attempts: 0,
        bytes_done: 0,
        archived_at: None,
    }
}

fn now() -> Timestamp {
    "2026-03-02T10:00:00Z".parse().unwrap()
}

#[test]
fn what_a_lost_stream_left_open_is_not_counted_twice() {
    let mut board = Board::default();
    let started = ProgressEvent::Started {
        record: record("recording.mp4").into(),
    };
    board.apply(&started, now());
    board.forget_open();
    assert_eq!(totals_line(&board.totals(), now()), "0 archived");
    board.apply(&started, now());
    assert_eq!(board.totals().open, 1);
}

#[test]
fn a_recording_from_start_to_seal() {
    let mut board = Board::default();
    let expected = Record {
        size_bytes: Some(100),
        deadline: Some("2026-03-02T11:30:05Z".parse().unwrap()),
        ..record("recording.mp4")
    };
    board.expect(std::slice::from_ref(&expected));
    assert_eq!(
        totals_line(&board.totals(), now()),
        "0 archived, 1 open, 1h 30m left"
    );

    let id = expected.id;
    let started = ProgressEvent::Started {
        record: expected.clone().into(),
    };
    assert_eq!(board.apply(&started, now()), ScreenChange::Row(id));
    let bytes = ProgressEvent::Bytes {
        id,
        done: 40,
        total: None,
    };
    board.apply(&bytes, now());
    let totals = board.totals();
    assert_eq!((totals.bytes_done, totals.bytes_total), (40, 100));

    let retrying = ProgressEvent::Retrying {
        id,
        class: Class::Throttled,
        message: "slow\u{1b}[31m down".to_owned(),
        at: "2026-03-02T10:00:03Z".parse().unwrap(),
    };
    let text = "retrying  100ms/recording.mp4 in 3s: throttled: slow[31m down".to_owned();
    assert_eq!(
        board.apply(&retrying, now()),
        ScreenChange::Gone(id, Severity::Warning, text)
    );

    let settled = ProgressEvent::Settled {
        record: Arc::new(Record {
            state: State::Archived,
            ..expected
        }),
    };
    let text = "archived  100ms/recording.mp4 100 B 100ms/2026/03/02/s/r/recording.mp4".to_owned();
    assert_eq!(
        board.apply(&settled, now()),
        ScreenChange::Gone(id, Severity::Good, text)
    );
    let totals = board.totals();
    assert_eq!(
        (totals.archived, totals.open, totals.bytes_done),
        (1, 0, 100)
    );
}

#[test]
fn a_loss_says_why() {
    let lost = Record {
        state: State::Expired,
        class: Some(Class::Expired),
        message: Some("the URL ended".to_owned()),
        ..record("chat.csv")
    };
    let (tone, text) = settled(&lost);
    assert_eq!(tone, Severity::Bad);
    assert_eq!(text, "expired   100ms/chat.csv: expired: the URL ended");
}

#[test]
fn bytes_of_an_artifact_whose_start_was_missed_are_shown() {
    let mut board = Board::default();
    let id = record("x").id;
    let event = ProgressEvent::Bytes {
        id,
        done: 5,
        total: Some(10),
    };
    assert_eq!(board.apply(&event, now()), ScreenChange::Row(id));
    assert_eq!(board.row(id).unwrap().label, id.to_string());
}

#[test]
fn lengths_and_sizes_as_people_read_them() {
    for (seconds, text) in [
        (-5, "0s"),
        (0, "0s"),
        (59, "59s"),
        (250, "4m 10s"),
        (3600, "1h"),
        (601_200, "6d 23h"),
    ] {
        assert_eq!(duration(SignedDuration::from_secs(seconds)), text);
    }
    for (count, text) in [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (13_933_649, "13.3 MiB"),
        ((1 << 20) - 1, "1.0 MiB"),
    ] {
        assert_eq!(bytes(count), text);
    }
    assert_eq!(bytes_of(1_572_864, 13_933_649), "1.5/13.3 MiB");
    assert_eq!(bytes_of(7, 974), "7/974 B");
}
