//! Whether exactly that became of the demo's events what should have.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;

use super::events::{DemoEvent, Fate};
use crate::model::manifest::event_name;
use crate::model::{EventClass, Kind, Manifest, Record, RecordingId, State};
use crate::store::{EventRecord, ProviderLoss};

/// What must appear in no object: every signed URL of the origin has one of these.
const SIGNATURES: [&str; 2] = ["X-Amz-Signature", "Key-Pair-Id"];

/// Everything that the harvester left behind.
#[derive(Default)]
pub struct LeftBehind {
    /// Events in the store.
    pub events: Vec<EventRecord>,
    /// Artifacts in the store.
    pub records: Vec<Record>,
    /// Losses that the providers reported, in the store.
    pub losses: Vec<ProviderLoss>,
    /// Objects as the bucket gives them back, by key.
    pub objects: HashMap<String, Bytes>,
    /// Multipart uploads that were begun and neither completed nor aborted.
    pub open_uploads: usize,
}

/// What is not as it should be, in words; empty when all is well.
pub fn judge(events: &[DemoEvent], seen: &LeftBehind) -> Vec<String> {
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
    if seen.open_uploads > 0 {
        wrong.push(format!("{} uploads were left open", seen.open_uploads));
    }
    wrong
}

/// By the provider's id; where it has none, by the type, which the demo sends once.
fn is_same(event: &DemoEvent, record: &EventRecord) -> bool {
    record.provider == event.provider
        && record.event_id == event.event_id
        && (event.event_id.is_some() || record.event_type == event.event_type)
}

/// An artifact of a recording, and which event announced it.
type Expectations<'a> = BTreeMap<(RecordingId, String), (&'a str, &'a Fate)>;

