//! When a saved artifact withdraws a loss that the provider reported.
//!
//! A success that is announced later cures an earlier report of failure. Three things never do: our own copy of
//! an event, bytes that came inside an event, and a file that the failing event itself named: a
//! partial result is what there is, not what was lost.

use jiff::{SignedDuration, Timestamp};

use crate::model::{EventId, Kind, Recording};

/// How long before a recording's start its failure may be reported: clocks differ, and a start that
/// fails has no recording yet.
const BEFORE_START: SignedDuration = SignedDuration::from_hours(1);

/// How long after its end.
const AFTER_END: SignedDuration = SignedDuration::from_hours(24);

/// What is to be known of a provider failure.
#[derive(Clone, Copy, Debug)]
pub(super) struct AnnouncedFailure {
    /// The event that reported it.
    pub event: EventId,
    /// What was lost; `None`: the recording.
    pub kind: Option<Kind>,
    /// When.
    pub at: Timestamp,
}

/// What is to be known of an artifact that is in the bucket.
#[derive(Clone, Copy, Debug)]
pub(super) struct RecoveredArtifact {
    /// The event that announced it last.
    pub announced_by: Option<EventId>,
    /// What it is.
    pub kind: Kind,
    /// Whether its bytes came inside an event.
    pub is_inline: bool,
}

impl RecoveredArtifact {
    /// Whether it only tells of what was recorded, so that it cures nothing.
    pub(super) fn is_evidence_only(&self) -> bool {
        self.is_inline || self.kind == Kind::Event
    }
}

/// Whether `saved` withdraws `loss`, both of one recording.
pub(super) fn cures(saved: &RecoveredArtifact, loss: &AnnouncedFailure) -> bool {
    let is_same_event = saved.announced_by == Some(loss.event);
    let is_what_was_lost = loss.kind.is_none_or(|kind| kind == saved.kind);
    !saved.is_evidence_only() && !is_same_event && is_what_was_lost
}

/// Whether a failure that names no recording (Daily's `recording.error`) at `at` in the room
/// `lost` can be about the recording `saved` of the same source: same room, near in time.
pub(super) fn is_about(lost: &Recording, at: Timestamp, saved: &Recording) -> bool {
    let is_nameless = lost.identity().is_none();
    let is_same_room = lost.room_name.is_some() && lost.room_name == saved.room_name;
    let Some(start) = saved.started_at else {
        return false;
    };
    let end = saved.ended_at.unwrap_or(start).max(start);
    let since_start = at.duration_since(start);
    let since_end = at.duration_since(end);
    is_nameless && is_same_room && since_start >= -BEFORE_START && since_end <= AFTER_END
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn event(number: u128) -> EventId {
        EventId(Uuid::from_u128(number))
    }

    fn loss(kind: Option<Kind>) -> AnnouncedFailure {
        AnnouncedFailure {
            event: event(1),
            kind,
            at: at("2026-03-02T10:00:00Z"),
        }
    }

    fn saved(by: u128, kind: Kind) -> RecoveredArtifact {
        RecoveredArtifact {
            announced_by: Some(event(by)),
            kind,
            is_inline: false,
        }
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_file_of_the_lost_kind_from_another_event_cures() {
        assert!(cures(&saved(2, Kind::Video), &loss(None)));
        assert!(cures(
            &saved(2, Kind::Transcript),
            &loss(Some(Kind::Transcript))
        ));
        assert!(!cures(
            &saved(2, Kind::Video),
            &loss(Some(Kind::Transcript))
        ));
    }

    #[test]
    fn the_event_itself_and_inline_bytes_never_cure() {
        assert!(!cures(&saved(2, Kind::Event), &loss(None)));
        assert!(!cures(&saved(2, Kind::Event), &loss(Some(Kind::Event))));
        let inline = RecoveredArtifact {
            is_inline: true,
            ..saved(2, Kind::Transcript)
        };
        assert!(!cures(&inline, &loss(Some(Kind::Transcript))));
    }

    #[test]
    fn a_partial_result_does_not_cure_the_loss_that_its_own_event_reports() {
        assert!(!cures(
            &saved(1, Kind::Transcript),
            &loss(Some(Kind::Transcript))
        ));
    }

    #[test]
    fn a_nameless_failure_belongs_to_the_recording_of_its_room_near_in_time() {
        let lost = Recording {
            room_name: Some("daily-room".into()),
            ..Recording::default()
        };
        let saved = Recording {
            recording_id: Some("r".into()),
            started_at: Some(at("2026-03-02T10:00:00Z")),
            ended_at: Some(at("2026-03-02T11:00:00Z")),
            ..lost.clone()
        };
        let cases = [
            ("2026-03-02T08:59:59Z", false),
            ("2026-03-02T09:00:00Z", true),
            ("2026-03-02T10:30:00Z", true),
            ("2026-03-03T11:00:00Z", true),
            ("2026-03-03T11:00:01Z", false),
        ];
        for (time, expected) in cases {
            assert_eq!(is_about(&lost, at(time), &saved), expected, "{time}");
        }
        let time = at("2026-03-02T10:30:00Z");
        let named = Recording {
            recording_id: Some("other".into()),
            ..lost.clone()
        };
        assert!(!is_about(&named, time, &saved));
        let elsewhere = Recording {
            room_name: Some("other".into()),
            ..lost.clone()
        };
        assert!(!is_about(&elsewhere, time, &saved));
        let roomless = Recording::default();
        assert!(!is_about(&roomless, time, &roomless));
        let open_ended = Recording {
            ended_at: None,
            ..saved.clone()
        };
        assert!(is_about(&lost, at("2026-03-03T10:00:00Z"), &open_ended));
        assert!(!is_about(&lost, at("2026-03-03T10:00:01Z"), &open_ended));
    }
}
