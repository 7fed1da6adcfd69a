//! MeetingBaaS, both of its APIs: v1 sends a file and the transcript as data, v2 sends URLs.
//!
//! Its pages contradict each other on names (`video` or `mp4`) and formats, so both names are read and the
//! format comes from the URL's path. One loss is told twice (`failed` and `bot.status_change`): the
//! loss key is the bot's alone.

use jiff::{SignedDuration, Timestamp};

use crate::ingest::Delivery;
use crate::ingest::providers::artifact_list::{ArtifactList, File, Life, extension_of};
use crate::ingest::providers::draft::{Draft, EventContent, body_key, header_id, lookup, loss};
use crate::ingest::providers::fields::{Fields, Location};
use crate::ingest::providers::transcript;
use crate::model::{Format, Kind, Lookup, Recording};
use crate::signed_url::redact_urls;

/// Published for v1 are 2 hours, 24 hours and 1 hour, and a real URL said 1 hour.
pub(in crate::ingest::providers) const V1_LIFE: SignedDuration = SignedDuration::from_hours(1);

/// Published for v2 are 4 hours, and "typically 24" in a migration guide.
pub(in crate::ingest::providers) const V2_LIFE: SignedDuration = SignedDuration::from_hours(4);

/// Status codes after which there is no file. Both versions' together: they don't overlap.
const LOST_CODES: [&str; 8] = [
    "bot_rejected",
    "bot_removed",
    "waiting_room_timeout",
    "invalid_meeting_url",
    "meeting_error",
    "recording_failed",
    "bot_removed_too_early",
    "failed",
];

/// A bot leaves one file of each sort, and its recording is its own: so the sort is the identity.
pub(in crate::ingest::providers) const OWNER: &str = "meetingbaas";

/// What the types of alerts begin with. They have none of their own.
pub(in crate::ingest::providers) const ALERT: &str = "alert.";

const V1_TYPES: [&str; 3] = ["complete", "failed", "transcription_complete"];

/// Whether `event` looks like MeetingBaaS's.
pub(in crate::ingest::providers) fn is_shape(event: Fields) -> bool {
    let event_type = event.text("event").unwrap_or_default();
    let is_type = V1_TYPES.contains(&event_type.as_str()) || event_type.starts_with("bot.");
    (is_type && body(event).text("bot_id").is_some()) || alert(event).is_some()
}

/// What an alert callback alerts to (`webhook_delivery_exhausted`, say).
fn alert(event: Fields) -> Option<String> {
    let data = event.object("data");
    event
        .text("alert_type")
        .or_else(|| data.text("alert_type"))
        .filter(|_| event.text("event").is_none())
}

/// Reads an event.
pub(in crate::ingest::providers) fn read(event: Fields, delivery: &Delivery<'_>) -> Draft {
    let data = body(event);
    let event_type = match alert(event) {
        Some(alert) => Some(format!("{ALERT}{alert}")),
        None => event.text("event"),
    };
    let bot = data.text("bot_id");
    let is_v1_only = event_type.as_deref().is_some_and(|t| V1_TYPES.contains(&t));
    // Only v2 goes through Svix, whose id is part of what is signed. v1 has no id of any sort: the
    // documented substitute is bot, event and body.
    let event_id = header_id(delivery).filter(|_| !is_v1_only);
    let dedupe_key = event_id
        .clone()
        .unwrap_or_else(|| body_key(&[bot.as_deref(), event_type.as_deref()], delivery.body));
    let event_time = data
        .time("sent_at")
        .or_else(|| data.object("status").time("created_at"));
    let at = event_time.unwrap_or(delivery.received_at);
    Draft {
        event_id,
        dedupe_key,
        event_time,
        recording: Recording {
            bot_id: bot,
            started_at: data.time("joined_at"),
            ended_at: data.time("exited_at"),
            ..Recording::default()
        },
        says: says(event_type.as_deref(), data, at),
        event_type,
    }
}

/// The event's own fields: under `data`, on one page of the documentation at the top.
fn body(event: Fields) -> Fields {
    if event.is_object("data") {
        return event.object("data");
    }
    event
}

fn says(event_type: Option<&str>, data: Fields, at: Timestamp) -> EventContent {
    match event_type.unwrap_or_default() {
        "complete" => complete(data, at),
        "bot.completed" => bot_completed(data, at),
        "transcription_complete" => transcription_complete(data),
        "failed" | "bot.failed" => failed(data),
        "bot.status_change" => status_change(data),
        "bot.chat_message" => EventContent::Nothing,
        // It names no file. What it is worth is that somebody looks: see `calls_for_a_walk`.
        other if other.starts_with(ALERT) => EventContent::Nothing,
        other if other.starts_with("calendar") => EventContent::Nothing,
        _ => EventContent::Unknown(None),
    }
}

