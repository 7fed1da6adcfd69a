//! 100ms's API: fresh URLs of assets, and which assets a recording or session has.
//!
//! An asset's URL takes two calls where the event told no asset id: the list of assets, whose answer is
//! a lookup for each, then the asset itself.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use secrecy::SecretString;
use serde_json::json;

use crate::error::Result;
use crate::ingest::LookupPage;
use crate::ingest::providers::api::{api_key, api_secret, get, segment, unknown_call};
use crate::ingest::providers::artifact_list::{ArtifactList, File, Life, path_format};
use crate::ingest::providers::draft::hash;
use crate::ingest::providers::fields::Fields;
use crate::ingest::providers::hms::files::{
    asset_lookup, layer_name, named, put_stored, stored_identity, track_kind,
};
use crate::model::api::{ApiRequest, Credentials};
use crate::model::key::safe;
use crate::model::{Format, Kind, Lookup, Provider};
use crate::signed_url::redact::is_jwt;

pub(in crate::ingest::providers) const BASE: &str = "https://api.100ms.live/v2";

/// Assets on a page, which 100ms documents as the most.
const PAGE_ASSETS: usize = 100;

/// Long enough for one call on a slow day.
const TOKEN_LIFE_SECONDS: i64 = 600;

/// A token is valid from a minute ago, for a server whose clock is behind ours.
const TOKEN_LEEWAY_SECONDS: i64 = 60;

/// The request for a page of the answer to `lookup`.
pub(in crate::ingest::providers) fn request(
    lookup: &Lookup,
    cursor: Option<&str>,
    credentials: &Credentials,
    now: Timestamp,
) -> Result<ApiRequest> {
    let (id, _) = lookup.id.split_once('#').unwrap_or((&lookup.id, ""));
    let id = segment(Provider::Hms, id)?;
    let path = match lookup.call.as_str() {
        "hms-asset" => format!("/recording-assets/{id}/presigned-url"),
        "hms-recording" => format!("/recordings/{id}"),
        "hms-session" => {
            let start = match cursor {
                Some(last) => format!("&start={}", segment(Provider::Hms, last)?),
                None => String::new(),
            };
            format!("/recording-assets?session_id={id}&limit={PAGE_ASSETS}{start}")
        }
        _ => return Err(unknown_call(Provider::Hms, lookup)),
    };
    let token = management_token(lookup, credentials, now)?;
    let headers = vec![(
        "authorization",
        SecretString::from(format!("Bearer {token}")),
    )];
    get(Provider::Hms, credentials, Some(BASE), &path, headers)
}

/// What a page of the answer names. A session with a track for each participant has more than one page, and each may
/// hold fewer assets than were asked for: the last one is the one that is empty or names no next one.
pub(in crate::ingest::providers) fn answer(
    lookup: &Lookup,
    answer: Fields,
    now: Timestamp,
) -> Result<LookupPage> {
    let mut shelf = ArtifactList::of_answer();
    let mut page = LookupPage::default();
    match lookup.call.as_str() {
        "hms-asset" => asset(lookup, answer, now, &mut shelf),
        "hms-recording" => {
            assets(
                lookup,
                answer.list("recording_assets"),
                &mut shelf,
                &mut page,
            );
        }
        "hms-session" => {
            assets(lookup, answer.list("data"), &mut shelf, &mut page);
            let is_empty = answer.list("data").next().is_none();
            page.next = answer.text("last").filter(|_| !is_empty);
        }
        _ => return Err(unknown_call(Provider::Hms, lookup)),
    }
    page.found = shelf.into_artifacts();
    Ok(page)
}

fn asset(lookup: &Lookup, answer: Fields, now: Timestamp, shelf: &mut ArtifactList) {
    let url = answer.location("url");
    let (_, what) = lookup.id.split_once('#').unwrap_or_default();
    let (kind, name) = what.split_once('/').unwrap_or_default();
    let file = match Kind::parse(kind) {
        Some(kind) => File::new(name, kind, path_format(name).unwrap_or(Format::Bin)),
        None => plain_file(answer),
    };
    let life = Life {
        field: answer.number("expiry").and_then(|seconds| {
            now.checked_add(SignedDuration::try_from_secs_f64(seconds).ok()?)
                .ok()
        }),
        documented: None,
        is_signed: true,
    };
    let file = file.with_remint(Some(lookup.clone()));
    put_stored(answer.text("path"), url, file, life, shelf);
}

/// An asset of which nothing is known but its path.
fn plain_file(answer: Fields) -> File {
    let path = answer.text("path").unwrap_or_default();
    let format = path_format(&path).unwrap_or(Format::Bin);
    File::new(format!("asset.{}", format.extension()), Kind::Other, format)
}

