//! Who is believed, over real sockets: good deliveries once, forged ones never, and what is counted.

use std::sync::Mutex;

use async_trait::async_trait;
use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use aws_lc_rs::{hmac, rand};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use recording_harvester::clock::ManualClock;
use recording_harvester::error::Error;
use recording_harvester::ingest::signature::{Trust, custom_check, provider_check};
use recording_harvester::ingest::{Adapter, ProviderDefinition};
use recording_harvester::model::Provider;
use recording_harvester::server::keys::{FetchKeys, KeyRing, Renewal};
use recording_harvester::server::webhook::{Intake, WebhookSource};
use recording_harvester::store::sqlite::SqliteOptions;

use super::intake::World;
use super::*;

fn at(second: i64) -> jiff::Timestamp {
    jiff::Timestamp::from_second(second).unwrap()
}

/// The intake's clock, in seconds.
const NOW: i64 = 1_772_448_000;

const KEY: &[u8] = b"canary key";

fn daily_source() -> WebhookSource {
    let trust = Trust {
        secrets: vec![BASE64_STANDARD.encode(KEY).into()],
        ..Trust::default()
    };
    let check = provider_check("daily", Provider::Daily, &trust, false).unwrap();
    WebhookSource::new(Adapter::BuiltIn(Provider::Daily), check)
}

fn daily_event(id: &str) -> String {
    serde_json::json!({
        "version": "1.0.0", "type": "recording.ready-to-download", "id": id, "event_ts": 1772447600.5,
        "payload": {"type": "cloud", "recording_id": format!("r-{id}"), "room_name": "x"},
    })
    .to_string()
}

fn signed(body: &str, second: i64) -> Vec<(&'static str, String)> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, KEY);
    let digest = hmac::sign(&key, format!("{second}.{body}").as_bytes());
    vec![
        ("x-webhook-timestamp", second.to_string()),
        ("x-webhook-signature", BASE64_STANDARD.encode(digest)),
    ]
}

impl World {
    async fn with_source(
        name: &str,
        source: WebhookSource,
        clock: Option<Arc<ManualClock>>,
    ) -> World {
        let name = name.to_owned();
        World::start_with(SqliteOptions::default(), |intake| {
            intake.sources.insert(name, source);
            if let Some(clock) = clock {
                intake.clock = clock;
            }
        })
        .await
    }

    async fn send(&self, source: &str, headers: &[(&str, String)], body: &str) -> Answer {
        let headers: Vec<_> = headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
        self.post_to(source, &headers, body).await
    }
}

#[tokio::test]
async fn a_forged_delivery_is_401_counted_by_its_reason_and_leaves_nothing() {
    let world = World::with_source("trusted", daily_source(), None).await;
    let body = daily_event("e1");
    let good = signed(&body, NOW);
    let with = |at: usize, value: &str| {
        let mut headers = good.clone();
        headers[at].1 = value.to_owned();
        headers
    };
    let twice = [good.clone(), vec![good[1].clone()]].concat();
    let cut = good[1].1[..20].to_owned();
    let mut answers = Vec::new();
    for (headers, body, reason) in [
        (vec![], body.clone(), "signature_missing"),
        (vec![good[0].clone()], body.clone(), "signature_missing"),
        (twice, body.clone(), "signature_twice"),
        (with(1, &cut), body.clone(), "signature_malformed"),
        (with(1, "%%%"), body.clone(), "signature_malformed"),
        (with(0, "now"), body.clone(), "signature_malformed"),
        (signed(&body, NOW - 301), body.clone(), "signature_stale"),
        (signed(&body, NOW + 301), body.clone(), "signature_stale"),
        (good.clone(), body.replace("e1", "e2"), "signature_wrong"),
        (good.clone(), body.replace(':', ": "), "signature_wrong"),
        (
            good.clone(),
            body[..body.len() - 1].to_owned(),
            "signature_wrong",
        ),
    ] {
        let before = rejected(&world, reason);
        let answer = world.send("trusted", &headers, &body).await;
        assert_eq!(rejected(&world, reason), before + 1, "{reason} {headers:?}");
        answers.push((answer.status, answer.body));
    }
    answers.dedup();
    assert_eq!(answers, [(401, "not authorized\n".to_owned())]);
    assert!(world.events().await.is_empty());
    world.assert_counted("harvester_webhooks_refused_in_a_row{source=\"trusted\"} 11");

    assert_eq!(world.send("trusted", &good, &body).await.status, 200);
    assert_eq!(world.events().await.len(), 1);
    world.assert_counted("harvester_webhooks_refused_in_a_row{source=\"trusted\"} 0");
}

