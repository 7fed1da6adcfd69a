//! Public keys, and tokens that hold a body's hash.

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use aws_lc_rs::{digest, rand};
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use super::*;

struct RsaSigner(KeyPair);

impl RsaSigner {
    fn new() -> RsaSigner {
        RsaSigner(KeyPair::generate(KeySize::Rsa2048).unwrap())
    }

    fn sign(&self, body: &[u8]) -> String {
        let mut signature = vec![0; self.0.public_modulus_len()];
        let random = rand::SystemRandom::new();
        self.0
            .sign(&RSA_PKCS1_SHA256, &random, body, &mut signature)
            .unwrap();
        BASE64_STANDARD.encode(signature)
    }

    fn spki_pem(&self) -> String {
        let der = self.0.public_key().as_der().unwrap();
        pem("PUBLIC KEY", der.as_ref())
    }

    fn pkcs1_pem(&self) -> String {
        pem("RSA PUBLIC KEY", self.0.public_key().as_ref())
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(der);
    let lines: Vec<_> = text
        .as_bytes()
        .chunks(64)
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect();
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        lines.join("\n")
    )
}

#[test]
fn dyte_and_realtimekit_sign_the_body_with_rsa() {
    let (ours, next, foreign) = (RsaSigner::new(), RsaSigner::new(), RsaSigner::new());
    for (provider, header) in [
        (Provider::Dyte, "dyte-signature"),
        (Provider::RealtimeKit, "rtk-signature"),
    ] {
        for pem in [
            ours.spki_pem(),
            ours.pkcs1_pem(),
            next.spki_pem() + &ours.spki_pem(),
        ] {
            let settings = Trust {
                public_key: Some(pem),
                ..Trust::default()
            };
            let check = provider_check("x", provider, &settings, false).unwrap();
            assert_eq!(check.key_url(), None);
            let good = vec![(header, ours.sign(BODY))];
            assert_spoilt_ones_are_refused(&check, &good, 0, BODY, 0);
            let forged = vec![(header, foreign.sign(BODY))];
            assert_eq!(judge(&check, &forged, BODY, 0), Err(SenderRefusal::Wrong));
        }
    }
}

// S3: either one alone was all that could be asked for.
#[test]
fn a_header_beside_a_public_key_has_to_hold_as_well() {
    let ours = RsaSigner::new();
    let settings = Trust {
        public_key: Some(ours.spki_pem()),
        header: Some("x-own".to_owned()),
        secrets: vec!["secret".into()],
        ..Trust::default()
    };
    let check = provider_check("x", Provider::RealtimeKit, &settings, false).unwrap();
    let signature = ("rtk-signature", ours.sign(BODY));
    let own = |value: &str| ("x-own", value.to_owned());
    for (headers, expected) in [
        (vec![signature.clone(), own("secret")], Ok(())),
        (vec![signature.clone()], Err(SenderRefusal::Missing)),
        (vec![own("secret")], Err(SenderRefusal::Missing)),
        (vec![signature, own("other")], Err(SenderRefusal::Wrong)),
        (
            vec![("rtk-signature", ours.sign(b"other")), own("secret")],
            Err(SenderRefusal::Wrong),
        ),
    ] {
        assert_eq!(judge(&check, &headers, BODY, 0), expected, "{headers:?}");
    }
}

#[test]
fn a_fetched_key_is_used_where_none_is_configured() {
    let ours = RsaSigner::new();
    let settings = Trust {
        account: vec!["org".to_owned()],
        ..Trust::default()
    };
    let check = provider_check("x", Provider::Dyte, &settings, false).unwrap();
    assert_eq!(
        check.key_url(),
        Some("https://api.dyte.io/.well-known/webhooks.json")
    );
    let pem = ours.spki_pem();
    let good = vec![("dyte-signature", ours.sign(BODY))];
    for answer in [
        serde_json::json!({"success": true, "data": {"publicKey": pem}, "message": ""}),
        serde_json::json!({"publicKey": pem}),
        serde_json::json!({"data": {"publicKey": pem.replace('\n', "\\n")}}),
    ] {
        let keys = read_key_answer(answer.to_string().as_bytes()).unwrap();
        assert_eq!(judge_with(&check, &good, BODY, 0, &keys), Ok(()));
    }
    assert_eq!(
        judge_with(&check, &good, BODY, 0, &[]),
        Err(SenderRefusal::Wrong)
    );
}

