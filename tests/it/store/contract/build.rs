//! Events and calls as the cases need them.

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use recording_harvester::error::Class;
use recording_harvester::model::event::ProviderFailure;
use recording_harvester::model::{
    Archived, Artifact, Deadline, DeadlineFrom, Event, EventClass, Format, JobId, Kind, Layout,
    Lookup, Origin, Outcome, Provider, Record, Recording, State, key,
};
use recording_harvester::signed_url::SignedUrl;
use recording_harvester::store::{ClaimRequest, Claimed, Filter, JobStore, LeaseWrite, NewEvent};

pub const NOW: &str = "2026-03-02T12:00:00Z";

/// `NOW` plus `seconds`.
pub fn at(seconds: i64) -> Timestamp {
    let now: Timestamp = NOW.parse().unwrap();
    now + SignedDuration::from_secs(seconds)
}

/// An event of recording `recording`, known by `dedupe_key`.
pub struct EventBuilder(pub Event);

pub fn event(dedupe_key: &str, recording: &str) -> EventBuilder {
    EventBuilder(Event {
        provider: Provider::Hms,
        event_id: Some(dedupe_key.to_owned()),
        event_type: Some("recording.success".to_owned()),
        dedupe_key: dedupe_key.to_owned(),
        class: EventClass::Artifacts,
        event_time: None,
        recording: Recording {
            recording_id: Some(recording.to_owned()),
            ..Recording::default()
        },
        artifacts: Vec::new(),
        failures: Vec::new(),
        alert: None,
        redacted: None,
    })
}

impl EventBuilder {
    pub fn with(mut self, artifact: Artifact) -> Self {
        self.0.artifacts.push(artifact);
        self
    }

    pub fn class(mut self, class: EventClass) -> Self {
        self.0.class = class;
        self
    }

    pub fn time(mut self, seconds: i64) -> Self {
        self.0.event_time = Some(at(seconds));
        self
    }

    pub fn told(mut self, tell: impl FnOnce(&mut Recording)) -> Self {
        tell(&mut self.0.recording);
        self
    }

    pub fn losing(mut self, kind: Option<Kind>, loss_key: &str) -> Self {
        self.0.class = match self.0.artifacts.is_empty() {
            true => EventClass::Failure,
            false => EventClass::ArtifactsAndFailure,
        };
        self.0.failures.push(ProviderFailure {
            class: Class::ProviderFailed,
            code: Some("UPLOAD_ERROR".to_owned()),
            message: "the provider has no file".to_owned(),
            kind,
            loss_key: loss_key.to_owned(),
        });
        self
    }

    /// As it comes in at `NOW` plus `seconds`.
    pub fn received(self, seconds: i64) -> NewEvent {
        let layout = Layout::new("", key::DEFAULT_TEMPLATE).unwrap();
        let raw = Bytes::from(format!("{{\"id\":\"{}\"}}", self.0.dedupe_key));
        NewEvent::new("hms", self.0, raw, &layout, at(seconds))
    }
}

/// A video behind `https://cdn.example/{path}`, signed until `NOW` plus `deadline` seconds.
pub fn video(path: &str, deadline: Option<i64>) -> Artifact {
    Artifact {
        identity: format!("url:/{path}"),
        name: "recording.mp4".to_owned(),
        kind: Kind::Video,
        format: Format::Mp4,
        origin: url(path, "first"),
        remint: None,
        deadline: match deadline {
            Some(seconds) => Deadline::at(at(seconds), DeadlineFrom::Query),
            None => Deadline::NONE,
        },
        size_bytes: Some(1024),
    }
}

/// One that takes longer to carry than the deadline that the other has before it.
pub fn huge_and_soon() -> (Artifact, Artifact) {
    let mut huge = video("huge", Some(7200));
    huge.size_bytes = Some(1 << 36);
    (huge, video("soon", Some(3600)))
}

pub fn url(path: &str, signature: &str) -> Origin {
    Origin::Url(SignedUrl::new(format!(
        "https://cdn.example/{path}?X-Amz-Signature={signature}"
    )))
}

pub fn transcript(path: &str) -> Artifact {
    Artifact {
        name: "transcript.json".to_owned(),
        kind: Kind::Transcript,
        format: Format::Json,
        ..video(path, Some(3600))
    }
}

