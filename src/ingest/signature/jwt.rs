//! A signed token in a header whose claim holds the body's hash, as LiveKit does it.
//!
//! The algorithm is ours to fix: a token that names another one is refused, whatever it says.

use aws_lc_rs::{constant_time, digest, hmac};
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use jiff::{SignedDuration, Timestamp};
use secrecy::SecretString;
use serde_json::Value;

use super::hmac::HmacKey;
use super::{Presented, SenderRefusal};

/// A token that is longer is none.
const TOKEN_MAX_BYTES: usize = 8 * 1024;

/// How far the other side's clock may be from ours.
const LEEWAY: SignedDuration = SignedDuration::from_mins(1);

/// A token that lives longer would be a password.
const LIFE_MAX: SignedDuration = SignedDuration::from_hours(1);

/// How deliveries are signed: a JWT with HS256.
#[derive(Clone, Debug)]
pub struct JwtScheme {
    /// The header that carries the token.
    pub header: String,
    /// What stands before the token, such as `Bearer `.
    pub prefix: String,
    /// The claim that holds the base64 of the body's SHA-256.
    pub body_claim: String,
    /// Who must have issued it, when that matters.
    pub issuer: Option<String>,
}

/// A token with a good signature that waits for its body.
#[derive(Debug)]
pub(super) struct PendingToken<'a> {
    secret: &'a SecretString,
    body_hash: Vec<u8>,
}

impl JwtScheme {
    pub(super) fn begin<'a>(
        &'a self,
        keys: &'a [HmacKey],
        presented: &Presented<'a>,
    ) -> Result<PendingToken<'a>, SenderRefusal> {
        let header = presented.one_text(&self.header)?;
        let token = header
            .strip_prefix(self.prefix.as_str())
            .filter(|token| token.len() <= TOKEN_MAX_BYTES)
            .ok_or(SenderRefusal::Malformed)?;
        let (signed, signature) = token.rsplit_once('.').ok_or(SenderRefusal::Malformed)?;
        let (head, claims) = signed.split_once('.').ok_or(SenderRefusal::Malformed)?;
        let head = read_part(head)?;
        if head["alg"] != "HS256" || head.get("crit").is_some() {
            return Err(SenderRefusal::Malformed);
        }
        let signature = BASE64_URL_SAFE_NO_PAD
            .decode(signature)
            .map_err(|_| SenderRefusal::Malformed)?;
        let mut signers = keys
            .iter()
            .filter(|key| hmac::verify(key.hmac(), signed.as_bytes(), &signature).is_ok());
        let secret = signers.next().ok_or(SenderRefusal::Wrong)?.secret();
        let claims = read_part(claims)?;
        self.check_claims(&claims, presented.now)?;
        let body_hash = claims[&self.body_claim].as_str().unwrap_or_default();
        Ok(PendingToken {
            secret,
            body_hash: BASE64_STANDARD
                .decode(body_hash)
                .map_err(|_| SenderRefusal::Malformed)?,
        })
    }

    fn check_claims(&self, claims: &Value, now: Timestamp) -> Result<(), SenderRefusal> {
        let until = instant(&claims["exp"])?.duration_since(now);
        let is_too_early = match claims.get("nbf") {
            Some(from) => instant(from)?.duration_since(now) > LEEWAY,
            None => false,
        };
        if until < -LEEWAY || until > LIFE_MAX || is_too_early {
            return Err(SenderRefusal::Stale);
        }
        match &self.issuer {
            Some(issuer) if claims["iss"] != issuer.as_str() => Err(SenderRefusal::Wrong),
            _ => Ok(()),
        }
    }
}

impl<'a> PendingToken<'a> {
    pub(super) fn finish(&self, body: &[u8]) -> Result<&'a SecretString, SenderRefusal> {
        let hash = digest::digest(&digest::SHA256, body);
        constant_time::verify_slices_are_equal(hash.as_ref(), &self.body_hash)
            .map(|()| self.secret)
            .map_err(|_| SenderRefusal::Wrong)
    }
}

fn read_part(part: &str) -> Result<Value, SenderRefusal> {
    let bytes = BASE64_URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_| SenderRefusal::Malformed)?;
    serde_json::from_slice(&bytes).map_err(|_| SenderRefusal::Malformed)
}

fn instant(claim: &Value) -> Result<Timestamp, SenderRefusal> {
    let seconds = claim.as_f64().ok_or(SenderRefusal::Malformed)?;
    Timestamp::from_second(seconds as i64).map_err(|_| SenderRefusal::Malformed)
}
