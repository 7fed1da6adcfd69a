//! Who is speaking: whether a delivery comes from the provider that it claims to come from.
//!
//! Everything here is a pure function of headers, raw body, sender's address and `now`. What needs no body
//! (headers that are missing or doubled, stale times, shared secrets) is decided by [`SenderCheck::begin`] before a
//! byte of it is read; the rest by [`UnprovenDelivery::finish`] over the raw bytes. Digests are compared in constant
//! time. The reason of a refusal is for the operator's metrics; the sender only ever sees a 401.

use std::net::IpAddr;

use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp};
use secrecy::SecretString;

mod account;
mod form;
mod hmac;
mod jwt;
mod open;
mod rsa;
mod rules;
mod shared;
mod strength;

pub use account::{accounts_in, own_account};
pub use hmac::{Encoding, HmacScheme, KeyForm, hmac_key};
pub use jwt::JwtScheme;
pub use rsa::{PublicKey, read_key_answer, read_pem, well_known_keys};
pub use rules::{SignatureScheme, Trust, custom_check, provider_check};
pub use shared::is_shared_secret;
pub use strength::{SECRET_MIN_BYTES, check_secret};

use open::Openness;

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
    fn one(&self, name: &str) -> Result<&'a [u8], SenderRefusal> {
        let mut found = self
            .headers
            .iter()
            .filter(|(other, _)| other.eq_ignore_ascii_case(name));
        match (found.next(), found.next()) {
            (Some((_, value)), None) => Ok(value),
            (None, _) => Err(SenderRefusal::Missing),
            (Some(_), Some(_)) => Err(SenderRefusal::Twice),
        }
    }

    fn one_text(&self, name: &str) -> Result<&'a str, SenderRefusal> {
        let text = std::str::from_utf8(self.one(name)?).map_err(|_| SenderRefusal::Malformed)?;
        Ok(text.trim_matches([' ', '\t']))
    }
}

/// Why a delivery is not believed. From outside all of them look the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SenderRefusal {
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
    /// A source that is open to this machine alone: it came through a proxy, or under another name.
    Proxied,
    /// A source that is open: a page in a browser sent it.
    Browser,
    /// The signature is good, but the event is about another customer of the provider.
    Account,
}

impl SenderRefusal {
    /// Every reason.
    pub const ALL: [SenderRefusal; 9] = [
        SenderRefusal::Missing,
        SenderRefusal::Twice,
        SenderRefusal::Malformed,
        SenderRefusal::Stale,
        SenderRefusal::Wrong,
        SenderRefusal::Sender,
        SenderRefusal::Proxied,
        SenderRefusal::Browser,
        SenderRefusal::Account,
    ];

    /// The label in the metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            SenderRefusal::Missing => "signature_missing",
            SenderRefusal::Twice => "signature_twice",
            SenderRefusal::Malformed => "signature_malformed",
            SenderRefusal::Stale => "signature_stale",
            SenderRefusal::Wrong => "signature_wrong",
            SenderRefusal::Sender => "sender",
            SenderRefusal::Proxied => "proxied",
            SenderRefusal::Browser => "browser",
            SenderRefusal::Account => "account",
        }
    }

    /// What an operator can do about it, where the sender is the provider.
    pub fn advice(self) -> &'static str {
        match self {
            SenderRefusal::Missing => {
                "let the provider send the expected header (it may be off, or a proxy may drop it), and post to the right source"
            }
            SenderRefusal::Twice => "look for a proxy that adds the header once more",
            SenderRefusal::Malformed | SenderRefusal::Wrong => {
                "set the source's secrets (or public_key) to what the provider sends or signs with"
            }
            SenderRefusal::Stale => "let NTP set this machine's clock",
            SenderRefusal::Sender => {
                "add the address to the source's allow_senders, if it is the provider's or the proxy's"
            }
            SenderRefusal::Proxied => {
                "configure the source with secrets: without any, events are taken from programs of this machine alone, not through a proxy"
            }
            SenderRefusal::Browser => {
                "no provider posts from a browser: use curl to try it, or configure the source with secrets"
            }
            SenderRefusal::Account => {
                "set the source's account to your organization's id at the provider, if the event is yours"
            }
        }
    }
}

