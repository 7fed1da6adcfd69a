//! Multipart uploads that have not ended: a folder each, with its parts and what is known of them.
//!
//! A part is noted (synced, renamed) after its bytes are synced; sending a part again leaves the old one
//! until the new one is noted, so a refused repetition harms nothing.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use s3s::{S3Result, s3_error};
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use super::answers::io_error;
use super::checksum::{Algorithm, Checksums};
use super::files;
use super::object_meta::ObjectDescription;

const NOTE: &str = "upload.json";

/// How an upload was begun.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct UploadMeta {
    pub(super) id: String,
    pub(super) bucket: String,
    pub(super) key: String,
    pub(super) initiated: Timestamp,
    pub(super) algorithm: Algorithm,
    /// Whether the client named the algorithm; then each part has to use it.
    pub(super) is_algorithm_named: bool,
    pub(super) is_composite: bool,
    pub(super) description: ObjectDescription,
}

/// A part that came in whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PartMeta {
    pub(super) number: u32,
    pub(super) size_bytes: u64,
    pub(super) etag: String,
    pub(super) checksums: Checksums,
    pub(super) last_modified: Timestamp,
    /// The content's name in the upload's folder.
    pub(super) file: String,
}

/// An upload and its parts.
#[derive(Clone, Debug)]
pub(super) struct Upload {
    pub(super) meta: UploadMeta,
    pub(super) parts: BTreeMap<u32, PartMeta>,
    is_completing: bool,
    /// Held while a part is noted, so that disk and memory name the same one, and while all is removed.
    noting: Arc<Mutex<()>>,
}

impl Upload {
    pub(super) fn new(meta: UploadMeta, parts: Vec<PartMeta>) -> Upload {
        Upload {
            meta,
            parts: parts.into_iter().map(|part| (part.number, part)).collect(),
            is_completing: false,
            noting: Arc::default(),
        }
    }
}

/// All open uploads.
#[derive(Debug)]
pub(super) struct OpenUploads {
    folder: PathBuf,
    scratch: PathBuf,
    open: Mutex<BTreeMap<String, Upload>>,
}