fn rejected(world: &World, reason: &str) -> u64 {
    let text = world.metrics.render(&[], None);
    let line =
        format!("harvester_webhooks_rejected_total{{source=\"trusted\",reason=\"{reason}\"}} ");
    let count = text.lines().find_map(|l| l.strip_prefix(&line));
    count.map_or(0, |count| count.parse().unwrap())
}

#[tokio::test]
async fn a_replay_inside_the_window_is_200_and_nothing_new_and_401_outside_of_it() {
    let clock = ManualClock::at(at(NOW));
    let world = World::with_source("trusted", daily_source(), Some(clock.clone())).await;
    let body = daily_event("e1");
    let headers = signed(&body, NOW);
    for _ in 0..3 {
        let answer = world.send("trusted", &headers, &body).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, ""));
    }
    let jobs = world.store.stats().await.unwrap().jobs;
    assert_eq!(world.events().await.len(), 1);
    clock.set(at(NOW + 400));
    assert_eq!(world.send("trusted", &headers, &body).await.status, 401);
    assert_eq!(world.store.stats().await.unwrap().jobs, jobs);
}

#[tokio::test]
async fn dailys_unsigned_ping_is_answered_and_nothing_else_that_is_unsigned() {
    let world = World::with_source("trusted", daily_source(), None).await;
    let ping = r#"{"test":"test"}"#;
    let bad = signed("another", NOW);
    for headers in [vec![], signed(ping, NOW), bad.clone()] {
        assert_eq!(world.send("trusted", &headers, ping).await.status, 200);
    }
    for body in [
        r#"{"test":"other"}"#,
        r#"{"test":"test","type":"x"}"#,
        "{",
        "",
    ] {
        assert_eq!(world.send("trusted", &[], body).await.status, 401, "{body}");
        assert_eq!(
            world.send("trusted", &bad, body).await.status,
            401,
            "{body}"
        );
    }
    assert!(world.events().await.is_empty());
}

/// The provider's well-known address: what it answers, and how often it was asked.
#[derive(Default)]
struct WellKnown {
    pem: Mutex<Option<String>>,
    asked: Mutex<u32>,
}

impl WellKnown {
    fn show(&self, key: &KeyPair) {
        let der = key.public_key().as_der().unwrap();
        let text = BASE64_STANDARD.encode(der.as_ref());
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----");
        *self.pem.lock().unwrap() = Some(pem);
    }

    fn hide(&self) {
        *self.pem.lock().unwrap() = None;
    }

    fn asked(&self) -> u32 {
        *self.asked.lock().unwrap()
    }
}

#[async_trait]
impl FetchKeys for WellKnown {
    async fn fetch(&self, _: &str) -> Result<Bytes> {
        *self.asked.lock().unwrap() += 1;
        let pem = self.pem.lock().unwrap().clone();
        let pem = pem.ok_or_else(|| Error::internal("reach the provider"))?;
        let answer = serde_json::json!({"success": true, "data": {"publicKey": pem}});
        Ok(Bytes::from(answer.to_string()))
    }
}

fn rsa_signed(key: &KeyPair, body: &str) -> Vec<(&'static str, String)> {
    let mut signature = vec![0; key.public_modulus_len()];
    let random = rand::SystemRandom::new();
    key.sign(&RSA_PKCS1_SHA256, &random, body.as_bytes(), &mut signature)
        .unwrap();
    vec![
        ("rtk-signature", BASE64_STANDARD.encode(signature)),
        ("rtk-uuid", "u1".to_owned()),
    ]
}

