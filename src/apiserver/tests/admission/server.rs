//! A webhook server: HTTP/1.1 over TLS on loopback, with a certificate of its own.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// What the server does with a request: path and document in, code and text out.
pub type Handler = Arc<dyn Fn(String, Value) -> BoxFuture<'static, (StatusCode, String)> + Send + Sync>;

pub struct Server {
    pub port: u16,
    /// PEM in base64, as `caBundle` has it.
    pub bundle: String,
    seen: Arc<Mutex<VecDeque<(String, Value)>>>,
    accepted: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One connection more, until it is dropped.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

impl Server {
    /// Answers every review with what `respond` makes of its `request`: the `response`, but for its uid.
    pub async fn reviewing(respond: impl Fn(&Value) -> Value + Send + Sync + 'static) -> Self {
        Self::start(reviewer(respond)).await
    }

    /// As [`Server::reviewing`], with that TLS and the certificates that `caBundle` is to have.
    pub async fn with_tls(
        config: ServerConfig,
        pem: String,
        respond: impl Fn(&Value) -> Value + Send + Sync + 'static,
    ) -> Self {
        Self::listen(config, STANDARD.encode(pem), reviewer(respond)).await
    }

    /// Never answers.
    pub async fn hanging() -> Self {
        Self::start(Arc::new(|_, _| Box::pin(std::future::pending()))).await
    }

    pub async fn start(handler: Handler) -> Self {
        let (config, bundle) = certified();
        Self::listen(config, bundle, handler).await
    }

    async fn listen(config: ServerConfig, bundle: String, handler: Handler) -> Self {
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (seen, accepted, open) = (Arc::default(), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let task = tokio::spawn(serve(
            listener,
            acceptor,
            handler,
            Arc::clone(&seen),
            (Arc::clone(&accepted), Arc::clone(&open)),
        ));
        Self { port, bundle, seen, accepted, open, task }
    }

    /// A `clientConfig` with that path.
    pub fn client(&self, path: &str) -> Value {
        json!({"url": format!("https://localhost:{}{path}", self.port), "caBundle": self.bundle})
    }

    /// The paths and reviews that have come since the last time.
    pub fn seen(&self) -> Vec<(String, Value)> {
        self.seen.lock().drain(..).collect()
    }

    /// How many connections there have been.
    pub fn accepted(&self) -> usize {
        self.accepted.load(SeqCst)
    }

    /// How many there are.
    pub fn open(&self) -> usize {
        self.open.load(SeqCst)
    }
}

fn reviewer(respond: impl Fn(&Value) -> Value + Send + Sync + 'static) -> Handler {
    let respond = Arc::new(respond);
    Arc::new(move |_, review| {
        let respond = Arc::clone(&respond);
        Box::pin(async move {
            let mut response = respond(&review["request"]);
            response["uid"] = review["request"]["uid"].clone();
            let (kind, version) = (&review["kind"], &review["apiVersion"]);
            let answer = json!({"kind": kind, "apiVersion": version, "response": response});
            (StatusCode::OK, answer.to_string())
        })
    })
}

async fn serve(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    handler: Handler,
    seen: Arc<Mutex<VecDeque<(String, Value)>>>,
    (accepted, open): (Arc<AtomicUsize>, Arc<AtomicUsize>),
) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        accepted.fetch_add(1, SeqCst);
        open.fetch_add(1, SeqCst);
        let counted = Counted(Arc::clone(&open));
        let (acceptor, handler, seen) = (acceptor.clone(), Arc::clone(&handler), Arc::clone(&seen));
        connections.spawn(async move {
            let _counted = counted;
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let service = service_fn(move |request: Request<Incoming>| {
                let (handler, seen) = (Arc::clone(&handler), Arc::clone(&seen));
                async move {
                    let path = request.uri().to_string();
                    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
                    let review: Value = serde_json::from_slice(&body).unwrap_or_default();
                    seen.lock().push_back((path.clone(), review.clone()));
                    let (code, text) = handler(path, review).await;
                    let mut response = Response::new(Full::new(Bytes::from(text)));
                    *response.status_mut() = code;
                    Ok::<_, Infallible>(response)
                }
            });
            // A client that goes away is no failure.
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// A server's TLS with a certificate for `localhost` and for the service `hook` in namespace `a`, and the authority that
/// signed it.
fn certified() -> (ServerConfig, String) {
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    // Authorities of different servers are not to have the same name.
    params.distinguished_name.push(DnType::CommonName, format!("authority {}", rand::random::<u64>()));
    let authority = params.self_signed(&key).expect("an authority");
    let issuer = Issuer::new(params, key);
    let own = KeyPair::generate().expect("a key");
    let names = ["localhost".to_owned(), "hook.a.svc".to_owned()];
    let params = CertificateParams::new(names).expect("parameters");
    let certificate = params.signed_by(&own, &issuer).expect("a certificate");
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(own.serialize_der()));
    (tls(certificate.der().clone(), key), STANDARD.encode(authority.pem()))
}

pub fn tls(certificate: rustls::pki_types::CertificateDer<'static>, key: PrivateKeyDer<'static>) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("a configuration")
}