impl OpenUploads {
    /// Reads what an earlier process left; a folder without a note never became an upload.
    pub(super) fn open(root: &Path, scratch: PathBuf) -> io::Result<OpenUploads> {
        let folder = root.join(".uploads");
        files::create_folders(&folder)?;
        let mut open = BTreeMap::new();
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.join(NOTE).exists() {
                let upload = recover(&path)?;
                open.insert(upload.meta.id.clone(), upload);
            } else {
                files::remove_folder(&path)?;
            }
        }
        Ok(OpenUploads {
            folder,
            scratch,
            open: Mutex::new(open),
        })
    }

    pub(super) fn create(&self, meta: UploadMeta) -> S3Result<()> {
        let folder = self.folder.join(&meta.id);
        fs::create_dir(&folder).map_err(io_error)?;
        files::write_document(&self.scratch, &folder, NOTE, &meta).map_err(io_error)?;
        files::sync_folder(&self.folder).map_err(io_error)?;
        let upload = Upload::new(meta, Vec::new());
        self.lock().insert(upload.meta.id.clone(), upload);
        Ok(())
    }

    /// The upload as it is now; it has to be for this key.
    pub(super) fn find(&self, bucket: &str, key: &str, id: &str) -> S3Result<Upload> {
        let open = self.lock();
        let upload = open
            .get(id)
            .filter(|u| u.meta.bucket == bucket && u.meta.key == key);
        upload.cloned().ok_or_else(no_such_upload)
    }

    pub(super) fn all(&self, bucket: &str) -> Vec<UploadMeta> {
        let open = self.lock();
        let metas = open.values().map(|upload| &upload.meta);
        metas
            .filter(|meta| meta.bucket == bucket)
            .cloned()
            .collect()
    }

    /// Takes a part in. `content` is synced already.
    pub(super) fn put_part(
        &self,
        id: &str,
        content: NamedTempFile,
        part: PartMeta,
    ) -> S3Result<()> {
        let noting = self.noting(id)?;
        let _noting = noting.lock().unwrap_or_else(PoisonError::into_inner);
        let is_completing = self
            .lock()
            .get(id)
            .is_none_or(|upload| upload.is_completing);
        if is_completing {
            return Err(no_such_upload());
        }
        let folder = self.folder.join(id);
        content
            .persist(folder.join(&part.file))
            .map_err(|e| io_error(e.error))?;
        let note = format!("{}.json", part.number);
        files::write_document(&self.scratch, &folder, &note, &part).map_err(io_error)?;
        let replaced = self
            .lock()
            .get_mut(id)
            .and_then(|upload| upload.parts.insert(part.number, part));
        if let Some(old) = replaced {
            files::remove_file(&folder.join(old.file)).map_err(io_error)?;
        }
        Ok(())
    }

    /// Claims the upload for completion: of two at once, one is told to wait.
    pub(super) fn begin_completion(
        &self,
        bucket: &str,
        key: &str,
        id: &str,
    ) -> S3Result<Completion<'_>> {
        let mut open = self.lock();
        let upload = open
            .get_mut(id)
            .filter(|u| u.meta.bucket == bucket && u.meta.key == key)
            .ok_or_else(no_such_upload)?;
        if upload.is_completing {
            return Err(s3_error!(
                OperationAborted,
                "A completion of this upload is already in progress."
            ));
        }
        upload.is_completing = true;
        Ok(Completion {
            upload: upload.clone(),
            uploads: self,
        })
    }

    /// Ends an upload and forgets its parts.
    pub(super) fn remove(&self, bucket: &str, key: &str, id: &str) -> S3Result<()> {
        self.find(bucket, key, id)?;
        let noting = self.noting(id)?;
        let _noting = noting.lock().unwrap_or_else(PoisonError::into_inner);
        self.lock().remove(id);
        let folder = self.folder.join(id);
        // The note goes first: without it a crash leaves only rubbish that the next start removes.
        files::remove_file(&folder.join(NOTE)).map_err(io_error)?;
        files::remove_folder(&folder).map_err(io_error)
    }

    pub(super) fn part_path(&self, id: &str, part: &PartMeta) -> PathBuf {
        self.folder.join(id).join(&part.file)
    }

    fn noting(&self, id: &str) -> S3Result<Arc<Mutex<()>>> {
        let open = self.lock();
        let upload = open.get(id).ok_or_else(no_such_upload)?;
        Ok(Arc::clone(&upload.noting))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Upload>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An upload that is being completed; gives its claim back when dropped.
#[must_use]
pub(super) struct Completion<'a> {
    pub(super) upload: Upload,
    uploads: &'a OpenUploads,
}

impl Drop for Completion<'_> {
    fn drop(&mut self) {
        if let Some(upload) = self.uploads.lock().get_mut(&self.upload.meta.id) {
            upload.is_completing = false;
        }
    }
}

fn recover(folder: &Path) -> io::Result<Upload> {
    let meta: UploadMeta = files::read_document(&folder.join(NOTE))?;
    let mut parts: Vec<PartMeta> = Vec::new();
    let mut contents = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        match path.extension().and_then(|e| e.to_str()) {
            Some("json") if !path.ends_with(NOTE) => {
                parts.push(files::read_document(&path)?);
            }
            Some("part") => contents.push(path),
            _ => {}
        }
    }
    for path in contents {
        let is_noted = parts.iter().any(|part| path.ends_with(&part.file));
        if !is_noted {
            files::remove_file(&path)?;
        }
    }
    Ok(Upload::new(meta, parts))
}

fn no_such_upload() -> s3s::S3Error {
    s3_error!(
        NoSuchUpload,
        "The specified multipart upload does not exist. The upload ID may be invalid, or the upload may have been aborted or completed."
    )
}
