//! What of the things on a list is known here, and how it stands.

use std::collections::HashMap;

use super::KnownRecording;
use crate::error::Class;
use crate::model::{Event, JobId, State, key};
use crate::store::KnownArtifact;

/// What identities of questions begin with.
const QUESTION: &str = "lookup:";

/// What is known, by recording.
pub(super) struct KnownRecordings(HashMap<String, Vec<KnownArtifact>>);

impl KnownRecordings {
    pub(super) fn of(all: Vec<KnownArtifact>) -> KnownRecordings {
        let mut by_recording: HashMap<String, Vec<KnownArtifact>> = HashMap::new();
        for one in all {
            by_recording
                .entry(one.recording_key.clone())
                .or_default()
                .push(one);
        }
        KnownRecordings(by_recording)
    }

    pub(super) fn recording(&self, key: &str) -> &[KnownArtifact] {
        self.0.get(key).map_or(&[], Vec::as_slice)
    }
}

pub(super) fn recording_key(event: &Event) -> String {
    key::recording_variable(&event.recording, &event.dedupe_key)
}

pub(super) fn standing(event: &Event, known: &[KnownArtifact]) -> KnownRecording {
    if event.artifacts.is_empty() {
        return KnownRecording::Failure;
    }
    let is_known = |identity: &str| matches(identity, known).next().is_some();
    if !event
        .artifacts
        .iter()
        .all(|artifact| is_known(&artifact.identity))
    {
        return KnownRecording::New;
    }
    match concerned(event, known).any(|known| is_lost(known.state)) {
        true => KnownRecording::Lost,
        false => KnownRecording::Known,
    }
}

/// What is known of an artifact: itself, or for a question the files that its answer would name.
pub(super) fn matches<'a>(
    identity: &'a str,
    known: &'a [KnownArtifact],
) -> impl Iterator<Item = &'a KnownArtifact> {
    known.iter().filter(move |known| is_match(identity, known))
}

fn is_match(identity: &str, known: &KnownArtifact) -> bool {
    let of_question = |file: &str| {
        let rest = known.identity.strip_prefix(file);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
    };
    known.identity == identity || identity.strip_prefix(QUESTION).is_some_and(of_question)
}

/// What is known of everything that `event` names. Of a question that was answered with files of other identities
/// that is all that is known of the recording.
pub(super) fn concerned<'a>(
    event: &'a Event,
    known: &'a [KnownArtifact],
) -> impl Iterator<Item = &'a KnownArtifact> {
    event.artifacts.iter().flat_map(move |artifact| {
        let identity = artifact.identity.as_str();
        let is_answered = identity.starts_with(QUESTION)
            && matches(identity, known).all(|known| known.job.is_none());
        known
            .iter()
            .filter(move |one| is_answered || is_match(identity, one))
    })
}

/// The known jobs of what `event` names: those that have not settled, and those that are archived.
pub(super) fn jobs(event: &Event, known: &[KnownArtifact]) -> (Vec<JobId>, Vec<JobId>) {
    let (mut open, mut archived) = (Vec::new(), Vec::new());
    for one in concerned(event, known) {
        match one.state {
            Some(State::Pending | State::Running) => open.extend(one.job),
            Some(State::Archived) => archived.extend(one.job),
            Some(State::Failed | State::Expired | State::Cancelled) | None => {}
        }
    }
    (open, archived)
}

pub(super) fn is_lost(state: Option<State>) -> bool {
    matches!(state, Some(State::Failed | State::Expired))
}

