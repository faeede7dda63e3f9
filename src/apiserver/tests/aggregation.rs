//! Aggregated APIs: an extension server behind TLS, and this server before it.

mod authority;

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use base64::Engine;
use bytes::Bytes;
use http::header::{CONNECTION, UPGRADE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use k3s_api::authentication::UserInfo;
use k3s_apiserver::authentication::{Authenticated, ClientCa};
use k3s_apiserver::relay::{ClientCertificate, Connection, Dialer};
use k3s_apiserver::serve::Peer;
use k3s_apiserver::{ApiServer, Body, Config, bootstrap, serve};
use k3s_kine::sqlite::{Options, Sqlite};
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use authority::Authority;

const THINGS: &str = "/apis/g.example/v1/namespaces/default/things";

struct To(SocketAddr);

#[async_trait]
impl Dialer for To {
    async fn connect(&self, _: &str, _: SocketAddr) -> io::Result<Box<dyn Connection>> {
        Ok(Box::new(TcpStream::connect(self.0).await?))
    }
}

/// What the extension server answers: who asks for what, as it sees it.
async fn extension(
    mut request: Request<Incoming>,
    front_ca: CertificateDer<'static>,
) -> Result<Response<Body>, Infallible> {
    let path = request.uri().path().to_owned();
    let document = match path.as_str() {
        "/apis/g.example/v1" => json!({"kind": "APIResourceList", "groupVersion": "g.example/v1", "resources": [
            {"name": "things", "singularName": "thing", "namespaced": true, "kind": "Thing", "verbs": ["get", "list"]}]}),
        "/openapi/v3" => json!({"paths": {"apis/g.example/v1": {
            "serverRelativeURL": "/openapi/v3/apis/g.example/v1?hash=ABC"}}}),
        "/openapi/v2" => json!({
            "paths": {"/apis/g.example/v1/things": {"get": {"responses": {"200": {"schema": {
                "$ref": "#/definitions/Thing"}}}}}, "/healthz": {"get": {}}},
            "definitions": {
                "Thing": {"properties": {"metadata": {"$ref": "#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.Time"}}},
                "io.k8s.apimachinery.pkg.apis.meta.v1.Time": {"description": "another idea of time"}}}),
        _ if request.headers().contains_key(UPGRADE) => {
            let upgrade = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                let mut stream = TokioIo::new(upgrade.await.unwrap());
                let mut word = [0; 4];
                stream.read_exact(&mut word).await.unwrap();
                stream.write_all(&word.map(|byte| byte.to_ascii_uppercase())).await.unwrap();
                stream.shutdown().await.unwrap();
            });
            let answer = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS);
            return Ok(answer.header(CONNECTION, "Upgrade").header(UPGRADE, "echo").body(Body::Empty).unwrap());
        }
        _ if request.uri().query().unwrap_or_default().contains("watch") => {
            let events = futures::stream::unfold(0, |n| async move {
                // The second one comes only when somebody waits for it.
                Some((Ok(Bytes::from(format!("event {n}\n"))), n + 1))
            });
            return Ok(Response::new(Body::stream(events)));
        }
        _ => {
            let header = |name: &str| {
                let values = request.headers().get_all(name).iter();
                values.map(|value| value.to_str().unwrap().to_owned()).collect::<Vec<_>>()
            };
            let peer = request.extensions().get::<Peer>().unwrap();
            let proxy = ClientCa::new("front", &[front_ca]).unwrap().user(peer.certificates()).unwrap();
            json!({"path": request.uri().to_string(), "proxy": proxy.name, "user": header("x-remote-user"),
                "groups": header("x-remote-group"), "authorization": header("authorization"), "host": header("host")})
        }
    };
    Ok(Response::new(Body::from(document.to_string())))
}

struct Cluster {
    server: ApiServer,
    authority: Authority,
    stop: CancellationToken,
    _folder: TempDir,
}

