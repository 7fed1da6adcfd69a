//! The texts of a ladder: playlists that point at what has landed, the list of all files, the transcript.

use std::collections::BTreeMap;

use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};

use super::context::{Context, Found};
use super::ladder::{Ladder, Sheet};
use super::piece::{Landed, payload_of, put};
use super::plan::{Loss, is_wanted};
use super::{HlsKeys, RESOURCES_METADATA_KEY};
use crate::error::{Class, Error, Result};
use crate::model::manifest::Resource;
use crate::model::{Archived, JobId};
use crate::object::{Condition, Payload, encode_crc64nvme};
use crate::signed_url::SignedUrl;
use crate::source::hls::{Change, Role, first_timestamp, join_webvtt};
use crate::transfer::names::Names;
use crate::transfer::patience::{TRIES, wait_after};

/// The largest segment of subtitles that is joined.
const MAX_SUBTITLES_BYTES: u64 = 8 * 1024 * 1024;

/// The largest segment of media that is read back for its first timestamp.
const MAX_MEDIA_BYTES: u64 = 8 * 1024 * 1024;

/// Segments of subtitles that are read back at once.
const SUBTITLE_READERS: usize = 8;

/// `hls/resources.json` and `hls/missing.json`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ResourceList {
    version: u32,
    pub(super) artifact: JobId,
    pub(super) resources: Vec<Resource>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    missing: Vec<serde_json::Value>,
}

/// The documents of one ladder.
pub(super) struct Documents<'a> {
    context: &'a Context,
    ladder: &'a Ladder,
    landed: &'a BTreeMap<String, Landed>,
}

