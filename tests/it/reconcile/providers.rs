//! Every provider's lists: what they tell makes the same jobs as the provider's own event, whichever comes first.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use recording_harvester::clock::{Clock as _, SystemClock};
use recording_harvester::ingest::list::Window;
use recording_harvester::ingest::{Delivery, lookup_answer, lookup_request, parse};
use recording_harvester::model::api::Credentials;
use recording_harvester::model::{Archived, Kind, Layout, Origin, Outcome, Provider, State, key};
use recording_harvester::source::guard::{Guard, GuardSettings};
use recording_harvester::source::http::{HttpSettings, HttpSource};
use recording_harvester::store::sqlite::SqliteStore;
use recording_harvester::store::*;
use recording_harvester::worker::scan::{
    Absent, FoundRecording, KnownRecording, Purpose, ScannedSource, Walked, Walker,
};
use recording_harvester::worker::{ApiPace, PaceSettings, SourceAccess};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::harness::api::{Answer, TestApi};

mod hms;
mod lost;
mod meetingbaas;
mod troubles;

struct World {
    api: TestApi,
    store: Arc<SqliteStore>,
    walker: Walker,
    subject: ScannedSource,
    _folder: tempfile::TempDir,
}

impl World {
    async fn start(provider: Provider) -> World {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&folder.path().join("harvester.db"))
            .await
            .unwrap();
        let store = Arc::new(store);
        let api = TestApi::start().await;
        let guard = Guard::new(GuardSettings {
            allow_networks: vec!["127.0.0.0/8".parse().unwrap()],
            allow_http: true,
            forbidden: Vec::new(),
        });
        let source = HttpSource::new(Arc::new(guard), HttpSettings::default()).unwrap();
        let access = SourceAccess {
            credentials: Credentials {
                api_key: Some("key".into()),
                api_secret: Some("secret".into()),
                base_url: Some(api.url()),
            },
            allow_hosts: Vec::new(),
            pace: Arc::new(ApiPace::new(PaceSettings {
                at_once: 4,
                spacing: Duration::ZERO,
            })),
            ..SourceAccess::default()
        };
        World {
            walker: Walker {
                store: Some(store.clone() as Arc<dyn JobStore>),
                source: Arc::new(source),
                clock: Arc::new(SystemClock),
                layout: Layout::new("", key::DEFAULT_TEMPLATE).unwrap(),
            },
            subject: ScannedSource {
                name: provider.as_str().to_owned(),
                provider,
                access,
                absent: Absent::default(),
            },
            api,
            store,
            _folder: folder,
        }
    }

    /// A sample with its placeholder filled in.
    fn sample(&self, file: &str) -> Value {
        let events = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/events");
        let text = std::fs::read_to_string(events.join(file)).unwrap();
        serde_json::from_str(&text.replace("{{ORIGIN}}", &self.api.url())).unwrap()
    }

    fn script(&self, path: &str, answers: impl IntoIterator<Item = (u16, Value)>) {
        let answers = answers
            .into_iter()
            .map(|(status, body)| Answer::json(status, body));
        self.api.script(path, answers);
    }

    /// The webhook comes, and its jobs are done.
    async fn hear(&self, event: &Value) {
        let raw = Bytes::from(event.to_string());
        let received_at = "2026-03-02T10:40:00Z".parse().unwrap();
        let delivery = Delivery {
            body: &raw,
            id_header: None,
            received_at,
        };
        let event = parse(self.subject.provider, &delivery).unwrap();
        let new = NewEvent::new(
            &self.subject.name,
            event,
            raw,
            &self.walker.layout,
            received_at,
        );
        self.store.record(new).await.unwrap();
        self.work().await;
    }

    /// The lists are walked, and their jobs are done.
    async fn walk(&self) -> (Walked, Vec<KnownRecording>) {
        let (walked, standings) = self.try_walk().await;
        (walked.whole().unwrap(), standings)
    }

    /// The same, where it may meet with trouble.
    async fn try_walk(&self) -> (Walked, Vec<KnownRecording>) {
        let mut standings = Vec::new();
        let purpose = Purpose {
            window: Window {
                since: "2026-03-02T00:00:00Z".parse().unwrap(),
                until: "2026-03-03T00:00:00Z".parse().unwrap(),
            },
            is_dry_run: false,
            is_thorough: false,
        };
        let mut on_sighting = |sighting: &FoundRecording| {
            standings.push(sighting.standing);
            Ok(())
        };
        let never = CancellationToken::new();
        let walked = self
            .walker
            .walk(&self.subject, &purpose, &mut on_sighting, &never);
        let walked = walked.await;
        self.work().await;
        (walked, standings)
    }

    /// What a worker does, but for the carrying.
    async fn work(&self) {
        loop {
            let mut claimed = Vec::new();
            for is_small in [true, false] {
                let now = SystemClock.now();
                let claim = ClaimRequest {
                    worker: "test".to_owned(),
                    is_small,
                    limit: 100,
                    now,
                    lease_until: now + SignedDuration::from_secs(60),
                    only: None,
                    held: Vec::new(),
                    takes_lapsed: true,
                };
                claimed.extend(self.store.claim(claim).await.unwrap());
            }
            if claimed.is_empty() {
                return;
            }
            for one in claimed {
                let now = SystemClock.now();
                let written = match &one.job.origin {
                    Origin::Lookup(lookup) => {
                        let credentials = &self.subject.access.credentials;
                        let provider = self.subject.provider;
                        let request = lookup_request(provider, lookup, credentials, now).unwrap();
                        let response = self.walker.source.call(&request).await.unwrap();
                        let found =
                            lookup_answer(provider, lookup, &response, &one.job.recording, now);
                        let found = found.unwrap_or_else(|error| panic!("{lookup:?}: {error}"));
                        self.store.resolve(&one.lease, found, now).await
                    }
                    _ => {
                        self.store
                            .settle(&one.lease, &archived(&one.job.key), now)
                            .await
                    }
                };
                assert_eq!(
                    written.unwrap(),
                    recording_harvester::store::LeaseWrite::Yes
                );
            }
        }
    }

    /// Folder and name of everything archived but the events themselves.
    async fn keys(&self) -> BTreeSet<String> {
        let records = self.store.list(&Filter::default()).await.unwrap();
        assert!(
            records.iter().all(|record| record.state == State::Archived),
            "{records:#?}"
        );
        let files = records.iter().filter(|record| record.kind != Kind::Event);
        let keys: Vec<_> = files.map(|record| record.key.clone()).collect();
        let unique: BTreeSet<_> = keys.iter().cloned().collect();
        assert_eq!(keys.len(), unique.len());
        unique
    }
}

