//! What the source accepts of an origin, and what it never asks.

use std::time::Duration;

use futures::StreamExt;
use recording_harvester::error::{Class, Error, Result};
use recording_harvester::model::Deadline;
use recording_harvester::model::api::{ApiRequest, Method};
use recording_harvester::signed_url::{SignedUrl, UrlHeader};
use recording_harvester::source::guard::{Guard, GuardSettings};
use recording_harvester::source::{ByteRange, OpenRequest, Opened, Source, Waits};

use super::{loopback_source, single_file_source, source_behind};
use crate::harness::origin::{
    Behaviour, Fault, Framing, LAST_MODIFIED, Ranges, TestOrigin, Validator,
};

const CANARY: &str = "X-Amz-Signature=CANARY";

fn request(url: &str) -> OpenRequest {
    OpenRequest {
        url: SignedUrl::new(url),
        range: None,
        validator: None,
        allow_hosts: Vec::new(),
        deadline: Deadline::NONE,
        waits: Waits::default(),
    }
}

fn range(url: &str, start: u64, end: Option<u64>, validator: Option<&str>) -> OpenRequest {
    OpenRequest {
        range: Some(ByteRange { start, end }),
        validator: validator.map(str::to_owned),
        ..request(url)
    }
}

async fn read(opened: Opened) -> Result<Vec<u8>> {
    let mut body = opened.body;
    let mut bytes = Vec::new();
    while let Some(chunk) = body.next().await {
        bytes.extend_from_slice(&chunk?);
    }
    Ok(bytes)
}

fn content() -> Vec<u8> {
    (0..200_000u32).map(|n| (n % 251) as u8).collect()
}

/// Opens and reads one path that behaves so.
async fn attempt(behaviour: Behaviour) -> Result<Vec<u8>> {
    let origin = TestOrigin::start().await;
    origin.serve("/a", content(), behaviour);
    let source = loopback_source(Vec::new());
    let url = format!("{}?{CANARY}", origin.url("/a"));
    let result = match source.open(&request(&url)).await {
        Ok(opened) => read(opened).await,
        Err(error) => Err(error),
    };
    if let Err(error) = &result {
        assert!(
            !format!("{error:?} {}", error.full_message()).contains("CANARY"),
            "{error:?}"
        );
    }
    result
}

#[tokio::test]
async fn a_good_answer_tells_length_validator_and_ranges() {
    let origin = TestOrigin::start().await;
    origin.serve("/a%20b/c", content(), Behaviour::default());
    let source = loopback_source(Vec::new());
    let url = format!("{}?b=%2F%27&a=~&{CANARY}", origin.url("/a%20b/c"));
    let opened = source.open(&request(&url)).await.unwrap();
    assert_eq!(opened.length, Some(200_000));
    assert_eq!(opened.start, 0);
    assert_eq!(opened.validator.as_deref(), Some("\"v1\""));
    assert!(opened.accepts_ranges && opened.is_delimited);
    assert_eq!(read(opened).await.unwrap(), content());
    let seen = &origin.log()[0];
    assert_eq!(seen.target, format!("/a%20b/c?b=%2F%27&a=~&{CANARY}"));
    assert_eq!(seen.header("accept-encoding"), Some("identity"));
    assert_eq!(seen.header("referer"), None);
}

#[tokio::test]
async fn validators_are_strong_etags_or_dates() {
    let origin = TestOrigin::start().await;
    let source = loopback_source(Vec::new());
    for (validator, expected) in [
        (Validator::Strong, Some("\"v1\"")),
        (Validator::Weak, None),
        (Validator::Date, Some(LAST_MODIFIED)),
        (Validator::None, None),
    ] {
        let behaviour = Behaviour {
            validator,
            ..Behaviour::default()
        };
        origin.serve("/a", content(), behaviour);
        let opened = source.open(&request(&origin.url("/a"))).await.unwrap();
        assert_eq!(opened.validator.as_deref(), expected);
    }
}