impl<'a> Documents<'a> {
    pub(super) fn new(
        context: &'a Context,
        ladder: &'a Ladder,
        landed: &'a BTreeMap<String, Landed>,
    ) -> Documents<'a> {
        Documents {
            context,
            ladder,
            landed,
        }
    }

    /// Puts all of them, the entry playlist last.
    pub(super) async fn put_all(&self) -> Result<Archived> {
        let mut sheets: BTreeMap<String, Landed> = BTreeMap::new();
        for sheet in &self.ladder.media {
            let text = self.rewritten(sheet, &sheet.key, &BTreeMap::new());
            let mut names = Names::of(&sheet.key);
            let payload = payload_of(text.into_bytes());
            let landed = put(self.context, &mut names, &payload, Some(&sheet.url)).await?;
            sheets.insert(sheet.url.clone(), landed);
        }
        let transcripts = self.put_transcripts().await?;
        let all = self.landed.values().chain(sheets.values());
        let list = list_of(self.context, all.chain(&transcripts), &[])?;
        let list_key = self.put_document("resources.json", list).await?;
        let entry = &self.ladder.entry;
        let text = self.rewritten(entry, &entry.key, &sheets);
        self.put_entry(payload_of(text.into_bytes()), &list_key)
            .await
    }

    /// Puts the list of what is missing. Gives its key.
    pub(super) async fn put_missing(&self, losses: &[Loss]) -> Result<String> {
        let list = list_of(self.context, self.landed.values(), losses)?;
        self.put_document("missing.json", list).await
    }

    /// The text of `sheet` under `key`, every URI of it relative to there.
    fn rewritten(&self, sheet: &Sheet, key: &str, sheets: &BTreeMap<String, Landed>) -> String {
        let playlist = &sheet.playlist;
        playlist.rewritten(|index| {
            let found = &playlist.references[index];
            let there = match found.role {
                Role::Variant | Role::IFrameVariant | Role::Rendition(..) => {
                    sheets.get(&found.url).map(|landed| landed.key.clone())
                }
                // They lead to media playlists beside this one.
                Role::RenditionReport => self.planned(&found.url),
                _ => self.landed.get(&found.url).map(|landed| landed.key.clone()),
            };
            if let Some(there) = there {
                return Change::Uri(relative(key, &there));
            }
            match found.role {
                // A key that is not archived stays where it is, without a token.
                Role::Key if self.context.settings.keys == HlsKeys::Omit => {
                    Change::Uri(SignedUrl::new(&found.url).to_string())
                }
                Role::Key => Change::Keep,
                _ if found.is_gap => {
                    let folder = &sheet.folder;
                    let has_map = playlist.segments.iter().any(|s| s.map.is_some());
                    let gap = self
                        .context
                        .key_for(folder, &found.role, &found.url, has_map);
                    Change::Uri(relative(key, &gap))
                }
                _ if is_wanted(playlist, index, self.context.settings) == Some(true) => {
                    Change::Keep
                }
                _ => Change::Drop,
            }
        })
    }

    fn planned(&self, url: &str) -> Option<String> {
        let mut media = self.ladder.media.iter();
        media
            .find(|sheet| sheet.url == url)
            .map(|sheet| sheet.key.clone())
    }

    /// Joins each rendition of segmented WebVTT into `transcript.<language>.vtt` beside the recording.
    async fn put_transcripts(&self) -> Result<Vec<Landed>> {
        let mut transcripts = Vec::new();
        let mut media_start = None;
        for sheet in &self.ladder.media {
            let Role::Rendition(kind, language) = &sheet.role else {
                continue;
            };
            let keys = self.subtitle_keys(sheet);
            if kind != "subtitles" || keys.is_empty() {
                continue;
            }
            let mut reading = Vec::new();
            for key in keys {
                reading.push(self.read_text(key).boxed());
            }
            let segments: Vec<String> = stream::iter(reading)
                .buffered(SUBTITLE_READERS)
                .try_collect()
                .await?;
            if !segments.iter().all(|text| is_webvtt(text)) {
                continue;
            }
            if media_start.is_none() {
                media_start = self.media_start().await?;
            }
            let joined = join_webvtt(segments.iter().map(String::as_str), media_start);
            let name = format!("transcript.{}.vtt", language_name(language.as_deref()));
            let key = self.beside(&name);
            let payload = payload_of(joined.into_bytes());
            let mut names = Names::of(&key);
            let landed = put(self.context, &mut names, &payload, Some(&sheet.url)).await?;
            transcripts.push(landed);
        }
        Ok(transcripts)
    }

    /// What the media clock shows at the beginning, where the first variant is a plain transport stream.
    async fn media_start(&self) -> Result<Option<u64>> {
        let mut variants = self.ladder.media.iter();
        let Some(first) = variants.find(|sheet| sheet.role == Role::Variant) else {
            return Ok(None);
        };
        let segment = first.playlist.segments.first();
        let plain = segment.filter(|segment| segment.keys.is_empty() && segment.map.is_none());
        let landed = plain.and_then(|segment| {
            let url = &first.playlist.references[segment.reference].url;
            self.landed.get(url)
        });
        let Some(landed) = landed.filter(|landed| landed.size_bytes <= MAX_MEDIA_BYTES) else {
            return Ok(None);
        };
        let objects = &self.context.engine.objects;
        let found = objects.get(&landed.key, MAX_MEDIA_BYTES).await?;
        Ok(found.and_then(|(bytes, _)| first_timestamp(&bytes)))
    }

    fn subtitle_keys(&self, sheet: &Sheet) -> Vec<String> {
        let playlist = &sheet.playlist;
        let is_plain = |segment: &&crate::source::hls::Segment| {
            segment.map.is_none() && segment.keys.is_empty()
        };
        let segments = playlist.segments.iter().filter(is_plain);
        segments
            .filter_map(|segment| {
                let url = &playlist.references[segment.reference].url;
                self.landed.get(url).map(|landed| landed.key.clone())
            })
            .collect()
    }

    async fn read_text(&self, key: String) -> Result<String> {
        let objects = &self.context.engine.objects;
        let found = objects.get(&key, MAX_SUBTITLES_BYTES).await?;
        let (bytes, _) = found.ok_or_else(|| missing(&key))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The key of `name` in the recording's own folder.
    fn beside(&self, name: &str) -> String {
        match self.context.folder.rsplit_once("/hls") {
            Some((recording, _)) => format!("{recording}/{name}"),
            None => format!("{}/{name}", self.context.folder),
        }
    }

    /// Puts a list over an earlier one of ours, else under the first free name.
    async fn put_document(&self, name: &str, bytes: Vec<u8>) -> Result<String> {
        let payload = payload_of(bytes);
        let mut names = Names::of(&format!("{}/{name}", self.context.folder));
        let mut tried = 0;
        loop {
            tried += 1;
            let key = names.key();
            let condition = match self.context.find(&key, None).await? {
                Found::Nothing => Condition::Absent,
                Found::Others => {
                    names.next()?;
                    continue;
                }
                Found::Ours(there) if is_same(&there, &payload) => return Ok(key),
                Found::Ours(there) => Condition::Matches(there.etag.unwrap_or_default()),
            };
            let mut attributes = self.context.attributes(&key, None);
            attributes.content_type = "application/json".to_owned();
            let objects = &self.context.engine.objects;
            let ended = objects
                .put(&key, &payload, &attributes, Some(&condition))
                .await;
            if let Ok(Found::Ours(there)) = self.context.find(&key, None).await
                && is_same(&there, &payload)
            {
                return Ok(key);
            }
            let error = ended.err().unwrap_or_else(|| missing(&key));
            if !error.is_transient() || tried >= TRIES {
                return Err(error);
            }
            wait_after(tried).await;
        }
    }

    /// Puts the entry playlist, which names the list of all files in its metadata.
    async fn put_entry(&self, payload: Payload, list_key: &str) -> Result<Archived> {
        let key = &self.context.entry_key;
        let mut attributes = self.context.attributes(key, None);
        let list = (RESOURCES_METADATA_KEY.to_owned(), list_key.to_owned());
        attributes.metadata.push(list);
        let mut tried = 0;
        loop {
            tried += 1;
            let objects = &self.context.engine.objects;
            let ended = objects
                .put(key, &payload, &attributes, Some(&Condition::Absent))
                .await;
            if let Ok(Found::Ours(there)) = self.context.find(key, None).await
                && is_same(&there, &payload)
            {
                return Ok(there);
            }
            let error = ended.err().unwrap_or_else(|| missing(key));
            if !error.is_transient() || tried >= TRIES {
                return Err(error);
            }
            wait_after(tried).await;
        }
    }
}

