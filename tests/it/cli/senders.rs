//! Who may post, as the operator hears of it: what `run` refuses to start with, what it warns of, and what it tells of a
//! delivery that it did not take.

use std::path::Path;

use recording_harvester::source::client::local_client;

use crate::harness::binary::{self, Running};

const SECRET: &str = "canary-webhook-secret";

fn log(folder: &Path) -> String {
    std::fs::read_to_string(folder.join("log")).unwrap()
}

/// The line begins with the setting that is wrong.
fn is_about_a_setting(log: &str) -> bool {
    let mut lines = log.lines();
    lines.any(|line| line.starts_with("error: sources.") || line.starts_with("error: admin."))
}

// S2, S3, S19 and N20: each of these was taken, on loopback or everywhere.
#[tokio::test]
async fn run_does_not_start_with_senders_that_prove_nothing() {
    for (sources, setting, expected) in [
        ("[sources.100ms]", "limits.lanes=1", "sources.100ms.secrets"),
        (
            "[sources.dyte]\napi_key = \"canary\"",
            "limits.lanes=1",
            "sources.dyte.account",
        ),
        (
            "[sources.realtimekit]\npublic_key = \"well-known\"",
            "limits.lanes=1",
            "sources.realtimekit.account",
        ),
        (
            "[sources.100ms]\nheader = \"x-a\"\nsecrets = [\"canary\"]",
            "limits.lanes=1",
            "16 bytes",
        ),
        (
            "[sources.100ms]\nheader = \"x-a\"\nsecrets = [\"replace-me-100ms-secret\"]",
            "limits.lanes=1",
            "which everybody knows",
        ),
        (
            "[sources.daily]\nsecrets = [\"cmVwbGFjZS1tZQ==\"]",
            "limits.lanes=1",
            "which everybody knows",
        ),
        ("", "admin.token=canary", "admin.token"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let config = binary::configure(folder.path(), &format!("{sources}\n"));
        let (_, code) = binary::finish(&config, &["--set", setting, "run"]).await;
        let log = log(folder.path());
        assert_eq!(code, Some(2), "{sources}: {log}");
        assert!(log.contains(expected), "{sources}: {log}");
        assert!(is_about_a_setting(&log), "{sources}: {log}");
        assert!(!log.contains("canary"), "{log}");
        // Other commands are not for senders to hold up.
        let (_, code) = binary::finish(&config, &["list"]).await;
        assert_eq!(code, Some(0), "{sources}");
    }
}

// S19: nothing told of a token that goes over plain http.
#[tokio::test]
async fn what_is_open_and_what_would_be_lost_is_said_at_the_start() {
    let elsewhere = [
        "--set",
        "admin.listen=0.0.0.0:0",
        "--set",
        "admin.token=a-token-of-many-bytes",
    ];
    for (sources, flags, expected) in [
        ("", &[][..], "no source is configured"),
        (
            "[sources.100ms]\ninsecure = true\n",
            &[],
            "sources.100ms.insecure is true",
        ),
        (
            "[sources.daily]\ninsecure = true\n",
            &[],
            "sources.daily.api_key is missing",
        ),
        ("", &elsewhere, "admin.token goes over plain http"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let config = binary::configure(folder.path(), sources);
        let running = Running::start(&config, flags).await;
        assert_eq!(running.terminate().await, Some(0));
        let log = log(folder.path());
        assert_eq!(log.matches(expected).count(), 1, "{log}");
    }
}

// R8
#[tokio::test]
async fn files_that_a_definition_tells_apart_by_their_urls_alone_are_named_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let definition = |id: &str| {
        format!(
            "provider = \"acme\"\n[event]\ntype = \"$.type\"\n[recording]\nrecording_id = \"$.recording\"\n\
             [[artifacts]]\ntypes = [\"file.ready\"]\nurl = \"$.url\"\nkind = \"video\"\n{id}"
        )
    };
    let (vague, plain) = ("vague.toml", "plain.toml");
    std::fs::write(folder.path().join(vague), definition("")).unwrap();
    std::fs::write(folder.path().join(plain), definition("id = \"$.file\"")).unwrap();
    let sources = [vague, plain].map(|file| {
        let name = file.trim_end_matches(".toml");
        format!(
            "[sources.{name}]\nprovider = \"custom\"\ndefinition = \"{file}\"\ninsecure = true\n"
        )
    });
    let config = binary::configure(folder.path(), &sources.concat());
    let running = Running::start(&config, &[]).await;
    assert_eq!(running.terminate().await, Some(0));
    let log = log(folder.path());
    let warned: Vec<_> = log
        .lines()
        .filter(|line| line.contains("names no id for the files of"))
        .collect();
    assert_eq!(warned.len(), 1, "{log}");
    assert!(warned[0].starts_with("sources.vague: "), "{log}");
    assert!(warned[0].contains("file.ready"), "{log}");
}

// N2 and R22: a wrong path left no trace, a wrong header only a reason, and a large event a number.
#[tokio::test]
async fn a_delivery_that_is_not_taken_is_told_with_what_would_help() {
    let folder = tempfile::tempdir().unwrap();
    let sources = format!(
        "[sources.meetings]\nprovider = \"100ms\"\nheader = \"X-Passcode\"\nsecrets = [\"{SECRET}\"]\n"
    );
    let config = binary::configure(folder.path(), &sources);
    let running = Running::start(&config, &[]).await;
    let client = local_client(None).unwrap();
    let post = async |path: &str, body: String| {
        let url = format!("http://{}{path}", running.webhooks);
        client.post(url).body(body).send().await.unwrap().status()
    };
    assert_eq!(post("/webhook/meetings", String::new()).await, 404);
    assert_eq!(post("/webhooks/meetings/", "{}".to_owned()).await, 401);
    assert_eq!(running.terminate().await, Some(0));
    let told = log(folder.path());
    let path = told.lines().find(|line| line.contains("/webhook/meetings"));
    let path = path.unwrap_or_else(|| panic!("{told}"));
    assert!(
        path.contains("WARN") && path.contains("127.0.0.1:"),
        "{path}"
    );
    assert!(path.contains("known=\"meetings\""), "{path}");
    let header = told.lines().find(|line| line.contains("401"));
    let header = header.unwrap_or_else(|| panic!("{told}"));
    assert!(
        header.contains("WARN") && header.contains("X-Passcode"),
        "{header}"
    );

    let running = Running::start(&config, &[]).await;
    let large = format!("http://{}/webhooks/meetings", running.webhooks);
    let large = client.post(large).body("x".repeat(2 << 20)).send().await;
    assert_eq!(large.unwrap().status(), 413);
    assert_eq!(running.terminate().await, Some(0));
    let told = log(folder.path());
    let large = told.lines().find(|line| line.contains("413"));
    let large = large.unwrap_or_else(|| panic!("{told}"));
    assert!(
        large.contains("ERROR") && large.contains("max_body"),
        "{large}"
    );
}

/// What is said of a delivery that was not taken must help with that one.
#[tokio::test]
async fn each_kind_of_refusal_is_told_at_once_and_with_what_helps() {
    let folder = tempfile::tempdir().unwrap();
    let source = format!("[sources.100ms]\nheader = \"x-hook-key\"\nsecrets = [\"{SECRET}\"]\n");
    let config = binary::configure(folder.path(), &source);
    let running = Running::start(&config, &[]).await;
    let client = local_client(None).unwrap();
    let post = async |secret: &str, body: String| {
        let request = client.post(running.webhook("100ms")).body(body);
        let answer = request.header("x-hook-key", secret).send().await;
        answer.unwrap().status().as_u16()
    };
    assert_eq!(post(SECRET, "no json".to_owned()).await, 400);
    // Of another kind, and so not held back as the same thing again.
    assert_eq!(post("another", "{}".to_owned()).await, 401);
    let deep = format!(
        "{{\"id\":\"e\",\"z\":{}{}}}",
        "[".repeat(40),
        "]".repeat(40)
    );
    assert_eq!(post(SECRET, deep.clone()).await, 400);
    assert_eq!(post(SECRET, deep).await, 400);
    assert_eq!(running.terminate().await, Some(0));
    let log = log(folder.path());
    let told =
        |part: &str| -> Vec<&str> { log.lines().filter(|line| line.contains(part)).collect() };
    let refused = told("webhook refused with 401");
    assert_eq!(refused.len(), 1, "{log}");
    assert!(refused[0].contains("x-hook-key"), "{}", refused[0]);
    let mut deep = told("too_complex");
    assert!(deep.iter().all(|line| !line.contains("max_body")), "{log}");
    deep.retain(|line| line.contains("webhook refused"));
    assert_eq!(deep.len(), 1, "the same again is told seldom: {log}");
    assert!(deep[0].contains("32 levels"), "{}", deep[0]);
}
