//! Who is speaking: whether a delivery comes from the provider that it claims to come from.
//!
//! Everything here is a pure function of headers, raw body, sender's address and `now`. What needs no body
//! (headers that are missing or doubled, stale times, shared secrets) is decided by [`Check::begin`] before a
//! byte of it is read; the rest by [`Claim::finish`] over the raw bytes. Digests are compared in constant
//! time. The reason of a refusal is for the operator's metrics; the sender only ever sees a 401.

use std::net::IpAddr;

use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp};
use secrecy::SecretString;

mod form;
mod hmac;
mod jwt;
mod rsa;
mod rules;
mod shared;

pub use hmac::{Encoding, HmacScheme, KeyForm, hmac_key};
pub use jwt::JwtScheme;
pub use rsa::{PublicKey, read_key_answer, read_pem, well_known_keys};
pub use rules::{Scheme, Trust, custom_check, provider_check};
pub use shared::is_shared_secret;

/// How far a signed time may be from ours, unless a definition says otherwise.
pub const TOLERANCE: SignedDuration = SignedDuration::from_mins(5);

/// A request as plain data, without its body.
#[derive(Clone, Copy, Debug)]
pub struct Presented<'a> {
    /// Every header, as often as it came; names in any case.
    pub headers: &'a [(&'a str, &'a [u8])],
    /// Whose connection it is.
    pub peer: Option<IpAddr>,
    /// When it came in.
    pub now: Timestamp,
}

impl<'a> Presented<'a> {
    /// The one header of that name. Two of a name are none: which of them a proxy or a library before us has
    /// looked at can't be known.
    fn one(&self, name: &str) -> Result<&'a [u8], Refusal> {
        let mut found = self
            .headers
            .iter()
            .filter(|(other, _)| other.eq_ignore_ascii_case(name));
        match (found.next(), found.next()) {
            (Some((_, value)), None) => Ok(value),
            (None, _) => Err(Refusal::Missing),
            (Some(_), Some(_)) => Err(Refusal::Twice),
        }
    }

    fn one_text(&self, name: &str) -> Result<&'a str, Refusal> {
        let text = std::str::from_utf8(self.one(name)?).map_err(|_| Refusal::Malformed)?;
        Ok(text.trim_matches([' ', '\t']))
    }
}

/// Why a delivery is not believed. From outside all of them look the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// The header that proves the sender is not there.
    Missing,
    /// It is there more than once.
    Twice,
    /// It can't be read: form, encoding, length.
    Malformed,
    /// What it signs is too old, or of the future.
    Stale,
    /// Signature or secret are not the right ones.
    Wrong,
    /// The connection comes from an address that is not on the source's list.
    Sender,
}

impl Refusal {
    /// Every reason.
    pub const ALL: [Refusal; 6] = [
        Refusal::Missing,
        Refusal::Twice,
        Refusal::Malformed,
        Refusal::Stale,
        Refusal::Wrong,
        Refusal::Sender,
    ];

    /// The label in the metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Refusal::Missing => "signature_missing",
            Refusal::Twice => "signature_twice",
            Refusal::Malformed => "signature_malformed",
            Refusal::Stale => "signature_stale",
            Refusal::Wrong => "signature_wrong",
            Refusal::Sender => "sender",
        }
    }
}

/// How the deliveries of one source are checked.
#[derive(Clone, Debug, Default)]
pub struct Check {
    ways: Vec<Way>,
    senders: Vec<IpNet>,
}

/// One way for a sender to prove who it is; any of a source's ways will do.
#[derive(Clone, Debug)]
enum Way {
    Shared {
        headers: Vec<String>,
        secrets: Vec<SecretString>,
    },
    Hmac(HmacScheme, Vec<hmac::Key>),
    Jwt(JwtScheme, Vec<hmac::Key>),
    Rsa {
        header: &'static str,
        keys: RsaKeys,
    },
}

#[derive(Clone, Debug)]
enum RsaKeys {
    Configured(Vec<PublicKey>),
    Fetched(String),
}

/// A delivery whose headers may prove it, once its body is there.
#[derive(Debug)]
pub struct Claim<'a> {
    claims: Vec<Evidence<'a>>,
}

