//! A server's certificate that can be exchanged while it is served.

use std::sync::Arc;

use anyhow::ensure;
use k3s_supervisor::Pair;
use parking_lot::RwLock;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::control_plane::{certificates, key};

/// The one that new connections are given.
#[derive(Debug)]
pub struct Served(RwLock<Arc<CertifiedKey>>);

impl Served {
    /// Serves this one.
    ///
    /// # Errors
    /// See [`ready`].
    pub fn new(pair: &Pair) -> anyhow::Result<Arc<Self>> {
        Ok(Arc::new(Self(RwLock::new(ready(pair)?))))
    }

    /// Serves another from now on. Connections that there are go on with the old one.
    pub fn exchange(&self, for_this: Arc<CertifiedKey>) {
        *self.0.write() = for_this;
    }
}

/// A certificate as it is served.
///
/// # Errors
/// It is no certificate, or the key is not of it.
pub fn ready(pair: &Pair) -> anyhow::Result<Arc<CertifiedKey>> {
    let signing = rustls::crypto::ring::sign::any_supported_type(&key(&pair.key)?)?;
    let chain = certificates(&pair.certificate)?;
    ensure!(!chain.is_empty(), "there is no certificate in it");
    let certified = CertifiedKey::new(chain, signing);
    certified.keys_match()?;
    Ok(Arc::new(certified))
}

impl ResolvesServerCert for Served {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read()))
    }
}
