//! The configuration file: `EncryptionConfiguration` of `apiserver.config.k8s.io/v1`.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crypto_secretbox::KeyInit as _;
use k3s_api::resource;
use serde::Deserialize;

use super::provider::{Cipher, Gcm, Provider};

/// Why a configuration is refused. Messages name keys, never secrets.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read the encryption configuration {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("encryption configuration {path}: {detail}")]
    Invalid { path: PathBuf, detail: String },
}

/// Which keys of the datastore are encrypted, and how. The first rule that covers a key counts.
pub(super) struct Rule {
    covered: Vec<Covered>,
    pub providers: Vec<Provider>,
}

/// Some keys.
enum Covered {
    All,
    Prefix(String),
}

impl Rule {
    /// Whether the rule is about what is stored at `key`.
    pub fn covers(&self, key: &[u8]) -> bool {
        self.covered.iter().any(|covered| match covered {
            Covered::All => true,
            Covered::Prefix(prefix) => key.starts_with(prefix.as_bytes()),
        })
    }
}

pub(super) fn load(path: &Path) -> Result<Vec<Rule>, Error> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.into(), source })?;
    parse(&text).map_err(|detail| Error::Invalid { path: path.into(), detail })
}

pub(super) fn parse(text: &str) -> Result<Vec<Rule>, String> {
    // The parser's own message could quote the line, and the secret in it.
    let file: File = serde_saphyr::from_str(text).map_err(|error| match error.location() {
        Some(at) => format!("line {}: it is no EncryptionConfiguration as Kubernetes has it", at.line()),
        None => "it is no EncryptionConfiguration as Kubernetes has it".to_owned(),
    })?;
    if file.api_version != "apiserver.config.k8s.io/v1" || file.kind != "EncryptionConfiguration" {
        return Err(format!(
            "it has {}, {}; want apiserver.config.k8s.io/v1, EncryptionConfiguration",
            file.api_version, file.kind
        ));
    }
    if file.resources.is_empty() {
        return Err("resources: Required value: encryption config does not have any resources".into());
    }
    file.resources.into_iter().enumerate().map(|(index, one)| rule(index, one)).collect()
}

fn rule(index: usize, file: ResourceConfiguration) -> Result<Rule, String> {
    let at = format!("resources[{index}]");
    if file.resources.is_empty() {
        return Err(format!("{at}.resources: Required value: there must be at least one resource"));
    }
    if file.providers.is_empty() {
        return Err(format!("{at}.providers: Required value: provider list must not be empty"));
    }
    let mut covered = Vec::new();
    for name in &file.resources {
        covered.extend(covered_by(name).map_err(|error| format!("{at}.resources: Invalid value: {name:?}: {error}"))?);
    }
    let mut providers = Vec::new();
    for (index, provider) in file.providers.into_iter().enumerate() {
        let made = provider.into_providers().map_err(|error| format!("{at}.providers[{index}]{error}"))?;
        providers.extend(made);
    }
    Ok(Rule { covered, providers })
}