/// Whether a walk that still finds it may try it again by itself: what the provider, the way to it or the bucket was
/// the reason for. What is damaged, refused by us or not understood would fail the same way, after all its bytes.
pub(super) fn is_worth_another_try(known: &KnownArtifact) -> bool {
    let may_pass = match known.class {
        Some(
            Class::Expired
            | Class::Denied
            | Class::Gone
            | Class::ProviderFailed
            | Class::Unreachable
            | Class::Throttled
            | Class::UploadDenied
            | Class::UploadFailed
            | Class::Partial,
        ) => true,
        Some(Class::Refused | Class::Corrupt | Class::Invalid | Class::Internal) | None => false,
    };
    is_lost(known.state) && known.has_origin && may_pass
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Artifact, Deadline, EventClass, Format, Kind, Origin, Provider, Recording};

    fn known(identity: &str, state: Option<State>) -> KnownArtifact {
        KnownArtifact {
            recording_key: "r".to_owned(),
            identity: identity.to_owned(),
            job: None,
            state,
            class: None,
            has_origin: true,
        }
    }

    #[test]
    fn a_question_is_known_by_itself_or_by_what_it_would_lead_to() {
        let all = [
            known("lookup:daily-recording:1", None),
            known("meetingbaas:video", Some(State::Archived)),
            known("daily-recording:22", Some(State::Failed)),
        ];
        for (identity, count) in [
            ("lookup:daily-recording:1", 1),
            ("lookup:meetingbaas", 1),
            ("lookup:daily-recording:22", 1),
            ("lookup:daily-recording:2", 0),
            ("meetingbaas:audio", 0),
        ] {
            assert_eq!(matches(identity, &all).count(), count, "{identity}");
        }
    }

    #[test]
    fn an_answered_question_concerns_all_that_its_recording_has_come_to() {
        let job = |number| Some(JobId(uuid::Uuid::from_u128(number)));
        let of = |identity: &str, number, state| KnownArtifact {
            job: job(number),
            ..known(identity, Some(state))
        };
        let mut all = vec![
            known("lookup:hms-recording:r", None),
            of("path:a", 1, State::Pending),
            of("path:b", 2, State::Archived),
        ];
        let event = event("lookup:hms-recording:r");
        assert_eq!(standing(&event, &all), KnownRecording::Known);
        let (open, archived) = jobs(&event, &all);
        assert_eq!(
            (open, archived),
            (vec![job(1).unwrap()], vec![job(2).unwrap()])
        );
        all.push(of("path:c", 3, State::Failed));
        assert_eq!(standing(&event, &all), KnownRecording::Lost);

        // One that has not been answered concerns itself alone.
        all[0] = of("lookup:hms-recording:r", 4, State::Running);
        assert_eq!(standing(&event, &all), KnownRecording::Known);
        assert_eq!(jobs(&event, &all).0, [job(4).unwrap()]);
    }

    // R9
    #[test]
    fn what_may_have_passed_is_worth_another_try_and_damage_is_not() {
        let lost = |class| KnownArtifact {
            class: Some(class),
            ..known("daily-recording:1", Some(State::Failed))
        };
        for class in [Class::Gone, Class::Expired, Class::Denied, Class::Throttled] {
            assert!(is_worth_another_try(&lost(class)), "{class}");
        }
        for class in [Class::Corrupt, Class::Refused, Class::Invalid] {
            assert!(!is_worth_another_try(&lost(class)), "{class}");
        }
        let told = KnownArtifact {
            has_origin: false,
            ..lost(Class::ProviderFailed)
        };
        assert!(!is_worth_another_try(&told), "the provider says so itself");
        let cancelled = KnownArtifact {
            state: Some(State::Cancelled),
            ..lost(Class::Gone)
        };
        assert!(!is_worth_another_try(&cancelled), "an operator's word");
    }

    fn event(identity: &str) -> Event {
        Event {
            provider: Provider::Hms,
            event_id: None,
            event_type: None,
            dedupe_key: String::new(),
            class: EventClass::Lookup,
            event_time: None,
            recording: Recording::default(),
            artifacts: vec![Artifact {
                identity: identity.to_owned(),
                name: "recording.mp4".to_owned(),
                kind: Kind::Video,
                format: Format::Mp4,
                origin: Origin::Event,
                remint: None,
                deadline: Deadline::NONE,
                size_bytes: None,
            }],
            failures: Vec::new(),
            alert: None,
            redacted: None,
        }
    }
}
