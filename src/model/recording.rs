//! What artifacts belong to: one recording of one meeting at one provider.

use std::fmt;

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
}

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
        }
    }

    /// The provider of that public name.
    pub fn parse(name: &str) -> Option<Provider> {
        Provider::ALL
            .into_iter()
            .chain([Provider::Adhoc])
            .find(|provider| provider.as_str() == name)
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
        Provider::parse(&name).ok_or_else(|| {
            serde::de::Error::custom(format!(
                "unknown provider `{name}`, expected one of 100ms, meetingbaas, daily, dyte, realtimekit"
            ))
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
