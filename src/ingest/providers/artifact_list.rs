//! The files of one event or answer on their way to being artifacts: names, identities, deadlines.

use std::collections::HashSet;

use jiff::Timestamp;

use crate::error::Class;
use crate::ingest::providers::draft::{EventContent, hash};
use crate::ingest::providers::fields::Location;
use crate::model::artifact::free_name;
use crate::model::{
    Artifact, Deadline, DeadlineFrom, Format, Kind, Lookup, Origin, ProviderFailure,
};
use crate::signed_url::{SignedUrl, UrlScheme, path_identity, read_signature, url_deadline};

/// What is known about a file besides where it is.
#[derive(Clone, Debug)]
pub(super) struct File {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) format: Format,
    pub(super) size_bytes: Option<u64>,
    pub(super) remint: Option<Lookup>,
}

impl File {
    pub(super) fn new(name: impl Into<String>, kind: Kind, format: Format) -> File {
        File {
            name: name.into(),
            kind,
            format,
            size_bytes: None,
            remint: None,
        }
    }

    pub(super) fn sized(mut self, size_bytes: Option<u64>) -> File {
        self.size_bytes = size_bytes;
        self
    }

    pub(super) fn with_remint(mut self, remint: Option<Lookup>) -> File {
        self.remint = remint;
        self
    }
}

/// What is known about the life of a URL besides its own query.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Life {
    /// The end as a field of the event or answer tells it.
    pub(super) field: Option<Timestamp>,
    /// The end by the provider's shortest documented lifetime.
    pub(super) documented: Option<Timestamp>,
    /// Whether the documentation says that this URL is signed. Of one that it does not, the documented
    /// lifetime counts only when the URL visibly carries a signature that can't be read.
    pub(super) is_signed: bool,
}

impl Life {
    pub(super) fn deadline(self, url: &SignedUrl) -> Deadline {
        let of =
            |at: Option<Timestamp>, from| at.map_or(Deadline::NONE, |at| Deadline::at(at, from));
        let known = of(self.field, DeadlineFrom::Field).earliest(url_deadline(url.expose()));
        if known.at.is_some() {
            return known;
        }
        let signature = read_signature(url.expose());
        let is_signed = self.is_signed || signature.scheme != UrlScheme::None;
        let documented = self.documented.filter(|_| is_signed);
        known.earliest(of(documented, DeadlineFrom::Documented))
    }
}

/// No event names more files: a meeting of hundreds with a track each fits, an attempt to make us count
/// does not.
const FILES_MAX: usize = 1_000;

/// The files of one event or answer: names and identities are unique on it.
pub(super) struct ArtifactList {
    artifacts: Vec<Artifact>,
    names: HashSet<String>,
    identities: HashSet<String>,
    /// How many files it takes.
    most: usize,
    is_overfull: bool,
}

impl Default for ArtifactList {
    /// For an event, which anybody may have written: its number of files is limited.
    fn default() -> ArtifactList {
        ArtifactList::of_at_most(FILES_MAX)
    }
}

impl ArtifactList {
    /// For what a provider's API answers: its length in bytes is limit enough, and every file of it counts.
    pub(super) fn of_answer() -> ArtifactList {
        ArtifactList::of_at_most(usize::MAX)
    }

