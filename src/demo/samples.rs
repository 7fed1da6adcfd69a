//! The samples of events and what has to come of each. Long: one table of samples.

use super::media::MediaContent;
use crate::error::Class;
use crate::model::{EventClass, Provider};
use jiff::SignedDuration;

/// How long ago an expired event was sent: longer than any URL in it lives.
const EXPIRED_AGE: SignedDuration = SignedDuration::from_hours(48);

macro_rules! sample {
    ($file:literal) => {
        include_str!(concat!("../../fixtures/events/", $file, ".json"))
    };
}

/// What must become of an artifact.
#[derive(Clone, Debug)]
pub enum Fate {
    /// Archived, with exactly this content.
    Archived(MediaContent),
    /// Archived, with bytes that the harvester made itself of what the event says.
    Made,
    /// Lost, for this reason.
    Lost(Class),
}

/// What must become of an event.
#[derive(Clone, Debug)]
pub struct ExpectedEnd {
    /// What the event is understood as.
    pub class: EventClass,
    /// Artifacts by their name in the archive.
    pub artifacts: Vec<(String, Fate)>,
}

/// A sample and what must become of it.
pub(super) struct EventSample {
    pub(super) name: &'static str,
    pub(super) provider: Provider,
    pub(super) text: &'static str,
    /// Events of one meeting share its ids.
    pub(super) meeting: u32,
    /// How long ago it was sent.
    pub(super) age: SignedDuration,
    pub(super) class: EventClass,
    /// Name in the archive, and where the origin has it.
    pub(super) archived: &'static [(&'static str, &'static str)],
    /// Name in the archive of what is made of the event itself.
    pub(super) made: &'static [&'static str],
    pub(super) lost: &'static [(&'static str, Class)],
}

pub(super) const NOTHING: EventSample = EventSample {
    name: "",
    provider: Provider::Hms,
    text: "",
    meeting: 0,
    age: SignedDuration::ZERO,
    class: EventClass::Ignored,
    archived: &[],
    made: &[],
    lost: &[],
};

pub(super) const HMS: EventSample = EventSample {
    provider: Provider::Hms,
    class: EventClass::Artifacts,
    ..NOTHING
};

pub(super) const MEETINGBAAS: EventSample = EventSample {
    provider: Provider::MeetingBaas,
    ..HMS
};

pub(super) const DAILY: EventSample = EventSample {
    provider: Provider::Daily,
    class: EventClass::Lookup,
    ..NOTHING
};

pub(super) const DYTE: EventSample = EventSample {
    provider: Provider::Dyte,
    ..HMS
};

pub(super) const REALTIMEKIT: EventSample = EventSample {
    provider: Provider::RealtimeKit,
    ..HMS
};

/// What a MeetingBaaS bot of version 2 leaves.
pub(super) const BOT_FILES: &[(&str, &str)] = &[
    ("recording.mp4", "/meetingbaas/v2/bot/video.mp4"),
    ("audio.flac", "/meetingbaas/v2/bot/output.flac"),
    ("diarization.jsonl", "/meetingbaas/v2/bot/diarization.jsonl"),
    (
        "transcript-raw.json",
        "/meetingbaas/v2/bot/raw_transcription.json",
    ),
    (
        "transcript.json",
        "/meetingbaas/v2/bot/output_transcription.json",
    ),
];

