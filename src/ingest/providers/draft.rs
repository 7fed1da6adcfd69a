//! What an adapter makes of an event before it is one: the files on a shelf, and what the event says.

use jiff::Timestamp;

use super::fields::Location;
use crate::error::Class;
use crate::model::artifact::free_name;
use crate::model::{
    Artifact, Deadline, DeadlineFrom, Event, EventClass, Format, Kind, Lookup, Origin, Provider,
    ProviderFailure, Recording,
};
use crate::signed_url::{SignedUrl, redact_urls, url_deadline};

/// An event as its provider's adapter has read it.
pub(super) struct Draft {
    pub(super) event_id: Option<String>,
    pub(super) event_type: Option<String>,
    pub(super) dedupe_key: String,
    pub(super) event_time: Option<Timestamp>,
    pub(super) recording: Recording,
    pub(super) says: Says,
}

/// What an event says.
pub(super) enum Says {
    /// Are you there?
    Handshake,
    /// Nothing that concerns an archive.
    Nothing,
    /// Something that we can't make out; for a known type, why.
    Unknown(Option<String>),
    /// Here are files, here are losses.
    Files(Vec<Artifact>, Vec<ProviderFailure>),
}

impl Says {
    /// A loss and no file.
    pub(super) fn loss(failure: ProviderFailure) -> Says {
        Says::Files(Vec::new(), vec![failure])
    }

    /// A known type that can't be read.
    pub(super) fn unreadable(why: impl Into<String>) -> Says {
        Says::Unknown(Some(why.into()))
    }
}

impl Draft {
    /// The event; `redacted` is its raw form without secrets.
    pub(super) fn finish(self, provider: Provider, redacted: String) -> Event {
        let (class, artifacts, failures, alert) = match self.says {
            Says::Handshake => (EventClass::Handshake, Vec::new(), Vec::new(), None),
            Says::Nothing => (EventClass::Ignored, Vec::new(), Vec::new(), None),
            Says::Unknown(alert) => (EventClass::Unknown, Vec::new(), Vec::new(), alert),
            Says::Files(artifacts, failures) => {
                let class = class_of(&artifacts, &failures);
                let alert = (class == EventClass::Unknown).then(|| {
                    format!(
                        "the event names no file and no loss: {}",
                        self.event_type.as_deref().unwrap_or("no type")
                    )
                });
                (class, artifacts, failures, alert)
            }
        };
        Event {
            provider,
            event_id: self.event_id,
            event_type: self.event_type,
            dedupe_key: self.dedupe_key,
            class,
            event_time: self.event_time,
            recording: self.recording,
            artifacts,
            failures,
            alert,
            redacted,
        }
    }
}

fn class_of(artifacts: &[Artifact], failures: &[ProviderFailure]) -> EventClass {
    let is_lookup = |artifact: &Artifact| matches!(artifact.origin, Origin::Lookup(_));
    match (artifacts.is_empty(), failures.is_empty()) {
        (true, true) => EventClass::Unknown,
        (true, false) => EventClass::Failure,
        (false, false) => EventClass::ArtifactsAndFailure,
        (false, true) if artifacts.iter().all(is_lookup) => EventClass::Lookup,
        (false, true) => EventClass::Artifacts,
    }
}

/// A loss in the provider's words, which may quote a URL.
pub(super) fn loss(
    code: Option<String>,
    message: Option<String>,
    kind: Option<Kind>,
    loss_key: impl Into<String>,
) -> ProviderFailure {
    let message = message
        .or_else(|| code.clone())
        .unwrap_or_else(|| "the provider gave no reason".to_owned());
    ProviderFailure {
        class: Class::ProviderFailed,
        code,
        message: redact_urls(&message),
        kind,
        loss_key: loss_key.into(),
    }
}

/// A call of the provider's API, by its name in the adapter.
pub(super) fn lookup(call: &str, id: impl Into<String>) -> Lookup {
    Lookup {
        call: call.to_owned(),
        id: id.into(),
    }
}

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
    fn deadline(self, url: &SignedUrl) -> Deadline {
        let of =
            |at: Option<Timestamp>, from| at.map_or(Deadline::NONE, |at| Deadline::at(at, from));
        let known = of(self.field, DeadlineFrom::Field).earliest(url_deadline(url.expose()));
        if known.at.is_some() {
            return known;
        }
        let signature = crate::signed_url::read_signature(url.expose());
        let is_signed = self.is_signed || signature.scheme != crate::signed_url::Scheme::None;
        let documented = self.documented.filter(|_| is_signed);
        known.earliest(of(documented, DeadlineFrom::Documented))
    }
}

/// The files of one event or answer: names and identities are unique on it.
#[derive(Default)]
pub(super) struct Shelf(Vec<Artifact>);

impl Shelf {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn has(&self, kind: Kind) -> bool {
        self.0.iter().any(|artifact| artifact.kind == kind)
    }

    pub(super) fn into_artifacts(self) -> Vec<Artifact> {
        self.0
    }

    /// A file behind a URL, by its path: a fresh signature of it is the same artifact.
    pub(super) fn put(&mut self, location: Location, file: File, life: Life) {
        let identity = match &location {
            Location::Missing => return,
            Location::Url(url) => format!("url:{}:{}", file.kind.as_str(), url.path()),
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

    /// A file whose bytes are here.
    pub(super) fn put_inline(&mut self, content: String, file: File) {
        let identity = format!("inline:{}:{}", file.name, hash(content.as_bytes()));
        let file = file.sized(Some(content.len() as u64));
        self.push(identity, Origin::Inline(content), Deadline::NONE, file);
    }

    /// A file that must be asked for.
    pub(super) fn put_lookup(&mut self, lookup: Lookup, file: File) {
        let identity = format!("lookup:{}:{}", lookup.call, lookup.id);
        self.push(identity, Origin::Lookup(lookup), Deadline::NONE, file);
    }

    /// A file of which the provider's answer says that there is none.
    pub(super) fn put_lost(&mut self, identity: String, why: String, file: File) {
        let origin = Origin::Unusable(Class::ProviderFailed, why);
        self.push(identity, origin, Deadline::NONE, file);
    }

    fn push(&mut self, identity: String, origin: Origin, deadline: Deadline, file: File) {
        let is_double = |a: &Artifact| a.identity == identity && a.origin == origin;
        if self.0.iter().any(is_double) {
            return;
        }
        // Two files may differ in nothing but the query (`/download?id=1`, `/download?id=2`).
        let identity = free_name(&identity, |taken| {
            self.0.iter().any(|a| a.identity == taken)
        });
        let name = free_name(&file.name, |taken| self.0.iter().any(|a| a.name == taken));
        self.0.push(Artifact {
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

/// The dedupe key of an event without an id: its body. A retry repeats it byte for byte.
pub(super) fn body_key(parts: &[Option<&str>], body: &[u8]) -> String {
    let known: Vec<_> = parts.iter().flatten().copied().collect();
    format!("{}:{}", known.join(":"), hash(body))
}

/// SHA-256 in hex, whole: senders choose what goes in, so no shorter one will do.
pub(super) fn hash(bytes: &[u8]) -> String {
    hex::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes))
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
        let mut shelf = Shelf::default();
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
    fn a_fresh_signature_is_the_same_artifact() {
        let identity = |text: &str| {
            let mut shelf = Shelf::default();
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
