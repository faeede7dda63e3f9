//! The server at the network's edge: real TLS over loopback, real certificates and tokens, and a kubelet to relay to.

mod authority;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use k3s_apiserver::authentication::Authenticated;
use k3s_apiserver::relay::{Connection, Dialer};
use k3s_apiserver::{ApiServer, Config, bootstrap, serve};
use k3s_kine::sqlite::{Options, Sqlite};
use rcgen::KeyPair;
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_util::sync::CancellationToken;

use authority::{Authority, Identity};

/// Whatever node is asked for, its kubelet is the listener at this address.
struct To(SocketAddr);

#[async_trait]
impl Dialer for To {
    async fn connect(&self, _: &str, _: SocketAddr) -> io::Result<Box<dyn Connection>> {
        Ok(Box::new(TcpStream::connect(self.0).await?))
    }
}

struct Cluster {
    server: ApiServer,
    address: SocketAddr,
    authority: Authority,
    cancel: CancellationToken,
    serving: tokio::task::JoinHandle<Result<(), serve::Error>>,
    _folder: tempfile::TempDir,
}

/// A server with its own CA; kubelets are at `kubelet`.
async fn cluster(limits: serve::Limits, kubelet: Option<SocketAddr>) -> Cluster {
    cluster_with(limits, kubelet, |_| ()).await
}

async fn cluster_with(limits: serve::Limits, kubelet: Option<SocketAddr>, change: impl FnOnce(&mut Config)) -> Cluster {
    let folder = tempfile::tempdir().unwrap();
    let datastore = Arc::new(Sqlite::open(&folder.path().join("state.db"), Options::default()).unwrap());
    let authority = Authority::new("ca");
    let tokens = folder.path().join("tokens.csv");
    std::fs::write(&tokens, "admin-token,admin,1,\"system:masters\"\njane-token,jane,2\n").unwrap();
    let mut config = Config::new(datastore, IpAddr::V4(Ipv4Addr::LOCALHOST));
    config.authentication.client_ca = vec![authority.certificate.clone()];
    config.authentication.token_file = Some(tokens);
    config.authentication.service_account_signing_key = Some(KeyPair::generate().unwrap().serialize_pem().into_bytes());
    let client = authority.issue("system:kube-apiserver", "", &[]);
    config.relay.kubelet_ca = vec![authority.certificate.clone()];
    let (chain, key) = (vec![client.certificate], Arc::new(client.key));
    config.relay.kubelet_client = Some(k3s_apiserver::relay::ClientCertificate { chain, key });
    if let Some(kubelet) = kubelet {
        config.relay.dialer = Arc::new(To(kubelet));
    }
    change(&mut config);
    let server = ApiServer::start(config).await.unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let certificate = authority.issue("server", "", &["localhost"]).certified();
    let tls = serve::tls(certificate, server.authenticator().client_ca_names()).unwrap();
    let cancel = CancellationToken::new();
    let service = Authenticated::new(server.clone());
    let serving = tokio::spawn(serve::serve(vec![listener], tls, service, limits, cancel.clone()));
    Cluster { server, address, authority, cancel, serving, _folder: folder }
}

type Stream = tokio_rustls::client::TlsStream<TcpStream>;

impl Cluster {
    async fn connect(&self, identity: Option<&Identity>) -> Stream {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.authority.certificate.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match identity {
            Some(own) => builder.with_client_auth_cert(vec![own.certificate.clone()], own.key.clone_key()).unwrap(),
            None => builder.with_no_client_auth(),
        };
        // A client that does not read is soon full.
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(32 << 10).unwrap();
        let stream = socket.connect(self.address).await.unwrap();
        TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost").unwrap(), stream).await.unwrap()
    }

    async fn send(
        &self,
        identity: Option<&Identity>,
        request: http::request::Builder,
        body: Value,
    ) -> (StatusCode, Value) {
        let stream = self.connect(identity).await;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let body = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
        let request = request.header("host", "localhost").header("content-type", "application/json");
        let response = sender.send_request(request.body(Full::new(body)).unwrap()).await.unwrap();
        let code = response.status();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let value = serde_json::from_slice(&bytes).unwrap_or_else(|_| json!(String::from_utf8_lossy(&bytes)));
        (code, value)
    }

    async fn get(&self, identity: Option<&Identity>, token: &str, path: &str) -> (StatusCode, Value) {
        self.send(identity, with_token(Method::GET, path, token), Value::Null).await
    }

    async fn admin(&self, method: Method, path: &str, body: Value) -> Value {
        let (code, answer) = self.send(None, with_token(method, path, "admin-token"), body).await;
        assert!(code.is_success(), "{path}: {answer}");
        answer
    }

