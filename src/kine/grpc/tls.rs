//! TLS for connections over TCP.

use std::sync::Arc;

use rustls::{RootCertStore, ServerConfig, server::WebPkiClientVerifier};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

/// Certificate and key of the server, as PEM, and whose certificates clients must have.
#[derive(Clone)]
pub struct Tls {
    pub certificate: Vec<u8>,
    pub key: Vec<u8>,
    /// Authorities whose client certificates are accepted. `None`: any client may connect.
    pub client_ca: Option<Vec<u8>>,
}

/// What is wrong with a [`Tls`].
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("the {what} is no PEM: {source}")]
    Pem { what: &'static str, source: rustls_pki_types::pem::Error },
    #[error("certificate and key: {0}")]
    Certificate(#[source] rustls::Error),
    #[error("the certificates of client authorities: {0}")]
    Authorities(String),
}

impl Tls {
    pub(super) fn config(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let provider = k3s_tls::provider();
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Certificate)?;
        let builder = match &self.client_ca {
            Some(authorities) => {
                let mut roots = RootCertStore::empty();
                for authority in certificates(authorities, "file of client authorities")? {
                    roots.add(authority).map_err(|error| TlsError::Authorities(error.to_string()))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                    .build()
                    .map_err(|error| TlsError::Authorities(error.to_string()))?;
                builder.with_client_cert_verifier(verifier)
            }
            None => builder.with_no_client_auth(),
        };
        let chain = certificates(&self.certificate, "server's certificate")?;
        let key = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|source| TlsError::Pem { what: "server's key", source })?;
        let mut config = builder.with_single_cert(chain, key).map_err(TlsError::Certificate)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Arc::new(config))
    }
}

fn certificates(pem: &[u8], what: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>().map_err(|source| TlsError::Pem { what, source })
}