/// The list of files, as JSON.
pub(super) fn list_of<'l>(
    context: &Context,
    landed: impl Iterator<Item = &'l Landed>,
    losses: &[Loss],
) -> Result<Vec<u8>> {
    let mut resources: Vec<_> = landed
        .map(|landed| Resource {
            key: landed.key.clone(),
            size_bytes: landed.size_bytes,
            crc64nvme: landed.crc64nvme.clone(),
        })
        .collect();
    resources.sort_by(|a, b| a.key.cmp(&b.key));
    let missing: Result<Vec<_>, _> = losses.iter().map(serde_json::to_value).collect();
    let broken = |error| Error::internal("write the list of files").with_source(error);
    let list = ResourceList {
        version: 1,
        artifact: context.job_id(),
        resources,
        missing: missing.map_err(broken)?,
    };
    serde_json::to_vec_pretty(&list).map_err(broken)
}

fn is_same(there: &Archived, payload: &Payload) -> bool {
    there.size_bytes == payload.size_bytes && there.crc64nvme == encode_crc64nvme(payload.crc64nvme)
}

fn missing(key: &str) -> Error {
    Error::transient(
        Class::UploadFailed,
        format!("{key} is not in the bucket, or not as it was written"),
    )
}

fn is_webvtt(text: &str) -> bool {
    text.trim_start_matches('\u{feff}').starts_with("WEBVTT")
}

/// A language tag (RFC 5646) as part of a name.
fn language_name(language: Option<&str>) -> String {
    let safe: String = language
        .unwrap_or_default()
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || *c == '-')
        .take(35)
        .collect();
    if safe.is_empty() {
        "und".to_owned()
    } else {
        safe
    }
}

/// The way from the object at `from` to the one at `to`.
fn relative(from: &str, to: &str) -> String {
    let folder: Vec<_> = from.split('/').collect();
    let folder = &folder[..folder.len() - 1];
    let target: Vec<_> = to.split('/').collect();
    let common = folder
        .iter()
        .zip(&target[..target.len() - 1])
        .take_while(|(a, b)| a == b)
        .count();
    let mut steps = vec![".."; folder.len() - common];
    steps.extend(&target[common..]);
    steps.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_from_object_to_object() {
        assert_eq!(
            relative("a/hls/master.m3u8", "a/hls/v0/index.m3u8"),
            "v0/index.m3u8"
        );
        assert_eq!(
            relative("a/hls/v1/index.m3u8", "a/hls/v0/seg.ts"),
            "../v0/seg.ts"
        );
        assert_eq!(relative("a/hls/v1/index.m3u8", "a/hls/v1/seg.ts"), "seg.ts");
        assert_eq!(relative("a/hls/v1/index.m3u8", "a/hls/key"), "../key");
    }

    #[test]
    fn a_language_is_safe_in_a_name() {
        assert_eq!(language_name(Some("pt-BR")), "pt-BR");
        assert_eq!(language_name(Some("../x")), "x");
        assert_eq!(language_name(None), "und");
    }
}