/// Each type of event of each provider once, and the cases that go wrong.
pub(super) const SAMPLES: &[EventSample] = &[
    EventSample {
        name: "100ms/recording.success",
        text: sample!("100ms/recording.success"),
        meeting: 1,
        archived: &[
            ("recording.mp4", "/100ms/sfu/rec.mp4"),
            ("chat.csv", "/100ms/sfu/chat.csv"),
        ],
        ..HMS
    },
    EventSample {
        name: "100ms/recording.failed",
        text: sample!("100ms/recording.failed"),
        meeting: 2,
        class: EventClass::Failure,
        ..HMS
    },
    EventSample {
        name: "100ms/beam.recording.success",
        text: sample!("100ms/beam.recording.success"),
        meeting: 3,
        archived: &[
            ("recording.mp4", "/100ms/beam/rec.mp4"),
            ("chat.csv", "/100ms/beam/chat.csv"),
        ],
        ..HMS
    },
    EventSample {
        // The same event once more: nothing new may come of it.
        name: "100ms/beam.recording.success-again",
        text: sample!("100ms/beam.recording.success-replay"),
        meeting: 3,
        ..HMS
    },
    EventSample {
        // Joins the recording above.
        name: "100ms/transcription.success",
        text: sample!("100ms/transcription.success"),
        meeting: 3,
        archived: &[
            ("summary.json", "/100ms/tx/summary_json.json"),
            ("transcript.json", "/100ms/tx/transcript_json.json"),
            ("transcript.srt", "/100ms/tx/transcript_srt.srt"),
            ("transcript.txt", "/100ms/tx/transcript_txt.txt"),
        ],
        ..HMS
    },
    EventSample {
        name: "100ms/beam.failure",
        text: sample!("100ms/beam.failure-upload_error"),
        meeting: 4,
        class: EventClass::Failure,
        ..HMS
    },
    EventSample {
        name: "100ms/hls.recording.success",
        text: sample!("100ms/hls.recording.success-zip"),
        meeting: 5,
        archived: &[
            ("hls.zip", "/100ms/hls/vod.zip"),
            ("layer-0-1920x1080.mp4", "/100ms/hls/layer0.mp4"),
            ("layer-1-1280x720.mp4", "/100ms/hls/layer1.mp4"),
            ("layer-2-640x480.mp4", "/100ms/hls/layer2.mp4"),
            ("layer-3-480x360.mp4", "/100ms/hls/layer3.mp4"),
            ("thumbnail-60s-1280x720.png", "/100ms/hls/t60.png"),
            ("thumbnail-900s-1280x720.png", "/100ms/hls/t900.png"),
            ("chat.csv", "/100ms/hls/chat.csv"),
        ],
        ..HMS
    },
    EventSample {
        name: "100ms/hls.failure",
        text: sample!("100ms/hls.failure"),
        meeting: 6,
        class: EventClass::Failure,
        ..HMS
    },
    EventSample {
        name: "100ms/stream.recording.success",
        text: sample!("100ms/stream.recording.success"),
        meeting: 7,
        archived: &[(
            "stream-1b9d6bcd-bbfd-4b2d-9b5d-000000000204.mp4",
            "/100ms/stream/rec.mp4",
        )],
        ..HMS
    },
    EventSample {
        name: "100ms/stream.recording.failure",
        text: sample!("100ms/stream.recording.failure"),
        meeting: 8,
        class: EventClass::Failure,
        ..HMS
    },
    EventSample {
        name: "100ms/track.recording.success",
        text: sample!("100ms/track.recording.success"),
        meeting: 9,
        archived: &[(
            "track-1b9d6bcd-bbfd-4b2d-9b5d-000000000205.webm",
            "/100ms/track/rec.webm",
        )],
        ..HMS
    },
    EventSample {
        name: "100ms/track.recording.failure",
        text: sample!("100ms/track.recording.failure"),
        meeting: 10,
        class: EventClass::Failure,
        ..HMS
    },
    EventSample {
        name: "100ms/transcription.failure",
        text: sample!("100ms/transcription.failure"),
        meeting: 11,
        class: EventClass::ArtifactsAndFailure,
        archived: &[
            ("transcript.json", "/100ms/tx/transcript_json.json"),
            ("transcript.srt", "/100ms/tx/transcript_srt.srt"),
        ],
        ..HMS
    },
    EventSample {
        name: "100ms/transcription.started.success",
        text: sample!("100ms/transcription.started.success"),
        meeting: 12,
        class: EventClass::Ignored,
        ..HMS
    },
    EventSample {
        name: "100ms/recording.success-expired",
        text: sample!("100ms/recording.success"),
        meeting: 13,
        age: EXPIRED_AGE,
        lost: &[
            ("recording.mp4", Class::Expired),
            ("chat.csv", Class::Expired),
        ],
        ..HMS
    },
    EventSample {
        name: "100ms/hologram.recording.success",
        text: r#"{"version":"2.0","id":"1b9d6bcd-bbfd-4b2d-9b5d-000000000fff",
            "account_id":"69a560000000000000000001","timestamp":"2026-03-02T10:33:20Z",
            "type":"hologram.recording.success","data":{"room_id":"69a560000000000000000003"}}"#,
        meeting: 14,
        class: EventClass::Unknown,
        ..HMS
    },
    EventSample {
        name: "meetingbaas/v1-complete",
        text: sample!("meetingbaas/complete-with-audio"),
        meeting: 20,
        archived: &[
            ("recording.mp4", "/meetingbaas/bots/bot.mp4"),
            ("audio.wav", "/meetingbaas/bots/bot.wav"),
        ],
        made: &["transcript.json", "transcript.vtt"],
        ..MEETINGBAAS
    },
    EventSample {
        name: "meetingbaas/v1-failed",
        text: sample!("meetingbaas/failed"),
        meeting: 21,
        class: EventClass::Failure,
        ..MEETINGBAAS
    },
    EventSample {
        name: "meetingbaas/v1-transcription_complete",
        text: sample!("meetingbaas/transcription_complete"),
        meeting: 22,
        class: EventClass::Lookup,
        made: &["transcript.json", "transcript.vtt"],
        ..MEETINGBAAS
    },
    EventSample {
        name: "meetingbaas/bot.status_change-meeting_error",
        text: sample!("meetingbaas/bot.status_change-meeting_error"),
        meeting: 23,
        class: EventClass::Failure,
        ..MEETINGBAAS
    },
    EventSample {
        name: "meetingbaas/bot.status_change-in_call_recording",
        text: sample!("meetingbaas/bot.status_change-in_call_recording"),
        meeting: 24,
        class: EventClass::Ignored,
        ..MEETINGBAAS
    },
    EventSample {
        name: "meetingbaas/v2-bot.completed",
        text: sample!("meetingbaas/v2-bot.completed"),
        meeting: 25,
        archived: BOT_FILES,
        ..MEETINGBAAS
    },
    EventSample {
        // Its URLs are dead, and the provider's API is asked for fresh ones.
        name: "meetingbaas/v2-bot.completed-expired",
        text: sample!("meetingbaas/v2-bot.completed"),
        meeting: 28,
        age: EXPIRED_AGE,
        archived: BOT_FILES,
        ..MEETINGBAAS
    },
    EventSample {
        name: "meetingbaas/v2-bot.failed",
        text: sample!("meetingbaas/v2-bot.failed"),
        meeting: 26,
        class: EventClass::Failure,
        ..MEETINGBAAS
    },
    EventSample {
        name: "meetingbaas/v2-bot.status_change-recording_failed",
        text: sample!("meetingbaas/v2-bot.status_change-recording_failed"),
        meeting: 27,
        class: EventClass::Failure,
        ..MEETINGBAAS
    },
    EventSample {
        name: "daily/webhook-test",
        text: sample!("daily/webhook-test"),
        class: EventClass::Handshake,
        ..DAILY
    },
    EventSample {
        name: "daily/recording.ready-to-download",
        text: sample!("daily/recording.ready-to-download-cloud"),
        meeting: 30,
        archived: &[("recording.mp4", "/daily/rec/id.mp4")],
        ..DAILY
    },
    EventSample {
        name: "daily/recording.error",
        text: sample!("daily/recording.error"),
        meeting: 31,
        class: EventClass::Failure,
        ..DAILY
    },
    EventSample {
        name: "daily/transcript.ready-to-download",
        text: sample!("daily/transcript.ready-to-download"),
        meeting: 32,
        archived: &[("transcript.vtt", "/daily/tx/id.vtt")],
        ..DAILY
    },
    EventSample {
        name: "daily/transcript.error",
        text: sample!("daily/transcript.error"),
        meeting: 33,
        class: EventClass::Failure,
        ..DAILY
    },
    EventSample {
        name: "daily/batch-processor.job-finished",
        text: sample!("daily/batch-processor.job-finished"),
        meeting: 34,
        archived: &[
            ("transcript.json", "/daily/bp/id/transcript.json"),
            ("transcript.srt", "/daily/bp/id/transcript.srt"),
            ("transcript.txt", "/daily/bp/id/transcript.txt"),
            ("transcript.vtt", "/daily/bp/id/transcript.vtt"),
            ("summary.txt", "/daily/bp/id/summary.txt"),
        ],
        ..DAILY
    },
    EventSample {
        name: "daily/batch-processor.error",
        text: sample!("daily/batch-processor.error"),
        meeting: 35,
        class: EventClass::Failure,
        ..DAILY
    },
    EventSample {
        name: "dyte/recording.statusUpdate-UPLOADED",
        text: sample!("dyte/recording.statusUpdate-UPLOADED"),
        meeting: 40,
        archived: &[
            ("recording.mp4", "/dyte/weekly.mp4"),
            ("audio.mp3", "/dyte/weekly.mp3"),
        ],
        ..DYTE
    },
    EventSample {
        name: "dyte/meeting.chatSynced",
        text: sample!("dyte/meeting.chatSynced"),
        meeting: 40,
        archived: &[("chat.csv", "/dyte/chat.csv")],
        ..DYTE
    },
    EventSample {
        name: "dyte/meeting.transcript",
        text: sample!("dyte/meeting.transcript"),
        meeting: 40,
        archived: &[("transcript.csv", "/dyte/transcript.csv")],
        ..DYTE
    },
    EventSample {
        name: "dyte/meeting.summary",
        text: sample!("dyte/meeting.summary"),
        meeting: 40,
        archived: &[("summary.txt", "/dyte/summary.txt")],
        ..DYTE
    },
    EventSample {
        name: "dyte/recording.statusUpdate-UPLOADED-interactive",
        text: sample!("dyte/recording.statusUpdate-UPLOADED-interactive"),
        meeting: 41,
        archived: &[("recording.tar", "/dyte/weekly.tar")],
        ..DYTE
    },
    EventSample {
        name: "dyte/recording.statusUpdate-ERRORED",
        text: sample!("dyte/recording.statusUpdate-ERRORED"),
        meeting: 42,
        class: EventClass::Failure,
        ..DYTE
    },
    EventSample {
        name: "dyte/recording.statusUpdate-UPLOADING",
        text: sample!("dyte/recording.statusUpdate-UPLOADING"),
        meeting: 43,
        class: EventClass::Ignored,
        ..DYTE
    },
    EventSample {
        name: "realtimekit/recording.statusUpdate-UPLOADED",
        text: sample!("realtimekit/recording.statusUpdate-UPLOADED"),
        meeting: 50,
        archived: &[
            ("recording.mp4", "/realtimekit/weekly.mp4"),
            ("audio.mp3", "/realtimekit/weekly.mp3"),
        ],
        ..REALTIMEKIT
    },
    EventSample {
        name: "realtimekit/meeting.chatSynced",
        text: sample!("realtimekit/meeting.chatSynced"),
        meeting: 50,
        archived: &[("chat.json", "/realtimekit/chat.json")],
        ..REALTIMEKIT
    },
    EventSample {
        name: "realtimekit/meeting.transcript",
        text: sample!("realtimekit/meeting.transcript"),
        meeting: 50,
        archived: &[("transcript.csv", "/realtimekit/transcript.csv")],
        ..REALTIMEKIT
    },
    EventSample {
        name: "realtimekit/meeting.summary",
        text: sample!("realtimekit/meeting.summary"),
        meeting: 50,
        archived: &[("summary.txt", "/realtimekit/summary.txt")],
        ..REALTIMEKIT
    },
    EventSample {
        name: "realtimekit/recording.statusUpdate-UPLOADED-tracks",
        text: sample!("realtimekit/recording.statusUpdate-UPLOADED-tracks"),
        meeting: 51,
        archived: &[
            (
                "track-speaker_user-1_peer-1_peer_audio_1772445600000.webm",
                "/realtimekit/tracks/1.webm",
            ),
            (
                "track-speaker_user-2_peer-2_peer_audio_1772445600000.webm",
                "/realtimekit/tracks/2.webm",
            ),
        ],
        ..REALTIMEKIT
    },
    EventSample {
        name: "realtimekit/recording.statusUpdate-ERRORED",
        text: sample!("realtimekit/recording.statusUpdate-ERRORED"),
        meeting: 52,
        class: EventClass::Failure,
        ..REALTIMEKIT
    },
    EventSample {
        name: "realtimekit/recording.statusUpdate-UPLOADING",
        text: sample!("realtimekit/recording.statusUpdate-UPLOADING"),
        meeting: 53,
        class: EventClass::Ignored,
        ..REALTIMEKIT
    },
];
