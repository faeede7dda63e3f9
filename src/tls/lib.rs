//! Who the other side of TLS may be, where webpki's own answer is not the one that is wanted.
//!
//! Whatever a [`Check`] accepts, the peer must hold the key of the certificate that it shows: the signatures of the
//! handshake are always verified (RFC 8446, 4.4.3; RFC 5246, 7.4.3 and 7.4.8).

use std::fmt;
use std::sync::Arc;

use rustls::DistinguishedName;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

/// The cryptography of all TLS here: ring's.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Chains to those authorities, as webpki verifies them.
///
/// # Errors
/// None of the authorities can be used.
pub fn chains(roots: RootCertStore) -> Result<Arc<WebPkiServerVerifier>, rustls::client::VerifierBuilderError> {
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build()
}

/// Decides whether a server's certificate is the one that is wanted.
pub trait Check: fmt::Debug + Send + Sync {
    /// # Errors
    /// Why it is not; it ends the handshake.
    fn check(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), Error>;
}

/// Any server: what pods, probes and `insecure_skip_verify` ask for.
#[derive(Debug, Clone, Copy)]
pub struct AnyServer;

impl Check for AnyServer {
    fn check(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: UnixTime,
    ) -> Result<(), Error> {
        Ok(())
    }
}

/// The verifier of a client: the certificate by its [`Check`], the signatures always.
#[derive(Debug)]
pub struct Server<C> {
    check: C,
    algorithms: WebPkiSupportedAlgorithms,
}

impl<C: Check + 'static> Server<C> {
    pub fn by(check: C) -> Arc<Self> {
        Arc::new(Self { check, algorithms: provider().signature_verification_algorithms })
    }
}

/// The verifier of a server that looks at certificates later: a client may show none, and what it shows it holds.
///
/// Who signed it is then a question of each request, whose answer can say more than a broken handshake.
#[derive(Debug)]
pub struct AnyClient {
    hints: Vec<DistinguishedName>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl AnyClient {
    /// `hints` are the authorities whose certificates clients are asked for.
    pub fn hinting(hints: Vec<DistinguishedName>) -> Arc<Self> {
        Arc::new(Self { hints, algorithms: provider().signature_verification_algorithms })
    }
}

/// The part that both verifiers have.
macro_rules! verify_signatures {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls12_signature(message, certificate, signature, &self.algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls13_signature(message, certificate, signature, &self.algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.algorithms.supported_schemes()
        }
    };
}

impl<C: Check> ServerCertVerifier for Server<C> {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check.check(certificate, intermediates, name, now).map(|()| ServerCertVerified::assertion())
    }

    verify_signatures!();
}

impl ClientCertVerifier for AnyClient {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    verify_signatures!();
}

#[cfg(test)]
mod tests {
    use rcgen::{CertifiedKey, KeyPair};
    use rustls::crypto::ring::sign::any_supported_type;
    use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
    use rustls::server::{ClientHello, ResolvesServerCert};
    use rustls::sign;
    use rustls::{ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection};

    use super::*;

    fn certificate() -> CertifiedKey<KeyPair> {
        rcgen::generate_simple_self_signed(["here".to_owned()]).unwrap()
    }

    fn private(key: &KeyPair) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(key.serialize_der()).into()
    }

    /// Shows a certificate, and signs with whatever key it has.
    #[derive(Debug)]
    struct Shows(Arc<sign::CertifiedKey>);

    impl ResolvesServerCert for Shows {
        fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<sign::CertifiedKey>> {
            Some(Arc::clone(&self.0))
        }
    }

    fn server(certificate: &CertifiedKey<KeyPair>, key: &KeyPair) -> ServerConfig {
        let key = any_supported_type(&private(key)).unwrap();
        let shown = sign::CertifiedKey::new(vec![certificate.cert.der().clone()], key);
        ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(AnyClient::hinting(Vec::new()))
            .with_cert_resolver(Arc::new(Shows(Arc::new(shown))))
    }

    fn client(check: impl Check + 'static, shown: Option<&CertifiedKey<KeyPair>>) -> ClientConfig {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Server::by(check));
        match shown {
            Some(shown) => {
                builder.with_client_auth_cert(vec![shown.cert.der().clone()], private(&shown.signing_key)).unwrap()
            }
            None => builder.with_no_client_auth(),
        }
    }

    /// Lets both speak until neither has more to say: the server's side, or the first error.
    fn handshake(client: ClientConfig, server: ServerConfig) -> Result<ServerConnection, Error> {
        let mut client = ClientConnection::new(Arc::new(client), "here".try_into().unwrap()).unwrap();
        let mut server = ServerConnection::new(Arc::new(server)).unwrap();
        while client.wants_write() || server.wants_write() {
            let mut wire = Vec::new();
            client.write_tls(&mut wire).unwrap();
            server.read_tls(&mut wire.as_slice()).unwrap();
            server.process_new_packets()?;
            let mut wire = Vec::new();
            server.write_tls(&mut wire).unwrap();
            client.read_tls(&mut wire.as_slice()).unwrap();
            client.process_new_packets()?;
        }
        assert!(!Connection::from(client).is_handshaking());
        Ok(server)
    }

    #[test]
    fn any_server_is_believed_that_holds_its_key() {
        let own = certificate();
        handshake(client(AnyServer, None), server(&own, &own.signing_key)).unwrap();
    }

    #[test]
    fn a_certificate_without_its_key_is_worth_nothing() {
        let (stolen, own) = (certificate(), certificate());
        let error = handshake(client(AnyServer, None), server(&stolen, &own.signing_key)).unwrap_err();
        assert!(matches!(error, Error::InvalidCertificate(rustls::CertificateError::BadSignature)), "{error:?}");
    }

    #[test]
    fn what_a_check_refuses_ends_the_handshake() {
        #[derive(Debug)]
        struct Nobody;
        impl Check for Nobody {
            fn check(
                &self,
                _: &CertificateDer<'_>,
                _: &[CertificateDer<'_>],
                _: &ServerName<'_>,
                _: UnixTime,
            ) -> Result<(), Error> {
                Err(rustls::CertificateError::ApplicationVerificationFailure.into())
            }
        }
        let own = certificate();
        let error = handshake(client(Nobody, None), server(&own, &own.signing_key)).unwrap_err();
        let wanted = rustls::CertificateError::ApplicationVerificationFailure;
        assert_eq!(error, Error::InvalidCertificate(wanted));
    }

    #[test]
    fn a_client_shows_its_certificate_or_none() {
        let (own, theirs) = (certificate(), certificate());
        let without = handshake(client(AnyServer, None), server(&own, &own.signing_key)).unwrap();
        assert_eq!(without.peer_certificates(), None);
        let with = handshake(client(AnyServer, Some(&theirs)), server(&own, &own.signing_key)).unwrap();
        assert_eq!(with.peer_certificates().unwrap()[0], *theirs.cert.der());
    }
}
