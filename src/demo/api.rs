//! The providers' APIs, as far as lookups ask them: Daily's access links, MeetingBaaS's meeting data.

use std::time::Duration;

use axum::http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::presign::Presigner;

/// How long Daily's links live when nobody asks for longer.
const DAILY_LINK_LIFE: Duration = Duration::from_secs(3600);

/// How long MeetingBaaS's links live, by the guides of both versions: the shorter.
const MEETINGBAAS_LINK_LIFE: Duration = Duration::from_secs(2 * 3600);

/// The answer to a call; `None` when `path` is no call of any provider's API.
pub(super) fn answer(
    path: &str,
    query: &str,
    headers: &HeaderMap,
    api_key: &str,
    presigner: &Presigner,
    now: Timestamp,
) -> Option<(StatusCode, Value)> {
    let mut segments: Vec<_> = path.trim_matches('/').split('/').collect();
    if segments.first() == Some(&"v1") {
        segments.remove(0);
    }
    let is_daily = match segments.as_slice() {
        [
            "recordings" | "transcript" | "batch-processor",
            _,
            "access-link",
        ] => true,
        ["bots", "meeting_data"] | ["v2", "bots", _] => false,
        _ => return None,
    };
    let (presented, expected) = if is_daily {
        (headers.get("authorization"), format!("Bearer {api_key}"))
    } else {
        (headers.get("x-meeting-baas-api-key"), api_key.to_owned())
    };
    if presented.is_none_or(|value| value.as_bytes() != expected.as_bytes()) {
        let refusal = json!({"error": "authentication-error", "info": "wrong or missing API key"});
        return Some((StatusCode::UNAUTHORIZED, refusal));
    }

    let expires = now.saturating_add(DAILY_LINK_LIFE).unwrap_or(now);
    let daily = |path: String| presigner.sign_for_cdn(&path, expires);
    let body = match segments.as_slice() {
        ["recordings", id, _] => json!({
            "download_link": daily(format!("/daily/rec/{id}.mp4")),
            "expires": expires.as_second(),
        }),
        ["transcript", id, _] => json!({
            "transcriptId": id,
            "download_link": daily(format!("/daily/tx/{id}.vtt")),
        }),
        ["batch-processor", id, _] => json!({
            "id": id,
            "preset": "summarize",
            "status": "finished",
            "transcription": transcription(id, &daily),
            "summary": {"format": "txt", "link": daily(format!("/daily/bp/{id}/summary.txt"))},
        }),
        ["v2", "bots", bot] => bot_v2(bot, presigner, now),
        _ => {
            let bot = query
                .split('&')
                .find_map(|part| part.strip_prefix("bot_id="))
                .unwrap_or_default();
            meeting_data(bot, presigner, now)
        }
    };
    Some((StatusCode::OK, body))
}

fn transcription(job: &str, link: &dyn Fn(String) -> String) -> Vec<Value> {
    ["json", "srt", "txt", "vtt"]
        .into_iter()
        .map(|format| {
            json!({
                "format": format,
                "link": link(format!("/daily/bp/{job}/transcript.{format}")),
            })
        })
        .collect()
}

fn bot_v2(bot: &str, presigner: &Presigner, now: Timestamp) -> Value {
    let link = |file: &str| {
        let path = format!("/meetingbaas/v2/{bot}/fresh/{file}");
        presigner.sign(&path, now, MEETINGBAAS_LINK_LIFE)
    };
    json!({
        "success": true,
        "data": {
            "bot_id": bot,
            "status": "completed",
            "video": link("video.mp4"),
            "audio": link("output.flac"),
            "transcription": link("output_transcription.json"),
            "raw_transcription": link("raw_transcription.json"),
            "diarization": link("diarization.jsonl"),
            "chat_messages": null,
            "artifacts_deleted": false,
            "duration_seconds": 1800,
        },
    })
}

fn meeting_data(bot: &str, presigner: &Presigner, now: Timestamp) -> Value {
    json!({
        "mp4": presigner.sign(&format!("/meetingbaas/bots/{bot}.mp4"), now, MEETINGBAAS_LINK_LIFE),
        "audio": "",
        "duration": 1800,
        "speaker_diarization_file": "",
        "speaker_diarization_file_network": "",
        "meeting_participants_file": "",
        "event_uuid": null,
        "bot_data": {
            "bot": {
                "uuid": bot,
                "mp4_s3_path": format!("{bot}.mp4"),
                "errors": null,
                "extra": {},
            },
            "transcripts": [
                {
                    "speaker": "Ada",
                    "start_time": 1.25,
                    "end_time": 1.9,
                    "words": [
                        {"text": "Good", "start_time": 1.25, "end_time": 1.5},
                        {"text": "morning", "start_time": 1.5, "end_time": 1.9},
                    ],
                },
            ],
        },
    })
}
