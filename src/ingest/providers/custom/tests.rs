//! What a definition may say, what it may not, and what must never come of it.

use secrecy::SecretString;
use serde_json::json;

use super::*;
use crate::model::{DeadlineFrom, EventClass, Format, Kind, Origin};

const EVENT_AT: &str = "2026-03-02T10:33:20Z";

/// A definition with these further lines; every event has a type `t` at `$.type`.
fn define(lines: &str) -> Result<ProviderDefinition, String> {
    let text = format!("provider = \"acme-tests\"\n{lines}");
    toml::from_str(&text).map_err(|error| error.message().to_owned())
}

fn with_artifact(lines: &str) -> ProviderDefinition {
    let text = format!(
        "[event]\ntype = \"$.type\"\nid = \"$.id\"\ntime = \"$.at\"\n[[artifacts]]\ntypes = [\"ready\"]\n{lines}"
    );
    define(&text).expect(lines)
}

fn read(definition: &ProviderDefinition, event: &Value) -> Event {
    let body = event.to_string();
    let delivery = Delivery {
        body: body.as_bytes(),
        id_header: None,
        received_at: "2026-03-02T10:40:00Z".parse().unwrap(),
    };
    definition.parse(&delivery).unwrap()
}

fn ready(more: &Value) -> Value {
    let mut event = json!({"type": "ready", "id": "e1", "at": EVENT_AT});
    for (name, value) in more.as_object().unwrap() {
        event[name] = value.clone();
    }
    event
}

#[test]
fn a_list_is_walked_and_its_items_know_the_event() {
    let definition = with_artifact(
        r#"
        each = "$.files[*]"
        url = "@.link"
        id = "@.no"
        kind = { path = "@.sort", map = { MOVIE = "video" }, otherwise = "other" }
        format = { path = "@.ending" }
        name = "{@.label}-{kind}.{format}"
        size = "@.bytes"
        deadline = "$.until"
        "#,
    );
    let event = read(
        &definition,
        &ready(&json!({"until": 1772534000, "files": [
            {"link": "https://h/a?sig=1", "no": 1, "sort": "MOVIE", "ending": "MP4", "label": "big", "bytes": "7"},
            {"link": "https://h/a?sig=2", "no": 2, "sort": "audio", "ending": "m4a", "label": "../x"},
            {"link": "https://h/a?sig=3", "no": 3, "sort": "?", "ending": "?", "label": "big"},
            {"link": "s3://b/k", "sort": "MOVIE", "ending": "mp4", "label": "bad"},
            {"link": null, "sort": "MOVIE"},
            "no object",
        ]})),
    );
    let files: Vec<_> = event
        .artifacts
        .iter()
        .map(|a| {
            (
                a.identity.as_str(),
                a.name.as_str(),
                a.kind,
                a.format,
                a.size_bytes,
            )
        })
        .collect();
    let odd_name = files[1].1.to_owned();
    assert!(
        !odd_name.contains('/') && odd_name.ends_with("-audio.m4a"),
        "{odd_name}"
    );
    assert_eq!(
        files,
        [
            (
                "id:video:1",
                "big-video.mp4",
                Kind::Video,
                Format::Mp4,
                Some(7)
            ),
            (
                "id:audio:2",
                odd_name.as_str(),
                Kind::Audio,
                Format::M4a,
                None
            ),
            (
                "id:other:3",
                "big-other.bin",
                Kind::Other,
                Format::Bin,
                None
            ),
            (
                "unusable:bad-video.mp4",
                "bad-video.mp4",
                Kind::Video,
                Format::Mp4,
                None
            ),
        ]
    );
    let deadline = event.artifacts[0].deadline;
    assert_eq!(deadline.from, DeadlineFrom::Field);
    assert_eq!(deadline.at, Some("2026-03-03T10:33:20Z".parse().unwrap()));
    assert!(matches!(event.artifacts[3].origin, Origin::Unusable(..)));
    assert_eq!(event.class, EventClass::Artifacts);
}

