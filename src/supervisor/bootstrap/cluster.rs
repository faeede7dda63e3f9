//! Servers that use one datastore are one cluster: what they share lies in it, under their token.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use k3s_kine::{Datastore, Error as DatastoreError, KeyValue};

use super::{Error, Files, PREFIX, Shared, key};
use crate::token;

/// The server's own files, and the datastore that has them for all.
pub struct SharedFiles {
    store: Arc<dyn Datastore>,
    files: Files,
    token: PathBuf,
    password: String,
    /// There was nothing here: what is here since, this start has made.
    fresh: bool,
}

impl SharedFiles {
    /// Takes over what other servers have put into the datastore, if any have.
    ///
    /// # Errors
    /// The datastore's; that the cluster in it has another token; [`bootstrap::Error::Newer`].
    pub async fn take(
        store: Arc<dyn Datastore>,
        files: Files,
        token: PathBuf,
        given: Option<&str>,
    ) -> Result<Self, Error> {
        let there = stored(store.as_ref()).await?;
        let password = match token::known_password(&token, given)? {
            Some(password) => password,
            None if there.is_empty() => token::random_password()?,
            None => return Err(Error::OtherToken),
        };
        let own = key(&password);
        let fresh = Shared::read(&files)?.is_empty();
        match there.iter().find(|one| one.key == own) {
            Some(one) => Shared::open(&password, &one.value)?.write(&files)?,
            None if there.is_empty() => {}
            None => return Err(Error::OtherToken),
        }
        Ok(Self { store, files, token, password, fresh })
    }

