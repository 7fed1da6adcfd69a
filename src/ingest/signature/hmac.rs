//! HMAC-SHA256 over a template of what is signed, as Svix, Daily, JaaS, Zoom and many others do it.
//!
//! They differ in what is signed with the body, where the time stands, how the header is written and how the
//! key is: that is data here, and so what a user-defined source can say too.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jiff::{SignedDuration, Timestamp};
use secrecy::{ExposeSecret, SecretString};

use super::form::{Form, FormPiece, read_template};
use super::{Presented, SenderRefusal, TOLERANCE};

/// The length of an HMAC-SHA256.
const DIGEST_BYTES: usize = 32;

/// A message id that is longer is none.
const ID_MAX_BYTES: usize = 256;

/// How a digest is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Hexadecimal.
    Hex,
    /// Base64 with padding.
    Base64,
}

/// How the key is made of the configured secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyForm {
    /// The secret's bytes as they are.
    Raw,
    /// The secret is base64.
    Base64,
    /// Base64 after `whsec_` (Svix, Standard Webhooks).
    Whsec,
}

/// How deliveries are signed.
#[derive(Clone, Debug)]
pub struct HmacScheme {
    header: String,
    timestamp_header: Option<String>,
    id_header: Option<String>,
    form: Form,
    signed: Vec<FormPiece>,
    encoding: Encoding,
    tolerance: SignedDuration,
}

/// A key and the secret that it was made of.
#[derive(Clone, Debug)]
pub(super) struct HmacKey {
    secret: SecretString,
    key: hmac::Key,
}

/// A signature that waits for its body.
#[derive(Debug)]
pub(super) struct PendingSignature<'a> {
    scheme: &'a HmacScheme,
    keys: &'a [HmacKey],
    id: &'a str,
    timestamp: &'a str,
    signatures: Vec<[u8; DIGEST_BYTES]>,
}

impl HmacScheme {
    /// A scheme whose `pattern` says how the header is written (`{signature}`, `v0={signature}`,
    /// `t={timestamp},v1={signature}`) and whose `signed` what is signed (`{timestamp}.{body}`).
    ///
    /// # Errors
    /// What is wrong with them, as a sentence's end.
    pub fn new(
        header: &str,
        pattern: &str,
        signed: &str,
        encoding: Encoding,
    ) -> Result<HmacScheme, String> {
        let signed = read_template(signed)?;
        let bodies = signed
            .iter()
            .filter(|piece| **piece == FormPiece::Body)
            .count();
        if bodies != 1 {
            return Err("what is signed must hold {body} once".to_owned());
        }
        Ok(HmacScheme {
            header: header.to_owned(),
            timestamp_header: None,
            id_header: None,
            form: Form::read(pattern)?,
            signed,
            encoding,
            tolerance: TOLERANCE,
        })
    }

    /// Standard Webhooks, or Svix's older names of the same: `prefix` is `webhook` or `svix`.
    pub fn standard(prefix: &str) -> HmacScheme {
        HmacScheme {
            header: format!("{prefix}-signature"),
            timestamp_header: Some(format!("{prefix}-timestamp")),
            id_header: Some(format!("{prefix}-id")),
            form: Form::List("v1,".to_owned()),
            signed: vec![
                FormPiece::Id,
                FormPiece::Literal(".".to_owned()),
                FormPiece::Timestamp,
                FormPiece::Literal(".".to_owned()),
                FormPiece::Body,
            ],
            encoding: Encoding::Base64,
            tolerance: TOLERANCE,
        }
    }

    /// Daily's: the time in a header of its own, in seconds or milliseconds.
    pub(super) fn daily() -> HmacScheme {
        HmacScheme {
            header: "x-webhook-signature".to_owned(),
            timestamp_header: Some("x-webhook-timestamp".to_owned()),
            id_header: None,
            form: Form::Prefixed(String::new()),
            signed: vec![
                FormPiece::Timestamp,
                FormPiece::Literal(".".to_owned()),
                FormPiece::Body,
            ],
            encoding: Encoding::Base64,
            tolerance: TOLERANCE,
        }
    }

    /// Where time and id stand when not in the signature's header, and how old a signed time may be.
    ///
    /// # Errors
    /// What does not fit together, as a sentence's end.
    pub fn with_parts(
        mut self,
        timestamp_header: Option<String>,
        id_header: Option<String>,
        tolerance: SignedDuration,
    ) -> Result<HmacScheme, String> {
        let is_in_header = matches!(
            self.form,
            Form::Pairs {
                timestamp: Some(_),
                ..
            }
        );
        let is_signed = |piece: FormPiece| self.signed.contains(&piece);
        if is_signed(FormPiece::Timestamp) != (is_in_header || timestamp_header.is_some()) {
            return Err(
                "a time counts only if it is signed: name it in `signed` and say in `timestamp_header` or `pattern` where it stands"
                    .to_owned(),
            );
        }
        if is_in_header && timestamp_header.is_some() {
            return Err(
                "the time stands in `timestamp_header` or in `pattern`, not in both".to_owned(),
            );
        }
        if is_signed(FormPiece::Id) != id_header.is_some() {
            return Err(
                "an id is signed with `id_header` and `{id}` in `signed`, or not at all".to_owned(),
            );
        }
        self.timestamp_header = timestamp_header;
        self.id_header = id_header;
        self.tolerance = tolerance;
        Ok(self)
    }

