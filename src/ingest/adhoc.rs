//! URLs that an operator gave by hand, as an event of the provider `adhoc`.
//!
//! The same URL again is the same event; a freshly signed one of the same object is a new event about the
//! same artifact, and so gives it a fresh origin.

use jiff::Timestamp;
use percent_encoding::percent_decode_str;
use serde_json::json;

use crate::error::{Error, Result};
use crate::model::key::{safe, short_hash};
use crate::model::{Artifact, Event, EventClass, Format, Kind, Origin, Provider, Recording};
use crate::signed_url::{SignedUrl, file_identity, url_deadline};

/// A URL that an operator gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdhocUrl {
    artifact: Artifact,
    recording_id: String,
    /// The whole URL, signature included.
    hash: String,
}

/// Reads a URL. `recording_name` groups several; without it the name is made from the URL's path.
///
/// # Errors
/// `invalid` when the URL can't be fetched at all.
pub fn read_url(url: &str, recording_name: Option<&str>) -> Result<AdhocUrl> {
    let signed = SignedUrl::usable(url)
        .map_err(|why| Error::invalid(format!("read {}: {why}", SignedUrl::new(url))))?;
    let path = signed.path();
    let (stem, extension) = file_name(&path);
    let format = extension.as_deref().and_then(Format::from_extension);
    let kind = format.map_or(Kind::Other, kind_of);
    let recording_id = match recording_name {
        Some(name) => name.to_owned(),
        // Two hosts may each have a `recording.mp4`.
        None => format!(
            "{stem}-{}",
            &short_hash(signed.unredacted_place().as_bytes())[..8]
        ),
    };
    let name = match extension {
        Some(_) if format == Some(Format::M3u8) => Format::M3u8.hls_name(),
        Some(extension) => format!("{stem}.{extension}"),
        None => stem,
    };
    Ok(AdhocUrl {
        artifact: Artifact {
            identity: file_identity(kind.as_str(), &signed),
            name,
            kind,
            format: format.unwrap_or(Format::Bin),
            deadline: url_deadline(url),
            origin: Origin::Url(signed),
            remint: None,
            size_bytes: None,
        },
        recording_id,
        hash: whole_hash(url),
    })
}

/// The event of URLs that are about the recording of the first: a list of them is one thing to do, with one document and one
/// commit. `None` for no URL.
pub fn event_of(urls: Vec<AdhocUrl>, now: Timestamp) -> Option<Event> {
    let recording_id = urls.first()?.recording_id.clone();
    let folder = safe(&recording_id);
    let keys: Vec<_> = urls
        .iter()
        .map(|one| format!("url:{folder}:{}", one.hash))
        .collect();
    let shown: Vec<_> = urls.iter().filter_map(shown).collect();
    let (event_type, dedupe_key, redacted) = match (&*keys, &*shown) {
        ([key], [url]) => (
            "url",
            key.clone(),
            json!({ "url": url, "recording": recording_id }),
        ),
        _ => (
            "urls",
            format!("urls:{folder}:{}", whole_hash(&keys.join("\n"))),
            json!({ "urls": shown, "recording": recording_id }),
        ),
    };
    Some(Event {
        provider: Provider::Adhoc,
        event_id: None,
        event_type: Some(event_type.to_owned()),
        dedupe_key,
        class: EventClass::Artifacts,
        event_time: Some(now),
        recording: Recording {
            recording_id: Some(recording_id),
            ..Recording::default()
        },
        artifacts: urls.into_iter().map(|one| one.artifact).collect(),
        failures: Vec::new(),
        alert: None,
        redacted: Some(format!("{redacted:#}")),
    })
}

/// As people may see it.
fn shown(one: &AdhocUrl) -> Option<String> {
    match &one.artifact.origin {
        Origin::Url(url) => Some(url.to_string()),
        _ => None,
    }
}

/// The file's own name, made safe: stem and extension (lower case).
fn file_name(path: &str) -> (String, Option<String>) {
    let last = path.rsplit('/').next().unwrap_or_default();
    let name = percent_decode_str(last).decode_utf8_lossy();
    let is_extension = |text: &str| {
        (1..=8).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric())
    };
    let (stem, extension) = match name.rsplit_once('.') {
        Some((stem, extension)) if !stem.is_empty() && is_extension(extension) => {
            (stem, Some(extension.to_ascii_lowercase()))
        }
        _ => (&*name, None),
    };
    let stem = match stem {
        "" => "file".to_owned(),
        stem => safe(stem),
    };
    // The recording's own documents are not to be taken for files of it.
    let is_ours = ["manifest", "report"].contains(&stem.as_str()) || stem.starts_with("event-");
    match is_ours && extension.as_deref() == Some("json") {
        true => (format!("file-{stem}"), extension),
        false => (stem, extension),
    }
}

