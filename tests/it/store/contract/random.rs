//! A small model of the rules beside the store: after any sequence of calls both say the same.

use std::collections::BTreeMap;

use recording_harvester::error::Class;
use recording_harvester::model::{JobId, Kind, Lease, Outcome, State};
use recording_harvester::schedule::order::Urgency;
use recording_harvester::store::{LeaseWrite, Selection};

use super::build::*;
use super::{Backend, on_every_backend};

on_every_backend! { hundreds_of_random_calls_leave_what_the_model_says }

const CALLS: usize = 300;
const LEASE_SECONDS: i64 = 60;

#[derive(Clone, Debug)]
struct Modelled {
    id: JobId,
    state: State,
    class: Option<Class>,
    attempts: u32,
    due: i64,
    token: i64,
    lease_until: i64,
    unsettled: u32,
    urgency: Urgency,
    has_fresh_origin: bool,
}

/// Videos by recording and path.
#[derive(Default)]
struct Model {
    jobs: BTreeMap<(u32, u32), Modelled>,
    events: u32,
}

impl Model {
    fn by_id(&mut self, id: JobId) -> &mut Modelled {
        self.jobs
            .values_mut()
            .find(|job| job.id == id)
            .expect("the store made up a job")
    }

    /// What a claim must give: a suspect if none is on its way, and the first due ones, least slack first.
    /// One that has had its chances fails on the way, which clears the other suspects.
    fn claimable(&mut self, now: i64, limit: usize) -> Vec<JobId> {
        let mut due: Vec<&Modelled> = self
            .jobs
            .values()
            .filter(|job| match job.state {
                State::Pending => job.due <= now,
                State::Running => job.lease_until <= now && job.unsettled < 2,
                _ => false,
            })
            .collect();
        due.sort_by_key(|job| job.urgency);
        let due: Vec<_> = due.into_iter().map(|job| job.id).collect();
        let mut claimed = Vec::new();
        let is_suspect = |job: &Modelled| job.state == State::Running && job.unsettled >= 2;
        let mut suspects: Vec<&mut Modelled> = self
            .jobs
            .values_mut()
            .filter(|job| is_suspect(job))
            .collect();
        suspects.sort_by_key(|job| (job.unsettled, job.urgency));
        let has_lapsed = |job: &&mut Modelled| job.lease_until <= now;
        let is_deadly = |job: &&mut Modelled| has_lapsed(job) && job.unsettled >= 20;
        if suspects.iter().any(is_deadly) {
            for job in &mut suspects {
                if is_deadly(job) {
                    (job.state, job.class) = (State::Failed, Some(Class::Internal));
                    job.unsettled = 0;
                } else {
                    job.unsettled = 1;
                }
            }
            suspects.clear();
        }
        let mut suspects: Vec<&Modelled> =
            self.jobs.values().filter(|job| is_suspect(job)).collect();
        suspects.sort_by_key(|job| (job.unsettled, job.urgency));
        let is_running = |job: &&Modelled| job.unsettled > 2 && job.lease_until > now;
        if !suspects.iter().any(is_running)
            && let Some(suspect) = suspects.iter().find(|job| job.lease_until <= now)
        {
            claimed.push(suspect.id);
        }
        claimed.extend(due.into_iter().take(limit - claimed.len()));
        claimed
    }
}

