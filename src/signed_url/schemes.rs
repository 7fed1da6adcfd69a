//! One reader a signing scheme: what each writes into a query, and in which spelling.

use std::borrow::Cow;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use jiff::Timestamp;
use percent_encoding::percent_decode_str;
use serde_json::Value;

use super::redact::is_jwt;
use super::scheme::UrlScheme;

/// One signature in a URL.
pub(super) struct Reading {
    pub(super) scheme: UrlScheme,
    pub(super) signed_at: Option<Timestamp>,
    pub(super) expires_at: Option<Timestamp>,
}

/// Every signature in `url`: the store's own before a front end's, a token's last.
pub(super) fn readings(url: &str, query: &UrlQuery) -> Vec<Reading> {
    [
        aws_sigv4(query),
        gcs_v4(query),
        oss(query),
        tencent_cos(query),
        azure_sas(query),
        cloudfront(query),
        gcs_v2(query),
        aws_sigv2(query),
        akamai(url, query),
        bunny(url, query),
        jwt(url, query),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn aws_sigv4(query: &UrlQuery) -> Option<Reading> {
    dated(query, UrlScheme::AwsSigv4, "x-amz-")
}

fn gcs_v4(query: &UrlQuery) -> Option<Reading> {
    dated(query, UrlScheme::GcsV4, "x-goog-")
}

fn oss(query: &UrlQuery) -> Option<Reading> {
    let is_v1 = query.has("ossaccesskeyid");
    let is_v4 = query.has("x-oss-signature") || query.has("x-oss-date");
    (is_v1 || is_v4).then(|| {
        let v4 = dated(query, UrlScheme::Oss, "x-oss-");
        let v1_end = is_v1
            .then(|| query.earliest("expires", unix_seconds))
            .flatten();
        let v4_end = v4.as_ref().and_then(|reading| reading.expires_at);
        Reading {
            scheme: UrlScheme::Oss,
            signed_at: v4.and_then(|reading| reading.signed_at),
            expires_at: [v1_end, v4_end].into_iter().flatten().min(),
        }
    })
}

fn azure_sas(query: &UrlQuery) -> Option<Reading> {
    let is_sas = query.has("sig") && (query.has("se") || query.has("sv"));
    is_sas.then(|| {
        // A user delegation key (`ske`) ends the signature with it.
        let ends = ["se", "ske"].map(|name| query.earliest(name, iso_8601));
        Reading {
            scheme: UrlScheme::AzureSas,
            signed_at: query.earliest("st", iso_8601),
            expires_at: ends.into_iter().flatten().min(),
        }
    })
}

fn cloudfront(query: &UrlQuery) -> Option<Reading> {
    query.has("key-pair-id").then(|| {
        let ends = [
            query.earliest("expires", unix_seconds),
            query.earliest("policy", policy_end),
        ];
        Reading {
            scheme: UrlScheme::CloudFront,
            signed_at: None,
            expires_at: ends.into_iter().flatten().min(),
        }
    })
}

fn gcs_v2(query: &UrlQuery) -> Option<Reading> {
    query.has("googleaccessid").then(|| Reading {
        scheme: UrlScheme::GcsV2,
        signed_at: None,
        expires_at: query.earliest("expires", unix_seconds),
    })
}

fn aws_sigv2(query: &UrlQuery) -> Option<Reading> {
    query.has("awsaccesskeyid").then(|| Reading {
        scheme: UrlScheme::AwsSigv2,
        signed_at: None,
        expires_at: query.earliest("expires", unix_seconds),
    })
}

/// Tencent Cloud COS: `q-sign-time=START;END`, and the life of the key that signed in the same form.
fn tencent_cos(query: &UrlQuery) -> Option<Reading> {
    let is_signed = ["q-signature", "q-sign-time", "q-key-time"]
        .iter()
        .any(|name| query.has(name));
    let span = |text: &str| {
        text.split_once([';', ','])
            .map(|(start, end)| (start.to_owned(), end.to_owned()))
    };
    let end = |text: &str| unix_seconds(&span(text)?.1);
    is_signed.then(|| Reading {
        scheme: UrlScheme::TencentCos,
        signed_at: query.earliest("q-sign-time", |text| unix_seconds(&span(text)?.0)),
        expires_at: ["q-sign-time", "q-key-time"]
            .into_iter()
            .filter_map(|name| query.earliest(name, end))
            .min(),
    })
}

/// Akamai: `hdnts=st=..~exp=..~acl=..~hmac=..` in the query, the same as a segment of the path.
fn akamai(url: &str, query: &UrlQuery) -> Option<Reading> {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let segments = path.split('/').map(decoded);
    let values = query.0.iter().filter(|(name, _)| is_akamai_name(name));
    let values = values.map(|(_, value)| Cow::Borrowed(&**value));
    let tokens: Vec<_> = segments
        .filter(|segment| segment.contains("hmac="))
        .chain(values)
        .filter(|token| token.contains('~') || token.starts_with("exp="))
        .collect();
    (!tokens.is_empty()).then(|| {
        let earliest = |name: &str| {
            let fields = tokens.iter().flat_map(|token| token.split('~'));
            // In a path the first field stands behind the name of the token: `hdntl=exp=..`.
            let of = |field: &str| {
                let (before, value) = field.rsplit_once('=')?;
                let is_it = before == name || before.ends_with(&format!("={name}"));
                is_it.then(|| unix_seconds(value)).flatten()
            };
            fields.filter_map(of).min()
        };
        Reading {
            scheme: UrlScheme::Akamai,
            signed_at: earliest("st"),
            expires_at: earliest("exp"),
        }
    })
}

fn is_akamai_name(name: &str) -> bool {
    ["hdnts", "hdntl", "hdnea", "__token__"].contains(&name)
}

/// Bunny: `token` and `expires` in the query, or `bcdn_token=..&expires=..` as a segment of the path.
fn bunny(url: &str, query: &UrlQuery) -> Option<Reading> {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let segment = path.split('/').find(|s| s.contains("bcdn_token="));
    let in_path = segment.map(UrlQuery::of_pairs);
    let is_signed = |query: &UrlQuery, token: &str| query.has(token) && query.has("expires");
    let end = |query: &UrlQuery| query.earliest("expires", unix_seconds);
    let ends = [
        Some(query).filter(|query| is_signed(query, "token")),
        in_path
            .as_ref()
            .filter(|query| is_signed(query, "bcdn_token")),
    ];
    let ends: Vec<_> = ends.into_iter().flatten().collect();
    (!ends.is_empty()).then(|| Reading {
        scheme: UrlScheme::Bunny,
        signed_at: None,
        expires_at: ends.into_iter().filter_map(end).min(),
    })
}

fn jwt(url: &str, query: &UrlQuery) -> Option<Reading> {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let segments = path.split('/').map(decoded);
    let values = query.0.iter().map(|(_, value)| Cow::Borrowed(&**value));
    let claims: Vec<Value> = segments.chain(values).filter_map(|t| claims(&t)).collect();
    (!claims.is_empty()).then(|| {
        let earliest = |name: &str| claims.iter().filter_map(|c| claim_time(c.get(name)?)).min();
        Reading {
            scheme: UrlScheme::Jwt,
            signed_at: earliest("iat"),
            expires_at: earliest("exp"),
        }
    })
}

/// The schemes that sign a date and a lifetime under a common prefix.
fn dated(query: &UrlQuery, scheme: UrlScheme, prefix: &str) -> Option<Reading> {
    const SIGNED: [&str; 5] = ["signature", "credential", "algorithm", "date", "expires"];
    let name = |suffix: &str| format!("{prefix}{suffix}");
    let is_part = |name: &str| {
        let suffix = name.strip_prefix(prefix);
        suffix.is_some_and(|suffix| SIGNED.contains(&suffix))
    };
    let is_signed = |(name, value): &(String, String)| is_part(name) && !value.is_empty();
    query.0.iter().any(is_signed).then(|| {
        let signed_at = query.earliest(&name("date"), iso_8601_basic);
        let lifetime = query.earliest(&name("expires"), |text| {
            digits(text).filter(|life| *life <= LONGEST_LIFE_SECONDS)
        });
        let expires_at = signed_at
            .zip(lifetime)
            .and_then(|(at, life)| whole_second(at.as_second().checked_add(life)?));
        Reading {
            scheme,
            signed_at,
            expires_at,
        }
    })
}

/// Whether the credentials behind the signature have a life of their own.
pub(super) fn has_session_credentials(query: &UrlQuery) -> bool {
    query.has("x-amz-security-token")
        || query.has("x-oss-security-token")
        || query.has("security-token")
        || query.has("x-cos-security-token")
}

/// The end in a CloudFront policy: JSON in base64 with an alphabet of CloudFront's own.
fn policy_end(policy: &str) -> Option<Timestamp> {
    let base64: String = policy
        .chars()
        .map(|c| match c {
            '-' => '+',
            '_' => '=',
            '~' => '/',
            other => other,
        })
        .collect();
    let json = LENIENT_STANDARD.decode(base64).ok()?;
    let policy: Value = serde_json::from_slice(&json).ok()?;
    let statements = policy.get("Statement")?.as_array()?;
    let ends = statements.iter().filter_map(|statement| {
        let end = statement.pointer("/Condition/DateLessThan/AWS:EpochTime")?;
        claim_time(end)
    });
    ends.min()
}

/// The claims of `token` if it is a JSON Web Token.
fn claims(token: &str) -> Option<Value> {
    if !is_jwt(token) {
        return None;
    }
    let payload = token.split('.').nth(1)?;
    let json = LENIENT_URL_SAFE.decode(payload).ok()?;
    let claims: Value = serde_json::from_slice(&json).ok()?;
    claims.is_object().then_some(claims)
}

fn claim_time(value: &Value) -> Option<Timestamp> {
    match value {
        Value::Number(number) => unix_seconds(&number.to_string()),
        Value::String(text) => unix_seconds(text),
        _ => None,
    }
}

const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const LENIENT_STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const LENIENT_URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// 2100-01-01. An end after it is a slip (milliseconds, an overflow, a "never"), not a promise.
const FAR_FUTURE_SECONDS: i64 = 4_102_444_800;

fn whole_second(seconds: i64) -> Option<Timestamp> {
    (0..FAR_FUTURE_SECONDS)
        .contains(&seconds)
        .then(|| Timestamp::from_second(seconds).ok())
        .flatten()
}

/// Seconds since 1970, a fraction cut off.
fn unix_seconds(text: &str) -> Option<Timestamp> {
    let whole = text.split_once('.').map_or(text, |(whole, _)| whole);
    whole_second(digits(whole)?)
}

/// A week: no store takes a longer life in a signature that names one, and refuses the URL.
const LONGEST_LIFE_SECONDS: i64 = 604_800;

/// `20260302T103320Z` and nothing else: a store refuses any other form of the date that it signs.
fn iso_8601_basic(text: &str) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    let is_digit = |at: usize| bytes[at].is_ascii_digit();
    let is_basic = bytes.len() == 16
        && bytes[8] == b'T'
        && bytes[15] == b'Z'
        && (0..8).chain(9..15).all(is_digit);
    // A 60th second would be read as the 59th.
    if !is_basic || &bytes[13..15] == b"60" {
        return None;
    }
    iso_8601(text)
}

/// ISO 8601, basic or extended, a date alone being its midnight; UTC where no offset stands.
fn iso_8601(text: &str) -> Option<Timestamp> {
    let at = text
        .parse::<Timestamp>()
        .ok()
        .or_else(|| midnight_or_local(text))?;
    whole_second(at.as_second())
}

fn midnight_or_local(text: &str) -> Option<Timestamp> {
    let civil: jiff::civil::DateTime = text.parse().ok()?;
    let zoned = civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    Some(zoned.timestamp())
}

/// A number of digits only: `parse` alone would also take a sign.
fn digits(text: &str) -> Option<i64> {
    text.bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| text.parse().ok())
        .flatten()
}

