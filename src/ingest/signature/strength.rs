//! Whether a secret is one that nobody can guess.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use secrecy::{ExposeSecret, SecretString};

use crate::error::{Error, Result};

/// A shorter secret can be guessed by trying.
pub const SECRET_MIN_BYTES: usize = 16;

/// What stands for a secret in the example of the configuration.
const EXAMPLE: &[u8] = b"replace-me";

/// Whether `secret`, the value of `setting`, may protect anything.
///
/// # Errors
/// `invalid`, naming the setting: it is the example's, or too short. The secret is not repeated.
pub fn check_secret(setting: &str, secret: &SecretString) -> Result<()> {
    let text = secret.expose_secret();
    if is_example(text) {
        return Err(Error::invalid(format!(
            "{setting} is still that of the example, which everybody knows: set your own"
        )));
    }
    if text.len() < SECRET_MIN_BYTES {
        return Err(Error::invalid(format!(
            "{setting} has fewer than {SECRET_MIN_BYTES} bytes and can be guessed: `openssl rand -hex 32` makes a good one"
        )));
    }
    Ok(())
}

fn is_example(text: &str) -> bool {
    let encoded = text.strip_prefix("whsec_").unwrap_or(text);
    let decoded = BASE64_STANDARD.decode(encoded).unwrap_or_default();
    [text.as_bytes(), &decoded]
        .iter()
        .any(|bytes| bytes.windows(EXAMPLE.len()).any(|part| part == EXAMPLE))
}

#[cfg(test)]
mod tests {
    use super::*;

    // S19 and N20: `secrets = ["s"]` and the example's own passed on every address.
    #[test]
    fn short_secrets_and_those_of_the_example_are_refused() {
        let refusal = |text: &str| {
            let checked = check_secret("sources.x.secrets", &text.into());
            checked.err().map(|error| error.full_message())
        };
        for short in ["s", "fifteen-bytes-x"] {
            let message = refusal(short).unwrap();
            assert!(message.contains("sources.x.secrets"), "{message}");
            assert!(!message.contains("fifteen"), "{message}");
        }
        for example in [
            "replace-me-100ms-secret",
            "cmVwbGFjZS1tZQ==",
            "whsec_cmVwbGFjZS1tZQ==",
        ] {
            assert!(refusal(example).unwrap().contains("example"), "{example}");
        }
        assert_eq!(refusal("sixteen-bytes-ok"), None);
    }
}
