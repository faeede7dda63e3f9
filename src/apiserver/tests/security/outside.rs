//! A server behind TLS whose mood can be changed.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use k3s_apiserver::serve;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use crate::authority::Authority;

/// What the server does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    Answering,
    /// Takes the request and says nothing.
    Hanging,
    /// Says something that is no JSON.
    Garbage,
    /// JSON, but no answer to what was asked.
    OtherKind,
    /// Answers with 503.
    Failing,
    /// Closes connections.
    Gone,
}

type Answer = Arc<dyn Fn(&Value) -> Value + Send + Sync>;

pub struct Outside {
    pub port: u16,
    /// PEM in base64, as `caBundle` has it.
    pub bundle: String,
    pub authority: Authority,
    inner: Arc<Inner>,
    /// Bound, but not listening yet.
    socket: Mutex<Option<TcpSocket>>,
    tls: TlsAcceptor,
    task: Mutex<Option<JoinHandle<()>>>,
}

struct Inner {
    mood: Mutex<Mood>,
    seen: Mutex<Vec<Value>>,
    tries: AtomicUsize,
    headers: Mutex<HeaderMap>,
    closing: AtomicBool,
    certificate: Mutex<Option<Vec<u8>>>,
    answer: Answer,
}

impl Drop for Outside {
    fn drop(&mut self) {
        if let Some(task) = self.task.lock().take() {
            task.abort();
        }
    }
}

impl Outside {
    /// Answers each document with what `answer` makes of it.
    pub fn start(answer: impl Fn(&Value) -> Value + Send + Sync + 'static) -> Self {
        let outside = Self::absent(answer);
        outside.arrive();
        outside
    }

    /// As [`Outside::start`], but connections are refused until it arrives.
    pub fn absent(answer: impl Fn(&Value) -> Value + Send + Sync + 'static) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let authority = Authority::new("outside");
        let config = serve::tls(authority.issue("outside", "", &["localhost", "n"]).certified(), Vec::new()).unwrap();
        let pem = STANDARD.encode(&authority.certificate);
        let pem = format!("-----BEGIN CERTIFICATE-----\n{pem}\n-----END CERTIFICATE-----\n");
        let inner = Inner {
            mood: Mutex::new(Mood::Answering),
            seen: Mutex::default(),
            tries: AtomicUsize::new(0),
            headers: Mutex::default(),
            closing: AtomicBool::new(false),
            certificate: Mutex::default(),
            answer: Arc::new(answer),
        };
        Self {
            port: socket.local_addr().unwrap().port(),
            bundle: STANDARD.encode(pem),
            authority,
            inner: Arc::new(inner),
            socket: Mutex::new(Some(socket)),
            tls: TlsAcceptor::from(config),
            task: Mutex::default(),
        }
    }

    /// Takes connections from now on.
    pub fn arrive(&self) {
        let listener = self.socket.lock().take().expect("it has not arrived yet").listen(128).unwrap();
        let task = tokio::spawn(accept(listener, self.tls.clone(), Arc::clone(&self.inner)));
        *self.task.lock() = Some(task);
    }

    pub fn be(&self, mood: Mood) {
        *self.inner.mood.lock() = mood;
    }

    /// How many documents have come, whatever became of them.
    pub fn tries(&self) -> usize {
        self.inner.tries.load(Ordering::SeqCst)
    }

    /// `Authorization` of the last request.
    pub fn credentials(&self) -> Option<String> {
        self.header("authorization")
    }

    /// A header of the last request.
    pub fn header(&self, name: &str) -> Option<String> {
        self.inner.headers.lock().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
    }

    /// From now on a connection is closed after its answer.
    pub fn keep_no_connections(&self) {
        self.inner.closing.store(true, Ordering::SeqCst);
    }

    /// The certificate that the last client has shown, in DER.
    pub fn certificate(&self) -> Option<Vec<u8>> {
        self.inner.certificate.lock().clone()
    }

    /// The documents, or the paths of requests without one, that were taken since the last time.
    pub fn seen(&self) -> Vec<Value> {
        std::mem::take(&mut *self.inner.seen.lock())
    }

    /// A kubeconfig that names it, in that folder.
    pub fn kubeconfig(&self, folder: &Path) -> PathBuf {
        let cluster = json!({"server": format!("https://localhost:{}/x", self.port),
            "certificate-authority-data": self.bundle});
        Self::kubeconfig_of(folder, &cluster, &json!({"username": "k3s", "password": "sesame"}))
    }

    /// A kubeconfig of that cluster and user.
    pub fn kubeconfig_of(folder: &Path, cluster: &Value, user: &Value) -> PathBuf {
        let path = folder.join("outside.yaml");
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "outside", "cluster": cluster}],
            "users": [{"name": "me", "user": user}],
            "contexts": [{"name": "c", "context": {"cluster": "outside", "user": "me"}}],
        });
        std::fs::write(&path, kubeconfig.to_string()).unwrap();
        path
    }
}

async fn accept(listener: TcpListener, tls: TlsAcceptor, inner: Arc<Inner>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        if *inner.mood.lock() == Mood::Gone {
            continue;
        }
        let (tls, inner) = (tls.clone(), Arc::clone(&inner));
        connections.spawn(async move {
            let Ok(stream) = tls.accept(stream).await else { return };
            let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
            *inner.certificate.lock() = shown.map(|certificate| certificate.to_vec());
            let service = service_fn(move |request| respond(Arc::clone(&inner), request));
            // A client that goes away is no failure.
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn respond(inner: Arc<Inner>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, std::io::Error> {
    inner.headers.lock().clone_from(request.headers());
    let path = request.uri().to_string();
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let document = match body.is_empty() {
        true => json!({"path": path}),
        false => serde_json::from_slice(&body).expect("JSON"),
    };
    let mood = *inner.mood.lock();
    inner.tries.fetch_add(1, Ordering::SeqCst);
    if matches!(mood, Mood::Answering | Mood::Garbage | Mood::OtherKind) {
        inner.seen.lock().push(document.clone());
    }
    let text = match mood {
        Mood::Answering => (inner.answer)(&document).to_string(),
        Mood::Garbage | Mood::Failing => "<html>".to_owned(),
        Mood::OtherKind => json!({"kind": "Pod", "status": {"allowed": true}}).to_string(),
        Mood::Hanging => std::future::pending().await,
        // Of a connection that was kept.
        Mood::Gone => return Err(std::io::ErrorKind::ConnectionReset.into()),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    if inner.closing.load(Ordering::SeqCst) {
        response.headers_mut().insert("connection", HeaderValue::from_static("close"));
    }
    if mood == Mood::Failing {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    Ok(response)
}
