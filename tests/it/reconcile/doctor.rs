//! `harvester doctor` with the real program: all well, and each fault with its fix.

use axum::Router;
use axum::http::{StatusCode, header};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::World;
use crate::harness::origin::{Behaviour, TestOrigin};
use crate::harness::s3::{Fault, Kind, Op};

/// What it says: exit code, and the lines by the name of the check.
async fn examine(world: &World) -> (Option<i32>, Vec<Value>) {
    let (printed, code) = world.finish(&["--json", "doctor"]).await;
    let document: Value = serde_json::from_str(&printed)
        .unwrap_or_else(|error| panic!("{error}: {printed}\n{}", world.log()));
    let checks = document["checks"].as_array().unwrap().clone();
    let is_ok = checks.iter().all(|check| check["status"] != "fault");
    assert_eq!(document["ok"], is_ok);
    assert_eq!(code, Some(i32::from(!is_ok)));
    for check in &checks {
        assert_eq!(check["status"] == "ok", check["fix"].is_null(), "{check}");
    }
    (code, checks)
}

fn check<'a>(checks: &'a [Value], name: &str) -> &'a Value {
    let found = checks.iter().find(|check| check["check"] == name);
    found.unwrap_or_else(|| panic!("no line {name}: {checks:#?}"))
}

/// The one fault of a run, and what its line says.
async fn the_fault(world: &World, name: &str) -> String {
    let (code, checks) = examine(world).await;
    assert_eq!(code, Some(1), "{checks:#?}");
    let line = check(&checks, name);
    assert_eq!(line["status"], "fault", "{checks:#?}");
    format!(
        "{}; {}",
        line["message"].as_str().unwrap(),
        line["fix"].as_str().unwrap()
    )
}

fn reconfigure(world: &World, from: &str, to: &str) {
    let text = std::fs::read_to_string(&world.config).unwrap();
    assert!(text.contains(from), "{text}");
    std::fs::write(&world.config, text.replace(from, to)).unwrap();
}