pub fn lookup(id: &str) -> Artifact {
    let lookup = Lookup {
        call: "daily-recording".to_owned(),
        id: id.to_owned(),
    };
    Artifact {
        identity: format!("lookup:daily-recording:{id}"),
        origin: Origin::Lookup(lookup.clone()),
        remint: Some(lookup),
        deadline: Deadline::NONE,
        size_bytes: None,
        ..video("unused", None)
    }
}

/// A claim of the lane at `NOW` plus `seconds`, leased for a minute.
pub fn claim_at(seconds: i64, is_small: bool, limit: u32) -> ClaimRequest {
    ClaimRequest {
        worker: "worker-1".to_owned(),
        is_small,
        limit,
        now: at(seconds),
        lease_until: at(seconds + 60),
        only: None,
        held: Vec::new(),
        takes_lapsed: true,
    }
}

/// Claims one large job, which must be there.
pub async fn claim_one(store: &dyn JobStore, seconds: i64) -> Claimed {
    let mut claimed = store.claim(claim_at(seconds, false, 1)).await.unwrap();
    claimed.pop().expect("a large job is due")
}

pub fn archived(key: &str) -> Outcome {
    Outcome::Archived(Archived {
        key: key.to_owned(),
        size_bytes: 1024,
        crc64nvme: "AAAAAAAAAAA=".to_owned(),
        sha256: None,
        etag: Some("etag-1".to_owned()),
        version_id: None,
    })
}

pub fn retry_at(seconds: i64, is_counted: bool) -> Outcome {
    Outcome::Retry {
        at: at(seconds),
        class: Class::Unreachable,
        message: "the origin hung up".to_owned(),
        is_counted,
    }
}

pub fn expired() -> Outcome {
    Outcome::Expired {
        message: "403 after the deadline".to_owned(),
    }
}

pub fn failed(class: Class) -> Outcome {
    Outcome::Failed {
        class,
        message: "no more tries".to_owned(),
    }
}

/// Claims all that is due in both lanes and archives it.
pub async fn archive_all(store: &dyn JobStore, seconds: i64) {
    for is_small in [true, false] {
        loop {
            let claimed = store.claim(claim_at(seconds, is_small, 64)).await.unwrap();
            if claimed.is_empty() {
                break;
            }
            for one in claimed {
                let outcome = archived(&one.job.key);
                let written = store
                    .settle(&one.lease, &outcome, at(seconds))
                    .await
                    .unwrap();
                assert_eq!(written, LeaseWrite::Yes);
            }
        }
    }
}

pub async fn records(store: &dyn JobStore) -> Vec<Record> {
    store.list(&Filter::default()).await.unwrap()
}

pub async fn record_of(store: &dyn JobStore, job: JobId) -> Record {
    let filter = Filter {
        ids: vec![job.0],
        ..Filter::default()
    };
    let mut found = store.list(&filter).await.unwrap();
    assert_eq!(found.len(), 1, "one record of {job}");
    found.remove(0)
}

/// Records but those of the events themselves, as `name state`, by name.
pub async fn states(store: &dyn JobStore) -> Vec<String> {
    let mut states: Vec<String> = records(store)
        .await
        .into_iter()
        .filter(|record| record.kind != Kind::Event)
        .map(|record| format!("{} {}", record.name, record.state))
        .collect();
    states.sort();
    states
}

pub async fn open_jobs(store: &dyn JobStore) -> u64 {
    let stats = store.stats().await.unwrap();
    let is_open = |state: State| !state.is_settled();
    stats
        .jobs
        .into_iter()
        .filter(|(state, _)| is_open(*state))
        .map(|(_, count)| count)
        .sum()
}

pub async fn videos(store: &dyn JobStore, count: usize) -> Vec<JobId> {
    let mut jobs = Vec::new();
    for number in 0..count {
        let new = event(&format!("e{number}"), &format!("r{number}")).with(video("v", None));
        jobs.push(store.record(new.received(0)).await.unwrap().jobs[0]);
    }
    jobs
}

/// Claims all small artifacts that are due and archives them.
pub async fn archive_small_at(store: &dyn JobStore, seconds: i64) {
    for claimed in store.claim(claim_at(seconds, true, 99)).await.unwrap() {
        let outcome = archived(&claimed.job.key);
        assert_eq!(
            store
                .settle(&claimed.lease, &outcome, at(seconds))
                .await
                .unwrap(),
            LeaseWrite::Yes
        );
    }
}