#[test]
fn what_is_no_public_key_is_refused() {
    let small = pem("PUBLIC KEY", &BASE64_STANDARD.decode(
        "MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDdlatRjRjogo3WojgGHFHYLugdUWAY9iR3fy4arWNA1KoS8kVw33cJibXr8bvwUAUparCwlvdbH6dvEOfou0/gCFQsHUfQrSDv+MuSUMAe8jzKE4qW+jK+xQU9a03GUnKHkkle+Q0pX/g6jXZ7r1/xAK5Do2kQ+X5xK9cipRgEKwIDAQAB").unwrap());
    let private = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----";
    for text in [
        "",
        "ssh-rsa AAAA",
        private,
        "-----BEGIN PUBLIC KEY-----\n!!!\n-----END PUBLIC KEY-----",
        "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----",
        "-----BEGIN PUBLIC KEY-----\nAAAA",
        &small,
    ] {
        assert!(read_pem(text).is_err(), "{text}");
        let answer = serde_json::json!({"publicKey": text}).to_string();
        assert!(read_key_answer(answer.as_bytes()).is_err(), "{text}");
    }
    for answer in ["", "[]", "{}", r#"{"data":{"publicKey":7}}"#] {
        assert!(read_key_answer(answer.as_bytes()).is_err(), "{answer}");
    }
}

fn token(head: &serde_json::Value, claims: &serde_json::Value, secret: &str) -> String {
    let part = |value: &serde_json::Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(head), part(claims));
    let signature = hmac_sha256(secret.as_bytes(), signed.as_bytes());
    format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
}

#[test]
fn a_token_proves_the_body_whose_hash_it_holds() {
    let scheme = SignatureScheme::Jwt(JwtScheme {
        header: "authorization".to_owned(),
        prefix: String::new(),
        body_claim: "sha256".to_owned(),
        issuer: Some("APIkey".to_owned()),
    });
    let check = custom(scheme, "api secret");
    let now = 1_772_447_600;
    let hash = BASE64_STANDARD.encode(digest::digest(&digest::SHA256, BODY));
    let claims = serde_json::json!({"iss": "APIkey", "nbf": now, "exp": now + 300, "sha256": hash});
    let head = serde_json::json!({"alg": "HS256", "typ": "JWT"});
    let header = |token: String| vec![("Authorization", token)];
    let good = header(token(&head, &claims, "api secret"));
    assert_spoilt_ones_are_refused(&check, &good, 0, BODY, now);
    let with = |key: &str, value: serde_json::Value| {
        let mut claims = claims.clone();
        claims[key] = value;
        header(token(&head, &claims, "api secret"))
    };
    let none = serde_json::json!({"alg": "none"});
    let unsigned = token(&none, &claims, "api secret");
    let bare = format!("{}.", unsigned.rsplit_once('.').unwrap().0);
    for (headers, expected) in [
        (header(token(&head, &claims, "other")), SenderRefusal::Wrong),
        (header(unsigned), SenderRefusal::Malformed),
        (header(bare), SenderRefusal::Malformed),
        (header("a.b".to_owned()), SenderRefusal::Malformed),
        (
            header(token(
                &serde_json::json!({"alg": "HS512"}),
                &claims,
                "api secret",
            )),
            SenderRefusal::Malformed,
        ),
        (with("iss", "other".into()), SenderRefusal::Wrong),
        (with("exp", (now - 61).into()), SenderRefusal::Stale),
        (with("exp", (now + 86_400).into()), SenderRefusal::Stale),
        (
            with("exp", serde_json::Value::Null),
            SenderRefusal::Malformed,
        ),
        (with("nbf", (now + 120).into()), SenderRefusal::Stale),
        (with("sha256", "".into()), SenderRefusal::Wrong),
        (
            with("sha256", serde_json::Value::Null),
            SenderRefusal::Wrong,
        ),
        (
            with("sha256", BASE64_STANDARD.encode([0; 32]).into()),
            SenderRefusal::Wrong,
        ),
    ] {
        assert_eq!(
            judge(&check, &headers, BODY, now),
            Err(expected),
            "{headers:?}"
        );
    }
}
