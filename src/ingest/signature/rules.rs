//! Which check a source gets: from its provider and its settings.

use ipnet::IpNet;
use secrecy::{ExposeSecret, SecretString};

use super::hmac::HmacKey;
use super::open::Openness;
use super::{Auth, HmacScheme, JwtScheme, KeyForm, RsaKeys, SenderCheck, rsa};
use crate::error::{Error, Result};
use crate::model::Provider;

/// Asks for the provider's own public key at its well-known address.
const WELL_KNOWN: &str = "well-known";

/// What the configuration of a source says about its senders.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// Secrets, any of which will do; several for rotation.
    pub secrets: Vec<SecretString>,
    /// The header that carries the secret itself, when the provider does not sign or is not to be asked to; beside a
    /// public key both have to hold.
    pub header: Option<String>,
    /// The provider's public key: PEM, `well-known`, or the address of an answer that holds it.
    pub public_key: Option<String>,
    /// Addresses that deliveries may come from; empty means any.
    pub allow_senders: Vec<IpNet>,
    /// The accounts at the provider whose events are ours, where it signs everybody's with one key.
    pub account: Vec<String>,
    /// Whether everyone may be let in.
    pub insecure: bool,
}

/// How a user-defined source is signed.
#[derive(Clone, Debug)]
pub enum SignatureScheme {
    /// Not at all.
    None,
    /// The secret comes along in this header.
    Header(String),
    /// Standard Webhooks, also with Svix's names.
    StandardWebhooks,
    /// HMAC-SHA256 over a template.
    Hmac(HmacScheme, KeyForm),
    /// A JWT that holds the body's hash.
    Jwt(JwtScheme),
}

/// The check of a built-in provider's source called `name`. `may_be_open` says that without any secret the programs of
/// this machine are let in: nothing was configured, and nobody else reaches the listener.
///
/// # Errors
/// `invalid`, naming the setting: a secret that is not written as the provider writes it, secrets without a
/// header where the provider has none of its own, a key of the provider without the account that it is to be about, or
/// nothing to check with.
pub fn provider_check(
    name: &str,
    provider: Provider,
    trust: &Trust,
    may_be_open: bool,
) -> Result<SenderCheck> {
    let demands = match (&trust.header, &trust.public_key) {
        (None, None) => vec![own_ways(
            name,
            provider,
            &trust.secrets,
            needs_check(trust, may_be_open),
        )?],
        (header, key) => {
            let mut demands = Vec::new();
            if let Some(header) = header {
                demands.push(shared(vec![header.clone()], trust.secrets.clone()));
            }
            if let Some(key) = key {
                demands.push(vec![public_key(name, provider, key)?]);
            }
            demands
        }
    };
    let check = finish(name, demands, trust, may_be_open)?;
    // A secret in a header proves the account as well.
    let has_secret = trust.header.is_some() && !trust.secrets.is_empty();
    if check.key_url().is_some() && trust.account.is_empty() && !has_secret {
        return Err(Error::invalid(format!(
            "sources.{name}.account is missing: {provider} signs the events of all its customers with one key. Set it to your organization's id (or set sources.{name}.header and secrets as well)"
        )));
    }
    Ok(check)
}

/// The check of a user-defined source called `name`.
///
/// # Errors
/// As [`provider_check`].
pub fn custom_check(
    name: &str,
    scheme: &SignatureScheme,
    trust: &Trust,
    may_be_open: bool,
) -> Result<SenderCheck> {
    if trust.public_key.is_some() {
        return Err(Error::invalid(format!(
            "sources.{name}.public_key is for dyte and realtimekit alone: remove it"
        )));
    }
    let secrets = &trust.secrets;
    let ways = match (&trust.header, scheme) {
        _ if secrets.is_empty() => Vec::new(),
        (Some(header), _) => shared(vec![header.clone()], secrets.clone()),
        (None, SignatureScheme::None) => {
            return Err(Error::invalid(format!(
                "sources.{name}.header is missing: the definition has no signature. Set it to the header that carries the secret"
            )));
        }
        (None, SignatureScheme::Header(header)) => shared(vec![header.clone()], secrets.clone()),
        (None, SignatureScheme::StandardWebhooks) => standard_webhooks(name, secrets)?,
        (None, SignatureScheme::Hmac(scheme, form)) => {
            vec![Auth::Hmac(scheme.clone(), keys(name, secrets, *form)?)]
        }
        (None, SignatureScheme::Jwt(scheme)) => {
            vec![Auth::Jwt(
                scheme.clone(),
                keys(name, secrets, KeyForm::Raw)?,
            )]
        }
    };
    finish(name, vec![ways], trust, may_be_open)
}

fn needs_check(trust: &Trust, may_be_open: bool) -> bool {
    !may_be_open && !trust.insecure
}