fn kind_of(format: Format) -> Kind {
    match format {
        Format::Mp4 | Format::Webm => Kind::Video,
        Format::M4a | Format::Wav | Format::Mp3 | Format::Flac | Format::Ogg => Kind::Audio,
        Format::M3u8 => Kind::Hls,
        Format::Vtt | Format::Srt => Kind::Transcript,
        Format::Png | Format::Jpg => Kind::Thumbnail,
        Format::Zip
        | Format::Tar
        | Format::Txt
        | Format::Json
        | Format::Jsonl
        | Format::Csv
        | Format::Bin => Kind::Other,
    }
}

fn whole_hash(text: &str) -> String {
    hex::encode(aws_lc_rs::digest::digest(
        &aws_lc_rs::digest::SHA256,
        text.as_bytes(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(urls: &[&str], name: Option<&str>) -> Event {
        let urls = urls.iter().map(|url| read_url(url, name).unwrap());
        event_of(urls.collect(), Timestamp::UNIX_EPOCH).unwrap()
    }

    fn event(url: &str) -> Event {
        named(&[url], None)
    }

    #[test]
    fn urls_of_one_recording_are_one_event() {
        let of = |urls: &[&str]| named(urls, Some("talk"));
        let (one, two) = ("https://h/a.mp4?X-Amz-Signature=CANARY", "https://h/b.vtt");
        let joined = of(&[one, two]);
        let names: Vec<_> = joined.artifacts.iter().map(|found| &*found.name).collect();
        assert_eq!(names, ["a.mp4", "b.vtt"]);
        let shown = joined.redacted.as_deref().unwrap();
        assert!(!shown.contains("CANARY"), "{shown}");
        assert!(
            shown.contains("https://h/a.mp4") && shown.contains(two),
            "{shown}"
        );
        assert_eq!(of(&[one, two]).dedupe_key, joined.dedupe_key);
        assert_ne!(of(&[two]).dedupe_key, joined.dedupe_key);
        assert_eq!(event_of(Vec::new(), Timestamp::UNIX_EPOCH), None);
    }

    #[test]
    fn the_file_keeps_its_own_name() {
        for (url, name, kind, format) in [
            (
                "https://h/a/talk.mp4?sig=1",
                "talk.mp4",
                Kind::Video,
                Format::Mp4,
            ),
            ("https://h/a/TALK.MP4", "TALK.mp4", Kind::Video, Format::Mp4),
            ("https://h/s.vtt", "s.vtt", Kind::Transcript, Format::Vtt),
            (
                "https://h/main.m3u8",
                "hls/master.m3u8",
                Kind::Hls,
                Format::M3u8,
            ),
            ("https://h/a/data.xyz", "data.xyz", Kind::Other, Format::Bin),
            ("https://h/a/download", "download", Kind::Other, Format::Bin),
            ("https://h", "file", Kind::Other, Format::Bin),
            (
                "https://h/manifest.json",
                "file-manifest.json",
                Kind::Other,
                Format::Json,
            ),
        ] {
            let event = event(url);
            let artifact = &event.artifacts[0];
            assert_eq!(
                (artifact.name.as_str(), artifact.kind, artifact.format),
                (name, kind, format),
                "{url}"
            );
        }
        let odd = event("https://h/..%2f..%2fetc%2fpass%20wd.mp4");
        assert!(
            !odd.artifacts[0].name.contains(['/', ' ']),
            "{}",
            odd.artifacts[0].name
        );
        assert!(odd.artifacts[0].name.ends_with(".mp4"));
    }

    #[test]
    fn a_fresh_signature_is_news_about_the_same_artifact() {
        let signed = |signature: &str| {
            event(&format!(
                "https://h/a.mp4?X-Amz-Date=20260302T103320Z&X-Amz-Expires=60&X-Amz-Signature={signature}"
            ))
        };
        let (first, again, fresh) = (signed("1"), signed("1"), signed("2"));
        assert_eq!(first, again);
        assert_ne!(first.dedupe_key, fresh.dedupe_key);
        assert_eq!(first.recording, fresh.recording);
        assert_eq!(first.artifacts[0].identity, fresh.artifacts[0].identity);
        assert!(first.artifacts[0].deadline.at.is_some());
    }

    #[test]
    fn other_files_are_other_artifacts() {
        let identity = |url: &str| event(url).artifacts[0].identity.clone();
        assert_ne!(identity("https://h/dl?id=1"), identity("https://h/dl?id=2"));
        assert_ne!(
            event("https://a/x.mp4").recording,
            event("https://b/x.mp4").recording
        );
        let named = |url: &str| named(&[url], Some("all hands"));
        assert_eq!(
            named("https://a/x.mp4").recording,
            named("https://b/y.mp4").recording
        );
    }

    #[test]
    fn what_can_not_be_fetched_is_refused_without_its_secret() {
        let error = read_url("ftp://u:SECRET@h/p?SECRET", None).unwrap_err();
        assert_eq!(error.class(), crate::error::Class::Invalid);
        assert!(!error.full_message().contains("SECRET"));
        let event = event("https://u:SECRET@h/p.mp4?sig=SECRET");
        assert!(!format!("{event:?}").contains("SECRET"), "{event:?}");
    }
}