/// `secrets`, `deployments.apps`, `*.apps`, `*.` (the core group) or `*.*`.
fn covered_by(name: &str) -> Result<Vec<Covered>, &'static str> {
    if name == "*.*" {
        return Ok(vec![Covered::All]);
    }
    let (plural, group) = name.split_once('.').unwrap_or((name, ""));
    if plural.is_empty() || name.chars().any(|c| c.is_uppercase() || c.is_whitespace()) {
        return Err("must be plural.group in lower case, *.group, *. or *.*");
    }
    if plural == "*" && !name.contains('.') {
        return Err("use *. for all resources of the core group, or *.* for all there are");
    }
    let of_group = resource::builtin().iter().filter(|row| row.group == group);
    let mut prefixes: Vec<String> = of_group
        .filter(|row| plural == "*" || row.plural == plural)
        .map(|row| format!("/registry/{}/", row.storage_prefix))
        .collect();
    if group.is_empty() && prefixes.is_empty() {
        return Err("there is no such resource in the core group");
    }
    // Custom resources lie by group and plural; their definitions may come later.
    match plural {
        _ if group.is_empty() => {}
        "*" => prefixes.push(format!("/registry/{group}/")),
        _ if prefixes.is_empty() => prefixes.push(format!("/registry/{group}/{plural}/")),
        _ => {}
    }
    Ok(prefixes.into_iter().map(Covered::Prefix).collect())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    api_version: String,
    kind: String,
    #[serde(default)]
    resources: Vec<ResourceConfiguration>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ResourceConfiguration {
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
    providers: Vec<ProviderConfiguration>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProviderConfiguration {
    identity: Option<Identity>,
    aescbc: Option<Keys>,
    aesgcm: Option<Keys>,
    secretbox: Option<Keys>,
    kms: Option<serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Identity {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    keys: Vec<Key>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Key {
    name: String,
    secret: String,
}

impl ProviderConfiguration {
    /// A provider per key: the first encrypts.
    fn into_providers(self) -> Result<Vec<Provider>, String> {
        let named = [
            self.identity.is_some(),
            self.aescbc.is_some(),
            self.aesgcm.is_some(),
            self.secretbox.is_some(),
            self.kms.is_some(),
        ];
        match named.into_iter().filter(|is| *is).count() {
            0 => {
                return Err(": Required value: provider does not contain any of the expected providers: KMS, AESGCM, \
                             AESCBC, Secretbox, Identity"
                    .into());
            }
            1 => {}
            _ => {
                return Err(": Invalid value: more than one provider specified in a single element, should split \
                             into different list elements"
                    .into());
            }
        }
        if self.kms.is_some() {
            return Err(".kms: key management services are not supported; use aescbc, aesgcm or secretbox".into());
        }
        if let Some(keys) = self.aescbc {
            return keys.providers("aescbc", &[16, 24, 32], |secret| Some(Cipher::AesCbc(secret.into())));
        }
        if let Some(keys) = self.aesgcm {
            return keys.providers("aesgcm", &[16, 24, 32], |secret| Gcm::new(secret).map(Cipher::AesGcm));
        }
        if let Some(keys) = self.secretbox {
            return keys.providers("secretbox", &[32], |secret| {
                let cipher = crypto_secretbox::XSalsa20Poly1305::new_from_slice(secret).ok()?;
                Some(Cipher::Secretbox(Box::new(cipher)))
            });
        }
        Ok(vec![Provider::Identity])
    }
}

impl Keys {
    fn providers(
        self,
        kind: &str,
        sizes: &[usize],
        cipher: impl Fn(&[u8]) -> Option<Cipher>,
    ) -> Result<Vec<Provider>, String> {
        if self.keys.is_empty() {
            return Err(format!(".{kind}.keys: Required value: at least one key must be given"));
        }
        let mut providers = Vec::new();
        for (index, Key { name, secret }) in self.keys.into_iter().enumerate() {
            let at = format!(".{kind}.keys[{index}]");
            if name.is_empty() || name.contains(':') {
                return Err(format!("{at}.name: it must not be empty and have no colon"));
            }
            let secret = STANDARD.decode(secret).map_err(|_| format!("{at}.secret: secret must be base64 encoded"))?;
            let cipher = Some(&secret).filter(|secret| sizes.contains(&secret.len())).and_then(|it| cipher(it));
            let cipher = cipher.ok_or_else(|| {
                format!(
                    "{at}.secret: secret is not of the expected length, got {}, expected one of {sizes:?}",
                    secret.len()
                )
            })?;
            providers.push(Provider::Cipher { prefix: format!("k8s:enc:{kind}:v1:{name}:"), key: name, cipher });
        }
        Ok(providers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(resources: &str, providers: &str) -> String {
        format!(
            "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n\
             - resources: {resources}\n  providers: {providers}\n"
        )
    }

    #[test]
    fn rules_cover_resources_groups_and_everything() {
        let covers =
            |resources: &str, key: &str| parse(&file(resources, "[{identity: {}}]")).unwrap()[0].covers(key.as_bytes());
        assert!(covers("[secrets]", "/registry/secrets/n/a"));
        assert!(!covers("[secrets]", "/registry/configmaps/n/a"));
        assert!(covers("[deployments.apps]", "/registry/deployments/n/a"));
        assert!(covers("['*.apps']", "/registry/statefulsets/n/a"));
        assert!(!covers("['*.apps']", "/registry/secrets/n/a"));
        assert!(covers("['*.']", "/registry/secrets/n/a"));
        assert!(!covers("['*.']", "/registry/deployments/n/a"));
        assert!(covers("['*.*']", "/registry/anything/n/a"));
        assert!(covers("[widgets.g.example]", "/registry/g.example/widgets/n/a"));
        assert!(covers("['*.g.example']", "/registry/g.example/widgets/n/a"));
    }

    #[test]
    fn what_is_wrong_is_named_and_secrets_are_not() {
        let secret = "c2hvcnQ=";
        for (resources, providers, expected) in [
            ("[]", "[{identity: {}}]", "at least one resource"),
            ("[secrets]", "[]", "must not be empty"),
            ("[secrets]", "[{}]", "any of the expected providers"),
            ("[secrets]", "[{kms: {name: a}}]", "not supported"),
            ("[nonsense]", "[{identity: {}}]", "no such resource"),
            ("['*']", "[{identity: {}}]", "*."),
            (
                "[secrets]",
                &format!("[{{aescbc: {{keys: [{{name: a, secret: {secret}}}]}}}}]"),
                "got 5, expected one of",
            ),
            (
                "[secrets]",
                &format!("[{{aescbc: {{keys: [{{name: a, secrt: {secret}}}]}}}}]"),
                "EncryptionConfiguration",
            ),
            ("[secrets]", "[{secretbox: {keys: [{name: a, secret: '%'}]}}]", "base64"),
            ("[secrets]", "[{aesgcm: {keys: []}}]", "at least one key"),
        ] {
            let error = parse(&file(resources, providers)).err().unwrap();
            assert!(error.contains(expected), "{error}");
            assert!(!error.contains(secret), "{error}");
        }
        assert!(parse("kind: Other\napiVersion: v1\n").err().unwrap().contains("want apiserver.config.k8s.io/v1"));
    }
}
