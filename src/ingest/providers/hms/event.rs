//! 100ms: recordings of rooms, streams, tracks and HLS, and their transcripts.
//!
//! Deprecated fields double newer ones; `track.recording.failure` has been seen labelled as a success;
//! a `transcription.failure` can still carry files. So files and losses are read independently of
//! the type's last word.

use jiff::{SignedDuration, Timestamp};

use crate::ingest::Delivery;
use crate::ingest::providers::artifact_list::{ArtifactList, File, Life, path_format};
use crate::ingest::providers::draft::{Draft, EventContent, body_key, loss};
use crate::ingest::providers::fields::{Fields, Location};
use crate::ingest::providers::hms::files::{
    TRANSCRIPTION_FILES, composite, hls, remint, single, stream_file, track_file, transcription,
};
use crate::model::{Format, Kind, ProviderFailure, Recording};

/// Published are 24 hours (recording.success), 12 hours (the older documentation of the same URLs) and a
/// setting: the shortest counts, and only when the URL itself is silent.
const DOCUMENTED_LIFE: SignedDuration = SignedDuration::from_hours(12);

/// Whether `event` looks like 100ms's.
pub(in crate::ingest::providers) fn is_shape(event: Fields) -> bool {
    let has_account = ["account_id", "app_id", "version"]
        .iter()
        .any(|name| event.value(name).is_some());
    event.text("type").is_some() && event.is_object("data") && has_account
}

/// Reads an event.
pub(in crate::ingest::providers) fn read(event: Fields, delivery: &Delivery<'_>) -> Draft {
    let data = event.object("data");
    let event_id = event.text("id");
    let event_type = event.text("type");
    let event_time = event.time("timestamp");
    let documented = event_time
        .unwrap_or(delivery.received_at)
        .checked_add(DOCUMENTED_LIFE)
        .ok();
    let dedupe_key = event_id
        .clone()
        .unwrap_or_else(|| body_key(&[event_type.as_deref()], delivery.body));
    Draft {
        event_id,
        dedupe_key,
        event_time,
        recording: recording(data),
        says: says(event_type.as_deref(), data, documented),
        event_type,
    }
}

fn recording(data: Fields) -> Recording {
    Recording {
        recording_id: data.text("recording_id"),
        bot_id: None,
        session_id: data.text("session_id"),
        room_id: data.text("room_id"),
        room_name: data.text("room_name"),
        started_at: data.first_time(&["session_started_at", "started_at"]),
        ended_at: data.first_time(&["stopped_at", "session_stopped_at"]),
    }
}

fn says(event_type: Option<&str>, data: Fields, documented: Option<Timestamp>) -> EventContent {
    let signed = Life {
        documented,
        is_signed: true,
        ..Life::default()
    };
    let mut shelf = ArtifactList::default();
    match event_type.unwrap_or_default() {
        "recording.success" | "beam.recording.success" => {
            composite(data, signed, &mut shelf);
            success(data, shelf, Kind::Video, "recording.mp4")
        }
        "hls.recording.success" => {
            hls(data, signed, &mut shelf);
            success(data, shelf, Kind::Hls, &Format::M3u8.hls_name())
        }
        "stream.recording.success" => {
            let name = single(data, signed, &mut shelf, &stream_file(data));
            success(data, shelf, Kind::Video, &name)
        }
        "track.recording.success" => {
            let name = single(data, signed, &mut shelf, &track_file(data));
            success(data, shelf, track_file(data).kind, &name)
        }
        "transcription.success" => {
            transcription(data, signed, &mut shelf);
            success(data, shelf, Kind::Transcript, "transcript.json")
        }
        "transcription.failure" => {
            transcription(data, signed, &mut shelf);
            let failure = transcription_loss(data);
            shelf.into_says(vec![failure])
        }
        "recording.failed" => {
            composite(data, signed, &mut shelf);
            failed(data, shelf, Kind::Video, "recording")
        }
        "stream.recording.failure" => {
            single(data, signed, &mut shelf, &stream_file(data));
            failed(data, shelf, Kind::Video, "stream")
        }
        "track.recording.failure" => {
            single(data, signed, &mut shelf, &track_file(data));
            failed(data, shelf, track_file(data).kind, "track")
        }
        "beam.failure" => beam_failed(data),
        "hls.failure" => hls_failed(data),
        other if is_ignored(other) => EventContent::Nothing,
        _ => EventContent::Unknown(None),
    }
}

