//! Lists and questions that fail: what else there is is found all the same, and nothing is passed over in silence.

use super::*;
use recording_harvester::error::Class;

const TRANSCRIPT: &str = "1b9d6bcd-bbfd-4b2d-9b5d-000000000404";

/// Daily with one transcript, and a list of recordings that answers `status`.
async fn daily_with_one_transcript(status: u16) -> World {
    let world = World::start(Provider::Daily).await;
    world.script("/recordings", [(status, json!({}))]);
    let transcripts = json!({"total_count": 1, "data": [
        {"transcriptId": TRANSCRIPT, "mtgSessionId": "m", "status": "t_finished", "duration": 60,
         "start_ts": 1_772_445_600},
    ]});
    let empty = json!({"total_count": 1, "data": []});
    world.script("/transcript", [(200, transcripts), (200, empty)]);
    let link = world.sample("daily/api-transcript-access-link.json");
    world.script(
        &format!("/transcript/{TRANSCRIPT}/access-link"),
        [(200, link)],
    );
    world
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_that_refuses_is_told_and_does_not_hide_the_others() {
    for (status, class) in [(403, Class::Denied), (422, Class::Invalid)] {
        let world = daily_with_one_transcript(status).await;
        let (walked, standings) = world.try_walk().await;
        assert_eq!(standings, [KnownRecording::New], "{status}");
        let trouble = walked.whole().unwrap_err();
        assert_eq!(trouble.class(), class);
        let message = trouble.full_message();
        assert!(!message.contains("sources.<name>"), "{message}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_after_a_page_is_no_account_of_another_version() {
    let world = World::start(Provider::MeetingBaas).await;
    // Nothing on the first page is inside the window.
    let old = json!({"success": true, "cursor": "2", "data": [
        {"bot_id": "old", "status": "completed", "created_at": "2026-01-01T10:00:00Z", "exited_at": "2026-03-01T23:00:00Z"},
    ]});
    world.script("/v2/bots", [(200, old), (401, json!({}))]);
    world.script("/bots/bots_with_metadata", [(200, json!({"bots": []}))]);
    let (walked, _) = world.try_walk().await;
    assert_eq!(walked.whole().unwrap_err().class(), Class::Denied);

    let world = World::start(Provider::MeetingBaas).await;
    for list in ["/v2/bots", "/bots/bots_with_metadata"] {
        world.script(list, [(401, json!({}))]);
    }
    let (walked, _) = world.try_walk().await;
    assert_eq!(walked.whole().unwrap_err().class(), Class::Denied);
}

fn session(id: &str) -> Value {
    json!({"id": id, "associated_id": "room", "status": "ENDED", "started_at": "2026-03-02T10:00:00.000Z",
           "ended_at": "2026-03-02T10:30:00.000Z"})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_that_fails_does_not_end_the_walk() {
    let world = World::start(Provider::Dyte).await;
    world.script("/recordings", [(200, json!({"success": true, "data": []}))]);
    let sessions = json!({"success": true, "data": [session("s1"), session("s2")]});
    let none = json!({"success": true, "data": []});
    world.script("/sessions", [(200, sessions), (200, none.clone())]);
    let file = |what: &str, id: &str| {
        let url = format!("{}/f/{id}.csv?X-Amz-Signature=0", world.api.url());
        json!({"data": {format!("{what}_download_url"): url}})
    };
    // The chat of the first comes at the second try, transcripts are not part of the plan, a summary is broken.
    let chat = [(503, json!({})), (200, file("chat", "s1"))];
    world.script("/sessions/s1/chat", chat);
    world.script("/sessions/s2/chat", [(200, file("chat", "s2"))]);
    for id in ["s1", "s2"] {
        let transcript = format!("/sessions/{id}/transcript");
        world.script(&transcript, [(403, json!({}))]);
    }
    world.script("/sessions/s1/summary", [(500, json!({}))]);
    let (walked, standings) = world.try_walk().await;
    assert_eq!(standings, [KnownRecording::New, KnownRecording::New]);
    assert_eq!(names(&world.keys().await), ["chat.csv", "chat.csv"]);
    // The broken one keeps the walk from counting as whole: it is asked for again.
    assert_eq!(walked.whole().unwrap_err().class(), Class::Unreachable);

    let summary =
        json!({"data": {"summaryDownloadUrl": format!("{}/f/summary.txt", world.api.url())}});
    world.script("/sessions/s1/summary", [(200, summary)]);
    let sessions = json!({"success": true, "data": [session("s1"), session("s2")]});
    world.script("/sessions", [(200, sessions), (200, none)]);
    let (walked, _) = world.walk().await;
    assert_eq!((walked.found, walked.new), (2, 1));
    assert_eq!(
        names(&world.keys().await),
        ["chat.csv", "summary.txt", "chat.csv"]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loss_of_the_provider_is_told_once() {
    let world = World::start(Provider::Dyte).await;
    let recordings = json!({"success": true, "data": [
        {"id": "r1", "status": "ERRORED", "session_id": "s1", "started_time": "2026-03-02T10:00:00.000Z",
         "stopped_time": "2026-03-02T10:30:00.000Z"},
    ], "paging": {"total_count": 1, "end_offset": 1}});
    world.script("/recordings", [(200, recordings)]);
    world.script("/sessions", [(200, json!({"success": true, "data": []}))]);
    for (failures, standing) in [(1, KnownRecording::Failure), (0, KnownRecording::Known)] {
        let (walked, standings) = world.walk().await;
        assert_eq!((walked.failures, standings), (failures, vec![standing]));
    }
    assert_eq!(world.store.provider_failures(None).await.unwrap().len(), 1);
}
