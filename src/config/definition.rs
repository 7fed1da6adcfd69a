//! The definition of a provider of one's own: in a file of its own, or in the configuration itself.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};

use super::SourceConfig;
use super::toml_fault::explain;
use crate::error::{Error, Result};
use crate::ingest::{Adapter, ProviderDefinition};
use crate::model::Provider;

/// The name that says "defined here".
const CUSTOM: &str = "custom";

/// Where a definition is.
#[derive(Clone, Debug)]
pub enum DefinitionSetting {
    /// In this file, relative to the configuration's; [`load`](super::load()) reads it.
    File(PathBuf),
    /// Here.
    Inline(Arc<ProviderDefinition>),
}

impl<'de> Deserialize<'de> for DefinitionSetting {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SettingVisitor;

        impl<'de> Visitor<'de> for SettingVisitor {
            type Value = DefinitionSetting;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the path of a file, or the definition's tables")
            }

            fn visit_str<E: serde::de::Error>(self, path: &str) -> Result<DefinitionSetting, E> {
                Ok(DefinitionSetting::File(PathBuf::from(path)))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<DefinitionSetting, A::Error> {
                let definition = ProviderDefinition::deserialize(MapAccessDeserializer::new(map))?;
                Ok(DefinitionSetting::Inline(Arc::new(definition)))
            }
        }

        deserializer.deserialize_any(SettingVisitor)
    }
}

impl SourceConfig {
    /// The definition, once it was read.
    pub fn definition(&self) -> Option<&Arc<ProviderDefinition>> {
        match &self.definition {
            Some(DefinitionSetting::Inline(definition)) => Some(definition),
            _ => None,
        }
    }

    /// Who reads the deliveries of this source, which is one of `provider`.
    pub fn adapter(&self, provider: Provider) -> Adapter {
        match self.definition() {
            Some(definition) => Adapter::Custom(Arc::clone(definition)),
            None => Adapter::BuiltIn(provider),
        }
    }

    /// The provider of this source when it is called `name`.
    pub(super) fn provider_under(&self, name: &str) -> Option<Provider> {
        let defined = self.definition().map(|definition| definition.provider);
        let built_in = |provider: &Provider| !matches!(provider, Provider::Custom(_));
        defined
            .or(self.provider.filter(built_in))
            .or_else(|| Provider::built_in(name).filter(|_| self.provider.is_none()))
    }
}

/// `provider`: a built-in one, or `custom`.
pub(super) fn provider<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Provider>, D::Error> {
    let name = String::deserialize(deserializer)?;
    let known =
        Provider::built_in(&name).or_else(|| Provider::named(CUSTOM).filter(|_| name == CUSTOM));
    known.map(Some).ok_or_else(|| {
        D::Error::custom(format!(
            "unknown provider `{}`, expected one of 100ms, meetingbaas, daily, dyte, realtimekit, custom",
            name.escape_debug()
        ))
    })
}

/// Reads the definition's file, if it is in one.
pub(super) fn resolve(name: &str, source: &mut SourceConfig, folder: &Path) -> Result<()> {
    let Some(DefinitionSetting::File(path)) = &source.definition else {
        return Ok(());
    };
    let path = folder.join(path);
    let text = std::fs::read_to_string(&path).map_err(|error| {
        let path = path.display();
        Error::invalid(format!(
            "sources.{name}.definition: the file {path} can't be read"
        ))
        .with_source(error)
    })?;
    let definition: ProviderDefinition =
        toml::from_str(&text).map_err(|error| explain(&path, &text, &error))?;
    source.definition = Some(DefinitionSetting::Inline(Arc::new(definition)));
    Ok(())
}

/// Whether provider and definition of the source called `name` fit together.
pub(super) fn validate(name: &str, source: &SourceConfig) -> Result<()> {
    let is_custom = matches!(source.provider, Some(Provider::Custom(_)));
    let refuse = |message: String| Err(Error::invalid(message));
    match (&source.definition, source.provider) {
        (Some(_), Some(_)) if !is_custom => refuse(format!(
            "sources.{name}.definition is for providers of your own: set sources.{name}.provider = \"custom\""
        )),
        (None, Some(_)) if is_custom => refuse(format!(
            "sources.{name}.provider is custom: set sources.{name}.definition as well"
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Layers, load};

    const DEFINITION: &str = "provider = \"acme-load\"\n[event]\ntype = \"$.t\"\n[[artifacts]]\ntypes = [\"x\"]\nurl = \"$.u\"\nkind = \"video\"\n";

    fn load_beside(definition: &str, config: &str) -> Result<Config> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("sources")).unwrap();
        std::fs::write(folder.path().join("sources/acme.toml"), definition).unwrap();
        let file = folder.path().join("harvester.toml");
        std::fs::write(&file, config).unwrap();
        load(&Layers {
            file: Some(file),
            ..Layers::default()
        })
    }

    #[test]
    fn a_definition_is_found_beside_the_configuration_or_in_it() {
        let in_file = "[sources.a]\nprovider = \"custom\"\ndefinition = \"sources/acme.toml\"\n";
        let without_provider = "[sources.a]\ndefinition = \"sources/acme.toml\"\n";
        let tables = DEFINITION.replace("[event]", "[sources.a.definition.event]");
        let tables = tables.replace("[[artifacts]]", "[[sources.a.definition.artifacts]]");
        let inline =
            format!("[sources.a]\nprovider = \"custom\"\n[sources.a.definition]\n{tables}");
        for config in [in_file, without_provider, &inline] {
            let config = load_beside(DEFINITION, config).unwrap();
            let (provider, source) = &config.resolved_sources()["a"];
            assert_eq!(provider.as_str(), "acme-load");
            assert_eq!(source.adapter(*provider).provider(), *provider);
        }
    }

    #[test]
    fn what_is_wrong_with_a_definition_is_told_with_file_line_and_key() {
        let with_file = "[sources.a]\nprovider = \"custom\"\ndefinition = \"sources/acme.toml\"\n";
        for (definition, config, expected) in [
            (
                DEFINITION.replace("kind", "sort"),
                with_file,
                "acme.toml:7:",
            ),
            (
                DEFINITION.replace("kind", "sort"),
                with_file,
                "unknown key `sort`",
            ),
            (DEFINITION.replace("$.u", "u"), with_file, "acme.toml:6:"),
            (
                DEFINITION.to_owned(),
                "[sources.a]\nprovider = \"custom\"",
                "sources.a.definition",
            ),
            (
                DEFINITION.to_owned(),
                "[sources.daily]\nprovider = \"daily\"\ndefinition = \"sources/acme.toml\"",
                "sources.daily.provider = \"custom\"",
            ),
            (
                DEFINITION.to_owned(),
                "[sources.a]\nprovider = \"custom\"\ndefinition = \"missing.toml\"",
                "sources.a.definition: the file",
            ),
            (
                DEFINITION.to_owned(),
                "[sources.a]\nprovider = \"custom\"\ndefinition = \"sources/acme.toml\"\napi_key = \"k\"\nreconcile = \"15m\"",
                "sources.a.reconcile is set, and its provider has no list",
            ),
            (
                DEFINITION.to_owned(),
                "[sources.a]\nprovider = \"zoom\"",
                "unknown provider `zoom`",
            ),
            (
                DEFINITION.to_owned(),
                "[sources.a]\nprovider = \"custom\"\n[sources.a.definition]\ncolour = 1",
                "harvester.toml:4:",
            ),
        ] {
            let error = load_beside(&definition, config).unwrap_err().full_message();
            assert!(error.contains(expected), "{config}: {error}");
        }
    }
}