#[derive(Debug)]
enum Evidence<'a> {
    /// Everyone is let in.
    Open,
    /// A shared secret: the body proves nothing more.
    Proven(&'a SecretString),
    Hmac(hmac::Evidence<'a>),
    Jwt(jwt::Evidence<'a>),
    Rsa {
        signature: Vec<u8>,
        configured: &'a [PublicKey],
    },
}

/// Proof that a delivery comes from its provider.
#[derive(Clone, Copy, Debug)]
pub struct Proof<'a> {
    /// The secret that it was proven with, where there is one: what a handshake's answer is made with.
    pub secret: Option<&'a SecretString>,
    /// The message id that the signature covers, where it covers one.
    pub id: Option<&'a str>,
}

impl Check {
    /// Lets everyone in.
    pub fn open() -> Check {
        Check::default()
    }

    /// Whether everyone is let in, or everyone at an allowed address.
    pub fn is_open(&self) -> bool {
        self.ways.is_empty()
    }

    /// Where the provider shows its public key, when deliveries are checked with a fetched one.
    pub fn key_url(&self) -> Option<&str> {
        self.ways.iter().find_map(|way| match way {
            Way::Rsa {
                keys: RsaKeys::Fetched(url),
                ..
            } => Some(url.as_str()),
            _ => None,
        })
    }

    /// Looks at everything but the body.
    ///
    /// # Errors
    /// The reason that tells most, when no body could make it good.
    pub fn begin<'a>(&'a self, presented: &Presented<'a>) -> Result<Claim<'a>, Refusal> {
        if !self.is_sender_allowed(presented.peer) {
            return Err(Refusal::Sender);
        }
        if self.ways.is_empty() {
            return Ok(Claim {
                claims: vec![Evidence::Open],
            });
        }
        let mut claims = Vec::new();
        let mut reason = Refusal::Missing;
        for way in &self.ways {
            match way.begin(presented) {
                Ok(evidence) => claims.push(evidence),
                Err(refusal) => reason = reason.max(refusal),
            }
        }
        if claims.is_empty() {
            return Err(reason);
        }
        Ok(Claim { claims })
    }

    fn is_sender_allowed(&self, peer: Option<IpAddr>) -> bool {
        let peer = peer.map(|peer| peer.to_canonical());
        self.senders.is_empty()
            || peer.is_some_and(|peer| self.senders.iter().any(|network| network.contains(&peer)))
    }
}

impl Way {
    fn begin<'a>(&'a self, presented: &Presented<'a>) -> Result<Evidence<'a>, Refusal> {
        match self {
            Way::Shared { headers, secrets } => {
                shared::find(headers, secrets, presented).map(Evidence::Proven)
            }
            Way::Hmac(scheme, keys) => scheme.begin(keys, presented).map(Evidence::Hmac),
            Way::Jwt(scheme, keys) => scheme.begin(keys, presented).map(Evidence::Jwt),
            Way::Rsa { header, keys } => Ok(Evidence::Rsa {
                signature: rsa::read_signature(presented.one_text(header)?)?,
                configured: match keys {
                    RsaKeys::Configured(keys) => keys,
                    RsaKeys::Fetched(_) => &[],
                },
            }),
        }
    }
}

impl<'a> Claim<'a> {
    /// Looks at the raw body. `fetched` are the public keys that the provider shows, where
    /// [`Check::key_url`] names a place for them.
    ///
    /// # Errors
    /// The reason, when nothing proves the body.
    pub fn finish(&self, body: &[u8], fetched: &[PublicKey]) -> Result<Proof<'a>, Refusal> {
        let mut reason = Refusal::Missing;
        for claim in &self.claims {
            match claim.finish(body, fetched) {
                Ok(secret) => {
                    return Ok(Proof {
                        secret,
                        id: claim.id(),
                    });
                }
                Err(refusal) => reason = reason.max(refusal),
            }
        }
        Err(reason)
    }
}

impl<'a> Evidence<'a> {
    fn id(&self) -> Option<&'a str> {
        match self {
            Evidence::Hmac(evidence) => evidence.id(),
            Evidence::Open | Evidence::Proven(_) | Evidence::Jwt(_) | Evidence::Rsa { .. } => None,
        }
    }

    fn finish(
        &self,
        body: &[u8],
        fetched: &[PublicKey],
    ) -> Result<Option<&'a SecretString>, Refusal> {
        match self {
            Evidence::Open => Ok(None),
            Evidence::Proven(secret) => Ok(Some(secret)),
            Evidence::Hmac(evidence) => evidence.finish(body).map(Some),
            Evidence::Jwt(evidence) => evidence.finish(body).map(Some),
            Evidence::Rsa {
                signature,
                configured,
            } => {
                let mut keys = configured.iter().chain(fetched);
                let is_signed = keys.any(|key| key.has_signed(body, signature));
                is_signed.then_some(None).ok_or(Refusal::Wrong)
            }
        }
    }
}

#[cfg(test)]
mod tests;
