//! Names in the bucket: a pure function of the configuration's template, the recording and the artifact.
//!
//! Keys are made of ids, never of room or file names that a guest can choose; each variable is
//! reduced to safe characters and a length, so that a key can neither leave its folder nor
//! exceed S3's 1,024 bytes.

use jiff::Timestamp;
use jiff::civil::Date;

use super::recording::{Provider, Recording};
use crate::error::{Error, Result};

/// The template when the configuration names none. Sources may have different owners, so each has a folder of its own:
/// who knows an id of another's recording must not get into the folder of that.
pub const DEFAULT_TEMPLATE: &str = "{source}/{yyyy}/{mm}/{dd}/{session}/{recording}/{name}";

/// Characters that one variable may take at most.
const VARIABLE_MAX_CHARS: usize = 100;

const VARIABLES: [&str; 8] = [
    "source",
    "provider",
    "yyyy",
    "mm",
    "dd",
    "session",
    "recording",
    "name",
];

/// How folders are named: a prefix and a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    prefix: String,
    template: String,
}

/// The folder of a recording before its date is fixed.
///
/// The date is the store's to fix (the first event of a session decides), so `{yyyy}`, `{mm}` and
/// `{dd}` are still in the pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    /// The folder's path with the date's variables in it, without a slash at the end.
    pub pattern: String,
    /// The date that this event would give it.
    pub date: Date,
}

impl Layout {
    /// Checks the template: it must end in `/{name}`, hold `{recording}`, and name no variable that
    /// does not exist.
    pub fn new(prefix: &str, template: &str) -> Result<Layout> {
        if !template.ends_with("/{name}") || template.matches("{name}").count() != 1 {
            return Err(Error::invalid(
                "archive.template must end in \"/{name}\" and hold it once",
            ));
        }
        if !template.contains("{recording}") {
            return Err(Error::invalid("archive.template must hold {recording}"));
        }
        let mut rest = template;
        while let Some(open) = rest.find('{') {
            let close = rest[open..].find('}').map_or(rest.len(), |at| open + at);
            let variable = &rest[open + 1..close];
            if !VARIABLES.contains(&variable) {
                return Err(Error::invalid(format!(
                    "archive.template has the unknown variable {{{variable}}}, known are {}",
                    VARIABLES.join(", ")
                )));
            }
            rest = &rest[close..];
        }
        Ok(Layout {
            prefix: prefix.trim_matches('/').to_owned(),
            template: template.to_owned(),
        })
    }

    /// The folder for a recording that came through `source`. `dedupe_key` stands in for a recording without ids; the date is
    /// the meeting's start, else the event's time, else `received_at`.
    pub fn folder(
        &self,
        source: &str,
        provider: Provider,
        recording: &Recording,
        dedupe_key: &str,
        event_time: Option<Timestamp>,
        received_at: Timestamp,
    ) -> Folder {
        let identity = recording_variable(recording, dedupe_key);
        let session = recording
            .session_id
            .as_deref()
            .map(safe)
            .unwrap_or_default();
        let folder = self.template.trim_end_matches("/{name}");
        let segments = folder
            .split('/')
            .map(|segment| {
                segment
                    .replace("{source}", &safe(source))
                    .replace("{provider}", &safe(provider.as_str()))
                    .replace("{session}", &session)
                    .replace("{recording}", &identity)
            })
            .filter(|segment| !segment.is_empty());
        let prefix = (!self.prefix.is_empty()).then(|| self.prefix.clone());
        let pattern = prefix
            .into_iter()
            .chain(segments)
            .collect::<Vec<_>>()
            .join("/");
        let instant = recording.started_at.or(event_time).unwrap_or(received_at);
        let date = instant.to_zoned(jiff::tz::TimeZone::UTC).date();
        Folder { pattern, date }
    }
}

impl Folder {
    /// The folder's path on `date`.
    pub fn on(&self, date: Date) -> String {
        self.pattern
            .replace("{yyyy}", &format!("{:04}", date.year()))
            .replace("{mm}", &format!("{:02}", date.month()))
            .replace("{dd}", &format!("{:02}", date.day()))
    }

    /// The folder's path on its own date.
    pub fn path(&self) -> String {
        self.on(self.date)
    }
}

/// The `{recording}` variable: what makes two events belong to one recording.
pub fn recording_variable(recording: &Recording, dedupe_key: &str) -> String {
    match recording.identity() {
        Some(identity) => safe(identity),
        None => format!("event-{}", short_hash(dedupe_key.as_bytes())),
    }
}