fn complete(data: Fields, at: Timestamp) -> EventContent {
    let mut shelf = ArtifactList::default();
    let bot = data
        .text("bot_id")
        .map(|bot| lookup("meetingbaas-v1-bot", bot));
    let is_known = bot.is_some();
    v1_files(data, bot, at, &mut shelf);
    match is_known {
        true => transcript::put_only(OWNER, data.value("transcript"), &mut shelf),
        false => transcript::put(data.value("transcript"), &mut shelf),
    }
    completed(shelf, data)
}

fn bot_completed(data: Fields, at: Timestamp) -> EventContent {
    let mut shelf = ArtifactList::default();
    let bot = data
        .text("bot_id")
        .map(|bot| lookup("meetingbaas-v2-bot", bot));
    v2_files(data, bot, at, &mut shelf);
    completed(shelf, data)
}

/// Done, but a bot that left no file is a loss all the same.
fn completed(shelf: ArtifactList, data: Fields) -> EventContent {
    if !shelf.is_empty() {
        return shelf.into_says(Vec::new());
    }
    let message = match data.flag("data_deleted") {
        Some(true) => "the provider has deleted the files of this bot",
        _ => "the bot completed without any file",
    };
    EventContent::loss(loss(None, Some(message.to_owned()), None, "bot"))
}

fn transcription_complete(data: Fields) -> EventContent {
    let Some(bot) = data.text("bot_id") else {
        return EventContent::unreadable("transcription_complete names no bot to ask for");
    };
    let mut shelf = ArtifactList::default();
    let file = File::new("transcript.json", Kind::Transcript, Format::Json);
    shelf.put_lookup(lookup("meetingbaas-v1-transcript", bot), file);
    shelf.into_says(Vec::new())
}

fn failed(data: Fields) -> EventContent {
    EventContent::loss(loss(
        data.first_text(&["error_code", "error"]),
        data.first_text(&["error_message", "message", "error"]),
        None,
        "bot",
    ))
}

fn status_change(data: Fields) -> EventContent {
    let status = data.object("status");
    match status.text("code") {
        None => EventContent::unreadable("bot.status_change has no code"),
        Some(code) if LOST_CODES.contains(&code.as_str()) => EventContent::loss(loss(
            status.text("error_type").or(Some(code.clone())),
            status.text("error_message").or(Some(code)),
            None,
            "bot",
        )),
        Some(_) => EventContent::Nothing,
    }
}

/// The URLs of a v1 event or answer; an empty one means that there is no such file.
pub(in crate::ingest::providers) fn v1_files(
    data: Fields,
    bot: Option<Lookup>,
    at: Timestamp,
    shelf: &mut ArtifactList,
) {
    let life = life(at, V1_LIFE);
    let video = File::new("recording.mp4", Kind::Video, Format::Mp4).with_remint(bot.clone());
    put("video", data.location("mp4"), video, life, shelf);
    audio(data.location("audio"), Format::Wav, bot, life, shelf);
}

/// The URLs of a v2 event or answer.
pub(in crate::ingest::providers) fn v2_files(
    data: Fields,
    bot: Option<Lookup>,
    at: Timestamp,
    shelf: &mut ArtifactList,
) {
    let life = life(at, V2_LIFE);
    let file = |name: &str, kind, format| File::new(name, kind, format).with_remint(bot.clone());
    let video = data.first_location(&["video", "mp4"]);
    let video = match video {
        Location::Missing => data.location("mp4"),
        other => other,
    };
    let recording = file("recording.mp4", Kind::Video, Format::Mp4);
    match own_place(data, &["video", "mp4"]) {
        Some(place) => put_elsewhere("video", &place, recording, shelf),
        None => put("video", video, recording, life, shelf),
    }
    match own_place(data, &["audio"]) {
        Some(place) => {
            let sound = file("audio.flac", Kind::Audio, Format::Flac);
            put_elsewhere("audio", &place, sound, shelf);
        }
        None => audio(
            data.location("audio"),
            Format::Flac,
            bot.clone(),
            life,
            shelf,
        ),
    }
    for (name, file) in [
        (
            "diarization",
            file("diarization.jsonl", Kind::Other, Format::Jsonl),
        ),
        (
            "raw_transcription",
            file("transcript-raw.json", Kind::Transcript, Format::Json),
        ),
        (
            "transcription",
            file("transcript.json", Kind::Transcript, Format::Json),
        ),
        ("chat_messages", file("chat.json", Kind::Chat, Format::Json)),
    ] {
        match data.value(name) {
            // Nobody has seen it as data in v2, but v1 has it so, and the pages mix the two.
            Some(value) if name == "transcription" && value.is_array() => {
                transcript::put(Some(value), shelf);
            }
            _ => match own_place(data, &[name]) {
                Some(place) => put_elsewhere(name, &place, file, shelf),
                None => put(name, data.location(name), file, life, shelf),
            },
        }
    }
}

