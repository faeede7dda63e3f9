//! Port 10250, asked by the clients that ask it in a cluster: kube-rs over WebSocket, and TLS with certificates.

mod fake;

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use fake::Node;
use fake::api::Api as FakeApi;
use fake::runtime::Runtime;
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use k3s_kubelet::{Kubelet, server};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::AttachParams;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

const PODS: &str = "/api/v1/namespaces/n/pods";

/// A node with one pod that runs.
async fn node(dir: &Path) -> Node {
    let (api, runtime) = (FakeApi::new(), Runtime::new());
    let node = Node::start(dir, &api, &runtime);
    let containers = json!([{"name": "main", "image": "image", "imagePullPolicy": "IfNotPresent"}]);
    api.put(
        PODS,
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "n", "uid": "uid-p"},
            "spec": {"nodeName": "node", "containers": containers}, "status": {"phase": "Pending"}}),
    );
    api.wait(PODS, "p", "running", |pod| pod["status"]["phase"] == "Running").await;
    node
}

/// What the API server makes of a pod's subresources: the kubelet's paths.
fn kubelet_path(uri: &Uri) -> Uri {
    let parts: Vec<&str> = uri.path().trim_matches('/').split('/').collect();
    let query = uri.query().unwrap_or_default();
    let container = "main";
    let path = match parts.as_slice() {
        ["api", "v1", "namespaces", namespace, "pods", pod, "portforward"] => format!("/portForward/{namespace}/{pod}"),
        ["api", "v1", "namespaces", namespace, "pods", pod, "log"] => {
            format!("/containerLogs/{namespace}/{pod}/{container}")
        }
        ["api", "v1", "namespaces", namespace, "pods", pod, subresource] => {
            format!("/{subresource}/{namespace}/{pod}/{container}")
        }
        _ => uri.path().to_owned(),
    };
    format!("{path}?{query}").parse().unwrap()
}

/// Serves the kubelet's handler as an API server does, without TLS, and returns a client of it.
async fn client(kubelet: Arc<Kubelet>) -> (kube::Client, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let kubelet = kubelet.clone();
            let service = service_fn(move |mut request: Request<Incoming>| {
                let kubelet = kubelet.clone();
                async move {
                    *request.uri_mut() = kubelet_path(request.uri());
                    Ok::<_, Infallible>(kubelet.handle(request).await)
                }
            });
            let connection = hyper::server::conn::http1::Builder::new();
            tokio::spawn(connection.serve_connection(TokioIo::new(stream), service).with_upgrades());
        }
    });
    let config = kube::Config::new(format!("http://{address}").parse().unwrap());
    (kube::Client::try_from(config).unwrap(), serving)
}

#[tokio::test]
async fn a_command_gets_its_input_and_tells_its_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    let node = node(dir.path()).await;
    let (client, serving) = client(node.kubelet.clone()).await;
    let pods: Api<Pod> = Api::namespaced(client, "n");
    let params = AttachParams::default().stdin(true).stdout(true).stderr(true);
    let mut exec = pods.exec("p", ["echo", "3"], &params).await.unwrap();
    let mut stdin = exec.stdin().unwrap();
    let big = vec![b'x'; 300_000];
    let (mut stdout, mut stderr) = (exec.stdout().unwrap(), exec.stderr().unwrap());
    let write = async {
        stdin.write_all(&big).await.unwrap();
        stdin.shutdown().await.unwrap();
    };
    let (mut out, mut err) = (Vec::new(), String::new());
    let (_, length, _) = tokio::join!(write, stdout.read_to_end(&mut out), stderr.read_to_string(&mut err));
    assert_eq!((length.unwrap(), out == big, err.as_str()), (big.len(), true, "to stderr"));
    let status = exec.take_status().unwrap().await.unwrap();
    assert_eq!(status.reason.as_deref(), Some("NonZeroExitCode"));
    assert_eq!(status.details.unwrap().causes.unwrap()[0].message.as_deref(), Some("3"));
    serving.abort();
    node.stop().await;
}

