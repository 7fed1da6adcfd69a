//! Every provider's events, as `fixtures/events/INDEX.json` says that they are to be read; and the same
//! events broken in every way that a field can be.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use recording_harvester::error::Class;
use recording_harvester::ingest::inspect::describe_event;
use recording_harvester::ingest::{
    Adapter, Delivery, ProviderDefinition, lookup_answer, lookup_request, parse, recognise,
    remint_match,
};
use recording_harvester::model::api::{ApiResponse, Credentials};
use recording_harvester::model::{
    Artifact, DeadlineFrom, Event, EventClass, Format, Kind, Layout, Lookup, Origin, Provider,
    Recording, key,
};
use recording_harvester::signed_url::redact_body;
use serde_json::{Value, json};

const ORIGIN: &str = "http://127.0.0.1:8080";

fn events() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/events")
}

fn index() -> Value {
    let text = std::fs::read_to_string(events().join("INDEX.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn clock() -> Timestamp {
    index()["clock"].as_str().unwrap().parse().unwrap()
}

/// The raw text of a sample, at an origin.
fn sample(file: &str) -> String {
    let text = std::fs::read_to_string(events().join(file)).unwrap();
    text.replace("{{ORIGIN}}", ORIGIN)
}

/// Folders that are no built-in provider's have a definition in `deploy/sources`.
fn provider_of(file: &str) -> Provider {
    Provider::named(file.split('/').next().unwrap()).unwrap()
}

fn is_built_in(provider: Provider) -> bool {
    !matches!(provider, Provider::Custom(_))
}

fn adapter(provider: Provider) -> Adapter {
    static DEFINITIONS: Mutex<BTreeMap<Provider, Arc<ProviderDefinition>>> =
        Mutex::new(BTreeMap::new());
    if is_built_in(provider) {
        return Adapter::BuiltIn(provider);
    }
    let mut definitions = DEFINITIONS.lock().unwrap();
    let definition = definitions.entry(provider).or_insert_with(|| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/sources");
        let text = std::fs::read_to_string(folder.join(format!("{provider}.toml"))).unwrap();
        Arc::new(toml::from_str(&text).unwrap())
    });
    Adapter::Custom(Arc::clone(definition))
}

fn read_at(provider: Provider, body: &[u8], id_header: Option<&str>) -> Event {
    let delivery = Delivery {
        body,
        id_header,
        received_at: clock(),
    };
    adapter(provider).parse(&delivery).unwrap()
}

fn read(file: &str) -> Event {
    read_at(provider_of(file), sample(file).as_bytes(), None)
}

fn read_value(provider: Provider, value: &Value) -> Event {
    read_at(provider, value.to_string().as_bytes(), None)
}

/// The files of INDEX that are events (not a provider's API answers).
fn event_files() -> Vec<String> {
    let index = index();
    let samples = index["samples"].as_array().unwrap();
    samples
        .iter()
        .filter(|sample| sample["expect"] != "api-response")
        .map(|sample| sample["file"].as_str().unwrap().to_owned())
        .collect()
}

/// INDEX's class names that differ from ours.
fn class_of(expect: &str) -> EventClass {
    match expect {
        "ignore" => EventClass::Ignored,
        other => EventClass::parse(other).unwrap_or_else(|| panic!("{other} is no class")),
    }
}

/// INDEX's kinds as ours. A transcript that comes as data means two artifacts: the JSON as it is and the WebVTT
/// made from it.
fn kinds_of(kind: &str) -> &'static [(Kind, Format)] {
    match kind {
        "video/mp4" => &[(Kind::Video, Format::Mp4)],
        "video/webm" => &[(Kind::Video, Format::Webm)],
        "audio/m4a" => &[(Kind::Audio, Format::M4a)],
        "audio/wav" => &[(Kind::Audio, Format::Wav)],
        "audio/mpeg" => &[(Kind::Audio, Format::Mp3)],
        "audio/flac" => &[(Kind::Audio, Format::Flac)],
        "audio/webm" => &[(Kind::Audio, Format::Webm)],
        "chat/txt" => &[(Kind::Chat, Format::Txt)],
        "timeline/json" => &[(Kind::Other, Format::Json)],
        // The end of its link says so, the documentation does not.
        "transcript/unknown" => &[(Kind::Transcript, Format::Txt)],
        "chat/csv" => &[(Kind::Chat, Format::Csv)],
        "chat/json" => &[(Kind::Chat, Format::Json)],
        "hls/zip" => &[(Kind::Hls, Format::Zip)],
        "hls/m3u8" => &[(Kind::Hls, Format::M3u8)],
        "hls/tar" => &[(Kind::Hls, Format::Tar)],
        "image/png" => &[(Kind::Thumbnail, Format::Png)],
        "summary/json" => &[(Kind::Summary, Format::Json)],
        "summary/txt" => &[(Kind::Summary, Format::Txt)],
        "transcript/json" | "transcript/raw-json" => &[(Kind::Transcript, Format::Json)],
        "transcript/vtt" => &[(Kind::Transcript, Format::Vtt)],
        "transcript/srt" => &[(Kind::Transcript, Format::Srt)],
        "transcript/txt" => &[(Kind::Transcript, Format::Txt)],
        "transcript/csv" => &[(Kind::Transcript, Format::Csv)],
        "transcript/inline" => &[
            (Kind::Transcript, Format::Json),
            (Kind::Transcript, Format::Vtt),
        ],
        "diarization/jsonl" => &[(Kind::Other, Format::Jsonl)],
        other => panic!("{other} is not in our table of kinds"),
    }
}

