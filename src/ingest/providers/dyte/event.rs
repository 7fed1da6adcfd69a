//! Dyte, and Cloudflare RealtimeKit which it became: one adapter with two profiles.
//!
//! Files come from R2 or S3. R2 may answer 404 for a moment after an upload: such an answer is tried again (`gone` is
//! transient). A recording of RealtimeKit has about 300 MB an hour.
//!
//! The event's id is in a header only, which no signature covers. Status words are believed of the
//! recording, never of the meeting (it stays LIVE for ever).

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::ingest::Delivery;
use crate::ingest::providers::artifact_list::{
    ArtifactList, File, Life, extension_of, format_of, path_format,
};
use crate::ingest::providers::draft::{Draft, EventContent, body_key, header_id, lookup, loss};
use crate::ingest::providers::fields::{Fields, Location};
use crate::model::key::safe;
use crate::model::{Format, Kind, Lookup, Provider, Recording};

/// What differs between the two.
#[derive(Clone, Copy)]
pub(in crate::ingest::providers) struct Profile {
    pub(in crate::ingest::providers) provider: Provider,
    /// Where its API is; RealtimeKit's address holds account and app, so the source must set it.
    pub(in crate::ingest::providers) base: Option<&'static str>,
    /// How a chat is written when its URL does not say.
    pub(in crate::ingest::providers) chat: Format,
}

pub(in crate::ingest::providers) const DYTE: Profile = Profile {
    provider: Provider::Dyte,
    base: Some("https://api.dyte.io/v2"),
    chat: Format::Csv,
};

pub(in crate::ingest::providers) const REALTIMEKIT: Profile = Profile {
    provider: Provider::RealtimeKit,
    base: None,
    chat: Format::Json,
};

/// Files live for seven days; transcripts and summaries of Dyte are counted from the meeting's start.
pub(in crate::ingest::providers) const DOCUMENTED_LIFE: SignedDuration =
    SignedDuration::from_hours(7 * 24);

/// Whether `event` looks like Dyte's (and RealtimeKit's).
pub(in crate::ingest::providers) fn is_shape(event: Fields) -> bool {
    let event_type = event.text("event").unwrap_or_default();
    let is_group = ["meeting.", "recording.", "livestreaming."]
        .iter()
        .any(|group| event_type.starts_with(group));
    let has_body = event.is_object("meeting")
        || event.is_object("recording")
        || event.text("meetingId").is_some()
        || event.text("streamId").is_some();
    is_group && has_body
}

/// Reads an event.
pub(in crate::ingest::providers) fn read(
    profile: Profile,
    event: Fields,
    delivery: &Delivery<'_>,
) -> Draft {
    let event_type = event.text("event");
    let recording = recording(event);
    let status = event.object("recording").text("status");
    // The header's id changes on retries of RealtimeKit and is not signed by either, so it names the
    // event but does not tell a retry from news. What does: whose event of which status, with the very
    // same body. A fresh URL for the same recording is another body, and so not lost.
    let dedupe_key = body_key(
        &[
            event_type.as_deref(),
            status.as_deref(),
            recording.identity(),
        ],
        delivery.body,
    );
    let started = recording.started_at.unwrap_or(delivery.received_at);
    let documented = started
        .min(delivery.received_at)
        .checked_add(DOCUMENTED_LIFE)
        .ok();
    Draft {
        event_id: header_id(delivery),
        dedupe_key,
        event_time: None,
        says: says(profile, event_type.as_deref(), event, documented),
        recording,
        event_type,
    }
}