#[tokio::test]
async fn ports_are_forwarded_and_their_errors_told() {
    let dir = tempfile::tempdir().unwrap();
    let node = node(dir.path()).await;
    let (client, serving) = client(node.kubelet.clone()).await;
    let pods: Api<Pod> = Api::namespaced(client, "n");
    let mut forward = pods.portforward("p", &[8080]).await.unwrap();
    let mut stream = forward.take_stream(8080).unwrap();
    let sent = vec![7; 100_000];
    let (mut from, mut to) = tokio::io::split(&mut stream);
    let mut received = vec![0; sent.len()];
    let (written, read) = tokio::join!(to.write_all(&sent), from.read_exact(&mut received));
    written.unwrap();
    read.unwrap();
    assert!(received == sent);
    drop(stream);

    let mut refused = pods.portforward("p", &[1]).await.unwrap();
    let error = refused.take_error(1).unwrap().await.unwrap();
    assert!(error.contains("connection refused"), "{error}");
    serving.abort();
    node.stop().await;
}

#[tokio::test]
async fn logs_are_read_and_what_is_missing_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let node = node(dir.path()).await;
    let ask = async |path: &str| {
        let request = Request::get(path).body(Empty::<Bytes>::new()).unwrap();
        let response = node.kubelet.handle(request).await;
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    };
    assert_eq!(ask("/healthz").await, (StatusCode::OK, "ok".into()));
    let (status, log) = ask("/containerLogs/n/p/main?tailLines=5").await;
    assert_eq!((status, log.as_str()), (StatusCode::OK, "hello from main\n"));
    assert_eq!(ask("/containerLogs/n/p/other").await.0, StatusCode::NOT_FOUND);
    assert_eq!(ask("/containerLogs/n/none/main").await.0, StatusCode::NOT_FOUND);
    let (status, message) = ask("/containerLogs/n/p/main?previous=true").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(message, "previous terminated container \"main\" in pod \"p\" not found");
    assert_eq!(ask("/containerLogs/n/p/main?tailLines=x").await.0, StatusCode::BAD_REQUEST);
    assert!(ask("/pods").await.1.contains("\"uid-p\""));
    assert_eq!(ask("/run/n/p/main?cmd=a+b").await, (StatusCode::OK, "a b".into()));
    assert_eq!(ask("/exec/n/p/main?output=1&command=x").await.0, StatusCode::BAD_REQUEST, "without an upgrade");
    assert_eq!(ask("/nothing").await.0, StatusCode::NOT_FOUND);
    node.stop().await;
}

/// A certificate and its key.
type Issued = (CertificateDer<'static>, PrivateKeyDer<'static>);

fn issue(ca: &CertifiedIssuer<'_, KeyPair>, name: &str) -> Issued {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    let certificate = params.signed_by(&key, ca).unwrap();
    (certificate.der().clone(), PrivateKeyDer::try_from(key.serialize_der()).unwrap())
}

#[tokio::test]
async fn only_the_api_servers_certificate_is_admitted() {
    let dir = tempfile::tempdir().unwrap();
    let node = node(dir.path()).await;
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let root = ca.der().clone();
    let (certificate, key) = issue(&ca, "node");
    let tls = server::tls_config(vec![certificate], key, [root.clone()]).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let cancel = CancellationToken::new();
    let admitted = server::Admitted::default();
    let serving = tokio::spawn(server::serve(listener, tls, node.kubelet.clone(), admitted, cancel.clone()));

    for (name, expected) in [
        (Some("system:apiserver"), StatusCode::OK),
        (Some("system:node:other"), StatusCode::FORBIDDEN),
        (None, StatusCode::UNAUTHORIZED),
    ] {
        let mut roots = RootCertStore::empty();
        roots.add(root.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider);
        let config = config.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
        let config = match name.map(|name| issue(&ca, name)) {
            Some((certificate, key)) => config.with_client_auth_cert(vec![certificate], key).unwrap(),
            None => config.with_no_client_auth(),
        };
        let connector = TlsConnector::from(Arc::new(config));
        let server = ServerName::try_from("localhost").unwrap();
        let stream = connector.connect(server, TcpStream::connect(address).await.unwrap());
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream.await.unwrap())).await.unwrap();
        let connection = tokio::spawn(connection);
        let request = Request::get("/pods").header("host", "localhost").body(Empty::<Bytes>::new()).unwrap();
        assert_eq!(sender.send_request(request).await.unwrap().status(), expected, "{name:?}");
        connection.abort();
    }
    cancel.cancel();
    serving.await.unwrap();
    node.stop().await;
}