fn url_of(artifact: &Artifact) -> Option<&str> {
    match &artifact.origin {
        Origin::Url(url) => Some(url.expose()),
        _ => None,
    }
}

fn names(event: &Event) -> Vec<&str> {
    event.artifacts.iter().map(|a| a.name.as_str()).collect()
}

#[test]
fn every_sample_is_read_as_the_index_says() {
    let index = index();
    for sample_entry in index["samples"].as_array().unwrap() {
        let file = sample_entry["file"].as_str().unwrap();
        let expect = sample_entry["expect"].as_str().unwrap();
        if expect == "api-response" {
            continue;
        }
        let raw = sample(file);
        let provider = provider_of(file);
        let event = read(file);
        assert_eq!(event.class, class_of(expect), "{file}");
        assert_eq!(event.provider, provider, "{file}");
        let shape = match provider {
            Provider::RealtimeKit => Provider::Dyte,
            other => other,
        };
        let recognised = is_built_in(provider).then_some(shape);
        assert_eq!(recognise(raw.as_bytes()), recognised, "{file}");

        let body: Value = serde_json::from_str(&raw).unwrap();
        let no_artifacts = Vec::new();
        let expected = sample_entry["artifacts"]
            .as_array()
            .unwrap_or(&no_artifacts);
        let count: usize = expected
            .iter()
            .map(|e| kinds_of(e["kind"].as_str().unwrap()).len())
            .sum();
        let is_lookup = event.class == EventClass::Lookup;
        assert_eq!(
            event.artifacts.len(),
            if is_lookup { 1 } else { count },
            "{file}"
        );
        assert_eq!(
            !event.failures.is_empty(),
            expect.contains("failure"),
            "{file}"
        );
        for entry in expected {
            check_artifact(file, entry, &body, &event);
        }
        if is_lookup {
            assert!(
                matches!(event.artifacts[0].origin, Origin::Lookup(_)),
                "{file}"
            );
        }
        let unique: BTreeSet<_> = names(&event).into_iter().collect();
        assert_eq!(unique.len(), event.artifacts.len(), "{file}");
    }
}

fn check_artifact(file: &str, entry: &Value, body: &Value, event: &Event) {
    let pointer = entry["pointer"].as_str().unwrap();
    let told = body
        .pointer(pointer)
        .unwrap_or_else(|| panic!("{file} has no {pointer}"));
    for &(kind, format) in kinds_of(entry["kind"].as_str().unwrap()) {
        let alike = |a: &&Artifact| a.kind == kind && a.format == format;
        let artifact = match told.as_str() {
            Some(url) => event
                .artifacts
                .iter()
                .filter(alike)
                .find(|a| url_of(a) == Some(url)),
            None => event
                .artifacts
                .iter()
                .filter(alike)
                .find(|a| matches!(a.origin, Origin::Inline(_))),
        };
        let artifact = artifact
            .unwrap_or_else(|| panic!("{file}: nothing of {kind:?} {format:?} for {pointer}"));
        let expires_at = entry["expires_at"]
            .as_str()
            .map(|at| at.parse::<Timestamp>().unwrap());
        assert_eq!(artifact.deadline.at, expires_at, "{file} {pointer}");
        let from = match (expires_at, entry.get("expiry_pointer")) {
            (None, _) => DeadlineFrom::None,
            (Some(_), Some(_)) => DeadlineFrom::Field,
            (Some(_), None) => match event.provider.as_str() {
                "jaas" => DeadlineFrom::Documented,
                "zoom" => DeadlineFrom::Token,
                _ => DeadlineFrom::Query,
            },
        };
        assert_eq!(artifact.deadline.from, from, "{file} {pointer}");
    }
}

#[test]
fn every_fixture_is_in_the_index_and_the_other_way_round() {
    let index = index();
    let samples = index["samples"].as_array().unwrap();
    let listed: BTreeSet<_> = samples
        .iter()
        .map(|s| s["file"].as_str().unwrap().to_owned())
        .collect();
    let mut found = BTreeSet::new();
    for folder in std::fs::read_dir(events())
        .unwrap()
        .map(|entry| entry.unwrap().path())
    {
        if !folder.is_dir() {
            assert_eq!(folder.file_name().unwrap(), "INDEX.json");
            continue;
        }
        for file in std::fs::read_dir(&folder).unwrap() {
            let path = file.unwrap().path();
            found.insert(
                path.strip_prefix(events())
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned(),
            );
        }
    }
    assert_eq!(found, listed);
}

#[test]
fn names_in_the_archive_are_the_documented_ones() {
    let mut table = String::new();
    for file in event_files() {
        let event = read(&file);
        if !event.artifacts.is_empty() {
            table.push_str(&format!("{file}: {}\n", names(&event).join(" ")));
        }
    }
    insta::assert_snapshot!(table);
}

#[test]
fn losses_are_told_with_their_code_and_words() {
    let mut table = String::new();
    for file in event_files() {
        for loss in read(&file).failures {
            let kind = loss.kind.map_or("any", Kind::as_str);
            let code = loss.code.as_deref().unwrap_or("-");
            table.push_str(&format!(
                "{file}: {kind} [{code}] {} ({})\n",
                loss.message, loss.loss_key
            ));
        }
    }
    insta::assert_snapshot!(table);
}

