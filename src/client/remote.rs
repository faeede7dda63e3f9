//! The transport of components that are not in the server's process.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Uri;
use kube::config::AuthInfo;
use kube::{Client, Config};

/// How a component proves who it is.
pub enum Credentials {
    /// A client certificate (with its chain) and its key, both PEM.
    Certificate { chain: String, key: String },
    /// A bearer token.
    Token(String),
    /// A file with a bearer token, read again when it changes, as the kubelet renews those of pods.
    TokenFile(PathBuf),
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
#[error("cannot make a client of the API server at {url}: {source}")]
pub struct Error {
    url: Uri,
    source: Box<kube::Error>,
}

/// A client of the API server at `url` (`https://ADDRESS:PORT`), whose certificate one of `authorities` (DER) must have
/// signed. Nothing is sent before the first request.
///
/// # Errors
/// If certificates, key or URL are not what they should be.
pub fn remote(url: Uri, authorities: Vec<Vec<u8>>, credentials: Credentials) -> Result<Client, Error> {
    let mut config = Config::new(url.clone());
    config.root_cert = Some(authorities);
    config.auth_info = match credentials {
        Credentials::Certificate { chain, key } => AuthInfo {
            client_certificate_data: Some(STANDARD.encode(chain)),
            client_key_data: Some(STANDARD.encode(key).into()),
            ..AuthInfo::default()
        },
        Credentials::Token(token) => AuthInfo { token: Some(token.into()), ..AuthInfo::default() },
        Credentials::TokenFile(path) => {
            AuthInfo { token_file: Some(path.to_string_lossy().into_owned()), ..AuthInfo::default() }
        }
    };
    Client::try_from(config).map_err(|source| Error { url, source: Box::new(source) })
}
