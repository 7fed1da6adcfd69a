//! Whether exactly that became of the demo's events what should have.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;

use super::events::{DemoEvent, Fate};
use crate::model::{EventClass, Kind, Manifest, Record, RecordingId, State};
use crate::store::{EventRecord, ProviderLoss};

/// What must appear in no object: every signed URL of the origin has one of these.
const SIGNATURES: [&str; 2] = ["X-Amz-Signature", "Key-Pair-Id"];

/// Everything that the harvester left behind.
#[derive(Default)]
pub struct Seen {
    /// Events in the store.
    pub events: Vec<EventRecord>,
    /// Artifacts in the store.
    pub records: Vec<Record>,
    /// Losses that the providers reported, in the store.
    pub losses: Vec<ProviderLoss>,
    /// Objects as the bucket gives them back, by key.
    pub objects: HashMap<String, Bytes>,
}

/// What is not as it should be, in words; empty when all is well.
pub fn judge(events: &[DemoEvent], seen: &Seen) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut expected = judge_events(events, seen, &mut wrong);
    for record in &seen.records {
        let fate = expected.remove(&(record.recording_id, record.name.clone()));
        if let Some(complaint) = judge_record(record, fate, seen) {
            wrong.push(format!("{}/{}: {complaint}", record.provider, record.name));
        }
    }
    for ((_, name), (event, _)) in expected {
        wrong.push(format!("{event}: nothing became of {name}"));
    }
    wrong.extend(judge_losses(events, seen));
    wrong.extend(judge_documents(seen));
    wrong
}

/// An artifact of a recording, and which event announced it.
type Expectations<'a> = BTreeMap<(RecordingId, String), (&'a str, &'a Fate)>;

fn judge_events<'a>(
    events: &'a [DemoEvent],
    seen: &Seen,
    wrong: &mut Vec<String>,
) -> Expectations<'a> {
    let mut expected = Expectations::new();
    for event in events {
        let Some(event_id) = &event.event_id else {
            continue;
        };
        let found: Vec<_> = seen
            .events
            .iter()
            .filter(|record| record.event_id.as_ref() == Some(event_id))
            .collect();
        let [record] = found.as_slice() else {
            wrong.push(format!(
                "{}: is in the store {} times",
                event.name,
                found.len()
            ));
            continue;
        };
        if record.class != event.expected.class {
            wrong.push(format!(
                "{}: was taken as {}, not {}",
                event.name,
                record.class.as_str(),
                event.expected.class.as_str()
            ));
        }
        for (name, fate) in &event.expected.artifacts {
            match record.recording_id {
                Some(recording) => {
                    expected.insert((recording, name.clone()), (event.name, fate));
                }
                None => wrong.push(format!("{}: has no recording", event.name)),
            }
        }
    }
    expected
}

fn judge_record(record: &Record, expected: Option<(&str, &Fate)>, seen: &Seen) -> Option<String> {
    let fate = match expected {
        Some((_, fate)) => fate,
        // The event itself is archived with its recording.
        None if record.kind == Kind::Event => &Fate::Made,
        None => return Some("nobody announced it".to_owned()),
    };
    let state = match record.class {
        Some(class) if record.state != State::Archived => format!("{} ({class})", record.state),
        _ => record.state.to_string(),
    };
    match fate {
        Fate::Lost(class) if record.state.is_settled() && record.class == Some(*class) => None,
        Fate::Lost(class) => Some(format!("is {state}, should be lost as {class}")),
        Fate::Archived(_) | Fate::Made if record.state != State::Archived => {
            let message = record.message.as_deref().unwrap_or("no reason told");
            Some(format!("is {state}, should be archived: {message}"))
        }
        Fate::Archived(content) => match seen.objects.get(&record.key) {
            Some(bytes) if content.is_equal_to(bytes) => None,
            Some(_) => Some(format!("the object {} has other bytes", record.key)),
            None => Some(format!("the bucket has no {}", record.key)),
        },
        Fate::Made => match seen.objects.get(&record.key) {
            Some(bytes) if !bytes.is_empty() => None,
            _ => Some(format!("the bucket has no {}", record.key)),
        },
    }
}

fn judge_losses(events: &[DemoEvent], seen: &Seen) -> Vec<String> {
    let mut wrong = Vec::new();
    for event in events {
        let is_reported = seen
            .losses
            .iter()
            .any(|loss| Some(&loss.failure.event_id) == event.event_id.as_ref());
        let is_expected = matches!(
            event.expected.class,
            EventClass::Failure | EventClass::ArtifactsAndFailure
        );
        if is_expected && !is_reported {
            wrong.push(format!("{}: the loss is not reported", event.name));
        }
        if !is_expected && is_reported {
            wrong.push(format!("{}: a loss is reported that is none", event.name));
        }
    }
    wrong
}

/// A recording's folder, which its manifest and report are in.
pub fn folder(record: &Record) -> &str {
    record.key.rsplit_once('/').map_or("", |(folder, _)| folder)
}

fn judge_documents(seen: &Seen) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut recordings: BTreeMap<&str, Vec<&Record>> = BTreeMap::new();
    for record in &seen.records {
        recordings.entry(folder(record)).or_default().push(record);
    }
    for (folder, records) in recordings {
        let key = format!("{folder}/manifest.json");
        let manifest = seen
            .objects
            .get(&key)
            .and_then(|bytes| serde_json::from_slice::<Manifest>(bytes).ok());
        let Some(manifest) = manifest else {
            wrong.push(format!("{key} is missing or can't be read"));
            continue;
        };
        let mut listed: Vec<_> = manifest.artifacts.iter().map(|r| &r.key).collect();
        let mut archived: Vec<_> = records
            .iter()
            .filter(|record| record.state == State::Archived)
            .map(|record| &record.key)
            .collect();
        listed.sort_unstable();
        archived.sort_unstable();
        if listed != archived {
            wrong.push(format!("{key} does not list what is archived"));
        }
    }
    for (key, bytes) in &seen.objects {
        let is_document = key.ends_with(".json") && std::str::from_utf8(bytes).is_ok();
        let text = String::from_utf8_lossy(bytes);
        if is_document && SIGNATURES.iter().any(|signature| text.contains(signature)) {
            wrong.push(format!("{key} holds a signed URL"));
        }
    }
    wrong
}
