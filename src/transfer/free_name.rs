//! The names that an artifact may take in its folder: nothing of somebody else is overwritten.

use crate::error::{Class, Error, Result};
use crate::model::artifact::free_name;

/// Names that are tried before giving up.
const MAX_NAMES: usize = 20;

/// The planned key and the names that were found taken.
pub(super) struct FreeNames {
    folder: String,
    name: String,
    taken: Vec<String>,
}

impl FreeNames {
    /// The names for a planned key.
    pub(super) fn of(key: &str) -> FreeNames {
        let (folder, name) = match key.rsplit_once('/') {
            Some((folder, name)) => (format!("{folder}/"), name),
            None => (String::new(), key),
        };
        FreeNames {
            folder,
            name: name.to_owned(),
            taken: Vec::new(),
        }
    }

    /// The next key that was not found taken.
    pub(super) fn key(&self) -> String {
        format!("{}{}", self.folder, self.free())
    }

    /// Notes that somebody else's content is under the present key.
    pub(super) fn next(&mut self) -> Result<()> {
        if self.taken.len() >= MAX_NAMES {
            return Err(Error::new(
                Class::UploadFailed,
                format!(
                    "find a free name: {MAX_NAMES} names like {} are taken",
                    self.name
                ),
            ));
        }
        let taken = self.free();
        self.taken.push(taken);
        Ok(())
    }

    fn free(&self) -> String {
        free_name(&self.name, |name| {
            self.taken.iter().any(|taken| taken == name)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_name_is_followed_by_numbered_ones() {
        let mut names = FreeNames::of("a/b/recording.mp4");
        assert_eq!(names.key(), "a/b/recording.mp4");
        names.next().unwrap();
        assert_eq!(names.key(), "a/b/recording-2.mp4");
        names.next().unwrap();
        assert_eq!(names.key(), "a/b/recording-3.mp4");
        let mut endless = FreeNames::of("x");
        assert!((0..100).any(|_| endless.next().is_err()));
    }
}