#[test]
fn the_same_delivery_twice_has_one_key_and_other_deliveries_have_others() {
    let mut keys = BTreeSet::new();
    let mut doubles = Vec::new();
    for file in event_files() {
        let key = |header| {
            let body = sample(&file);
            read_at(provider_of(&file), body.as_bytes(), header).dedupe_key
        };
        assert_eq!(key(None), key(None), "{file}");
        // An unsigned id header that changes with each retry does not make news of it.
        if matches!(provider_of(&file), Provider::Dyte | Provider::RealtimeKit) {
            assert_eq!(key(Some("delivery-1")), key(Some("delivery-2")), "{file}");
        }
        if !keys.insert((provider_of(&file), key(None))) {
            doubles.push(file);
        }
    }
    // A replay carries the id of what it replays; the two Daily samples tell one event in two ways; LiveKit's
    // samples are of one event that ended in five.
    assert_eq!(
        doubles,
        [
            "100ms/beam.recording.success-replay.json",
            "daily/recording.ready-to-download-no-type.json",
            "livekit/egress_ended-complete-segments.json",
            "livekit/egress_ended-failed.json",
            "livekit/egress_ended-aborted.json",
            "livekit/egress_ended-limit-reached.json",
        ]
    );
    let file = "meetingbaas/v2-bot.completed.json";
    let body = sample(file);
    let event = read_at(Provider::MeetingBaas, body.as_bytes(), Some("msg_1"));
    assert_eq!(
        (event.event_id.as_deref(), event.dedupe_key.as_str()),
        (Some("msg_1"), "msg_1")
    );
}

#[test]
fn one_lost_bot_is_one_loss() {
    let failed = read("meetingbaas/failed.json");
    let error = read("meetingbaas/bot.status_change-meeting_error.json");
    assert_eq!(failed.recording.identity(), error.recording.identity());
    assert_eq!(failed.failures[0].loss_key, error.failures[0].loss_key);
    assert_eq!(
        failed.failures[0].kind, None,
        "any file of the bot cures it"
    );
}

#[test]
fn events_of_one_recording_belong_together() {
    let same = |a: &str, b: &str| {
        let (a, b) = (read(a), read(b));
        let key = |event: &Event| key::recording_variable(&event.recording, &event.dedupe_key);
        assert_eq!(key(&a), key(&b));
    };
    same(
        "100ms/beam.recording.success.json",
        "100ms/transcription.success.json",
    );
    same(
        "daily/recording.ready-to-download-cloud.json",
        "daily/batch-processor.job-finished.json",
    );
    same(
        "dyte/meeting.chatSynced.json",
        "dyte/meeting.transcript.json",
    );
    same(
        "realtimekit/meeting.chatSynced.json",
        "realtimekit/meeting.summary.json",
    );
    same(
        "meetingbaas/complete.json",
        "meetingbaas/transcription_complete.json",
    );
}

#[test]
fn sizes_are_those_of_the_very_file() {
    let sizes = |file: &str| -> Vec<_> {
        read(file)
            .artifacts
            .into_iter()
            .filter(|a| !matches!(a.origin, Origin::Inline(_)))
            .map(|a| (a.name, a.size_bytes))
            .collect()
    };
    let told = |name: &str, size: Option<u64>| (name.to_owned(), size);
    assert_eq!(
        sizes("100ms/recording.success.json"),
        [
            told("recording.mp4", Some(13_933_649)),
            told("chat.csv", None)
        ]
    );
    assert_eq!(
        sizes("100ms/hls.recording.success-zip.json")[0],
        told("hls.zip", Some(60_102_400))
    );
    assert_eq!(
        sizes("100ms/hls.recording.success-m3u8-cdn.json")[0],
        told("hls/master.m3u8", None)
    );
    assert_eq!(
        sizes("100ms/stream.recording.success-documented-types.json")[0].1,
        Some(22_989_889)
    );
    assert_eq!(
        sizes("realtimekit/recording.statusUpdate-UPLOADED.json"),
        [
            told("recording.mp4", Some(2_044_680)),
            told("audio.mp3", None)
        ]
    );
    assert!(
        sizes("realtimekit/recording.statusUpdate-UPLOADED-tracks.json")
            .iter()
            .all(|(_, size)| size.is_none())
    );
}

#[test]
fn an_unusable_url_is_that_artifacts_failure_and_not_the_events() {
    for bad in [
        json!("s3://bucket/key?sig=CANARY"),
        json!("not a url"),
        json!(7),
        json!({"a": 1}),
        json!("http:///x"),
    ] {
        let mut body: Value =
            serde_json::from_str(&sample("100ms/recording.success.json")).unwrap();
        body["data"]["recording_presigned_url"] = bad.clone();
        body["data"]["URL"] = Value::Null;
        let event = read_value(Provider::Hms, &body);
        assert_eq!(event.class, EventClass::Artifacts, "{bad}");
        assert_eq!(event.artifacts.len(), 2, "{bad}");
        let Origin::Unusable(class, why) = &event.artifacts[0].origin else {
            panic!("{bad}: {:?}", event.artifacts[0].origin);
        };
        assert_eq!(*class, Class::Invalid);
        assert!(
            why.contains("recording_presigned_url") && !why.contains("CANARY"),
            "{why}"
        );
        assert!(url_of(&event.artifacts[1]).is_some());
    }
}

#[test]
fn a_deprecated_double_stands_in_when_the_field_itself_is_gone() {
    let mut body: Value = serde_json::from_str(&sample("100ms/recording.success.json")).unwrap();
    let double = body["data"]["URL"].as_str().unwrap().to_owned();
    body["data"]
        .as_object_mut()
        .unwrap()
        .remove("recording_presigned_url");
    let event = read_value(Provider::Hms, &body);
    assert_eq!(url_of(&event.artifacts[0]), Some(double.as_str()));
    assert_eq!(names(&event), ["recording.mp4", "chat.csv"]);
}

