//! The token with which nodes and servers join: `K10<SHA-256 of the server CA>::server:<password>`.

use std::io;
use std::path::{Path, PathBuf};

use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};

use crate::file::write_atomically;

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read {path}: {source}", path = path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Write(#[from] io::Error),
    /// The password can't be changed by starting with another.
    #[error("the token given is not the one this cluster was made with; it is in {path}", path = path.display())]
    Other { path: PathBuf },
    #[error("the token's server certificate hash does not match this cluster's")]
    Hash,
    #[error("the system's random number generator failed")]
    Random,
}

/// A cluster's token.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// The token in `path`, or a new one: with `password` if one is given, else random.
    ///
    /// # Errors
    /// [`Error::Other`] if a password is given that is not that of the cluster.
    pub fn load_or_create(path: &Path, given: Option<&str>, ca_certificate: &str) -> Result<Self, Error> {
        let hash = hex(digest(&SHA256, ca_certificate.as_bytes()).as_ref());
        let given = given.map(|given| password_of(given, &hash)).transpose()?;
        if let Some(kept) = read(path)? {
            let password = kept.rsplit(':').next().unwrap_or_default();
            if given.is_some_and(|given| given != password) {
                return Err(Error::Other { path: path.to_owned() });
            }
            return Ok(Self(kept));
        }
        let password = match given {
            Some(given) => given.to_owned(),
            None => random_password()?,
        };
        let token = format!("K10{hash}::server:{password}");
        write_atomically(path, format!("{token}\n").as_bytes(), 0o600)?;
        Ok(Self(token))
    }
}

/// The password of the cluster as far as it is known before its authorities are: from the token that is given, else from
/// that in `path`. `None`: there is no token yet.
///
/// # Errors
/// [`Error::Read`].
pub fn known_password(path: &Path, given: Option<&str>) -> Result<Option<String>, Error> {
    let token = match given {
        Some(given) => Some(given.to_owned()),
        None => read(path)?,
    };
    let last = |token: String| match token.strip_prefix("K10").and_then(|rest| rest.split_once("::")) {
        Some((_, credentials)) => credentials.split_once(':').map_or(credentials, |(_, password)| password).to_owned(),
        None => token,
    };
    Ok(token.map(last))
}

/// A password that nobody guesses.
///
/// # Errors
/// [`Error::Random`].
pub fn random_password() -> Result<String, Error> {
    let mut random = [0; 16];
    SystemRandom::new().fill(&mut random).map_err(|_| Error::Random)?;
    Ok(hex(&random))
}

fn read(path: &Path) -> Result<Option<String>, Error> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Read { path: path.to_owned(), source }),
    }
}

/// The password in a short (`password`) or full (`K10…::user:password`) token.
fn password_of<'a>(given: &'a str, hash: &str) -> Result<&'a str, Error> {
    match given.strip_prefix("K10").and_then(|rest| rest.split_once("::")) {
        Some((theirs, _)) if theirs != hash => Err(Error::Hash),
        Some((_, credentials)) => Ok(credentials.split_once(':').map_or(credentials, |(_, password)| password)),
        None => Ok(given),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_stays_and_another_password_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let first = Token::load_or_create(&path, None, "ca").unwrap();
        assert!(first.0.starts_with("K10") && first.0.contains("::server:"));
        assert!(Token::load_or_create(&path, None, "ca").unwrap() == first);
        assert!(Token::load_or_create(&path, Some(&first.0), "ca").unwrap() == first);
        assert!(matches!(Token::load_or_create(&path, Some("other"), "ca"), Err(Error::Other { .. })));
        assert!(matches!(Token::load_or_create(&path, Some("K10ff::server:x"), "ca"), Err(Error::Hash)));
    }

    #[test]
    fn a_password_is_known_from_the_token_given_or_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        assert_eq!(known_password(&path, None).unwrap(), None);
        assert_eq!(known_password(&path, Some("short")).unwrap().as_deref(), Some("short"));
        assert_eq!(known_password(&path, Some("K10ff::server:a:b")).unwrap().as_deref(), Some("a:b"));
        Token::load_or_create(&path, Some("kept"), "ca").unwrap();
        assert_eq!(known_password(&path, None).unwrap().as_deref(), Some("kept"));
    }
}
