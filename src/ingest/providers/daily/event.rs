//! Daily: no event holds a URL, so every good one becomes a question for an access link.
//!
//! An error can come before, with or after the good event of the same recording; a documented sample has
//! a key twice, which a map forgives.

use jiff::{SignedDuration, Timestamp};
use secrecy::SecretString;

use crate::error::{Class, Error, Result};
use crate::ingest::Delivery;
use crate::ingest::providers::api::{api_key, get, nothing_found, segment, unknown_call};
use crate::ingest::providers::artifact_list::{ArtifactList, File, Life, format_of};
use crate::ingest::providers::draft::{Draft, EventContent, body_key, lookup, loss};
use crate::ingest::providers::fields::{Fields, Location};
use crate::model::api::{ApiRequest, Credentials};
use crate::model::{Artifact, Format, Kind, Lookup, Provider, Recording};
use crate::signed_url::redact_urls;

pub(in crate::ingest::providers) const BASE: &str = "https://api.daily.co/v1";

/// An access link's life unless asked otherwise.
const DOCUMENTED_LIFE: SignedDuration = SignedDuration::from_hours(1);

/// Whether `event` looks like Daily's.
pub(in crate::ingest::providers) fn is_shape(event: Fields) -> bool {
    let has_frame = event.value("event_ts").is_some() || event.value("version").is_some();
    let is_known = |event_type: String| {
        !matches!(
            says(&event_type, event.object("payload")),
            EventContent::Unknown(None)
        )
    };
    // A body that has been cut down to type and payload is Daily's when the type is one of Daily's.
    is_endpoint_check(event)
        || (event.is_object("payload")
            && event
                .text("type")
                .is_some_and(|event_type| has_frame || is_known(event_type)))
}

/// `{"test":"test"}`, which has to be answered before the webhook exists.
fn is_endpoint_check(event: Fields) -> bool {
    event.text("test").as_deref() == Some("test") && event.value("type").is_none()
}

/// Reads an event.
pub(in crate::ingest::providers) fn read(event: Fields, delivery: &Delivery<'_>) -> Draft {
    let payload = event.object("payload");
    let event_id = event.text("id");
    let event_type = event.text("type");
    let dedupe_key = event_id
        .clone()
        .unwrap_or_else(|| body_key(&[event_type.as_deref()], delivery.body));
    let says = match event_type.as_deref() {
        None if is_endpoint_check(event) => EventContent::Handshake,
        None => EventContent::Unknown(None),
        Some(event_type) => says(event_type, payload),
    };
    Draft {
        event_id,
        dedupe_key,
        event_time: event
            .first_time(&["event_ts"])
            .or_else(|| payload.time("timestamp")),
        recording: recording(payload),
        event_type,
        says,
    }
}

fn recording(payload: Fields) -> Recording {
    let input = payload.object("input");
    let info = payload.object("info");
    let started_at = payload.time("start_ts").or_else(|| info.time("startTs"));
    let duration = payload
        .number("duration")
        .and_then(|seconds| SignedDuration::try_from_secs_f64(seconds).ok());
    let ended_at = || started_at?.checked_add(duration?).ok();
    Recording {
        recording_id: payload
            .text("recording_id")
            .or_else(|| input.text("recordingId")),
        bot_id: None,
        session_id: payload.first_text(&["mtg_session_id", "mtgSessionId"]),
        room_id: payload.text("room_id"),
        room_name: payload.text("room_name"),
        started_at,
        ended_at: info.time("endTs").or_else(ended_at),
    }
}