#[test]
fn a_success_without_any_url_asks_the_api() {
    let mut body: Value =
        serde_json::from_str(&sample("100ms/beam.recording.success-gcs.json")).unwrap();
    let data = body["data"].as_object_mut().unwrap();
    data.retain(|name, _| !name.ends_with("_url"));
    let event = read_value(Provider::Hms, &body);
    assert_eq!(event.class, EventClass::Lookup);
    assert_eq!(names(&event), ["recording.mp4", "chat.csv"]);
    body["data"] = json!({"session_id": "s"});
    let event = read_value(Provider::Hms, &body);
    assert_eq!(event.class, EventClass::Lookup);
    assert_eq!(names(&event), ["recording.mp4"]);
    body["data"] = json!({});
    let event = read_value(Provider::Hms, &body);
    assert_eq!(event.class, EventClass::Unknown);
    assert!(event.alert.is_some());
}

// S11: the link was the file's identity, so that a fresh one was another artifact.
#[test]
fn a_fresh_link_of_jaas_leads_to_the_same_file() {
    let read = |file: &str| std::fs::read_to_string(file).unwrap();
    let definition: ProviderDefinition = toml::from_str(&read("deploy/sources/jaas.toml")).unwrap();
    let identity = |link: &str| {
        let text = read("fixtures/events/jaas/RECORDING_UPLOADED.json");
        let mut event: Value = serde_json::from_str(&text).unwrap();
        event["idempotencyKey"] = json!(link);
        event["data"]["preAuthenticatedLink"] = json!(format!("https://h/{link}/weekly.mp4"));
        let body = event.to_string();
        let delivery = Delivery {
            body: body.as_bytes(),
            id_header: None,
            received_at: clock(),
        };
        let artifacts = definition.parse(&delivery).unwrap().artifacts;
        artifacts[0].identity.clone()
    };
    assert_eq!(identity("first"), identity("second"));
}

// D8
#[test]
fn a_daily_body_of_type_and_payload_alone_is_recognised() {
    for (kind, payload) in [
        ("recording.ready-to-download", json!({"recording_id": "r"})),
        ("recording.error", json!({"room_name": "r"})),
        ("transcript.ready-to-download", json!({})),
        ("meeting.ended", json!({})),
    ] {
        let body = json!({"type": kind, "payload": payload}).to_string();
        let found = recording_harvester::ingest::recognise(body.as_bytes());
        assert_eq!(found, Some(Provider::Daily), "{body}");
    }
    for body in [
        json!({"type": "something.else", "payload": {}}),
        json!({"type": "recording.ready-to-download", "payload": []}),
        json!({"type": "recording.ready-to-download"}),
    ] {
        let found = recording_harvester::ingest::recognise(body.to_string().as_bytes());
        assert_eq!(found, None, "{body}");
    }
}

#[test]
fn doubled_keys_and_other_oddities_of_json_are_forgiven() {
    let doubled = r#"{"version":"1.1.0","type":"transcript.ready-to-download","id":"x",
        "payload":{"id":"t","room_id":"r","room_id":"standup","room_name":"standup"},"event_ts":"1772447600"}"#;
    let event = read_at(Provider::Daily, doubled.as_bytes(), None);
    assert_eq!(event.class, EventClass::Lookup);
    assert_eq!(
        event.event_time,
        Some("2026-03-02T10:33:20Z".parse().unwrap())
    );
    let with_bom = format!("\u{feff}{doubled}");
    assert_eq!(
        read_at(Provider::Daily, with_bom.as_bytes(), None),
        read_at(Provider::Daily, with_bom.as_bytes(), None)
    );
}

