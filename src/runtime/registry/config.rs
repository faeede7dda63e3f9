//! `registries.yaml`, in the form that k3s documents.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use k3s_cri::RegistryAuth;
use serde::Deserialize;

/// Why `registries.yaml` can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It is there but can't be read.
    #[error("cannot read {path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is no YAML, or not of that form.
    #[error("{path}: {detail}", path = path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and where.
        detail: String,
    },
}

/// How registries are reached.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Registries {
    pub(super) mirrors: BTreeMap<String, Mirror>,
    pub(super) configs: BTreeMap<String, HostConfig>,
    /// A registry with mirrors is not asked itself when these fail (`--disable-default-registry-endpoint`).
    #[serde(skip)]
    pub no_default_endpoint: bool,
}

/// Where else a registry's images are found.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Mirror {
    /// Asked in this order, the registry itself after them.
    #[serde(rename = "endpoint", deserialize_with = "none_is_empty")]
    pub endpoints: Vec<String>,
    /// Regular expression for a repository to what it is called in the mirror, with `$1` for groups.
    #[serde(rename = "rewrite", deserialize_with = "none_is_empty")]
    pub rewrites: BTreeMap<String, String>,
}

/// How one host is talked to.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct HostConfig {
    pub auth: Option<Auth>,
    pub tls: Option<Tls>,
}

/// Credentials.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Auth {
    pub username: String,
    pub password: String,
    pub auth: String,
    #[serde(alias = "identitytoken")]
    pub identity_token: String,
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Auth").field("username", &self.username).finish_non_exhaustive()
    }
}

impl From<&Auth> for RegistryAuth {
    fn from(auth: &Auth) -> Self {
        Self {
            username: auth.username.clone(),
            password: auth.password.clone(),
            auth: auth.auth.clone(),
            identity_token: auth.identity_token.clone(),
            ..Self::default()
        }
    }
}

/// Files in PEM form, and whether to trust blindly.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(default)]
pub(super) struct Tls {
    pub ca_file: PathBuf,
    pub cert_file: PathBuf,
    pub key_file: PathBuf,
    pub insecure_skip_verify: bool,
}

/// A key without a value means the same as no key.
fn none_is_empty<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

impl Registries {
    /// Reads the file; without one there are no mirrors and no credentials.
    ///
    /// # Errors
    /// When it is there and can't be read or understood: to go on would be to ask the wrong registries.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => return Err(ConfigError::Read { path: path.to_owned(), source }),
        };
        Self::parse(&text).map_err(|detail| ConfigError::Form { path: path.to_owned(), detail })
    }

    fn parse(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let parsed: Self = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
        for pattern in parsed.mirrors.values().flat_map(|mirror| mirror.rewrites.keys()) {
            regex::Regex::new(pattern).map_err(|error| format!("rewrite {pattern:?}: {error}"))?;
        }
        Ok(parsed)
    }

    #[cfg(test)]
    pub(super) fn from_text(text: &str) -> Self {
        Self::parse(text).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_documented_key_is_read() {
        let registries = Registries::from_text(
            r#"
mirrors:
  docker.io:
    endpoint:
      - "https://registry.example.com:5000"
    rewrite:
      "^rancher/(.*)": "mirrorproject/rancher-images/$1"
  "*":
    endpoint:
configs:
  "registry.example.com:5000":
    auth:
      username: xxxxxx
      password: yyyyyy
    tls:
      cert_file: /c
      key_file: /k
      ca_file: /a
      insecure_skip_verify: true
"#,
        );
        let mirror = &registries.mirrors["docker.io"];
        assert_eq!(mirror.endpoints, ["https://registry.example.com:5000"]);
        assert_eq!(mirror.rewrites["^rancher/(.*)"], "mirrorproject/rancher-images/$1");
        assert!(registries.mirrors["*"].endpoints.is_empty());
        let config = &registries.configs["registry.example.com:5000"];
        assert_eq!(config.auth.as_ref().unwrap().username, "xxxxxx");
        let tls = config.tls.as_ref().unwrap();
        assert_eq!((&tls.cert_file, &tls.key_file, &tls.ca_file), (&"/c".into(), &"/k".into(), &"/a".into()));
        assert!(tls.insecure_skip_verify);
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_place() {
        for (text, says) in [("mirrors: 3", "mirrors"), ("mirrors:\n  a:\n    rewrite:\n      \"(\": b", "rewrite")] {
            let error = Registries::parse(text).unwrap_err();
            assert!(error.contains(says) || error.contains("line"), "{error}");
        }
        assert!(Registries::parse("\n").unwrap().mirrors.is_empty());
    }
}