    /// The cluster's password: that of a token is to be made with it.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// Puts into the datastore what it has not. Returns whether another server came first, whose files are here now: what
    /// was made of the former ones, certificates and the token, is to be made again.
    ///
    /// # Errors
    /// As for [`SharedFiles::take`].
    pub async fn give(&self) -> Result<bool, Error> {
        let own_key = Bytes::from(key(&self.password));
        let own = Shared::read(&self.files)?;
        loop {
            let (_, there) = self.store.get(own_key.clone(), 0).await?;
            let written = match there {
                None => match self.store.create(own_key.clone(), own.seal(&self.password)?.into(), 0).await {
                    Ok(_) => return self.alone().await.map(|()| false),
                    error => error,
                },
                Some(there) => {
                    let mut shared = Shared::open(&self.password, &there.value)?;
                    if shared.differs(&own) {
                        self.replace(&shared)?;
                        return Ok(true);
                    }
                    if !shared.add(own.clone()) {
                        return Ok(false);
                    }
                    let value = shared.seal(&self.password)?.into();
                    self.store.update(own_key.clone(), there.mod_revision, value, 0).await
                }
            };
            match written {
                Ok(_) => return Ok(false),
                // Somebody else was faster: look again.
                Err(DatastoreError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Of two that began a cluster at the same moment with different tokens, the later one gives way.
    async fn alone(&self) -> Result<(), Error> {
        let own = key(&self.password);
        let there = stored(self.store.as_ref()).await?;
        let own = there.iter().find(|one| one.key == own);
        let Some(own) = own.filter(|own| there.iter().any(|one| one.create_revision < own.create_revision)) else {
            return Ok(());
        };
        self.store.delete(own.key.clone(), own.mod_revision).await?;
        if self.fresh {
            self.files.remove()?;
            remove(&self.token)?;
        }
        Err(Error::OtherToken)
    }

    fn replace(&self, shared: &Shared) -> Result<(), Error> {
        if !self.fresh {
            return shared.write(&self.files);
        }
        // The token names the authority; without it, one is made that names the new one.
        remove(&self.token)?;
        shared.overwrite(&self.files)
    }
}

fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// What all clusters in the datastore share: of one, unless something went wrong.
async fn stored(store: &dyn Datastore) -> Result<Vec<KeyValue>, Error> {
    // The byte after the slash is where what begins with it ends.
    let (start, end) = (Bytes::from(PREFIX), Bytes::from("/bootstrap0"));
    let range = store.range(start, end, 0, 0).await?;
    Ok(range.kvs)
}

#[cfg(test)]
mod tests {
    use k3s_kine::sqlite::{Options, Sqlite};

    use super::*;
    use crate::file::private_dir;

    struct Host(tempfile::TempDir);

    impl Host {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn tls(&self) -> PathBuf {
            self.0.path().join("tls")
        }

        fn encryption(&self) -> PathBuf {
            self.0.path().join("cred/encryption-config.json")
        }

        fn token(&self) -> PathBuf {
            self.0.path().join("token")
        }

        async fn take(&self, store: &Arc<dyn Datastore>, token: Option<&str>) -> Result<SharedFiles, Error> {
            let files = Files::new(&self.tls(), &self.encryption());
            SharedFiles::take(store.clone(), files, self.token(), token).await
        }

        /// Makes the files, as a start does.
        fn make(&self, content: &str) {
            private_dir(&self.tls()).unwrap();
            for file in ["server-ca.crt", "server-ca.key", "service.key"] {
                let path = self.tls().join(file);
                if !path.exists() {
                    fs::write(path, content).unwrap();
                }
            }
        }

        fn has(&self) -> String {
            fs::read_to_string(self.tls().join("service.key")).unwrap()
        }
    }

    fn store() -> (tempfile::TempDir, Arc<dyn Datastore>) {
        let folder = tempfile::tempdir().unwrap();
        let store = Sqlite::open(&folder.path().join("state.db"), Options::default()).unwrap();
        (folder, Arc::new(store))
    }

    #[tokio::test]
    async fn the_second_server_has_what_the_first_made() {
        let (_folder, store) = store();
        let (one, two) = (Host::new(), Host::new());
        let first = one.take(&store, Some("secret")).await.unwrap();
        one.make("one");
        assert!(!first.give().await.unwrap());
        let second = two.take(&store, Some("K10aa::server:secret")).await.unwrap();
        two.make("two");
        assert!(!second.give().await.unwrap());
        assert_eq!(two.has(), "one");
        // And again, after a start.
        let first = one.take(&store, Some("secret")).await.unwrap();
        assert!(!first.give().await.unwrap());
    }

    #[tokio::test]
    async fn of_two_that_begin_at_once_one_takes_the_others() {
        let (_folder, store) = store();
        let (one, two) = (Host::new(), Host::new());
        let first = one.take(&store, Some("secret")).await.unwrap();
        let second = two.take(&store, Some("secret")).await.unwrap();
        one.make("one");
        two.make("two");
        fs::write(two.token(), "made of the other authority").unwrap();
        assert!(!first.give().await.unwrap());
        assert!(second.give().await.unwrap());
        assert_eq!(two.has(), "one");
        assert!(!two.token().exists());
    }

    #[tokio::test]
    async fn another_token_is_refused_and_leaves_nothing() {
        let (_folder, store) = store();
        let (one, two, three) = (Host::new(), Host::new(), Host::new());
        let first = one.take(&store, None).await.unwrap();
        let late = two.take(&store, Some("other")).await.unwrap();
        one.make("one");
        two.make("two");
        assert!(!first.give().await.unwrap());
        let refused = late.give().await.unwrap_err().to_string();
        assert!(refused.contains("encrypted with different token"), "{refused}");
        assert!(!two.tls().join("service.key").exists());
        for token in [Some("third"), None] {
            let refused = three.take(&store, token).await.err().unwrap().to_string();
            assert!(refused.contains("encrypted with different token"), "{refused}");
        }
        assert_eq!(fs::read_dir(three.0.path()).unwrap().count(), 0);
        assert_eq!(stored(store.as_ref()).await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn what_comes_later_is_given_too_and_what_is_newer_here_is_not_lost() {
        let (_folder, store) = store();
        let (one, two) = (Host::new(), Host::new());
        let first = one.take(&store, Some("secret")).await.unwrap();
        one.make("one");
        first.give().await.unwrap();
        let encryption = one.encryption();
        private_dir(encryption.parent().unwrap()).unwrap();
        fs::write(&encryption, "{}").unwrap();
        assert!(!first.give().await.unwrap());
        let _ = two.take(&store, Some("secret")).await.unwrap();
        assert_eq!(fs::read_to_string(two.encryption()).unwrap(), "{}");
        fs::write(two.tls().join("service.key"), "own").unwrap();
        let refused = two.take(&store, Some("secret")).await.err().unwrap().to_string();
        assert!(refused.contains("service.key is newer than what the cluster's servers share"), "{refused}");
    }
}
