//! 100ms's list where it names no assets, and the names of tracks, streams and layers.

use super::*;

const RECORDING: &str = "69a560000000000000000007";
const SESSION: &str = "69a560000000000000000004";

fn item(id: &str, more: Value) -> Value {
    let mut item = json!({"id": id, "session_id": SESSION, "room_id": "69a560000000000000000003", "status": "completed",
                          "created_at": "2026-03-02T10:33:20.000Z", "started_at": "2026-03-02T10:00:00.000Z",
                          "stopped_at": "2026-03-02T10:30:00.000Z"});
    for (name, value) in more.as_object().unwrap() {
        item[name] = value.clone();
    }
    item
}

fn script_list(world: &World, items: Vec<Value>) {
    let page = json!({"limit": 100, "last": "69a560000000000000000098", "data": items});
    let empty = json!({"limit": 100, "last": "", "data": []});
    world.script("/recordings", [(200, page), (200, empty.clone())]);
}

/// An asset whose signed URL the API gives.
fn asset(world: &World, id: &str, sort: &str, path: &str, metadata: Value) -> Value {
    let url = format!("{}/fresh/{id}?X-Amz-Signature=0", world.api.url());
    let signed = json!({"id": id, "path": path, "url": url, "expiry": 3600});
    let call = format!("/recording-assets/{id}/presigned-url");
    world.script(&call, [(200, signed)]);
    json!({"id": id, "type": sort, "path": path, "status": "completed", "metadata": metadata})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recording_whose_assets_the_list_does_not_name_is_asked_for_them() {
    let script = |world: &World| {
        script_list(
            world,
            vec![
                item(RECORDING, json!({})),
                item("69a560000000000000000098", json!({"status": "started"})),
                // Of this one the list says that there is nothing.
                item("69a560000000000000000099", json!({"recording_assets": []})),
            ],
        );
        let beam = |name: &str| format!("s3://tenant-bucket/beam/20260302/{name}");
        let assets = [
            ("a1", "room-composite", "rec.mp4"),
            ("a2", "chat", "chat.csv"),
        ];
        let assets = assets.map(|(id, sort, name)| asset(world, id, sort, &beam(name), json!({})));
        let answer = json!({"id": RECORDING, "recording_assets": assets});
        world.script(&format!("/recordings/{RECORDING}"), [(200, answer)]);
        world.sample("100ms/beam.recording.success.json")
    };
    let missed = World::start(Provider::Hms).await;
    let event = script(&missed);
    let (_, standings) = missed.walk().await;
    assert_eq!(standings, [KnownRecording::New]);
    let by_walk = missed.keys().await;
    assert_eq!(names(&by_walk), ["chat.csv", "recording.mp4"]);
    missed.hear(&event).await;
    assert_eq!(missed.keys().await, by_walk, "walk, then webhook");
    script(&missed);
    let (_, standings) = missed.walk().await;
    assert_eq!(
        standings,
        [KnownRecording::Known],
        "an answer is remembered"
    );

    let told = World::start(Provider::Hms).await;
    let event = script(&told);
    told.hear(&event).await;
    let _ = told.walk().await;
    assert_eq!(told.keys().await, by_walk, "webhook, then walk");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tracks_streams_and_layers_are_called_as_their_events_call_them() {
    let keys = check(Provider::Hms, |world| {
        let (track, stream, hls) = (
            world.sample("100ms/track.recording.success.json"),
            world.sample("100ms/stream.recording.success.json"),
            world.sample("100ms/hls.recording.success-zip.json"),
        );
        let mut layers = hls;
        for unlisted in [
            "recording_thumbnails",
            "chat_recording_path",
            "chat_recording_presigned_url",
        ] {
            layers["data"].as_object_mut().unwrap().remove(unlisted);
        }
        let id = |event: &Value, name: &str| event["data"][name].as_str().unwrap().to_owned();
        let of_track = json!({"track_id": id(&track, "track_id"), "track_type": "video"});
        let of_stream = json!({"stream_id": id(&stream, "stream_id")});
        let mut assets = vec![asset(
            world,
            "v",
            "room-vod",
            &id(&layers, "hls_vod_recording_path"),
            json!({}),
        )];
        for layer in layers["data"]["recording_single_files"].as_array().unwrap() {
            let resolution = json!({"width": layer["width"], "height": layer["height"]});
            let metadata = json!({"layer": layer["layer"], "resolution": resolution});
            let of = |name: &str| layer[name].as_str().unwrap();
            assets.push(asset(
                world,
                of("asset_id"),
                "room-composite",
                of("recording_path"),
                metadata,
            ));
        }
        let listed = |event: &Value, assets: Vec<Value>| {
            item(
                &id(event, "recording_id"),
                json!({"recording_assets": assets}),
            )
        };
        let of = |id: &str, sort: &str, event: &Value, metadata: Value| {
            let path = event["data"]["recording_path"].as_str().unwrap();
            listed(event, vec![asset(world, id, sort, path, metadata)])
        };
        script_list(
            world,
            vec![
                of("t", "track", &track, of_track),
                of("s", "stream", &stream, of_stream),
                listed(&layers, assets),
            ],
        );
        vec![track, stream, layers]
    })
    .await;
    let mut names = names(&keys);
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "hls.zip",
            "layer-0-1920x1080.mp4",
            "layer-1-1280x720.mp4",
            "layer-2-640x480.mp4",
            "layer-3-480x360.mp4",
            "stream-1b9d6bcd-bbfd-4b2d-9b5d-000000000204.mp4",
            "track-1b9d6bcd-bbfd-4b2d-9b5d-000000000205.webm",
        ]
    );
}