fn finish(
    name: &str,
    mut demands: Vec<Vec<Auth>>,
    trust: &Trust,
    may_be_open: bool,
) -> Result<SenderCheck> {
    demands.retain(|ways| !ways.is_empty());
    if demands.is_empty() && needs_check(trust, may_be_open) {
        return Err(Error::invalid(format!(
            "sources.{name}.secrets is missing: nothing proves who sends the events. Set it, or sources.{name}.insecure = true to take events from everybody"
        )));
    }
    Ok(SenderCheck {
        demands,
        open: match trust.insecure {
            true => Openness::Everybody,
            false => Openness::Local,
        },
        senders: trust.allow_senders.clone(),
    })
}

/// The provider's own way to sign.
fn own_ways(
    name: &str,
    provider: Provider,
    secrets: &[SecretString],
    must_check: bool,
) -> Result<Vec<Auth>> {
    match provider {
        Provider::Dyte | Provider::RealtimeKit if secrets.is_empty() && must_check => {
            Ok(vec![public_key(name, provider, WELL_KNOWN)?])
        }
        _ if secrets.is_empty() => Ok(Vec::new()),
        Provider::Daily => Ok(vec![Auth::Hmac(
            HmacScheme::daily(),
            keys(name, secrets, KeyForm::Base64)?,
        )]),
        Provider::MeetingBaas => meetingbaas(name, secrets),
        Provider::Dyte | Provider::RealtimeKit => Err(Error::invalid(format!(
            "sources.{name}.secrets does nothing alone: {provider} signs with a key of its own. Set sources.{name}.public_key = \"{WELL_KNOWN}\" instead (or sources.{name}.header for a secret in a header)"
        ))),
        _ => Err(Error::invalid(format!(
            "sources.{name}.header is missing: {provider} does not sign. Set it to the header that carries the secret"
        ))),
    }
}

/// v1 sends the account's API key, v2's callbacks and alerts their secrets, each in a header; v2's webhooks are signed.
fn meetingbaas(name: &str, secrets: &[SecretString]) -> Result<Vec<Auth>> {
    let is_signing = |secret: &&SecretString| secret.expose_secret().starts_with("whsec_");
    let (signing, plain): (Vec<_>, Vec<_>) = secrets.iter().partition(is_signing);
    let owned = |secrets: Vec<&SecretString>| secrets.into_iter().cloned().collect::<Vec<_>>();
    let mut ways = standard_webhooks(name, &owned(signing))?;
    let headers = ["x-meeting-baas-api-key", "x-mb-secret", "x-mb-alert-secret"].map(str::to_owned);
    ways.extend(shared(headers.to_vec(), owned(plain)));
    Ok(ways)
}

fn standard_webhooks(name: &str, secrets: &[SecretString]) -> Result<Vec<Auth>> {
    if secrets.is_empty() {
        return Ok(Vec::new());
    }
    let keys = keys(name, secrets, KeyForm::Whsec)?;
    let names = ["svix", "webhook"].map(HmacScheme::standard);
    Ok(names.map(|scheme| Auth::Hmac(scheme, keys.clone())).into())
}

fn shared(headers: Vec<String>, secrets: Vec<SecretString>) -> Vec<Auth> {
    match secrets.is_empty() {
        true => Vec::new(),
        false => vec![Auth::Shared { headers, secrets }],
    }
}

fn keys(name: &str, secrets: &[SecretString], form: KeyForm) -> Result<Vec<HmacKey>> {
    let expected = match form {
        KeyForm::Raw => "not empty",
        KeyForm::Base64 => "base64, as the provider shows them",
        KeyForm::Whsec => "`whsec_` and base64, as the provider shows them",
    };
    let keys = secrets.iter().map(|secret| {
        HmacKey::new(secret, form)
            .ok_or_else(|| Error::invalid(format!("sources.{name}.secrets must be {expected}")))
    });
    keys.collect()
}

fn public_key(name: &str, provider: Provider, setting: &str) -> Result<Auth> {
    let refuse = |what: String| Error::invalid(format!("sources.{name}.public_key: {what}"));
    let (Some(header), Some(well_known)) = (rsa::header(provider), rsa::well_known_keys(provider))
    else {
        return Err(refuse(format!(
            "{provider} does not sign with a public key"
        )));
    };
    let setting = setting.trim();
    let keys = if setting == WELL_KNOWN {
        RsaKeys::Fetched(well_known.to_owned())
    } else if setting.starts_with("https://") || setting.starts_with("http://") {
        RsaKeys::Fetched(setting.to_owned())
    } else {
        let keys = rsa::read_pem(setting).map_err(|error| refuse(error.full_message()))?;
        RsaKeys::Configured(keys)
    };
    Ok(Auth::Rsa { header, keys })
}
