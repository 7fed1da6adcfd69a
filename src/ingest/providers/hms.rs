//! 100ms: recordings of rooms, streams, tracks and HLS, and their transcripts.
//!
//! Deprecated fields double newer ones; `track.recording.failure` has been seen labelled as a success;
//! a `transcription.failure` can still carry files. So files and losses are read independently of
//! the type's last word.

use jiff::{SignedDuration, Timestamp};

use super::draft::{
    Draft, File, Life, Says, Shelf, body_key, format_of, lookup, loss, path_format,
};
use super::fields::{Fields, Location};
use crate::ingest::Delivery;
use crate::model::key::safe;
use crate::model::{Format, Kind, Lookup, ProviderFailure, Recording};

/// Published are 24 hours (recording.success), 12 hours (the older documentation of the same URLs) and a
/// setting: the shortest counts, and only when the URL itself is silent.
const DOCUMENTED_LIFE: SignedDuration = SignedDuration::from_hours(12);

/// Whether `event` looks like 100ms's.
pub(super) fn is_shape(event: Fields) -> bool {
    let has_account = ["account_id", "app_id", "version"]
        .iter()
        .any(|name| event.value(name).is_some());
    event.text("type").is_some() && event.is_object("data") && has_account
}

/// Reads an event.
pub(super) fn read(event: Fields, delivery: &Delivery<'_>) -> Draft {
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

fn says(event_type: Option<&str>, data: Fields, documented: Option<Timestamp>) -> Says {
    let signed = Life {
        documented,
        is_signed: true,
        ..Life::default()
    };
    let mut shelf = Shelf::default();
    match event_type.unwrap_or_default() {
        "recording.success" | "beam.recording.success" => {
            composite(data, signed, &mut shelf);
            success(data, shelf, Kind::Video, "recording.mp4")
        }
        "hls.recording.success" => {
            hls(data, signed, &mut shelf);
            success(data, shelf, Kind::Hls, "hls.m3u8")
        }
        "stream.recording.success" => {
            let name = single(data, signed, &mut shelf, &stream_file(data));
            success(data, shelf, Kind::Video, &name)
        }
        "track.recording.success" => {
            let name = single(data, signed, &mut shelf, &track_file(data));
            success(data, shelf, track_kind(data), &name)
        }
        "transcription.success" => {
            transcription(data, signed, &mut shelf);
            success(data, shelf, Kind::Transcript, "transcript.json")
        }
        "transcription.failure" => {
            transcription(data, signed, &mut shelf);
            let failure = transcription_loss(data, &shelf);
            Says::Files(shelf.into_artifacts(), vec![failure])
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
            failed(data, shelf, track_kind(data), "track")
        }
        "beam.failure" => beam_failed(data),
        "hls.failure" => hls_failed(data),
        other if is_ignored(other) => Says::Nothing,
        _ => Says::Unknown(None),
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
fn success(data: Fields, shelf: Shelf, kind: Kind, name: &str) -> Says {
    if !shelf.is_empty() {
        return Says::Files(shelf.into_artifacts(), Vec::new());
    }
    if data.first_text(&["error_message", "error"]).is_some() {
        return failed(data, shelf, kind, "recording");
    }
    let Some(lookup) = remint(data) else {
        return Says::unreadable("the event names neither a file nor an id to ask for one");
    };
    let format = path_format(name).unwrap_or(Format::Bin);
    let mut shelf = shelf;
    shelf.put_lookup(lookup, File::new(name, kind, format));
    Says::Files(shelf.into_artifacts(), Vec::new())
}

fn failed(data: Fields, shelf: Shelf, kind: Kind, what: &str) -> Says {
    let failure = loss(
        data.first_text(&["error_type", "error_code"]),
        data.first_text(&["error_message", "error"]),
        Some(kind),
        loss_key(data, what),
    );
    Says::Files(shelf.into_artifacts(), vec![failure])
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

fn beam_failed(data: Fields) -> Says {
    // Stopped before it began, or a job that only ever streamed: nothing was lost.
    let is_recording = data.flag("recording_enabled") != Some(false);
    if !is_recording || data.text("error_type").as_deref() == Some("BEAM_STOPPED") {
        return Says::Nothing;
    }
    failed(data, Shelf::default(), Kind::Video, "beam")
}

fn hls_failed(data: Fields) -> Says {
    let layers = data.flag("recording_single_file_per_layer_enabled");
    let playlist = data.flag("recording_vod_playlist_enabled");
    let is_recording = layers != Some(false) || playlist != Some(false);
    if !is_recording || data.text("error_type").as_deref() == Some("BEAM_STOPPED") {
        return Says::Nothing;
    }
    let kind = if playlist == Some(false) {
        Kind::Video
    } else {
        Kind::Hls
    };
    failed(data, Shelf::default(), kind, "hls")
}

/// The recording and the chat of an SFU or browser recording.
fn composite(data: Fields, life: Life, shelf: &mut Shelf) {
    // `URL` and `location` are deprecated doubles; `location` can also be a storage path.
    let recording = data.first_location(&["recording_presigned_url", "URL", "location"]);
    let file = File::new("recording.mp4", Kind::Video, Format::Mp4)
        .sized(data.size_bytes("size"))
        .with_remint(remint(data));
    shelf.put(recording, file, life);
    chat(data, life, shelf);
}

fn chat(data: Fields, life: Life, shelf: &mut Shelf) {
    let file = File::new("chat.csv", Kind::Chat, Format::Csv).with_remint(remint(data));
    shelf.put(data.location("chat_recording_presigned_url"), file, life);
}

/// A recording of one stream or track.
fn single(data: Fields, life: Life, shelf: &mut Shelf, file: &File) -> String {
    let sized = file
        .clone()
        .sized(data.size_bytes("size"))
        .with_remint(remint(data));
    shelf.put(data.location("recording_presigned_url"), sized, life);
    file.name.clone()
}

/// Streams are MP4 whatever their type, also those of sound alone.
fn stream_file(data: Fields) -> File {
    File::new(
        named("stream", data.text("stream_id"), "mp4"),
        Kind::Video,
        Format::Mp4,
    )
}

fn track_file(data: Fields) -> File {
    File::new(
        named("track", data.text("track_id"), "webm"),
        track_kind(data),
        Format::Webm,
    )
}

fn track_kind(data: Fields) -> Kind {
    match data.text("track_type").as_deref() {
        Some("audio") => Kind::Audio,
        _ => Kind::Video,
    }
}

fn named(what: &str, id: Option<String>, extension: &str) -> String {
    match id {
        Some(id) => format!("{what}-{}.{extension}", safe(&id)),
        None => format!("{what}.{extension}"),
    }
}

fn hls(data: Fields, life: Life, shelf: &mut Shelf) {
    vod(data, life, shelf);
    for (index, layer) in data.list("recording_single_files").enumerate() {
        let number = layer
            .text("layer")
            .map_or(index.to_string(), |layer| safe(&layer));
        let name = format!("layer-{number}{}.mp4", dimensions(layer));
        let asset = layer
            .text("asset_id")
            .map(|id| asset_lookup(&id, Kind::Video, &name));
        let file = File::new(name, Kind::Video, Format::Mp4)
            .sized(layer.size_bytes("size"))
            .with_remint(asset.or_else(|| remint(data)));
        shelf.put(layer.location("recording_presigned_url"), file, life);
    }
    for thumbnail in data.list("recording_thumbnails") {
        let url = thumbnail.location("url");
        let format = match format_of(&url) {
            Some(Format::Jpg) => Format::Jpg,
            _ => Format::Png,
        };
        let offset = thumbnail
            .text("offset")
            .map(|offset| format!("-{}s", safe(&offset)));
        let name = format!(
            "thumbnail{}{}.{}",
            offset.unwrap_or_default(),
            dimensions(thumbnail),
            format.extension()
        );
        shelf.put(url, File::new(name, Kind::Thumbnail, format), life);
    }
    chat(data, life, shelf);
}

/// The playlist, or the ZIP of playlists and segments.
fn vod(data: Fields, life: Life, shelf: &mut Shelf) {
    let url = data.first_location(&[
        "hls_vod_recording_presigned_url",
        "recording_hls_vod_playlist_location",
    ]);
    let path = data.text("hls_vod_recording_path");
    let format = format_of(&url)
        .or_else(|| path_format(path.as_deref()?))
        .filter(|format| [Format::Zip, Format::M3u8].contains(format))
        .unwrap_or(Format::Bin);
    // Of an archive it is the length; of a playlist it counts the segments too.
    let is_archive = format == Format::Zip;
    let size = data
        .size_bytes("hls_vod_recording_size")
        .filter(|_| is_archive);
    let file = File::new(format!("hls.{}", format.extension()), Kind::Hls, format)
        .sized(size)
        .with_remint(remint(data));
    // On 100ms's own storage the playlist is a plain CDN address, of which no life is documented.
    let is_signed = is_archive;
    shelf.put(url, file, Life { is_signed, ..life });
}

fn dimensions(file: Fields) -> String {
    match (file.size_bytes("width"), file.size_bytes("height")) {
        (Some(width), Some(height)) => format!("-{width}x{height}"),
        _ => String::new(),
    }
}

/// A transcription's files: field prefix, name, kind and format. The kind comes from the field, since the
/// paths are documented with wrong extensions.
const TRANSCRIPTION_FILES: [(&str, &str, Kind, Format); 4] = [
    ("summary_json", "summary.json", Kind::Summary, Format::Json),
    (
        "transcript_json",
        "transcript.json",
        Kind::Transcript,
        Format::Json,
    ),
    (
        "transcript_srt",
        "transcript.srt",
        Kind::Transcript,
        Format::Srt,
    ),
    (
        "transcript_txt",
        "transcript.txt",
        Kind::Transcript,
        Format::Txt,
    ),
];

fn transcription(data: Fields, life: Life, shelf: &mut Shelf) {
    for (prefix, name, kind, format) in TRANSCRIPTION_FILES {
        let asset = data.text(&format!("{prefix}_asset_id"));
        let asset = asset.map(|id| asset_lookup(&id, kind, name));
        let file = File::new(name, kind, format).with_remint(asset.or_else(|| remint(data)));
        shelf.put(
            data.location(&format!("{prefix}_presigned_url")),
            file,
            life,
        );
    }
}

/// The loss of a failed transcription is what was announced (by an asset id) and is not there.
fn transcription_loss(data: Fields, shelf: &Shelf) -> ProviderFailure {
    let is_missing =
        |prefix: &str| data.location(&format!("{prefix}_presigned_url")) == Location::Missing;
    let missing: Vec<_> = TRANSCRIPTION_FILES
        .iter()
        .filter(|(prefix, ..)| is_missing(prefix))
        .map(|(_, name, ..)| *name)
        .collect();
    // A kind of which some files are here would be taken for saved as soon as those are.
    let kind = [Kind::Transcript, Kind::Summary]
        .into_iter()
        .find(|kind| !shelf.has(*kind));
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
        kind,
        loss_key(data, "transcription"),
    )
}

/// How a fresh URL can be had where no asset id is told: by way of the recording's or session's assets.
fn remint(data: Fields) -> Option<Lookup> {
    let recording = data
        .text("recording_id")
        .map(|id| lookup("hms-recording", id));
    recording.or_else(|| data.text("session_id").map(|id| lookup("hms-session", id)))
}

/// The call for one asset's URL. Its answer does not say what the asset is, so the id does.
pub(super) fn asset_lookup(id: &str, kind: Kind, name: &str) -> Lookup {
    lookup("hms-asset", format!("{id}#{}/{name}", kind.as_str()))
}