fn judge_events<'a>(
    events: &'a [DemoEvent],
    seen: &LeftBehind,
    wrong: &mut Vec<String>,
) -> Expectations<'a> {
    let mut expected = Expectations::new();
    for event in events {
        if event.expected.class == EventClass::Handshake {
            continue;
        }
        let found: Vec<_> = seen
            .events
            .iter()
            .filter(|record| is_same(event, record))
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

fn judge_record(
    record: &Record,
    expected: Option<(&str, &Fate)>,
    seen: &LeftBehind,
) -> Option<String> {
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

fn judge_losses(events: &[DemoEvent], seen: &LeftBehind) -> Vec<String> {
    let mut wrong = Vec::new();
    for event in events {
        let names: Vec<_> = seen
            .events
            .iter()
            .filter(|record| is_same(event, record))
            .map(|record| event_name(record.event_id.as_deref(), record.id))
            .collect();
        let is_reported = seen
            .losses
            .iter()
            .any(|loss| names.contains(&loss.failure.event_id));
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

fn judge_documents(seen: &LeftBehind) -> Vec<String> {
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

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use uuid::Uuid;

    use super::*;
    use crate::demo::events::ExpectedEnd;
    use crate::demo::media::{Library, MediaContent};
    use crate::error::Class;
    use crate::model::manifest::{ProviderFailureRecord, RecordingRecord};
    use crate::model::{EventId, Format, Provider};
    use crate::report::board;

    const RECORDING: RecordingId = RecordingId(Uuid::from_u128(1));

    fn chat() -> MediaContent {
        Library::default().content("/100ms/sfu/chat.csv").unwrap()
    }

    fn event(class: EventClass, artifacts: Vec<(String, Fate)>) -> DemoEvent {
        DemoEvent {
            name: "100ms/x",
            provider: Provider::Hms,
            event_id: Some("e".to_owned()),
            event_type: None,
            headers: vec![],
            body: String::new(),
            expected: ExpectedEnd { class, artifacts },
        }
    }

    fn record(name: &str, kind: Kind, state: State, class: Option<Class>) -> Record {
        Record {
            recording_id: RECORDING,
            kind,
            format: Format::Csv,
            state,
            class,
            key: format!("folder/{name}"),
            ..board::tests::record(name)
        }
    }

    /// A world in which the event was recorded and these artifacts have settled.
    fn seen(class: EventClass, records: Vec<Record>) -> LeftBehind {
        let archived: Vec<_> = records
            .iter()
            .filter(|record| record.state == State::Archived)
            .cloned()
            .collect();
        let recording = RecordingRecord {
            id: RECORDING,
            provider: Provider::Hms,
            source: "100ms".to_owned(),
            recording_id: None,
            bot_id: None,
            session_id: None,
            room_id: None,
            room_name: None,
            started_at: None,
            ended_at: None,
        };
        let at = "2026-03-02T10:00:00Z".parse().unwrap();
        let mut objects: HashMap<_, _> = archived
            .iter()
            .map(|record| (record.key.clone(), chat().read(0, usize::MAX)))
            .collect();
        let manifest = Manifest {
            version: 1,
            recording: recording.clone(),
            event_ids: vec!["e".to_owned()],
            artifacts: archived
                .into_iter()
                .map(|record| Cow::<Record>::Owned(record).into())
                .collect(),
            written_at: at,
        };
        objects.insert(
            "folder/manifest.json".to_owned(),
            serde_json::to_vec(&manifest).unwrap().into(),
        );
        let losses = matches!(class, EventClass::Failure).then(|| ProviderLoss {
            failure: ProviderFailureRecord {
                class: Class::ProviderFailed,
                code: None,
                message: String::new(),
                event_id: "e".to_owned(),
                at,
            },
            recording,
        });
        LeftBehind {
            events: vec![EventRecord {
                id: EventId(Uuid::from_u128(3)),
                source: "100ms".to_owned(),
                provider: Provider::Hms,
                event_id: Some("e".to_owned()),
                event_type: None,
                class,
                alert: None,
                received_at: at,
                recording_id: Some(RECORDING),
            }],
            records,
            losses: losses.into_iter().collect(),
            objects,
            open_uploads: 0,
        }
    }

    fn archived(name: &str) -> Record {
        record(name, Kind::Chat, State::Archived, None)
    }

    fn chat_event() -> DemoEvent {
        let fate = Fate::Archived(chat());
        event(EventClass::Artifacts, vec![("chat.csv".to_owned(), fate)])
    }

    #[test]
    fn what_should_have_been_archived_and_is_leaves_nothing_to_say() {
        let event_record = record("event-e.json", Kind::Event, State::Archived, None);
        let seen = seen(
            EventClass::Artifacts,
            vec![archived("chat.csv"), event_record],
        );
        assert_eq!(judge(&[chat_event()], &seen), Vec::<String>::new());
    }

    #[test]
    fn every_sort_of_difference_is_told() {
        let events = [chat_event()];
        let good = || seen(EventClass::Artifacts, vec![archived("chat.csv")]);
        let check = |seen: &LeftBehind, complaint: &str| {
            let wrong = judge(&events, seen).join("\n");
            assert!(wrong.contains(complaint), "{complaint}: {wrong}");
        };

        let mut world = good();
        world.events.clear();
        check(&world, "is in the store 0 times");
        let mut world = good();
        world.events.push(world.events[0].clone());
        check(&world, "is in the store 2 times");
        let mut world = good();
        world.events[0].class = EventClass::Unknown;
        check(&world, "was taken as unknown, not artifacts");
        let mut world = good();
        world.records.clear();
        check(&world, "nothing became of chat.csv");
        let mut world = good();
        world.records.push(archived("other.csv"));
        check(&world, "other.csv: nobody announced it");
        let mut world = good();
        world.records[0] = record("chat.csv", Kind::Chat, State::Failed, Some(Class::Gone));
        check(&world, "is failed (gone), should be archived");
        let mut world = good();
        world.objects.remove("folder/chat.csv");
        check(&world, "the bucket has no folder/chat.csv");
        let mut world = good();
        world
            .objects
            .insert("folder/chat.csv".to_owned(), "x".into());
        check(&world, "other bytes");
        let mut world = good();
        world.objects.remove("folder/manifest.json");
        check(&world, "folder/manifest.json is missing");
        let mut world = good();
        let leak = r#"{"url":"http://h/p?X-Amz-Signature=1"}"#;
        world
            .objects
            .insert("folder/event-e.json".to_owned(), leak.into());
        check(&world, "holds a signed URL");
        let mut world = good();
        world.open_uploads = 1;
        check(&world, "1 uploads were left open");
    }

    #[test]
    fn a_loss_must_be_the_expected_one_and_be_reported() {
        let lost = Fate::Lost(Class::Expired);
        let expired = event(EventClass::Artifacts, vec![("chat.csv".to_owned(), lost)]);
        let with = |class| {
            let record = record("chat.csv", Kind::Chat, State::Expired, Some(class));
            seen(EventClass::Artifacts, vec![record])
        };
        let events = [expired];
        assert_eq!(judge(&events, &with(Class::Expired)), Vec::<String>::new());
        assert_eq!(
            judge(&events, &with(Class::Denied)),
            ["100ms/chat.csv: is expired (denied), should be lost as expired"]
        );

        let failure = [event(EventClass::Failure, vec![])];
        let mut world = seen(EventClass::Failure, vec![]);
        assert_eq!(judge(&failure, &world), Vec::<String>::new());
        world.losses.clear();
        assert_eq!(
            judge(&failure, &world),
            ["100ms/x: the loss is not reported"]
        );
    }
}
