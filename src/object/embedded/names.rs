//! Where an object's content lies on disk: under its own name wherever that is safe, so that a person
//! finds it, otherwise under a hash. The index knows which, so nothing has to be read back from a name.

use std::path::PathBuf;

/// The folder inside a bucket for keys that can't be file names. A segment of a plain path never begins
/// with a dot, so no key leads here.
const ODD_FOLDER: &str = ".keys";

/// Below the 255 bytes that file systems allow, with room for what a copy tool may append.
const SEGMENT_MAX_BYTES: usize = 200;

/// S3's own limit of a key in bytes.
pub(super) const KEY_MAX_BYTES: usize = 1024;

/// The path of `key` inside its bucket's folder when each segment of it is an ordinary file name.
pub(super) fn plain_path(key: &str) -> Option<PathBuf> {
    key.split('/').all(is_ordinary).then(|| PathBuf::from(key))
}

/// The path of a key that has no plain one, or whose plain one is taken by another key: `a` and `a/b`,
/// or `A` and `a` on a file system that ignores case.
pub(super) fn odd_path(key: &str) -> PathBuf {
    PathBuf::from(ODD_FOLDER).join(hash(key))
}

/// A name for `key` that every file system takes.
pub(super) fn hash(key: &str) -> String {
    hex::encode(aws_lc_rs::digest::digest(
        &aws_lc_rs::digest::SHA256,
        key.as_bytes(),
    ))
}

fn is_ordinary(segment: &str) -> bool {
    let has_odd_character = segment
        .chars()
        .any(|c| c.is_control() || matches!(c, '\\' | ':' | '*' | '?' | '"' | '<' | '>' | '|'));
    !segment.is_empty()
        && segment.len() <= SEGMENT_MAX_BYTES
        && !segment.starts_with('.')
        && !segment.ends_with(['.', ' '])
        && !has_odd_character
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Component;

    #[test]
    fn an_ordinary_key_is_its_own_path() {
        for key in ["a", "daily/2026/03/02/s/r/recording.mp4", "a b/ü.txt"] {
            assert_eq!(plain_path(key), Some(PathBuf::from(key)));
        }
    }

    #[test]
    fn a_key_that_could_leave_its_folder_has_no_plain_path() {
        let long = "x".repeat(256);
        for key in [
            "",
            "/",
            "/etc/passwd",
            "..",
            "../x",
            "a/../b",
            "a/./b",
            "a//b",
            "a/",
            ".meta/x",
            "a\\..\\b",
            "a\0b",
            "C:/x",
            "a.",
            long.as_str(),
        ] {
            assert_eq!(plain_path(key), None, "{key}");
            let odd = odd_path(key);
            assert!(odd.components().all(|c| matches!(c, Component::Normal(_))));
            assert_eq!(odd.components().count(), 2);
        }
    }
}
