//! Who may read what the embedded server keeps.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use recording_harvester::object::{ObjectAttributes, ObjectStore as _, WriteEnd};

use crate::harness::s3::{direct_store, payload, start_embedded};

// S18
#[tokio::test]
async fn recordings_are_private_also_in_a_folder_that_was_there_and_is_open() {
    let parent = tempfile::tempdir().unwrap();
    let root = parent.path().join("s3");
    std::fs::create_dir(&root).unwrap();
    std::fs::set_permissions(&root, std::fs::Permissions::from_mode(0o755)).unwrap();
    let server = start_embedded(&root).await;
    let store = direct_store(&server).await;
    let written = store
        .put(
            "daily/r/chat.csv",
            &payload(b"a,b"),
            &ObjectAttributes::default(),
            None,
        )
        .await;
    assert_eq!(written.unwrap(), WriteEnd::Done);
    server.stop().await;
    let mut files = 0;
    check(&root, &mut files);
    assert!(files > 1, "the object and the server's own files");
}

/// Nobody but the owner may read a file below `folder`, or list a folder below it.
fn check(folder: &Path, files: &mut usize) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let metadata = std::fs::metadata(&path).unwrap();
        let mode = metadata.permissions().mode() & 0o077;
        assert_eq!(mode, 0, "{} is {mode:o} to others", path.display());
        if metadata.is_dir() {
            check(&path, files);
        } else {
            *files += 1;
        }
    }
}