async fn cluster() -> Cluster {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(Sqlite::open(&folder.path().join("state.db"), Options::default()).unwrap());
    let (authority, front) = (Authority::new("ca"), Authority::new("front"));
    let stop = CancellationToken::new();

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let certificate = authority.issue("extension", "", &["extension.kube-system.svc"]).certified();
    let names = ClientCa::new("front", std::slice::from_ref(&front.certificate)).unwrap().names();
    let tls = serve::tls(certificate, names).unwrap();
    let front_ca = front.certificate.clone();
    let service = tower::service_fn(move |request| extension(request, front_ca.clone()));
    tokio::spawn(serve::serve(vec![listener], tls, service, serve::Limits::default(), stop.clone()));

    let mut config = Config::new(store, IpAddr::V4(Ipv4Addr::LOCALHOST));
    let tokens = folder.path().join("tokens.csv");
    std::fs::write(&tokens, "admin-token,admin,1,\"system:masters\"\n").unwrap();
    config.authentication.token_file = Some(tokens);
    let proxy = front.issue("system:auth-proxy", "", &[]);
    config.relay.front_proxy = Some(ClientCertificate { chain: vec![proxy.certificate], key: Arc::new(proxy.key) });
    config.relay.dialer = Arc::new(To(address));
    let server = ApiServer::start(config).await.unwrap();
    bootstrap::run(&server).await.unwrap();
    let cluster = Cluster { server, authority, stop, _folder: folder };
    let service = json!({"metadata": {"name": "extension"}, "spec": {"ports": [{"port": 443, "targetPort": 8443}]}});
    cluster.create("/api/v1/namespaces/kube-system/services", service).await;
    cluster
}