#[test]
fn the_earliest_end_counts_and_a_lifetime_only_when_nothing_else_speaks() {
    let end = |lines: &str, more: &Value| {
        let definition = with_artifact(&format!("url = \"$.url\"\nkind = \"video\"\n{lines}"));
        let deadline = read(&definition, &ready(more)).artifacts[0].deadline;
        (deadline.at.map(|at| at.to_string()), deadline.from)
    };
    let token = "e30.eyJleHAiOjE3NzI0NTEyMDB9.sig";
    let signed = "https://h/k?X-Amz-Date=20260302T103320Z&X-Amz-Expires=60&X-Amz-Signature=0";
    let all = "deadline = \"$.until\"\ntoken = \"$.token\"\nlifetime = \"24h\"";
    let at = |text: &str| Some(text.to_owned());
    for (more, expected) in [
        (
            json!({"url": "https://h/k"}),
            (at("2026-03-03T10:33:20Z"), DeadlineFrom::Documented),
        ),
        (
            json!({"url": signed}),
            (at("2026-03-02T10:34:20Z"), DeadlineFrom::Query),
        ),
        (
            json!({"url": "https://h/k", "token": token}),
            (at("2026-03-02T11:33:20Z"), DeadlineFrom::Token),
        ),
        (
            json!({"url": "https://h/k", "token": token, "until": "2026-03-02T11:00:00Z"}),
            (at("2026-03-02T11:00:00Z"), DeadlineFrom::Field),
        ),
        (
            json!({"url": "https://h/k", "token": "e30.%%.x"}),
            (at("2026-03-03T10:33:20Z"), DeadlineFrom::Documented),
        ),
    ] {
        assert_eq!(end(all, &more), expected, "{more}");
    }
    let nothing = end("", &json!({"url": "https://h/k"}));
    assert_eq!(nothing, (None, DeadlineFrom::None));
}

const WITH_HEADER: &str = r#"
    url = "$.url"
    kind = "video"
    format = "mp4"
    header = { name = "authorization", value = "Bearer {$.pass}", hosts = ["h", "*.h"] }
"#;

#[test]
fn a_header_goes_with_the_url_and_is_shown_nowhere() {
    let definition = with_artifact(WITH_HEADER);
    let event = read(
        &definition,
        &ready(&json!({"url": "https://h/k", "pass": "canary"})),
    );
    let Origin::Url(url) = &event.artifacts[0].origin else {
        panic!("{:?}", event.artifacts[0].origin);
    };
    let target = |url: &str| url::Url::parse(url).unwrap();
    assert_eq!(
        url.header_for(&target("https://a.h/x")).unwrap().expose(),
        "Bearer canary"
    );
    assert!(url.header_for(&target("https://other/x")).is_none());
    assert!(!format!("{event:?}").contains("canary"), "{event:?}");
    let body = ready(&json!({"url": "https://h/k", "pass": "canary"}));
    let shown = definition.document(body.to_string().as_bytes()).unwrap();
    assert!(!shown.contains("canary"), "{shown}");
    assert!(shown.contains("[removed]"), "{shown}");
}

#[test]
fn a_file_whose_header_can_not_be_made_has_to_be_asked_for() {
    let definition = with_artifact(WITH_HEADER);
    for pass in [
        json!(null),
        json!(""),
        json!(7),
        json!("a\r\nx-evil: 1"),
        json!({}),
    ] {
        let event = read(
            &definition,
            &ready(&json!({"url": "https://h/k?q", "pass": pass})),
        );
        assert_eq!(event.class, EventClass::Lookup, "{pass}");
        let Origin::Lookup(lookup) = &event.artifacts[0].origin else {
            panic!("{pass}");
        };
        let error = no_api("acme", lookup);
        assert_eq!(error.class(), Class::Denied);
        assert!(error.to_string().contains("https://h/k"), "{error}");
        assert!(!error.to_string().contains('?'), "{error}");
    }
}