/// Types that carry nothing to archive. Announcements (`*.started.success`) name files that may never be.
fn is_ignored(event_type: &str) -> bool {
    let groups = ["session.", "peer.", "room.", "role.", "ingest."];
    let types = [
        "track.recording.started.success",
        "beam.started.success",
        "beam.stopped.success",
        "hls.started.success",
        "hls.stopped.success",
        "transcription.started.success",
    ];
    types.contains(&event_type) || groups.iter().any(|group| event_type.starts_with(group))
}

/// What a success event is worth: its files; without any, the loss that it tells of all the same, or
/// else a question to the API.
fn success(data: Fields, mut shelf: ArtifactList, kind: Kind, name: &str) -> EventContent {
    if !shelf.is_empty() {
        return shelf.into_says(Vec::new());
    }
    if data.first_text(&["error_message", "error"]).is_some() {
        let what = name.split(['-', '.', '/']).next().unwrap_or(name);
        return failed(data, shelf, kind, what);
    }
    let format = path_format(name).unwrap_or(Format::Bin);
    let main = File::new(name, kind, format);
    let chat = File::new("chat.csv", Kind::Chat, Format::Csv);
    for (path, file) in [
        ("recording_path", main.clone()),
        ("hls_vod_recording_path", main.clone()),
        ("chat_recording_path", chat),
    ] {
        if let Some(path) = data.text(path)
            && let Some(lookup) = remint(data, Some(path))
        {
            shelf.put_lookup(lookup, file);
        }
    }
    if shelf.is_empty() {
        let Some(lookup) = remint(data, data.text("recording_path")) else {
            return EventContent::unreadable(
                "the event names neither a file nor an id to ask for one",
            );
        };
        shelf.put_lookup(lookup, main);
    }
    shelf.into_says(Vec::new())
}

fn failed(data: Fields, shelf: ArtifactList, kind: Kind, what: &str) -> EventContent {
    let failure = loss(
        data.first_text(&["error_type", "error_code"]),
        data.first_text(&["error_message", "error"]),
        Some(kind),
        loss_key(data, what),
    );
    shelf.into_says(vec![failure])
}

fn loss_key(data: Fields, what: &str) -> String {
    let id = data.first_text(&[
        "track_id",
        "stream_id",
        "beam_id",
        "transcription_id",
        "recording_id",
        "session_id",
    ]);
    format!("{what}:{}", id.unwrap_or_default())
}

fn beam_failed(data: Fields) -> EventContent {
    // Stopped before it began, or a job that only ever streamed: nothing was lost.
    let is_recording = data.flag("recording_enabled") != Some(false);
    if !is_recording || data.text("error_type").as_deref() == Some("BEAM_STOPPED") {
        return EventContent::Nothing;
    }
    failed(data, ArtifactList::default(), Kind::Video, "beam")
}

fn hls_failed(data: Fields) -> EventContent {
    let layers = data.flag("recording_single_file_per_layer_enabled");
    let playlist = data.flag("recording_vod_playlist_enabled");
    let is_recording = layers != Some(false) || playlist != Some(false);
    if !is_recording || data.text("error_type").as_deref() == Some("BEAM_STOPPED") {
        return EventContent::Nothing;
    }
    let kind = if playlist == Some(false) {
        Kind::Video
    } else {
        Kind::Hls
    };
    failed(data, ArtifactList::default(), kind, "hls")
}

/// The loss of a failed transcription is what was announced (by an asset id) and is not there.
fn transcription_loss(data: Fields) -> ProviderFailure {
    let is_missing =
        |prefix: &str| data.location(&format!("{prefix}_presigned_url")) == Location::Missing;
    let missing: Vec<_> = TRANSCRIPTION_FILES
        .iter()
        .filter(|(prefix, ..)| is_missing(prefix))
        .map(|(_, name, ..)| *name)
        .collect();
    // Where only the summary is missing, a later transcript would be no cure.
    let is_summary_alone = missing == ["summary.json"];
    let kind = if is_summary_alone {
        Kind::Summary
    } else {
        Kind::Transcript
    };
    let message = data
        .first_text(&["error_message", "error"])
        .unwrap_or_else(|| match missing.is_empty() {
            true => "the transcription failed".to_owned(),
            false => format!(
                "the transcription failed; missing are {}",
                missing.join(", ")
            ),
        });
    loss(
        data.first_text(&["error_type", "error_code"]),
        Some(message),
        Some(kind),
        loss_key(data, "transcription"),
    )
}
