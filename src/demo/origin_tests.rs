use super::*;

#[test]
fn ranges_are_read_as_s3_reads_them() {
    for (range, expected) in [
        ("bytes=0-", Asked::Range(0, 100)),
        ("bytes=10-19", Asked::Range(10, 20)),
        ("bytes=90-1000", Asked::Range(90, 100)),
        ("bytes=-5", Asked::Range(95, 100)),
        ("bytes=-500", Asked::Range(0, 100)),
        ("bytes=100-", Asked::Impossible),
        ("bytes=100-110", Asked::Impossible),
        ("bytes=-0", Asked::Impossible),
        ("bytes=5-2", Asked::All),
        ("bytes=0-1,5-6", Asked::All),
        ("lines=1-2", Asked::All),
    ] {
        assert_eq!(asked_range(range, 100), expected, "{range}");
    }
}

#[test]
fn a_pace_gives_large_bodies_their_time_and_lets_small_ones_pass() {
    assert_eq!(SendPace::Unlimited.bytes_per_second(1), None);
    let within = SendPace::Within(Duration::from_secs(2));
    assert_eq!(within.bytes_per_second(2 << 20), Some(1 << 20));
    assert_eq!(within.bytes_per_second(100), Some(32 * 1024));
}

struct OriginAnswer {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
}

/// One request as it goes over the wire, so that not even the URL is touched by a client.
async fn ask(method: &str, url: &str, headers: &[(&str, &str)]) -> OriginAnswer {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let (host, path) = url
        .strip_prefix("http://")
        .and_then(|rest| rest.split_at_checked(rest.find('/')?))
        .unwrap();
    let mut request = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    let mut stream = TcpStream::connect(host).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut raw = Vec::new();
    stream.read_to_end(&mut raw).await.unwrap();
    let end = raw.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(raw[..end].to_vec()).unwrap();
    let mut lines = head.lines();
    let status = lines.next().unwrap()[9..12].parse().unwrap();
    let headers = lines
        .map(|line| line.split_once(": ").unwrap())
        .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_str(value).unwrap()))
        .collect::<Vec<(axum::http::HeaderName, _)>>();
    OriginAnswer {
        status,
        headers: headers.into_iter().collect(),
        body: raw[end + 4..].to_vec(),
    }
}