    async fn stop(self) {
        self.server.stop();
        self.cancel.cancel();
        self.serving.await.unwrap().unwrap();
    }
}

fn with_token(method: Method, path: &str, token: &str) -> http::request::Builder {
    let request = Request::builder().method(method).uri(path);
    if token.is_empty() { request } else { request.header("authorization", format!("Bearer {token}")) }
}

#[tokio::test]
async fn a_certificate_of_the_ca_names_the_user_and_others_get_401() {
    let cluster = cluster(serve::Limits::default(), None).await;
    let admin = cluster.authority.issue("boss", "system:masters", &[]);
    let review = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let (code, answer) = cluster.send(Some(&admin), with_token(Method::POST, review, ""), body).await;
    assert_eq!(code, StatusCode::CREATED, "{answer}");
    assert_eq!(answer["status"]["userInfo"]["username"], "boss");
    assert_eq!(answer["status"]["userInfo"]["groups"], json!(["system:masters", "system:authenticated"]));

    let stranger = Authority::new("other").issue("boss", "system:masters", &[]);
    assert_eq!(cluster.get(Some(&stranger), "", "/api").await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(cluster.get(None, "", "/healthz").await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(cluster.get(None, "wrong", "/api").await.0, StatusCode::UNAUTHORIZED);
    // A bad certificate does not spoil a good token.
    assert_eq!(cluster.get(Some(&stranger), "admin-token", "/api").await.0, StatusCode::OK);
    cluster.stop().await;
}

#[tokio::test]
async fn impersonation_takes_permission_and_ready_waits_for_bootstrap() {
    let cluster = cluster(serve::Limits::default(), None).await;
    assert_eq!(cluster.get(None, "admin-token", "/readyz").await.0, StatusCode::INTERNAL_SERVER_ERROR);
    bootstrap::run(&cluster.server).await.unwrap();
    cluster.server.health().set_bootstrapped();
    assert_eq!(cluster.get(None, "admin-token", "/readyz").await, (StatusCode::OK, json!("ok")));

    let as_boss = with_token(Method::GET, "/api/v1/nodes", "jane-token").header("impersonate-user", "boss");
    let (code, answer) = cluster.send(None, as_boss, Value::Null).await;
    assert_eq!(code, StatusCode::FORBIDDEN);
    let message = "users \"boss\" is forbidden: User \"jane\" cannot impersonate resource \"users\" in API group \"\" \
                   at the cluster scope";
    assert_eq!(answer["message"], message);

    // Nobody gives away what he has not got.
    let bind = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": "writers"}, "subjects": [{"kind": "User", "name": "jane",
            "apiGroup": "rbac.authorization.k8s.io"}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "writer"}});
    let roles = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "writer"},
        "rules": [{"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterroles"], "verbs": ["create"]}]});
    cluster.admin(Method::POST, roles, role).await;
    cluster.admin(Method::POST, "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", bind).await;
    let more = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "more"},
        "rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "list"]}]});
    let (code, answer) = cluster.send(None, with_token(Method::POST, roles, "jane-token"), more).await;
    assert_eq!(code, StatusCode::FORBIDDEN, "{answer}");
    let message = answer["message"].as_str().unwrap();
    let missing = r#"{APIGroups:[""], Resources:["secrets"], Verbs:["get" "list"]}"#;
    assert!(
        message.contains("is attempting to grant RBAC permissions not currently held") && message.contains(missing)
    );
    cluster.stop().await;
}

#[tokio::test]
async fn a_requested_token_is_good_until_its_account_is_gone() {
    let cluster = cluster(serve::Limits::default(), None).await;
    bootstrap::run(&cluster.server).await.unwrap();
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "app"}});
    cluster.admin(Method::POST, accounts, account).await;
    let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
    let answer = cluster.admin(Method::POST, &format!("{accounts}/app/token"), request).await;
    let token = answer["status"]["token"].as_str().unwrap();
    let (code, answer) = cluster.get(None, token, "/api/v1/namespaces/default/pods").await;
    assert_eq!(code, StatusCode::FORBIDDEN);
    assert!(answer["message"].as_str().unwrap().contains("User \"system:serviceaccount:default:app\" cannot list"));
    let keys = cluster.admin(Method::GET, "/openid/v1/jwks", Value::Null).await;
    assert_eq!(keys["keys"][0]["crv"], "P-256");

    cluster.admin(Method::DELETE, &format!("{accounts}/app"), Value::Null).await;
    cluster.server.registry().catch_up().await.unwrap();
    assert_eq!(cluster.get(None, token, "/api/v1/namespaces/default/pods").await.0, StatusCode::UNAUTHORIZED);
    cluster.stop().await;
}

