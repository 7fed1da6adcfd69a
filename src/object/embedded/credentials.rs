//! The server's access key: random, made once, kept in a file that only its owner may read and that AWS
//! tools understand (`AWS_SHARED_CREDENTIALS_FILE`).

use std::io::{self, Write as _};
use std::path::Path;

use secrecy::{ExposeSecret as _, SecretString};

use crate::object::s3::StaticCredentials;

const FILE_NAME: &str = "credentials";

/// Reads the credentials under `root`, or makes them.
pub(super) fn load_or_create(root: &Path) -> io::Result<StaticCredentials> {
    let path = root.join(FILE_NAME);
    match std::fs::read_to_string(&path) {
        Ok(text) => parse(&text)
            .ok_or_else(|| io::Error::other(format!("{} holds no access key", path.display()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let credentials = random()?;
            write(root, &credentials)?;
            Ok(credentials)
        }
        Err(error) => Err(error),
    }
}

/// The credentials under `root`, if a server has made them.
pub(super) fn read(root: &Path) -> Option<StaticCredentials> {
    parse(&std::fs::read_to_string(root.join(FILE_NAME)).ok()?)
}

/// A temporary file has mode 0600 from its first byte, so the secret is never open to others.
fn write(root: &Path, credentials: &StaticCredentials) -> io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(root)?;
    file.write_all(format(credentials).as_bytes())?;
    file.as_file().sync_all()?;
    file.persist(root.join(FILE_NAME))?;
    Ok(())
}

fn random() -> io::Result<StaticCredentials> {
    let mut bytes = [0_u8; 40];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| io::Error::other("no randomness"))?;
    let (id, secret) = bytes.split_at(8);
    Ok(StaticCredentials {
        access_key: format!("HARVESTER{}", hex::encode_upper(id)),
        secret_key: SecretString::from(hex::encode(secret)),
    })
}

fn format(credentials: &StaticCredentials) -> String {
    format!(
        "[default]\naws_access_key_id = {}\naws_secret_access_key = {}\n",
        credentials.access_key,
        credentials.secret_key.expose_secret()
    )
}

fn parse(text: &str) -> Option<StaticCredentials> {
    let value = |name: &str| {
        text.lines().find_map(|line| {
            let (key, value) = line.split_once('=')?;
            let value = value.trim();
            (key.trim() == name && !value.is_empty()).then(|| value.to_owned())
        })
    };
    Some(StaticCredentials {
        access_key: value("aws_access_key_id")?,
        secret_key: SecretString::from(value("aws_secret_access_key")?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_profile_format_reads_back() {
        let made = random().unwrap();
        let read = parse(&format(&made)).unwrap();
        assert_eq!(read.access_key, made.access_key);
        assert_eq!(
            read.secret_key.expose_secret(),
            made.secret_key.expose_secret()
        );
        assert!(parse("[default]\naws_access_key_id =\n").is_none());
    }

    #[test]
    fn a_damaged_file_is_an_error_and_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE_NAME), "nonsense").unwrap();
        assert!(load_or_create(folder.path()).is_err());
        assert_eq!(
            std::fs::read(folder.path().join(FILE_NAME)).unwrap(),
            b"nonsense"
        );
    }
}
