//! What `inspect --json` shows of an event or a URL: DESIGN's objects, without a secret in them.

use jiff::Timestamp;
use serde::Serialize;

use crate::error::Class;
use crate::model::{
    Artifact, DeadlineFrom, Event, EventClass, Format, Kind, Origin, Provider, ProviderFailure,
};
use crate::signed_url::{SignedUrl, read_signature, url_deadline};

/// An event as `inspect --json` shows it; the fields are in the documented order.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EventDescription {
    provider: Provider,
    event_id: Option<String>,
    event_type: Option<String>,
    class: EventClass,
    event_time: Option<Timestamp>,
    recording: RecordingDescription,
    artifacts: Vec<ArtifactDescription>,
    failure: Option<FailureDescription>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct RecordingDescription {
    id: Option<String>,
    session_id: Option<String>,
    room_id: Option<String>,
    room_name: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct ArtifactDescription {
    name: String,
    kind: Kind,
    format: Format,
    origin: &'static str,
    url: Option<String>,
    deadline: Option<Timestamp>,
    deadline_from: DeadlineFrom,
    size_bytes: Option<u64>,
    key: String,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct FailureDescription {
    class: Class,
    code: Option<String>,
    message: String,
}

/// A URL as `inspect --json` shows it; the fields are in the documented order.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct UrlDescription {
    url: String,
    scheme_of_signature: &'static str,
    signed_at: Option<Timestamp>,
    deadline: Option<Timestamp>,
    deadline_from: DeadlineFrom,
    verdict: &'static str,
    reason: Option<String>,
}

/// Describes `event`, whose recording would be archived under `folder_path` (with the prefix, without a
/// slash at the end).
pub fn describe_event(event: &Event, folder_path: &str) -> EventDescription {
    EventDescription {
        provider: event.provider,
        event_id: event.event_id.clone(),
        event_type: event.event_type.clone(),
        class: event.class,
        event_time: event.event_time,
        recording: RecordingDescription {
            id: event
                .recording
                .recording_id
                .clone()
                .or_else(|| event.recording.bot_id.clone()),
            session_id: event.recording.session_id.clone(),
            room_id: event.recording.room_id.clone(),
            room_name: event.recording.room_name.clone(),
        },
        artifacts: event
            .artifacts
            .iter()
            .map(|artifact| describe_artifact(artifact, folder_path))
            .collect(),
        failure: failure(event),
    }
}

fn describe_artifact(artifact: &Artifact, folder_path: &str) -> ArtifactDescription {
    ArtifactDescription {
        name: artifact.name.clone(),
        kind: artifact.kind,
        format: artifact.format,
        origin: artifact.origin.as_str(),
        url: match &artifact.origin {
            Origin::Url(url) => Some(url.to_string()),
            Origin::Lookup(_) | Origin::Inline(_) | Origin::Event | Origin::Unusable(..) => None,
        },
        deadline: artifact.deadline.at,
        deadline_from: artifact.deadline.from,
        size_bytes: artifact.size_bytes,
        key: format!("{folder_path}/{}", artifact.name),
    }
}

/// The provider's loss; without one, the first file that is named but can't be had, or why the event can't
/// be read.
fn failure(event: &Event) -> Option<FailureDescription> {
    let provider = event
        .failures
        .first()
        .map(|loss: &ProviderFailure| FailureDescription {
            class: loss.class,
            code: loss.code.clone(),
            message: loss.message.clone(),
        });
    let unusable = || {
        event
            .artifacts
            .iter()
            .find_map(|artifact| match &artifact.origin {
                Origin::Unusable(class, why) => Some(FailureDescription {
                    class: *class,
                    code: None,
                    message: format!("{}: {why}", artifact.name),
                }),
                _ => None,
            })
    };
    let unreadable = || {
        event.alert.as_ref().map(|alert| FailureDescription {
            class: Class::Invalid,
            code: None,
            message: alert.clone(),
        })
    };
    provider.or_else(unusable).or_else(unreadable)
}

/// Describes `url` by its own account. `refusal` is why the guard would refuse it, `None` when it would
/// not.
pub fn describe_url(url: &str, refusal: Option<&str>) -> UrlDescription {
    let signature = read_signature(url);
    let deadline = url_deadline(url);
    let refusal = SignedUrl::usable(url).err().or(refusal);
    UrlDescription {
        url: SignedUrl::new(url).to_string(),
        scheme_of_signature: signature.scheme.as_str(),
        signed_at: signature.signed_at,
        deadline: deadline.at,
        deadline_from: deadline.from,
        verdict: if refusal.is_some() {
            "refused"
        } else {
            "allowed"
        },
        reason: refusal.map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_described_as_documented_and_without_its_query() {
        let url =
            "https://h/p.mp4?X-Amz-Date=20260302T103320Z&X-Amz-Expires=60&X-Amz-Signature=SECRET";
        assert_eq!(
            serde_json::to_string(&describe_url(url, None)).unwrap(),
            r#"{"url":"https://h/p.mp4","scheme_of_signature":"aws-sigv4","signed_at":"2026-03-02T10:33:20Z","deadline":"2026-03-02T10:34:20Z","deadline_from":"query","verdict":"allowed","reason":null}"#
        );
        let refused = serde_json::to_value(describe_url("ftp://u:SECRET@h/p", None)).unwrap();
        assert_eq!(refused["verdict"], "refused");
        assert_eq!(refused["url"], "ftp://h/p");
        let refused =
            serde_json::to_value(describe_url("http://10.0.0.1/p", Some("not public"))).unwrap();
        assert_eq!(
            (&refused["verdict"], &refused["reason"]),
            (&"refused".into(), &"not public".into())
        );
    }
}
