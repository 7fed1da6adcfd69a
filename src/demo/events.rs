//! Made-up events of every provider, true to their documented shapes: the samples of `fixtures/events`
//! with fresh dates, fresh ids, URLs of the demo's origin and the real sizes. Each comes with
//! what must become of it, so that the demo can judge itself.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Number, Value};

use super::media::MediaContent;
use super::origin::DemoOrigin;
use crate::error::{Class, Error, Result};
use crate::model::{EventClass, Provider};

/// When every sample was sent (see its README).
const SAMPLE_SENT_AT: i64 = 1_772_447_600;

/// Numbers in this window are the samples' Unix times.
const SAMPLE_SECONDS: std::ops::Range<i64> = 1_772_000_000..1_773_000_000;

/// How long ago an expired event was sent: longer than any URL in it lives.
const EXPIRED_AGE: SignedDuration = SignedDuration::from_hours(48);

/// An event, ready to be posted.
#[derive(Clone, Debug)]
pub struct DemoEvent {
    /// By which people ask for it, such as `100ms/recording.success`.
    pub name: &'static str,
    /// Who sends it; also the name of the source.
    pub provider: Provider,
    /// The provider's id of it, in the body or in a header, where the provider has one.
    pub event_id: Option<String>,
    /// The provider's name of its type, where the body tells it.
    pub event_type: Option<String>,
    /// Headers beside `Content-Type`.
    pub headers: Vec<(&'static str, String)>,
    /// JSON, on one line.
    pub body: String,
    /// What must become of it.
    pub expected: ExpectedEnd,
}

/// What must become of an event.
#[derive(Clone, Debug)]
pub struct ExpectedEnd {
    /// What the event is understood as.
    pub class: EventClass,
    /// Artifacts by their name in the archive.
    pub artifacts: Vec<(String, Fate)>,
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

/// A sample and what must become of it.
struct EventSample {
    name: &'static str,
    provider: Provider,
    text: &'static str,
    /// Events of one meeting share its ids.
    meeting: u32,
    /// How long ago it was sent.
    age: SignedDuration,
    class: EventClass,
    /// Name in the archive, and where the origin has it.
    archived: &'static [(&'static str, &'static str)],
    /// Name in the archive of what is made of the event itself.
    made: &'static [&'static str],
    lost: &'static [(&'static str, Class)],
}

/// Every event of the demo, dated `now`, in the order in which they are sent.
///
/// # Errors
/// `internal` when a sample can't be read: they are part of the program.
pub fn all(origin: &DemoOrigin, now: Timestamp) -> Result<Vec<DemoEvent>> {
    SAMPLES
        .iter()
        .map(|sample| make(sample, origin, now))
        .collect()
}

/// The event of that name, dated `now`.
///
/// # Errors
/// `invalid` when there is none of that name.
pub fn by_name(name: &str, origin: &DemoOrigin, now: Timestamp) -> Result<DemoEvent> {
    let sample = SAMPLES
        .iter()
        .find(|sample| sample.name == name)
        .ok_or_else(|| Error::invalid(format!("there is no event `{name}`")))?;
    make(sample, origin, now)
}

/// The names of all events.
pub fn names() -> impl Iterator<Item = &'static str> {
    SAMPLES.iter().map(|sample| sample.name)
}