#[tokio::test]
async fn a_fetched_key_is_kept_and_fetched_anew_when_it_may_have_changed() {
    let well_known = Arc::new(WellKnown::default());
    let trust = Trust {
        public_key: Some("well-known".to_owned()),
        account: vec!["org".to_owned()],
        ..Trust::default()
    };
    let check = provider_check("rtk", Provider::RealtimeKit, &trust, true).unwrap();
    let ring = KeyRing::new(check.key_url().unwrap(), well_known.clone());
    let source = WebhookSource::new(Adapter::BuiltIn(Provider::RealtimeKit), check)
        .with_keys(Arc::new(ring));
    let clock = ManualClock::at(at(NOW));
    let world = World::with_source("rtk", source, Some(clock.clone())).await;
    let (old, new) = (
        KeyPair::generate(KeySize::Rsa2048),
        KeyPair::generate(KeySize::Rsa2048),
    );
    let (old, new) = (old.unwrap(), new.unwrap());
    let body = r#"{"event":"meeting.started","meeting":{"id":"m1"}}"#;
    let post = async |key: &KeyPair| world.send("rtk", &rsa_signed(key, body), body).await.status;

    // RealtimeKit takes a 401 as the end of the matter: while nothing can be checked, it is to come again.
    assert_eq!(post(&old).await, 503);
    assert_eq!(post(&old).await, 503);
    assert_eq!(well_known.asked(), 1, "not once for every delivery");
    well_known.show(&old);
    clock.set(at(NOW + 10));
    for _ in 0..3 {
        assert_eq!(post(&old).await, 200);
    }
    assert_eq!(well_known.asked(), 2);

    well_known.show(&new);
    assert_eq!(post(&new).await, 401, "fetched a moment ago");
    clock.set(at(NOW + 400));
    assert_eq!(post(&new).await, 200);
    assert_eq!(post(&old).await, 401);
    assert_eq!(well_known.asked(), 3);
    world.assert_counted(
        "harvester_webhooks_rejected_total{source=\"rtk\",reason=\"no_public_key\"} 2",
    );

    // Changed once more, while the well-known address is down: nobody can say that the signature is wrong.
    let newest = KeyPair::generate(KeySize::Rsa2048).unwrap();
    well_known.hide();
    clock.set(at(NOW + 800));
    assert_eq!(post(&newest).await, 503);
    assert_eq!(post(&newest).await, 503, "a failure a moment ago");
    assert_eq!(well_known.asked(), 4);
    assert_eq!(post(&new).await, 200, "what is known is still good");
    well_known.show(&newest);
    clock.set(at(NOW + 811));
    assert_eq!(post(&newest).await, 200, "a failure is not kept for long");
    assert_eq!(well_known.asked(), 5);
    assert_eq!(post(&old).await, 401);
}

/// A well-known address that is slow: two deliveries wait for the same answer.
#[tokio::test]
async fn keys_that_another_delivery_has_brought_meanwhile_are_tried() {
    let well_known = Arc::new(WellKnown::default());
    let ring = KeyRing::new("https://provider.example/keys", well_known.clone());
    let (old, new) = (
        KeyPair::generate(KeySize::Rsa2048).unwrap(),
        KeyPair::generate(KeySize::Rsa2048).unwrap(),
    );
    well_known.show(&old);
    let tried = ring.current(at(NOW)).await.unwrap();
    well_known.show(&new);
    let first = ring.renewed(&tried, at(NOW + 301)).await;
    assert!(matches!(first, Renewal::Fresh(_)), "{first:?}");
    // This one had begun with the old key, too, and its fetch is done already.
    let second = ring.renewed(&tried, at(NOW + 301)).await;
    let Renewal::Fresh(keys) = second else {
        panic!("{second:?}");
    };
    assert_eq!(well_known.asked(), 2);
    let third = ring.renewed(&keys, at(NOW + 301)).await;
    assert!(matches!(third, Renewal::Same), "{third:?}");
}

/// Standard Webhooks under both names of the headers.
fn standard_source() -> WebhookSource {
    let text = "provider = \"acme\"\n[signature]\nscheme = \"standard-webhooks\"\n[event]\ntype = \"$.type\"\n\
                [[artifacts]]\ntypes = [\"done\"]\nurl = \"$.url\"\nkind = \"video\"\n";
    let definition: ProviderDefinition = toml::from_str(text).unwrap();
    let trust = Trust {
        secrets: vec![format!("whsec_{}", BASE64_STANDARD.encode(KEY)).into()],
        ..Trust::default()
    };
    let check = custom_check("acme", &definition.scheme, &trust, false).unwrap();
    WebhookSource::new(Adapter::Custom(Arc::new(definition)), check)
}

fn standard_signed(prefix: &str, id: &str, body: &str) -> Vec<(String, String)> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, KEY);
    let digest = hmac::sign(&key, format!("{id}.{NOW}.{body}").as_bytes());
    vec![
        (format!("{prefix}-id"), id.to_owned()),
        (format!("{prefix}-timestamp"), NOW.to_string()),
        (
            format!("{prefix}-signature"),
            format!("v1,{}", BASE64_STANDARD.encode(digest)),
        ),
    ]
}