#[tokio::test]
async fn a_peer_that_hangs_is_cut_off_and_stopping_waits_for_nobody() {
    let short = Duration::from_millis(200);
    let limits = serve::Limits { handshake: short, header_read: short, connections: 1, ..serve::Limits::default() };
    let cluster = cluster(limits, None).await;
    // One that never says hello, and one that never asks: the only place is theirs in turn, and comes free again.
    let mut silent = TcpStream::connect(cluster.address).await.unwrap();
    let mut rest = Vec::new();
    silent.read_to_end(&mut rest).await.unwrap();
    let mut idle = cluster.connect(None).await;
    assert!(matches!(idle.read(&mut [0; 1]).await, Ok(0) | Err(_)));
    assert_eq!(cluster.get(None, "admin-token", "/version").await.0, StatusCode::OK);
    let address = cluster.address;
    cluster.stop().await;
    assert!(TcpStream::connect(address).await.is_err());
}

/// A kubelet that answers one connection: it tells the path it was asked for, or after an upgrade sends every byte back.
async fn kubelet(authority: &Authority, listener: tokio::net::TcpListener, answer: &'static str) -> String {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority.certificate.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_cert_resolver(authority.issue("system:node:n1", "system:nodes", &["n1"]).certified());
    let accepted = tokio::time::timeout(Duration::from_secs(10), listener.accept()).await;
    let (stream, _) = accepted.expect("nobody asked the kubelet").unwrap();
    let mut stream = TlsAcceptor::from(Arc::new(config)).accept(stream).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    stream.write_all(answer.as_bytes()).await.unwrap();
    if answer.starts_with("HTTP/1.1 101") {
        let (mut reader, mut writer) = tokio::io::split(stream);
        // Half-close: what came is sent back after the client has closed its side.
        let mut all = Vec::new();
        reader.read_to_end(&mut all).await.unwrap();
        writer.write_all(&all).await.unwrap();
        writer.shutdown().await.unwrap();
    } else {
        stream.shutdown().await.unwrap();
    }
    String::from_utf8(head).unwrap()
}

async fn with_pod(listener: &tokio::net::TcpListener) -> Cluster {
    let cluster = cluster(serve::Limits::default(), Some(listener.local_addr().unwrap())).await;
    bootstrap::run(&cluster.server).await.unwrap();
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    cluster.admin(Method::POST, "/api/v1/namespaces/default/serviceaccounts", account).await;
    let mut node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}});
    cluster.admin(Method::POST, "/api/v1/nodes", node.clone()).await;
    node["status"] = json!({"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}}});
    cluster.admin(Method::PUT, "/api/v1/nodes/n1/status", node).await;
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "i"}]}});
    cluster.admin(Method::POST, "/api/v1/namespaces/default/pods", pod).await;
    cluster
}

