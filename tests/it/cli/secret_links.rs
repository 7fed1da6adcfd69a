//! Links whose path opens the file: nobody gets to see them (S11).

use crate::harness::binary::{self, Running};
use crate::harness::origin::{Behaviour, TestOrigin};

use super::custom::{configure, headers, media, post, sample, settled};

const SECRET: &str = "CANARY-preauthenticated";

/// Archives a file of JaaS from `path`; then neither the program nor the bucket shows the secret in it. The definition
/// says what `define` makes of the one in `deploy/sources`.
async fn assert_shown_nowhere(path: &str, define: impl Fn(&str) -> String) {
    let folder = tempfile::tempdir().unwrap();
    let config = configure(folder.path());
    let definition = folder.path().join("sources/jaas.toml");
    let text = std::fs::read_to_string(&definition).unwrap();
    std::fs::write(&definition, define(&text)).unwrap();
    let origin = TestOrigin::start().await;
    origin.serve(path, media("recording.mp4"), Behaviour::default());
    let body = sample("jaas/RECORDING_UPLOADED", &origin);
    let body = body.replace("/jaas/weekly_2026-03-02-10-00-00.mp4", path);
    assert!(body.contains(SECRET));
    let file = folder.path().join("event.json");
    std::fs::write(&file, &body).unwrap();
    let file = file.to_str().unwrap();
    let inspect = ["--json", "inspect", "--source", "jaas", file];
    let (inspected, code) = binary::finish(&config, &inspect).await;
    assert_eq!(code, Some(0));
    assert!(inspected.contains("/[removed]"), "{inspected}");

    let running = Running::start(&config, &[]).await;
    let good = headers("jaas", &body);
    assert_eq!(post(&running, "jaas", &body, &good).await.0, 200);
    let records = settled(&config).await;
    assert!(
        records.iter().all(|record| record["state"] == "archived"),
        "{records:#?}"
    );
    assert_eq!(running.terminate().await, Some(0));
    let log = std::fs::read_to_string(folder.path().join("log")).unwrap();
    let event = records.iter().find(|record| record["kind"] == "event");
    let key = event.unwrap()["key"].as_str().unwrap();
    let stored = folder.path().join("data/s3/archive").join(key);
    let stored =
        std::fs::read_to_string(&stored).unwrap_or_else(|error| panic!("{stored:?}: {error}"));
    assert!(stored.contains("[removed]"), "{stored}");
    for shown in [inspected, log, stored, format!("{records:?}")] {
        assert!(!shown.contains(SECRET), "{shown}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preauthenticated_request_is_known_by_its_shape() {
    let path = format!("/p/{SECRET}/n/ns/b/b/o/weekly.mp4");
    let says_nothing_of_secrets = |definition: &str| {
        let lines = definition.lines();
        let lines =
            lines.filter(|line| !line.starts_with("hide") && !line.starts_with("secret_path"));
        lines.collect::<Vec<_>>().join("\n")
    };
    assert_shown_nowhere(&path, says_nothing_of_secrets).await;
}

/// JaaS's links are such requests today; nothing promises that they stay so.
#[tokio::test(flavor = "multi_thread")]
async fn a_link_of_jaas_is_secret_whatever_its_shape() {
    let path = format!("/files/{SECRET}/weekly.mp4");
    assert_shown_nowhere(&path, str::to_owned).await;
}