#[test]
fn what_is_no_json_object_is_invalid_with_a_clear_error() {
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    let deep_object = format!("{}1{}", r#"{"a":"#.repeat(200), "}".repeat(200));
    let trailing = r#"{"type":"track.recording.success","data":{"x":1,}}"#;
    for body in [
        "",
        "no json",
        "[]",
        "7",
        "null",
        "\"x\"",
        "{",
        &deep,
        &deep_object,
        trailing,
    ] {
        for provider in Provider::ALL {
            let delivery = Delivery {
                body: body.as_bytes(),
                id_header: None,
                received_at: clock(),
            };
            let error = parse(provider, &delivery).unwrap_err();
            assert_eq!(error.class(), Class::Invalid);
            assert!(error.to_string().starts_with("the event is not"), "{error}");
        }
        assert_eq!(recognise(body.as_bytes()), None);
    }
    let error = parse(
        Provider::Hms,
        &Delivery {
            body: b"\xff\xfe{}",
            id_header: None,
            received_at: clock(),
        },
    );
    assert_eq!(error.unwrap_err().class(), Class::Invalid);
}

#[test]
fn unknown_types_are_kept_and_known_ones_that_can_not_be_read_raise_an_alert() {
    for (provider, body, class, has_alert) in [
        (
            Provider::Hms,
            json!({"type": "peer.join.success", "data": {}, "id": "1"}),
            EventClass::Ignored,
            false,
        ),
        (
            Provider::Hms,
            json!({"type": "recording.reborn", "data": {}, "id": "1"}),
            EventClass::Unknown,
            false,
        ),
        (
            Provider::Hms,
            json!({"id": "1"}),
            EventClass::Unknown,
            false,
        ),
        (
            Provider::MeetingBaas,
            json!({"event": "bot.chat_message", "data": {}}),
            EventClass::Ignored,
            false,
        ),
        (
            Provider::MeetingBaas,
            json!({"event": "bot.reborn", "data": {}}),
            EventClass::Unknown,
            false,
        ),
        (
            Provider::MeetingBaas,
            json!({"event": "transcription_complete", "data": 5}),
            EventClass::Unknown,
            true,
        ),
        (
            Provider::MeetingBaas,
            json!({"event": "bot.status_change", "data": {"status": []}}),
            EventClass::Unknown,
            true,
        ),
        (
            Provider::Daily,
            json!({"type": "participant.joined", "payload": {}}),
            EventClass::Ignored,
            false,
        ),
        (
            Provider::Daily,
            json!({"type": "recording.ready-to-download", "payload": null}),
            EventClass::Unknown,
            true,
        ),
        (
            Provider::Daily,
            json!({"test": "test"}),
            EventClass::Handshake,
            false,
        ),
        (
            Provider::Dyte,
            json!({"event": "livestreaming.statusUpdate", "streamKey": "x"}),
            EventClass::Ignored,
            false,
        ),
        (
            Provider::Dyte,
            json!({"event": "recording.statusUpdate", "recording": {"status": "MELTED"}}),
            EventClass::Unknown,
            true,
        ),
        (
            Provider::RealtimeKit,
            json!({"event": "meeting.summary"}),
            EventClass::Unknown,
            true,
        ),
    ] {
        let event = read_value(provider, &body);
        assert_eq!(
            (event.class, event.alert.is_some()),
            (class, has_alert),
            "{body}"
        );
    }
    let moved = json!({"event": "complete", "bot_id": "b", "mp4": "https://h/v.mp4"});
    assert_eq!(
        read_value(Provider::MeetingBaas, &moved)
            .recording
            .bot_id
            .as_deref(),
        Some("b")
    );
}

// ---- what is never shown

/// The queries of all URLs in a sample, and the values in them that only a signer knows.
fn secrets_in(raw: &str) -> Vec<String> {
    let mut secrets: Vec<String> = Vec::new();
    for piece in raw.split('"').filter(|piece| piece.contains("://")) {
        let Some((_, query)) = piece.split_once('?') else {
            continue;
        };
        secrets.push(query.to_owned());
        let values = query.split('&').filter(|pair| {
            let name = pair.to_ascii_lowercase();
            [
                "signature",
                "sig=",
                "credential",
                "accesskeyid",
                "key-pair-id",
            ]
            .iter()
            .any(|mark| name.contains(mark))
        });
        secrets.extend(values.map(str::to_owned));
    }
    secrets
}

#[test]
fn no_signature_appears_in_anything_that_is_shown_or_archived() {
    let layout = Layout::new("", key::DEFAULT_TEMPLATE).unwrap();
    let mut seen = 0;
    for file in event_files() {
        let event = read(&file);
        let folder = layout.folder(
            event.provider.as_str(),
            event.provider,
            &event.recording,
            &event.dedupe_key,
            event.event_time,
            clock(),
        );
        let inspected = serde_json::to_string(&describe_event(&event, &folder.path())).unwrap();
        let debugged = format!("{event:?}");
        let body = sample(&file);
        let archived = event.redacted.clone();
        let archived = archived.unwrap_or_else(|| redact_body(body.as_bytes()).unwrap());
        for secret in secrets_in(&body) {
            seen += 1;
            for shown in [&archived, &inspected, &debugged] {
                assert!(!shown.contains(&secret), "{file} shows {secret}");
            }
        }
        let archived: Value = serde_json::from_str(&archived).unwrap();
        assert!(archived.is_object(), "{file}");
    }
    assert!(seen > 100, "the samples hold {seen} secrets");
}

#[test]
fn planted_secrets_stay_in_the_raw_event() {
    let body = json!({
        "event": "livestreaming.statusUpdate", "streamId": "s", "streamKey": "CANARY",
        "playbackUrl": "https://user:CANARY@h/live.m3u8?key=CANARY#CANARY",
        "nested": [{"password": "CANARY", "note": "see https://h/p?X-Amz-Signature=CANARY for more"}],
        "x-rtk-header": "CANARY", "download_token": "CANARY",
        "recording": {"status": "ERRORED", "error": "PUT https://h/p?sig=CANARY failed"},
        "meeting": {"title": "https://h/room?token=CANARY", "sessionId": "s"},
    });
    for event_type in ["livestreaming.statusUpdate", "recording.statusUpdate"] {
        let mut body = body.clone();
        body["event"] = json!(event_type);
        let event = read_value(Provider::RealtimeKit, &body);
        let inspected = serde_json::to_string(&describe_event(&event, "f")).unwrap();
        assert!(
            !format!("{event:?}{inspected}").contains("CANARY"),
            "{event:?}"
        );
        let archived = redact_body(body.to_string().as_bytes()).unwrap();
        assert!(!archived.contains("CANARY"), "{archived}");
        assert!(archived.contains("https://h/p"), "{archived}");
    }
}

#[test]
fn the_inspected_event_has_the_documented_fields_in_order() {
    let event = read("100ms/recording.success.json");
    let text = serde_json::to_string(&describe_event(&event, "100ms/2026/03/02/s/s")).unwrap();
    assert_eq!(
        text.split("}],")
            .next()
            .unwrap()
            .split("},{")
            .next()
            .unwrap(),
        r#"{"provider":"100ms","event_id":"1b9d6bcd-bbfd-4b2d-9b5d-000000000101","event_type":"recording.success","class":"artifacts","event_time":"2026-03-02T10:33:20Z","recording":{"id":null,"session_id":"69a560000000000000000004","room_id":"69a560000000000000000003","room_name":"standup"},"artifacts":[{"name":"recording.mp4","kind":"video","format":"mp4","origin":"url","url":"http://127.0.0.1:8080/100ms/sfu/rec.mp4","deadline":"2026-03-03T10:33:20Z","deadline_from":"query","size_bytes":13933649,"key":"100ms/2026/03/02/s/s/recording.mp4""#
    );
    assert!(text.ends_with(r#""failure":null}"#), "{text}");
    let failed = serde_json::to_value(describe_event(
        &read("100ms/beam.failure-upload_error.json"),
        "f",
    ))
    .unwrap();
    assert_eq!(
        failed["failure"],
        json!({"class": "provider_failed", "code": "UPLOAD_ERROR", "message": "upload of the recording was refused"})
    );
}

// ---- lookups

fn credentials(base_url: Option<&str>) -> Credentials {
    Credentials {
        api_key: Some("KEY".into()),
        api_secret: Some("SECRET".into()),
        base_url: base_url.map(str::to_owned),
    }
}

fn lookup(call: &str, id: &str) -> Lookup {
    Lookup {
        call: call.into(),
        id: id.into(),
    }
}

fn answer(provider: Provider, lookup: &Lookup, file: &str) -> Vec<Artifact> {
    let response = ApiResponse {
        status: 200,
        retry_after: None,
        date: None,
        body: sample(file).into(),
    };
    lookup_answer(provider, lookup, &response, &Recording::default(), clock()).unwrap()
}

fn shown(artifacts: &[Artifact]) -> Vec<String> {
    let line = |a: &Artifact| {
        let at = a.deadline.at.map_or("-".to_owned(), |at| at.to_string());
        format!(
            "{} {} {} {at} {}",
            a.name,
            a.kind.as_str(),
            a.origin.as_str(),
            a.deadline.from.as_str()
        )
    };
    artifacts.iter().map(line).collect()
}

#[test]
fn every_lookup_and_remint_of_the_samples_has_a_request() {
    let mut calls = BTreeSet::new();
    for file in event_files() {
        let provider = provider_of(&file);
        for artifact in read(&file).artifacts {
            let asked = match artifact.origin {
                Origin::Lookup(lookup) => Some(lookup),
                _ => artifact.remint,
            };
            let Some(lookup) = asked else { continue };
            if !is_built_in(provider) {
                let asked = lookup_request(provider, &lookup, &credentials(None), clock());
                assert_eq!(asked.unwrap_err().class(), Class::Denied, "{file}");
                continue;
            }
            let request = lookup_request(
                provider,
                &lookup,
                &credentials(Some("https://api.example/")),
                clock(),
            )
            .unwrap();
            assert!(
                request.url.starts_with("https://api.example/")
                    && !request.url.contains("example//"),
                "{}",
                request.url
            );
            assert!(!format!("{request:?}").contains("SECRET") && !request.url.contains("KEY"));
            let without =
                lookup_request(provider, &lookup, &Credentials::default(), clock()).unwrap_err();
            assert_eq!(without.class(), Class::Denied);
            assert_eq!(
                without.to_string(),
                format!(
                    "{provider}: no api_key is set for this source; set sources.<name>.api_key"
                )
            );
            calls.insert(format!(
                "{provider} {} {}",
                lookup.call,
                request.url.replace(&lookup.id, "ID")
            ));
        }
    }
    insta::assert_snapshot!(calls.into_iter().collect::<Vec<_>>().join("\n"));
}

#[test]
fn requests_go_to_the_providers_own_address_and_carry_its_kind_of_credentials() {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use secrecy::ExposeSecret;
    let ask = |provider, call: &str| {
        lookup_request(provider, &lookup(call, "id-1"), &credentials(None), clock())
    };
    let header = |provider, call: &str| {
        let request = ask(provider, call).unwrap();
        let (name, value) = &request.headers[0];
        (request.url, *name, value.expose_secret().to_owned())
    };
    let expected = |url: &str, name, value: &str| (url.to_owned(), name, value.to_owned());
    assert_eq!(
        header(Provider::Daily, "daily-recording"),
        expected(
            "https://api.daily.co/v1/recordings/id-1/access-link",
            "authorization",
            "Bearer KEY"
        )
    );
    assert_eq!(
        header(Provider::MeetingBaas, "meetingbaas-v2-bot"),
        expected(
            "https://api.meetingbaas.com/v2/bots/id-1",
            "x-meeting-baas-api-key",
            "KEY"
        )
    );
    assert_eq!(
        header(Provider::Dyte, "dyte-recording"),
        expected(
            "https://api.dyte.io/v2/recordings/id-1",
            "authorization",
            "Basic S0VZOlNFQ1JFVA=="
        )
    );
    let error = ask(Provider::RealtimeKit, "dyte-chat").unwrap_err();
    assert_eq!(
        error.to_string(),
        "realtimekit: no base_url is set for this source; set sources.<name>.base_url"
    );
    assert!(ask(Provider::Daily, "hms-asset").is_err());
    assert!(
        lookup_request(
            Provider::Daily,
            &lookup("daily-recording", "../x"),
            &credentials(None),
            clock()
        )
        .is_err()
    );

    let (url, _, bearer) = header(Provider::Hms, "hms-recording");
    assert_eq!(url, "https://api.100ms.live/v2/recordings/id-1");
    let token = bearer.strip_prefix("Bearer ").unwrap();
    let (body, signature) = token.rsplit_once('.').unwrap();
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, b"SECRET");
    aws_lc_rs::hmac::verify(
        &key,
        body.as_bytes(),
        &URL_SAFE_NO_PAD.decode(signature).unwrap(),
    )
    .unwrap();
    let claims = URL_SAFE_NO_PAD
        .decode(body.split_once('.').unwrap().1)
        .unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    assert_eq!(
        (&claims["access_key"], &claims["type"], &claims["version"]),
        (&json!("KEY"), &json!("management"), &json!(2))
    );
    let life = claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap();
    assert!((60..3600).contains(&life));
    assert_eq!(
        header(Provider::Hms, "hms-recording").2,
        bearer,
        "deterministic"
    );
}

#[test]
fn answers_name_their_files() {
    let daily = answer(
        Provider::Daily,
        &lookup("daily-recording", "r"),
        "daily/api-recording-access-link.json",
    );
    assert_eq!(
        shown(&daily),
        ["recording.mp4 video url 2026-03-02T11:33:20Z field"]
    );
    let daily = answer(
        Provider::Daily,
        &lookup("daily-transcript", "t"),
        "daily/api-transcript-access-link.json",
    );
    assert_eq!(
        shown(&daily),
        ["transcript.vtt transcript url 2026-03-02T11:33:20Z query"]
    );
    let daily = answer(
        Provider::Daily,
        &lookup("daily-batch", "b"),
        "daily/api-batch-access-link.json",
    );
    let names: Vec<_> = daily.iter().map(|a| a.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "transcript.json",
            "transcript.srt",
            "transcript.txt",
            "transcript.vtt",
            "summary.txt"
        ]
    );

    let v1 = answer(
        Provider::MeetingBaas,
        &lookup("meetingbaas-v1-bot", "b"),
        "meetingbaas/api-v1-meeting_data.json",
    );
    assert_eq!(v1.len(), 1);
    let text = answer(
        Provider::MeetingBaas,
        &lookup("meetingbaas-v1-transcript", "b"),
        "meetingbaas/api-v1-meeting_data.json",
    );
    assert_eq!(
        shown(&text),
        [
            "transcript.json transcript inline - none",
            "transcript.vtt transcript inline - none"
        ]
    );
    assert!(matches!(&text[1].origin, Origin::Inline(vtt) if vtt.contains("<v Ada>Good</v>")));
    let v2 = answer(
        Provider::MeetingBaas,
        &lookup("meetingbaas-v2-bot", "b"),
        "meetingbaas/api-v2-get-bot.json",
    );
    let names: Vec<_> = v2.iter().map(|a| a.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "recording.mp4",
            "audio.flac",
            "diarization.jsonl",
            "transcript.json",
            "chat.json"
        ]
    );

    let dyte = answer(
        Provider::Dyte,
        &lookup("dyte-recording", "r"),
        "dyte/api-get-recording.json",
    );
    assert_eq!(
        shown(&dyte),
        ["recording.mp4 video url 2026-03-09T10:31:00Z field"]
    );
    let rtk = answer(
        Provider::RealtimeKit,
        &lookup("dyte-summary", "s"),
        "realtimekit/api-session-summary.json",
    );
    assert_eq!(
        shown(&rtk),
        ["summary.txt summary url 2026-03-09T10:31:00Z field"]
    );

    let assets = answer(
        Provider::Hms,
        &lookup("hms-session", "s"),
        "100ms/api-recording-assets.json",
    );
    assert_eq!(
        shown(&assets),
        [
            "recording.mp4 video lookup - none",
            "chat.csv chat lookup - none",
            "transcript.srt transcript lookup - none",
            "hls.zip hls url - none"
        ]
    );
    assert!(matches!(
        assets[3].origin,
        Origin::Unusable(Class::ProviderFailed, _)
    ));
    let Origin::Lookup(asset) = &assets[2].origin else {
        panic!()
    };
    let meant = lookup("hms-session", "s#s3://tenant-bucket/chat.csv");
    let meant = answer(Provider::Hms, &meant, "100ms/api-recording-assets.json");
    assert_eq!(shown(&meant), ["chat.csv chat lookup - none"]);
    let url = answer(Provider::Hms, asset, "100ms/api-presigned-url.json");
    assert_eq!(
        shown(&url),
        ["transcript.srt transcript url 2026-03-02T11:33:20Z query"]
    );
}

