//! What the servers of one cluster share: the authorities, the key that signs service account tokens, and the
//! configuration of encryption at rest. With a datastore that several servers use, it lies there, encrypted with the
//! cluster's token, where and how k3s keeps it: the first server puts it there, and those that come take it.
//!
//! A value is a [`seal`]ed JSON object: by name of a file its content, in base64, and when it was changed. Names that are
//! not known here (k3s has some for its etcd) are kept as they are.

mod cluster;
mod seal;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

pub use cluster::SharedFiles;

use crate::file::{private_dir, write_atomically};

/// Below it are all values: one, unless the token was changed at the wrong moment.
pub const PREFIX: &str = "/bootstrap/";

/// What goes wrong with what is shared.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read {path}: {source}", path = path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Write(#[from] io::Error),
    /// The value was changed by somebody, or is of another form.
    #[error("the cluster's bootstrap data in the datastore is damaged: {0}")]
    Damaged(String),
    /// Both servers would go on, each with clients that the other does not know.
    #[error(
        "{path} is newer than what the cluster's servers share in the datastore: remove it, and the next start takes \
         theirs",
        path = path.display()
    )]
    Newer { path: PathBuf },
    #[error("the system's random number generator failed")]
    Random,
    /// What is there can't be read, so a server that went on would make a second cluster of it.
    #[error(
        "bootstrap data already found and encrypted with different token: the datastore has a cluster in it; start with \
         that cluster's token (--token or K3S_TOKEN), which is in server/token of its servers"
    )]
    OtherToken,
    #[error(transparent)]
    Token(#[from] crate::token::Error),
    #[error("cannot read or write what the cluster's servers share: {0}")]
    Datastore(#[from] k3s_kine::Error),
}

/// Where the value lies that is encrypted with this password (the last part of a token).
pub fn key(password: &str) -> String {
    let hash = digest(&SHA256, password.as_bytes());
    let hex: String = hash.as_ref().iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    format!("{PREFIX}{hex}")
}

/// The files of a server that are shared.
#[derive(Debug, Clone)]
pub struct Files([(&'static str, PathBuf); 8]);

impl Files {
    /// Those in `server/tls`, and `server/cred/encryption-config.json`.
    pub fn new(server_tls: &Path, encryption_config: &Path) -> Self {
        let tls = |file: &str| server_tls.join(file);
        Self([
            ("ServerCA", tls("server-ca.crt")),
            ("ServerCAKey", tls("server-ca.key")),
            ("ClientCA", tls("client-ca.crt")),
            ("ClientCAKey", tls("client-ca.key")),
            ("RequestHeaderCA", tls("request-header-ca.crt")),
            ("RequestHeaderCAKey", tls("request-header-ca.key")),
            ("ServiceKey", tls("service.key")),
            ("EncryptionConfig", encryption_config.to_owned()),
        ])
    }

    /// Removes them.
    ///
    /// # Errors
    /// The file system's.
    pub fn remove(&self) -> Result<(), Error> {
        for (_, path) in &self.0 {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
        }
        Ok(())
    }
}

/// The content of the files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shared(BTreeMap<String, Entry>);

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    timestamp: Timestamp,
    content: String,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry").field("timestamp", &self.timestamp).finish_non_exhaustive()
    }
}

impl Entry {
    fn bytes(&self) -> Result<Vec<u8>, Error> {
        STANDARD.decode(&self.content).map_err(|error| Error::Damaged(error.to_string()))
    }
}

impl Shared {
    /// What of the files is there.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub fn read(files: &Files) -> Result<Self, Error> {
        let mut entries = BTreeMap::new();
        for (name, path) in &files.0 {
            let failed = |source| Error::Read { path: path.clone(), source };
            let content = match fs::read(path) {
                Ok(content) => content,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(failed(error)),
            };
            let changed = fs::metadata(path).and_then(|metadata| metadata.modified()).map_err(failed)?;
            let timestamp = Timestamp::try_from(changed).map_err(|error| failed(io::Error::other(error)))?;
            entries.insert((*name).to_owned(), Entry { timestamp, content: STANDARD.encode(content) });
        }
        Ok(Self(entries))
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value that was [`Shared::seal`]ed with this password.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn open(password: &str, value: &[u8]) -> Result<Self, Error> {
        let text = seal::open(password, value)?;
        serde_json::from_slice(&text).map(Self).map_err(|error| Error::Damaged(error.to_string()))
    }

    /// The value that goes into the datastore.
    ///
    /// # Errors
    /// [`Error::Random`].
    pub fn seal(&self, password: &str) -> Result<Vec<u8>, Error> {
        let text = serde_json::to_vec(&self.0).map_err(|error| Error::Damaged(error.to_string()))?;
        seal::seal(password, &text)
    }

    /// Adds what `other` has and this has not. Returns whether that was anything.
    pub fn add(&mut self, other: Self) -> bool {
        let before = self.0.len();
        for (name, entry) in other.0 {
            self.0.entry(name).or_insert(entry);
        }
        self.0.len() > before
    }

    /// Is a file another there than here?
    pub fn differs(&self, other: &Self) -> bool {
        other.0.iter().any(|(name, entry)| self.0.get(name).is_some_and(|own| own.content != entry.content))
    }

    /// Makes the files what is shared: writes what is missing, and what is older and another.
    ///
    /// # Errors
    /// [`Error::Newer`], before anything is written, for a file that was changed after what is shared.
    pub fn write(&self, files: &Files) -> Result<(), Error> {
        self.write_if(files, |here, shared| here <= shared)
    }

    /// As [`Shared::write`], whatever there is.
    ///
    /// # Errors
    /// Any but [`Error::Newer`].
    pub fn overwrite(&self, files: &Files) -> Result<(), Error> {
        self.write_if(files, |_, _| true)
    }

    fn write_if(&self, files: &Files, may: impl Fn(Timestamp, Timestamp) -> bool) -> Result<(), Error> {
        let here = Self::read(files)?;
        let mut due = Vec::new();
        for (name, path) in &files.0 {
            let Some(shared) = self.0.get(*name) else { continue };
            match here.0.get(*name) {
                Some(own) if own.content == shared.content => {}
                Some(own) if !may(own.timestamp, shared.timestamp) => return Err(Error::Newer { path: path.clone() }),
                _ => due.push((path, shared, shared.bytes()?)),
            }
        }
        // A certificate that is there without its key passes for damage, so keys come first.
        due.sort_by_key(|(path, ..)| path.extension().is_none_or(|extension| extension != "key"));
        for (path, shared, content) in due {
            private_dir(path.parent().unwrap_or(Path::new("/")))?;
            let is_certificate = path.extension().is_some_and(|extension| extension == "crt");
            write_atomically(path, &content, if is_certificate { 0o644 } else { 0o600 })?;
            // So that the next start knows it to be as old as what is shared.
            File::options().write(true).open(path)?.set_modified(SystemTime::from(shared.timestamp))?;
            tracing::info!(path = %path.display(), "taken over from the cluster's other servers");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn files(folder: &Path) -> Files {
        let tls = folder.join("tls");
        fs::create_dir_all(&tls).unwrap();
        Files::new(&tls, &folder.join("cred/encryption-config.json"))
    }

    #[test]
    fn a_server_takes_what_another_has_given() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (files(&folder.path().join("one")), files(&folder.path().join("two")));
        for (name, path) in &one.0[..7] {
            fs::write(path, name).unwrap();
        }
        let given = Shared::read(&one).unwrap().seal("secret").unwrap();
        let taken = Shared::open("secret", &given).unwrap();
        taken.write(&two).unwrap();
        assert_eq!(Shared::read(&two).unwrap(), Shared::read(&one).unwrap());
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&two.0[0].1), mode(&two.0[1].1)), (0o644, 0o600));
        assert!(Shared::open("other", &given).is_err());
        // Again: there is nothing to do.
        taken.write(&two).unwrap();
    }

    #[test]
    fn what_was_changed_here_later_is_not_lost() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (files(&folder.path().join("one")), files(&folder.path().join("two")));
        fs::write(&one.0[0].1, "theirs").unwrap();
        fs::write(&one.0[1].1, "theirs").unwrap();
        let shared = Shared::read(&one).unwrap();
        fs::write(&two.0[1].1, "own").unwrap();
        File::options()
            .write(true)
            .open(&two.0[1].1)
            .unwrap()
            .set_modified(SystemTime::now() + std::time::Duration::from_secs(60))
            .unwrap();
        let refused = shared.write(&two).unwrap_err().to_string();
        assert!(refused.contains("server-ca.key is newer than"), "{refused}");
        assert!(!two.0[0].1.exists(), "nothing was written");
        shared.overwrite(&two).unwrap();
        assert_eq!(fs::read(&two.0[1].1).unwrap(), b"theirs");
        // What is older gives way.
        fs::write(&two.0[1].1, "older").unwrap();
        File::options().write(true).open(&two.0[1].1).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        shared.write(&two).unwrap();
        assert_eq!(fs::read(&two.0[1].1).unwrap(), b"theirs");
    }

    #[test]
    fn what_comes_later_is_added_and_strange_names_stay() {
        let folder = tempfile::tempdir().unwrap();
        let one = files(folder.path());
        let k3s = r#"{"ETCDServerCA":{"Timestamp":"2026-01-02T03:04:05.678Z","Content":"YQ=="}}"#;
        let sealed = seal::seal("secret", k3s.as_bytes()).unwrap();
        let mut shared = Shared::open("secret", &sealed).unwrap();
        shared.write(&one).unwrap();
        assert!(Shared::read(&one).unwrap().is_empty());
        fs::write(&one.0[6].1, "key").unwrap();
        assert!(shared.add(Shared::read(&one).unwrap()));
        assert!(!shared.add(Shared::read(&one).unwrap()));
        let names: Vec<_> = shared.0.keys().collect();
        assert_eq!(names, ["ETCDServerCA", "ServiceKey"]);
    }

    #[test]
    fn the_key_is_where_k3s_looks() {
        // The first half dozen bytes of SHA-256, as `printf token | sha256sum` gives them.
        assert_eq!(key("token"), "/bootstrap/3c469e9d6c58");
    }
}
