//! The layers of the configuration, laid over each other: file, environment, flags.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::{Table, Value};

use super::layers::{Layers, environment_keys, folded};
use super::toml_fault::{explain, plain};
use super::{Config, definition, implicit};
use crate::error::{Error, Result};

/// Reads, merges and checks the configuration.
///
/// # Errors
/// `invalid`, naming file, line and key, or the variable, or the flag; or since `./harvester.toml`, which nobody named,
/// may be somebody else's. No error repeats a secret.
pub fn load(layers: &Layers) -> Result<Config> {
    let mut implicit_file = None;
    let (mut table, folder) = match read_file(layers.file.as_deref())? {
        Some((path, text)) => {
            if layers.file.is_none() {
                implicit_file = Some(implicit::shown());
            }
            let folder = path.parent().map(Path::to_owned).unwrap_or_default();
            (parse_file(&path, &text)?, folder)
        }
        None => (Table::new(), PathBuf::new()),
    };
    if implicit_file.is_some() {
        implicit::check_credentials(&table, layers)?;
    }
    for (name, value) in &layers.environment {
        let Some(keys) = environment_keys(name) else {
            continue;
        };
        overlay(&mut table, name, &keys, value)?;
    }
    for (key, value) in &layers.flags {
        let keys: Vec<_> = key.split('.').map(str::to_owned).collect();
        overlay(&mut table, &format!("--set {key}"), &keys, value)?;
    }
    let mut config = read_table(table).map_err(Error::invalid)?;
    config.implicit_file = implicit_file;
    for (name, source) in &mut config.sources {
        definition::resolve(name, source, &folder)?;
    }
    config.validate()?;
    Ok(config)
}

fn read_file(named: Option<&Path>) -> Result<Option<(PathBuf, String)>> {
    let Some(path) = named else {
        return implicit::read();
    };
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some((path.to_owned(), text))),
        Err(error) => {
            let message = format!("read the configuration file {}", path.display());
            Err(Error::invalid(message).with_source(error))
        }
    }
}

/// The file is read into the typed form first, since only that knows the lines of unknown keys.
fn parse_file(path: &Path, text: &str) -> Result<Table> {
    toml::from_str::<Config>(text).map_err(|error| explain(path, text, &error))?;
    toml::from_str(text).map_err(|error| explain(path, text, &error))
}

/// Lays one value over the table. It is read by itself first, so that an error can name where it came from.
fn overlay(table: &mut Table, origin: &str, keys: &[String], value: &str) -> Result<()> {
    let refuse = |reason: String| Error::invalid(format!("{origin}: {reason}"));
    if let [section] = keys
        && ["admin", "archive", "sources", "guard", "limits", "store"].contains(&section.as_str())
    {
        return Err(refuse("this is a section; set one of its keys".to_owned()));
    }
    if keys.len() == 2 && keys[0] == "sources" {
        return Err(refuse("name the source and its key".to_owned()));
    }
    let keys = existing_source(table, keys);
    let mut alone = Table::new();
    insert(&mut alone, &keys, value);
    read_table(alone).map_err(refuse)?;
    insert(table, &keys, value);
    Ok(())
}

/// Finds the source that the file spells otherwise: `my_daily` may be its `My-Daily`.
fn existing_source(table: &Table, keys: &[String]) -> Vec<String> {
    let mut keys = keys.to_vec();
    if let [section, name, _] = keys.as_mut_slice()
        && section == "sources"
        && let Some(Value::Table(sources)) = table.get("sources")
        && !sources.contains_key(name)
        && let Some(existing) = sources.keys().find(|key| folded(key) == folded(name))
    {
        *name = existing.clone();
    }
    keys
}

fn insert(table: &mut Table, keys: &[String], value: &str) {
    let Some((last, sections)) = keys.split_last() else {
        return;
    };
    let mut table = table;
    for section in sections {
        let entry = table
            .entry(section.clone())
            .or_insert_with(|| Value::Table(Table::new()));
        if !entry.is_table() {
            *entry = Value::Table(Table::new());
        }
        let Value::Table(inner) = entry else { return };
        table = inner;
    }
    table.insert(last.clone(), Value::String(value.to_owned()));
}

