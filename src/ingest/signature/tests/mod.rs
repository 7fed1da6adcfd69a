//! Vectors of the schemes' own definitions, and everything that must not pass.

use aws_lc_rs::hmac as lc;
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE};

use super::*;
use crate::model::Provider;

mod keys;
mod rules;

type Headers = Vec<(&'static str, String)>;

const BODY: &[u8] = br#"{"test": 2432232314}"#;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn judge(
    check: &SenderCheck,
    headers: &Headers,
    body: &[u8],
    now: i64,
) -> Result<(), SenderRefusal> {
    judge_with(check, headers, body, now, &[])
}

fn judge_with(
    check: &SenderCheck,
    headers: &Headers,
    body: &[u8],
    now: i64,
    fetched: &[PublicKey],
) -> Result<(), SenderRefusal> {
    let headers: Vec<_> = headers
        .iter()
        .map(|(name, value)| (*name, value.as_bytes()))
        .collect();
    let presented = Presented {
        headers: &headers,
        peer: None,
        now: at(now),
    };
    check.begin(&presented)?.finish(body, fetched).map(|_| ())
}

fn trust(secrets: &[&str]) -> Trust {
    Trust {
        secrets: secrets.iter().map(|secret| (*secret).into()).collect(),
        ..Trust::default()
    }
}

fn check(provider: Provider, secrets: &[&str]) -> SenderCheck {
    provider_check("x", provider, &trust(secrets), false).unwrap()
}

fn custom(scheme: SignatureScheme, secret: &str) -> SenderCheck {
    custom_check("x", &scheme, &trust(&[secret]), false).unwrap()
}

fn hmac_sha256(key: &[u8], data: &[u8]) -> Vec<u8> {
    let key = lc::Key::new(lc::HMAC_SHA256, key);
    lc::sign(&key, data).as_ref().to_vec()
}

/// Every way to spoil a good delivery, and what is said of it. `signature` is the index of the header that
/// carries the signature.
fn assert_spoilt_ones_are_refused(
    check: &SenderCheck,
    good: &Headers,
    signature: usize,
    body: &[u8],
    now: i64,
) {
    assert_eq!(judge(check, good, body, now), Ok(()), "the good one");
    let change = |change: &dyn Fn(&mut Headers)| {
        let mut headers = good.clone();
        change(&mut headers);
        judge(check, &headers, body, now)
    };
    for (name, _) in good {
        let without = change(&|headers| headers.retain(|(other, _)| other != name));
        assert!(
            matches!(
                without,
                Err(SenderRefusal::Missing | SenderRefusal::Malformed)
            ),
            "without {name}: {without:?}"
        );
        let twice = change(&|headers| {
            let again = headers.iter().find(|(other, _)| other == name).cloned();
            headers.push(again.unwrap());
        });
        assert_eq!(twice, Err(SenderRefusal::Twice), "{name} twice");
    }
    let cut = change(&|headers| {
        headers[signature].1.pop();
    });
    assert!(cut.is_err(), "a truncated signature");
    let empty = change(&|headers| headers[signature].1.clear());
    assert!(empty.is_err(), "an empty signature");
    let forged = judge(check, good, b"{}", now);
    assert_eq!(forged, Err(SenderRefusal::Wrong), "another body");
    let spaced = [body, b" "].concat();
    assert_eq!(
        judge(check, good, &spaced, now),
        Err(SenderRefusal::Wrong),
        "a re-encoded body"
    );
    assert_eq!(
        judge(check, good, &body[..body.len() - 1], now),
        Err(SenderRefusal::Wrong),
        "a truncated body"
    );
}

fn assert_only_timely_ones_pass(check: &SenderCheck, good: &Headers, body: &[u8], signed_at: i64) {
    for (offset, expected) in [
        (300, Ok(())),
        (-300, Ok(())),
        (301, Err(SenderRefusal::Stale)),
        (-301, Err(SenderRefusal::Stale)),
        (86_400, Err(SenderRefusal::Stale)),
    ] {
        assert_eq!(
            judge(check, good, body, signed_at + offset),
            expected,
            "{offset} s later"
        );
    }
}