async fn healthy() -> World {
    let world = World::start("secrets = [\"Y2FuYXJ5IGtleQ==\"]").await;
    world.daily.with(|daily| {
        daily.webhooks = vec![json!({"uuid": "w", "url": "https://me.example/webhooks/daily?k=canary", "state": "ACTIVE"})];
    });
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn all_is_well_and_nothing_is_left_behind() {
    let world = healthy().await;
    let (code, checks) = examine(&world).await;
    assert_eq!(code, Some(0), "{checks:#?}");
    let said: Vec<_> = checks
        .iter()
        .map(|check| {
            format!(
                "{} {}",
                check["check"].as_str().unwrap(),
                check["status"].as_str().unwrap()
            )
        })
        .collect();
    assert_eq!(
        said,
        [
            "configuration ok",
            "store ok",
            "store.space ok",
            "bucket.clock ok",
            "bucket ok",
            "bucket.put ok",
            "bucket.head ok",
            "bucket.list ok",
            "bucket.checksum ok",
            "bucket.condition ok",
            "bucket.multipart ok",
            "bucket.abort ok",
            "bucket.complete ok",
            "sources.daily ok",
            "sources.daily.clock ok",
            "sources.daily.webhook ok",
        ]
    );
    let (objects, manifests) = world.bucket();
    assert_eq!((objects.len(), manifests), (0, 0), "{objects:?}");
    assert!(!world.folder.path().join("data").exists());
    assert!(!format!("{checks:?}{}", world.log()).contains("canary"));

    let (printed, code) = world.finish(&["doctor"]).await;
    assert_eq!(code, Some(0));
    assert_eq!(printed.lines().count(), 16);
    assert!(
        printed.lines().all(|line| line.starts_with("ok ")),
        "{printed}"
    );
}

/// What `run` refuses is no sound configuration: a line for each source, with the fix.
#[tokio::test(flavor = "multi_thread")]
async fn what_run_would_refuse_is_told_for_each_source() {
    let world = healthy().await;
    reconfigure(&world, "Y2FuYXJ5IGtleQ==", "no base64: canary");
    let more = "[sources.dyte]\nsecrets = [\"canary-canary-canary\"]\n[sources.100ms]\nsecrets = [\"canary-canary-canary\"]\nheader = \"x-key\"\n[admin]\n";
    reconfigure(&world, "[admin]\n", more);
    let (code, checks) = examine(&world).await;
    assert_eq!(code, Some(1));
    for (source, advice) in [("daily", "base64"), ("dyte", "public_key")] {
        let line = check(&checks, &format!("sources.{source}.senders"));
        assert_eq!(line["status"], "fault", "{line}");
        assert!(line["message"].as_str().unwrap().contains(advice), "{line}");
        assert!(
            line["fix"].as_str().unwrap().contains("does not start"),
            "{line}"
        );
    }
    assert!(!checks.iter().any(|line| {
        line["check"] == "configuration" || line["check"] == "sources.100ms.senders"
    }));
    let (_, code) = world.finish(&["run"]).await;
    assert_eq!(code, Some(2), "run refuses as well");
    assert!(!format!("{checks:?}{}", world.log()).contains("canary"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_without_a_secret_and_a_key_that_can_not_be_fetched_are_told() {
    let world = healthy().await;
    reconfigure(&world, "secrets = [\"Y2FuYXJ5IGtleQ==\"]", "");
    // S2: that was a warning, on loopback, where every proxy and every page can be the sender.
    let said = the_fault(&world, "sources.daily.senders").await;
    assert!(
        said.contains("sources.daily.secrets") && said.contains("sources.daily.insecure"),
        "{said}"
    );
    let (_, code) = world.finish(&["run"]).await;
    assert_eq!(code, Some(2), "run refuses as well");
    reconfigure(
        &world,
        "[sources.daily]",
        "[sources.daily]\ninsecure = true",
    );
    let (code, checks) = examine(&world).await;
    assert_eq!(code, Some(0), "{checks:#?}");
    let line = check(&checks, "sources.daily.senders");
    assert_eq!(line["status"], "warning");
    assert_eq!(line["fix"], "set sources.daily.secrets");

    let world = healthy().await;
    let origin = TestOrigin::start().await;
    let source = format!(
        "[sources.dyte]\npublic_key = \"{}\"\naccount = [\"org\"]\n[admin]\n",
        origin.url("/keys")
    );
    reconfigure(&world, "[admin]\n", &source);
    let said = the_fault(&world, "sources.dyte.senders").await;
    assert!(
        said.contains("404") && said.contains("sources.dyte.public_key"),
        "{said}"
    );
    origin.serve("/keys", "{}", Behaviour::default());
    let said = the_fault(&world, "sources.dyte.senders").await;
    assert!(said.contains("holds no publicKey"), "{said}");
    assert_eq!(origin.requests("/keys").len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_defined_source_is_not_asked_for_an_api_key() {
    let world = healthy().await;
    let source = |more: &str| {
        let file = std::path::absolute("deploy/sources/jaas.toml").unwrap();
        let file = file.display();
        format!(
            "[sources.jaas]\nprovider = \"custom\"\ndefinition = \"{file}\"\nsecrets = [\"canary-canary-canary\"]\n{more}\n[admin]\n"
        )
    };
    reconfigure(&world, "[admin]\n", &source(""));
    let (code, checks) = examine(&world).await;
    assert_eq!(code, Some(0), "{checks:#?}");
    let line = check(&checks, "sources.jaas");
    assert_eq!(line["status"], "ok");
    assert!(!line.to_string().contains("api_key"), "{line}");

    reconfigure(&world, &source(""), &source("api_key = \"canary\""));
    let (code, checks) = examine(&world).await;
    assert_eq!(code, Some(0), "{checks:#?}");
    assert_eq!(
        check(&checks, "sources.jaas")["fix"],
        "remove sources.jaas.api_key"
    );

    let asked = source("api_key = \"canary\"");
    reconfigure(
        &world,
        &asked,
        &source("api_key = \"canary\"\nreconcile = \"15m\""),
    );
    let (_, code) = world.finish(&["doctor"]).await;
    assert_eq!(code, Some(2), "nothing could be asked");
    assert!(
        world.log().contains("sources.jaas.reconcile"),
        "{}",
        world.log()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn advice_names_the_source_as_the_operator_does() {
    let world = healthy().await;
    let source = "[sources.rtk-eu]\nprovider = \"realtimekit\"\nsecrets = [\"canary-canary-canary\"]\nheader = \"x-key\"\napi_key = \"canary\"\n[admin]\n";
    reconfigure(&world, "[admin]\n", source);
    let said = the_fault(&world, "sources.rtk-eu").await;
    assert!(
        said.contains("set sources.rtk-eu.base_url") && !said.contains("<name>"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_of_somebody_else_is_no_fault_and_not_ours() {
    let world = healthy().await;
    world.daily.with(|daily| {
        daily.webhooks = vec![
            json!({"uuid": "x", "url": "https://crm.example/hooks?k=canary", "state": "FAILED"}),
        ];
    });
    let (code, checks) = examine(&world).await;
    assert_eq!(code, Some(0), "{checks:#?}");
    let lines: Vec<_> = checks
        .iter()
        .filter(|line| line["check"] == "sources.daily.webhook")
        .map(|line| line["message"].as_str().unwrap())
        .collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(
        lines[0].contains("none of daily's webhooks leads to /webhooks/daily"),
        "{lines:?}"
    );
    assert!(lines[1].contains("not that of this source"), "{lines:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn beside_a_running_worker_it_says_so() {
    let world = healthy().await;
    let running = world.run().await;
    let (code, checks) = examine(&world).await;
    assert_eq!(code, Some(0), "{checks:#?}");
    let store = check(&checks, "store")["message"].as_str().unwrap();
    assert!(store.contains("a worker runs on it"), "{store}");
    assert_eq!(running.terminate().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_api_key_a_missing_one_and_an_api_that_is_down_are_told() {
    let world = healthy().await;
    reconfigure(&world, "daily-key-canary", "wrong-canary");
    let said = the_fault(&world, "sources.daily").await;
    assert!(
        said.contains("status 401") && said.contains("correct sources.daily.api_key"),
        "{said}"
    );

    reconfigure(&world, "api_key = \"wrong-canary\"", "");
    let said = the_fault(&world, "sources.daily").await;
    assert!(
        said.contains("nothing of it can be archived")
            && said.contains("set sources.daily.api_key"),
        "{said}"
    );

    let world = healthy().await;
    world.daily.with(|daily| {
        daily.faults = vec![
            ("/recordings".to_owned(), 503),
            ("/transcript".to_owned(), 503),
        ]
    });
    let said = the_fault(&world, "sources.daily").await;
    assert!(
        said.contains("status 503") && said.contains("status page"),
        "{said}"
    );

    reconfigure(&world, &world.daily.base_url(), "http://127.0.0.1:1");
    let said = the_fault(&world, "sources.daily").await;
    assert!(
        said.contains("connect") && said.contains("sources.daily.base_url"),
        "{said}"
    );
    assert!(!world.log().contains("canary"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_is_switched_off_and_a_provider_of_another_time_are_told() {
    let world = healthy().await;
    world
        .daily
        .with(|daily| daily.webhooks[0]["state"] = json!("FAILED"));
    let said = the_fault(&world, "sources.daily.webhook").await;
    assert!(
        said.contains("switched off") && said.contains("harvester backfill daily"),
        "{said}"
    );

    let world = healthy().await;
    world
        .daily
        .with(|daily| daily.date = Some("Mon, 02 Mar 2015 10:00:30 GMT".to_owned()));
    let said = the_fault(&world, "sources.daily.clock").await;
    assert!(
        said.contains("ahead of that of daily") && said.contains("NTP"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_bucket_a_wrong_secret_key_and_a_store_that_is_down_are_told() {
    let world = healthy().await;
    reconfigure(&world, "bucket = \"recordings\"", "bucket = \"forgotten\"");
    let said = the_fault(&world, "bucket").await;
    assert!(
        said.contains("does not exist") && said.contains("archive.bucket"),
        "{said}"
    );
    let said = the_fault(&world, "bucket.put").await;
    assert!(said.contains("NoSuchBucket"), "{said}");

    let world = healthy().await;
    let mut env = world.env();
    env[1].1 = "wrong-secret-canary".to_owned();
    let (printed, code) = world.finish_in(&["--json", "doctor"], &env).await;
    assert_eq!(code, Some(1));
    let document: Value = serde_json::from_str(&printed).unwrap();
    let line = check(document["checks"].as_array().unwrap(), "bucket.put");
    assert_eq!(line["status"], "fault");
    assert!(
        line["message"]
            .as_str()
            .unwrap()
            .contains("SignatureDoesNotMatch"),
        "{line}"
    );
    assert!(
        line["fix"]
            .as_str()
            .unwrap()
            .contains("AWS_SECRET_ACCESS_KEY"),
        "{line}"
    );
    assert!(!format!("{printed}{}", world.log()).contains("canary"));

    let world = healthy().await;
    reconfigure(&world, &world.s3.endpoint(), "http://127.0.0.1:1");
    let said = the_fault(&world, "bucket.put").await;
    assert!(said.contains("archive.endpoint"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_right_that_is_missing_is_named() {
    for (op, name) in [
        (Op::PutObject, "bucket.put"),
        (Op::HeadObject, "bucket.head"),
        (Op::CreateUpload, "bucket.multipart"),
        (Op::UploadPart, "bucket.multipart"),
        (Op::Abort, "bucket.abort"),
        (Op::Complete, "bucket.complete"),
        (Op::HeadBucket, "bucket"),
    ] {
        let world = healthy().await;
        world.s3.fail(Fault::always(op, Kind::AccessDenied));
        let said = the_fault(&world, name).await;
        assert!(
            said.contains("403") || said.contains("AccessDenied"),
            "{op:?}: {said}"
        );
    }
}

/// An S3 that lives two hours ago and refuses whoever does not.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_s3_does_not_share_is_told() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let refusal = || async {
        let body = "<?xml version=\"1.0\"?><Error><Code>RequestTimeTooSkewed</Code><Message>The difference between the \
                    request time and the current time is too large.</Message></Error>";
        let headers = [
            (header::DATE, "Mon, 02 Mar 2015 10:00:30 GMT"),
            (header::CONTENT_TYPE, "application/xml"),
        ];
        (StatusCode::FORBIDDEN, headers, body)
    };
    let mut server = JoinSet::new();
    server.spawn(async move {
        axum::serve(listener, Router::new().fallback(refusal))
            .await
            .unwrap()
    });
    let world = healthy().await;
    reconfigure(&world, &world.s3.endpoint(), &endpoint);
    let said = the_fault(&world, "bucket.clock").await;
    assert!(
        said.contains("ahead of that of the object store") && said.contains("NTP"),
        "{said}"
    );
    let said = the_fault(&world, "bucket.put").await;
    assert!(said.contains("RequestTimeTooSkewed"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_damaged_or_can_not_be_made_is_told() {
    let world = healthy().await;
    let data = world.folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("harvester.db"), "this is no database").unwrap();
    let said = the_fault(&world, "store").await;
    assert!(said.contains("data_dir"), "{said}");

    let world = healthy().await;
    // Where the folder should be is a file.
    std::fs::write(world.folder.path().join("data"), "").unwrap();
    let (_, checks) = examine(&world).await;
    assert_eq!(check(&checks, "store")["status"], "fault", "{checks:#?}");
}

/// Without it a free name looks like a forbidden one, which was told of each large recording, in the end.
#[tokio::test(flavor = "multi_thread")]
async fn a_right_to_list_the_bucket_that_is_missing_is_told_by_doctor_and_once_at_a_start() {
    const LINE: &str = "the right s3:ListBucket on the bucket is missing";
    let world = healthy().await;
    world.s3.forbid_listing();
    let said = the_fault(&world, "bucket.list").await;
    assert!(said.contains(LINE), "{said}");
    assert!(said.contains("upload_denied"), "{said}");
    let (_, checks) = examine(&world).await;
    for fine in ["bucket.put", "bucket.multipart", "bucket.complete"] {
        assert_eq!(check(&checks, fine)["status"], "ok", "{checks:#?}");
    }
    assert!(!world.log().contains(LINE), "{}", world.log());

    let running = world.run().await;
    let told = async {
        while !world.log().contains(LINE) {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let told = tokio::time::timeout(std::time::Duration::from_secs(60), told).await;
    assert!(told.is_ok(), "{}", world.log());
    assert_eq!(running.terminate().await, Some(0));
    assert_eq!(world.log().matches(LINE).count(), 1, "{}", world.log());
}