#[tokio::test]
async fn every_bad_answer_has_its_class() {
    let fault = |fault| Behaviour::fault(fault);
    let framed = |framing| Behaviour {
        framing,
        ..Behaviour::default()
    };
    let encoded = Behaviour {
        headers: vec![("Content-Encoding", "gzip".to_owned())],
        ..Behaviour::default()
    };
    let expired = Behaviour {
        valid_for_requests: Some(0),
        ..Behaviour::default()
    };
    let cases: Vec<(&str, Behaviour, Class, bool, &str)> = vec![
        (
            "f14 expired",
            expired,
            Class::Denied,
            false,
            "says that the URL has expired",
        ),
        (
            "f15 401",
            Behaviour::status(401),
            Class::Denied,
            false,
            "401",
        ),
        (
            "f15 403",
            Behaviour::status(403),
            Class::Denied,
            false,
            "403",
        ),
        ("f16 404", Behaviour::status(404), Class::Gone, true, "404"),
        ("f16 410", Behaviour::status(410), Class::Gone, false, "410"),
        (
            "f17 429",
            Behaviour::status(429),
            Class::Throttled,
            true,
            "429",
        ),
        (
            "f18 500",
            Behaviour::status(500),
            Class::Unreachable,
            true,
            "500",
        ),
        (
            "f21 204",
            Behaviour::status(204),
            Class::Corrupt,
            true,
            "no content",
        ),
        (
            "f21 304",
            Behaviour::status(304),
            Class::Corrupt,
            true,
            "304",
        ),
        (
            "f21 302 without Location",
            Behaviour::status(302),
            Class::Corrupt,
            true,
            "without a Location",
        ),
        (
            "f21 unasked 206",
            fault(Fault::UnaskedPartial),
            Class::Corrupt,
            true,
            "no range was asked for",
        ),
        (
            "f21 endless 1xx",
            fault(Fault::EndlessHints),
            Class::Unreachable,
            true,
            "did not answer within",
        ),
        (
            "f22 cut",
            fault(Fault::CutAfter(70_000)),
            Class::Unreachable,
            true,
            "cut after 70000 of 200000 bytes",
        ),
        (
            "f22 lie",
            framed(Framing::Lie(200_001)),
            Class::Unreachable,
            true,
            "of 200001 bytes",
        ),
        (
            "f25 cut chunks",
            Behaviour {
                framing: Framing::Chunked,
                ..fault(Fault::CutAfter(70_000))
            },
            Class::Unreachable,
            true,
            "cut after 70000 bytes",
        ),
        (
            "f32 encoding",
            encoded,
            Class::Corrupt,
            false,
            "Content-Encoding gzip",
        ),
        (
            "f34 stall",
            fault(Fault::StallAfter(70_000)),
            Class::Unreachable,
            true,
            "no byte in 0.4 s",
        ),
        (
            "f34 trickle",
            fault(Fault::Trickle(10, Duration::from_millis(50))),
            Class::Unreachable,
            true,
            "bytes in",
        ),
        (
            "f34 hang",
            fault(Fault::Hang),
            Class::Unreachable,
            true,
            "did not answer within",
        ),
    ];
    for (name, behaviour, class, is_transient, words) in cases {
        let error = attempt(behaviour).await.expect_err(name);
        assert_eq!(
            (error.class(), error.is_transient()),
            (class, is_transient),
            "{name}: {error}"
        );
        assert!(
            error.full_message().contains(words),
            "{name}: {}",
            error.full_message()
        );
    }
}

#[tokio::test]
async fn f17_retry_after_is_passed_on() {
    let behaviour = Behaviour::fault(Fault::Status(
        503,
        vec![("Retry-After", "17".to_owned())],
        String::new(),
    ));
    let error = attempt(behaviour).await.unwrap_err();
    assert_eq!(error.class(), Class::Throttled);
    assert_eq!(error.retry_after(), Some(Duration::from_secs(17)));
}

#[tokio::test]
async fn bodies_without_a_length_say_whether_their_end_is_marked() {
    let origin = TestOrigin::start().await;
    let source = loopback_source(Vec::new());
    for (framing, is_delimited) in [(Framing::Chunked, true), (Framing::Close, false)] {
        let behaviour = Behaviour {
            framing,
            ..Behaviour::default()
        };
        origin.serve("/a", content(), behaviour);
        let opened = source.open(&request(&origin.url("/a"))).await.unwrap();
        assert_eq!((opened.length, opened.is_delimited), (None, is_delimited));
        assert_eq!(read(opened).await.unwrap(), content());
    }
}