    fn of_at_most(most: usize) -> ArtifactList {
        ArtifactList {
            artifacts: Vec::new(),
            names: HashSet::new(),
            identities: HashSet::new(),
            most,
            is_overfull: false,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.artifacts.is_empty()
    }

    pub(super) fn into_artifacts(self) -> Vec<Artifact> {
        self.artifacts
    }

    /// What an event with these files and `failures` says.
    pub(super) fn into_says(self, failures: Vec<ProviderFailure>) -> EventContent {
        if self.is_overfull {
            return EventContent::unreadable(format!(
                "the event names more than {FILES_MAX} files"
            ));
        }
        EventContent::Files(self.artifacts, failures)
    }

    /// A file behind a URL, by its path: a fresh signature of it is the same artifact.
    pub(super) fn put(&mut self, location: Location, file: File, life: Life) {
        let identity = match &location {
            Location::Missing => return,
            Location::Url(url) => path_identity(file.kind.as_str(), url),
            Location::Unusable(_) => format!("unusable:{}", file.name),
        };
        self.put_as(identity, location, file, life);
    }

    /// A file behind a URL, by an identity that outlives even its path.
    pub(super) fn put_as(&mut self, identity: String, location: Location, file: File, life: Life) {
        let (origin, deadline) = match location {
            Location::Missing => return,
            Location::Unusable(why) => (Origin::Unusable(Class::Invalid, why), Deadline::NONE),
            Location::Url(url) => {
                let deadline = life.deadline(&url);
                (Origin::Url(url), deadline)
            }
        };
        self.push(identity, origin, deadline, file);
    }

    /// A file behind a URL that `remint` can give again: its question is what makes the file the same, whatever
    /// host and path its answers name. `what` tells several files of one question apart.
    pub(super) fn put_of(&mut self, what: &str, location: Location, file: File, life: Life) {
        match &file.remint {
            Some(ask) => {
                let identity = format!("{}:{}:{what}", ask.call, ask.id);
                self.put_as(identity, location, file, life);
            }
            None => self.put(location, file, life),
        }
    }

    /// A file whose bytes are here.
    pub(super) fn put_inline(&mut self, content: String, file: File) {
        let identity = format!("inline:{}:{}", file.name, hash(content.as_bytes()));
        self.put_inline_as(identity, content, file);
    }

    /// A file whose bytes are here, by an identity that another telling of it shares.
    pub(super) fn put_inline_as(&mut self, identity: String, content: String, file: File) {
        let file = file.sized(Some(content.len() as u64));
        self.push(identity, Origin::Inline(content), Deadline::NONE, file);
    }

    /// A file that must be asked for.
    pub(super) fn put_lookup(&mut self, lookup: Lookup, file: File) {
        let identity = format!("lookup:{}:{}", lookup.call, lookup.id);
        self.put_lookup_as(identity, lookup, file);
    }

    /// A file that must be asked for. By custom the identity is `lookup:` and what the identities of the files
    /// begin with that the answer names: so a file that came otherwise is recognised before anybody asks.
    pub(super) fn put_lookup_as(&mut self, identity: String, lookup: Lookup, file: File) {
        self.push(identity, Origin::Lookup(lookup), Deadline::NONE, file);
    }

    /// A file of which the provider's answer says that there is none.
    pub(super) fn put_lost(&mut self, identity: String, why: String, file: File) {
        let origin = Origin::Unusable(Class::ProviderFailed, why);
        self.push(identity, origin, Deadline::NONE, file);
    }

    /// A file that is in a storage to which no URL leads.
    pub(super) fn put_out_of_reach(&mut self, identity: String, why: String, file: File) {
        let origin = Origin::Unusable(Class::Denied, why);
        self.push(identity, origin, Deadline::NONE, file);
    }

    /// A file whose origin and deadline are known.
    pub(super) fn push(
        &mut self,
        identity: String,
        origin: Origin,
        deadline: Deadline,
        file: File,
    ) {
        let is_double = |a: &Artifact| a.identity == identity && a.origin == origin;
        if self.identities.contains(&identity) && self.artifacts.iter().any(is_double) {
            return;
        }
        if self.artifacts.len() >= self.most {
            self.is_overfull = true;
            return;
        }
        // Two files may differ in nothing but the query (`/download?id=1`, `/download?id=2`).
        let identity = free_name(&identity, |taken| self.identities.contains(taken));
        let name = free_name(&file.name, |taken| self.names.contains(taken));
        self.identities.insert(identity.clone());
        self.names.insert(name.clone());
        self.artifacts.push(Artifact {
            identity,
            name,
            kind: file.kind,
            format: file.format,
            origin,
            remint: file.remint,
            deadline,
            size_bytes: file.size_bytes,
        });
    }
}

/// Extension and format of a file whose sort is known but not its writing: as the URL's path says, also where
/// the format is none of ours; `usual` where it says nothing.
pub(super) fn extension_of(location: &Location, usual: Format) -> (String, Format) {
    let path = match location {
        Location::Url(url) => url.path(),
        Location::Missing | Location::Unusable(_) => String::new(),
    };
    if let Some(format) = path_format(&path) {
        return (format.extension().to_owned(), format);
    }
    let file = path.rsplit('/').next().unwrap_or_default();
    match file.rsplit_once('.') {
        Some((_, extension))
            if (1..=5).contains(&extension.len())
                && extension.bytes().all(|b| b.is_ascii_alphanumeric()) =>
        {
            (extension.to_ascii_lowercase(), Format::Bin)
        }
        _ => (usual.extension().to_owned(), usual),
    }
}

/// The format that the URL's path names by its extension.
pub(super) fn format_of(location: &Location) -> Option<Format> {
    match location {
        Location::Url(url) => path_format(&url.path()),
        Location::Missing | Location::Unusable(_) => None,
    }
}

/// The format that a path names by its extension.
pub(super) fn path_format(path: &str) -> Option<Format> {
    let (_, file) = path.rsplit_once('/').unwrap_or(("", path));
    let (_, extension) = file.rsplit_once('.')?;
    Format::from_extension(extension)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Location {
        Location::Url(SignedUrl::usable(text).unwrap())
    }

    fn file() -> File {
        File::new("recording.mp4", Kind::Video, Format::Mp4)
    }

    #[test]
    fn doubles_are_one_and_twins_are_two() {
        let mut shelf = ArtifactList::default();
        shelf.put(url("https://h/dl?id=1"), file(), Life::default());
        shelf.put(url("https://h/dl?id=1"), file(), Life::default());
        shelf.put(url("https://h/dl?id=2"), file(), Life::default());
        shelf.put(Location::Missing, file(), Life::default());
        let artifacts = shelf.into_artifacts();
        let names: Vec<_> = artifacts.iter().map(|a| a.name.as_str()).collect();
        assert_eq!(names, ["recording.mp4", "recording-2.mp4"]);
        assert_ne!(artifacts[0].identity, artifacts[1].identity);
    }

    #[test]
    fn a_flood_of_files_is_refused_whole() {
        let mut shelf = ArtifactList::default();
        for n in 0..FILES_MAX + 1 {
            shelf.put(
                url(&format!("https://h/dl?id={n}")),
                file(),
                Life::default(),
            );
        }
        assert!(matches!(
            shelf.into_says(Vec::new()),
            EventContent::Unknown(Some(_))
        ));
    }

    #[test]
    fn an_extension_that_we_do_not_know_is_kept() {
        for (text, expected) in [
            ("https://h/a.mp3?x", ("mp3", Format::Mp3)),
            ("https://h/a.AAC?x=a.wav", ("aac", Format::Bin)),
            ("https://h/a", ("wav", Format::Wav)),
            ("https://h.com", ("wav", Format::Wav)),
        ] {
            let (extension, format) = extension_of(&url(text), Format::Wav);
            assert_eq!((extension.as_str(), format), expected, "{text}");
        }
    }

    #[test]
    fn a_fresh_signature_is_the_same_artifact() {
        let identity = |text: &str| {
            let mut shelf = ArtifactList::default();
            shelf.put(url(text), file(), Life::default());
            shelf.into_artifacts().remove(0).identity
        };
        assert_eq!(
            identity("https://h/a.mp4?sig=1"),
            identity("https://h/a.mp4?sig=2")
        );
        assert_ne!(identity("https://h/a.mp4"), identity("https://h/b.mp4"));
    }

    #[test]
    fn the_documented_life_counts_only_when_nothing_else_speaks() {
        let at = |text: &str| Some(text.parse::<Timestamp>().unwrap());
        let signed = "https://h/k?X-Amz-Date=20260302T103320Z&X-Amz-Expires=3600&X-Amz-Signature=0";
        let garbled = "https://h/k?X-Amz-Date=20260302T103320Z&X-Amz-Expires=x&X-Amz-Signature=0";
        let plain = "https://h/k";
        let (hour, early, late) = (
            at("2026-03-02T11:33:20Z"),
            at("2026-03-02T11:00:00Z"),
            at("2026-03-09T00:00:00Z"),
        );
        for (text, field, is_signed, expected, from) in [
            (signed, None, true, hour, DeadlineFrom::Query),
            (signed, early, true, early, DeadlineFrom::Field),
            (signed, late, true, hour, DeadlineFrom::Query),
            (plain, late, true, late, DeadlineFrom::Field),
            (
                plain,
                None,
                true,
                at("2026-03-02T22:00:00Z"),
                DeadlineFrom::Documented,
            ),
            (plain, None, false, None, DeadlineFrom::None),
            (
                garbled,
                None,
                false,
                at("2026-03-02T22:00:00Z"),
                DeadlineFrom::Documented,
            ),
        ] {
            let life = Life {
                field,
                documented: at("2026-03-02T22:00:00Z"),
                is_signed,
            };
            let deadline = life.deadline(&SignedUrl::new(text));
            assert_eq!(
                (deadline.at, deadline.from),
                (expected, from),
                "{text} {field:?}"
            );
        }
    }
}