fn make(sample: &EventSample, origin: &DemoOrigin, now: Timestamp) -> Result<DemoEvent> {
    let sent_at = now.saturating_sub(sample.age).unwrap_or(now);
    let run = u32::try_from(now.as_second()).unwrap_or(u32::MAX);
    let fresh_ids = |text: &str| fresh_ids(text, run, sample.meeting);
    let mut value: Value = serde_json::from_str(&fresh_ids(sample.text)).map_err(|error| {
        Error::internal(format!("read the sample {}", sample.name)).with_source(error)
    })?;
    Freshener { origin, sent_at }.freshen(&mut value);

    let header = match sample.provider {
        // Version 1 has no ids of events.
        Provider::MeetingBaas if sample.name.contains("/v1-") => None,
        Provider::MeetingBaas => Some("svix-id"),
        Provider::Dyte => Some("dyte-uuid"),
        Provider::RealtimeKit => Some("rtk-uuid"),
        _ => None,
    };
    let headers: Vec<_> = header
        .map(|header| {
            let id = format!("demo-{run:08x}-{}", sample.name.replace('/', "-"));
            (header, id)
        })
        .into_iter()
        .collect();
    let event_id = match headers.first() {
        Some((_, id)) => Some(id.clone()),
        None => value["id"].as_str().map(str::to_owned),
    };
    let event_type = [&value["type"], &value["event"]]
        .into_iter()
        .find_map(|name| name.as_str())
        .map(str::to_owned);

    let archived = sample.archived.iter().map(|(name, path)| {
        let content = origin.library().content(path).ok_or_else(|| {
            Error::internal(format!("the origin of the demo has nothing at {path}"))
        })?;
        Ok((fresh_ids(name), Fate::Archived(content)))
    });
    let made = sample
        .made
        .iter()
        .map(|name| Ok((fresh_ids(name), Fate::Made)));
    let lost = sample
        .lost
        .iter()
        .map(|(name, class)| Ok((fresh_ids(name), Fate::Lost(*class))));
    Ok(DemoEvent {
        name: sample.name,
        provider: sample.provider,
        event_id,
        event_type,
        headers,
        body: value.to_string(),
        expected: ExpectedEnd {
            class: sample.class,
            artifacts: archived.chain(made).chain(lost).collect::<Result<_>>()?,
        },
    })
}

/// Replaces the samples' made-up ids by those of this run and meeting; their forms stay (uuid, and
/// the 24 hex digits of 100ms, which begin with a time).
fn fresh_ids(text: &str, run: u32, meeting: u32) -> String {
    text.replace(
        "1b9d6bcd-bbfd-4b2d-9b5d-",
        &format!("{run:08x}-bbfd-4b2d-9{meeting:03x}-"),
    )
    .replace(
        "8f7a1b52-9c1e-4b43-8a55-",
        &format!("{run:08x}-9c1e-4b43-8{meeting:03x}-"),
    )
    .replace("69a56000000000000000", &format!("{run:08x}{meeting:012x}"))
    // Daily's losses are tied to recordings by the room alone.
    .replace("\"standup\"", &format!("\"standup-{meeting}\""))
}

/// Moves an event to the present: its dates, its URLs, its sizes.
struct Freshener<'a> {
    origin: &'a DemoOrigin,
    sent_at: Timestamp,
}