fn audio(url: Location, usual: Format, bot: Option<Lookup>, life: Life, shelf: &mut ArtifactList) {
    let (extension, format) = extension_of(&url, usual);
    let file = File::new(format!("audio.{extension}"), Kind::Audio, format);
    put("audio", url, file.with_remint(bot), life, shelf);
}

fn put(what: &str, url: Location, file: File, life: Life, shelf: &mut ArtifactList) {
    // A bot may write into the customer's own bucket: then the URL is a plain place, which has no end.
    let is_plain = matches!(&url, Location::Url(url) if !url.expose().contains('?'));
    let life = match is_plain {
        true => Life::default(),
        false => life,
    };
    match file.remint {
        Some(_) => shelf.put_as(format!("{OWNER}:{what}"), url, file, life),
        None => shelf.put(url, file, life),
    }
}

fn put_elsewhere(what: &str, place: &str, file: File, shelf: &mut ArtifactList) {
    let why = format!(
        "fetch {place}: the bot wrote it to your own storage, to which no URL leads; copy it from there"
    );
    shelf.put_out_of_reach(format!("{OWNER}:{what}"), why, file);
}

/// A file that the bot wrote to a place in the customer's own storage, to which no URL leads; `None` where it did not.
fn own_place(data: Fields, names: &[&str]) -> Option<String> {
    let place = data.first_text(names)?;
    let is_storage = ["s3://", "gs://", "az://", "abfs://"]
        .iter()
        .any(|scheme| place.starts_with(scheme));
    is_storage.then(|| redact_urls(&place))
}

fn life(at: Timestamp, documented: SignedDuration) -> Life {
    Life {
        field: None,
        documented: at.checked_add(documented).ok(),
        is_signed: true,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::error::Class;
    use crate::ingest::{calls_for_a_walk, parse, recognise};
    use crate::model::{Event, EventClass, Origin, Provider};

    fn event(body: &Value) -> Event {
        let body = body.to_string();
        let delivery = Delivery {
            body: body.as_bytes(),
            id_header: None,
            received_at: "2026-03-02T10:40:00Z".parse().unwrap(),
        };
        parse(Provider::MeetingBaas, &delivery).unwrap()
    }

    // D3
    #[test]
    fn a_bot_that_was_removed_too_early_or_failed_is_a_loss() {
        for code in ["bot_removed_too_early", "failed", "recording_failed"] {
            let status = json!({"event": "bot.status_change",
                                "data": {"bot_id": "b", "status": {"code": code, "created_at": "2026-03-02T10:30:00Z"}}});
            let told = event(&status);
            assert_eq!(told.class, EventClass::Failure, "{code}");
            assert_eq!(told.failures[0].code.as_deref(), Some(code));
        }
    }

    // D3
    #[test]
    fn an_alert_names_no_file_and_calls_for_a_walk() {
        let alert = json!({"alert_type": "webhook_delivery_exhausted", "message": "gave up"});
        let told = event(&alert);
        assert_eq!(told.class, EventClass::Ignored);
        assert!(calls_for_a_walk(&told));
        assert_eq!(
            recognise(alert.to_string().as_bytes()),
            Some(Provider::MeetingBaas)
        );
        let other = json!({"event": "bot.chat_message", "data": {"bot_id": "b"}});
        assert!(!calls_for_a_walk(&event(&other)));
    }

    // D3
    #[test]
    fn places_in_the_customers_own_bucket_have_no_end_and_need_a_way_in() {
        let completed = json!({"event": "bot.completed", "data": {
            "bot_id": "b", "video": "https://acme.s3.amazonaws.com/b/output.mp4", "audio": "s3://acme/b/audio.flac",
            "transcription": "https://h/t.json?X-Amz-Unknown=1"}});
        let told = event(&completed);
        let of = |name: &str| told.artifacts.iter().find(|a| a.name == name).unwrap();
        assert_eq!(of("recording.mp4").deadline.at, None);
        assert!(of("transcript.json").deadline.at.is_some());
        let Origin::Unusable(class, why) = &of("audio.flac").origin else {
            panic!("{:?}", of("audio.flac"));
        };
        assert_eq!(*class, Class::Denied);
        assert!(why.contains("s3://acme/b/audio.flac"), "{why}");
    }
}