/// The example of Svix's documentation and of the Standard Webhooks specification.
fn svix_vector(prefix: &str) -> Headers {
    let names = match prefix {
        "svix" => ["svix-id", "svix-timestamp", "svix-signature"],
        _ => ["webhook-id", "webhook-timestamp", "webhook-signature"],
    };
    let values = [
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "1614265330",
        "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    ];
    names.into_iter().zip(values.map(str::to_owned)).collect()
}

const SVIX_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

#[test]
fn the_published_vector_of_svix_and_standard_webhooks_is_accepted() {
    for prefix in ["svix", "webhook"] {
        let baas = check(Provider::MeetingBaas, &[SVIX_SECRET]);
        let own = custom(SignatureScheme::StandardWebhooks, SVIX_SECRET);
        for check in [baas, own] {
            let good = svix_vector(prefix);
            assert_spoilt_ones_are_refused(&check, &good, 2, BODY, 1_614_265_330);
            assert_only_timely_ones_pass(&check, &good, BODY, 1_614_265_330);
        }
    }
}

#[test]
fn one_good_signature_of_a_list_is_enough_and_other_versions_count_nothing() {
    let check = check(Provider::MeetingBaas, &[SVIX_SECRET]);
    let with = |signature: String| {
        let mut headers = svix_vector("svix");
        headers[2].1 = signature;
        judge(&check, &headers, BODY, 1_614_265_330)
    };
    let good = svix_vector("svix").remove(2).1;
    let other = format!("v1,{}", BASE64_STANDARD.encode([7; 32]));
    assert_eq!(with(format!("{other} v1a,xyz v2,abc {good}")), Ok(()));
    assert_eq!(with(other.clone()), Err(SenderRefusal::Wrong));
    assert_eq!(
        with(good.replace("v1,", "v2,")),
        Err(SenderRefusal::Malformed)
    );
    assert_eq!(with(good.replace("v1,", "")), Err(SenderRefusal::Malformed));
    let many = [vec![other; 20], vec![good]].concat().join(" ");
    assert_eq!(with(many), Err(SenderRefusal::Wrong));
}

#[test]
#[expect(clippy::print_stdout, reason = "a failed run tells its seed")]
fn our_verdict_is_that_of_the_reference_implementation() {
    let oracle = standardwebhooks::Webhook::new(SVIX_SECRET).unwrap();
    let check = custom(SignatureScheme::StandardWebhooks, SVIX_SECRET);
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..200 {
        let body: Vec<u8> = (0..random.usize(..300))
            .map(|_| random.u8(32..127))
            .collect();
        let id = format!("msg_{}", random.u64(..));
        let sent = 1_600_000_000 + random.i64(0..100_000_000);
        let signature = oracle.sign(&id, sent, &body).unwrap();
        let headers = vec![
            ("webhook-id", id),
            ("webhook-timestamp", sent.to_string()),
            ("webhook-signature", signature),
        ];
        assert_eq!(judge(&check, &headers, &body, sent), Ok(()), "{headers:?}");
        let mut other = body.clone();
        other.push(b'x');
        assert_eq!(
            judge(&check, &headers, &other, sent),
            Err(SenderRefusal::Wrong)
        );
    }
}

fn daily(timestamp: &str, key: &[u8]) -> Headers {
    let signed = [timestamp.as_bytes(), b".", BODY].concat();
    let signature = BASE64_STANDARD.encode(hmac_sha256(key, &signed));
    vec![
        ("X-Webhook-Timestamp", timestamp.to_owned()),
        ("X-Webhook-Signature", signature),
    ]
}

#[test]
fn daily_signs_time_and_body_with_a_base64_key() {
    let (old, new) = (
        BASE64_STANDARD.encode("old key"),
        BASE64_STANDARD.encode("new key"),
    );
    let check = check(Provider::Daily, &[&old, &new]);
    for key in [b"old key", b"new key"] {
        let good = daily("1772447600", key);
        assert_spoilt_ones_are_refused(&check, &good, 1, BODY, 1_772_447_600);
        assert_only_timely_ones_pass(&check, &good, BODY, 1_772_447_600);
    }
    // Milliseconds are as good as seconds.
    let good = daily("1772447600000", b"new key");
    assert_only_timely_ones_pass(&check, &good, BODY, 1_772_447_600);
    let foreign = daily("1772447600", b"another");
    assert_eq!(
        judge(&check, &foreign, BODY, 1_772_447_600),
        Err(SenderRefusal::Wrong)
    );
    // The secret as it is written is not the key.
    let raw = daily("1772447600", new.as_bytes());
    assert_eq!(
        judge(&check, &raw, BODY, 1_772_447_600),
        Err(SenderRefusal::Wrong)
    );
}

#[test]
fn odd_writings_of_a_good_signature_are_refused() {
    let check = check(Provider::Daily, &[&BASE64_STANDARD.encode("key")]);
    // A digest whose base64 holds what the two alphabets write differently.
    let timestamp = (1_772_447_600..)
        .map(|second: i64| second.to_string())
        .find(|second| daily(second, b"key")[1].1.contains(['+', '/']))
        .unwrap();
    let now: i64 = timestamp.parse().unwrap();
    let good = daily(&timestamp, b"key");
    let digest = BASE64_STANDARD.decode(&good[1].1).unwrap();
    for (signature, timestamp) in [
        (hex::encode(&digest), timestamp.clone()),
        (BASE64_URL_SAFE.encode(&digest), timestamp.clone()),
        (
            good[1].1.trim_end_matches('=').to_owned(),
            timestamp.clone(),
        ),
        (format!("{}\n", good[1].1), timestamp.clone()),
        (format!("v1={}", good[1].1), timestamp.clone()),
        (BASE64_STANDARD.encode(&digest[..16]), timestamp.clone()),
        (good[1].1.clone(), format!("+{timestamp}")),
        (good[1].1.clone(), format!("{timestamp}.0")),
        (good[1].1.clone(), "2026-03-02T10:33:20Z".to_owned()),
        (good[1].1.clone(), "99999999999999999999".to_owned()),
        (good[1].1.clone(), String::new()),
    ] {
        let headers = vec![
            ("x-webhook-timestamp", timestamp),
            ("x-webhook-signature", signature),
        ];
        assert_eq!(
            judge(&check, &headers, BODY, now),
            Err(SenderRefusal::Malformed),
            "{headers:?}"
        );
    }
}

/// Signed as Zoom's documentation describes it. The digest is computed here: that page shows no whole example.
fn zoom(timestamp: &str, body: &[u8], secret: &str) -> Headers {
    let signed = [b"v0:", timestamp.as_bytes(), b":", body].concat();
    let digest = hex::encode(hmac_sha256(secret.as_bytes(), &signed));
    vec![
        ("x-zm-request-timestamp", timestamp.to_owned()),
        ("x-zm-signature", format!("v0={digest}")),
    ]
}

fn zoom_scheme() -> SignatureScheme {
    let scheme = HmacScheme::new(
        "x-zm-signature",
        "v0={signature}",
        "v0:{timestamp}:{body}",
        Encoding::Hex,
    )
    .unwrap()
    .with_parts(Some("x-zm-request-timestamp".to_owned()), None, TOLERANCE)
    .unwrap();
    SignatureScheme::Hmac(scheme, KeyForm::Raw)
}

fn jaas_scheme() -> SignatureScheme {
    let scheme = HmacScheme::new(
        "x-jaas-signature",
        "t={timestamp},v1={signature}",
        "{timestamp}.{body}",
        Encoding::Base64,
    )
    .unwrap()
    .with_parts(None, None, TOLERANCE)
    .unwrap();
    SignatureScheme::Hmac(scheme, KeyForm::Raw)
}

#[test]
fn a_template_says_what_zoom_and_jaas_sign() {
    let check = custom(zoom_scheme(), "secret token");
    let good = zoom("1772447600", BODY, "secret token");
    assert_spoilt_ones_are_refused(&check, &good, 1, BODY, 1_772_447_600);
    assert_only_timely_ones_pass(&check, &good, BODY, 1_772_447_600);

    let check = custom(jaas_scheme(), "jaas secret");
    let signed = [b"1772447600.", BODY].concat();
    let signature = BASE64_STANDARD.encode(hmac_sha256(b"jaas secret", &signed));
    assert!(
        signature.ends_with('='),
        "the first `=` parts, not the last"
    );
    let header = |text: String| vec![("X-Jaas-Signature", text)];
    let good = header(format!("t=1772447600,v1={signature}"));
    assert_spoilt_ones_are_refused(&check, &good, 0, BODY, 1_772_447_600);
    assert_only_timely_ones_pass(&check, &good, BODY, 1_772_447_600);
    for (text, expected) in [
        (format!("v0=abc, t=1772447600 ,x, v1={signature}"), Ok(())),
        (format!("t=1772447600,v1=AAAA,v1={signature}"), Ok(())),
        (
            format!("t=1772447600,t=1772447600,v1={signature}"),
            Err(SenderRefusal::Twice),
        ),
        (format!("v1={signature}"), Err(SenderRefusal::Malformed)),
        ("t=1772447600".to_owned(), Err(SenderRefusal::Malformed)),
        (
            format!("t=1772447601,v1={signature}"),
            Err(SenderRefusal::Wrong),
        ),
        (String::new(), Err(SenderRefusal::Malformed)),
    ] {
        assert_eq!(
            judge(&check, &header(text.clone()), BODY, 1_772_447_600),
            expected,
            "{text}"
        );
    }
}

/// RFC 4231, test case 2: the primitive below all of this.
#[test]
fn the_digest_is_that_of_the_rfc() {
    let digest = hmac_sha256(b"Jefe", b"what do ya want for nothing?");
    assert_eq!(
        hex::encode(&digest),
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    );
    let scheme = HmacScheme::new("x-sig", "sha256={signature}", "{body}", Encoding::Hex).unwrap();
    let check = custom(SignatureScheme::Hmac(scheme, KeyForm::Raw), "Jefe");
    let good = vec![("x-sig", format!("sha256={}", hex::encode(&digest)))];
    let body = b"what do ya want for nothing?";
    assert_spoilt_ones_are_refused(&check, &good, 0, body, 0);
}

#[test]
fn templates_that_would_prove_nothing_are_refused() {
    let new = |pattern, signed| HmacScheme::new("h", pattern, signed, Encoding::Hex);
    for (pattern, signed) in [
        ("{signature}", "{timestamp}"),
        ("{signature}", "{body}{body}"),
        ("{signature}", "{body}{room}"),
        ("{signature}", "{body"),
        ("v0", "{body}"),
        ("{signature}{signature}", "{body}"),
        ("{signature}!", "{body}"),
        ("{timestamp}{signature}", "{body}"),
        ("t={timestamp},{signature}", "{body}"),
    ] {
        assert!(new(pattern, signed).is_err(), "{pattern} {signed}");
    }
    let parts = |signed, timestamp: Option<&str>, id: Option<&str>| {
        let scheme = new("{signature}", signed).unwrap();
        scheme.with_parts(timestamp.map(Into::into), id.map(Into::into), TOLERANCE)
    };
    // A time that is not signed would be believed of anyone.
    assert!(parts("{body}", Some("t"), None).is_err());
    assert!(parts("{timestamp}.{body}", None, None).is_err());
    assert!(parts("{id}.{body}", None, None).is_err());
    assert!(parts("{body}", None, Some("id")).is_err());
    assert!(parts("{id}.{timestamp}.{body}", Some("t"), Some("id")).is_ok());
}
