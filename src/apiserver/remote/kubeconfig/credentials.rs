//! Who this server is to the one that it asks.

use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::sign::CertifiedKey;

use super::file::User;
use super::{Error, Part, certificates};
use crate::remote::reread::Reread;

/// What every request says.
#[derive(Debug)]
pub(super) struct Credentials {
    headers: HeaderMap,
    /// The token of a file, which is renewed there.
    token: Option<Reread<HeaderValue>>,
}

impl Credentials {
    /// Of a kubeconfig in that folder.
    ///
    /// # Errors
    /// If a file can't be read, or something is no text for a header.
    pub fn new(folder: &Path, user: User) -> Result<Self, Error> {
        let mut headers = HeaderMap::new();
        // Of a token and its file, the file has the newer one.
        let token = match user.token_file.filter(|file| !file.as_os_str().is_empty()) {
            Some(file) => {
                let file = folder.join(file);
                let path = file.clone();
                Some(Reread::new(vec![file], move || {
                    let token = String::from_utf8_lossy(&super::read(&path)?).trim().to_owned();
                    match token.is_empty() {
                        true => Err(Error::Part("tokenFile", format!("{} is empty", path.display()))),
                        false => secret("tokenFile", &format!("Bearer {token}")),
                    }
                })?)
            }
            None => None,
        };
        if let Some(token) = user.token.filter(|token| !token.is_empty()) {
            headers.insert(AUTHORIZATION, secret("token", &format!("Bearer {token}"))?);
        } else if let Some(name) = user.username.filter(|name| !name.is_empty()) {
            let pair = STANDARD.encode(format!("{name}:{}", user.password.unwrap_or_default()));
            headers.insert(AUTHORIZATION, secret("username", &format!("Basic {pair}"))?);
        }
        let text = |text: &str| HeaderValue::from_str(text).map_err(|error| Error::Part("as", error.to_string()));
        for (name, value) in [("impersonate-user", user.impersonate), ("impersonate-uid", user.as_uid)] {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                headers.insert(HeaderName::from_static(name), text(&value)?);
            }
        }
        for group in &user.as_groups {
            headers.append(HeaderName::from_static("impersonate-group"), text(group)?);
        }
        for (key, values) in &user.as_user_extra {
            let name = format!("impersonate-extra-{}", utf8_percent_encode(key, NON_ALPHANUMERIC)).to_lowercase();
            let name = HeaderName::try_from(name).map_err(|error| Error::Part("as-user-extra", error.to_string()))?;
            for value in values {
                headers.append(name.clone(), text(value)?);
            }
        }
        Ok(Self { headers, token })
    }

    /// The headers of a request.
    pub fn headers(&self) -> HeaderMap {
        let mut headers = self.headers.clone();
        if let Some(token) = &self.token {
            headers.insert(AUTHORIZATION, token.get());
        }
        headers
    }
}

fn secret(name: &'static str, value: &str) -> Result<HeaderValue, Error> {
    let mut value = HeaderValue::from_str(value).map_err(|error| Error::Part(name, error.to_string()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// A client certificate and its key. What stands in files is renewed there; each new connection shows what is in them.
#[derive(Debug)]
pub(super) struct Certificate(Reread<Arc<CertifiedKey>>);

impl Certificate {
    /// # Errors
    /// If they can't be read, or do not belong together.
    pub fn new(certificate: Part, key: Part) -> Result<Self, Error> {
        let files = [&certificate, &key].into_iter().filter_map(Part::file).collect();
        let make = move || {
            let chain = certificates("client-certificate", &certificate.read("client-certificate")?)?;
            let wrong = |why: String| Error::Part("client-key", why);
            let key =
                PrivateKeyDer::from_pem_slice(&key.read("client-key")?).map_err(|error| wrong(error.to_string()))?;
            let pair = CertifiedKey::from_der(chain, key, &k3s_tls::provider());
            pair.map(Arc::new).map_err(|error| wrong(error.to_string()))
        };
        Ok(Self(Reread::new(files, make)?))
    }
}

impl ResolvesClientCert for Certificate {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.get())
    }

    fn has_certs(&self) -> bool {
        true
    }
}
