//! Whose account at the provider an event belongs to.
//!
//! Dyte and RealtimeKit sign the events of all their customers with one key: a good signature says that the provider
//! sent it, not that it is about us.

use secrecy::ExposeSecret;
use serde::Deserialize;

use crate::model::Provider;
use crate::model::api::Credentials;

/// The account that the API's credentials name, where they do: Dyte's are an organization's id and its key.
pub fn own_account(provider: Provider, credentials: &Credentials) -> Option<String> {
    if provider != Provider::Dyte {
        return None;
    }
    let key = credentials.api_key.as_ref()?.expose_secret();
    let id = match key.split_once(':') {
        Some((id, _)) => id,
        // Alone it is the id, and the secret is the key.
        None if credentials.api_secret.is_some() => key,
        None => return None,
    };
    (!id.is_empty()).then(|| id.to_owned())
}

/// The accounts that an event of `provider` names; empty where it names none, or can't be read.
pub fn accounts_in(provider: Provider, body: &[u8]) -> Vec<String> {
    if !matches!(provider, Provider::Dyte | Provider::RealtimeKit) {
        return Vec::new();
    }
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let event: EventOwners = serde_json::from_slice(body).unwrap_or_default();
    let organizer = |part: Option<Organizer>| part.and_then(|part| part.id);
    let meeting = event.meeting.unwrap_or_default();
    let named = [
        event
            .recording
            .and_then(|recording| recording.organization_id),
        organizer(meeting.organized_by),
        organizer(event.organized_by),
    ];
    named.into_iter().flatten().collect()
}

/// Where an event names its account.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct EventOwners {
    recording: Option<RecordingOwner>,
    meeting: Option<MeetingOwner>,
    organized_by: Option<Organizer>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RecordingOwner {
    organization_id: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct MeetingOwner {
    organized_by: Option<Organizer>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Organizer {
    id: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_events_account_is_read_wherever_it_stands() {
        let of = |body: &str| accounts_in(Provider::Dyte, body.as_bytes());
        assert_eq!(
            of(
                r#"{"recording":{"organizationId":"a"},"meeting":{"organizedBy":{"id":"b"},"x":[1]}}"#
            ),
            ["a", "b"]
        );
        assert_eq!(of(r#"{"organizedBy":{"id":"a","name":"x"}}"#), ["a"]);
        for none in ["", "{}", "[]", r#"{"meeting":null}"#, r#"{"meeting":7}"#] {
            assert!(of(none).is_empty(), "{none}");
        }
        assert!(accounts_in(Provider::Hms, br#"{"organizedBy":{"id":"a"}}"#).is_empty());
    }

    #[test]
    fn dytes_credentials_name_the_organization() {
        let of = |provider, key: &str, secret: Option<&str>| {
            let credentials = Credentials {
                api_key: Some(key.into()),
                api_secret: secret.map(Into::into),
                base_url: None,
            };
            own_account(provider, &credentials)
        };
        assert_eq!(of(Provider::Dyte, "org:key", None).as_deref(), Some("org"));
        assert_eq!(
            of(Provider::Dyte, "org", Some("key")).as_deref(),
            Some("org")
        );
        assert_eq!(of(Provider::Dyte, "key", None), None);
        assert_eq!(of(Provider::RealtimeKit, "a:b", None), None);
    }
}
