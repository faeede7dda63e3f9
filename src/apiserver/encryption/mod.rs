//! Encryption at rest: what the datastore holds of chosen resources is encrypted, as an `EncryptionConfiguration` says.
//!
//! Values begin with `k8s:enc:PROVIDER:v1:KEY:`, as Kubernetes writes them, so a datastore can change hands. The first
//! provider of a resource encrypts; all of them decrypt. What was not encrypted with the first one is written anew when
//! the object is next updated, even by an update that changes nothing: that is how keys are rotated.
//!
//! Source: <https://kubernetes.io/docs/tasks/administer-cluster/encrypt-data/>.

mod config;
mod provider;
mod store;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use k3s_kine::Revision;
use parking_lot::{Mutex, RwLock};
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

pub use config::Error;
use config::Rule;
use provider::Provider;
pub(crate) use store::Store;

/// How often a configuration that is to be reloaded is looked at, as in Kubernetes.
const RELOAD: Duration = Duration::from_secs(60);

/// Why a stored value can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ValueError {
    #[error("identity transformer tried to read encrypted data")]
    Encrypted,
    /// None of the resource's keys has the name that the value was encrypted with.
    #[error("no matching prefix found")]
    UnknownKey,
    /// The key has the name, but another secret, or the value was damaged or moved.
    #[error("the value does not match its key {key}: {detail}")]
    Undecipherable { key: String, detail: &'static str },
}

/// The rules in force.
pub struct Encryption {
    /// The configuration. Without one, nothing that is written is touched.
    path: Option<PathBuf>,
    rules: RwLock<Arc<[Rule]>>,
    /// The newest revision of each key that was read under another provider than the one that encrypts now.
    stale: Mutex<HashMap<Bytes, Revision>>,
}

impl Default for Encryption {
    /// Nothing is encrypted.
    fn default() -> Self {
        Self { path: None, rules: RwLock::new(Arc::new([])), stale: Mutex::default() }
    }
}

impl Encryption {
    /// Reads the configuration file.
    ///
    /// # Errors
    /// If it can't be read or is none that is known; no secret is in the message.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let rules = RwLock::new(config::load(path)?.into());
        Ok(Self { path: Some(path.to_owned()), rules, stale: Mutex::default() })
    }

    /// Reads the configuration file anew, if there is one.
    ///
    /// # Errors
    /// See [`Self::load`]; the rules stay as they were.
    pub fn reload(&self) -> Result<(), Error> {
        if let Some(path) = &self.path {
            let rules = config::load(path)?;
            *self.rules.write() = rules.into();
        }
        Ok(())
    }

    /// Follows changes of the file (`--encryption-provider-config-automatic-reload`). A file that is no good leaves the
    /// rules as they are.
    pub async fn follow(self: Arc<Self>, cancel: CancellationToken) {
        let Some(path) = &self.path else { return };
        let digest = |path: &Path| std::fs::read(path).ok().map(Sha256::digest);
        let mut known = digest(path);
        while cancel.run_until_cancelled(tokio::time::sleep(RELOAD)).await.is_some() {
            let now = digest(path);
            if now == known {
                continue;
            }
            known = now;
            match self.reload() {
                Ok(()) => tracing::info!(path = %path.display(), "encryption configuration reloaded"),
                Err(error) => tracing::error!(%error, "the encryption configuration stays as it was"),
            }
        }
    }

    /// Whether there is a configuration.
    pub fn is_configured(&self) -> bool {
        self.path.is_some()
    }

    /// Whether the object at `key` should be written even if nothing changes: at that revision it is encrypted with an
    /// old key, or not encrypted.
    fn is_stale(&self, key: &[u8], revision: Revision) -> bool {
        self.stale.lock().get(key) == Some(&revision)
    }

    /// What the datastore is to hold.
    fn seal(&self, key: &Bytes, value: Bytes) -> Bytes {
        let rules = Arc::clone(&self.rules.read());
        let sealed = match providers(&rules, key).and_then(<[Provider]>::first) {
            Some(provider) => provider.seal(key, value),
            None => return value,
        };
        self.stale.lock().remove(key);
        sealed
    }

    /// The value that the datastore holds since `revision`.
    fn open(&self, key: &Bytes, revision: Revision, stored: &Bytes) -> Result<Bytes, ValueError> {
        let rules = Arc::clone(&self.rules.read());
        let Some(providers) = providers(&rules, key) else {
            return Provider::Identity.open(key, stored).unwrap_or(Err(ValueError::Encrypted));
        };
        for (index, provider) in providers.iter().enumerate() {
            let Some(value) = provider.open(key, stored) else { continue };
            if index > 0 {
                let mut stale = self.stale.lock();
                let newest = stale.entry(key.clone()).or_default();
                *newest = revision.max(*newest);
            }
            return value;
        }
        // An encrypted value of an unknown key, or a plain one where no identity provider is named.
        Err(ValueError::UnknownKey)
    }
}

