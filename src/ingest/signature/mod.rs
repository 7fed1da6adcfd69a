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
pub use rules::{Scheme, Trust, custom_check, provider_check};
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
    /// A source that is open to this machine alone: it came through a proxy, or under another name.
    Proxied,
    /// A source that is open: a page in a browser sent it.
    Browser,
    /// The signature is good, but the event is about another customer of the provider.
    Account,
}

impl Refusal {
    /// Every reason.
    pub const ALL: [Refusal; 9] = [
        Refusal::Missing,
        Refusal::Twice,
        Refusal::Malformed,
        Refusal::Stale,
        Refusal::Wrong,
        Refusal::Sender,
        Refusal::Proxied,
        Refusal::Browser,
        Refusal::Account,
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
            Refusal::Proxied => "proxied",
            Refusal::Browser => "browser",
            Refusal::Account => "account",
        }
    }

    /// What an operator can do about it, where the sender is the provider.
    pub fn advice(self) -> &'static str {
        match self {
            Refusal::Missing => {
                "let the provider send the expected header (it may be off, or a proxy may drop it), and post to the right source"
            }
            Refusal::Twice => "look for a proxy that adds the header once more",
            Refusal::Malformed | Refusal::Wrong => {
                "set the source's secrets (or public_key) to what the provider sends or signs with"
            }
            Refusal::Stale => "let NTP set this machine's clock",
            Refusal::Sender => {
                "add the address to the source's allow_senders, if it is the provider's or the proxy's"
            }
            Refusal::Proxied => {
                "configure the source with secrets: without any, events are taken from programs of this machine alone, not through a proxy"
            }
            Refusal::Browser => {
                "no provider posts from a browser: use curl to try it, or configure the source with secrets"
            }
            Refusal::Account => {
                "set the source's account to your organization's id at the provider, if the event is yours"
            }
        }
    }
}

/// How the deliveries of one source are checked.
#[derive(Clone, Debug, Default)]
pub struct Check {
    /// All of these must hold, each by any of its ways. Without any, the source is open.
    demands: Vec<Vec<Way>>,
    open: Openness,
    senders: Vec<IpNet>,
}

/// One way for a sender to prove who it is.
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
    /// All of these must hold, each by any of its proofs.
    demands: Vec<Vec<Evidence<'a>>>,
}

#[derive(Debug)]
enum Evidence<'a> {
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
#[derive(Clone, Copy, Debug, Default)]
pub struct Proof<'a> {
    /// The secret that it was proven with, where there is one: what a handshake's answer is made with.
    pub secret: Option<&'a SecretString>,
    /// The message id that the signature covers, where it covers one.
    pub id: Option<&'a str>,
}

impl Check {
    /// Lets the programs of this machine in.
    pub fn open() -> Check {
        Check::default()
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
        let demand = |ways: &Vec<Way>| {
            let headers: Vec<_> = ways.iter().flat_map(Way::headers).collect();
            headers.join(" or ")
        };
        let demands: Vec<_> = self.demands.iter().map(demand).collect();
        demands.join(" and ")
    }

    /// Where the provider shows its public key, when deliveries are checked with a fetched one.
    pub fn key_url(&self) -> Option<&str> {
        self.demands.iter().flatten().find_map(|way| match way {
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
        if self.is_open() {
            self.open.check(presented)?;
        }
        let demands = self.demands.iter();
        let demands = demands.map(|ways| begin_any(ways, presented));
        Ok(Claim {
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
fn begin_any<'a>(ways: &'a [Way], presented: &Presented<'a>) -> Result<Vec<Evidence<'a>>, Refusal> {
    let mut claims = Vec::new();
    let mut reason = Refusal::Missing;
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

impl Way {
    /// The headers that carry the proof.
    fn headers(&self) -> Vec<&str> {
        match self {
            Way::Shared { headers, .. } => headers.iter().map(String::as_str).collect(),
            Way::Hmac(scheme, _) => vec![scheme.header()],
            Way::Jwt(scheme, _) => vec![scheme.header.as_str()],
            Way::Rsa { header, .. } => vec![*header],
        }
    }

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
    /// Whether a secret in the headers proves the sender already.
    pub fn is_proven(&self) -> bool {
        let mut claims = self.demands.iter().flatten();
        claims.any(|claim| matches!(claim, Evidence::Proven(_)))
    }

    /// Looks at the raw body. `fetched` are the public keys that the provider shows, where
    /// [`Check::key_url`] names a place for them.
    ///
    /// # Errors
    /// The reason, when nothing proves the body.
    pub fn finish(&self, body: &[u8], fetched: &[PublicKey]) -> Result<Proof<'a>, Refusal> {
        let mut proof = Proof::default();
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
) -> Result<Proof<'a>, Refusal> {
    let mut reason = Refusal::Missing;
    for claim in claims {
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
    ) -> Result<Option<&'a SecretString>, Refusal> {
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
                is_signed.then_some(None).ok_or(Refusal::Wrong)
            }
        }
    }
}

#[cfg(test)]
mod tests;
