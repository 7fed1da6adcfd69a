//! What artifacts belong to: one recording of one meeting at one provider.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Who sends events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Provider {
    /// 100ms.
    Hms,
    /// MeetingBaaS, both API versions.
    MeetingBaas,
    /// Daily.
    Daily,
    /// Dyte.
    Dyte,
    /// Cloudflare RealtimeKit, Dyte's successor.
    RealtimeKit,
    /// Nobody: a URL that an operator gave by hand.
    Adhoc,
    /// One that the configuration defines, by its name: only [`Provider::named`] makes it.
    Custom(&'static str),
}

/// Names of user-defined providers that one process ever learns: they are kept for good, so there has to be a
/// number.
const CUSTOM_MAX: usize = 256;

/// The longest name of a user-defined provider: it becomes a part of keys.
const CUSTOM_NAME_MAX_BYTES: usize = 64;

static CUSTOM_NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());

impl Provider {
    /// The providers that send webhooks.
    pub const ALL: [Provider; 5] = [
        Provider::Hms,
        Provider::MeetingBaas,
        Provider::Daily,
        Provider::Dyte,
        Provider::RealtimeKit,
    ];

    /// The public name, as it stands in JSON, keys and the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Provider::Hms => "100ms",
            Provider::MeetingBaas => "meetingbaas",
            Provider::Daily => "daily",
            Provider::Dyte => "dyte",
            Provider::RealtimeKit => "realtimekit",
            Provider::Adhoc => "adhoc",
            Provider::Custom(name) => name,
        }
    }

    /// The provider of that public name, if this process knows it: built-in, or named before.
    pub fn parse(name: &str) -> Option<Provider> {
        let custom = || {
            let names = CUSTOM_NAMES.lock().unwrap_or_else(PoisonError::into_inner);
            names.get(name).map(|name| Provider::Custom(name))
        };
        Provider::built_in(name).or_else(custom)
    }

    /// The built-in provider of that public name.
    pub fn built_in(name: &str) -> Option<Provider> {
        Provider::ALL
            .into_iter()
            .chain([Provider::Adhoc])
            .find(|provider| provider.as_str() == name)
    }

    /// The provider of that public name, as configurations and stores name it: a new name is that of a
    /// user-defined provider. `None` when it can be none (letters, digits, dashes and underscores, at most
    /// 64), or when there are 256 already.
    pub fn named(name: &str) -> Option<Provider> {
        if let Some(known) = Provider::parse(name) {
            return Some(known);
        }
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        let is_name =
            (1..=CUSTOM_NAME_MAX_BYTES).contains(&name.len()) && name.bytes().all(is_plain);
        let mut names = CUSTOM_NAMES.lock().unwrap_or_else(PoisonError::into_inner);
        if !is_name || names.len() >= CUSTOM_MAX {
            return None;
        }
        let name: &'static str = Box::leak(name.to_owned().into_boxed_str());
        names.insert(name);
        Some(Provider::Custom(name))
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Provider {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Provider {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Provider::named(&name).ok_or_else(|| {
            serde::de::Error::custom(
                "expected the name of a provider: letters, digits, dashes and underscores",
            )
        })
    }
}

/// The ids and times of a recording as the provider's event tells them; `None` where it does not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recording {
    /// The provider's id of the recording.
    pub recording_id: Option<String>,
    /// The provider's id of the bot that recorded (MeetingBaaS).
    pub bot_id: Option<String>,
    /// The provider's id of the session or meeting instance.
    pub session_id: Option<String>,
    /// The provider's id of the room.
    pub room_id: Option<String>,
    /// The room's name or the meeting's title: guests choose it, so it is only ever data.
    pub room_name: Option<String>,
    /// When the meeting or the recording of it began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
}

impl Recording {
    /// What events of one recording have in common: the recording id, else the bot id, else the
    /// session id. `None` when the event names none of them and stands alone.
    pub fn identity(&self) -> Option<&str> {
        [&self.recording_id, &self.bot_id, &self.session_id]
            .into_iter()
            .find_map(|id| id.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_ones_own_is_learned_once_and_only_if_it_is_one() {
        let zoom = Provider::named("zoom-test").unwrap();
        assert_eq!(zoom.as_str(), "zoom-test");
        assert_eq!(Provider::parse("zoom-test"), Some(zoom));
        assert_eq!(Provider::named("daily"), Some(Provider::Daily));
        assert_eq!(Provider::parse("never-named"), None);
        for name in ["", "a/b", "a b", "..", "\u{fc}", &"x".repeat(65)] {
            assert_eq!(Provider::named(name), None, "{name}");
        }
        let read: Provider = serde_json::from_str("\"zoom-test\"").unwrap();
        assert_eq!(read, zoom);
    }
}