fn archived(key: &str) -> Outcome {
    Outcome::Archived(Archived {
        key: key.to_owned(),
        size_bytes: 1,
        crc64nvme: "AAAAAAAAAAA=".to_owned(),
        sha256: None,
        etag: None,
        version_id: None,
    })
}

/// Both orders, and the walk alone, end in the same keys. `script` sets the API up, and gives the events.
async fn check(provider: Provider, script: impl Fn(&World) -> Vec<Value>) -> BTreeSet<String> {
    let told = World::start(provider).await;
    for event in script(&told) {
        told.hear(&event).await;
    }
    let by_webhook = told.keys().await;
    let asked = told.api.asked().len();
    let (walked, standings) = told.walk().await;
    assert_eq!(told.keys().await, by_webhook, "webhook, then walk");
    assert!(walked.found > 0);
    assert_eq!(standings, vec![KnownRecording::Known; standings.len()]);
    let pages = told.api.asked().len() - asked;
    // Pages, and what sessions may have left that nobody has seen yet.
    assert!(pages <= 7, "what is known is not asked for: {pages}");

    let missed = World::start(provider).await;
    let events = script(&missed);
    let (walked, standings) = missed.walk().await;
    assert_eq!(walked.new, walked.found, "{standings:?}");
    let by_walk = missed.keys().await;
    for event in &events {
        missed.hear(event).await;
    }
    assert_eq!(missed.keys().await, by_walk, "walk, then webhook");
    assert_eq!(by_walk, by_webhook, "walk alone");
    by_webhook
}