fn providers<'a>(rules: &'a [Rule], key: &[u8]) -> Option<&'a [Provider]> {
    rules.iter().find(|rule| rule.covers(key)).map(|rule| &*rule.providers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encryption(providers: &[&str]) -> Encryption {
        let providers: String = providers.iter().map(|provider| format!("{{{provider}}}, ")).collect();
        let text = format!(
            "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n\
             - resources: [secrets]\n  providers: [{providers}]\n"
        );
        Encryption {
            path: Some(PathBuf::new()),
            rules: RwLock::new(config::parse(&text).unwrap().into()),
            stale: Mutex::default(),
        }
    }

    const KEY: Bytes = Bytes::from_static(b"/registry/secrets/default/a");
    const OLD: &str = "aescbc: {keys: [{name: old, secret: MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=}]}";
    const NEW: &str = "secretbox: {keys: [{name: new, secret: MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=}]}";

    #[test]
    fn only_named_resources_are_encrypted() {
        let encryption = encryption(&[OLD]);
        let value = Bytes::from_static(b"{\"a\":1}");
        let sealed = encryption.seal(&KEY, value.clone());
        assert!(sealed.starts_with(b"k8s:enc:aescbc:v1:old:"));
        assert_eq!(encryption.open(&KEY, 7, &sealed).unwrap(), value);
        let other = Bytes::from_static(b"/registry/configmaps/default/a");
        assert_eq!(encryption.seal(&other, value.clone()), value);
    }

    #[test]
    fn a_rotated_key_reads_what_is_old_and_marks_it_until_it_is_written() {
        let sealed = encryption(&[OLD]).seal(&KEY, Bytes::from_static(b"secret"));
        let rotated = encryption(&[NEW, OLD, "identity: {}"]);
        assert!(!rotated.is_stale(&KEY, 7));
        assert_eq!(rotated.open(&KEY, 7, &sealed).unwrap(), "secret");
        assert!(rotated.is_stale(&KEY, 7));
        assert!(rotated.seal(&KEY, Bytes::from_static(b"secret")).starts_with(b"k8s:enc:secretbox:v1:new:"));
        assert!(!rotated.is_stale(&KEY, 7));
        assert_eq!(rotated.open(&KEY, 8, &Bytes::from_static(b"{}")).unwrap(), "{}");
    }

    #[test]
    fn without_its_key_a_value_is_not_read() {
        let sealed = encryption(&[OLD]).seal(&KEY, Bytes::from_static(b"secret"));
        assert!(matches!(encryption(&[NEW]).open(&KEY, 7, &sealed), Err(ValueError::UnknownKey)));
        assert!(matches!(Encryption::default().open(&KEY, 7, &sealed), Err(ValueError::Encrypted)));
        assert!(matches!(encryption(&[NEW]).open(&KEY, 8, &Bytes::from_static(b"{}")), Err(ValueError::UnknownKey)));
    }
}