#[test]
fn losses_are_told_where_the_condition_holds() {
    let definition = define(
        r#"
        ignored = ["room.*"]
        [event]
        type = "$.type"
        [[failures]]
        types = ["ended"]
        when = "$.info[?@ == 'FAILED']"
        code = "$.info.code"
        message = "$.info.error"
        kind = "video"
        "#,
    )
    .unwrap();
    let lost = json!({"type": "ended", "info": {"status": "FAILED", "code": 5, "error": "see https://h/x?sig=canary"}});
    let event = read(&definition, &lost);
    assert_eq!(event.class, EventClass::Failure);
    let loss = &event.failures[0];
    assert_eq!(loss.code.as_deref(), Some("5"));
    assert!(!loss.message.contains("canary"), "{}", loss.message);
    for (event, class, has_alert) in [
        (
            json!({"type": "ended", "info": {"status": "FINE"}}),
            EventClass::Unknown,
            true,
        ),
        (json!({"type": "room.closed"}), EventClass::Ignored, false),
        (json!({"type": "new"}), EventClass::Unknown, false),
        (json!({}), EventClass::Unknown, false),
    ] {
        let read = read(&definition, &event);
        assert_eq!(
            (read.class, read.alert.is_some()),
            (class, has_alert),
            "{event}"
        );
    }
}

fn zoom_like() -> ProviderDefinition {
    define(
        r#"
        [signature]
        scheme = "hmac"
        header = "x-zm-signature"
        timestamp_header = "x-zm-request-timestamp"
        pattern = "v0={signature}"
        signed = "v0:{timestamp}:{body}"
        encoding = "hex"
        [event]
        type = "$.event"
        [handshake]
        types = ["endpoint.url_validation"]
        token = "$.payload.plainToken"
        answer = '{"plainToken":"{token}","encryptedToken":"{hmac}"}'
        [[artifacts]]
        types = ["x"]
        url = "$.url"
        kind = "video"
        "#,
    )
    .unwrap()
}

fn check_event(token: &Value) -> Value {
    json!({"event": "endpoint.url_validation", "payload": {"plainToken": token}})
}

#[test]
fn an_endpoint_check_is_answered_from_the_template() {
    let definition = zoom_like();
    let event = check_event(&json!("qgg8vlvZRS6UYooatFL8Aw"));
    assert_eq!(read(&definition, &event).class, EventClass::Handshake);
    let secret = SecretString::from("A3FX9cpmSuyvFGHpEiDPyA");
    let reply = definition
        .reply(event.to_string().as_bytes(), Some(&secret))
        .unwrap();
    assert_eq!(reply.content_type, "application/json");
    let body: Value = serde_json::from_str(&reply.body).unwrap();
    assert_eq!(body["plainToken"], "qgg8vlvZRS6UYooatFL8Aw");
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"A3FX9cpmSuyvFGHpEiDPyA");
    let digest = hmac::sign(&key, b"qgg8vlvZRS6UYooatFL8Aw");
    assert_eq!(body["encryptedToken"], hex::encode(digest));
    // Without a proof there is no key to make an answer with.
    assert_eq!(definition.reply(event.to_string().as_bytes(), None), None);
}

#[test]
fn the_endpoint_check_signs_nothing_that_could_be_a_delivery() {
    let definition = zoom_like();
    let secret = SecretString::from("secret");
    for token in [
        json!("v0:1772447600:{\"event\":\"recording.completed\"}"),
        json!("v0:1"),
        json!("msg_1.1772447600.{}"),
        json!("{}"),
        json!("a b"),
        json!("a\"b"),
        json!(""),
        json!("x".repeat(257)),
        json!(7),
        json!(null),
        json!(["v0:"]),
    ] {
        let event = check_event(&token);
        let read = read(&definition, &event);
        assert_eq!(read.class, EventClass::Unknown, "{token}");
        assert!(read.alert.is_some());
        let reply = definition.reply(event.to_string().as_bytes(), Some(&secret));
        assert_eq!(reply, None, "{token}");
    }
}

