//! Values of arguments that several commands share.

use jiff::{SignedDuration, Timestamp};

use super::output::CommandFailure;
use crate::config::Config;
use crate::error::Class;
use crate::model::{Provider, State};

/// Since when: an instant, or so long ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Since {
    At(Timestamp),
    Ago(SignedDuration),
}

impl Since {
    pub(super) fn from(self, now: Timestamp) -> Timestamp {
        match self {
            Since::At(at) => at,
            Since::Ago(length) => now.saturating_sub(length).unwrap_or(Timestamp::MIN),
        }
    }
}

pub(super) fn since(text: &str) -> Result<Since, String> {
    const EXPECTED: &str =
        "expected a time such as 2026-03-02T10:00:00Z, or a length such as 7d, 12h or 30m";
    if let Ok(at) = text.parse() {
        return Ok(Since::At(at));
    }
    let unit = text.chars().last().filter(char::is_ascii).ok_or(EXPECTED)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        'w' => 604_800,
        _ => return Err(EXPECTED.to_owned()),
    };
    let number: u32 = text[..text.len() - 1].parse().map_err(|_| EXPECTED)?;
    Ok(Since::Ago(SignedDuration::from_secs(
        i64::from(number) * seconds,
    )))
}

pub(super) fn instant(text: &str) -> Result<Timestamp, String> {
    text.parse()
        .map_err(|_| "expected a time such as 2026-03-02T10:00:00Z".to_owned())
}

pub(super) fn web_url(text: &str) -> Result<url::Url, String> {
    let url = url::Url::parse(text).ok();
    url.filter(|url| ["http", "https"].contains(&url.scheme()))
        .ok_or_else(|| "expected an absolute http or https URL".to_owned())
}

pub(super) fn provider(text: &str) -> Result<Provider, String> {
    // Those of the configuration are not known yet; `known_provider` looks at them.
    Provider::named(text).ok_or_else(|| format!("expected one of {}", built_in_names()))
}

fn built_in_names() -> String {
    Provider::ALL.map(Provider::as_str).join(", ")
}

/// Refuses a provider that is neither built in nor defined by the configuration.
pub(super) fn known_provider(
    provider: Option<Provider>,
    config: &Config,
) -> Result<(), CommandFailure> {
    let Some(Provider::Custom(name)) = provider else {
        return Ok(());
    };
    let mut sources = config.resolved_sources().into_values();
    if sources.any(|(defined, _)| Some(defined) == provider) {
        return Ok(());
    }
    Err(CommandFailure::Usage(format!(
        "there is no provider {name}: it is one of {}, or one that a source of the configuration defines",
        built_in_names()
    )))
}

pub(super) fn state(text: &str) -> Result<State, String> {
    let names = || State::ALL.map(State::as_str).join(", ");
    State::parse(text).ok_or_else(|| format!("expected one of {}", names()))
}

pub(super) fn class(text: &str) -> Result<Class, String> {
    let names = || Class::ALL.map(Class::as_str).join(", ");
    Class::parse(text).ok_or_else(|| format!("expected one of {}", names()))
}

/// `KEY=VALUE`. The error does not repeat the text, whose value may be a secret.
pub(super) fn setting(text: &str) -> Result<(String, String), String> {
    let (key, value) = text
        .split_once('=')
        .ok_or("expected KEY=VALUE, such as archive.bucket=my-bucket")?;
    Ok((key.trim().to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_is_an_instant_or_a_length() {
        let now: Timestamp = "2026-03-09T12:00:00Z".parse().unwrap();
        for (text, expected) in [
            ("2026-03-02T10:00:00Z", "2026-03-02T10:00:00Z"),
            ("2026-03-02T10:00:00+02:00", "2026-03-02T08:00:00Z"),
            ("7d", "2026-03-02T12:00:00Z"),
            ("12h", "2026-03-09T00:00:00Z"),
            ("30m", "2026-03-09T11:30:00Z"),
        ] {
            assert_eq!(since(text).unwrap().from(now).to_string(), expected);
        }
        for text in [
            "",
            "d",
            "-1d",
            "7 years",
            "2026-03-02",
            "2026-03-02T10:00:00",
            "é",
        ] {
            assert!(since(text).is_err(), "{text}");
        }
    }
}
