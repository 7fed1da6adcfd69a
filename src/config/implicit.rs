//! `./harvester.toml`, which nobody named. A folder of somebody else's may hold one that sends credentials and
//! recordings to them. So it is read only if nobody else can have written it, and never decides where a credential of
//! the environment goes.

use std::fs::{File, Metadata};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use toml::{Table, Value};

use super::layers::{Layers, environment_keys, folded};
use crate::error::{Error, Result};

/// The file that is read when none is named, if it is there.
const FILE: &str = "harvester.toml";

/// What the AWS chain takes from the environment: credentials, or where they are.
const AWS_CREDENTIALS: [&str; 7] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_PROFILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
];

/// The file's text, if there is one.
///
/// # Errors
/// `invalid` when it can't be read, or when somebody else may have written it.
pub(super) fn read() -> Result<Option<(PathBuf, String)>> {
    let failed = |error: std::io::Error| {
        Error::invalid(format!("read the configuration file ./{FILE}")).with_source(error)
    };
    let mut file = match File::open(FILE) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    // Of the open file: what is judged is what is read.
    let its_own = file.metadata().map_err(failed)?;
    let folder = std::fs::metadata(".").map_err(failed)?;
    for (what, metadata) in [("it", its_own), ("its folder", folder)] {
        judge(Owned::of(&metadata), Us::here()).map_err(|why| {
            Error::invalid(format!(
                "./{FILE} is not used, since {what} {why}; `--config {FILE}` uses it all the same"
            ))
        })?;
    }
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(failed)?;
    Ok(Some((PathBuf::from(FILE), text)))
}

/// Whose a file or folder is, and who else may write it.
#[derive(Clone, Copy, Debug)]
struct Owned {
    user: u32,
    group: u32,
    mode: u32,
}

impl Owned {
    fn of(metadata: &Metadata) -> Owned {
        Owned {
            user: metadata.uid(),
            group: metadata.gid(),
            mode: metadata.mode(),
        }
    }
}

/// Who this process is.
#[derive(Clone, Copy, Debug)]
struct Us {
    user: u32,
    group: u32,
}

impl Us {
    fn here() -> Us {
        Us {
            user: rustix::process::geteuid().as_raw(),
            group: rustix::process::getegid().as_raw(),
        }
    }
}

/// Whether nobody but us and root can have written it.
///
/// # Errors
/// Why not; fits after "it".
fn judge(owned: Owned, us: Us) -> Result<(), &'static str> {
    if owned.user != us.user && owned.user != 0 {
        return Err("belongs to another user");
    }
    if owned.mode & 0o002 != 0 {
        return Err("can be written by everybody");
    }
    // Many systems give each user a group of the same number and let files be written by it.
    let is_private_group = owned.group == us.group && us.group == us.user;
    if owned.mode & 0o020 != 0 && !is_private_group {
        return Err("can be written by its group");
    }
    Ok(())
}

/// Whether an address of the file would be told a credential that does not stand in it.
///
/// # Errors
/// `invalid`, naming both.
pub(super) fn check_credentials(file: &Table, layers: &Layers) -> Result<()> {
    let given: Vec<Vec<String>> = layers
        .environment
        .iter()
        .filter_map(|(name, _)| environment_keys(name))
        .chain(layers.flags.iter().map(|(key, _)| {
            let keys = key.split('.').map(str::to_owned);
            keys.collect()
        }))
        .collect();
    let is_given = |wanted: &[&str]| {
        given.iter().any(|keys| {
            keys.len() == wanted.len()
                && keys
                    .iter()
                    .zip(wanted)
                    .all(|(key, wanted)| folded(key) == folded(wanted))
        })
    };
    let refuse = |address: &str, credential: &str| {
        Err(Error::invalid(format!(
            "./{FILE} sets {address}, and {credential}, which does not stand in that file, would go there: if that is \
             intended, name the file with `--config {FILE}`"
        )))
    };
    let in_file = |section: &str, key: &str| {
        let section = file.get(section).and_then(Value::as_table);
        section.is_some_and(|table| table.contains_key(key))
    };
    let aws = layers.environment.iter().map(|(name, _)| name.as_str());
    if in_file("archive", "endpoint")
        && !is_given(&["archive", "endpoint"])
        && let Some(name) = aws.into_iter().find(|name| AWS_CREDENTIALS.contains(name))
    {
        return refuse("archive.endpoint", name);
    }
    let sources = file.get("sources").and_then(Value::as_table);
    for (name, source) in sources.into_iter().flatten() {
        let has_address = source
            .as_table()
            .is_some_and(|table| table.contains_key("base_url"));
        if !has_address || is_given(&["sources", name, "base_url"]) {
            continue;
        }
        for secret in ["api_key", "api_secret"] {
            if is_given(&["sources", name, secret]) {
                let address = format!("sources.{}.base_url", name.escape_debug());
                return refuse(&address, &format!("the source's {secret}"));
            }
        }
    }
    Ok(())
}

