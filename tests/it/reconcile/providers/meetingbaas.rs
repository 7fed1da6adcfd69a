//! Bots of both versions of MeetingBaaS.

use super::*;

const BOT: &str = "8f7a1b52-9c1e-4b43-8a55-5f0b6a2d0c11";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_meetingbaas_bots_of_the_first_version() {
    let keys = check(Provider::MeetingBaas, |world| {
        let bots = json!({"bots": [
            {"uuid": BOT, "created_at": "2026-03-02T10:00:00Z", "ended_at": "2026-03-02T10:30:00Z", "duration": 1800,
             "errors": null, "webhook_url": "https://me.example/?k=secret-canary", "speech_to_text_api_key": "canary"},
            {"uuid": "still-in-its-meeting", "created_at": "2026-03-02T10:00:00Z", "ended_at": null},
        ], "next_cursor": null});
        world.script("/bots/bots_with_metadata", [(200, bots)]);
        // The account is none of the other version.
        world.script("/v2/bots", [(401, json!({}))]);
        world.script("/bots/meeting_data", [(200, world.sample("meetingbaas/api-v1-meeting_data.json"))]);
        vec![world.sample("meetingbaas/complete.json")]
    })
    .await;
    assert_eq!(
        names(&keys),
        ["recording.mp4", "transcript.json", "transcript.vtt"]
    );
}

/// A bot that was ordered weeks ahead has ended all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn meetingbaas_is_asked_for_what_ended_and_not_for_what_was_created_lately() {
    let world = World::start(Provider::MeetingBaas).await;
    let bot = json!({"bot_id": BOT, "status": "completed", "created_at": "2026-01-02T10:00:00Z",
                     "exited_at": "2026-03-02T10:30:00Z"});
    let page =
        |data: Value, next: Value| (200, json!({"success": true, "data": data, "cursor": next}));
    let old = |id: &str| {
        json!({"bot_id": id, "status": "completed", "created_at": "2026-01-02T10:00:00Z",
                                "exited_at": "2026-03-02T00:30:00Z"})
    };
    world.script(
        "/v2/bots",
        [
            page(json!([old("a"), old("b")]), json!("2")),
            page(json!([bot]), Value::Null),
        ],
    );
    world.script("/bots/bots_with_metadata", [(401, json!({}))]);
    for id in ["a", "b", BOT] {
        let mut answer = world.sample("meetingbaas/api-v2-get-bot.json");
        answer["data"]["bot_id"] = json!(id);
        world.script(&format!("/v2/bots/{id}"), [(200, answer)]);
    }
    let (walked, _) = world.walk().await;
    assert_eq!(walked.found, 3);
    let asked = world.api.asked();
    let query = &asked[0].target;
    assert!(
        query.contains("ended_after=2026-03-02T00%3A00%3A00Z") && !query.contains("created_after"),
        "{query}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_meetingbaas_bots_of_the_second_version() {
    let keys = check(Provider::MeetingBaas, |world| {
        let bots = json!({"success": true, "cursor": null, "prev_cursor": null, "data": [
            {"bot_id": BOT, "status": "completed", "created_at": "2026-03-02T10:00:00Z",
             "joined_at": "2026-03-02T10:00:00Z", "exited_at": "2026-03-02T10:30:00Z"},
        ]});
        world.script("/v2/bots", [(200, bots)]);
        world.script("/bots/bots_with_metadata", [(401, json!({}))]);
        let mut answer = world.sample("meetingbaas/api-v2-get-bot.json");
        let mut event = world.sample("meetingbaas/v2-bot.completed.json");
        // The samples differ in two optional files.
        answer["data"]["chat_messages"] = Value::Null;
        event["data"]["raw_transcription"] = Value::Null;
        world.script(&format!("/v2/bots/{BOT}"), [(200, answer)]);
        vec![event]
    })
    .await;
    assert_eq!(
        names(&keys),
        [
            "audio.flac",
            "diarization.jsonl",
            "recording.mp4",
            "transcript.json"
        ]
    );
}
