//! A kubeconfig as webhooks are configured by it: where the server is, who it is, and who this one is to it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::HeaderValue;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::Deserialize;
use serde_json::Value;

use super::client::{self, Client};

/// Why a kubeconfig can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read {path}: {source}", path = path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("it is not valid: {0}")]
    Invalid(String),
    #[error("it names no {0}")]
    Missing(&'static str),
    #[error("{0} can't be used: {1}")]
    Part(&'static str, String),
    #[error("insecure-skip-tls-verify can't be used: whoever is in between would answer in the server's place")]
    Insecure,
    #[error("{0} of a kubeconfig has no effect here, and the server would be asked otherwise than is meant")]
    Unsupported(&'static str),
    #[error(transparent)]
    Client(#[from] client::Error),
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct File {
    clusters: Vec<NamedCluster>,
    users: Vec<NamedUser>,
    contexts: Vec<NamedContext>,
    current_context: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct NamedCluster {
    name: String,
    cluster: Cluster,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct Cluster {
    server: String,
    certificate_authority: Option<PathBuf>,
    certificate_authority_data: Option<String>,
    insecure_skip_tls_verify: bool,
    proxy_url: Option<String>,
    tls_server_name: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct NamedUser {
    name: String,
    user: User,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct User {
    client_certificate: Option<PathBuf>,
    client_certificate_data: Option<String>,
    client_key: Option<PathBuf>,
    client_key_data: Option<String>,
    token: Option<String>,
    // Kubernetes writes this one otherwise.
    #[serde(rename = "tokenFile")]
    token_file: Option<PathBuf>,
    username: Option<String>,
    password: Option<String>,
    exec: Option<Value>,
    auth_provider: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct NamedContext {
    name: String,
    context: Context,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Context {
    cluster: String,
    user: String,
}

/// The server that a kubeconfig's current context names.
#[derive(Debug)]
pub struct Webhook {
    url: String,
    credentials: Option<HeaderValue>,
    client: Client,
}

impl Webhook {
    /// Reads the file and what it names. The server has `patience` to answer.
    ///
    /// # Errors
    /// If any of it can't be used.
    pub fn load(path: &Path, patience: Duration) -> Result<Self, Error> {
        let text = String::from_utf8(read(path)?).map_err(|error| Error::Invalid(error.to_string()))?;
        let file: File = serde_saphyr::from_str(&text).map_err(|error| Error::Invalid(error.to_string()))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let context = file.contexts.into_iter().find(|context| context.name == file.current_context);
        let Context { cluster, user } = context.ok_or(Error::Missing("current-context"))?.context;
        let cluster = file.clusters.into_iter().find(|named| named.name == cluster);
        let cluster = cluster.ok_or(Error::Missing("cluster"))?.cluster;
        let user = file.users.into_iter().find(|named| named.name == user).unwrap_or_default().user;
        if cluster.insecure_skip_tls_verify {
            return Err(Error::Insecure);
        }
        let unsupported = [
            ("proxy-url", cluster.proxy_url.is_some()),
            ("tls-server-name", cluster.tls_server_name.is_some()),
            ("exec", user.exec.is_some()),
            ("auth-provider", user.auth_provider.is_some()),
        ];
        if let Some((name, _)) = unsupported.into_iter().find(|(_, given)| *given) {
            return Err(Error::Unsupported(name));
        }
        let authority =
            part(folder, "certificate-authority", cluster.certificate_authority, cluster.certificate_authority_data)?;
        let authorities =
            authority.map(|pem| certificates("certificate-authority", &pem)).transpose()?.unwrap_or_default();
        let certificate = part(folder, "client-certificate", user.client_certificate, user.client_certificate_data)?;
        let key = part(folder, "client-key", user.client_key, user.client_key_data)?;
        let identity = match (certificate, key) {
            (Some(certificate), Some(key)) => {
                let key = PrivateKeyDer::from_pem_slice(&key);
                let key = key.map_err(|error| Error::Part("client-key", error.to_string()))?;
                Some((certificates("client-certificate", &certificate)?, key))
            }
            (None, None) => None,
            _ => return Err(Error::Missing("client-certificate with its client-key")),
        };
        let token = match (user.token, user.token_file) {
            (Some(token), _) => Some(token),
            (None, Some(file)) => Some(String::from_utf8_lossy(&read(&folder.join(file))?).trim().to_owned()),
            (None, None) => None,
        };
        let credentials = match (token, user.username) {
            (Some(token), _) => Some(header("token", &format!("Bearer {token}"))?),
            (None, Some(name)) => {
                let pair = STANDARD.encode(format!("{name}:{}", user.password.unwrap_or_default()));
                Some(header("username", &format!("Basic {pair}"))?)
            }
            (None, None) => None,
        };
        let client = Client::new(&authorities, identity, patience)?;
        Ok(Self { url: cluster.server, credentials, client })
    }

    /// The server's answer to a document.
    ///
    /// # Errors
    /// If there is none.
    pub async fn post(&self, document: &Value) -> Result<Value, client::Error> {
        self.client.post(&self.url, self.credentials.as_ref(), document.to_string().into()).await
    }

    /// Hands over a document, in JSON.
    ///
    /// # Errors
    /// If the server does not take it.
    pub async fn deliver(&self, document: Bytes) -> Result<(), client::Error> {
        self.client.deliver(&self.url, self.credentials.as_ref(), document).await
    }
}

fn header(name: &'static str, value: &str) -> Result<HeaderValue, Error> {
    let mut value = HeaderValue::from_str(value).map_err(|error| Error::Part(name, error.to_string()))?;
    value.set_sensitive(true);
    Ok(value)
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })
}

/// What stands in the file itself, or in another.
fn part(
    folder: &Path,
    name: &'static str,
    file: Option<PathBuf>,
    data: Option<String>,
) -> Result<Option<Vec<u8>>, Error> {
    match (data, file) {
        (Some(data), _) => {
            let data = STANDARD.decode(data.trim()).map_err(|error| Error::Part(name, error.to_string()))?;
            Ok(Some(data))
        }
        (None, Some(file)) => read(&folder.join(file)).map(Some),
        (None, None) => Ok(None),
    }
}

fn certificates(name: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|error| Error::Part(name, error.to_string()))?;
    if found.is_empty() { Err(Error::Part(name, "there is no certificate in it".to_owned())) } else { Ok(found) }
}