impl Freshener<'_> {
    fn freshen(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.fresh_text(text),
            Value::Number(number) => {
                if let Some(moved) = self.fresh_number(number) {
                    *number = moved;
                }
            }
            Value::Array(values) => values.iter_mut().for_each(|value| self.freshen(value)),
            Value::Object(fields) => {
                self.set_sizes(fields);
                fields.values_mut().for_each(|value| self.freshen(value));
            }
            Value::Null | Value::Bool(_) => {}
        }
    }

    fn fresh_text(&self, text: &str) -> String {
        if let Some(url) = text.strip_prefix("{{ORIGIN}}") {
            return self.fresh_url(url);
        }
        if let Some(seconds) = text.parse().ok().filter(|s| SAMPLE_SECONDS.contains(s)) {
            return (seconds + self.shift_seconds()).to_string();
        }
        self.fresh_time(text).unwrap_or_else(|| text.to_owned())
    }

    fn fresh_url(&self, url: &str) -> String {
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        let lifetime = query
            .split('&')
            .find_map(|part| part.strip_prefix("X-Amz-Expires="))
            .and_then(|seconds| seconds.parse().ok())
            .map_or(Duration::from_secs(3600), Duration::from_secs);
        self.origin.sign(path, self.sent_at, lifetime)
    }

    /// The time in the same form: as many digits of a second, a space where there was one.
    fn fresh_time(&self, text: &str) -> Option<String> {
        let time: Timestamp = text.parse().ok()?;
        let moved = time
            .checked_add(SignedDuration::from_secs(self.shift_seconds()))
            .ok()?;
        let digits = text
            .split_once('.')
            .map_or(0, |(_, fraction)| fraction.trim_end_matches('Z').len());
        let written = format!("{moved:.digits$}");
        Some(if text.contains(' ') {
            written.replace('T', " ")
        } else {
            written
        })
    }

    fn fresh_number(&self, number: &Number) -> Option<Number> {
        if let Some(seconds) = number.as_i64() {
            return SAMPLE_SECONDS
                .contains(&seconds)
                .then(|| (seconds + self.shift_seconds()).into());
        }
        let seconds = number.as_f64()?;
        if !SAMPLE_SECONDS.contains(&(seconds as i64)) {
            return None;
        }
        Number::from_f64(seconds + self.shift_seconds() as f64)
    }

    fn shift_seconds(&self) -> i64 {
        self.sent_at.as_second() - SAMPLE_SENT_AT
    }

    /// Where an event tells the size of a file that it names, it tells the true one.
    fn set_sizes(&self, fields: &mut serde_json::Map<String, Value>) {
        for (url, size) in [
            ("recording_presigned_url", "size"),
            ("hls_vod_recording_presigned_url", "hls_vod_recording_size"),
            ("downloadUrl", "fileSize"),
        ] {
            let content = fields
                .get(url)
                .and_then(Value::as_str)
                .and_then(|url| url.strip_prefix("{{ORIGIN}}"))
                .and_then(|url| url.split('?').next())
                .and_then(|path| self.origin.library().content(path));
            let (Some(content), Some(size)) = (content, fields.get_mut(size)) else {
                continue;
            };
            *size = match size {
                Value::String(_) => Value::from(content.size_bytes().to_string()),
                _ => Value::from(content.size_bytes()),
            };
        }
    }
}

macro_rules! sample {
    ($file:literal) => {
        include_str!(concat!("../../fixtures/events/", $file, ".json"))
    };
}