/// A URL's query: names in lower case, values decoded, in order.
pub(super) struct UrlQuery(Vec<(String, String)>);

impl UrlQuery {
    pub(super) fn of(url: &str) -> UrlQuery {
        let before_fragment = url.split('#').next().unwrap_or_default();
        let query = before_fragment
            .split_once('?')
            .map_or("", |(_, query)| query);
        UrlQuery::of_pairs(query)
    }

    /// Of `name=value` pairs with `&` in between.
    fn of_pairs(pairs: &str) -> UrlQuery {
        let pairs = pairs.split('&').filter(|pair| !pair.is_empty());
        UrlQuery(
            pairs
                .map(|pair| {
                    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                    let name = decoded(name).to_ascii_lowercase();
                    (name, decoded(value).into_owned())
                })
                .collect(),
        )
    }

    /// Whether a parameter, as it stands in a URL, is a token that was added to it, or a part of one.
    pub(super) fn is_token(parameter: &str) -> bool {
        const NAMES: [&str; 5] = ["token", "expires", "token_path", "exp", "iat"];
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let name = decoded(name).to_ascii_lowercase();
        NAMES.contains(&&*name) || is_akamai_name(&name) || is_jwt(&decoded(value))
    }

    fn has(&self, name: &str) -> bool {
        self.0
            .iter()
            .any(|(n, value)| n == name && !value.is_empty())
    }

    /// The least of what the values of `name` say: of two that disagree the earlier end is the safe one.
    fn earliest<T: Ord>(&self, name: &str, read: impl Fn(&str) -> Option<T>) -> Option<T> {
        self.0
            .iter()
            .filter(|(n, _)| n == name)
            .filter_map(|(_, value)| read(value))
            .min()
    }
}

/// Percent-decoded. A `+` stays: none of the schemes writes a space.
fn decoded(text: &str) -> Cow<'_, str> {
    percent_decode_str(text).decode_utf8_lossy()
}
