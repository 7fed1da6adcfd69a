//! Objects as plain files in a folder per bucket, with what else S3 knows of them beside, in `.meta`.
//!
//! An object is two files, so one of them has to decide. That is the metadata: it is written (synced,
//! renamed) while the content still lies in `.staged`, and it names the staged file; then the content
//! moves to its place. A crash in between is finished at the next start, a crash before leaves the old
//! object. An index of all metadata is held in memory, in the order in which S3 lists keys.
//!
//! Everything here blocks: callers come through `spawn_blocking`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::SystemTime;

use s3s::{S3Result, s3_error};
use serde::{Deserialize, Serialize};
use tempfile::{NamedTempFile, TempPath};

use super::conditions::WriteConditions;
use super::object_meta::ObjectMeta;
use super::{files, names};

/// The metadata file: the object and where its content is.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct ObjectEntry {
    object: ObjectMeta,
    /// Inside the bucket's folder.
    path: PathBuf,
    /// The name in `.staged` that the content has until it is moved to `path`.
    staged: String,
}

/// An object and the file that holds its content.
#[derive(Clone, Debug)]
struct Placed {
    object: Arc<ObjectMeta>,
    path: PathBuf,
    file: PathBuf,
}

type Keys = BTreeMap<String, Placed>;

/// All buckets under one root folder. One process at a time.
#[derive(Debug)]
pub(super) struct Disk {
    root: PathBuf,
    index: RwLock<BTreeMap<String, Keys>>,
    /// Held from the check of a condition to the commit, so that of two racing writers one loses.
    commit: Mutex<()>,
    _lock: File,
}

