//! How a definition says that its deliveries are signed.

use jiff::SignedDuration;
use serde::Deserialize;

use super::span::Span;
use crate::ingest::signature::{
    Encoding, HmacScheme, JwtScheme, KeyForm, SignatureScheme, TOLERANCE,
};

/// A signed time may be that old at most, whatever a definition says.
const TOLERANCE_MAX: SignedDuration = SignedDuration::from_hours(1);

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SignatureTable {
    #[serde(default)]
    pub(super) scheme: SchemeName,
    header: Option<String>,
    timestamp_header: Option<String>,
    id_header: Option<String>,
    pattern: Option<String>,
    signed: Option<String>,
    encoding: Option<EncodingName>,
    key: Option<KeyName>,
    tolerance: Option<Span>,
    prefix: Option<String>,
    body_claim: Option<String>,
    issuer: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum SchemeName {
    #[default]
    None,
    Header,
    StandardWebhooks,
    Hmac,
    Jwt,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum EncodingName {
    Hex,
    Base64,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum KeyName {
    Raw,
    Base64,
    Whsec,
}

impl EncodingName {
    pub(super) fn encoding(self) -> Encoding {
        match self {
            EncodingName::Hex => Encoding::Hex,
            EncodingName::Base64 => Encoding::Base64,
        }
    }
}

impl SignatureTable {
    pub(super) fn scheme(&self) -> Result<(SignatureScheme, KeyForm), String> {
        let header = || {
            let name = self
                .header
                .as_deref()
                .ok_or("signature.header is missing")?;
            http::HeaderName::try_from(name)
                .map_err(|_| "signature.header is no name of an HTTP header")?;
            Ok::<_, String>(name.to_owned())
        };
        let scheme = match self.scheme {
            SchemeName::None => (SignatureScheme::None, KeyForm::Raw),
            SchemeName::Header => (SignatureScheme::Header(header()?), KeyForm::Raw),
            SchemeName::StandardWebhooks => (SignatureScheme::StandardWebhooks, KeyForm::Whsec),
            SchemeName::Hmac => self.hmac(&header()?)?,
            SchemeName::Jwt => {
                let scheme = JwtScheme {
                    header: header()?,
                    prefix: self.prefix.clone().unwrap_or_default(),
                    body_claim: self
                        .body_claim
                        .clone()
                        .ok_or("signature.body_claim is missing")?,
                    issuer: self.issuer.clone(),
                };
                (SignatureScheme::Jwt(scheme), KeyForm::Raw)
            }
        };
        Ok(scheme)
    }

    fn hmac(&self, header: &str) -> Result<(SignatureScheme, KeyForm), String> {
        let encoding = self
            .encoding
            .ok_or("signature.encoding is missing: hex or base64")?;
        let tolerance = self.tolerance.map_or(TOLERANCE, |Span(span)| span);
        if tolerance > TOLERANCE_MAX {
            return Err("signature.tolerance may be an hour at most".to_owned());
        }
        let scheme = HmacScheme::new(
            header,
            self.pattern.as_deref().unwrap_or("{signature}"),
            self.signed.as_deref().unwrap_or("{body}"),
            encoding.encoding(),
        )
        .and_then(|scheme| {
            scheme.with_parts(
                self.timestamp_header.clone(),
                self.id_header.clone(),
                tolerance,
            )
        })
        .map_err(|why| format!("signature: {why}"))?;
        let key = match self.key {
            None | Some(KeyName::Raw) => KeyForm::Raw,
            Some(KeyName::Base64) => KeyForm::Base64,
            Some(KeyName::Whsec) => KeyForm::Whsec,
        };
        Ok((SignatureScheme::Hmac(scheme, key), key))
    }
}