/// How the deliveries of one source are checked.
#[derive(Clone, Debug, Default)]
pub struct SenderCheck {
    /// All of these must hold, each by any of its ways. Without any, the source is open.
    demands: Vec<Vec<Auth>>,
    open: Openness,
    senders: Vec<IpNet>,
}

/// One way for a sender to prove who it is.
#[derive(Clone, Debug)]
enum Auth {
    Shared {
        headers: Vec<String>,
        secrets: Vec<SecretString>,
    },
    Hmac(HmacScheme, Vec<hmac::HmacKey>),
    Jwt(JwtScheme, Vec<hmac::HmacKey>),
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
pub struct UnprovenDelivery<'a> {
    /// All of these must hold, each by any of its proofs.
    demands: Vec<Vec<Evidence<'a>>>,
}

#[derive(Debug)]
enum Evidence<'a> {
    /// A shared secret: the body proves nothing more.
    Proven(&'a SecretString),
    Hmac(hmac::PendingSignature<'a>),
    Jwt(jwt::PendingToken<'a>),
    Rsa {
        signature: Vec<u8>,
        configured: &'a [PublicKey],
    },
}

/// Proof that a delivery comes from its provider.
#[derive(Clone, Copy, Debug, Default)]
pub struct SenderProof<'a> {
    /// The secret that it was proven with, where there is one: what a handshake's answer is made with.
    pub secret: Option<&'a SecretString>,
    /// The message id that the signature covers, where it covers one.
    pub id: Option<&'a str>,
}

impl SenderCheck {
    /// Lets the programs of this machine in.
    pub fn open() -> SenderCheck {
        SenderCheck::default()
    }

    /// Whether nothing proves the sender.
    pub fn is_open(&self) -> bool {
        self.demands.is_empty()
    }

    /// Whether nothing proves the sender, and programs of this machine alone are taken for one.
    pub fn is_local(&self) -> bool {
        self.is_open() && self.open == Openness::Local
    }

    /// The headers that prove the sender, for a person.
    pub fn expected(&self) -> String {
        if self.is_open() {
            return "none".to_owned();
        }
        let demand = |ways: &Vec<Auth>| {
            let headers: Vec<_> = ways.iter().flat_map(Auth::headers).collect();
            headers.join(" or ")
        };
        let demands: Vec<_> = self.demands.iter().map(demand).collect();
        demands.join(" and ")
    }

    /// Where the provider shows its public key, when deliveries are checked with a fetched one.
    pub fn key_url(&self) -> Option<&str> {
        self.demands.iter().flatten().find_map(|way| match way {
            Auth::Rsa {
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
    pub fn begin<'a>(
        &'a self,
        presented: &Presented<'a>,
    ) -> Result<UnprovenDelivery<'a>, SenderRefusal> {
        if !self.is_sender_allowed(presented.peer) {
            return Err(SenderRefusal::Sender);
        }
        if self.is_open() {
            self.open.check(presented)?;
        }
        let demands = self.demands.iter();
        let demands = demands.map(|ways| begin_any(ways, presented));
        Ok(UnprovenDelivery {
            demands: demands.collect::<Result<_, _>>()?,
        })
    }

    fn is_sender_allowed(&self, peer: Option<IpAddr>) -> bool {
        let peer = peer.map(|peer| peer.to_canonical());
        self.senders.is_empty()
            || peer.is_some_and(|peer| self.senders.iter().any(|network| network.contains(&peer)))
    }
}

/// What those of `ways` came to whose headers may be good.
fn begin_any<'a>(
    ways: &'a [Auth],
    presented: &Presented<'a>,
) -> Result<Vec<Evidence<'a>>, SenderRefusal> {
    let mut claims = Vec::new();
    let mut reason = SenderRefusal::Missing;
    for way in ways {
        match way.begin(presented) {
            Ok(evidence) => claims.push(evidence),
            Err(refusal) => reason = reason.max(refusal),
        }
    }
    match claims.is_empty() {
        true => Err(reason),
        false => Ok(claims),
    }
}

impl Auth {
    /// The headers that carry the proof.
    fn headers(&self) -> Vec<&str> {
        match self {
            Auth::Shared { headers, .. } => headers.iter().map(String::as_str).collect(),
            Auth::Hmac(scheme, _) => vec![scheme.header()],
            Auth::Jwt(scheme, _) => vec![scheme.header.as_str()],
            Auth::Rsa { header, .. } => vec![*header],
        }
    }

    fn begin<'a>(&'a self, presented: &Presented<'a>) -> Result<Evidence<'a>, SenderRefusal> {
        match self {
            Auth::Shared { headers, secrets } => {
                shared::find(headers, secrets, presented).map(Evidence::Proven)
            }
            Auth::Hmac(scheme, keys) => scheme.begin(keys, presented).map(Evidence::Hmac),
            Auth::Jwt(scheme, keys) => scheme.begin(keys, presented).map(Evidence::Jwt),
            Auth::Rsa { header, keys } => Ok(Evidence::Rsa {
                signature: rsa::read_signature(presented.one_text(header)?)?,
                configured: match keys {
                    RsaKeys::Configured(keys) => keys,
                    RsaKeys::Fetched(_) => &[],
                },
            }),
        }
    }
}

impl<'a> UnprovenDelivery<'a> {
    /// Whether a secret in the headers proves the sender already.
    pub fn is_proven(&self) -> bool {
        let mut claims = self.demands.iter().flatten();
        claims.any(|claim| matches!(claim, Evidence::Proven(_)))
    }

    /// Looks at the raw body. `fetched` are the public keys that the provider shows, where
    /// [`SenderCheck::key_url`] names a place for them.
    ///
    /// # Errors
    /// The reason, when nothing proves the body.
    pub fn finish(
        &self,
        body: &[u8],
        fetched: &[PublicKey],
    ) -> Result<SenderProof<'a>, SenderRefusal> {
        let mut proof = SenderProof::default();
        for claims in &self.demands {
            let one = finish_any(claims, body, fetched)?;
            proof.secret = proof.secret.or(one.secret);
            proof.id = proof.id.or(one.id);
        }
        Ok(proof)
    }
}