impl Disk {
    /// Opens the folder, finishes what a crash interrupted, and reads the index.
    pub(super) fn open(root: &Path) -> io::Result<Disk> {
        files::create_folders(root)?;
        let root = root.canonicalize()?;
        let lock = files::create_private(&root.join(".lock"))?;
        lock.try_lock().map_err(io::Error::from)?;
        files::remove_folder(&root.join(".tmp"))?;
        for folder in [".tmp", ".staged", ".meta"] {
            files::create_folders(root.join(folder))?;
        }
        let disk = Disk {
            index: RwLock::default(),
            commit: Mutex::default(),
            _lock: lock,
            root,
        };
        disk.recover()?;
        Ok(disk)
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Where files are written until they are whole.
    pub(super) fn scratch(&self) -> PathBuf {
        self.root.join(".tmp")
    }

    pub(super) fn buckets(&self) -> Vec<String> {
        self.read().keys().cloned().collect()
    }

    /// When a bucket's folder was made, where the file system tells.
    pub(super) fn created(&self, bucket: &str) -> Option<SystemTime> {
        let folder = self.root.join(bucket).metadata().ok()?;
        folder.created().or_else(|_| folder.modified()).ok()
    }

    pub(super) fn has_bucket(&self, bucket: &str) -> bool {
        self.read().contains_key(bucket)
    }

    /// Makes a bucket; says whether it is new.
    pub(super) fn create_bucket(&self, bucket: &str) -> io::Result<bool> {
        let _commit = self.committing();
        files::create_folders(self.root.join(bucket))?;
        files::create_folders(self.root.join(".meta").join(bucket))?;
        files::sync_folder(&self.root)?;
        let mut index = self.write();
        let is_new = !index.contains_key(bucket);
        index.entry(bucket.to_owned()).or_default();
        Ok(is_new)
    }

    pub(super) fn find(&self, bucket: &str, key: &str) -> S3Result<Option<Arc<ObjectMeta>>> {
        let index = self.read();
        let placed = keys(&index, bucket)?.get(key);
        // Somebody may have deleted the file by hand; then the object is not there, whatever we noted.
        Ok(placed
            .filter(|placed| is_whole(placed))
            .map(|placed| Arc::clone(&placed.object)))
    }

    /// The object with its content opened: what is read belongs to what is said, also while it is
    /// overwritten.
    pub(super) fn open_object(
        &self,
        bucket: &str,
        key: &str,
    ) -> S3Result<Option<(Arc<ObjectMeta>, File)>> {
        let index = self.read();
        let Some(placed) = keys(&index, bucket)?.get(key).filter(|p| is_whole(p)) else {
            return Ok(None);
        };
        let file = File::open(&placed.file).map_err(super::answers::io_error)?;
        Ok(Some((Arc::clone(&placed.object), file)))
    }

    /// Reads a bucket's objects in the order of their keys, from `from` on.
    pub(super) fn with_objects<T>(
        &self,
        bucket: &str,
        from: &str,
        read: impl FnOnce(&mut dyn Iterator<Item = &ObjectMeta>) -> T,
    ) -> S3Result<T> {
        let index = self.read();
        let range =
            keys(&index, bucket)?.range::<str, _>((Bound::Included(from), Bound::Unbounded));
        Ok(read(&mut range.map(|(_, placed)| placed.object.as_ref())))
    }

    /// Puts an object in its place if the conditions hold. `content` is synced already.
    pub(super) fn commit(
        &self,
        bucket: &str,
        content: NamedTempFile,
        object: ObjectMeta,
        conditions: &WriteConditions,
    ) -> S3Result<Arc<ObjectMeta>> {
        let _commit = self.committing();
        let current = self.find(bucket, &object.key)?;
        conditions.check(current.as_deref())?;
        self.place(bucket, content.into_temp_path(), object)
            .map_err(super::answers::io_error)
    }

    /// Removes an object; it may be gone already.
    pub(super) fn remove(&self, bucket: &str, key: &str) -> S3Result<()> {
        let _commit = self.committing();
        let Some(placed) = keys(&self.read(), bucket)?.get(key).cloned() else {
            return Ok(());
        };
        self.unplace(bucket, key, &placed)
            .map_err(super::answers::io_error)
    }

    fn place(
        &self,
        bucket: &str,
        content: TempPath,
        object: ObjectMeta,
    ) -> io::Result<Arc<ObjectMeta>> {
        let staged_folder = self.root.join(".staged");
        let meta_folder = self.root.join(".meta").join(bucket);
        let entry = ObjectEntry {
            path: self.choose_path(bucket, &object.key)?,
            staged: uuid::Uuid::now_v7().to_string(),
            object,
        };
        let staged = staged_folder.join(&entry.staged);
        content.persist(&staged)?;
        files::sync_folder(&staged_folder)?;
        let name = meta_name(&entry.object.key);
        let noted = files::write_document(&self.scratch(), &meta_folder, &name, &entry);
        if let Err(error) = noted {
            // Without a note the staged file belongs to nobody; the next start would remove it as well.
            let _ = fs::remove_file(&staged);
            return Err(error);
        }
        let mut index = self.write();
        let file = self.settle(bucket, &entry, &staged);
        let object = Arc::new(entry.object);
        let placed = Placed {
            object: Arc::clone(&object),
            path: entry.path,
            file,
        };
        if let Some(keys) = index.get_mut(bucket) {
            keys.insert(object.key.clone(), placed);
        }
        Ok(object)
    }

    /// Moves noted content to its place and says where it is now. The note has been made, so the object
    /// is there even if the move fails: then it is read from where it was staged, until the next start.
    fn settle(&self, bucket: &str, entry: &ObjectEntry, staged: &Path) -> PathBuf {
        let target = self.root.join(bucket).join(&entry.path);
        match fs::rename(staged, &target) {
            Ok(()) => target,
            Err(error) => {
                tracing::warn!(%error, file = %target.display(), "an object stays where it was staged");
                staged.to_owned()
            }
        }
    }

    /// The path for a key, its folder made: the one it has, else its plain one, else a hashed one.
    fn choose_path(&self, bucket: &str, key: &str) -> io::Result<PathBuf> {
        if let Some(placed) = self.read().get(bucket).and_then(|keys| keys.get(key)) {
            let folder = self.root.join(bucket).join(&placed.path);
            files::create_folders(folder.parent().unwrap_or(&self.root))?;
            return Ok(placed.path.clone());
        }
        let home = self.root.join(bucket);
        if let Some(plain) = names::plain_path(key) {
            let target = home.join(&plain);
            let has_folder = target
                .parent()
                .is_some_and(|p| files::create_folders(p).is_ok());
            // Something is there that is not this key: another key's folder, or another spelling.
            let is_taken = target.symlink_metadata().is_ok();
            if has_folder && !is_taken {
                return Ok(plain);
            }
        }
        let odd = names::odd_path(key);
        files::create_folders(home.join(&odd).parent().unwrap_or(&home))?;
        Ok(odd)
    }

    fn unplace(&self, bucket: &str, key: &str, placed: &Placed) -> io::Result<()> {
        let meta_folder = self.root.join(".meta").join(bucket);
        files::remove_file(&meta_folder.join(meta_name(key)))?;
        files::sync_folder(&meta_folder)?;
        if let Some(keys) = self.write().get_mut(bucket) {
            keys.remove(key);
        }
        files::remove_file(&placed.file)?;
        let home = self.root.join(bucket);
        let mut folder = placed.file.parent();
        while let Some(path) = folder.filter(|p| p.starts_with(&home) && **p != home) {
            // It stops at the first folder that still holds something.
            if fs::remove_dir(path).is_err() {
                break;
            }
            folder = path.parent();
        }
        Ok(())
    }

    /// A note that can't be read costs its own object only. It is put aside, so that the object's next write does not replace it, and
    /// nothing that was staged is removed any more: it may be that object's content.
    fn recover(&self) -> io::Result<()> {
        let mut is_damaged = false;
        for bucket in folder_names(&self.root)? {
            self.create_bucket(&bucket)?;
            let meta_folder = self.root.join(".meta").join(&bucket);
            for file in fs::read_dir(&meta_folder)? {
                let path = file?.path();
                if path.extension().is_some_and(|end| end == DAMAGED) {
                    is_damaged = true;
                    continue;
                }
                match files::read_document(&path) {
                    Ok(entry) => self.recover_object(&bucket, entry)?,
                    Err(error) => {
                        is_damaged = true;
                        put_aside(&path, &error);
                    }
                }
            }
        }
        if is_damaged {
            return Ok(());
        }
        for orphan in fs::read_dir(self.root.join(".staged"))? {
            let path = orphan?.path();
            if !self.is_in_use(&path) {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    fn recover_object(&self, bucket: &str, entry: ObjectEntry) -> io::Result<()> {
        let staged = self.root.join(".staged").join(&entry.staged);
        let target = self.root.join(bucket).join(&entry.path);
        let file = if staged.exists() {
            files::create_folders(target.parent().unwrap_or(&self.root))?;
            self.settle(bucket, &entry, &staged)
        } else {
            target
        };
        let placed = Placed {
            object: Arc::new(entry.object),
            path: entry.path,
            file,
        };
        if let Some(keys) = self.write().get_mut(bucket) {
            keys.insert(placed.object.key.clone(), placed);
        }
        Ok(())
    }

    fn is_in_use(&self, file: &Path) -> bool {
        let index = self.read();
        index
            .values()
            .flat_map(Keys::values)
            .any(|p| p.file == file)
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<String, Keys>> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<String, Keys>> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn committing(&self) -> MutexGuard<'_, ()> {
        self.commit.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn keys<'a>(index: &'a BTreeMap<String, Keys>, bucket: &str) -> S3Result<&'a Keys> {
    index
        .get(bucket)
        .ok_or_else(|| s3_error!(NoSuchBucket, "The specified bucket does not exist"))
}

fn is_whole(placed: &Placed) -> bool {
    placed
        .file
        .metadata()
        .is_ok_and(|on_disk| on_disk.len() == placed.object.size_bytes)
}

fn meta_name(key: &str) -> String {
    format!("{}.json", names::hash(key))
}

/// The ending of the name of a note that can't be read.
const DAMAGED: &str = "damaged";

fn put_aside(note: &Path, error: &io::Error) {
    let aside = note.with_extension(format!("json.{DAMAGED}"));
    tracing::error!(
        %error, bucket_note = %note.display(),
        "an object of the embedded archive is lost to its clients, since what is noted of it can't be read; its content \
         may still lie in the bucket's folder"
    );
    if let Err(error) = fs::rename(note, &aside) {
        tracing::warn!(%error, "failed to put it aside as {}", aside.display());
    }
}

/// The buckets: folders whose name does not begin with a dot.
fn folder_names(root: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type()?.is_dir() && !name.starts_with('.') {
            names.push(name);
        }
    }
    Ok(names)
}
