//! A description in words: the same fields as the JSON, in the order in which a person asks for them.

use jiff::Timestamp;
use serde_json::Value;

use crate::report::board;
use crate::report::printable::printable;

/// The lines for a person. What is unknown is left out.
pub(super) fn lines(description: &Value, now: Timestamp) -> Vec<String> {
    if description.get("url").is_some() {
        url(description, now)
    } else if description.get("segments").is_some() {
        playlist(description)
    } else {
        event(description, now)
    }
}

fn event(event: &Value, now: Timestamp) -> Vec<String> {
    let title = ["provider", "event_type", "class", "event_time"]
        .into_iter()
        .filter_map(|name| text(event, name))
        .collect::<Vec<_>>();
    let mut lines = vec![title.join("  ")];
    if let Some(id) = text(event, "event_id") {
        lines.push(format!("  event {id}"));
    }
    let recording = &event["recording"];
    for (name, word) in [
        ("id", "recording"),
        ("session_id", "session"),
        ("room_id", "room"),
        ("room_name", "called"),
    ] {
        if let Some(value) = text(recording, name) {
            lines.push(format!("  {word} {value}"));
        }
    }
    for found in event["artifacts"].as_array().into_iter().flatten() {
        lines.extend(artifact(found, now));
    }
    if let Some(class) = text(&event["failure"], "class") {
        let code = text(&event["failure"], "code").unwrap_or_default();
        let message = text(&event["failure"], "message").unwrap_or_default();
        lines.push(format!(
            "  lost: {class}: {}",
            format!("{code} {message}").trim()
        ));
    }
    lines
}

fn playlist(playlist: &Value) -> Vec<String> {
    let kind = text(playlist, "kind").unwrap_or_default();
    let end = match playlist["endlist"].as_bool() {
        Some(true) => ", ended",
        _ if kind == "media" => ", without an end",
        _ => "",
    };
    let mut lines = vec![format!("{kind} playlist{end}")];
    for name in ["variants", "iframe_variants", "renditions", "session_keys"] {
        for uri in playlist[name].as_array().into_iter().flatten() {
            let uri = uri.as_str().map(printable).unwrap_or_default();
            lines.push(format!("  {} {uri}", name.trim_end_matches('s')));
        }
    }
    let segments = playlist["segments"].as_array();
    for segment in segments.into_iter().flatten() {
        let mut line = format!("  segment {}", text(segment, "uri").unwrap_or_default());
        if let Some(length) = segment["length"].as_u64() {
            let offset = segment["offset"].as_u64().unwrap_or_default();
            line.push_str(&format!(", {length} bytes from {offset}"));
        }
        lines.push(line);
    }
    for refused in playlist["refused"].as_array().into_iter().flatten() {
        let field = |name| text(refused, name).unwrap_or_default();
        lines.push(format!("  refused {}: {}", field("uri"), field("reason")));
    }
    lines
}

fn artifact(artifact: &Value, now: Timestamp) -> Vec<String> {
    let field = |name| text(artifact, name).unwrap_or_default();
    let mut head = format!("  {}  {}/{}", field("name"), field("kind"), field("format"));
    if let Some(size) = artifact["size_bytes"].as_u64() {
        head.push_str(&format!("  {}", board::bytes(size)));
    }
    head.push_str(&format!("  {}", deadline(artifact, now)));
    let origin = text(artifact, "url").unwrap_or_else(|| field("origin"));
    vec![
        head,
        format!("    from {origin}"),
        format!("    to   {}", field("key")),
    ]
}

fn url(url: &Value, now: Timestamp) -> Vec<String> {
    let field = |name| text(url, name).unwrap_or_default();
    let mut verdict = field("verdict");
    if let Some(reason) = text(url, "reason") {
        verdict.push_str(&format!(": {reason}"));
    }
    let mut signature = format!("  signature {}", field("scheme_of_signature"));
    if let Some(at) = text(url, "signed_at") {
        signature.push_str(&format!(", signed at {at}"));
    }
    vec![
        field("url"),
        format!("  {verdict}"),
        signature,
        format!("  {}", deadline(url, now)),
    ]
}

fn deadline(described: &Value, now: Timestamp) -> String {
    let Some(at) = text(described, "deadline") else {
        return "no deadline known".to_owned();
    };
    let from = text(described, "deadline_from").unwrap_or_default();
    let left = board::time_left(at.parse().ok(), now).unwrap_or_default();
    format!("until {at} ({from}, {left})")
}

fn text(object: &Value, name: &str) -> Option<String> {
    object.get(name)?.as_str().map(printable)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn now() -> Timestamp {
        "2026-03-02T10:33:20Z".parse().unwrap()
    }

    #[test]
    fn an_event_in_words() {
        let event = json!({
            "provider": "100ms", "event_id": "e1", "event_type": "recording.success",
            "class": "artifacts+failure", "event_time": "2026-03-02T10:33:20Z",
            "recording": {"id": null, "session_id": "s1", "room_id": null, "room_name": "a\u{1b}[2Jb"},
            "artifacts": [{"name": "recording.mp4", "kind": "video", "format": "mp4", "origin": "url",
                "url": "https://host/path", "deadline": "2026-03-03T10:33:20Z", "deadline_from": "query",
                "size_bytes": 13_933_649, "key": "k/recording.mp4"}],
            "failure": {"class": "provider_failed", "code": null, "message": "no chat"},
        });
        assert_eq!(
            lines(&event, now()),
            [
                "100ms  recording.success  artifacts+failure  2026-03-02T10:33:20Z",
                "  event e1",
                "  session s1",
                "  called a[2Jb",
                "  recording.mp4  video/mp4  13.3 MiB  until 2026-03-03T10:33:20Z (query, 1d left)",
                "    from https://host/path",
                "    to   k/recording.mp4",
                "  lost: provider_failed: no chat",
            ]
        );
    }

    #[test]
    fn a_url_in_words() {
        let url = json!({
            "url": "http://10.0.0.1/x", "scheme_of_signature": "none", "signed_at": null,
            "deadline": null, "deadline_from": "none", "verdict": "refused", "reason": "it is private",
        });
        assert_eq!(
            lines(&url, now()),
            [
                "http://10.0.0.1/x",
                "  refused: it is private",
                "  signature none",
                "  no deadline known",
            ]
        );
    }
}