#[test]
fn an_error_text_in_place_of_a_link_is_the_providers_failure() {
    let file = "daily/api-recording-access-link-error-string.json";
    let response = ApiResponse {
        status: 200,
        retry_after: None,
        date: None,
        body: sample(file).into(),
    };
    let lookup = lookup("daily-recording", "r");
    let error = lookup_answer(
        Provider::Daily,
        &lookup,
        &response,
        &Recording::default(),
        clock(),
    )
    .unwrap_err();
    assert_eq!(error.class(), Class::ProviderFailed);
    assert!(
        error.to_string().contains("Unable to create access link"),
        "{error}"
    );
    let empty = ApiResponse {
        body: "{}".into(),
        ..response
    };
    for (provider, call) in [
        (Provider::Hms, "hms-session"),
        (Provider::MeetingBaas, "meetingbaas-v2-bot"),
        (Provider::Dyte, "dyte-chat"),
    ] {
        let lookup = Lookup {
            call: call.into(),
            id: "x".into(),
        };
        let error =
            lookup_answer(provider, &lookup, &empty, &Recording::default(), clock()).unwrap_err();
        // R9: an event is often faster than the list behind it.
        assert_eq!(error.class(), Class::Gone, "{call}");
        assert!(error.is_transient(), "{call}");
    }
}