/// The file as a person names it.
pub(super) fn shown() -> String {
    format!("./{FILE}")
}

#[cfg(test)]
mod tests {
    use super::*;

    // S13
    #[test]
    fn a_file_that_others_may_have_written_is_not_trusted() {
        let us = Us {
            user: 1000,
            group: 1000,
        };
        let verdict = |user, group, mode| judge(Owned { user, group, mode }, us);
        for (user, group, mode) in [
            (1000, 1000, 0o100_644),
            (1000, 50, 0o100_644),
            (0, 0, 0o100_644),
            (1000, 1000, 0o100_664),
            (1000, 1000, 0o040_775),
        ] {
            assert_eq!(
                verdict(user, group, mode),
                Ok(()),
                "{user} {group} {mode:o}"
            );
        }
        for (user, group, mode) in [
            (1001, 1000, 0o100_600),
            (1000, 1000, 0o100_666),
            (1000, 50, 0o100_664),
            (0, 0, 0o100_664),
            (0, 0, 0o041_777),
        ] {
            assert!(
                verdict(user, group, mode).is_err(),
                "{user} {group} {mode:o}"
            );
        }
        let daemon = Us { user: 7, group: 50 };
        let owned = Owned {
            user: 7,
            group: 50,
            mode: 0o100_664,
        };
        assert!(judge(owned, daemon).is_err());
    }

    fn credentials(file: &str, environment: &[&str], flags: &[&str]) -> Result<(), String> {
        let owned = |names: &[&str]| {
            names
                .iter()
                .map(|name| ((*name).to_owned(), "x".to_owned()))
                .collect()
        };
        let layers = Layers {
            file: None,
            environment: owned(environment),
            flags: owned(flags),
        };
        check_credentials(&toml::from_str(file).unwrap(), &layers)
            .map_err(|error| error.to_string())
    }

    // S13
    #[test]
    fn an_address_of_the_file_is_not_told_a_credential_from_elsewhere() {
        let daily = "[sources.My-Daily]\nprovider = \"daily\"\nbase_url = \"https://h\"\n";
        let key = "HARVESTER_SOURCES__MY_DAILY__API_KEY";
        let said = credentials(daily, &[key], &[]).unwrap_err();
        assert!(
            said.starts_with("./harvester.toml sets sources.My-Daily.base_url"),
            "{said}"
        );
        assert!(credentials(daily, &[], &["sources.My-Daily.api_secret"]).is_err());
        assert_eq!(credentials(daily, &[], &[]), Ok(()));
        let other = "HARVESTER_SOURCES__OTHER__API_KEY";
        assert_eq!(credentials(daily, &[other], &[]), Ok(()));
        let own_address = [key, "HARVESTER_SOURCES__MY_DAILY__BASE_URL"];
        assert_eq!(credentials(daily, &own_address, &[]), Ok(()));

        let endpoint = "[archive]\nbucket = \"abc\"\nendpoint = \"http://h\"\n";
        let said = credentials(endpoint, &["PATH", "AWS_SECRET_ACCESS_KEY"], &[]).unwrap_err();
        assert!(said.contains("AWS_SECRET_ACCESS_KEY"), "{said}");
        assert_eq!(credentials(endpoint, &["PATH"], &[]), Ok(()));
        let own_address = ["AWS_PROFILE", "HARVESTER_ARCHIVE__ENDPOINT"];
        assert_eq!(credentials(endpoint, &own_address, &[]), Ok(()));
        assert_eq!(
            credentials("[archive]\nbucket = \"abc\"\n", &["AWS_PROFILE"], &[]),
            Ok(())
        );
    }
}