fn recording(event: Fields) -> Recording {
    let recording = event.object("recording");
    let meeting = event.object("meeting");
    Recording {
        recording_id: recording.first_text(&["recordingId", "id"]),
        bot_id: None,
        session_id: meeting
            .text("sessionId")
            .or_else(|| event.text("sessionId"))
            .or_else(|| recording.text("roomUUID")),
        room_id: meeting
            .text("id")
            .or_else(|| event.text("meetingId"))
            .or_else(|| recording.text("meetingId")),
        room_name: meeting.text("title").or_else(|| event.text("title")),
        started_at: meeting
            .time("startedAt")
            .or_else(|| event.time("startedAt"))
            .or_else(|| recording.time("startedTime")),
        ended_at: meeting
            .time("endedAt")
            .or_else(|| event.time("endedAt"))
            .or_else(|| recording.time("stoppedTime")),
    }
}

fn says(
    profile: Profile,
    event_type: Option<&str>,
    event: Fields,
    documented: Option<Timestamp>,
) -> EventContent {
    let recording = event.object("recording");
    match event_type.unwrap_or_default() {
        "recording.statusUpdate" => match recording.text("status").as_deref() {
            Some("UPLOADED") => uploaded(recording, documented),
            Some("ERRORED") => errored(recording),
            Some("INVOKED" | "RECORDING" | "PAUSED" | "UPLOADING") => EventContent::Nothing,
            _ => EventContent::unreadable("recording.statusUpdate has no status that we know"),
        },
        "meeting.chatSynced" => {
            let chat = |format: Option<Format>| {
                let format = format.unwrap_or(profile.chat);
                File::new(format!("chat.{}", format.extension()), Kind::Chat, format)
            };
            session_file(event, "chat", chat, documented)
        }
        "meeting.transcript" => {
            let transcript = |format: Option<Format>| {
                let format = format.unwrap_or(Format::Csv);
                File::new(
                    format!("transcript.{}", format.extension()),
                    Kind::Transcript,
                    format,
                )
            };
            session_file(event, "transcript", transcript, documented)
        }
        "meeting.summary" => session_file(event, "summary", summary_file, documented),
        "meeting.started"
        | "meeting.ended"
        | "meeting.participantJoined"
        | "meeting.participantLeft"
        | "livestreaming.statusUpdate" => EventContent::Nothing,
        _ => EventContent::Unknown(None),
    }
}

/// A summary is text or Markdown, which is text too.
pub(in crate::ingest::providers) fn summary_file(format: Option<Format>) -> File {
    let format = format.unwrap_or(Format::Txt);
    File::new(
        format!("summary.{}", format.extension()),
        Kind::Summary,
        format,
    )
}

fn uploaded(recording: Fields, documented: Option<Timestamp>) -> EventContent {
    let life = Life {
        field: recording.time("downloadUrlExpiry"),
        documented,
        is_signed: true,
    };
    let remint = recording
        .first_text(&["recordingId", "id"])
        .map(|id| lookup("dyte-recording", id));
    let names = RecordingNames {
        video: "downloadUrl",
        audio: "audioDownloadUrl",
        file_name: "outputFileName",
        size: "fileSize",
    };
    let mut shelf = ArtifactList::default();
    recording_files(recording, &names, remint.clone(), life, &mut shelf);
    if shelf.is_empty() {
        // The provider's bucket is switched off, or a null came at the wrong moment. Then the file is in the customer's
        // own storage or, where none is set, nowhere: only the API can tell.
        let Some(ask) = remint else {
            return EventContent::unreadable(
                "the event names neither a file nor a recording to ask for one",
            );
        };
        shelf.put_lookup(ask, File::new("recording.mp4", Kind::Video, Format::Mp4));
    }
    shelf.into_says(Vec::new())
}

fn errored(recording: Fields) -> EventContent {
    let id = recording
        .first_text(&["recordingId", "id"])
        .unwrap_or_default();
    let message = recording
        .first_text(&["error", "errorMessage", "reason"])
        .unwrap_or_else(|| {
            "the provider reports the recording as ERRORED and gives no reason".to_owned()
        });
    let code = Some("ERRORED".to_owned());
    EventContent::loss(loss(
        code,
        Some(message),
        Some(Kind::Video),
        format!("recording:{id}"),
    ))
}