#[test]
fn a_remint_finds_the_file_that_the_job_is_about() {
    let v2 = answer(
        Provider::MeetingBaas,
        &lookup("meetingbaas-v2-bot", "b"),
        "meetingbaas/api-v2-get-bot.json",
    );
    let found =
        |name: &str, kind, format| remint_match(&v2, name, kind, format).map(|a| a.name.as_str());
    assert_eq!(
        found("recording.mp4", Kind::Video, Format::Mp4),
        Some("recording.mp4")
    );
    assert_eq!(
        found("recording-2.mp4", Kind::Video, Format::Mp4),
        Some("recording.mp4")
    );
    assert_eq!(found("audio.wav", Kind::Audio, Format::Wav), None);
    assert_eq!(
        found("diarization.jsonl", Kind::Other, Format::Jsonl),
        Some("diarization.jsonl")
    );
    // Every file of the event that can be reminted is found in the answer to its own remint.
    for artifact in read("meetingbaas/v2-bot.completed-prose-shape.json").artifacts {
        assert_eq!(artifact.remint.as_ref().unwrap().call, "meetingbaas-v2-bot");
    }
}

// ---- broken events

/// Every place in `value`, as JSON pointers.
fn places(value: &Value, at: &str, out: &mut Vec<String>) {
    let children: Vec<(String, &Value)> = match value {
        Value::Object(map) => map
            .iter()
            .map(|(k, v)| (k.replace('~', "~0").replace('/', "~1"), v))
            .collect(),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .map(|(i, v)| (i.to_string(), v))
            .collect(),
        _ => Vec::new(),
    };
    for (name, child) in children {
        let at = format!("{at}/{name}");
        out.push(at.clone());
        places(child, &at, out);
    }
}

