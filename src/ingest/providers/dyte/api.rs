//! The API of Dyte and of RealtimeKit: fresh URLs of a recording, a chat, a transcript, a summary.
//!
//! Answers write snake_case where the webhooks write camelCase, except where they don't: both are read.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use secrecy::SecretString;

use crate::error::{Class, Error, Result};
use crate::ingest::providers::api::{api_key, api_secret, get, segment, unknown_call};
use crate::ingest::providers::artifact_list::{ArtifactList, File, Life, format_of};
use crate::ingest::providers::dyte::event::{
    DOCUMENTED_LIFE, Profile, RecordingNames, recording_files, summary_file,
};
use crate::ingest::providers::fields::Fields;
use crate::model::api::{ApiRequest, Credentials};
use crate::model::{Artifact, Format, Kind, Lookup, Provider};
use crate::signed_url::redact_urls;

/// The request that answers `lookup`.
pub(in crate::ingest::providers) fn request(
    profile: Profile,
    lookup: &Lookup,
    credentials: &Credentials,
) -> Result<ApiRequest> {
    let id = segment(profile.provider, &lookup.id)?;
    let path = match lookup.call.as_str() {
        "dyte-recording" => format!("/recordings/{id}"),
        "dyte-chat" => format!("/sessions/{id}/chat"),
        "dyte-transcript" => format!("/sessions/{id}/transcript"),
        "dyte-summary" => format!("/sessions/{id}/summary"),
        _ => return Err(unknown_call(profile.provider, lookup)),
    };
    let authorization = authorization(profile.provider, credentials)?;
    let headers = vec![("authorization", SecretString::from(authorization))];
    get(profile.provider, credentials, profile.base, &path, headers)
}

/// Dyte's `api_key` is the organization's id and `api_secret` its key (or `api_key` is both, as `id:key`);
/// RealtimeKit's `api_key` is a Cloudflare token.
pub(in crate::ingest::providers) fn authorization(
    provider: Provider,
    credentials: &Credentials,
) -> Result<String> {
    let key = api_key(provider, credentials)?;
    if provider == Provider::RealtimeKit {
        return Ok(format!("Bearer {key}"));
    }
    let pair = match key.contains(':') {
        true => key.to_owned(),
        false => format!("{key}:{}", api_secret(provider, credentials)?),
    };
    Ok(format!("Basic {}", STANDARD.encode(pair)))
}

/// What `answer` names.
pub(in crate::ingest::providers) fn answer(
    profile: Profile,
    lookup: &Lookup,
    answer: Fields,
    now: Timestamp,
) -> Result<Vec<Artifact>> {
    let data = answer.object("data");
    let mut shelf = ArtifactList::of_answer();
    let file = |stem: &str, kind, usual: Format| {
        let stem = stem.to_owned();
        move |format: Option<Format>| {
            let format = format.unwrap_or(usual);
            File::new(format!("{stem}.{}", format.extension()), kind, format)
        }
    };
    match lookup.call.as_str() {
        "dyte-recording" => recording(profile, lookup, data, now, &mut shelf)?,
        "dyte-chat" => one(
            lookup,
            data,
            "chat",
            file("chat", Kind::Chat, profile.chat),
            now,
            &mut shelf,
        ),
        "dyte-transcript" => {
            let file = file("transcript", Kind::Transcript, Format::Csv);
            one(lookup, data, "transcript", file, now, &mut shelf);
        }
        "dyte-summary" => one(lookup, data, "summary", summary_file, now, &mut shelf),
        _ => return Err(unknown_call(profile.provider, lookup)),
    }
    Ok(shelf.into_artifacts())
}

fn recording(
    profile: Profile,
    lookup: &Lookup,
    data: Fields,
    now: Timestamp,
    shelf: &mut ArtifactList,
) -> Result<()> {
    if data.text("status").as_deref() == Some("ERRORED") {
        return Err(Error::new(
            Class::ProviderFailed,
            format!(
                "{}: the API reports the recording as ERRORED",
                profile.provider
            ),
        ));
    }
    recording_of(data, lookup, now, shelf);
    if !shelf.is_empty() {
        return Ok(());
    }
    match (data.text("status").as_deref(), own_storage(data)) {
        (Some("UPLOADED"), Some(storage)) => {
            let file = File::new("recording.mp4", Kind::Video, Format::Mp4);
            let why = format!(
                "fetch recording.mp4: it lies in your own storage ({storage}), which the provider wrote it to; copy it \
                 from there, or switch the provider's bucket on"
            );
            shelf.put_out_of_reach(format!("{}:{}:video", lookup.call, lookup.id), why, file);
            Ok(())
        }
        // It may be a null that passes. If not, a recording that is in no storage is nowhere.
        (Some("UPLOADED"), None) => Err(Error::transient(
            Class::ProviderFailed,
            format!(
                "{}: the API says that the recording is uploaded and names neither a URL nor a storage of yours: without \
                 the provider's bucket and without a storage of your own it is kept nowhere",
                profile.provider
            ),
        )),
        _ => Ok(()),
    }
}

/// The storage of the customer's that a recording was written to, as it may be shown: never its keys.
fn own_storage(data: Fields) -> Option<String> {
    let config = ["storage_config", "storageConfig"];
    let config = config.into_iter().find(|name| data.is_object(name))?;
    let config = data.object(config);
    let told = ["type", "bucket", "region", "host", "path"]
        .into_iter()
        .filter_map(|name| Some(format!("{name} {}", redact_urls(&config.text(name)?))));
    let told: Vec<_> = told.collect();
    (!told.is_empty()).then(|| told.join(", "))
}

/// The files of a recording as the API tells them, alone or in a list.
pub(in crate::ingest::providers) fn recording_of(
    data: Fields,
    lookup: &Lookup,
    now: Timestamp,
    shelf: &mut ArtifactList,
) {
    let life = life(data, "download_url", "downloadUrl", now);
    let names = RecordingNames {
        video: "download_url",
        audio: either(data, "audio_download_url", "download_audio_url"),
        file_name: "output_file_name",
        size: "file_size",
    };
    recording_files(data, &names, Some(lookup.clone()), life, shelf);
}

fn one(
    lookup: &Lookup,
    data: Fields,
    what: &str,
    file: impl Fn(Option<Format>) -> File,
    now: Timestamp,
    shelf: &mut ArtifactList,
) {
    let (snake, camel) = (format!("{what}_download_url"), format!("{what}DownloadUrl"));
    let url = data.first_location(&[&snake, &camel]);
    let life = life(data, &snake, &camel, now);
    let file = file(format_of(&url)).with_remint(Some(lookup.clone()));
    shelf.put_of("file", url, file, life);
}

fn life(data: Fields, snake: &str, camel: &str, now: Timestamp) -> Life {
    Life {
        field: data
            .time(&format!("{snake}_expiry"))
            .or_else(|| data.time(&format!("{camel}Expiry"))),
        documented: now.checked_add(DOCUMENTED_LIFE).ok(),
        is_signed: true,
    }
}

fn either(data: Fields, first: &'static str, second: &'static str) -> &'static str {
    if data.value(first).is_some() {
        first
    } else {
        second
    }
}
