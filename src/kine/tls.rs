//! TLS towards the servers of a datastore.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use k3s_tls::{AnyServer, Check};
use rustls::{
    ClientConfig, RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject};

/// The files of `--datastore-cafile`, `--datastore-certfile` and `--datastore-keyfile`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Files {
    /// Certificates that the server's must lead to.
    pub ca: Option<PathBuf>,
    /// The certificate to show to the server, with those between it and its root.
    pub cert: Option<PathBuf>,
    /// The key of `cert`.
    pub key: Option<PathBuf>,
}

impl Files {
    /// Whether any is given: then TLS is wanted.
    pub fn any(&self) -> bool {
        self.ca.is_some() || self.cert.is_some() || self.key.is_some()
    }

    /// The certificate and key to show.
    ///
    /// # Errors
    /// [`Error::Half`] if only one of them is given.
    pub fn identity(&self) -> Result<Option<(&Path, &Path)>, Error> {
        match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => Ok(Some((cert, key))),
            (None, None) => Ok(None),
            _ => Err(Error::Half),
        }
    }

    /// Reads all of them, to find out whether they can be used.
    ///
    /// # Errors
    /// Which file can't, and why.
    pub fn check(&self) -> Result<(), Error> {
        self.config(Verify::Full).map(drop)
    }

    /// What a client shows and trusts: the given authorities, and without any nobody.
    pub(crate) fn config(&self, verify: Verify) -> Result<ClientConfig, Error> {
        let mut roots = RootCertStore::empty();
        if let Some(ca) = &self.ca {
            for certificate in certificates(ca)? {
                roots.add(certificate).map_err(|error| Error::file(ca, &error))?;
            }
        }
        self.config_trusting(roots, verify)
    }

    /// The same, but without a given authority those of this machine are trusted.
    pub(crate) fn config_or_native(&self) -> Result<ClientConfig, Error> {
        if self.ca.is_some() {
            return self.config(Verify::Full);
        }
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err(Error::NoAuthority { what: "https:// without authorities on this machine".into() });
        }
        self.config_trusting(roots, Verify::Full)
    }

    fn config_trusting(&self, roots: RootCertStore, verify: Verify) -> Result<ClientConfig, Error> {
        let unusable = |error: &dyn std::fmt::Display| Error::Unusable { detail: error.to_string() };
        let builder = ClientConfig::builder_with_provider(k3s_tls::provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(&error))?;
        let builder = match verify {
            Verify::Full => builder.with_root_certificates(roots),
            Verify::Authority => {
                let chains = k3s_tls::chains(roots).map_err(|error| unusable(&error))?;
                builder.dangerous().with_custom_certificate_verifier(k3s_tls::Server::by(Authority(chains)))
            }
            Verify::Nothing => builder.dangerous().with_custom_certificate_verifier(k3s_tls::Server::by(AnyServer)),
        };
        let Some((cert, key)) = self.identity()? else { return Ok(builder.with_no_client_auth()) };
        let private = PrivateKeyDer::from_pem_file(key).map_err(|error| Error::file(key, &error))?;
        builder.with_client_auth_cert(certificates(cert)?, private).map_err(|error| Error::file(cert, &error))
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let all = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| Error::file(path, &error))?;
    match all.is_empty() {
        true => Err(Error::File { path: path.into(), detail: "there is no certificate in it".into() }),
        false => Ok(all),
    }
}

/// Why TLS can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file can't be read, or is not what it should be.
    #[error("cannot use {}: {detail}", path.display())]
    File { path: PathBuf, detail: String },
    /// A certificate without a key, or the other way round.
    #[error(
        "a client certificate needs both its file and its key's: --datastore-certfile and --datastore-keyfile \
             (k3s kine: --cert-file and --key-file)"
    )]
    Half,
    /// A server can only be verified by something.
    #[error(
        "{what} needs --datastore-cafile (k3s kine: --ca-file): there is nothing to verify the server's certificate with"
    )]
    NoAuthority { what: String },
    /// The TLS library does not want it.
    #[error("cannot set up TLS: {detail}")]
    Unusable { detail: String },
}

impl Error {
    fn file(path: &Path, error: &dyn std::fmt::Display) -> Self {
        Error::File { path: path.into(), detail: error.to_string() }
    }
}

/// What of the server's certificate is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verify {
    /// That it is from the authority and for this host.
    Full,
    /// That it is from the authority.
    Authority,
    /// Nothing: the connection is private, but it may lead to anyone.
    Nothing,
}

/// Verifies that a certificate is from the authority, but not for which host it is.
#[derive(Debug)]
struct Authority(Arc<WebPkiServerVerifier>);

impl Check for Authority {
    fn check(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        use rustls::CertificateError::{NotValidForName, NotValidForNameContext};
        match self.0.verify_server_cert(certificate, intermediates, name, &[], now) {
            // The chain was verified before the name.
            Err(rustls::Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. })) => Ok(()),
            other => other.map(drop),
        }
    }
}