#[tokio::test]
async fn a_range_is_exactly_the_one_asked_for() {
    let origin = TestOrigin::start().await;
    let source = loopback_source(Vec::new());
    origin.serve("/a", content(), Behaviour::default());
    let url = origin.url("/a");
    let opened = source
        .open(&range(&url, 1000, Some(2000), Some("\"v1\"")))
        .await
        .unwrap();
    assert_eq!((opened.start, opened.length), (1000, Some(200_000)));
    assert_eq!(read(opened).await.unwrap(), content()[1000..2000]);
    let seen = origin.log().pop().unwrap();
    assert_eq!(seen.header("range"), Some("bytes=1000-1999"));
    assert_eq!(seen.header("if-range"), Some("\"v1\""));

    // f26: everything instead of the range begins at 0, and says so.
    let opened = source
        .open(&range(&url, 1000, None, Some("\"old\"")))
        .await
        .unwrap();
    assert_eq!((opened.start, opened.length), (0, Some(200_000)));

    // f28: nothing left at the end; past it is another file.
    let opened = source
        .open(&range(&url, 200_000, None, None))
        .await
        .unwrap();
    assert_eq!((opened.start, opened.length), (200_000, Some(200_000)));
    assert!(read(opened).await.unwrap().is_empty());
    assert!(
        source
            .open(&range(&url, 200_001, None, None))
            .await
            .is_err()
    );

    // f27: another range, or several.
    for ranges in [Ranges::WrongStart, Ranges::Multipart] {
        let behaviour = Behaviour {
            ranges,
            ..Behaviour::default()
        };
        origin.serve("/a", content(), behaviour);
        let error = source
            .open(&range(&url, 1000, None, None))
            .await
            .err()
            .unwrap();
        assert_eq!(error.class(), Class::Corrupt, "{error}");
    }
}

#[tokio::test]
async fn redirects_are_followed_by_hand_and_carry_only_the_range() {
    let origin = TestOrigin::start().await;
    let other = TestOrigin::start().await;
    other.serve("/b", content(), Behaviour::default());
    origin.serve(
        "/a",
        "",
        Behaviour::fault(Fault::Redirect("/step".to_owned())),
    );
    let target = format!("{}?token=%2F", other.url("/b"));
    origin.serve("/step", "", Behaviour::fault(Fault::Redirect(target)));
    let source = loopback_source(Vec::new());
    let url = format!("{}?{CANARY}", origin.url("/a"));
    let opened = source.open(&range(&url, 10, None, None)).await.unwrap();
    assert_eq!(read(opened).await.unwrap(), content()[10..]);
    let seen = other.log().pop().unwrap();
    assert_eq!(seen.target, "/b?token=%2F");
    assert_eq!(seen.header("range"), Some("bytes=10-"));
    assert_eq!(seen.header("referer"), None);
    assert!(!format!("{seen:?}").contains("CANARY"));
}

async fn redirected_to(target: &str) -> Error {
    let origin = TestOrigin::start().await;
    origin.serve(
        "/a",
        "",
        Behaviour::fault(Fault::Redirect(target.to_owned())),
    );
    let source = loopback_source(Vec::new());
    source
        .open(&request(&origin.url("/a")))
        .await
        .err()
        .unwrap()
}

#[tokio::test]
async fn a_redirect_leads_nowhere_that_a_first_request_may_not_go() {
    for (target, words) in [
        (
            "http://169.254.169.254/latest/meta-data/?secret=CANARY",
            "metadata",
        ),
        ("http://[fd00:ec2::254]/latest", "private"),
        ("http://10.0.0.1/", "private"),
        ("file:///etc/passwd", "scheme"),
        ("http://me:secret@127.0.0.1/", "user info"),
        ("http://127.0.0.1/../a", "rewritten"),
        ("/a", "more than 5 times"),
    ] {
        let error = redirected_to(target).await;
        assert_eq!(error.class(), Class::Refused, "{target}");
        assert!(error.to_string().contains(words), "{target}: {error}");
        assert!(!error.full_message().contains("CANARY"));
    }
}

#[tokio::test]
async fn a_header_of_a_url_is_sent_to_its_hosts_and_never_across_a_redirect_to_others() {
    let origin = TestOrigin::start().await;
    let (ours, elsewhere) = (origin.url("/ours"), origin.url("/elsewhere"));
    let elsewhere = elsewhere.replace("127.0.0.1", "localhost");
    origin.serve("/a", "", Behaviour::fault(Fault::Redirect(ours)));
    origin.serve("/ours", "", Behaviour::fault(Fault::Redirect(elsewhere)));
    origin.serve("/elsewhere", content(), Behaviour::default());
    let source = loopback_source(Vec::new());
    let header = UrlHeader::new(
        "authorization",
        "Bearer canary",
        vec!["http://127.0.0.1".to_owned()],
    );
    let asked = OpenRequest {
        url: SignedUrl::new(origin.url("/a")).with_header(header),
        ..request("")
    };
    read(source.open(&asked).await.unwrap()).await.unwrap();
    let sent = |path: &str| {
        origin.requests(path)[0]
            .header("authorization")
            .map(str::to_owned)
    };
    assert_eq!(sent("/a").as_deref(), Some("Bearer canary"));
    assert_eq!(sent("/ours").as_deref(), Some("Bearer canary"));
    assert_eq!(sent("/elsewhere"), None);

    let header = UrlHeader::new("authorization", "Bearer canary", vec!["zoom.us".to_owned()]);
    let asked = OpenRequest {
        url: SignedUrl::new(origin.url("/elsewhere")).with_header(header),
        ..request("")
    };
    source.open(&asked).await.unwrap();
    assert_eq!(
        origin.requests("/elsewhere")[1].header("authorization"),
        None
    );
}