#[tokio::test]
async fn a_log_comes_from_the_kubelet_of_the_pods_node() {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let cluster = with_pod(&listener).await;
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nhello\n";
    let path = "/api/v1/namespaces/default/pods/p/log?tailLines=1";
    let (head, got) =
        tokio::join!(kubelet(&cluster.authority, listener, answer), cluster.get(None, "admin-token", path));
    assert!(head.starts_with("GET /containerLogs/default/p/c?tailLines=1 HTTP/1.1\r\n"), "{head}");
    assert!(!head.contains("admin-token"));
    assert_eq!(got, (StatusCode::OK, json!("hello\n")));
    // Now nobody listens there.
    let (code, answer) = cluster.get(None, "admin-token", path).await;
    assert_eq!(code, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(answer["message"].as_str().unwrap().contains("connect: connection refused"), "{answer}");
    cluster.stop().await;
}

#[tokio::test]
async fn exec_is_a_tunnel_to_the_kubelet_with_half_close() {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let cluster = with_pod(&listener).await;
    let path = "/api/v1/namespaces/default/pods/p/exec?command=cat&stdin=true&stdout=true";
    let (code, answer) = cluster.send(None, with_token(Method::POST, path, "admin-token"), Value::Null).await;
    assert_eq!((code, answer["message"].as_str()), (StatusCode::BAD_REQUEST, Some("Upgrade request required")));

    let answer = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: SPDY/3.1\r\n\
                  x-stream-protocol-version: v4.channel.k8s.io\r\n\r\n";
    let client = async {
        let mut stream = cluster.connect(None).await;
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer admin-token\r\nconnection: Upgrade\r\n\
             upgrade: SPDY/3.1\r\nx-stream-protocol-version: v4.channel.k8s.io\r\ncontent-length: 0\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut got = Vec::new();
        while !got.ends_with(b"\r\n\r\n") {
            got.push(stream.read_u8().await.unwrap());
        }
        let got = String::from_utf8(got).unwrap();
        assert!(got.starts_with("HTTP/1.1 101"), "{got}");
        assert!(got.contains("x-stream-protocol-version: v4.channel.k8s.io"), "{got}");
        stream.write_all(b"through and back").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut back = String::new();
        stream.read_to_string(&mut back).await.unwrap();
        back
    };
    let (head, back) = tokio::join!(kubelet(&cluster.authority, listener, answer), client);
    assert!(head.starts_with("POST /exec/default/p/c?input=1&output=1&command=cat HTTP/1.1\r\n"), "{head}");
    assert!(head.to_lowercase().contains("upgrade: spdy/3.1"), "{head}");
    assert_eq!(back, "through and back");
    cluster.stop().await;
}

/// Sends bytes, and returns all that comes back until the server closes the connection.
async fn exchange(cluster: &Cluster, request: &str) -> String {
    let mut stream = cluster.connect(None).await;
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await;
    // A server that has said all it has to say may end the connection roughly.
    ended.expect("the connection ends").unwrap_or_default();
    String::from_utf8_lossy(&answer).into_owned()
}

const AS_ADMIN: &str = "host: localhost\r\nauthorization: Bearer admin-token\r\n";

#[tokio::test]
async fn heads_that_are_too_long_are_refused() {
    let cluster = cluster(serve::Limits::default(), None).await;
    let long = "x".repeat(70_000);
    let answer = exchange(&cluster, &format!("GET /{long} HTTP/1.1\r\n{AS_ADMIN}\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 414 "), "{answer}");
    let many = (0..200).map(|n| format!("x-{n}: y\r\n")).collect::<String>();
    let answer = exchange(&cluster, &format!("GET /version HTTP/1.1\r\n{AS_ADMIN}{many}\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    let long = "x".repeat(2 << 20);
    let answer = exchange(&cluster, &format!("GET /version HTTP/1.1\r\n{AS_ADMIN}x: {long}\r\n\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 431 ") || answer.is_empty(), "{answer}");
    cluster.stop().await;
}

#[tokio::test]
async fn a_body_that_never_ends_costs_the_time_of_a_request() {
    let change = |config: &mut Config| config.request_timeout = Duration::from_millis(300);
    let cluster = cluster_with(serve::Limits::default(), None, change).await;
    let head = format!("POST /api/v1/namespaces HTTP/1.1\r\n{AS_ADMIN}content-type: application/json\r\n");
    let answer = exchange(&cluster, &format!("{head}content-length: 100\r\n\r\n{{\"meta")).await;
    assert!(answer.starts_with("HTTP/1.1 504 "), "{answer}");
    assert!(answer.contains("Timeout: request did not complete within the allotted timeout"), "{answer}");
    // A client's own limit, and one that is none.
    let slow = head.replace("namespaces ", "namespaces?timeout=50ms ");
    let answer = exchange(&cluster, &format!("{slow}content-length: 100\r\n\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 504 "), "{answer}");
    let (code, _) = cluster.get(None, "admin-token", "/api/v1/namespaces?timeout=soon").await;
    assert_eq!(code, StatusCode::BAD_REQUEST);
    cluster.stop().await;
}

#[tokio::test]
async fn a_client_that_never_reads_is_cut_off() {
    let limits = serve::Limits { stalled: Duration::from_secs(1), connections: 1, ..serve::Limits::default() };
    let cluster = cluster(limits, None).await;
    cluster.admin(Method::POST, "/api/v1/namespaces", json!({"metadata": {"name": "a"}})).await;
    let word = "x".repeat(1 << 20);
    for n in 0..14 {
        let map = json!({"metadata": {"name": format!("m-{n}")}, "data": {"word": word}});
        cluster.admin(Method::POST, "/api/v1/namespaces/a/configmaps", map).await;
    }
    let mut stream = cluster.connect(None).await;
    let request = format!("GET /api/v1/namespaces/a/configmaps HTTP/1.1\r\n{AS_ADMIN}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    // The only place is that client's, until it is cut off.
    let next = cluster.get(None, "admin-token", "/version");
    let (code, _) = tokio::time::timeout(Duration::from_secs(20), next).await.expect("the place comes free");
    assert_eq!(code, StatusCode::OK);
    let mut rest = Vec::new();
    let ended = stream.read_to_end(&mut rest).await;
    assert!(ended.is_err() || rest.len() < 14 << 20, "all of it came");
    cluster.stop().await;
}
