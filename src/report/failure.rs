//! Losses grouped by what to do about them: one action, everything that it would cure.

use serde::Serialize;

use super::printable::printable;
use crate::error::Class;
use crate::model::Record;
use crate::model::manifest::{OverdueManifest, ProviderFailureRecord, RecordingRecord};

/// A loss that a provider reported, with the recording that suffered it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReportedLoss {
    /// The loss.
    #[serde(flatten)]
    pub failure: ProviderFailureRecord,
    /// Its recording.
    pub recording: RecordingRecord,
}

/// Losses that one action would cure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Group {
    /// What kind of failure.
    pub class: Class,
    /// What to do about it.
    pub action: String,
    /// How many losses are in it.
    pub count: usize,
    /// Artifacts that were not saved.
    pub artifacts: Vec<Record>,
    /// Losses that providers reported.
    pub provider_failures: Vec<ReportedLoss>,
    /// Recordings whose manifest can't be written.
    pub manifests: Vec<OverdueManifest>,
}

/// A provider's loss in its own words, safe to print; a code that is all it says is said once.
pub fn words(code: Option<&str>, message: &str) -> String {
    printable(&match code {
        Some(code) if code != message => format!("{code}: {message}"),
        _ => message.to_owned(),
    })
}

/// Groups by class and action, the largest group first; within one, the order is kept.
/// A cancelled job without a class is not a failure and is left out.
pub fn group(
    records: Vec<Record>,
    losses: Vec<ReportedLoss>,
    manifests: Vec<OverdueManifest>,
) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for record in records {
        let Some(class) = record.class else { continue };
        let action = record.action.clone();
        let action = action.unwrap_or_else(|| class.action().to_owned());
        group_of(&mut groups, class, action).artifacts.push(record);
    }
    for loss in losses {
        let class = loss.failure.class;
        let action = class.action().to_owned();
        let group = group_of(&mut groups, class, action);
        group.provider_failures.push(loss);
    }
    for manifest in manifests {
        let class = manifest.class;
        let action = class.action().to_owned();
        let group = group_of(&mut groups, class, action);
        group.manifests.push(manifest);
    }
    for group in &mut groups {
        group.count = group.artifacts.len() + group.provider_failures.len() + group.manifests.len();
    }
    groups.sort_by_key(|group| (std::cmp::Reverse(group.count), group.class));
    groups
}

fn group_of(groups: &mut Vec<Group>, class: Class, action: String) -> &mut Group {
    let is_it = |group: &Group| group.class == class && group.action == action;
    let at = groups.iter().position(is_it).unwrap_or_else(|| {
        groups.push(Group {
            class,
            action,
            count: 0,
            artifacts: Vec::new(),
            provider_failures: Vec::new(),
            manifests: Vec::new(),
        });
        groups.len() - 1
    });
    &mut groups[at]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::board::tests::record;

    fn lost(class: Class, action: Option<&str>) -> Record {
        Record {
            class: Some(class),
            action: action.map(str::to_owned),
            ..record("a.mp4")
        }
    }

    fn reported() -> ReportedLoss {
        let at = "2026-03-02T10:00:00Z".parse().unwrap();
        ReportedLoss {
            failure: ProviderFailureRecord {
                class: Class::ProviderFailed,
                code: None,
                message: "upload error".to_owned(),
                event_id: "e".to_owned(),
                at,
            },
            recording: RecordingRecord {
                id: record("x").recording_id,
                provider: record("x").provider,
                source: "100ms".to_owned(),
                recording_id: None,
                bot_id: None,
                session_id: None,
                room_id: None,
                room_name: None,
                started_at: None,
                ended_at: None,
            },
        }
    }

    #[test]
    fn a_providers_words_are_said_once_and_can_be_printed() {
        assert_eq!(words(Some("E1"), "no \u{1b}[2Jdisk"), "E1: no [2Jdisk");
        assert_eq!(
            words(Some("CannotJoinMeeting"), "CannotJoinMeeting"),
            "CannotJoinMeeting"
        );
        assert_eq!(words(None, "no disk"), "no disk");
    }

    #[test]
    fn losses_with_one_cure_are_one_group_and_the_largest_comes_first() {
        let groups = group(
            vec![
                lost(Class::Denied, Some("set sources.daily.api_key")),
                lost(Class::Expired, None),
                lost(Class::Denied, Some("set sources.dyte.api_key")),
                lost(Class::Expired, None),
            ],
            vec![reported()],
            Vec::new(),
        );
        let told: Vec<_> = groups
            .iter()
            .map(|group| (group.class, group.count, group.action.as_str()))
            .collect();
        assert_eq!(
            told,
            [
                (Class::Expired, 2, Class::Expired.action()),
                (Class::ProviderFailed, 1, Class::ProviderFailed.action()),
                (Class::Denied, 1, "set sources.daily.api_key"),
                (Class::Denied, 1, "set sources.dyte.api_key"),
            ]
        );
    }

    #[test]
    fn what_an_operator_cancelled_is_no_failure() {
        assert!(group(vec![record("a.mp4")], Vec::new(), Vec::new()).is_empty());
    }
}
