//! HTTP/2 clients that open no window for what they have asked for, and such as take their time.

mod authority;

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use futures::{StreamExt, stream};
use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use k3s_apiserver::{Body, serve};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use authority::Authority;

const WHOLE: usize = 1 << 20;
const SMALL: usize = 1000;
const LIMIT: Duration = Duration::from_secs(30);

/// Bytes of a body, which are counted as long as they are there.
struct Held {
    bytes: Vec<u8>,
    count: Arc<AtomicUsize>,
}

impl Held {
    fn bytes(size: usize, count: &Arc<AtomicUsize>) -> Bytes {
        count.fetch_add(1, Ordering::SeqCst);
        Bytes::from_owner(Self { bytes: vec![b'x'; size], count: count.clone() })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::SeqCst);
    }
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Answers `/whole` and `/small` with bytes that are there already, `/list` with a long stream of them, and `/watch` with
/// one part at once and one when `event` comes.
struct Server {
    address: SocketAddr,
    authority: Authority,
    /// Parts of answers that are held.
    held: Arc<AtomicUsize>,
    event: Arc<Notify>,
    cancel: CancellationToken,
    serving: JoinHandle<Result<(), serve::Error>>,
}

impl Server {
    fn start(stalled: Duration) -> Self {
        let authority = Authority::new("ca");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let tls = serve::tls(authority.issue("server", "", &["localhost"]).certified(), Vec::new()).unwrap();
        let (held, event, cancel): (Arc<AtomicUsize>, _, _) =
            (Arc::default(), Arc::new(Notify::new()), CancellationToken::new());
        let service = tower::service_fn({
            let (held, event) = (held.clone(), event.clone());
            move |request: Request<Incoming>| {
                let (held, event) = (held.clone(), event.clone());
                async move { Ok::<_, Infallible>(Response::new(body(request.uri().path(), &held, event))) }
            }
        });
        let limits = serve::Limits { stalled, ..serve::Limits::default() };
        let serving = tokio::spawn(serve::serve(vec![listener], tls, service, limits, cancel.clone()));
        Self { address, authority, held, event, cancel, serving }
    }

    /// A connection whose streams have such a window until their answers are read.
    async fn connect(&self, window: u32) -> (http2::SendRequest<Empty<Bytes>>, JoinHandle<hyper::Result<()>>) {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.authority.certificate.clone()).unwrap();
        let mut config =
            rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(roots)
                .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let stream = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.initial_stream_window_size(window).initial_connection_window_size(64 << 20);
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
        (sender, tokio::spawn(connection))
    }

    async fn stop(self) {
        self.cancel.cancel();
        self.serving.await.unwrap().unwrap();
    }
}

fn body(path: &str, held: &Arc<AtomicUsize>, event: Arc<Notify>) -> Body {
    let held = held.clone();
    let bytes = move |size| Held::bytes(size, &held);
    match path {
        "/whole" => Body::from(bytes(WHOLE)),
        "/small" => Body::from(bytes(SMALL)),
        "/list" => Body::stream(stream::repeat_with(move || Ok(bytes(64 << 10))).take(1000)),
        "/watch" => {
            let first = stream::iter([Ok(bytes(SMALL))]);
            Body::stream(first.chain(stream::once(async move {
                event.notified().await;
                Ok(bytes(SMALL))
            })))
        }
        path => panic!("nothing is at {path}"),
    }
}

async fn get(sender: &mut http2::SendRequest<Empty<Bytes>>, path: &str) -> Response<Incoming> {
    let request = Request::get(format!("https://localhost{path}")).body(Empty::new()).unwrap();
    timeout(LIMIT, sender.send_request(request)).await.expect("an answer").expect("an answer")
}

/// Waits until answers hold nothing.
async fn nothing_held(server: &Server) {
    let none = async {
        while server.held.load(Ordering::SeqCst) > 0 {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LIMIT, none).await.expect("what an answer held is freed");
}

#[tokio::test]
async fn a_client_that_opens_no_window_is_cut_off_and_holds_nothing_any_more() {
    let server = Server::start(Duration::from_millis(500));
    let cases = [
        ("/whole", 0),
        ("/whole", 1000),
        ("/whole", WHOLE - 1),
        ("/small", 0),
        ("/small", SMALL - 1),
        ("/list", 0),
        ("/list", 100_000),
        ("/list", (64_000 << 10) - 1),
        ("/watch", 0),
    ];
    let cut_off = cases.map(|(path, window)| {
        let server = &server;
        async move {
            let (mut sender, connection) = server.connect(u32::try_from(window).unwrap()).await;
            let answer = get(&mut sender, path).await;
            let ended = timeout(LIMIT, connection).await;
            assert!(ended.is_ok(), "{path} with a window of {window} is waited for");
            drop(answer);
        }
    });
    join_all(cut_off).await;
    nothing_held(&server).await;
    server.stop().await;
}

#[tokio::test]
async fn a_client_with_room_for_what_it_does_not_read_is_left_alone() {
    let stalled = Duration::from_millis(500);
    let server = Server::start(stalled);
    let (mut sender, connection) = server.connect(u32::try_from(SMALL).unwrap()).await;
    let (small, watch) = (get(&mut sender, "/small").await, get(&mut sender, "/watch").await);
    sleep(stalled * 4).await;
    // Neither waits for the client: one is over, the other has nothing to say.
    assert!(!connection.is_finished());
    assert_eq!(small.into_body().collect().await.unwrap().to_bytes().len(), SMALL);
    let mut watch = watch.into_body();
    assert_eq!(watch.frame().await.unwrap().unwrap().into_data().unwrap().len(), SMALL);
    server.event.notify_one();
    assert_eq!(watch.collect().await.unwrap().to_bytes().len(), SMALL);
    drop(sender);
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_reads_slowly_gets_it_all() {
    let server = Server::start(Duration::from_secs(5));
    let (mut sender, _connection) = server.connect(128 << 10).await;
    let mut answer = get(&mut sender, "/whole").await.into_body();
    let mut got = 0;
    while let Some(frame) = answer.frame().await {
        got += frame.unwrap().into_data().unwrap().len();
        // Over 6 seconds, of which none passes without something being read.
        sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(got, WHOLE);
    server.stop().await;
}