/// How the fields of a recording are called: the webhook writes camelCase, the API snake_case.
pub(in crate::ingest::providers) struct RecordingNames {
    pub(in crate::ingest::providers) video: &'static str,
    pub(in crate::ingest::providers) audio: &'static str,
    pub(in crate::ingest::providers) file_name: &'static str,
    pub(in crate::ingest::providers) size: &'static str,
}

/// The files of a recording: one video (or a tar of an interactive one) with an extra sound file, or a
/// list of tracks.
pub(in crate::ingest::providers) fn recording_files(
    recording: Fields,
    names: &RecordingNames,
    remint: Option<Lookup>,
    life: Life,
    shelf: &mut ArtifactList,
) {
    match recording.value(names.video) {
        Some(Value::Array(layers)) => tracks(layers, &remint, life, shelf),
        _ => {
            let url = recording.location(names.video);
            let named = recording
                .text(names.file_name)
                .and_then(|name| path_format(&name));
            let file = match format_of(&url).or(named) {
                Some(Format::Tar) => File::new("recording.tar", Kind::Hls, Format::Tar),
                Some(Format::Webm) => File::new("recording.webm", Kind::Video, Format::Webm),
                _ => File::new("recording.mp4", Kind::Video, Format::Mp4),
            };
            let size = recording.size_bytes(names.size);
            let file = file.sized(size).with_remint(remint.clone());
            shelf.put_of("video", url, file, life);
        }
    }
    let url = recording.location(names.audio);
    let (extension, format) = extension_of(&url, Format::Mp3);
    let file = File::new(format!("audio.{extension}"), Kind::Audio, format);
    shelf.put_of("audio", url, file.with_remint(remint), life);
}

/// `[{layer_name, download_urls: {"<file>.webm": {download_url}}}]`: a sound file for each participant.
fn tracks(layers: &[Value], remint: &Option<Lookup>, life: Life, shelf: &mut ArtifactList) {
    for layer in layers.iter().map(Fields::of) {
        let urls = layer.value("download_urls").and_then(Value::as_object);
        for (file_name, entry) in urls.into_iter().flatten() {
            let stem = file_name
                .rsplit_once('.')
                .map_or(file_name.as_str(), |(stem, _)| stem);
            let format = path_format(file_name).unwrap_or(Format::Webm);
            let url = match entry {
                // `{"<file>": "<url>"}`, for good measure.
                Value::String(_) => layer.object("download_urls").location(file_name),
                _ => Fields::of(entry).location("download_url"),
            };
            let name = format!("track-{}.{}", safe(stem), format.extension());
            let track = format!("track:{file_name}");
            let file = File::new(name, Kind::Audio, format).with_remint(remint.clone());
            shelf.put_of(&track, url, file, life);
        }
    }
}

/// A chat, transcript or summary: a URL and its expiry at the top of the event.
fn session_file(
    event: Fields,
    what: &str,
    file: impl Fn(Option<Format>) -> File,
    documented: Option<Timestamp>,
) -> EventContent {
    let url = event.location(&format!("{what}DownloadUrl"));
    let life = Life {
        field: event.time(&format!("{what}DownloadUrlExpiry")),
        documented,
        is_signed: true,
    };
    let session = event
        .object("meeting")
        .text("sessionId")
        .or_else(|| event.text("sessionId"));
    let ask = session.map(|id| lookup(&format!("dyte-{what}"), id));
    let file = file(format_of(&url)).with_remint(ask.clone());
    let mut shelf = ArtifactList::default();
    match (url, ask) {
        (Location::Missing, None) => {
            return EventContent::unreadable(
                "the event names neither a file nor a session to ask for one",
            );
        }
        (Location::Missing, Some(ask)) => shelf.put_lookup(ask, file),
        (url, _) => shelf.put_of("file", url, file, life),
    }
    shelf.into_says(Vec::new())
}