impl OriginAnswer {
    fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

async fn origin(clock: SharedClock) -> DemoOrigin {
    DemoOrigin::start(OriginSettings {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        library: Library {
            padding_bytes: 100_000,
        },
        pace: SendPace::Unlimited,
        clock,
        api_key: "key".to_owned(),
    })
    .await
    .unwrap()
}

const HOUR: Duration = Duration::from_secs(3600);
const NOW: &str = "2026-03-02T10:33:20Z";

#[tokio::test]
async fn a_signed_url_gives_the_bytes_and_their_ranges() {
    let origin = origin(crate::clock::ManualClock::at(at(NOW))).await;
    let path = "/100ms/sfu/rec.mp4";
    let url = origin.sign(path, at(NOW), HOUR);
    let content = origin.library().content(path).unwrap();

    let whole = ask("GET", &url, &[]).await;
    assert_eq!(whole.status, 200);
    assert_eq!(whole.header("accept-ranges"), "bytes");
    assert_eq!(whole.header("content-type"), "video/mp4");
    assert_eq!(
        whole.header("content-length"),
        content.size_bytes().to_string()
    );
    assert!(content.is_equal_to(&whole.body));

    let etag = whole.header("etag").to_owned();
    let part = ask(
        "GET",
        &url,
        &[("Range", "bytes=149000-160999"), ("If-Range", &etag)],
    )
    .await;
    assert_eq!(part.status, 206);
    assert_eq!(
        part.header("content-range"),
        format!("bytes 149000-160999/{}", content.size_bytes())
    );
    assert!(part.body == whole.body[149_000..161_000]);

    let other = ask(
        "GET",
        &url,
        &[("Range", "bytes=5-9"), ("If-Range", "\"other\"")],
    )
    .await;
    assert_eq!(other.status, 200);
    let beyond = ask("GET", &url, &[("Range", "bytes=99999999-")]).await;
    assert_eq!(beyond.status, 416);
    let changed = ask("GET", &url, &[("If-Match", "\"other\"")]).await;
    assert_eq!(changed.status, 412);
}

#[tokio::test]
async fn an_expired_url_is_refused_in_the_words_of_s3() {
    let clock = crate::clock::ManualClock::at(at(NOW));
    let origin = origin(clock.clone()).await;
    let url = origin.sign("/100ms/sfu/chat.csv", at(NOW), HOUR);
    assert_eq!(ask("GET", &url, &[]).await.status, 200);

    clock.set(at("2026-03-02T12:00:00Z"));
    let refused = ask("GET", &url, &[]).await;
    assert_eq!(refused.status, 403);
    assert_eq!(refused.header("content-type"), "application/xml");
    assert!(refused.text().contains(
        "<Code>AccessDenied</Code><Message>Request has expired</Message>\
         <X-Amz-Expires>3600</X-Amz-Expires><Expires>2026-03-02T11:33:20Z</Expires>\
         <ServerTime>2026-03-02T12:00:00Z</ServerTime>"
    ));
}

#[tokio::test]
async fn whoever_has_no_right_is_told_nothing() {
    let origin = origin(crate::clock::ManualClock::at(at(NOW))).await;
    let url = origin.sign("/dyte/weekly.mp4", at(NOW), HOUR);
    let wrong = ask("GET", &url.replace("weekly", "other"), &[]).await;
    assert_eq!(wrong.status, 403);
    assert!(wrong.text().contains("<Code>SignatureDoesNotMatch</Code>"));
    let plain = ask(
        "GET",
        &format!("{}/dyte/weekly.mp4", origin.base_url()),
        &[],
    )
    .await;
    assert_eq!(plain.status, 403);
    let head = ask("HEAD", &url, &[]).await;
    assert_eq!(head.status, 403, "signed for GET");
    let nothing = origin.sign("/dyte/weekly.exe", at(NOW), HOUR);
    assert_eq!(ask("GET", &nothing, &[]).await.status, 404);
}

#[tokio::test]
async fn api_calls_need_the_key_and_give_urls_that_work() {
    let origin = origin(crate::clock::ManualClock::at(at(NOW))).await;
    let base = origin.base_url();
    let daily = format!("{base}/v1/recordings/some-id/access-link");
    let refused = ask("GET", &daily, &[("Authorization", "Bearer other")]).await;
    assert_eq!(refused.status, 401);

    let answer = ask("GET", &daily, &[("Authorization", "Bearer key")]).await;
    assert_eq!(answer.status, 200);
    let answer: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(answer["expires"], at(NOW).as_second() + 3600);
    let link = answer["download_link"].as_str().unwrap();
    assert_eq!(ask("GET", link, &[]).await.status, 200);

    let data = format!("{base}/bots/meeting_data?bot_id=b&include_transcripts=true");
    let answer = ask("GET", &data, &[("x-meeting-baas-api-key", "key")]).await;
    let answer: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(answer["bot_data"]["bot"]["uuid"], "b");
    let link = answer["mp4"].as_str().unwrap();
    assert_eq!(ask("GET", link, &[]).await.status, 200);
}

#[tokio::test]
async fn every_url_of_every_event_can_be_fetched_but_the_expired_ones() {
    let now = at("2027-05-06T07:08:09Z");
    let origin = origin(crate::clock::ManualClock::at(now)).await;
    let mut statuses = std::collections::BTreeMap::<u16, usize>::new();
    for event in crate::demo::events::all(&origin, now).unwrap() {
        assert!(!event.body.contains("{{ORIGIN}}"), "{}", event.name);
        assert!(!event.body.contains("2026-03"), "{}: old dates", event.name);
        let base = origin.base_url();
        for (start, _) in event.body.match_indices(&base) {
            let url = event.body[start..].split('"').next().unwrap();
            let status = ask("GET", url, &[]).await.status;
            let expected = if event.name.ends_with("expired") {
                403
            } else {
                200
            };
            assert_eq!(status, expected, "{}: {url}", event.name);
            *statuses.entry(status).or_default() += 1;
        }
    }
    assert!(statuses[&403] >= 2 && statuses[&200] >= 40, "{statuses:?}");
}
