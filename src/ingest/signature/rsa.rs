//! RSA PKCS#1 v1.5 with SHA-256 over the raw body, as Dyte and RealtimeKit do it.

use std::fmt;

use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

use super::SenderRefusal;
use crate::error::{Error, Result};
use crate::model::{JsonWeight, Provider};

/// The longest signature: RSA with 8,192 bits.
const SIGNATURE_MAX_BYTES: usize = 1024;

/// Keys of one answer that are believed: the one of today and the one of tomorrow, and some room.
const KEYS_MAX: usize = 4;

/// A provider's public key, DER.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey(Vec<u8>);

impl PublicKey {
    pub(super) fn has_signed(&self, body: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &self.0)
            .verify(body, signature)
            .is_ok()
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({} bytes)", self.0.len())
    }
}

/// Where a provider shows its public key.
pub fn well_known_keys(provider: Provider) -> Option<&'static str> {
    match provider {
        Provider::Dyte => Some("https://api.dyte.io/.well-known/webhooks.json"),
        Provider::RealtimeKit => {
            Some("https://api.realtime.cloudflare.com/.well-known/webhooks.json")
        }
        _ => None,
    }
}

/// The header that carries the signature.
pub(super) fn header(provider: Provider) -> Option<&'static str> {
    match provider {
        Provider::Dyte => Some("dyte-signature"),
        Provider::RealtimeKit => Some("rtk-signature"),
        _ => None,
    }
}

pub(super) fn read_signature(text: &str) -> Result<Vec<u8>, SenderRefusal> {
    if text.is_empty() || text.len() > SIGNATURE_MAX_BYTES * 2 {
        return Err(SenderRefusal::Malformed);
    }
    BASE64_STANDARD
        .decode(text)
        .map_err(|_| SenderRefusal::Malformed)
}

/// The RSA public keys of a PEM text, of which there may be several.
///
/// # Errors
/// `invalid` when there is none, or one that is no RSA key of at least 2,048 bits.
pub fn read_pem(text: &str) -> Result<Vec<PublicKey>> {
    let mut keys = Vec::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once("-----BEGIN ") {
        let (label, after) = after.split_once("-----").unwrap_or_default();
        let (content, after) = after.split_once("-----END ").unwrap_or_default();
        rest = after;
        if !matches!(label, "PUBLIC KEY" | "RSA PUBLIC KEY") {
            return Err(Error::invalid("a public key is expected, not another PEM"));
        }
        let content: String = content.split_whitespace().collect();
        // Some answers write the line ends as text.
        let content = content.replace("\\r", "").replace("\\n", "");
        let der = BASE64_STANDARD
            .decode(content)
            .map_err(|_| Error::invalid("the PEM of the public key is damaged"))?;
        keys.push(checked(der)?);
    }
    if keys.is_empty() || keys.len() > KEYS_MAX {
        return Err(Error::invalid(format!(
            "a public key is expected as PEM, or up to {KEYS_MAX} of them"
        )));
    }
    Ok(keys)
}

fn checked(der: Vec<u8>) -> Result<PublicKey> {
    let key = aws_lc_rs::rsa::PublicKey::from_der(&der)
        .map_err(|_| Error::invalid("the public key is no RSA key"))?;
    // PKCS#1, which is a little longer than the modulus.
    if key.as_ref().len() < 2048 / 8 {
        return Err(Error::invalid(
            "the public key has less than 2,048 bits, which proves nothing",
        ));
    }
    Ok(PublicKey(der))
}

/// The keys in the answer of a provider's well-known address: a PEM under `publicKey`, at the top or under
/// `data`.
///
/// # Errors
/// `invalid` for anything else.
pub fn read_key_answer(body: &[u8]) -> Result<Vec<PublicKey>> {
    JsonWeight::of(body).check(usize::MAX)?;
    let answer: Value = serde_json::from_slice(body)
        .map_err(|_| Error::invalid("the answer with the public key is not JSON"))?;
    let pem = [&answer["data"]["publicKey"], &answer["publicKey"]]
        .into_iter()
        .find_map(Value::as_str)
        .ok_or_else(|| Error::invalid("the answer holds no publicKey"))?;
    read_pem(pem)
}
