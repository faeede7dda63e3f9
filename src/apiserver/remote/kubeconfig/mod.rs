//! A kubeconfig as webhooks are configured by it: where the server is, who it is, and who this one is to it.

mod credentials;
mod file;
mod proxy;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use rustls::client::ResolvesClientCert;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::Value;

use super::client::{self, Client};
use super::connect::Connect;
use credentials::{Certificate, Credentials};
use file::{Cluster, Context, File, User};

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
    #[error("a certificate authority has no say with insecure-skip-tls-verify: name one or the other")]
    Insecure,
    #[error("{0} can't be used: this server runs no programs to get credentials; use tokenFile or client-certificate")]
    Unsupported(&'static str),
    #[error(transparent)]
    Client(#[from] client::Error),
}

/// The server that a kubeconfig's current context names.
#[derive(Debug)]
pub struct Webhook {
    url: String,
    credentials: Credentials,
    client: Client,
}

impl Webhook {
    /// Reads the file and what it names. The server has `patience` to answer. A token and a client certificate that
    /// stand in files of their own are read again when these are replaced.
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
        let unsupported = [("exec", user.exec.is_some()), ("auth-provider", user.auth_provider.is_some())];
        if let Some((name, _)) = unsupported.into_iter().find(|(_, given)| *given) {
            return Err(Error::Unsupported(name));
        }
        let connect = connect(folder, &cluster, &user)?;
        if connect.unverified {
            let (path, server) = (path.display(), &cluster.server);
            tracing::warn!(%path, server, "insecure-skip-tls-verify: whoever is in between can answer in the server's place");
        }
        let url = match cluster.server {
            server if server.is_empty() => return Err(Error::Missing("server")),
            server if server.contains("://") => server,
            // What Kubernetes makes of an address alone.
            server if connect.unverified || !connect.authorities.is_empty() => format!("https://{server}"),
            server => format!("http://{server}"),
        };
        let credentials = Credentials::new(folder, user)?;
        Ok(Self { url, credentials, client: Client::new(connect, patience)? })
    }

    /// The server's answer to a document.
    ///
    /// # Errors
    /// If there is none.
    pub async fn post(&self, document: &Value) -> Result<Value, client::Error> {
        self.client.post(&self.url, self.credentials.headers(), document.to_string().into()).await
    }

    /// Hands over a document, in JSON.
    ///
    /// # Errors
    /// If the server does not take it.
    pub async fn deliver(&self, document: Bytes) -> Result<(), client::Error> {
        self.client.deliver(&self.url, self.credentials.headers(), document).await
    }
}

fn connect(folder: &Path, cluster: &Cluster, user: &User) -> Result<Connect, Error> {
    let authority =
        Part::new(folder, cluster.certificate_authority.as_deref(), cluster.certificate_authority_data.clone());
    if cluster.insecure_skip_tls_verify && authority.is_some() {
        return Err(Error::Insecure);
    }
    let name = "certificate-authority";
    let authorities = match authority {
        Some(authority) => certificates(name, &authority.read(name)?)?,
        None => Vec::new(),
    };
    let server_name = cluster.tls_server_name.clone().filter(|name| !name.is_empty());
    let server_name = server_name
        .map(|name| ServerName::try_from(name).map_err(|error| Error::Part("tls-server-name", error.to_string())));
    let certificate = Part::new(folder, user.client_certificate.as_deref(), user.client_certificate_data.clone());
    let key = Part::new(folder, user.client_key.as_deref(), user.client_key_data.clone());
    let identity: Option<Arc<dyn ResolvesClientCert>> = match (certificate, key) {
        (Some(certificate), Some(key)) => Some(Arc::new(Certificate::new(certificate, key)?)),
        (None, None) => None,
        _ => return Err(Error::Missing("client-certificate with its client-key")),
    };
    let proxy = cluster.proxy_url.as_deref().filter(|url| !url.is_empty()).map(proxy::parse).transpose()?;
    Ok(Connect {
        authorities,
        unverified: cluster.insecure_skip_tls_verify,
        server_name: server_name.transpose()?,
        identity,
        proxy,
        plain: true,
    })
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })
}

/// What stands in the kubeconfig itself, in base64, or in another file.
#[derive(Debug, Clone)]
enum Part {
    Data(String),
    File(PathBuf),
}

impl Part {
    fn new(folder: &Path, file: Option<&Path>, data: Option<String>) -> Option<Self> {
        match (data.filter(|data| !data.is_empty()), file.filter(|file| !file.as_os_str().is_empty())) {
            (Some(data), _) => Some(Self::Data(data)),
            (None, Some(file)) => Some(Self::File(folder.join(file))),
            (None, None) => None,
        }
    }

    /// Its bytes; `name` is what errors call it.
    fn read(&self, name: &'static str) -> Result<Vec<u8>, Error> {
        match self {
            Self::Data(data) => STANDARD.decode(data.trim()).map_err(|error| Error::Part(name, error.to_string())),
            Self::File(path) => read(path),
        }
    }

    fn file(&self) -> Option<PathBuf> {
        match self {
            Self::Data(_) => None,
            Self::File(path) => Some(path.clone()),
        }
    }
}

fn certificates(name: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|error| Error::Part(name, error.to_string()))?;
    if found.is_empty() { Err(Error::Part(name, "there is no certificate in it".to_owned())) } else { Ok(found) }
}