/// The first 16 hex digits of SHA-256: short enough for a name, long enough not to collide.
pub fn short_hash(bytes: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    hex::encode(&digest.as_ref()[..8])
}

/// `text` as one path segment: letters, digits and `-_.` stay, everything else becomes `_`.
/// Where that changed or cut something, a hash of the original keeps two names apart.
pub fn safe(text: &str) -> String {
    let cleaned: String = text
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || "-_.".contains(c) {
                c
            } else {
                '_'
            }
        })
        .collect();
    let is_dots = cleaned.chars().all(|c| c == '.');
    if cleaned == text && cleaned.len() <= VARIABLE_MAX_CHARS && !is_dots {
        return cleaned;
    }
    let kept: String = cleaned
        .trim_matches('.')
        .chars()
        .take(VARIABLE_MAX_CHARS - 17)
        .collect();
    format!("{kept}-{}", short_hash(text.as_bytes()))
        .trim_start_matches('-')
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recording(id: Option<&str>, session: Option<&str>) -> Recording {
        Recording {
            recording_id: id.map(str::to_owned),
            session_id: session.map(str::to_owned),
            started_at: Some("2026-03-02T10:00:00Z".parse().unwrap()),
            ..Recording::default()
        }
    }

    fn path(prefix: &str, recording: &Recording) -> String {
        path_of("hms-eu", DEFAULT_TEMPLATE, prefix, recording)
    }

    fn path_of(source: &str, template: &str, prefix: &str, recording: &Recording) -> String {
        let layout = Layout::new(prefix, template).unwrap();
        layout
            .folder(
                source,
                Provider::Hms,
                recording,
                "key",
                None,
                "2026-03-03T00:00:00Z".parse().unwrap(),
            )
            .path()
    }

    #[test]
    fn the_default_layout() {
        assert_eq!(
            path("", &recording(Some("r"), Some("s"))),
            "hms-eu/2026/03/02/s/r"
        );
        assert_eq!(
            path("/a/b/", &recording(Some("r"), None)),
            "a/b/hms-eu/2026/03/02/r"
        );
        assert_eq!(
            path("", &recording(None, Some("s"))),
            "hms-eu/2026/03/02/s/s"
        );
    }

    #[test]
    fn an_event_without_ids_is_a_recording_of_its_own() {
        let path = path("", &recording(None, None));
        assert_eq!(
            path,
            format!("hms-eu/2026/03/02/event-{}", short_hash(b"key"))
        );
    }

    // S10
    #[test]
    fn each_source_has_a_folder_of_its_own() {
        let recording = recording(Some("r"), Some("s"));
        let names = [
            "tenant-a", "tenant-b", "Tenant-a", "a b", "a_b", "a/b", "../a", "..", "a\u{e9}",
            "a\u{e8}",
        ];
        let folders: std::collections::BTreeSet<_> = names
            .iter()
            .map(|source| path_of(source, DEFAULT_TEMPLATE, "", &recording))
            .collect();
        assert_eq!(folders.len(), names.len(), "{folders:?}");
        for folder in &folders {
            assert_eq!(folder.split('/').count(), 6, "{folder}");
            assert!(folder.ends_with("/2026/03/02/s/r"), "{folder}");
        }
        let chosen = "{provider}/{source}/{recording}/{name}";
        assert_eq!(
            path_of("tenant-a", chosen, "p", &recording),
            "p/100ms/tenant-a/r"
        );
    }

    #[test]
    fn hostile_ids_stay_one_segment() {
        for id in [
            "../../etc/passwd",
            "..",
            ".",
            "",
            "a/b",
            "a\\b",
            "\u{202e}x",
            "{yyyy}",
            &"x".repeat(5000),
        ] {
            let name = safe(id);
            assert!(
                !name.is_empty() && name.len() <= VARIABLE_MAX_CHARS,
                "{name}"
            );
            assert!(
                !name.contains(['/', '\\', '{']) && name != ".." && name != ".",
                "{name}"
            );
        }
        assert_ne!(safe("a/b"), safe("a\\b"));
    }

    #[test]
    fn a_bad_template_is_refused_with_the_reason() {
        for (template, reason) in [
            ("{provider}/{recording}", "must end in"),
            ("{provider}/{name}", "must hold {recording}"),
            ("{room}/{recording}/{name}", "unknown variable {room}"),
        ] {
            let error = Layout::new("", template).unwrap_err();
            assert!(error.to_string().contains(reason), "{error}");
        }
    }
}
