//! The texts of a ladder: playlists that point at what has landed, and the list of all files.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Carried;
use super::context::HlsAttempt;
use super::ladder::{MediaPlaylist, PlaylistSet};
use super::piece::Landed;
use super::plan::MissingFile;
use super::put::{payload_of, put_document, put_over};
use super::rewrite::Rewriter;
use super::transcript;
use crate::error::{Class, Error, Result};
use crate::format::hls::{Kind, UriRole};
use crate::model::manifest::Resource;
use crate::model::{Archived, JobId};
use crate::object::Payload;
use crate::object::owned::{RESOURCES_METADATA_KEY, UnderKey};

pub(super) const JSON: Option<&str> = Some("application/json");

/// `hls/resources.json` and `hls/missing.json`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ResourceList {
    version: u32,
    pub(super) artifact: JobId,
    pub(super) resources: Vec<Resource>,
    /// What is otherwise than one would expect.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    missing: Vec<serde_json::Value>,
}

/// The documents of one ladder.
pub(super) struct Documents<'a> {
    context: &'a HlsAttempt,
    ladder: &'a PlaylistSet,
    carried: &'a Carried,
    rewriter: Rewriter<'a>,
}

impl<'a> Documents<'a> {
    pub(super) fn new(
        context: &'a HlsAttempt,
        ladder: &'a PlaylistSet,
        carried: &'a Carried,
    ) -> Documents<'a> {
        Documents {
            context,
            ladder,
            carried,
            rewriter: Rewriter::new(context, ladder, carried),
        }
    }

    /// Puts all of them, the entry playlist last.
    pub(super) async fn put_all(&self) -> Result<Archived> {
        let sheets = self.put_sheets(self.ladder.media.iter()).await?;
        let mut notes = self.carried.decryption.notes.clone();
        let transcripts = transcript::put_all(self.context, self.ladder, self.carried, &mut notes);
        let transcripts = transcripts.await?;
        let all = self.carried.landed.values().chain(sheets.values());
        let list = list_of(self.context, all.chain(&transcripts), &notes, &[])?;
        let list_key = self.put_list("resources.json", list).await?;
        let entry = &self.ladder.entry;
        let text = self.rewriter.text(entry, &entry.key, &sheets);
        let archived = self
            .put_entry(payload_of(text.into_bytes()), &list_key)
            .await?;
        if self.context.is_resumed() {
            self.forget_partial().await;
        }
        Ok(archived)
    }

    /// Puts what is playable of a ladder of which something is missing, and the list of what is. Gives the
    /// list's key. Layers that are complete get their playlist, the others one that says `partial` in its name.
    pub(super) async fn put_partial(&self, losses: &[MissingFile]) -> Result<String> {
        let complete = self.rewriter.complete(self.ladder, losses);
        let sheets = self.put_sheets(complete.iter().copied()).await?;
        let has_variant = complete.iter().any(|sheet| sheet.role == UriRole::Variant);
        let entry = &self.ladder.entry;
        let mut written: Vec<Landed> = sheets.values().cloned().collect();
        if has_variant && entry.playlist.kind == Kind::Master {
            let key = partial_key(&entry.key);
            let text = self.rewriter.text(entry, &key, &sheets);
            let payload = payload_of(text.into_bytes());
            written.push(put_over(self.context, &key, &payload, None).await?);
        }
        for sheet in self
            .ladder
            .sheets()
            .filter(|s| s.playlist.kind == Kind::Media)
        {
            let key = partial_key(&sheet.key);
            let is_complete = sheets.contains_key(&sheet.url);
            let text = (!is_complete).then(|| self.rewriter.partial_text(sheet, &key));
            if let Some(text) = text.flatten() {
                let payload = payload_of(text.into_bytes());
                written.push(put_over(self.context, &key, &payload, None).await?);
            }
        }
        let notes = &self.carried.decryption.notes;
        let all = self.carried.landed.values().chain(&written);
        let list = list_of(self.context, all, notes, losses)?;
        self.put_list("missing.json", list).await
    }

    /// Puts media playlists over what an earlier attempt may have written of them.
    async fn put_sheets(
        &self,
        sheets: impl Iterator<Item = &MediaPlaylist>,
    ) -> Result<BTreeMap<String, Landed>> {
        let mut written = BTreeMap::new();
        for sheet in sheets {
            let text = self.rewriter.text(sheet, &sheet.key, &BTreeMap::new());
            let payload = payload_of(text.into_bytes());
            let landed = put_over(self.context, &sheet.key, &payload, None).await?;
            written.insert(sheet.url.clone(), landed);
        }
        Ok(written)
    }

    fn list_key(&self, name: &str) -> String {
        format!("{}/{name}", self.context.folder)
    }

    async fn put_list(&self, name: &str, list: Vec<u8>) -> Result<String> {
        let payload = payload_of(list);
        let landed = put_over(self.context, &self.list_key(name), &payload, JSON).await?;
        Ok(landed.key)
    }

    /// Takes away what told of an earlier, partial attempt. A failure costs nothing but a stale document.
    async fn forget_partial(&self) {
        let partial = self.ladder.sheets().map(|sheet| partial_key(&sheet.key));
        for key in partial.chain([self.list_key("missing.json")]) {
            let ended = match self.context.find(&key, None).await {
                Ok(UnderKey::Others | UnderKey::Nothing) => Ok(()),
                Ok(_) => self.context.engine.objects.delete(&key).await,
                Err(error) => Err(error),
            };
            if let Err(error) = ended {
                tracing::warn!(key, cause = %error.full_message(), "a document of an earlier attempt is left");
            }
        }
    }

    /// Puts the entry playlist, which names the list of all files in its metadata.
    async fn put_entry(&self, payload: Payload, list_key: &str) -> Result<Archived> {
        let key = &self.context.entry_key;
        let mut attributes = self.context.attributes(key, None);
        let list = (RESOURCES_METADATA_KEY.to_owned(), list_key.to_owned());
        attributes.metadata.push(list);
        let put = put_document(self.context, key, &payload, attributes).await?;
        put.ok_or_else(|| {
            Error::transient(
                Class::UploadFailed,
                format!("put {key}: somebody else's object has just taken the name"),
            )
        })
    }
}

/// `master.partial.m3u8` beside `master.m3u8`.
fn partial_key(key: &str) -> String {
    let stem = key.strip_suffix(".m3u8").unwrap_or(key);
    format!("{stem}.partial.m3u8")
}

/// The list of files, as JSON.
pub(super) fn list_of<'l>(
    context: &HlsAttempt,
    landed: impl Iterator<Item = &'l Landed>,
    notes: &[String],
    losses: &[MissingFile],
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
        notes: notes.to_vec(),
        missing: missing.map_err(broken)?,
    };
    serde_json::to_vec_pretty(&list).map_err(broken)
}
