//! The door that is held open: what has to be opened before a URL dies is open by then, and what is open
//! is read to its end.

use std::time::{Duration, Instant};

use futures::StreamExt;
use jiff::{SignedDuration, Timestamp};
use recording_harvester::clock::{Clock as _, SystemClock};
use recording_harvester::error::Class;
use recording_harvester::model::{Deadline, DeadlineFrom, Format, Job};
use recording_harvester::source::http::HttpSettings;
use recording_harvester::source::{OpenRequest, Source, Waits};
use recording_harvester::transfer::TransferSettings;

use super::lanes::{archive, throttled};
use super::world::{MIB, World, mp4, small_parts};
use super::{loopback_source, source_with};
use crate::harness::origin::{Behaviour, Fault};

/// A deadline in whole seconds, `seconds` from now or a little more.
pub fn deadline_in(seconds: i64) -> (Deadline, Instant) {
    let now = SystemClock.now();
    let at = Timestamp::from_second(now.as_second() + seconds + 1).unwrap();
    let left = Duration::try_from(at.duration_since(now) - SignedDuration::ZERO).unwrap();
    (Deadline::at(at, DeadlineFrom::Query), Instant::now() + left)
}

/// Every lane beyond the first is one that only a dying URL gets: without them the door is not held.
fn with_surge(surge: u32) -> TransferSettings {
    TransferSettings {
        lanes: 8,
        all_lanes: 0,
        surge,
        ..small_parts()
    }
}

/// A job for `path` whose URL dies in one to two seconds, where the origin behaves so until then.
async fn dying(world: &World, path: &str, content: &[u8], behaviour: Behaviour) -> (Job, Instant) {
    let (deadline, until) = deadline_in(1);
    let behaviour = Behaviour {
        valid_until: Some(until),
        ..behaviour
    };
    world.origin.serve(path, content, behaviour);
    let job = Job {
        deadline,
        ..world.job(path, Format::Mp4)
    };
    (job, until)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_door_is_held_open_and_what_was_opened_in_time_is_drained_after_the_deadline() {
    // 8 s over one connection, which the front end closes after 4 s; the URL lives for 1 to 2 s more.
    let content = mp4(48 * MIB);
    let slow_and_cut = || Behaviour {
        closed_after: Some(24 << 20),
        ..throttled(6)
    };

    // Not held: what is left when the connection is closed can't be asked for any more.
    let world = World::with(with_surge(0)).await;
    let (job, _) = dying(&world, "/file", &content, slow_and_cut()).await;
    let error = world.carry(&job).await.unwrap_err();
    assert_eq!(error.class(), Class::Denied, "{error}");
    assert!(world.object(&job.key).await.is_none());

    // Held: the same engine and origin, the same time.
    let world = World::with(with_surge(7)).await;
    let (job, until) = dying(&world, "/file", &content, slow_and_cut()).await;
    archive(&world, &job, &content).await;
    assert!(Instant::now() > until, "it was over before the deadline");
    let requests = world.origin.requests("/file");
    assert!(requests.iter().all(|r| r.at < until), "one came too late");
    assert_eq!(requests.len(), 7, "as many as there are halves worth it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lane_gives_nothing_away_to_one_that_waits_for_a_connection() {
    let content = mp4(40 * MIB);
    for per_host in [1, 2] {
        let settings = HttpSettings {
            per_host,
            ..HttpSettings::default()
        };
        let world = World::with(with_surge(8)).await;
        let world = world.over(source_with(settings), with_surge(8));
        let (job, until) = dying(&world, "/file", &content, throttled(10)).await;
        archive(&world, &job, &content).await;
        assert!(Instant::now() > until, "it was over before the deadline");
        let requests = world.origin.requests("/file");
        assert_eq!(requests.len(), per_host as usize);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lane_gives_nothing_away_to_one_that_is_not_answered() {
    let content = mp4(40 * MIB);
    let world = World::with(with_surge(8)).await;
    // Its patience is longer than the transfer: what hangs does not hold the end up either.
    let settings = HttpSettings {
        head_timeout: Duration::from_secs(300),
        ..HttpSettings::default()
    };
    let world = world.over(source_with(settings), with_surge(8));
    let behaviour = Behaviour {
        first: Some(throttled(10).fault),
        ..Behaviour::fault(Fault::Hang)
    };
    let (job, until) = dying(&world, "/file", &content, behaviour).await;
    archive(&world, &job, &content).await;
    assert!(Instant::now() > until, "it was over before the deadline");
    let requests = world.origin.requests("/file").len();
    assert!(requests > 1, "further lanes were tried");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn past_the_deadline_a_slow_body_is_held_and_not_cut() {
    let world = World::with(TransferSettings {
        lanes: 1,
        ..small_parts()
    })
    .await;
    let content = mp4(5_000);
    // A byte rate below the least that is accepted: 100 bytes every 60 ms, while 2000 a second are asked for.
    let slow = Behaviour::fault(Fault::Trickle(100, Duration::from_millis(60)));
    world.origin.serve("/cut", content.clone(), slow.clone());
    world.origin.serve("/held", content.clone(), slow);
    let open = |path: &str, deadline| OpenRequest {
        url: recording_harvester::signed_url::SignedUrl::new(world.origin.url(path)),
        range: None,
        validator: None,
        allow_hosts: Vec::new(),
        deadline,
        waits: Waits::default(),
    };
    let past = Deadline::at(Timestamp::UNIX_EPOCH, DeadlineFrom::Query);
    let source = loopback_source(Vec::new());
    let mut cut = source
        .open(&open("/cut", Deadline::NONE))
        .await
        .unwrap()
        .body;
    let mut held = source.open(&open("/held", past)).await.unwrap().body;
    let read_all = async |body: &mut futures::stream::BoxStream<'static, _>| {
        let mut bytes = 0;
        while let Some(chunk) = body.next().await {
            let chunk: recording_harvester::error::Result<bytes::Bytes> = chunk;
            bytes += chunk?.len();
        }
        Ok::<_, recording_harvester::error::Error>(bytes)
    };
    let (cut, held) = tokio::join!(read_all(&mut cut), read_all(&mut held));
    assert!(
        cut.unwrap_err()
            .to_string()
            .contains("the origin sent only")
    );
    assert_eq!(held.unwrap(), 5_000);
}
