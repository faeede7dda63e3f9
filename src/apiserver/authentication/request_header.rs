//! The authenticating front proxy: a proxy that shows a certificate of the request-header CA says in headers who the
//! user is (<https://kubernetes.io/docs/reference/access-authn-authz/authentication/#authenticating-proxy>).

use http::HeaderMap;
use k3s_api::authentication::UserInfo;
use percent_encoding::percent_decode_str;
use rustls::pki_types::CertificateDer;

use super::x509::{self, ClientCa};

/// Who may speak for others, as k3s sets it: `X-Remote-User`, `X-Remote-Group`, `X-Remote-Extra-`.
#[derive(Debug, Clone)]
pub struct RequestHeader {
    ca: ClientCa,
    /// Common names the proxy's certificate may have; empty: any.
    allowed_names: Vec<String>,
}

impl RequestHeader {
    /// A proxy whose certificate `authorities` signed and whose common name is one of `allowed_names` (empty: any).
    ///
    /// # Errors
    /// If the CA's certificates cannot be used.
    pub fn new(authorities: &[CertificateDer<'static>], allowed_names: Vec<String>) -> Result<Self, x509::Error> {
        Ok(Self { ca: ClientCa::new("the request-header CA", authorities)?, allowed_names })
    }

    /// The CA that signs the proxies' certificates.
    pub fn ca(&self) -> &ClientCa {
        &self.ca
    }

    /// The user the proxy names, if the peer is such a proxy and names one.
    pub fn user(&self, certificates: &[CertificateDer<'_>], headers: &HeaderMap) -> Option<UserInfo> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).filter(|text| !text.is_empty());
        let name = text("x-remote-user")?;
        let proxy = self.ca.user(certificates).ok()?;
        if !self.allowed_names.is_empty() && !self.allowed_names.contains(&proxy.name) {
            return None;
        }
        let groups = headers.get_all("x-remote-group").iter();
        let mut user = UserInfo {
            name: name.to_owned(),
            uid: text("x-remote-uid").unwrap_or_default().to_owned(),
            groups: groups.filter_map(|value| value.to_str().ok()).map(str::to_owned).collect(),
            ..UserInfo::default()
        };
        for (name, value) in headers {
            if let (Some(key), Ok(value)) = (name.as_str().strip_prefix("x-remote-extra-"), value.to_str()) {
                let key = percent_decode_str(key).decode_utf8_lossy().into_owned();
                user.extra.entry(key).or_default().push(value.to_owned());
            }
        }
        Some(user)
    }
}