fn check_broken(provider: Provider, body: &Value, secrets: &[String], what: &str) {
    let event = read_value(provider, body);
    let shown = format!(
        "{}{event:?}{}",
        redact_body(body.to_string().as_bytes()).unwrap(),
        serde_json::to_string(&describe_event(&event, "f")).unwrap()
    );
    for secret in secrets {
        assert!(!shown.contains(secret), "{what} shows {secret}");
    }
    let unique: BTreeSet<_> = names(&event).into_iter().collect();
    assert_eq!(unique.len(), event.artifacts.len(), "{what}");
    assert!(
        event.artifacts.iter().all(|a| {
            let name = a.name.strip_prefix("hls/").unwrap_or(&a.name);
            !name.contains('/') && !name.is_empty()
        }),
        "{what}"
    );
    assert_eq!(
        event.class.has_recording(),
        !event.artifacts.is_empty() || !event.failures.is_empty(),
        "{what}"
    );
    recognise(body.to_string().as_bytes());
}

#[test]
fn a_field_dropped_nulled_or_retyped_never_breaks_the_reader() {
    let odd = [
        json!(null),
        json!(""),
        json!("text"),
        json!(-1),
        json!(1e308),
        json!(u64::MAX),
        json!(true),
        json!([]),
        json!({}),
        json!([null, 1, "x", {"a": []}]),
        json!("../../etc/passwd"),
        json!("0001-01-01T00:00:00Z"),
        json!("\u{202e}\u{0}"),
    ];
    // Which odd value meets which field turns with the count: thirteen of each field's like have seen them all.
    let mut count = 0;
    for file in event_files() {
        let raw = sample(&file);
        let secrets = secrets_in(&raw);
        let body: Value = serde_json::from_str(&raw).unwrap();
        let mut all = Vec::new();
        places(&body, "", &mut all);
        for place in all {
            let value = &odd[count % odd.len()];
            let mut broken = body.clone();
            *broken.pointer_mut(&place).unwrap() = value.clone();
            let what = format!("{file} {place}={value}");
            check_broken(provider_of(&file), &broken, &secrets, &what);
            let (parent, name) = place.rsplit_once('/').unwrap();
            let mut broken = body.clone();
            if let Some(Value::Object(map)) = broken.pointer_mut(parent) {
                map.remove(&name.replace("~1", "/").replace("~0", "~"));
                let what = format!("{file} without {place}");
                check_broken(provider_of(&file), &broken, &secrets, &what);
            }
            count += 1;
        }
    }
    assert!(count > 1_000, "{count}");
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(150))]

    /// Several fields at once swap places or change, for any provider's reader.
    #[test]
    fn any_shuffle_of_fields_is_read_without_panic(
        file in proptest::sample::select(event_files()),
        swaps in proptest::collection::vec((proptest::prelude::any::<u16>(), proptest::prelude::any::<u16>()), 1..8),
        provider in proptest::sample::select(Provider::ALL.to_vec()),
    ) {
        let mut body: Value = serde_json::from_str(&sample(&file)).unwrap();
        for (from, to) in swaps {
            let mut all = Vec::new();
            places(&body, "", &mut all);
            let value = body.pointer(&all[usize::from(from) % all.len()]).unwrap().clone();
            *body.pointer_mut(&all[usize::from(to) % all.len()]).unwrap() = value;
        }
        check_broken(provider, &body, &secrets_in(&sample(&file)), &file);
    }
}