#[test]
fn a_definition_that_can_not_work_is_refused_in_words() {
    let event = "[event]\ntype = \"$.type\"\n";
    let artifact = "[[artifacts]]\ntypes = [\"a\"]\nurl = \"$.u\"\nkind = \"video\"\n";
    let with = |more: &str| format!("{event}{artifact}{more}");
    for (text, expected) in [
        (event.to_owned(), "[[artifacts]] or [[failures]]"),
        (artifact.to_owned(), "missing field `event`"),
        (with("colour = \"red\""), "unknown field `colour`"),
        (with("size = \"u\""), "JSONPath"),
        (with("size = \"$.[\""), "JSONPath"),
        (with("when = \"@.x\""), "no item here"),
        (with("lifetime = \"soon\""), "a length of time"),
        (with("lifetime = \"-1h\""), "a length of time"),
        (with("name = \"../{format}\""), "name may hold"),
        (with("name = \"{room}\""), "unknown {room}"),
        (with("name = \"{room\""), "without its"),
        (with("format = \"exe\""), "unknown variant `exe`"),
        (with("format = { map = {} }"), "missing field `path`"),
        (
            with("header = { name = \"a b\", value = \"x\", hosts = [\"h\"] }"),
            "header.name",
        ),
        (
            with("header = { name = \"a\", value = \"x\", hosts = [] }"),
            "header.hosts",
        ),
        (
            with("header = { name = \"a\", value = \"x\", hosts = [\"*\"] }"),
            "header.hosts",
        ),
        (
            with("header = { name = \"a\", value = \"{x}\", hosts = [\"h\"] }"),
            "header.value",
        ),
        (
            with("[signature]\nscheme = \"rot13\""),
            "unknown variant `rot13`",
        ),
        (
            with("[signature]\nscheme = \"header\""),
            "signature.header is missing",
        ),
        (
            with("[signature]\nscheme = \"hmac\"\nheader = \"h\""),
            "signature.encoding",
        ),
        (
            with(
                "[signature]\nscheme = \"hmac\"\nheader = \"h\"\nencoding = \"hex\"\nsigned = \"x\"",
            ),
            "signature: what is signed must hold {body} once",
        ),
        (
            with(
                "[signature]\nscheme = \"hmac\"\nheader = \"h\"\nencoding = \"hex\"\ntolerance = \"2h\"",
            ),
            "an hour at most",
        ),
        (
            with("[signature]\nscheme = \"jwt\"\nheader = \"h\""),
            "signature.body_claim",
        ),
        (
            with("[handshake]\ntypes = [\"h\"]\ntoken = \"$.t\"\nanswer = \"{hmac}\""),
            "only where deliveries are signed",
        ),
        (
            with("[handshake]\ntypes = [\"h\"]\nanswer = \"{token}\""),
            "needs handshake.token",
        ),
        (
            with("[handshake]\ntypes = [\"h\"]\ntoken = \"$.t\"\nanswer = \"{secret}\""),
            "unknown {secret}",
        ),
        (
            with("[handshake]\ntypes = [\"h\"]\ntoken = \"$.t\"\nanswer = \"{$.t}\""),
            "no paths",
        ),
    ] {
        let error = define(&text).map(|_| ()).unwrap_err();
        assert!(error.contains(expected), "{text}\n{error}");
    }
    for name in ["daily", "custom", "a/b", ""] {
        let text = format!("provider = \"{name}\"\n{event}{artifact}");
        let error = toml::from_str::<ProviderDefinition>(&text)
            .map(|_| ())
            .unwrap_err();
        assert!(
            error.message().contains("a name of your own"),
            "{name}: {error}"
        );
    }
}

#[test]
#[expect(clippy::print_stdout, reason = "a failed run tells its seed")]
fn whatever_comes_is_read_without_a_panic() {
    let definition = with_artifact(
        "each = \"$..files[*]\"\nurl = \"@.link\"\nkind = \"video\"\nheader = { name = \"a\", value = \"{@.t}\", hosts = [\"h\"] }",
    );
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..2_000 {
        let event = random_value(&mut random, 5);
        let event = ready(&json!({"files": event}));
        let read = read(&definition, &event);
        assert_eq!(read.provider, definition.provider);
        let shown = definition.document(event.to_string().as_bytes()).unwrap();
        assert!(!shown.contains("canary"), "{shown}");
    }
}

fn random_value(random: &mut fastrand::Rng, depth: u32) -> Value {
    let names = ["files", "link", "t", "type", "x"];
    match random.u32(..if depth == 0 { 5 } else { 8 }) {
        0 => Value::Null,
        1 => json!(random.bool()),
        2 => json!(random.i64(..)),
        3 => json!("https://h/a?sig=canary"),
        4 => json!("\u{0}\u{fc} v0:"),
        5 => (0..random.usize(..4))
            .map(|_| random_value(random, depth - 1))
            .collect(),
        _ => {
            let fields = (0..random.usize(..5)).map(|_| {
                let name = names[random.usize(..names.len())].to_owned();
                (name, random_value(random, depth - 1))
            });
            Value::Object(fields.collect())
        }
    }
}