    /// The header that carries the signature.
    pub(super) fn header(&self) -> &str {
        &self.header
    }

    /// The header whose value the signature covers as the message's id.
    pub fn id_header(&self) -> Option<&str> {
        self.id_header.as_deref()
    }

    pub(super) fn begin<'a>(
        &'a self,
        keys: &'a [HmacKey],
        presented: &Presented<'a>,
    ) -> Result<PendingSignature<'a>, SenderRefusal> {
        let header = presented.one_text(&self.header)?;
        let id = match &self.id_header {
            Some(name) => presented.one_text(name)?,
            None => "",
        };
        if id.len() > ID_MAX_BYTES {
            return Err(SenderRefusal::Malformed);
        }
        let (in_header, signatures) = self.form.take_apart(header)?;
        let timestamp = match &self.timestamp_header {
            Some(name) => presented.one_text(name)?,
            None => in_header,
        };
        let is_timed = self.signed.contains(&FormPiece::Timestamp);
        if is_timed && is_stale(read_time(timestamp)?, presented.now, self.tolerance) {
            return Err(SenderRefusal::Stale);
        }
        let signatures: Vec<_> = signatures
            .into_iter()
            .filter_map(|text| self.encoding.read(text))
            .collect();
        if signatures.is_empty() {
            return Err(SenderRefusal::Malformed);
        }
        Ok(PendingSignature {
            scheme: self,
            keys,
            id,
            timestamp,
            signatures,
        })
    }
}

impl<'a> PendingSignature<'a> {
    pub(super) fn finish(&self, body: &[u8]) -> Result<&'a SecretString, SenderRefusal> {
        let mut found = None;
        for key in self.keys {
            let digest = self.digest(key, body);
            for signature in &self.signatures {
                if verify_slices_are_equal(digest.as_ref(), signature).is_ok() {
                    found = Some(&key.secret);
                }
            }
        }
        found.ok_or(SenderRefusal::Wrong)
    }

    /// The message id that is signed, also where it is empty: then no other header may stand in for it.
    pub(super) fn id(&self) -> Option<&'a str> {
        self.scheme.id_header.as_ref().map(|_| self.id)
    }

    fn digest(&self, key: &HmacKey, body: &[u8]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&key.key);
        for piece in &self.scheme.signed {
            context.update(match piece {
                FormPiece::Literal(text) => text.as_bytes(),
                FormPiece::Id => self.id.as_bytes(),
                FormPiece::Timestamp => self.timestamp.as_bytes(),
                FormPiece::Body => body,
            });
        }
        context.sign()
    }
}

impl HmacKey {
    /// The key that `secret` stands for; `None` when it is not written so.
    pub(super) fn new(secret: &SecretString, form: KeyForm) -> Option<HmacKey> {
        let text = secret.expose_secret();
        let bytes = match form {
            KeyForm::Raw => text.as_bytes().to_vec(),
            KeyForm::Base64 => BASE64_STANDARD.decode(text).ok()?,
            KeyForm::Whsec => BASE64_STANDARD.decode(text.strip_prefix("whsec_")?).ok()?,
        };
        (!bytes.is_empty()).then(|| HmacKey {
            secret: secret.clone(),
            key: hmac::Key::new(hmac::HMAC_SHA256, &bytes),
        })
    }

    pub(super) fn hmac(&self) -> &hmac::Key {
        &self.key
    }

    pub(super) fn secret(&self) -> &SecretString {
        &self.secret
    }
}

impl Encoding {
    fn read(self, text: &str) -> Option<[u8; DIGEST_BYTES]> {
        let bytes = match self {
            Encoding::Hex => hex::decode(text).ok()?,
            Encoding::Base64 => BASE64_STANDARD.decode(text).ok()?,
        };
        bytes.try_into().ok()
    }

    /// `digest` written so.
    pub fn write(self, digest: &[u8]) -> String {
        match self {
            Encoding::Hex => hex::encode(digest),
            Encoding::Base64 => BASE64_STANDARD.encode(digest),
        }
    }
}

/// A time in whole seconds or milliseconds; which of them follows from its size.
fn read_time(text: &str) -> Result<Timestamp, SenderRefusal> {
    let is_number = (1..=16).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    if !is_number {
        return Err(SenderRefusal::Malformed);
    }
    let number: i64 = text.parse().map_err(|_| SenderRefusal::Malformed)?;
    // Seconds stay below 10^11 until the year 5138.
    let at = match number < 100_000_000_000 {
        true => Timestamp::from_second(number),
        false => Timestamp::from_millisecond(number),
    };
    at.map_err(|_| SenderRefusal::Malformed)
}

fn is_stale(at: Timestamp, now: Timestamp, tolerance: SignedDuration) -> bool {
    now.duration_since(at).abs() > tolerance
}

/// The key that `secret` stands for; `None` when it is not written so.
pub fn hmac_key(secret: &SecretString, form: KeyForm) -> Option<hmac::Key> {
    HmacKey::new(secret, form).map(|key| key.key)
}