fn says(event_type: &str, payload: Fields) -> EventContent {
    match event_type {
        "recording.ready-to-download" => {
            let (call, file) = recording_call(payload);
            ask_recording(call, payload.text("recording_id"), file)
        }
        "transcript.ready-to-download" => {
            let file = File::new("transcript.vtt", Kind::Transcript, Format::Vtt);
            ask("daily-transcript", payload.text("id"), file)
        }
        "batch-processor.job-finished" => {
            ask("daily-batch", payload.text("id"), batch_file(payload))
        }
        "recording.error" => {
            // The code is spelt in three ways, and no id says which recording it was.
            let id = payload
                .first_text(&["recording_id", "instance_id"])
                .unwrap_or_default();
            error(payload, Some(Kind::Video), format!("recording:{id}"))
        }
        "transcript.error" => {
            let id = payload.text("id").unwrap_or_default();
            error(payload, Some(Kind::Transcript), format!("transcript:{id}"))
        }
        "batch-processor.error" => {
            let id = payload.text("id").unwrap_or_default();
            error(
                payload,
                Some(batch_file(payload).kind),
                format!("batch:{id}"),
            )
        }
        other if is_ignored(other) => EventContent::Nothing,
        _ => EventContent::Unknown(None),
    }
}

fn is_ignored(event_type: &str) -> bool {
    let groups = [
        "meeting.",
        "participant.",
        "waiting-participant.",
        "streaming.",
        "dialin.",
        "dialout.",
    ];
    let types = [
        "recording.started",
        "transcript.started",
        "batch-processor.job-started",
    ];
    types.contains(&event_type) || groups.iter().any(|group| event_type.starts_with(group))
}

pub(in crate::ingest::providers) fn ask(
    call: &str,
    id: Option<String>,
    file: File,
) -> EventContent {
    let Some(id) = id else {
        return EventContent::unreadable("the event names no id to ask for");
    };
    let mut shelf = ArtifactList::default();
    shelf.put_lookup(lookup(call, id), file);
    shelf.into_says(Vec::new())
}

/// One recording is one file, whichever of the two calls asks for it: lists don't tell the sort.
pub(in crate::ingest::providers) fn ask_recording(
    call: &str,
    id: Option<String>,
    file: File,
) -> EventContent {
    let Some(id) = id else {
        return EventContent::unreadable("the event names no recording to ask for");
    };
    let mut shelf = ArtifactList::default();
    let identity = format!("lookup:{}", recording_identity(&id));
    shelf.put_lookup_as(identity, lookup(call, id), file);
    shelf.into_says(Vec::new())
}

fn recording_identity(id: &str) -> String {
    format!("daily-recording:{id}")
}

/// The sort of recording is told by the event only, so the call's name keeps it for the answer.
fn recording_call(payload: Fields) -> (&'static str, File) {
    match payload.text("type").as_deref() {
        Some("cloud-audio-only") => ("daily-audio", audio_file(Format::Mp4)),
        _ => ("daily-recording", video_file(Format::Mp4)),
    }
}

pub(in crate::ingest::providers) fn video_file(format: Format) -> File {
    File::new(
        format!("recording.{}", format.extension()),
        Kind::Video,
        format,
    )
}

fn audio_file(format: Format) -> File {
    File::new(format!("audio.{}", format.extension()), Kind::Audio, format)
}

/// What stands for a batch job until its answer names the files.
fn batch_file(payload: Fields) -> File {
    match payload.text("preset").as_deref() {
        Some("summarize") => File::new("summary.txt", Kind::Summary, Format::Txt),
        _ => File::new("transcript.json", Kind::Transcript, Format::Json),
    }
}

fn error(payload: Fields, kind: Option<Kind>, loss_key: String) -> EventContent {
    let code = payload.first_text(&["action", "status"]);
    let message = payload.first_text(&["error_msg", "error"]);
    EventContent::loss(loss(code, message, kind, loss_key))
}

