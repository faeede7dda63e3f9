//! Connections.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use k3s_streaming::text;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::authentication::{Admitted, Identity};
use crate::Kubelet;

/// Why a TLS configuration can't be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A certificate of the client authority can't be used.
    #[error("unusable client CA certificate: {0}")]
    ClientCa(#[source] rustls::Error),
    /// The client authority as a whole can't be used.
    #[error("unusable client CA: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
    /// The server's own certificate and key don't go together or can't be used.
    #[error("unusable serving certificate or key: {0}")]
    Certificate(#[source] rustls::Error),
}

const HANDSHAKE: Duration = Duration::from_secs(10);

/// The TLS configuration of port 10250: `chain` and `key` are the kubelet's serving certificate, `client_ca` the
/// authority whose client certificates are looked at. Clients without a certificate get as far as a 401.
///
/// # Errors
/// When a certificate or key can't be used.
pub fn config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    client_ca: impl IntoIterator<Item = CertificateDer<'static>>,
) -> Result<Arc<ServerConfig>, Error> {
    let provider = k3s_tls::provider();
    let mut roots = RootCertStore::empty();
    for certificate in client_ca {
        roots.add(certificate).map_err(Error::ClientCa)?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(Error::Certificate)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(Error::Certificate)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Serves port 10250 on `listener` until `cancel`, to those that `admitted` names.
pub fn serve(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    kubelet: Arc<Kubelet>,
    admitted: Admitted,
    cancel: CancellationToken,
) -> BoxFuture<'static, ()> {
    // Boxed so that the handlers are compiled with this crate, not with each program that serves them.
    Box::pin(accept(listener, tls, kubelet, admitted, cancel))
}

async fn accept(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    kubelet: Arc<Kubelet>,
    admitted: Admitted,
    cancel: CancellationToken,
) {
    let acceptor = TlsAcceptor::from(tls);
    let admitted = Arc::new(admitted);
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = cancel.cancelled() => break,
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((stream, _)) => {
                let served = connection(acceptor.clone(), stream, kubelet.clone(), admitted.clone());
                connections.spawn(served);
            }
            Err(error) => {
                // Out of descriptors, most likely: waiting helps, spinning does not.
                tracing::warn!(%error, "cannot accept connection to the kubelet");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    connections.shutdown().await;
}

async fn connection(acceptor: TlsAcceptor, stream: TcpStream, kubelet: Arc<Kubelet>, admitted: Arc<Admitted>) {
    let stream = match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(%error, "TLS handshake with the kubelet failed");
            return;
        }
        Err(_) => return,
    };
    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let identity = certificate.and_then(|certificate| Identity::of(certificate));
    let verdict = admitted.check(identity.as_ref());
    let service = service_fn(|request| {
        let (kubelet, verdict) = (kubelet.clone(), verdict.clone());
        async move {
            Ok::<_, Infallible>(match verdict {
                Ok(()) => kubelet.handle(request).await,
                Err((status, message)) => text(status, message),
            })
        }
    });
    let server = auto::Builder::new(TokioExecutor::new());
    if let Err(error) = server.serve_connection_with_upgrades(TokioIo::new(stream), service).await {
        tracing::debug!(error, "connection to the kubelet ended");
    }
}
