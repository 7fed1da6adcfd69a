//! Who is speaking: the one configured shared-secret header of a source, compared in constant time.

use secrecy::{ExposeSecret, SecretString};

/// Whether `presented` equals one of `secrets` (several at once, for rotation), in time that does not
/// depend on where they differ. No secrets: nothing is accepted.
pub fn is_shared_secret(presented: &[u8], secrets: &[SecretString]) -> bool {
    // Every secret is compared, so that the time does not tell which one matched.
    secrets.iter().fold(false, |found, secret| {
        let expected = secret.expose_secret().as_bytes();
        let is_equal =
            aws_lc_rs::constant_time::verify_slices_are_equal(presented, expected).is_ok();
        found | is_equal
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