/// The request that answers `lookup`.
pub(in crate::ingest::providers) fn request(
    lookup: &Lookup,
    credentials: &Credentials,
) -> Result<ApiRequest> {
    let id = segment(Provider::Daily, &lookup.id)?;
    let path = match lookup.call.as_str() {
        "daily-recording" | "daily-audio" => format!("/recordings/{id}/access-link"),
        "daily-transcript" => format!("/transcript/{id}/access-link"),
        "daily-batch" => format!("/batch-processor/{id}/access-link"),
        _ => return Err(unknown_call(Provider::Daily, lookup)),
    };
    let bearer = format!("Bearer {}", api_key(Provider::Daily, credentials)?);
    let headers = vec![("authorization", SecretString::from(bearer))];
    get(Provider::Daily, credentials, Some(BASE), &path, headers)
}

/// What `answer` names.
pub(in crate::ingest::providers) fn answer(
    lookup: &Lookup,
    answer: Fields,
    now: Timestamp,
) -> Result<Vec<Artifact>> {
    let mut shelf = ArtifactList::of_answer();
    let life = Life {
        field: answer.time("expires"),
        documented: now.checked_add(DOCUMENTED_LIFE).ok(),
        is_signed: true,
    };
    match lookup.call.as_str() {
        "daily-recording" => {
            let url = single_link(answer)?;
            let file = video_file(format_of(&url).unwrap_or(Format::Mp4));
            put(lookup, url, file, life, &mut shelf);
        }
        "daily-audio" => {
            let url = single_link(answer)?;
            let file = audio_file(format_of(&url).unwrap_or(Format::Mp4));
            put(lookup, url, file, life, &mut shelf);
        }
        "daily-transcript" => {
            let file = File::new("transcript.vtt", Kind::Transcript, Format::Vtt);
            put(lookup, single_link(answer)?, file, life, &mut shelf);
        }
        "daily-batch" => batch(lookup, answer, life, &mut shelf),
        _ => return Err(unknown_call(Provider::Daily, lookup)),
    }
    Ok(shelf.into_artifacts())
}

/// The one link of an answer. With status 200 it can hold an error text instead.
fn single_link(answer: Fields) -> Result<Location> {
    let links = ["download_link", "link"];
    let found = links
        .map(|name| answer.location(name))
        .into_iter()
        .find(|link| matches!(link, Location::Url(_)));
    found.ok_or_else(|| {
        let Some(text) = answer.first_text(&links) else {
            return nothing_found(Provider::Daily);
        };
        let text: String = redact_urls(&text).chars().take(200).collect();
        Error::new(
            Class::ProviderFailed,
            format!("daily: the access-link answer holds no URL but: {text}"),
        )
    })
}

fn batch(lookup: &Lookup, answer: Fields, life: Life, shelf: &mut ArtifactList) {
    for item in answer.list("transcription") {
        batch_link(lookup, item, "transcript", Kind::Transcript, life, shelf);
    }
    batch_link(
        lookup,
        answer.object("summary"),
        "summary",
        Kind::Summary,
        life,
        shelf,
    );
    batch_link(
        lookup,
        answer.object("soap"),
        "soap",
        Kind::Summary,
        life,
        shelf,
    );
}

fn batch_link(
    lookup: &Lookup,
    item: Fields,
    stem: &str,
    kind: Kind,
    life: Life,
    shelf: &mut ArtifactList,
) {
    let url = item.first_location(&["link", "download_link"]);
    let format = item
        .text("format")
        .and_then(|format| Format::from_extension(&format))
        .or_else(|| format_of(&url))
        .unwrap_or(Format::Txt);
    let file = File::new(format!("{stem}.{}", format.extension()), kind, format);
    put(lookup, url, file, life, shelf);
}

/// Hosts and paths of links may change, the question doesn't: it is what makes the file the same.
fn put(lookup: &Lookup, url: Location, file: File, life: Life, shelf: &mut ArtifactList) {
    let identity = match lookup.call.as_str() {
        "daily-recording" | "daily-audio" => recording_identity(&lookup.id),
        call => format!("{call}:{}:{}", lookup.id, file.name),
    };
    shelf.put_as(identity, url, file.with_remint(Some(lookup.clone())), life);
}