// D4
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backfill_reads_the_deliveries_of_the_whole_workspace() {
    let told = World::start(Provider::Hms).await;
    let event = told.sample("100ms/beam.recording.success.json");
    told.hear(&event).await;
    let by_webhook = told.keys().await;

    let missed = World::start(Provider::Hms).await;
    script_list(&missed, Vec::new());
    let delivery = |data: Value| {
        json!({"event_id": "d1", "event_name": "reporter.webhook.delivery.failed",
               "event_timestamp": event["timestamp"],
               "payload": {"event_data": data, "original_event_name": event["type"]}})
    };
    let peer = json!({"event_id": "d2", "payload": {"original_event_name": "peer.join.success",
                      "event_data": {"version": "2.0", "id": "p", "type": "peer.join.success", "data": {}}}});
    let page = |events: Value, has_next: bool| json!({"events": events, "pagination": {"has_next": has_next}});
    let event = missed.sample("100ms/beam.recording.success.json");
    missed.script(
        "/analytics/webhooks",
        [
            (200, page(json!([peer]), true)),
            (
                200,
                page(json!([delivery(json!(event.to_string()))]), false),
            ),
        ],
    );
    let purpose = Purpose {
        window: Window {
            since: "2026-03-02T00:00:00Z".parse().unwrap(),
            until: "2026-03-03T00:00:00Z".parse().unwrap(),
        },
        is_dry_run: false,
        is_thorough: true,
    };
    let mut seen = Vec::new();
    let mut on_sighting = |sighting: &FoundRecording| {
        seen.push(sighting.standing);
        Ok(())
    };
    let never = CancellationToken::new();
    let clock: recording_harvester::clock::SharedClock =
        recording_harvester::clock::ManualClock::at("2026-03-04T00:00:00Z".parse().unwrap());
    let walker = Walker {
        clock,
        ..missed.walker.clone()
    };
    let walk = walker.walk(&missed.subject, &purpose, &mut on_sighting, &never);
    let walked = walk.await.whole().unwrap();
    assert_eq!((walked.new, seen), (1, vec![KnownRecording::New]));
    missed.work().await;
    assert_eq!(missed.keys().await, by_webhook);
    let asked = missed.api.asked();
    let asked = asked
        .iter()
        .find(|asked| asked.target.contains("/analytics"));
    let query = &asked.unwrap().target;
    assert!(
        query.contains("start_time=2026-03-02T00%3A00%3A00Z") && query.contains("status=all"),
        "{query}"
    );
}
