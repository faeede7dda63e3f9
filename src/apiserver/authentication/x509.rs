//! Client certificates: the common name is the user, the organizations are the groups.

use std::sync::Arc;
use std::time::Duration;

use k3s_api::authentication::UserInfo;
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use sha2::Digest;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Why a client certificate is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A CA certificate that was configured cannot be used.
    #[error("cannot use a CA certificate of {what}: {source}")]
    Authority { what: &'static str, source: rustls::Error },
    /// No usable CA certificate was configured.
    #[error("cannot verify with the CA certificates of {what}: {detail}")]
    Verifier { what: &'static str, detail: String },
    /// Not signed by the CA, expired, or not made for client authentication.
    #[error("client certificate refused: {0}")]
    Refused(rustls::Error),
    /// The certificate is no X.509.
    #[error("client certificate cannot be read: {0}")]
    Malformed(String),
    /// It has no common name, so it names no user.
    #[error("client certificate has no common name")]
    NoCommonName,
}

/// A CA that signs client certificates.
#[derive(Debug, Clone)]
pub struct ClientCa(Arc<dyn ClientCertVerifier>);

impl ClientCa {
    /// Trusts what `authorities` signed; `what` names them in errors.
    ///
    /// # Errors
    /// If there is no certificate among them or one is damaged.
    pub fn new(what: &'static str, authorities: &[CertificateDer<'static>]) -> Result<Self, Error> {
        let mut roots = RootCertStore::empty();
        for authority in authorities {
            roots.add(authority.clone()).map_err(|source| Error::Authority { what, source })?;
        }
        let provider = k3s_tls::provider();
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map(Self)
            .map_err(|error| Error::Verifier { what, detail: error.to_string() })
    }

    /// The subjects of the CAs, for the TLS handshake to ask for.
    pub fn names(&self) -> Vec<rustls::DistinguishedName> {
        self.0.root_hint_subjects().to_vec()
    }

    /// The user whom `certificates` (the client's own first) name, if the CA signed them and they are valid now.
    ///
    /// # Errors
    /// Any of [`Error`] about the client's certificate.
    pub fn user(&self, certificates: &[CertificateDer<'_>]) -> Result<UserInfo, Error> {
        self.certify(certificates).map(|certified| certified.user)
    }

    /// As [`ClientCa::user`], to be remembered: this checks signatures.
    pub(crate) fn certify(&self, certificates: &[CertificateDer<'_>]) -> Result<Certified, Error> {
        let Some((own, intermediates)) = certificates.split_first() else {
            return Err(Error::Malformed("none was shown".to_owned()));
        };
        self.0.verify_client_cert(own, intermediates, now()).map_err(Error::Refused)?;
        let (_, certificate) = X509Certificate::from_der(own).map_err(|error| Error::Malformed(error.to_string()))?;
        let subject = certificate.subject();
        let name = subject
            .iter_common_name()
            .filter_map(|attribute| attribute.as_str().ok())
            .find(|name| !name.is_empty())
            .ok_or(Error::NoCommonName)?;
        let groups = subject.iter_organization().filter_map(|attribute| attribute.as_str().ok());
        let mut user =
            UserInfo { name: name.to_owned(), groups: groups.map(str::to_owned).collect(), ..UserInfo::default() };
        // As Kubernetes since 1.34: which credential it was.
        let fingerprint = crate::authentication::hex(&sha2::Sha256::digest(own));
        user.extra.insert(super::CREDENTIAL_ID.to_owned(), vec![format!("X509SHA256={fingerprint}")]);
        let expiries = certificates.iter().map(|shown| expiry(shown));
        let until = expiries.collect::<Result<Vec<_>, _>>()?.into_iter().min().unwrap_or_default();
        Ok(Certified { user, until })
    }
}

/// Whom certificates name.
#[derive(Debug, Clone)]
pub(crate) struct Certified {
    pub user: UserInfo,
    /// The last second, since 1970, in which they are all valid.
    until: i64,
}

impl Certified {
    /// Whether the certificates, which were good once, still are.
    pub fn is_valid(&self) -> bool {
        i64::try_from(now().as_secs()).is_ok_and(|now| now <= self.until)
    }
}

fn expiry(certificate: &CertificateDer<'_>) -> Result<i64, Error> {
    let (_, read) = X509Certificate::from_der(certificate).map_err(|error| Error::Malformed(error.to_string()))?;
    Ok(read.validity().not_after.timestamp())
}

fn now() -> UnixTime {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    UnixTime::since_unix_epoch(since.unwrap_or(Duration::ZERO))
}
