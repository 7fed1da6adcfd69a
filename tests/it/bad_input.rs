//! Bad input and bad surroundings against the real program: a clear answer, nothing lost.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use recording_harvester::source::client::local_client;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::harness::binary::{self, Running};
use crate::harness::origin::{Behaviour, Fault, TestOrigin};
use crate::harness::skip;

/// Far longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

const MEDIA: &[u8] = include_bytes!("../../fixtures/media/recording.mp4");

fn event(id: &str, session: &str, url: &str) -> Value {
    json!({
        "version": "2.0", "id": id, "type": "recording.success", "timestamp": "2026-03-02T10:33:20Z",
        "data": {"session_id": session, "recording_presigned_url": url},
    })
}

async fn post(running: &Running, source: &str, body: impl Into<reqwest::Body>) -> u16 {
    answer(running, source, body).await.status().as_u16()
}

async fn answer(
    running: &Running,
    source: &str,
    body: impl Into<reqwest::Body>,
) -> reqwest::Response {
    let client = local_client(Some(PATIENCE)).unwrap();
    let request = client.post(running.webhook(source)).body(body);
    request.send().await.unwrap()
}

/// Waits until each of `count` records has settled.
async fn settled(config: &Path, count: usize) -> Vec<Value> {
    let settled = async {
        loop {
            let records = binary::records(config).await;
            let is_open =
                |record: &Value| matches!(record["state"].as_str(), Some("pending" | "running"));
            if records.len() >= count && !records.iter().any(is_open) {
                return records;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let settled = tokio::time::timeout(PATIENCE, settled).await;
    settled.expect("everything settles in time")
}

/// What `archive` says of one URL or file, and its exit code.
async fn archive(config: &Path, input: &str) -> (Vec<Value>, Option<i32>) {
    let (out, code) = binary::finish(config, &["archive", "--json", input]).await;
    (
        out.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect(),
        code,
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_posted_gets_its_answer_and_what_is_taken_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let config = binary::configure(folder.path(), "");
    let origin = TestOrigin::start().await;
    origin.serve("/a.mp4", MEDIA, Behaviour::default());
    let running = Running::start(&config, &[]).await;
    let deep = |levels: usize| format!("{{\"a\":{}1{}}}", "[".repeat(levels), "]".repeat(levels));
    let refused: Vec<(Vec<u8>, u16)> = vec![
        (Vec::new(), 400),
        (b"not json".to_vec(), 400),
        (b"[]".to_vec(), 400),
        (b"null".to_vec(), 400),
        (b"{\"id\":\"cut".to_vec(), 400),
        (b"{\"id\":\"\xff\xfe\"}".to_vec(), 400),
        (b"\x1f\x8b\x08\x00\x00".to_vec(), 400),
        (deep(100_000).into_bytes(), 400),
        (vec![b' '; 5 << 20], 413),
    ];
    for (body, expected) in refused {
        let shown = String::from_utf8_lossy(&body[..body.len().min(20)]).into_owned();
        assert_eq!(post(&running, "100ms", body).await, expected, "{shown}");
    }
    assert_eq!(post(&running, "nobody", "{}").await, 404);
    let odd = [
        json!({}),
        json!({"type": 5, "id": [1], "data": "text"}),
        json!({"type": "brand.new", "id": "new", "data": {"url": origin.url("/a.mp4")}}),
        json!({"type": "recording.success", "id": "list", "data": []}),
        json!({"type": "recording.success", "id": "none", "data": null}),
        json!({"type": "recording.success", "id": "number", "timestamp": -1, "data": {"session_id": 7, "recording_presigned_url": 5}}),
    ];
    for body in &odd {
        assert_eq!(
            post(&running, "100ms", body.to_string()).await,
            200,
            "{body}"
        );
    }
    let good = event("good", "good", &origin.url("/a.mp4"));
    assert_eq!(post(&running, "100ms", good.to_string()).await, 200);

    let records = settled(&config, 3).await;
    let of = |session: &str, name: &str| {
        let is_it = |record: &&Value| {
            record["name"] == name
                && record["key"]
                    .as_str()
                    .unwrap()
                    .contains(&format!("/{session}/"))
        };
        records
            .iter()
            .find(is_it)
            .unwrap_or_else(|| panic!("{session}/{name}: {records:#?}"))
    };
    assert_eq!(of("good", "recording.mp4")["state"], "archived");
    // A field that can't be used is that artifact's failure; the event is archived all the same.
    assert_eq!(of("7", "recording.mp4")["class"], "invalid");
    assert_eq!(of("7", "event-number.json")["state"], "archived");

    let client = local_client(Some(PATIENCE)).unwrap();
    let events = client.get(format!("http://{}/api/v1/events", running.admin));
    let token = running.admin_token(&config);
    let events = events.header("X-Harvester", "1").bearer_auth(token);
    let events = events.send().await.unwrap();
    let events: Value = serde_json::from_str(&events.text().await.unwrap()).unwrap();
    assert_eq!(
        events["events"].as_array().unwrap().len(),
        odd.len() + 1,
        "{events}"
    );
    assert_eq!(running.terminate().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_event_of_an_archived_recording_fetches_nothing_twice() {
    let folder = tempfile::tempdir().unwrap();
    let config = binary::configure(folder.path(), "");
    let origin = TestOrigin::start().await;
    origin.serve("/a.mp4", MEDIA, Behaviour::default());
    let running = Running::start(&config, &[]).await;
    let url = origin.url("/a.mp4");
    let first = event("first", "s", &format!("{url}?signature=1")).to_string();
    assert_eq!(post(&running, "100ms", first.clone()).await, 200);
    let archived = settled(&config, 2).await;
    let video = |records: &[Value]| {
        let mut videos: Vec<_> = records
            .iter()
            .filter(|record| record["kind"] == "video")
            .cloned()
            .collect();
        assert_eq!(videos.len(), 1, "{records:#?}");
        videos.remove(0)
    };
    assert_eq!(video(&archived)["state"], "archived");

    // The same delivery; another one with the same file under a fresh signature; both again as files.
    let second = event("second", "s", &format!("{url}?signature=2")).to_string();
    assert_eq!(post(&running, "100ms", first.clone()).await, 200);
    assert_eq!(post(&running, "100ms", second.clone()).await, 200);
    assert_eq!(video(&settled(&config, 3).await), video(&archived));
    assert_eq!(running.terminate().await, Some(0));
    for body in [first, second] {
        let file = folder.path().join("event.json");
        std::fs::write(&file, body).unwrap();
        let (told, code) = archive(&config, file.to_str().unwrap()).await;
        assert_eq!(code, Some(0), "{told:#?}");
        assert_eq!(video(&told), video(&archived));
    }
    assert_eq!(origin.requests("/a.mp4").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_given_twice_with_a_file_that_can_not_be_had_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let config = binary::configure(folder.path(), "");
    let mut body = event("one", "s", "unused");
    body["data"]["recording_presigned_url"] = json!(5);
    let file = folder.path().join("event.json");
    std::fs::write(&file, body.to_string()).unwrap();
    let input = file.to_str().unwrap();
    // The second one asks for the file again that the first one has found unusable.
    let (out, code) = binary::finish(&config, &["archive", "--json", input, input]).await;
    let told: Vec<Value> = out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let mut states: Vec<_> = told
        .iter()
        .map(|one| (&one["name"], &one["state"]))
        .collect();
    states.sort_by_key(|(name, _)| name.to_string());
    let expected = [
        (&json!("event-one.json"), &json!("archived")),
        (&json!("recording.mp4"), &json!("failed")),
    ];
    assert_eq!((&states[..], code), (&expected[..], Some(1)));
    let again = archive(&config, input).await;
    assert_eq!((again.0.len(), again.1), (2, Some(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_event_asked_for_by_hand_is_about_what_it_names_too() {
    let folder = tempfile::tempdir().unwrap();
    let config = binary::configure(folder.path(), "");
    let origin = TestOrigin::start().await;
    origin.serve("/a.mp4", MEDIA, Behaviour::status(410));
    let url = origin.url("/a.mp4");
    let file = |id: &str, time: &str| {
        let mut event = event(id, "s", &url);
        event["timestamp"] = time.into();
        let path = folder.path().join(id);
        std::fs::write(&path, event.to_string()).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let newer = file("newer", "2026-03-02T10:40:00Z");
    let older = file("older", "2026-03-02T10:30:00Z");
    let video_of = |told: &[Value]| {
        let video = told.iter().find(|record| record["kind"] == "video");
        video.unwrap_or_else(|| panic!("{told:#?}"))["state"].clone()
    };
    for input in [&newer, &older, &older] {
        let (told, code) = archive(&config, input).await;
        assert_eq!(
            (video_of(&told), code),
            (json!("failed"), Some(1)),
            "{input}"
        );
    }
    origin.serve("/a.mp4", MEDIA, Behaviour::default());
    let (told, code) = archive(&config, &older).await;
    assert_eq!((video_of(&told), code), (json!("archived"), Some(0)));
}

// A 404 is asked again for about a minute first: `schedule::retry` and the engine's tests have that.
#[tokio::test(flavor = "multi_thread")]
async fn an_origin_that_has_nothing_ends_in_a_class_and_exit_code_1() {
    let folder = tempfile::tempdir().unwrap();
    let config = binary::configure(folder.path(), "");
    let origin = TestOrigin::start().await;
    origin.serve("/empty.mp4", "", Behaviour::default());
    origin.serve("/403.mp4", MEDIA, Behaviour::status(403));
    origin.serve("/410.mp4", MEDIA, Behaviour::status(410));
    origin.serve("/page.mp4", "<html>Sorry</html>", Behaviour::default());
    let archiving = [
        ("empty", "corrupt"),
        ("403", "denied"),
        ("410", "gone"),
        ("page", "corrupt"),
    ];
    for (name, class) in archiving {
        let url = origin.url(&format!("/{name}.mp4"));
        let (told, code) = archive(&config, &url).await;
        assert_eq!(code, Some(1), "{name}");
        let video = told
            .iter()
            .find(|record| record["kind"] == "video")
            .unwrap();
        assert_eq!(
            (&video["state"], &video["class"]),
            (&json!("failed"), &json!(class)),
            "{name}"
        );
        assert!(
            video["message"].is_string() && video["action"].is_string(),
            "{video}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_that_hangs_holds_up_nobody_else_and_a_second_signal_ends_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let config = binary::configure(folder.path(), "");
    let origin = TestOrigin::start().await;
    origin.serve("/hangs.mp4", MEDIA, Behaviour::fault(Fault::Hang));
    origin.serve(
        "/stalls.mp4",
        MEDIA,
        Behaviour::fault(Fault::StallAfter(1000)),
    );
    origin.serve("/good.mp4", MEDIA, Behaviour::default());
    let running = Running::start(&config, &[]).await;
    for name in ["hangs", "stalls", "good"] {
        let url = origin.url(&format!("/{name}.mp4"));
        assert_eq!(
            post(&running, "100ms", event(name, name, &url).to_string()).await,
            200
        );
    }
    let good_is_there = async {
        loop {
            let records = binary::records(&config).await;
            let is_it = |record: &&Value| {
                record["kind"] == "video" && record["key"].as_str().unwrap().contains("/good/")
            };
            if records
                .iter()
                .find(is_it)
                .is_some_and(|record| record["state"] == "archived")
            {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, good_is_there).await.unwrap();
    running.signal_term();
    let log = folder.path().join("log");
    let is_ending = async {
        while !std::fs::read_to_string(&log)
            .unwrap()
            .contains("a second signal ends at once")
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, is_ending).await.unwrap();
    assert_eq!(running.terminate().await, Some(130));

    // What hung is still known; an operator can give it up, and the next start is not held up by it.
    let open: Vec<_> = binary::records(&config).await;
    let open: Vec<_> = open
        .iter()
        .filter(|record| record["kind"] == "video" && record["state"] != "archived")
        .collect();
    assert_eq!(open.len(), 2, "{open:#?}");
    for record in open {
        let (_, code) = binary::finish(&config, &["cancel", record["id"].as_str().unwrap()]).await;
        assert_eq!(code, Some(0));
    }
    let again = Running::start(&config, &[]).await;
    settled(&config, 6).await;
    assert_eq!(again.terminate().await, Some(0));
}

/// A folder under which everything is on a file system of `size`, until it is dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None` where this process may not mount.
    fn mount(folder: &Path, size: &str) -> Option<SmallDisk> {
        let at = folder.join("disk");
        std::fs::create_dir(&at).unwrap();
        let mut mount = std::process::Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(&at);
        let is_mounted = mount
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
        is_mounted.then_some(SmallDisk(at))
    }

    /// Takes all the space that is left.
    fn fill(&self) -> PathBuf {
        use std::io::Write as _;

        let path = self.0.join("filler");
        let mut file = std::fs::File::create(&path).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let mut unmount = std::process::Command::new("umount");
        let _ = unmount.arg("--lazy").arg(&self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f68_a_full_disk_is_503_until_there_is_space_and_then_all_goes_on_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(folder.path(), "16m") else {
        skip("a full disk needs the right to mount a tmpfs");
        return;
    };
    let config = binary::configure(folder.path(), "");
    let text = std::fs::read_to_string(&config).unwrap();
    let data = disk.0.join("data");
    let text: Vec<_> = text
        .lines()
        .map(|line| match line.starts_with("data_dir") {
            true => format!("data_dir = \"{}\"", data.display()),
            false => line.to_owned(),
        })
        .collect();
    std::fs::write(&config, text.join("\n")).unwrap();
    let origin = TestOrigin::start().await;
    origin.serve("/a.mp4", MEDIA, Behaviour::default());
    let running = Running::start(&config, &[]).await;
    let mut acknowledged = Vec::new();
    let deliver = async |id: String| {
        let body = event(&id, &id, &origin.url("/a.mp4")).to_string();
        answer(&running, "100ms", body).await
    };
    assert_eq!(deliver("before".to_owned()).await.status(), 200);
    acknowledged.push("before".to_owned());
    settled(&config, 2).await;

    let filler = disk.fill();
    let refusal = async {
        loop {
            let id = format!("during{}", acknowledged.len());
            let answer = deliver(id.clone()).await;
            match answer.status().as_u16() {
                // Space that the files have already.
                200 => acknowledged.push(id),
                503 => return (id, answer),
                other => panic!("{id}: {other}"),
            }
        }
    };
    let (refused, answer) = tokio::time::timeout(PATIENCE, refusal).await.unwrap();
    assert!(answer.headers().contains_key("retry-after"));

    std::fs::remove_file(filler).unwrap();
    let taken = async {
        while deliver(refused.clone()).await.status() != 200 {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(PATIENCE, taken).await.unwrap();
    acknowledged.push(refused);
    let records = settled(&config, 2 * acknowledged.len()).await;
    for id in acknowledged {
        let archived = records.iter().filter(|record| {
            record["state"] == "archived"
                && record["key"].as_str().unwrap().contains(&format!("/{id}/"))
        });
        assert_eq!(archived.count(), 2, "{id}: {records:#?}");
    }
    assert_eq!(running.terminate().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_credentials_are_told_soon_even_where_nobody_answers_for_them() {
    let folder = tempfile::tempdir().unwrap();
    let config = binary::configure(folder.path(), "");
    let text = std::fs::read_to_string(&config).unwrap();
    let text = text.replace("[archive]", "[archive]\nbucket = \"mine\"");
    std::fs::write(&config, text).unwrap();
    let origin = TestOrigin::start().await;
    origin.serve("/a.mp4", MEDIA, Behaviour::default());
    // Takes connections and never answers, as the metadata service does behind some firewalls.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let metadata = format!("http://{}", silent.local_addr().unwrap());
    let url = origin.url("/a.mp4");
    for (arguments, expected) in [
        (&["archive", &url][..], "archive.region"),
        (
            &["archive", &url, "--set", "archive.region=eu-west-1"],
            "credentials",
        ),
        (&["run", "--set", "archive.region=eu-west-1"], "credentials"),
    ] {
        std::fs::write(folder.path().join("log"), "").unwrap();
        let env = [("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadata.as_str())];
        let (_, code) = binary::finish_with(&config, arguments, &env).await;
        assert_eq!(code, Some(1), "{arguments:?}");
        let log = std::fs::read_to_string(folder.path().join("log")).unwrap();
        assert!(
            log.contains(expected) && log.contains("upload_denied"),
            "{arguments:?}: {log}"
        );
        // One error for a person, not the insides of the AWS library.
        assert!(
            !log.contains("ProviderError") && !log.contains("DispatchFailure"),
            "{log}"
        );
    }
    let waiting = binary::records(&config).await;
    assert!(!waiting.is_empty());
    assert!(
        waiting
            .iter()
            .all(|record| record["state"] == "pending" && record["attempts"] == 0)
    );
}