#[tokio::test]
async fn a_replay_with_another_id_that_nobody_signed_is_no_new_event() {
    let baas = Trust {
        secrets: vec![format!("whsec_{}", BASE64_STANDARD.encode(KEY)).into()],
        ..Trust::default()
    };
    let check = provider_check("baas", Provider::MeetingBaas, &baas, false).unwrap();
    let baas = WebhookSource::new(Adapter::BuiltIn(Provider::MeetingBaas), check);
    let acme_body = r#"{"type":"done","url":"https://h.example/a.mp4"}"#;
    let baas_body =
        r#"{"event":"bot.completed","data":{"bot_id":"b1","video":"https://h.example/a.mp4"}}"#;
    for (source, body) in [(standard_source(), acme_body), (baas, baas_body)] {
        let world = World::with_source("signed-by-id", source, None).await;
        for (signed, other, events) in [("svix", "webhook", 1), ("webhook", "svix", 2)] {
            let headers = standard_signed(signed, &format!("msg-{signed}"), body);
            let replayed = [
                headers.clone(),
                vec![(format!("{other}-id"), "msg-forged".to_owned())],
            ];
            for headers in [headers, replayed.concat()] {
                let headers: Vec<_> = headers
                    .iter()
                    .map(|(name, value)| (name.as_str(), value.clone()))
                    .collect();
                let answer = world.send("signed-by-id", &headers, body).await;
                assert_eq!(answer.status, 200);
            }
            assert_eq!(world.events().await.len(), events, "signed by {signed}");
        }
        let ids: Vec<_> = world
            .events()
            .await
            .into_iter()
            .filter_map(|event| event.event_id)
            .collect();
        assert_eq!(ids, ["msg-svix", "msg-webhook"]);
    }
}

/// Daily counts every answer that is not 200, so we do.
#[tokio::test]
async fn every_answer_that_is_not_200_counts_for_the_streak() {
    let limits = |intake: &mut Intake| {
        let source = daily_source().with_body_limit(1000);
        intake.sources.insert("trusted".to_owned(), source);
    };
    let world = World::start_with(SqliteOptions::default(), limits).await;
    let good = daily_event("e1");
    let large = "x".repeat(1001);
    let row = "harvester_webhooks_refused_in_a_row{source=\"trusted\"} ";
    for (count, (headers, body, status)) in (1..).zip([
        (vec![], good.as_str(), 401),
        (signed("[]", NOW), "[]", 400),
        (signed(&large, NOW), large.as_str(), 413),
    ]) {
        let answer = world.send("trusted", &headers, body).await;
        assert_eq!(answer.status, status);
        world.assert_counted(&format!("{row}{count}"));
    }
    let answer = world.send("trusted", &signed(&good, NOW), &good).await;
    assert_eq!(answer.status, 200);
    world.assert_counted(&format!("{row}0"));
}

fn zoom_source(secrets: &[&str]) -> WebhookSource {
    let text = std::fs::read_to_string("deploy/sources/zoom.toml").unwrap();
    let definition: ProviderDefinition = toml::from_str(&text).unwrap();
    let trust = Trust {
        secrets: secrets.iter().map(|secret| (*secret).into()).collect(),
        ..Trust::default()
    };
    let check = custom_check("zoom", &definition.scheme, &trust, false).unwrap();
    WebhookSource::new(Adapter::Custom(Arc::new(definition)), check)
}

fn zoom_signed(secret: &str, body: &str) -> Vec<(&'static str, String)> {
    let digest = hmac_hex(secret, &format!("v0:{NOW}:{body}"));
    vec![
        ("x-zm-request-timestamp", NOW.to_string()),
        ("x-zm-signature", format!("v0={digest}")),
    ]
}

fn hmac_hex(secret: &str, text: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    hex::encode(hmac::sign(&key, text.as_bytes()))
}

#[tokio::test]
async fn zooms_endpoint_check_is_answered_only_when_it_is_signed_and_signs_no_delivery() {
    let world = World::with_source("zoom", zoom_source(&["old", "new"]), None).await;
    let check = |token: &str| {
        serde_json::json!({"event": "endpoint.url_validation", "event_ts": NOW * 1000, "payload": {"plainToken": token}})
            .to_string()
    };
    let body = check("qgg8vlvZRS6UYooatFL8Aw");
    for secret in ["old", "new"] {
        let answer = world.send("zoom", &zoom_signed(secret, &body), &body).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("content-type"), Some("application/json"));
        let expected = serde_json::json!({
            "plainToken": "qgg8vlvZRS6UYooatFL8Aw",
            "encryptedToken": hmac_hex(secret, "qgg8vlvZRS6UYooatFL8Aw"),
        });
        assert_eq!(answer.json(), expected);
    }
    assert!(world.events().await.is_empty());
    for headers in [vec![], zoom_signed("canary", &body)] {
        let answer = world.send("zoom", &headers, &body).await;
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (401, "not authorized\n")
        );
    }
    // Even signed: the answer to this would be the signature of a delivery.
    let forging = check(&format!("v0:{NOW}:{{}}"));
    let answer = world
        .send("zoom", &zoom_signed("new", &forging), &forging)
        .await;
    assert_eq!((answer.status, answer.body.as_str()), (200, ""));
}
