use super::*;
use crate::demo::media::Library;
use crate::demo::origin::{OriginSettings, SendPace};
use crate::model::EventClass;

async fn events(now: &str) -> Vec<DemoEvent> {
    let now = now.parse().unwrap();
    let origin = DemoOrigin::start(OriginSettings {
        listen: std::net::SocketAddr::from(([127, 0, 0, 1], 0)),
        library: Library {
            padding_bytes: 1000,
        },
        pace: SendPace::Unlimited,
        clock: crate::clock::ManualClock::at(now),
        api_key: "key".to_owned(),
    })
    .await
    .unwrap();
    all(&origin, now).unwrap()
}

fn body(events: &[DemoEvent], name: &str) -> Value {
    let event = events.iter().find(|event| event.name == name).unwrap();
    serde_json::from_str(&event.body).unwrap()
}

#[tokio::test]
async fn events_are_moved_to_the_present_in_the_form_that_they_have() {
    let events = events("2027-05-06T07:08:09.5Z").await;
    let hms = body(&events, "100ms/recording.success");
    assert_eq!(hms["timestamp"], "2027-05-06T07:08:09Z");
    assert_eq!(
        hms["data"]["session_started_at"],
        "2027-05-06T06:34:49.123456789Z"
    );
    let dyte = body(&events, "dyte/recording.statusUpdate-UPLOADED");
    assert_eq!(
        dyte["recording"]["startedTime"],
        "2027-05-06 06:34:49.250000Z"
    );
    let daily = body(&events, "daily/recording.error");
    assert_eq!(daily["payload"]["timestamp"], "1809587289");
    assert_eq!(daily["event_ts"], 1_809_587_289.203);
    let expired = body(&events, "100ms/recording.success-expired");
    assert_eq!(expired["timestamp"], "2027-05-04T07:08:09Z");
}

#[tokio::test]
async fn sizes_are_true_and_keep_their_type() {
    let events = events("2027-05-06T07:08:09Z").await;
    let recording = include_bytes!("../../fixtures/media/recording.mp4").len();
    let hms = body(&events, "100ms/recording.success");
    assert_eq!(hms["data"]["size"], recording + 1000);
    let layers = body(&events, "100ms/hls.recording.success");
    assert_eq!(
        layers["data"]["recording_single_files"][3]["size"],
        include_bytes!("../../fixtures/media/layer-3.mp4").len()
    );
    let dyte = body(&events, "dyte/recording.statusUpdate-UPLOADED");
    assert_eq!(dyte["recording"]["fileSize"], recording);
    let rtk = body(&events, "realtimekit/recording.statusUpdate-UPLOADED");
    assert_eq!(rtk["recording"]["fileSize"], recording.to_string());
}

#[tokio::test]
async fn ids_differ_between_meetings_and_runs_and_a_repetition_keeps_its_own() {
    let first = events("2027-05-06T07:08:09Z").await;
    let second = events("2027-05-06T07:08:10Z").await;
    let ids = |events: &[DemoEvent]| -> Vec<_> {
        events
            .iter()
            .filter(|event| !event.name.ends_with("again"))
            .filter_map(|event| event.event_id.clone())
            .collect()
    };
    let mut all = [ids(&first), ids(&second)].concat();
    let count = all.len();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), count);

    let id = |name: &str| body(&first, name)["id"].clone();
    assert_eq!(
        id("100ms/beam.recording.success"),
        id("100ms/beam.recording.success-again")
    );
    let recording = |name: &str| body(&first, name)["data"]["recording_id"].clone();
    assert_eq!(
        recording("100ms/beam.recording.success"),
        recording("100ms/transcription.success")
    );
}

#[tokio::test]
async fn every_event_is_understood_as_expected() {
    for event in events("2027-05-06T07:08:09Z").await {
        let understood = crate::ingest::parse(
            event.provider,
            &crate::ingest::Delivery {
                body: event.body.as_bytes(),
                id_header: event.headers.first().map(|(_, id)| id.as_str()),
                received_at: "2027-05-06T07:08:10Z".parse().unwrap(),
            },
        )
        .unwrap();
        assert_eq!(understood.class, event.expected.class, "{}", event.name);
        assert_eq!(understood.event_id, event.event_id, "{}", event.name);
        if event.expected.class != EventClass::Handshake {
            assert_eq!(understood.event_type, event.event_type, "{}", event.name);
        }
        // What a lookup finds is not in the event, and a repetition brings nothing of its own.
        if understood.class == EventClass::Lookup || event.name.ends_with("again") {
            continue;
        }
        let names = |names: Vec<&String>| {
            let mut names: Vec<_> = names.into_iter().cloned().collect();
            names.sort_unstable();
            names
        };
        assert_eq!(
            names(understood.artifacts.iter().map(|a| &a.name).collect()),
            names(
                event
                    .expected
                    .artifacts
                    .iter()
                    .map(|(name, _)| name)
                    .collect()
            ),
            "{}",
            event.name
        );
    }
}
