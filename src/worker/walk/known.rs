//! What of the things on a list is known here, and how it stands.

use std::collections::HashMap;

use super::Standing;
use crate::model::{Event, JobId, State, key};
use crate::store::KnownArtifact;

/// What is known, by recording.
pub(super) struct Known(HashMap<String, Vec<KnownArtifact>>);

impl Known {
    pub(super) fn of(all: Vec<KnownArtifact>) -> Known {
        let mut by_recording: HashMap<String, Vec<KnownArtifact>> = HashMap::new();
        for one in all {
            by_recording
                .entry(one.recording_key.clone())
                .or_default()
                .push(one);
        }
        Known(by_recording)
    }

    pub(super) fn recording(&self, key: &str) -> &[KnownArtifact] {
        self.0.get(key).map_or(&[], Vec::as_slice)
    }
}

pub(super) fn recording_key(event: &Event) -> String {
    key::recording_variable(&event.recording, &event.dedupe_key)
}

pub(super) fn standing(event: &Event, known: &[KnownArtifact]) -> Standing {
    if event.artifacts.is_empty() {
        return Standing::Failure;
    }
    let is_known = |identity: &str| matches(identity, known).next().is_some();
    if !event
        .artifacts
        .iter()
        .all(|artifact| is_known(&artifact.identity))
    {
        return Standing::New;
    }
    let mut all = event
        .artifacts
        .iter()
        .flat_map(|a| matches(&a.identity, known));
    match all.any(|known| is_lost(known.state)) {
        true => Standing::Lost,
        false => Standing::Known,
    }
}

/// What is known of an artifact: itself, or for a question the files that its answer would name.
pub(super) fn matches<'a>(
    identity: &'a str,
    known: &'a [KnownArtifact],
) -> impl Iterator<Item = &'a KnownArtifact> {
    let file = identity.strip_prefix("lookup:");
    known.iter().filter(move |known| {
        let of_question = |file: &str| {
            let rest = known.identity.strip_prefix(file);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
        };
        known.identity == identity || file.is_some_and(of_question)
    })
}

/// The known jobs of what `event` names: those that have not settled, and those that are archived.
pub(super) fn jobs(event: &Event, known: &[KnownArtifact]) -> (Vec<JobId>, Vec<JobId>) {
    let (mut open, mut archived) = (Vec::new(), Vec::new());
    let all = event
        .artifacts
        .iter()
        .flat_map(|a| matches(&a.identity, known));
    for one in all {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn known(identity: &str, state: Option<State>) -> KnownArtifact {
        KnownArtifact {
            recording_key: "r".to_owned(),
            identity: identity.to_owned(),
            job: None,
            state,
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
}