#[expect(clippy::print_stdout, reason = "a failure must name its seed")]
async fn hundreds_of_random_calls_leave_what_the_model_says(backend: &dyn Backend) {
    let seed = match std::env::var("SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => fastrand::u64(..),
    };
    println!("seed {seed}: replay with SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut store = backend.open().await;
    let mut model = Model::default();
    let mut leases: Vec<Lease> = Vec::new();
    let mut now = 0;
    for call in 0..CALLS {
        now += random.i64(0..20);
        match random.u32(0..12) {
            0..=2 => {
                let (recording, path) = (random.u32(0..12), random.u32(0..2));
                let deadline = now + random.i64(100..5000);
                model.events += 1;
                let artifact = video(&format!("v{path}"), Some(deadline));
                let urgency = |id| Urgency::of(id, artifact.deadline, artifact.size_bytes);
                let new = event(&format!("e{}", model.events), &format!("r{recording}"))
                    .with(artifact.clone());
                let recorded = store.record(new.received(now)).await.unwrap();
                match model.jobs.get_mut(&(recording, path)) {
                    None => {
                        let job = Modelled {
                            id: recorded.jobs[0],
                            state: State::Pending,
                            class: None,
                            attempts: 0,
                            due: now,
                            token: 0,
                            lease_until: 0,
                            unsettled: 0,
                            urgency: urgency(recorded.jobs[0]),
                            has_fresh_origin: false,
                        };
                        model.jobs.insert((recording, path), job);
                    }
                    Some(job) if job.state == State::Archived => {
                        assert!(!recorded.jobs.contains(&job.id));
                    }
                    Some(job) => {
                        assert_eq!(recorded.jobs[0], job.id);
                        job.urgency = urgency(job.id);
                        job.due = job.due.min(now);
                        job.has_fresh_origin = job.state == State::Running;
                        if job.state.is_settled() {
                            (job.state, job.class, job.unsettled) = (State::Pending, None, 0);
                        }
                        if job.state == State::Pending {
                            job.attempts = 0;
                        }
                    }
                }
            }
            3 if model.events > 0 => {
                let key = format!("e{}", random.u32(1..=model.events));
                let again = event(&key, "anywhere")
                    .with(video("other", None))
                    .received(now);
                assert!(store.record(again).await.unwrap().is_duplicate);
            }
            4..=6 => {
                let limit = random.u32(1..5);
                let expected = model.claimable(now, limit as usize);
                let claimed = store.claim(claim_at(now, false, limit)).await.unwrap();
                let got: Vec<_> = claimed.iter().map(|one| one.job.id).collect();
                assert_eq!(got, expected, "call {call} at {now}");
                for one in claimed {
                    let job = model.by_id(one.job.id);
                    job.state = State::Running;
                    job.attempts += 1;
                    job.unsettled += 1;
                    job.token += 1;
                    job.lease_until = now + LEASE_SECONDS;
                    assert_eq!(one.lease.token, job.token);
                    leases.push(one.lease);
                }
            }
            7..=8 if !leases.is_empty() => {
                let lease = leases[random.usize(..leases.len())].clone();
                let outcome = match random.u32(0..5) {
                    0..=1 => archived("key"),
                    2 => retry_at(now + random.i64(0..100), random.bool()),
                    3 => expired(),
                    _ => failed(Class::Gone),
                };
                let written = store.settle(&lease, &outcome, at(now)).await.unwrap();
                let job = model.by_id(lease.job);
                let is_current = job.state == State::Running && job.token == lease.token;
                assert_eq!(written == LeaseWrite::Yes, is_current, "call {call}");
                if is_current {
                    settle(job, &outcome, now);
                }
            }
            9 if !leases.is_empty() => {
                let lease = leases[random.usize(..leases.len())].clone();
                let lost = store
                    .heartbeat(std::slice::from_ref(&lease), at(now + LEASE_SECONDS))
                    .await
                    .unwrap();
                let job = model.by_id(lease.job);
                let is_current = job.state == State::Running && job.token == lease.token;
                assert_eq!(lost.is_empty(), is_current, "call {call}");
                if is_current {
                    job.lease_until = now + LEASE_SECONDS;
                }
            }
            10 if !model.jobs.is_empty() => {
                let picked = random.usize(..model.jobs.len());
                let job = model.jobs.values_mut().nth(picked).unwrap();
                if random.bool() {
                    store.cancel(&[job.id.0], at(now)).await.unwrap();
                    if !job.state.is_settled() {
                        (job.state, job.class, job.unsettled) = (State::Cancelled, None, 0);
                    }
                } else {
                    store
                        .retry(&Selection::Ids(vec![job.id.0]), at(now))
                        .await
                        .unwrap();
                    if job.state.is_settled() && job.state != State::Archived {
                        (job.state, job.class) = (State::Pending, None);
                        (job.attempts, job.unsettled, job.due) = (0, 0, now);
                    }
                }
            }
            _ => {
                drop(store);
                store = backend.open().await;
            }
        }
        // The events themselves, so that recordings can become complete.
        for one in store.claim(claim_at(now, true, 64)).await.unwrap() {
            let settled = store.settle(&one.lease, &archived("event"), at(now)).await;
            assert_eq!(settled.unwrap(), LeaseWrite::Yes);
        }
        let all = records(&*store).await;
        let mut is_complete = BTreeMap::new();
        for record in &all {
            let is_so_far = is_complete.entry(record.recording_id).or_insert(true);
            *is_so_far &= record.state.is_settled();
        }
        let complete = is_complete.iter().filter(|(_, is_complete)| **is_complete);
        let complete: Vec<_> = complete.map(|(recording, _)| *recording).collect();
        let unsealed = store.unsealed(u32::MAX).await.unwrap();
        assert_eq!(unsealed, complete, "after call {call} at {now}");
        let stored: BTreeMap<JobId, _> = all
            .into_iter()
            .filter(|record| record.kind == Kind::Video)
            .map(|record| (record.id, (record.state, record.class, record.attempts)))
            .collect();
        let expected: BTreeMap<JobId, _> = model
            .jobs
            .values()
            .map(|job| (job.id, (job.state, job.class, job.attempts)))
            .collect();
        assert_eq!(stored, expected, "after call {call} at {now}");
    }
}

fn settle(job: &mut Modelled, outcome: &Outcome, now: i64) {
    job.unsettled = 0;
    let has_fresh_origin = std::mem::take(&mut job.has_fresh_origin);
    job.class = match outcome {
        Outcome::Archived(_) => None,
        Outcome::Retry { class, .. } | Outcome::Failed { class, .. } => Some(*class),
        Outcome::Expired { .. } => Some(Class::Expired),
    };
    job.state = outcome.state();
    if let Outcome::Retry {
        at: due,
        is_counted,
        ..
    } = outcome
    {
        job.due = due.duration_since(at(0)).as_secs();
        job.attempts -= u32::from(!is_counted);
    }
    if has_fresh_origin && job.state != State::Archived {
        job.state = State::Pending;
        job.due = now;
        job.attempts = 0;
    }
}
