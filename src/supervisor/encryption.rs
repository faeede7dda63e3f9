//! The configuration of encryption at rest that `--secrets-encryption` makes: `server/cred/encryption-config.json`.

use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::json;

use crate::file::{private_dir, write_atomically};

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Write(#[from] io::Error),
    #[error("cannot look at {path}: {source}", path = path.display())]
    Look { path: PathBuf, source: io::Error },
    #[error("the system's random number generator failed")]
    Random,
}

/// The file at `path`, if there is one: what was encrypted with it can't be read without it, whatever the flags say now.
/// Else, if `provider` (`aescbc` or `secretbox`) is asked for, a new one, mode 0600: secrets are encrypted with a
/// new key of 256 bits, and those that were stored before are still read.
///
/// # Errors
/// If it can't be written.
pub fn load_or_create(path: &Path, provider: Option<&str>) -> Result<Option<PathBuf>, Error> {
    let there = path.try_exists().map_err(|source| Error::Look { path: path.to_owned(), source })?;
    if there {
        return Ok(Some(path.to_owned()));
    }
    let Some(provider) = provider else { return Ok(None) };
    let mut secret = [0; 32];
    SystemRandom::new().fill(&mut secret).map_err(|_| Error::Random)?;
    let key = json!({"name": format!("{provider}key"), "secret": STANDARD.encode(secret)});
    let configuration = json!({
        "kind": "EncryptionConfiguration",
        "apiVersion": "apiserver.config.k8s.io/v1",
        "resources": [{
            "resources": ["secrets"],
            "providers": [{provider: {"keys": [key]}}, {"identity": {}}],
        }],
    });
    private_dir(path.parent().unwrap_or(Path::new("/")))?;
    write_atomically(path, configuration.to_string().as_bytes(), 0o600)?;
    Ok(Some(path.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_key_is_made_once_and_kept_for_those_who_do_not_ask_any_more() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cred/encryption-config.json");
        assert_eq!(load_or_create(&path, None).unwrap(), None);
        assert_eq!(load_or_create(&path, Some("secretbox")).unwrap(), Some(path.clone()));
        let made = std::fs::read_to_string(&path).unwrap();
        assert!(made.contains("secretboxkey"), "{made}");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(load_or_create(&path, Some("aescbc")).unwrap(), Some(path.clone()));
        assert_eq!(load_or_create(&path, None).unwrap(), Some(path.clone()));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), made);
    }
}
