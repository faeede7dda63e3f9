//! Which certificates of webhooks and aggregated API servers are believed: those that Kubernetes would believe.

use std::sync::Arc;

use base64::Engine;
use k3s_tls::Check;
use rustls::client::danger::ServerCertVerifier;
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, RootCertStore};
use x509_parser::parse_x509_certificate;

use super::{ClientCertificate, dial};

/// Where distributions keep the authorities that the host trusts, in the order in which Go looks.
const HOST_BUNDLES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// TLS that trusts the authorities of a base64 `caBundle` alone; of an empty one, those of the host.
pub(super) fn tls(bundle: &str, client: Option<&ClientCertificate>) -> Result<Arc<ClientConfig>, String> {
    let trusted = authorities(bundle)?;
    let mut roots = RootCertStore::empty();
    for certificate in &trusted {
        let added = roots.add(certificate.clone());
        // Of the host's authorities those that can't be read are left out, as everywhere.
        if let Err(error) = added
            && !bundle.is_empty()
        {
            return Err(format!("unable to load root certificates: {error}"));
        }
    }
    let config = dial::tls(roots.clone(), client).map_err(|error| error.to_string())?;
    if trusted.is_empty() {
        return Ok(config);
    }
    let chains = k3s_tls::chains(roots).map_err(|error| format!("unable to load root certificates: {error}"))?;
    let mut config = Arc::unwrap_or_clone(config);
    config.dangerous().set_certificate_verifier(k3s_tls::Server::by(Bundle { chains, trusted }));
    Ok(Arc::new(config))
}

fn authorities(bundle: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    if bundle.is_empty() {
        let pem = HOST_BUNDLES.iter().find_map(|path| std::fs::read(path).ok()).unwrap_or_default();
        return Ok(CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok).collect());
    }
    let unusable = |error: String| format!("unable to load root certificates: {error}");
    let pem = base64::engine::general_purpose::STANDARD.decode(bundle).map_err(|error| unusable(error.to_string()))?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        Ok(_) => Err(unusable("unable to parse bytes as PEM block".to_owned())),
        Err(error) => Err(unusable(error.to_string())),
    }
}

/// Chains that end at an authority, as everywhere, and a certificate that is itself in the bundle: what
/// `openssl req -x509` makes is authority and server in one, which Go takes and webpki does not.
#[derive(Debug)]
struct Bundle {
    chains: Arc<WebPkiServerVerifier>,
    trusted: Vec<CertificateDer<'static>>,
}

impl Bundle {
    /// Whether it is one of the bundle, for that name, now.
    fn is_trusted_itself(
        &self,
        certificate: &CertificateDer<'_>,
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<bool, rustls::Error> {
        if !self.trusted.iter().any(|trusted| **trusted == **certificate) {
            return Ok(false);
        }
        verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
        let (_, parsed) = parse_x509_certificate(certificate).map_err(|_| CertificateError::BadEncoding)?;
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let validity = parsed.validity();
        match () {
            () if now < validity.not_before.timestamp() => Err(CertificateError::NotValidYet.into()),
            () if now > validity.not_after.timestamp() => Err(CertificateError::Expired.into()),
            () => Ok(true),
        }
    }
}

impl Check for Bundle {
    fn check(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        match self.chains.verify_server_cert(certificate, intermediates, name, &[], now) {
            Err(error) if self.is_trusted_itself(certificate, name, now)? => {
                tracing::trace!(%error, "the certificate is in the bundle itself");
                Ok(())
            }
            checked => checked.map(drop),
        }
    }
}

/// Why a handshake failed, in the words that people search for.
pub(super) fn tls_error(error: &std::io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let Some(rustls::Error::InvalidCertificate(reason)) = inner else { return format!("tls: {error}") };
    let why = match reason {
        // Another authority of the same name has signed it.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "certificate signed by unknown authority".to_owned()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "certificate has expired or is not yet valid".to_owned()
        }
        other => other.to_string(),
    };
    format!("tls: failed to verify certificate: x509: {why}")
}