fn finish_any<'a>(
    claims: &[Evidence<'a>],
    body: &[u8],
    fetched: &[PublicKey],
) -> Result<SenderProof<'a>, SenderRefusal> {
    let mut reason = SenderRefusal::Missing;
    for claim in claims {
        match claim.finish(body, fetched) {
            Ok(secret) => {
                return Ok(SenderProof {
                    secret,
                    id: claim.id(),
                });
            }
            Err(refusal) => reason = reason.max(refusal),
        }
    }
    Err(reason)
}

impl<'a> Evidence<'a> {
    fn id(&self) -> Option<&'a str> {
        match self {
            Evidence::Hmac(evidence) => evidence.id(),
            Evidence::Proven(_) | Evidence::Jwt(_) | Evidence::Rsa { .. } => None,
        }
    }

    fn finish(
        &self,
        body: &[u8],
        fetched: &[PublicKey],
    ) -> Result<Option<&'a SecretString>, SenderRefusal> {
        match self {
            Evidence::Proven(secret) => Ok(Some(secret)),
            Evidence::Hmac(evidence) => evidence.finish(body).map(Some),
            Evidence::Jwt(evidence) => evidence.finish(body).map(Some),
            Evidence::Rsa {
                signature,
                configured,
            } => {
                let mut keys = configured.iter().chain(fetched);
                let is_signed = keys.any(|key| key.has_signed(body, signature));
                is_signed.then_some(None).ok_or(SenderRefusal::Wrong)
            }
        }
    }
}

#[cfg(test)]
mod tests;
