//! A secret that comes along in a header: it proves who sends, and nothing of what is sent.

use secrecy::{ExposeSecret, SecretString};

use super::{Presented, SenderRefusal};

/// Whether `presented` equals one of `secrets` (several at once, for rotation), in time that does not
/// depend on where they differ. No secrets: nothing is accepted.
pub fn is_shared_secret(presented: &[u8], secrets: &[SecretString]) -> bool {
    matching(presented, secrets).is_some()
}

/// The secret that one of `headers` carries.
pub(super) fn find<'a>(
    headers: &[String],
    secrets: &'a [SecretString],
    presented: &Presented<'_>,
) -> Result<&'a SecretString, SenderRefusal> {
    let mut reason = SenderRefusal::Missing;
    for name in headers {
        match presented.one(name) {
            Ok(value) => match matching(value, secrets) {
                Some(secret) => return Ok(secret),
                None => reason = SenderRefusal::Wrong,
            },
            Err(refusal) => reason = reason.max(refusal),
        }
    }
    Err(reason)
}

fn matching<'a>(presented: &[u8], secrets: &'a [SecretString]) -> Option<&'a SecretString> {
    // Every secret is compared, so that the time does not tell which one matched.
    secrets.iter().fold(None, |found, secret| {
        let expected = secret.expose_secret().as_bytes();
        let is_equal =
            aws_lc_rs::constant_time::verify_slices_are_equal(presented, expected).is_ok();
        if is_equal { Some(secret) } else { found }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_secret_is_accepted() {
        let secrets = ["old".into(), "new".into()];
        for (presented, expected) in [
            ("old", true),
            ("new", true),
            ("ne", false),
            ("newer", false),
            ("", false),
        ] {
            assert_eq!(
                is_shared_secret(presented.as_bytes(), &secrets),
                expected,
                "{presented}"
            );
        }
        assert!(!is_shared_secret(b"", &[]));
    }
}