/// The assets of a recording or session; only the one at the path that the lookup names, if it is
/// among them.
fn assets<'a>(
    lookup: &Lookup,
    list: impl Iterator<Item = Fields<'a>>,
    shelf: &mut ArtifactList,
    page: &mut LookupPage,
) {
    let all: Vec<_> = list.collect();
    let path = lookup.id.split_once('#').map(|(_, path)| path);
    let is_meant = |asset: &Fields| path.is_some() && asset.text("path").as_deref() == path;
    page.has_meant = all.iter().any(is_meant);
    for asset in all {
        let is_wanted = !page.has_meant || is_meant(&asset);
        if is_wanted && !put_asset(asset, shelf) {
            page.unfinished += 1;
        }
    }
}

/// Puts an asset of a list on the shelf; false for one that is still being made.
pub(in crate::ingest::providers) fn put_asset(asset: Fields, shelf: &mut ArtifactList) -> bool {
    let id = asset.text("id");
    let (name, kind, format) =
        asset_file(asset).unwrap_or_else(|| of_unknown_type(id.as_deref().unwrap_or("without-id")));
    let file = File::new(name.as_str(), kind, format).sized(asset.size_bytes("size"));
    let Some(id) = id else {
        let identity = format!("hms-asset-without-id:{name}");
        let why = format!("100ms lists {name} without an id, so that it can't be asked for");
        shelf.put_lost(identity, why, file);
        return true;
    };
    match asset.text("status").as_deref() {
        Some("failed") => shelf.put_lost(
            format!("hms-asset:{id}"),
            format!("100ms says that the asset {name} failed"),
            file,
        ),
        Some("completed") | None => {
            let ask = asset_lookup(&id, kind, &name);
            let identity = match asset.text("path") {
                Some(path) => format!("lookup:{}", stored_identity(&path)),
                None => format!("lookup:hms-asset:{id}"),
            };
            shelf.put_lookup_as(identity, ask.clone(), file.with_remint(Some(ask)));
        }
        Some(_) => return false,
    }
    true
}

/// An asset of a type that we don't know is kept as it is: what it means can be found out later, its bytes can't.
fn of_unknown_type(id: &str) -> (String, Kind, Format) {
    let format = Format::Bin;
    let name = format!("asset-{}.{}", safe(id), format.extension());
    (name, Kind::Other, format)
}

/// Name, kind and format of an asset, as its event would name it; `None` for a type we don't know. Whose track, stream
/// or layer it is may stand in it or in its metadata.
fn asset_file(asset: Fields) -> Option<(String, Kind, Format)> {
    let path = path_format(&asset.text("path").unwrap_or_default());
    let metadata = asset.object("metadata");
    let of = |name: &str| asset.text(name).or_else(|| metadata.text(name));
    let mode = of("output_mode").and_then(|mode| Format::from_extension(&mode));
    let (stem, kind, format) = match asset.text("type")?.as_str() {
        "room-composite" | "room-composite-legacy" => match of("layer") {
            Some(layer) => {
                let size = [asset, metadata, metadata.object("resolution")];
                let name = layer_name(&layer, size.into_iter());
                return Some((name, Kind::Video, Format::Mp4));
            }
            None => ("recording".to_owned(), Kind::Video, Format::Mp4),
        },
        "room-vod" => {
            let format = path.unwrap_or(Format::Bin);
            return Some((format.hls_name(), Kind::Hls, format));
        }
        "chat" => ("chat".to_owned(), Kind::Chat, Format::Csv),
        "transcript" => (
            "transcript".to_owned(),
            Kind::Transcript,
            mode.or(path).unwrap_or(Format::Txt),
        ),
        "summary" => (
            "summary".to_owned(),
            Kind::Summary,
            mode.or(path).unwrap_or(Format::Json),
        ),
        "track" => {
            let kind = track_kind(of("track_type").as_deref());
            (named("track", of("track_id")), kind, Format::Webm)
        }
        "stream" => (named("stream", of("stream_id")), Kind::Video, Format::Mp4),
        _ => return None,
    };
    Some((format!("{stem}.{}", format.extension()), kind, format))
}

/// A management token of our own, short-lived; `api_key` alone may also be one from the dashboard.
pub(in crate::ingest::providers) fn management_token(
    lookup: &Lookup,
    credentials: &Credentials,
    now: Timestamp,
) -> Result<String> {
    let access_key = api_key(Provider::Hms, credentials)?;
    if credentials.api_secret.is_none() && is_jwt(access_key) {
        return Ok(access_key.to_owned());
    }
    let secret = api_secret(Provider::Hms, credentials)?;
    let issued = now.as_second() - TOKEN_LEEWAY_SECONDS;
    let claims = json!({
        "access_key": access_key,
        "type": "management",
        "version": 2,
        "iat": issued,
        "nbf": issued,
        "exp": now.as_second() + TOKEN_LIFE_SECONDS,
        // One token for one call at one instant: no randomness is needed to tell them apart.
        "jti": hash(format!("{}:{}:{}:{access_key}", now.as_nanosecond(), lookup.call, lookup.id).as_bytes()),
    });
    let head = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
    let body = format!("{head}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()));
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let signature = URL_SAFE_NO_PAD.encode(hmac::sign(&key, body.as_bytes()));
    Ok(format!("{body}.{signature}"))
}
