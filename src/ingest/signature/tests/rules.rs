//! Which check a source gets, secrets in headers, and who may send at all.

use secrecy::ExposeSecret as _;

use super::*;

#[test]
fn a_shared_secret_counts_only_in_its_header_and_only_once() {
    let baas = check(Provider::MeetingBaas, &["old", "new"]);
    let mut own = trust(&["old"]);
    own.header = Some("X-Own".to_owned());
    let own = provider_check("x", Provider::MeetingBaas, &own, false).unwrap();
    let header = |name: &'static str, value: &str| vec![(name, value.to_owned())];
    for (check, headers, expected) in [
        (&baas, header("x-meeting-baas-api-key", "old"), Ok(())),
        (&baas, header("X-Meeting-Baas-Api-Key", "new"), Ok(())),
        (&baas, header("x-mb-secret", "new"), Ok(())),
        (
            &baas,
            header("x-mb-secret", "newer"),
            Err(SenderRefusal::Wrong),
        ),
        (&baas, header("x-mb-secret", ""), Err(SenderRefusal::Wrong)),
        (
            &baas,
            header("authorization", "new"),
            Err(SenderRefusal::Missing),
        ),
        (&baas, vec![], Err(SenderRefusal::Missing)),
        (
            &baas,
            [header("x-mb-secret", "new"), header("x-mb-secret", "bad")].concat(),
            Err(SenderRefusal::Twice),
        ),
        (&own, header("x-own", "old"), Ok(())),
        (
            &own,
            header("x-mb-secret", "old"),
            Err(SenderRefusal::Missing),
        ),
    ] {
        assert_eq!(judge(check, &headers, BODY, 0), expected, "{headers:?}");
    }
}

#[test]
fn signing_secrets_and_plain_ones_can_be_set_together() {
    let check = check(Provider::MeetingBaas, &["api-key", SVIX_SECRET]);
    let now = 1_614_265_330;
    assert_eq!(judge(&check, &svix_vector("svix"), BODY, now), Ok(()));
    let plain = vec![("x-meeting-baas-api-key", "api-key".to_owned())];
    assert_eq!(judge(&check, &plain, BODY, now), Ok(()));
    // A signing secret is not for showing around.
    let shown = vec![("x-mb-secret", SVIX_SECRET.to_owned())];
    assert_eq!(judge(&check, &shown, BODY, now), Err(SenderRefusal::Wrong));
}

#[test]
fn only_listed_addresses_may_send() {
    let settings = Trust {
        allow_senders: vec![
            "192.0.2.0/24".parse().unwrap(),
            "2001:db8::1/128".parse().unwrap(),
        ],
        ..Trust::default()
    };
    let check = provider_check("x", Provider::Hms, &settings, true).unwrap();
    let host: (&str, &[u8]) = ("host", b"localhost");
    for (peer, is_allowed) in [
        (Some("192.0.2.77"), true),
        (Some("::ffff:192.0.2.77"), true),
        (Some("2001:db8::1"), true),
        (Some("192.0.3.1"), false),
        (None, false),
    ] {
        let presented = Presented {
            headers: &[host],
            peer: peer.map(|peer| peer.parse().unwrap()),
            now: at(0),
        };
        let begun = check.begin(&presented).map(|_| ());
        let expected = if is_allowed {
            Ok(())
        } else {
            Err(SenderRefusal::Sender)
        };
        assert_eq!(begun, expected, "{peer:?}");
    }
}

#[test]
fn a_source_that_could_not_tell_forged_events_is_refused() {
    let refusal = |provider, trust: &Trust, is_loopback| {
        let error = provider_check("x", provider, trust, is_loopback).unwrap_err();
        error.full_message()
    };
    let nothing = Trust::default();
    assert!(refusal(Provider::Hms, &nothing, false).contains("sources.x.secrets"));
    assert!(
        provider_check("x", Provider::Hms, &nothing, true)
            .unwrap()
            .is_open()
    );
    let insecure = Trust {
        insecure: true,
        ..Trust::default()
    };
    for provider in Provider::ALL {
        assert!(
            provider_check("x", provider, &insecure, false)
                .unwrap()
                .is_open()
        );
    }
    let senders = Trust {
        allow_senders: vec!["192.0.2.0/24".parse().unwrap()],
        ..Trust::default()
    };
    assert!(refusal(Provider::Hms, &senders, false).contains("sources.x.secrets"));
    assert!(refusal(Provider::Hms, &trust(&["s"]), true).contains("sources.x.header"));
    assert!(refusal(Provider::Daily, &trust(&["no base64!"]), true).contains("base64"));
    assert!(refusal(Provider::Dyte, &trust(&["s"]), true).contains("sources.x.public_key"));
    let pem = |key: &str| Trust {
        public_key: Some(key.to_owned()),
        ..Trust::default()
    };
    assert!(refusal(Provider::Daily, &pem("well-known"), true).contains("sources.x.public_key"));
    assert!(refusal(Provider::Dyte, &pem("junk"), true).contains("sources.x.public_key"));
    // S3: one key signs everybody's events.
    assert!(refusal(Provider::Dyte, &pem("well-known"), true).contains("sources.x.account"));
    assert!(refusal(Provider::RealtimeKit, &nothing, false).contains("sources.x.account"));
    let mut ours = pem("well-known");
    ours.account = vec!["org".to_owned()];
    assert!(provider_check("x", Provider::Dyte, &ours, false).is_ok());
    let mut both = pem("well-known");
    both.header = Some("x".to_owned());
    both.secrets = vec!["s".into()];
    let both = provider_check("x", Provider::Dyte, &both, false).unwrap();
    assert_eq!(both.expected(), "x and dyte-signature");
    let unsigned = custom_check("x", &SignatureScheme::None, &trust(&["s"]), true).unwrap_err();
    assert!(unsigned.to_string().contains("sources.x.header"));
    assert!(custom_check("x", &zoom_scheme(), &nothing, false).is_err());
}

#[test]
fn no_secret_is_in_what_is_printed_of_a_check() {
    let secret = BASE64_STANDARD.encode("canary");
    let mut trust = trust(&[&secret]);
    for header in [None, Some("x-h".to_owned())] {
        trust.header = header;
        let check = provider_check("x", Provider::Daily, &trust, true).unwrap();
        let printed = format!("{check:?} {trust:?}");
        assert!(
            !printed.contains(&secret) && !printed.contains("canary"),
            "{printed}"
        );
        assert_eq!(trust.secrets[0].expose_secret(), secret);
    }
}
