//! Files that are whole or not there: written aside, synced, then renamed.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tempfile::NamedTempFile;

/// A file in `folder` that removes itself unless it is persisted. Its mode is 0600: recordings are private also
/// where the folder was made by somebody else and is open.
pub(super) fn temporary(folder: &Path) -> io::Result<NamedTempFile> {
    NamedTempFile::new_in(folder)
}

/// Makes `folder` and those above it that are missing. Recordings are private: what we make is its owner's alone.
pub(super) fn create_folders(folder: impl AsRef<Path>) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt as _;
        builder.mode(0o700);
    }
    builder.create(folder)
}

/// Makes the file, or empties it, for its owner alone.
pub(super) fn create_private(path: &Path) -> io::Result<File> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    options.open(path)
}

/// Writes `document` as `folder/name`: after a crash the old or the new one is there.
pub(super) fn write_document(
    scratch: &Path,
    folder: &Path,
    name: &str,
    document: &impl Serialize,
) -> io::Result<()> {
    let mut file = temporary(scratch)?;
    file.write_all(&serde_json::to_vec(document)?)?;
    file.as_file().sync_data()?;
    file.persist(folder.join(name))?;
    sync_folder(folder)
}

pub(super) fn read_document<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    let text = fs::read(path)?;
    serde_json::from_slice(&text)
        .map_err(|error| io::Error::other(format!("{}: {error}", path.display())))
}

/// Makes the names in a folder as durable as the files.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Removes a file that may be gone already.
pub(super) fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Removes a folder and all in it; it may be gone already.
pub(super) fn remove_folder(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
