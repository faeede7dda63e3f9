//! Who may ask.

use http::StatusCode;
use rustls::pki_types::CertificateDer;
use x509_parser::parse_x509_certificate;

const ADMINISTRATORS: &str = "system:masters";

/// Who may use the kubelet's port, besides administrators (`system:masters`): names of client certificates.
#[derive(Debug, Clone)]
pub struct Admitted {
    /// Common names, e.g. `system:apiserver`.
    pub names: Vec<String>,
}

impl Default for Admitted {
    /// k3s's API server.
    fn default() -> Self {
        Self { names: vec!["system:apiserver".into()] }
    }
}

/// Who a verified client certificate is for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Identity {
    name: String,
    groups: Vec<String>,
}

impl Identity {
    pub fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, certificate) = parse_x509_certificate(certificate).ok()?;
        let subject = certificate.subject();
        let name = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
        let groups = subject.iter_organization().filter_map(|group| group.as_str().ok()).map(str::to_owned).collect();
        Some(Self { name, groups })
    }
}

impl Admitted {
    /// What to answer to somebody who may not ask.
    pub(super) fn check(&self, identity: Option<&Identity>) -> Result<(), (StatusCode, String)> {
        let Some(identity) = identity else { return Err((StatusCode::UNAUTHORIZED, "Unauthorized".into())) };
        let administrator = identity.groups.iter().any(|group| group == ADMINISTRATORS);
        if administrator || self.names.contains(&identity.name) {
            return Ok(());
        }
        Err((StatusCode::FORBIDDEN, format!("Forbidden (user={})", identity.name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair};

    fn identity(name: &str, group: Option<&str>) -> Identity {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        if let Some(group) = group {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        Identity::of(certificate.der()).unwrap()
    }

    #[test]
    fn only_the_api_server_and_administrators_are_admitted() {
        let admitted = Admitted::default();
        assert_eq!(admitted.check(Some(&identity("system:apiserver", None))), Ok(()));
        assert_eq!(admitted.check(Some(&identity("admin", Some("system:masters")))), Ok(()));
        let other = admitted.check(Some(&identity("system:node:a", Some("system:nodes"))));
        assert_eq!(other.unwrap_err().0, StatusCode::FORBIDDEN);
        assert_eq!(admitted.check(None).unwrap_err().0, StatusCode::UNAUTHORIZED);
    }
}