fn read_table(table: Table) -> Result<Config, String> {
    Config::deserialize(table).map_err(|error| plain(error.message()))
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;
    use crate::config::ByteSize;
    use crate::model::Provider;

    fn load_text(
        text: &str,
        environment: &[(&str, &str)],
        flags: &[(&str, &str)],
    ) -> Result<Config> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("harvester.toml");
        std::fs::write(&file, text).unwrap();
        let owned = |pairs: &[(&str, &str)]| {
            let owned = pairs
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
            owned.collect::<Vec<_>>()
        };
        load(&Layers {
            file: Some(file),
            environment: owned(environment),
            flags: owned(flags),
        })
    }

    fn refusal(text: &str, environment: &[(&str, &str)], flags: &[(&str, &str)]) -> String {
        load_text(text, environment, flags)
            .unwrap_err()
            .full_message()
    }

    #[test]
    fn flags_win_over_environment_and_environment_over_file() {
        let text = "[archive]\nbucket = \"from-file\"\nprefix = \"kept\"\n";
        let config = load_text(text, &[], &[]).unwrap();
        assert_eq!(config.archive.bucket.as_deref(), Some("from-file"));
        let environment = [("HARVESTER_ARCHIVE__BUCKET", "from-env")];
        let config = load_text(text, &environment, &[]).unwrap();
        assert_eq!(config.archive.bucket.as_deref(), Some("from-env"));
        let config = load_text(text, &environment, &[("archive.bucket", "from-flag")]).unwrap();
        assert_eq!(config.archive.bucket.as_deref(), Some("from-flag"));
        assert_eq!(config.archive.prefix, "kept");
    }

    #[test]
    fn every_type_can_come_as_text() {
        let config = load_text(
            "",
            &[
                ("HARVESTER_DATA_DIR", "/var/lib/harvester"),
                ("HARVESTER_LISTEN", "127.0.0.1:0"),
                ("HARVESTER_ARCHIVE__PATH_STYLE", "true"),
                ("HARVESTER_GUARD__ALLOW_HTTP", "yes"),
                (
                    "HARVESTER_GUARD__ALLOW_NETWORKS",
                    "10.0.0.0/8, fd00::/8,127.0.0.1",
                ),
                ("HARVESTER_LIMITS__MEMORY", "512 MiB"),
                ("HARVESTER_LIMITS__TRANSFERS", "3"),
                ("HARVESTER_SOURCES__DAILY__SECRETS", "old-secret,new-secret"),
                ("HARVESTER_SOURCES__DAILY__ALLOW_HOSTS", "*.daily.co"),
                ("UNRELATED", "x"),
            ],
            &[],
        )
        .unwrap();
        assert_eq!(config.archive.path_style, Some(true));
        assert!(config.guard.allow_http);
        assert_eq!(config.guard.allow_networks.len(), 3);
        assert_eq!(config.limits.memory, ByteSize(512 << 20));
        assert_eq!(config.limits.transfers, 3);
        let sources = config.resolved_sources();
        assert_eq!(sources.len(), 1);
        let (provider, daily) = &sources["daily"];
        assert_eq!(*provider, Provider::Daily);
        assert_eq!(daily.secrets[1].expose_secret(), "new-secret");
        assert_eq!(daily.allow_hosts, ["*.daily.co"]);
    }

    #[test]
    fn the_environment_finds_a_source_with_a_dash() {
        let text = "[sources.My-Daily]\nprovider = \"daily\"\n";
        let key = ("HARVESTER_SOURCES__MY_DAILY__API_KEY", "key");
        let config = load_text(text, &[key], &[]).unwrap();
        assert_eq!(config.sources.len(), 1);
        assert!(config.sources["My-Daily"].api_key.is_some());
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line() {
        let message = refusal(
            "listen = \"127.0.0.1:1\"\n[archive]\nbuket = \"x\"\n",
            &[],
            &[],
        );
        assert!(
            message.contains("harvester.toml:3:1: unknown key `buket`"),
            "{message}"
        );
        let message = refusal("", &[("HARVESTER_ARCHIVE__BUKET", "x")], &[]);
        assert!(
            message.starts_with("HARVESTER_ARCHIVE__BUKET: unknown key `buket`"),
            "{message}"
        );
        let message = refusal("", &[], &[("archive.buket", "x")]);
        assert!(
            message.starts_with("--set archive.buket: unknown key `buket`"),
            "{message}"
        );
        let message = refusal("", &[("HARVESTER_ARCHIVE", "x")], &[]);
        assert!(message.contains("this is a section"), "{message}");
    }

    #[test]
    fn no_error_repeats_a_value_that_may_be_secret() {
        let secret = "canary-3141592653";
        for text in [
            format!("[sources.daily]\napi_key = \"{secret}\" junk\n"),
            format!("[sources.daily]\napi_key = [\"{secret}\"]\n"),
            "[sources.daily]\napi_key = 3141592653\n".to_owned(),
            "[admin]\ntoken = 3141592653\n".to_owned(),
            "[sources.daily]\nsecrets = 3141592653\n".to_owned(),
            format!("[guard]\nallow_http = \"{secret}\"\n"),
        ] {
            let message = refusal(&text, &[], &[]);
            assert!(!message.contains("3141592653"), "{message}");
            assert!(message.contains("harvester.toml:2:"), "{message}");
        }
        for name in [
            "HARVESTER_ADMIN",
            "HARVESTER_SOURCES__DAILY",
            "HARVESTER_LIMITS__LANES",
        ] {
            let message = refusal("", &[(name, secret)], &[]);
            assert!(!message.contains(secret), "{message}");
        }
        let config = load_text("", &[("HARVESTER_ADMIN__TOKEN", secret)], &[]).unwrap();
        assert!(!format!("{config:?}").contains(secret));
    }

    #[test]
    fn variables_that_kubernetes_makes_are_passed_over() {
        let environment = [
            ("HARVESTER_PORT", "tcp://10.0.0.1:80"),
            ("HARVESTER_PORT_80_TCP_ADDR", "10.0.0.1"),
            ("HARVESTER_SERVICE_HOST", "10.0.0.1"),
        ];
        assert!(load_text("", &environment, &[]).is_ok());
    }

    #[test]
    fn a_named_file_must_be_there() {
        let layers = Layers {
            file: Some("no-such-file.toml".into()),
            ..Layers::default()
        };
        let message = load(&layers).unwrap_err().full_message();
        assert!(message.contains("no-such-file.toml"), "{message}");
    }

    #[test]
    fn without_any_configuration_every_provider_is_a_source() {
        let config = load_text("", &[], &[]).unwrap();
        let names: Vec<_> = config.resolved_sources().into_keys().collect();
        assert_eq!(
            names,
            ["100ms", "daily", "dyte", "meetingbaas", "realtimekit"]
        );
        assert_eq!(
            config.store_path(),
            Path::new("./harvester-data/harvester.db")
        );
    }
}
