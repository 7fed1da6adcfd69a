//! What the configuration says about a provider that we do not know: the tables of a definition, and the
//! checks that types can't make.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, Deserializer, MapAccess, Visitor};

use super::path::Path;
use super::signing::{EncodingName, SchemeName, SignatureTable};
use super::span::Span;
use super::template::Template;
use crate::ingest::signature::{Encoding, KeyForm, SignatureScheme};
use crate::model::{Format, Kind, Provider};
use crate::signed_url::PLAIN_HTTP;

/// A provider as the configuration defines it; checked as a whole when it is read.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "Tables")]
pub struct ProviderDefinition {
    /// Its name in keys and records.
    pub provider: Provider,
    /// How its deliveries are signed.
    pub scheme: SignatureScheme,
    pub(super) key: KeyForm,
    pub(super) tables: Tables,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tables {
    provider: String,
    #[serde(default)]
    pub(super) ignored: Vec<TypePattern>,
    #[serde(default)]
    pub(super) hide: Vec<Path>,
    #[serde(default)]
    signature: SignatureTable,
    pub(super) event: EventTable,
    #[serde(default)]
    pub(super) recording: RecordingTable,
    #[serde(default)]
    pub(super) artifacts: Vec<ArtifactTable>,
    #[serde(default)]
    pub(super) failures: Vec<FailureTable>,
    pub(super) handshake: Option<HandshakeTable>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EventTable {
    #[serde(rename = "type")]
    pub(super) event_type: Option<Path>,
    pub(super) id: Option<Path>,
    pub(super) id_header: Option<String>,
    pub(super) time: Option<Path>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RecordingTable {
    pub(super) recording_id: Option<Path>,
    pub(super) session_id: Option<Path>,
    pub(super) room_id: Option<Path>,
    pub(super) room_name: Option<Path>,
    pub(super) started_at: Option<Path>,
    pub(super) ended_at: Option<Path>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ArtifactTable {
    pub(super) types: Vec<TypePattern>,
    pub(super) when: Option<Path>,
    pub(super) each: Option<Path>,
    pub(super) id: Option<Path>,
    pub(super) url: Path,
    pub(super) kind: Choice<Kind>,
    pub(super) format: Option<Choice<Format>>,
    pub(super) name: Option<Template>,
    pub(super) size: Option<Path>,
    pub(super) deadline: Option<Path>,
    pub(super) token: Option<Path>,
    pub(super) lifetime: Option<Span>,
    #[serde(default)]
    pub(super) secret_path: bool,
    #[serde(default)]
    pub(super) needs_lookup: bool,
    pub(super) header: Option<HeaderTable>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HeaderTable {
    pub(super) name: String,
    pub(super) value: Template,
    pub(super) hosts: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FailureTable {
    pub(super) types: Vec<TypePattern>,
    pub(super) when: Option<Path>,
    pub(super) code: Option<Path>,
    pub(super) message: Option<Path>,
    pub(super) kind: Option<KindName>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HandshakeTable {
    pub(super) types: Vec<TypePattern>,
    pub(super) token: Option<Path>,
    pub(super) answer: Option<Template>,
    #[serde(default = "json_type")]
    pub(super) content_type: String,
    encoding: Option<EncodingName>,
}

fn json_type() -> String {
    "application/json".to_owned()
}

/// A type of event by its name, or by its beginning and `*`.
#[derive(Clone, Debug, Deserialize)]
#[serde(transparent)]
pub(super) struct TypePattern(String);

impl fmt::Display for TypePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TypePattern {
    fn fits(&self, event_type: &str) -> bool {
        match self.0.strip_suffix('*') {
            Some(beginning) => event_type.starts_with(beginning),
            None => event_type == self.0,
        }
    }
}

/// Whether the type is one of `patterns`.
pub(super) fn is_one_of(patterns: &[TypePattern], event_type: Option<&str>) -> bool {
    let event_type = event_type.unwrap_or_default();
    patterns.iter().any(|pattern| pattern.fits(event_type))
}

/// One value for all, or one by what stands somewhere.
#[derive(Clone, Debug)]
pub(super) enum Choice<T> {
    Fixed(T),
    By(By<T>),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, bound(deserialize = "T: DeserializeOwned"))]
pub(super) struct By<T> {
    pub(super) path: Path,
    #[serde(default = "BTreeMap::new")]
    pub(super) map: BTreeMap<String, T>,
    pub(super) otherwise: Option<T>,
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Choice<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ChoiceVisitor<T>(PhantomData<T>);

        impl<'de, T: DeserializeOwned> Visitor<'de> for ChoiceVisitor<T> {
            type Value = Choice<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name, or a table with `path`, `map` and `otherwise`")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Choice<T>, E> {
                let text: serde::de::value::StrDeserializer<'_, E> =
                    serde::de::IntoDeserializer::into_deserializer(text);
                T::deserialize(text).map(Choice::Fixed)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Choice<T>, A::Error> {
                By::deserialize(MapAccessDeserializer::new(map)).map(Choice::By)
            }
        }

        deserializer.deserialize_any(ChoiceVisitor(PhantomData))
    }
}

/// A kind, by its public name.
pub(super) type KindName = Kind;

impl TryFrom<Tables> for ProviderDefinition {
    type Error = String;

    fn try_from(tables: Tables) -> Result<ProviderDefinition, String> {
        let is_taken =
            Provider::built_in(&tables.provider).is_some() || tables.provider == "custom";
        let provider = Provider::named(&tables.provider)
            .filter(|_| !is_taken)
            .ok_or(
                "provider must be a name of your own: letters, digits, dashes and underscores",
            )?;
        tables.check()?;
        let (scheme, key) = tables.signature.scheme()?;
        Ok(ProviderDefinition {
            provider,
            scheme,
            key,
            tables,
        })
    }
}

impl Tables {
    fn check(&self) -> Result<(), String> {
        if self.artifacts.is_empty() && self.failures.is_empty() {
            return Err("a definition needs [[artifacts]] or [[failures]]".to_owned());
        }
        let one = [
            &self.event.event_type,
            &self.event.id,
            &self.event.time,
            &self.recording.recording_id,
            &self.recording.session_id,
            &self.recording.room_id,
            &self.recording.room_name,
            &self.recording.started_at,
            &self.recording.ended_at,
        ];
        let failures = self
            .failures
            .iter()
            .flat_map(|f| [&f.when, &f.code, &f.message]);
        let artifacts = self.artifacts.iter().flat_map(|a| [&a.when, &a.each]);
        let outside = one.into_iter().chain(failures).chain(artifacts).flatten();
        for path in outside.chain(&self.hide) {
            if path.is_of_item() {
                return Err(format!(
                    "`{}`: there is no item here, paths begin with $",
                    path.text()
                ));
            }
        }
        self.artifacts.iter().try_for_each(ArtifactTable::check)?;
        match &self.handshake {
            Some(handshake) => handshake.check(self.signature.scheme),
            None => Ok(()),
        }
    }
}

impl ArtifactTable {
    fn check(&self) -> Result<(), String> {
        if let Some(name) = &self.name {
            let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            if name.literals().any(|text| !text.chars().all(is_plain)) {
                return Err(
                    "name may hold letters, digits, dashes, underscores and dots".to_owned(),
                );
            }
            if let Some(word) = name.words().find(|word| !["kind", "format"].contains(word)) {
                return Err(format!(
                    "name has the unknown {{{word}}}: {{kind}}, {{format}} or a path"
                ));
            }
        }
        let Some(header) = &self.header else {
            return Ok(());
        };
        if http::HeaderName::try_from(header.name.as_str()).is_err() {
            return Err("header.name is no name of an HTTP header".to_owned());
        }
        if header.value.words().next().is_some() {
            return Err("header.value may hold paths such as {$.token}".to_owned());
        }
        let is_host = |host: &String| {
            let host = host.strip_prefix(PLAIN_HTTP).unwrap_or(host);
            let plain = host.strip_prefix("*.").unwrap_or(host);
            !plain.is_empty() && !plain.contains(['*', '/', ':', '@', '?'])
        };
        if header.hosts.is_empty() || !header.hosts.iter().all(is_host) {
            return Err(
                "header.hosts must name who may see the header: `host`, or `*.` and a domain (over plain http: `http://` and that)"
                    .to_owned(),
            );
        }
        Ok(())
    }
}

impl HandshakeTable {
    fn check(&self, scheme: SchemeName) -> Result<(), String> {
        let Some(answer) = &self.answer else {
            return Ok(());
        };
        for word in answer.words() {
            match word {
                "token" | "hmac" if self.token.is_none() => {
                    return Err("handshake.answer needs handshake.token".to_owned());
                }
                "token" => {}
                // Whoever can ask for it can have a token signed, so it must be the provider who asks.
                "hmac" if matches!(scheme, SchemeName::Hmac | SchemeName::StandardWebhooks) => {}
                "hmac" => {
                    return Err("handshake.answer may hold {hmac} only where deliveries are signed with one".to_owned());
                }
                _ => {
                    return Err(format!(
                        "handshake.answer has the unknown {{{word}}}: {{token}} or {{hmac}}"
                    ));
                }
            }
        }
        match answer.paths().next() {
            Some(_) => Err("handshake.answer may hold {token} and {hmac}, and no paths".to_owned()),
            None => Ok(()),
        }
    }

    pub(super) fn encoding(&self) -> Encoding {
        self.encoding.map_or(Encoding::Hex, EncodingName::encoding)
    }
}