const NOTHING: EventSample = EventSample {
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

const HMS: EventSample = EventSample {
    provider: Provider::Hms,
    class: EventClass::Artifacts,
    ..NOTHING
};
const MEETINGBAAS: EventSample = EventSample {
    provider: Provider::MeetingBaas,
    ..HMS
};
const DAILY: EventSample = EventSample {
    provider: Provider::Daily,
    class: EventClass::Lookup,
    ..NOTHING
};
const DYTE: EventSample = EventSample {
    provider: Provider::Dyte,
    ..HMS
};
const REALTIMEKIT: EventSample = EventSample {
    provider: Provider::RealtimeKit,
    ..HMS
};

/// What a MeetingBaaS bot of version 2 leaves.
const BOT_FILES: &[(&str, &str)] = &[
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
const SAMPLES: &[EventSample] = &[
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::media::Library;
    use crate::demo::origin::{OriginSettings, SendPace};

    async fn events(now: &str) -> Vec<DemoEvent> {
        let now = now.parse().unwrap();
        let origin = DemoOrigin::start(OriginSettings {
            listen: std::net::SocketAddr::from(([127, 0, 0, 1], 0)),
            library: Library {
                padding_bytes: 1000,
            },
            pace: SendPace::Unlimited,
            clock: crate::clock::ManualClock::at(now),
            api_key: "key".to_owned(),
        })
        .await
        .unwrap();
        all(&origin, now).unwrap()
    }

    fn body(events: &[DemoEvent], name: &str) -> Value {
        let event = events.iter().find(|event| event.name == name).unwrap();
        serde_json::from_str(&event.body).unwrap()
    }

    #[tokio::test]
    async fn events_are_moved_to_the_present_in_the_form_that_they_have() {
        let events = events("2027-05-06T07:08:09.5Z").await;
        let hms = body(&events, "100ms/recording.success");
        assert_eq!(hms["timestamp"], "2027-05-06T07:08:09Z");
        assert_eq!(
            hms["data"]["session_started_at"],
            "2027-05-06T06:34:49.123456789Z"
        );
        let dyte = body(&events, "dyte/recording.statusUpdate-UPLOADED");
        assert_eq!(
            dyte["recording"]["startedTime"],
            "2027-05-06 06:34:49.250000Z"
        );
        let daily = body(&events, "daily/recording.error");
        assert_eq!(daily["payload"]["timestamp"], "1809587289");
        assert_eq!(daily["event_ts"], 1_809_587_289.203);
        let expired = body(&events, "100ms/recording.success-expired");
        assert_eq!(expired["timestamp"], "2027-05-04T07:08:09Z");
    }

    #[tokio::test]
    async fn sizes_are_true_and_keep_their_type() {
        let events = events("2027-05-06T07:08:09Z").await;
        let recording = include_bytes!("../../fixtures/media/recording.mp4").len();
        let hms = body(&events, "100ms/recording.success");
        assert_eq!(hms["data"]["size"], recording + 1000);
        let layers = body(&events, "100ms/hls.recording.success");
        assert_eq!(
            layers["data"]["recording_single_files"][3]["size"],
            include_bytes!("../../fixtures/media/layer-3.mp4").len()
        );
        let dyte = body(&events, "dyte/recording.statusUpdate-UPLOADED");
        assert_eq!(dyte["recording"]["fileSize"], recording);
        let rtk = body(&events, "realtimekit/recording.statusUpdate-UPLOADED");
        assert_eq!(rtk["recording"]["fileSize"], recording.to_string());
    }

    #[tokio::test]
    async fn ids_differ_between_meetings_and_runs_and_a_repetition_keeps_its_own() {
        let first = events("2027-05-06T07:08:09Z").await;
        let second = events("2027-05-06T07:08:10Z").await;
        let ids = |events: &[DemoEvent]| -> Vec<_> {
            events
                .iter()
                .filter(|event| !event.name.ends_with("again"))
                .filter_map(|event| event.event_id.clone())
                .collect()
        };
        let mut all = [ids(&first), ids(&second)].concat();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);

        let id = |name: &str| body(&first, name)["id"].clone();
        assert_eq!(
            id("100ms/beam.recording.success"),
            id("100ms/beam.recording.success-again")
        );
        let recording = |name: &str| body(&first, name)["data"]["recording_id"].clone();
        assert_eq!(
            recording("100ms/beam.recording.success"),
            recording("100ms/transcription.success")
        );
    }

    #[tokio::test]
    async fn every_event_is_understood_as_expected() {
        for event in events("2027-05-06T07:08:09Z").await {
            let understood = crate::ingest::parse(
                event.provider,
                &crate::ingest::Delivery {
                    body: event.body.as_bytes(),
                    id_header: event.headers.first().map(|(_, id)| id.as_str()),
                    received_at: "2027-05-06T07:08:10Z".parse().unwrap(),
                },
            )
            .unwrap();
            assert_eq!(understood.class, event.expected.class, "{}", event.name);
            assert_eq!(understood.event_id, event.event_id, "{}", event.name);
            if event.expected.class != EventClass::Handshake {
                assert_eq!(understood.event_type, event.event_type, "{}", event.name);
            }
            // What a lookup finds is not in the event, and a repetition brings nothing of its own.
            if understood.class == EventClass::Lookup || event.name.ends_with("again") {
                continue;
            }
            let names = |names: Vec<&String>| {
                let mut names: Vec<_> = names.into_iter().cloned().collect();
                names.sort_unstable();
                names
            };
            assert_eq!(
                names(understood.artifacts.iter().map(|a| &a.name).collect()),
                names(
                    event
                        .expected
                        .artifacts
                        .iter()
                        .map(|(name, _)| name)
                        .collect()
                ),
                "{}",
                event.name
            );
        }
    }
}
