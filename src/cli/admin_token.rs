//! The token of the operator's API for whoever may read the worker's files.
//!
//! A port on loopback is reached by every user of the machine, so that being there proves nothing. The worker makes a
//! random token at each start and keeps it in a file that its own user may read. One that is kept for longer would be
//! shown by `watch` to whoever listens on the port while the worker is down; this one is worth nothing then, since the
//! next start makes another.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret as _, SecretString};

/// The token of a running worker; its file goes when this does.
pub(super) struct AdminToken {
    path: PathBuf,
    secret: SecretString,
}

impl AdminToken {
    /// Makes one for the listener at `address`, in place of what an earlier worker has left.
    ///
    /// # Errors
    /// When `data_dir` can't be written to.
    pub(super) fn make(data_dir: &Path, address: SocketAddr) -> io::Result<AdminToken> {
        let mut bytes = [0_u8; 32];
        aws_lc_rs::rand::fill(&mut bytes).map_err(|_| io::Error::other("no randomness"))?;
        let text = hex::encode(bytes);
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(data_dir)?;
        // Its mode is 0600 from the first byte.
        let mut file = tempfile::NamedTempFile::new_in(data_dir)?;
        file.write_all(text.as_bytes())?;
        let path = path(data_dir, address);
        file.persist(&path)?;
        Ok(AdminToken {
            path,
            secret: SecretString::from(text),
        })
    }

    /// What the API accepts.
    pub(super) fn secret(&self) -> SecretString {
        self.secret.clone()
    }
}

impl Drop for AdminToken {
    fn drop(&mut self) {
        // Another worker may have begun on the port meanwhile: what it has made stays.
        let is_ours = std::fs::read_to_string(&self.path)
            .is_ok_and(|text| text == self.secret.expose_secret());
        if is_ours {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// The token of the worker that listens at `address`, if we may read it.
pub(super) fn read(data_dir: &Path, address: SocketAddr) -> Option<SecretString> {
    let text = std::fs::read_to_string(path(data_dir, address)).ok()?;
    Some(SecretString::from(text))
}

/// Where it is: workers that share a folder differ by their ports.
fn path(data_dir: &Path, address: SocketAddr) -> PathBuf {
    data_dir.join(format!("admin-{}.token", address.port()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    // S19
    #[test]
    fn each_start_makes_another_token_that_only_its_owner_reads() {
        let folder = tempfile::tempdir().unwrap();
        let data_dir = folder.path().join("data");
        let address = "127.0.0.1:8081".parse().unwrap();
        assert!(read(&data_dir, address).is_none());
        let first = AdminToken::make(&data_dir, address).unwrap();
        let file = data_dir.join("admin-8081.token");
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let shown =
            |token: Option<SecretString>| token.map(|token| token.expose_secret().to_owned());
        assert_eq!(shown(read(&data_dir, address)), shown(Some(first.secret())));
        assert!(read(&data_dir, "127.0.0.1:8091".parse().unwrap()).is_none());

        let second = AdminToken::make(&data_dir, address).unwrap();
        assert_ne!(shown(Some(first.secret())), shown(Some(second.secret())));
        drop(first);
        assert!(file.exists(), "the second one's file stays");
        drop(second);
        assert!(!file.exists());
    }
}