#[tokio::test]
async fn allowed_hosts_hold_for_redirects_too() {
    let origin = TestOrigin::start().await;
    origin.serve(
        "/a",
        "",
        Behaviour::fault(Fault::Redirect("http://localhost:1/b".to_owned())),
    );
    let asked = OpenRequest {
        allow_hosts: vec!["127.0.0.1".to_owned()],
        ..request(&origin.url("/a"))
    };
    let error = loopback_source(Vec::new())
        .open(&asked)
        .await
        .err()
        .unwrap();
    assert_eq!(error.class(), Class::Refused);
    assert!(error.to_string().contains("allow_hosts"), "{error}");
}

#[tokio::test]
async fn nothing_private_is_asked_without_permission() {
    let origin = TestOrigin::start().await;
    origin.serve("/a", content(), Behaviour::default());
    let port = origin.address().port();
    let guard = Guard::new(GuardSettings {
        allow_http: true,
        ..GuardSettings::default()
    });
    let source = source_behind(guard);
    for host in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f.1",
        "0177.0.0.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::127.0.0.1]",
        "localhost",
        "LOCALHOST.",
        "0.0.0.0",
    ] {
        let url = format!("http://{host}:{port}/a");
        let error = source.open(&request(&url)).await.err().unwrap();
        assert_eq!(error.class(), Class::Refused, "{host}");
    }
    assert!(origin.log().is_empty(), "{:?}", origin.log());
}

#[tokio::test]
async fn our_own_listeners_are_no_origins_under_any_name() {
    let admin = TestOrigin::start().await;
    admin.serve("/api", "secret", Behaviour::default());
    let source = loopback_source(vec![admin.address()]);
    let port = admin.address().port();
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0.0.0.0"] {
        let url = format!("http://{host}:{port}/api");
        let error = source.open(&request(&url)).await.err().unwrap();
        assert_eq!(error.class(), Class::Refused, "{host}: {error}");
    }
    assert!(admin.log().is_empty());
}

#[tokio::test]
async fn a_host_has_only_so_many_connections_at_once() {
    let origin = TestOrigin::start().await;
    origin.serve("/a", content(), Behaviour::default());
    let source = single_file_source();
    let asked = request(&origin.url("/a"));
    let first = source.open(&asked).await.unwrap();
    let mut second = Box::pin(source.open(&asked));
    assert!(futures::poll!(&mut second).is_pending());
    assert!(source.try_open(&asked).await.unwrap().is_none());
    assert_eq!(read(first).await.unwrap().len(), 200_000);
    let second = tokio::time::timeout(Duration::from_secs(5), second)
        .await
        .unwrap();
    assert_eq!(read(second.unwrap()).await.unwrap().len(), 200_000);
}

#[tokio::test]
async fn an_api_call_answers_with_any_status_and_follows_nothing() {
    let origin = TestOrigin::start().await;
    origin.serve("/v1/ok", "{\"a\":1}", Behaviour::default());
    origin.serve("/v1/no", "", Behaviour::status(404));
    origin.serve(
        "/v1/away",
        "",
        Behaviour::fault(Fault::Redirect("/v1/ok".to_owned())),
    );
    origin.serve("/v1/huge", vec![b' '; 9 << 20], Behaviour::default());
    let source = loopback_source(Vec::new());
    let call = |path: &str| ApiRequest {
        method: Method::Get,
        url: origin.url(path),
        headers: vec![("authorization", "Bearer CANARY".to_owned().into())],
        body: None,
    };
    let answer = source.call(&call("/v1/ok")).await.unwrap();
    assert_eq!((answer.status, &answer.body[..]), (200, &b"{\"a\":1}"[..]));
    assert_eq!(
        origin.log()[0].header("authorization"),
        Some("Bearer CANARY")
    );
    // What came packed could not be read.
    assert_eq!(origin.log()[0].header("accept-encoding"), Some("identity"));
    assert_eq!(source.call(&call("/v1/no")).await.unwrap().status, 404);
    assert_eq!(source.call(&call("/v1/away")).await.unwrap().status, 302);
    assert_eq!(
        source.call(&call("/v1/huge")).await.unwrap_err().class(),
        Class::Invalid
    );
}
