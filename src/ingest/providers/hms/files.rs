//! The files that 100ms's events name, and how a fresh URL of each can be had.
//!
//! Every URL has a sibling with its storage path, and some have an asset id; both say to the API which file is
//! meant.

use crate::ingest::providers::artifact_list::{ArtifactList, File, Life, format_of, path_format};
use crate::ingest::providers::draft::lookup;
use crate::ingest::providers::fields::{Fields, Location};
use crate::model::key::safe;
use crate::model::{Format, Kind, Lookup};

/// The recording and the chat of an SFU or browser recording.
pub(in crate::ingest::providers) fn composite(data: Fields, life: Life, shelf: &mut ArtifactList) {
    // `URL` and `location` are deprecated doubles; `location` can also be a storage path.
    let recording = data.first_location(&["recording_presigned_url", "URL", "location"]);
    let path = data.text("recording_path");
    let file = File::new("recording.mp4", Kind::Video, Format::Mp4)
        .sized(data.size_bytes("size"))
        .with_remint(remint(data, path.clone()));
    put_stored(path, recording, file, life, shelf);
    chat(data, life, shelf);
}

fn chat(data: Fields, life: Life, shelf: &mut ArtifactList) {
    let path = data.text("chat_recording_path");
    let file =
        File::new("chat.csv", Kind::Chat, Format::Csv).with_remint(remint(data, path.clone()));
    let url = data.location("chat_recording_presigned_url");
    put_stored(path, url, file, life, shelf);
}

/// A recording of one stream or track.
pub(in crate::ingest::providers) fn single(
    data: Fields,
    life: Life,
    shelf: &mut ArtifactList,
    file: &File,
) -> String {
    let sized = file
        .clone()
        .sized(data.size_bytes("size"))
        .with_remint(remint(data, data.text("recording_path")));
    let (path, url) = (
        data.text("recording_path"),
        data.location("recording_presigned_url"),
    );
    put_stored(path, url, sized, life, shelf);
    file.name.clone()
}

/// Streams are MP4 whatever their type, also those of sound alone.
pub(in crate::ingest::providers) fn stream_file(data: Fields) -> File {
    let stem = named("stream", data.text("stream_id"));
    File::new(format!("{stem}.mp4"), Kind::Video, Format::Mp4)
}

pub(in crate::ingest::providers) fn track_file(data: Fields) -> File {
    let stem = named("track", data.text("track_id"));
    let kind = track_kind(data.text("track_type").as_deref());
    File::new(format!("{stem}.webm"), kind, Format::Webm)
}

pub(in crate::ingest::providers) fn track_kind(track_type: Option<&str>) -> Kind {
    match track_type {
        Some("audio") => Kind::Audio,
        _ => Kind::Video,
    }
}

pub(in crate::ingest::providers) fn named(what: &str, id: Option<String>) -> String {
    match id {
        Some(id) => format!("{what}-{}", safe(&id)),
        None => what.to_owned(),
    }
}

/// One quality of an HLS recording; its size stands in the first of `places` that tells one.
pub(in crate::ingest::providers) fn layer_name<'a>(
    layer: &str,
    places: impl Iterator<Item = Fields<'a>>,
) -> String {
    let size = places.map(dimensions).find(|size| !size.is_empty());
    format!("layer-{}{}.mp4", safe(layer), size.unwrap_or_default())
}

pub(in crate::ingest::providers) fn hls(data: Fields, life: Life, shelf: &mut ArtifactList) {
    vod(data, life, shelf);
    for (index, layer) in data.list("recording_single_files").enumerate() {
        let number = layer.text("layer").unwrap_or_else(|| index.to_string());
        let name = layer_name(&number, std::iter::once(layer));
        let asset = layer
            .text("asset_id")
            .map(|id| asset_lookup(&id, Kind::Video, &name));
        let file = File::new(name, Kind::Video, Format::Mp4)
            .sized(layer.size_bytes("size"))
            .with_remint(asset.or_else(|| remint(data, layer.text("recording_path"))));
        let (path, url) = (
            layer.text("recording_path"),
            layer.location("recording_presigned_url"),
        );
        put_stored(path, url, file, life, shelf);
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

/// The playlist, or the ZIP of playlists and segments. ZIPs come from templates made before 27 August 2023, whatever
/// their storage, 100ms's own included; newer templates can choose.
fn vod(data: Fields, life: Life, shelf: &mut ArtifactList) {
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
    let file = File::new(format.hls_name(), Kind::Hls, format)
        .sized(size)
        .with_remint(remint(data, data.text("hls_vod_recording_path")));
    // On 100ms's own storage the playlist is a plain CDN address, of which no life is documented.
    let is_signed = is_archive;
    put_stored(path, url, file, Life { is_signed, ..life }, shelf);
}

fn dimensions(file: Fields) -> String {
    match (file.size_bytes("width"), file.size_bytes("height")) {
        (Some(width), Some(height)) => format!("-{width}x{height}"),
        _ => String::new(),
    }
}

/// A transcription's files: field prefix, name, kind and format. The kind comes from the field, since the
/// paths are documented with wrong extensions.
pub(in crate::ingest::providers) const TRANSCRIPTION_FILES: [(&str, &str, Kind, Format); 4] = [
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

pub(in crate::ingest::providers) fn transcription(
    data: Fields,
    life: Life,
    shelf: &mut ArtifactList,
) {
    for (prefix, name, kind, format) in TRANSCRIPTION_FILES {
        let asset = data.text(&format!("{prefix}_asset_id"));
        let asset = asset.map(|id| asset_lookup(&id, kind, name));
        let file = File::new(name, kind, format)
            .with_remint(asset.or_else(|| remint(data, data.text(&format!("{prefix}_path")))));
        let url = data.location(&format!("{prefix}_presigned_url"));
        put_stored(data.text(&format!("{prefix}_path")), url, file, life, shelf);
    }
}

/// A file by its place in the storage, which events, lists and answers all tell, whatever host and path they
/// sign it under.
pub(in crate::ingest::providers) fn put_stored(
    path: Option<String>,
    url: Location,
    file: File,
    life: Life,
    shelf: &mut ArtifactList,
) {
    match path {
        Some(path) => shelf.put_as(stored_identity(&path), url, file, life),
        None => shelf.put(url, file, life),
    }
}

pub(in crate::ingest::providers) fn stored_identity(path: &str) -> String {
    format!("path:{path}")
}

/// How a fresh URL can be had where no asset id is told: by way of the recording's or session's assets,
/// among which the storage path says which one is meant.
pub(in crate::ingest::providers) fn remint(data: Fields, path: Option<String>) -> Option<Lookup> {
    let id = |id: String| match &path {
        Some(path) => format!("{id}#{path}"),
        None => id,
    };
    let recording = data
        .text("recording_id")
        .map(|r| lookup("hms-recording", id(r)));
    recording.or_else(|| {
        data.text("session_id")
            .map(|s| lookup("hms-session", id(s)))
    })
}

/// The call for one asset's URL. Its answer does not say what the asset is, so the id does.
pub(in crate::ingest::providers) fn asset_lookup(id: &str, kind: Kind, name: &str) -> Lookup {
    lookup("hms-asset", format!("{id}#{}/{name}", kind.as_str()))
}