fn names(keys: &BTreeSet<String>) -> Vec<&str> {
    keys.iter()
        .map(|key| key.rsplit('/').next().unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_100ms_recordings_with_their_assets() {
    let keys = check(Provider::Hms, |world| {
        let asset = |id: &str, sort: &str, path: &str| {
            json!({"id": id, "type": sort, "path": path, "status": "completed", "size": 1000, "metadata": {}})
        };
        let beam = |name: &str| format!("s3://tenant-bucket/beam/20260302/{name}");
        let page = json!({"limit": 100, "last": "69a560000000000000000007", "data": [
            {"id": "69a560000000000000000007", "session_id": "69a560000000000000000004",
             "room_id": "69a560000000000000000003", "status": "completed", "created_at": "2026-03-02T10:33:20.000Z",
             "started_at": "2026-03-02T10:00:00.000Z", "stopped_at": "2026-03-02T10:30:00.000Z",
             "recording_assets": [asset("a1", "room-composite", &beam("rec.mp4")), asset("a2", "chat", &beam("chat.csv"))]},
            {"id": "69a560000000000000000099", "session_id": "s", "status": "started",
             "created_at": "2026-03-02T10:33:20.000Z", "recording_assets": []},
        ]});
        let empty = json!({"limit": 100, "last": "", "data": []});
        world.script("/recordings", [(200, page), (200, empty)]);
        for (id, name) in [("a1", "rec.mp4"), ("a2", "chat.csv")] {
            // Signed for another host and path than the event's.
            let url = format!("{}/fresh/{name}?X-Amz-Signature=0", world.api.url());
            let answer = json!({"id": id, "path": beam(name), "url": url, "expiry": 3600});
            world.script(&format!("/recording-assets/{id}/presigned-url"), [(200, answer)]);
        }
        vec![world.sample("100ms/beam.recording.success.json")]
    })
    .await;
    assert_eq!(names(&keys), ["chat.csv", "recording.mp4"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_dyte_and_realtimekit_recordings_and_sessions() {
    for provider in [Provider::Dyte, Provider::RealtimeKit] {
        let keys = check(provider, |world| {
            let mut list = world.sample("realtimekit/api-list-recordings.json");
            list["data"].as_array_mut().unwrap().truncate(1);
            list["paging"]["total_count"] = json!(1);
            world.script("/recordings", [(200, list)]);
            let session = "1b9d6bcd-bbfd-4b2d-9b5d-000000000502";
            let sessions = json!({"success": true, "data": {"sessions": [
                {"id": session, "associated_id": "1b9d6bcd-bbfd-4b2d-9b5d-000000000501", "status": "ENDED",
                 "started_at": "2026-03-02T10:00:00.000Z", "ended_at": "2026-03-02T10:30:00.000Z"},
                {"id": "silent", "status": "ENDED", "started_at": "2026-03-02T11:00:00.000Z",
                 "ended_at": "2026-03-02T11:30:00.000Z"},
                {"id": "live", "status": "LIVE", "started_at": "2026-03-02T11:00:00.000Z"},
            ]}, "paging": {"total_count": 3, "start_offset": 1, "end_offset": 3}});
            world.script("/sessions", [(200, sessions)]);
            let of = |what: &str| format!("/sessions/{session}/{what}");
            let file = |name: &str| format!("{}/fresh/{name}?X-Amz-Signature=0", world.api.url());
            let expiry = "2026-03-09T10:31:00.000Z";
            // The chat is there; of the transcript there is none yet.
            let chat = match provider {
                Provider::Dyte => "chat.csv",
                _ => "chat.json",
            };
            let chat = json!({"data": {"chat_download_url": file(chat), "chat_download_url_expiry": expiry}});
            world.script(&of("chat"), [(200, chat)]);
            world.script(&of("transcript"), [(404, json!({}))]);
            world.script(&of("summary"), [(404, json!({}))]);
            let folder = provider.as_str();
            let recording = match provider {
                Provider::Dyte => "dyte/recording.statusUpdate-UPLOADED-no-audio.json".to_owned(),
                _ => "realtimekit/recording.statusUpdate-UPLOADED-no-audio.json".to_owned(),
            };
            let mut chat = world.sample(&format!("{folder}/meeting.chatSynced.json"));
            chat["sessionId"] = json!(session);
            let mut recording = world.sample(&recording);
            recording["meeting"]["sessionId"] = json!(session);
            vec![recording, chat]
        })
        .await;
        let names = names(&keys);
        assert_eq!(names.len(), 2, "{names:?}");
        assert!(names.contains(&"recording.mp4"), "{names:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_daily_recordings_of_any_sort_and_transcripts() {
    for event in ["cloud", "no-type"] {
        let keys = check(Provider::Daily, |world| {
            let empty = json!({"total_count": 2, "data": []});
            let list = world.sample("daily/api-list-recordings.json");
            world.script("/recordings", [(200, list), (200, empty.clone())]);
            let recording = "1b9d6bcd-bbfd-4b2d-9b5d-000000000401";
            let transcript = "1b9d6bcd-bbfd-4b2d-9b5d-000000000404";
            let transcripts = json!({"total_count": 1, "data": [
                {"transcriptId": transcript, "roomId": "1b9d6bcd-bbfd-4b2d-9b5d-000000000405",
                 "mtgSessionId": "1b9d6bcd-bbfd-4b2d-9b5d-000000000406", "status": "t_finished", "isVttAvailable": true,
                 "duration": 1799.405, "outParams": {"s3": {"key": "acme/standup/1772445600000.vtt"}}},
                {"transcriptId": "unfinished", "mtgSessionId": "m", "status": "t_in_progress"},
            ]});
            world.script("/transcript", [(200, transcripts), (200, empty)]);
            let link = world.sample("daily/api-recording-access-link.json");
            world.script(&format!("/recordings/{recording}/access-link"), [(200, link)]);
            let link = world.sample("daily/api-transcript-access-link.json");
            world.script(&format!("/transcript/{transcript}/access-link"), [(200, link)]);
            vec![
                world.sample(&format!("daily/recording.ready-to-download-{event}.json")),
                world.sample("daily/transcript.ready-to-download.json"),
            ]
        })
        .await;
        assert_eq!(names(&keys), ["recording.mp4", "transcript.vtt"]);
    }
}

/// A page fewer while numbered pages are read: what moved up is found by reading once more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_moves_to_a_page_that_was_read_is_not_missed() {
    let world = World::start(Provider::Dyte).await;
    let item = |number: usize| {
        json!({"id": format!("r{number}"), "status": "UPLOADED", "session_id": format!("s{number}"),
               "download_url": format!("{}/f/{number}.mp4", world.api.url()),
               "started_time": "2026-03-02T10:00:00.000Z", "stopped_time": "2026-03-02T10:30:00.000Z"})
    };
    let page = |numbers: &[usize], total: usize, end: usize| {
        let data: Vec<_> = numbers.iter().map(|number| item(*number)).collect();
        (
            200,
            json!({"success": true, "data": data, "paging": {"total_count": total, "end_offset": end}}),
        )
    };
    // r0 is deleted after the first page: r2 moves to the first, where nobody looks any more.
    let second = page(&[3], 3, 3);
    let again = [page(&[1, 2], 3, 2), page(&[3], 3, 3)];
    world.script(
        "/recordings",
        [page(&[0, 1], 4, 2), second].into_iter().chain(again),
    );
    world.script("/sessions", [(200, json!({"success": true, "data": []}))]);
    let (walked, _) = world.walk().await;
    assert_eq!((walked.found, walked.new), (4, 4));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_that_goes_in_a_circle_ends_with_an_error() {
    let world = World::start(Provider::MeetingBaas).await;
    let bot = |id: &str, next: &str| {
        (
            200,
            json!({"data": [{"bot_id": id, "status": "queued", "created_at": "2026-03-02T10:00:00Z"}], "cursor": next}),
        )
    };
    world.script(
        "/v2/bots",
        [bot("a", "1"), bot("b", "2"), bot("c", "1"), bot("d", "2")],
    );
    let purpose = Purpose {
        window: Window {
            since: Timestamp::UNIX_EPOCH,
            until: SystemClock.now(),
        },
        is_dry_run: true,
        is_thorough: false,
    };
    let never = CancellationToken::new();
    let mut ignore = |_: &FoundRecording| Ok(());
    let walked = world
        .walker
        .walk(&world.subject, &purpose, &mut ignore, &never);
    let error = walked.await.whole().unwrap_err();
    assert!(error.full_message().contains("circle"), "{error}");
}