impl Cluster {
    async fn call(&self, user: UserInfo, method: Method, path: &str, accept: &str, body: Value) -> Response<Body> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
        let request = request.header("accept", accept).header("x-remote-user", "forged").extension(user);
        let request = request.body(Full::new(Bytes::from(body))).unwrap();
        let Ok(response) = self.server.clone().oneshot(request).await;
        response
    }

    async fn get(&self, path: &str, accept: &str) -> (StatusCode, Value) {
        let response =
            self.call(UserInfo::new("admin", &["system:masters"]), Method::GET, path, accept, Value::Null).await;
        let code = response.status();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let text = || json!(String::from_utf8_lossy(&bytes));
        (code, serde_json::from_slice(&bytes).unwrap_or_else(|_| text()))
    }

    async fn create(&self, path: &str, body: Value) {
        let admin = UserInfo::new("admin", &["system:masters"]);
        let response = self.call(admin, Method::POST, path, "*/*", body).await;
        let code = response.status();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(code, StatusCode::CREATED, "{path}: {}", String::from_utf8_lossy(&bytes));
    }

    /// Has the extension server's version served; `trust` says how its certificate is looked at.
    async fn register(&self, trust: Value) {
        let mut spec = json!({"group": "g.example", "version": "v1", "groupPriorityMinimum": 1000,
            "versionPriority": 10, "service": {"name": "extension", "namespace": "kube-system"}});
        spec.as_object_mut().unwrap().extend(trust.as_object().unwrap().clone());
        let body = json!({"metadata": {"name": "v1.g.example"}, "spec": spec});
        self.create("/apis/apiregistration.k8s.io/v1/apiservices", body).await;
    }

    async fn endpoints(&self) {
        let slice = json!({"metadata": {"name": "extension", "labels": {"kubernetes.io/service-name": "extension"}},
            "addressType": "IPv4", "ports": [{"name": "", "port": 8443}], "endpoints": [{"addresses": ["10.1.2.3"]}]});
        self.create("/apis/discovery.k8s.io/v1/namespaces/kube-system/endpointslices", slice).await;
    }

    /// Waits until it is answered for.
    async fn available(&self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.get(THINGS, "*/*").await.0 != StatusCode::OK {
            if Instant::now() > deadline {
                let (_, service) = self.get("/apis/apiregistration.k8s.io/v1/apiservices/v1.g.example", "*/*").await;
                panic!("it never becomes available: {}", service["status"]);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Trust in what an authority has signed.
fn bundle(authority: &Authority) -> Value {
    let pem = base64::engine::general_purpose::STANDARD.encode(&authority.certificate);
    let pem = format!("-----BEGIN CERTIFICATE-----\n{pem}\n-----END CERTIFICATE-----\n");
    json!({"caBundle": base64::engine::general_purpose::STANDARD.encode(pem)})
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[tokio::test]
async fn a_request_is_passed_on_with_its_user_and_nobody_else_s() {
    for trusted in [true, false] {
        let cluster = cluster().await;
        cluster.endpoints().await;
        let trust = if trusted { bundle(&cluster.authority) } else { json!({"insecureSkipTLSVerify": true}) };
        cluster.register(trust).await;
        cluster.available().await;
        let (_, seen) = cluster.get(&format!("{THINGS}?limit=5"), "*/*").await;
        assert_eq!(
            seen,
            json!({"path": format!("{THINGS}?limit=5"), "proxy": "system:auth-proxy", "user": ["admin"],
                "groups": ["system:masters", "system:authenticated"], "authorization": [],
                "host": ["extension.kube-system.svc:8443"]})
        );
        // Who may not is told so here.
        let refused = cluster.call(UserInfo::new("jane", &[]), Method::GET, THINGS, "*/*", Value::Null).await;
        assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    }
}

#[tokio::test]
async fn what_other_servers_serve_stands_in_discovery_and_openapi() {
    let cluster = cluster().await;
    cluster.endpoints().await;
    cluster.register(bundle(&cluster.authority)).await;
    cluster.available().await;
    let (_, groups) = cluster.get("/apis", "application/json").await;
    let named = |list: &Value, name: &str| list.as_array().unwrap().iter().find(|it| it["name"] == name).cloned();
    assert_eq!(named(&groups["groups"], "g.example").unwrap()["preferredVersion"]["groupVersion"], "g.example/v1");
    let (_, group) = cluster.get("/apis/g.example", "application/json").await;
    assert_eq!((&group["kind"], &group["versions"][0]["version"]), (&json!("APIGroup"), &json!("v1")));
    let (_, resources) = cluster.get("/apis/g.example/v1", "application/json").await;
    assert_eq!(resources["resources"][0]["name"], "things");
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let (_, all) = cluster.get("/apis", accept).await;
    let items = all["items"].as_array().unwrap();
    let group = items.iter().find(|item| item["metadata"]["name"] == "g.example").unwrap();
    assert_eq!(group["versions"][0]["freshness"], "Current");
    assert_eq!(group["versions"][0]["resources"][0]["responseKind"]["kind"], "Thing");
    let (_, index) = cluster.get("/openapi/v3", "*/*").await;
    let url = index["paths"]["apis/g.example/v1"]["serverRelativeURL"].as_str().unwrap();
    let (code, document) = cluster.get(url, "application/json").await;
    assert_eq!((code, &document["path"]), (StatusCode::OK, &json!(url)));
    let (code, document) = cluster.get("/openapi/v2", "application/json").await;
    assert_eq!(code, StatusCode::OK);
    let thing = &document["paths"]["/apis/g.example/v1/things"]["get"]["responses"]["200"]["schema"]["$ref"];
    assert_eq!(*thing, "#/definitions/Thing");
    assert_eq!(document["paths"].get("/healthz"), None);
    let time = "io.k8s.apimachinery.pkg.apis.meta.v1.Time";
    let reference = &document["definitions"]["Thing"]["properties"]["metadata"]["$ref"];
    assert_eq!(*reference, format!("#/definitions/{time}_v2"));
    assert_eq!(document["definitions"][format!("{time}_v2")]["description"], "another idea of time");
    assert_ne!(document["definitions"][time]["description"], "another idea of time");
    assert!(document["paths"].get("/api/v1/pods").is_some());
}

#[tokio::test]
async fn a_server_that_is_not_there_is_answered_for_with_503() {
    let cluster = cluster().await;
    cluster.register(bundle(&cluster.authority)).await;
    let unavailable = (StatusCode::SERVICE_UNAVAILABLE, json!("service unavailable\n"));
    assert_eq!(cluster.get(THINGS, "*/*").await, unavailable);
    cluster.endpoints().await;
    cluster.available().await;
    // It goes away without a word.
    cluster.stop.cancel();
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let (code, text) = cluster.get(THINGS, "*/*").await;
        if code == StatusCode::SERVICE_UNAVAILABLE {
            assert!(text.as_str().unwrap().starts_with("error trying to reach service: "), "{text}");
            break;
        }
        assert!(Instant::now() < deadline, "it is still there");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // What it served is remembered, as something old.
    let change = json!({"metadata": {"name": "other"}, "spec": {"ports": [{"port": 1}]}});
    cluster.create("/api/v1/namespaces/default/services", change).await;
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    loop {
        let (_, all) = cluster.get("/apis", accept).await;
        let items = all["items"].as_array().unwrap();
        let group = items.iter().find(|item| item["metadata"]["name"] == "g.example").unwrap();
        assert_eq!(group["versions"][0]["resources"][0]["resource"], "things");
        if group["versions"][0]["freshness"] == "Stale" {
            break;
        }
        assert!(Instant::now() < deadline, "it is still current");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_certificate_of_nobody_s_is_not_trusted() {
    let cluster = cluster().await;
    cluster.endpoints().await;
    cluster.register(bundle(&Authority::new("other"))).await;
    assert_eq!(cluster.get(THINGS, "*/*").await.0, StatusCode::SERVICE_UNAVAILABLE);
    let (_, service) = cluster.get("/apis/apiregistration.k8s.io/v1/apiservices/v1.g.example", "*/*").await;
    let condition = &service["status"]["conditions"][0];
    assert_eq!((&condition["status"], &condition["reason"]), (&json!("False"), &json!("FailedDiscoveryCheck")));
}

#[tokio::test]
async fn watches_and_upgrades_stream() {
    let cluster = cluster().await;
    cluster.endpoints().await;
    cluster.register(bundle(&cluster.authority)).await;
    cluster.available().await;
    let admin = UserInfo::new("admin", &["system:masters"]);
    let response = cluster.call(admin, Method::GET, &format!("{THINGS}?watch=1"), "*/*", Value::Null).await;
    let mut body = response.into_body();
    let mut seen = String::new();
    while !seen.contains("event 1\n") {
        let frame = body.frame().await.unwrap().unwrap();
        seen.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
    }
    drop(body);

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let tls = serve::tls(cluster.authority.issue("server", "", &["localhost"]).certified(), Vec::new()).unwrap();
    let service = Authenticated::new(cluster.server.clone());
    tokio::spawn(serve::serve(vec![listener], tls, service, serve::Limits::default(), cluster.stop.clone()));
    let mut roots = rustls::RootCertStore::empty();
    roots.add(cluster.authority.certificate.clone()).unwrap();
    let client = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let client = client.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
    let connector = TlsConnector::from(Arc::new(client.with_no_client_auth()));
    let stream = TcpStream::connect(address).await.unwrap();
    let stream = connector.connect(ServerName::try_from("localhost").unwrap(), stream).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection.with_upgrades());
    let request = Request::builder().uri(format!("{THINGS}/t/connect")).header("host", "localhost");
    let request = request.header("authorization", "Bearer admin-token");
    let request = request.header(CONNECTION, "Upgrade").header(UPGRADE, "echo").body(Full::new(Bytes::new())).unwrap();
    let mut response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    let mut stream = TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap());
    stream.write_all(b"echo").await.unwrap();
    let mut word = Vec::new();
    stream.read_to_end(&mut word).await.unwrap();
    assert_eq!(word, b"ECHO");
}
