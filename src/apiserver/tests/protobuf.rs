//! A client that speaks protobuf, as those written in Go do, over TLS. It makes and reads the bytes itself, by the
//! numbers in Kubernetes' definitions: nothing of what the server does it with.

mod authority;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use k3s_apiserver::authentication::Authenticated;
use k3s_apiserver::{ApiServer, Config, serve};
use k3s_kine::sqlite::{Options, Sqlite};
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use authority::Authority;

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const JSON: &str = "application/json";
/// Nothing here takes longer, unless it is broken.
const PATIENCE: Duration = Duration::from_secs(60);
const MAPS: &str = "/api/v1/namespaces/a/configmaps";

/// A field of bytes, of strings, or of a message.
fn field(number: u64, bytes: &[u8]) -> Vec<u8> {
    [varint(number << 3 | 2), varint(bytes.len() as u64), bytes.to_vec()].concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(u8::try_from(value & 0x7f).unwrap() | 0x80);
        value >>= 7;
    }
    bytes.push(u8::try_from(value).unwrap());
    bytes
}

/// `k8s\0` and a `runtime.Unknown`.
fn body(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let type_meta = [field(1, api_version.as_bytes()), field(2, kind.as_bytes())].concat();
    [b"k8s\0".to_vec(), field(1, &type_meta), field(2, raw)].concat()
}

fn named(name: &str) -> Vec<u8> {
    field(1, &field(1, name.as_bytes()))
}

fn config_map(name: &str, key: &str, value: &str) -> Vec<u8> {
    let entry = [field(1, key.as_bytes()), field(2, value.as_bytes())].concat();
    body("v1", "ConfigMap", &[named(name), field(2, &entry)].concat())
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Part<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

fn number(bytes: &mut &[u8]) -> u64 {
    let length = bytes.iter().position(|byte| byte & 0x80 == 0).expect("the end of a number") + 1;
    let (number, rest) = bytes.split_at(length);
    *bytes = rest;
    number.iter().rev().fold(0, |number, byte| number << 7 | u64::from(byte & 0x7f))
}

/// The fields of a message.
fn parts(mut bytes: &[u8]) -> Vec<(u64, Part<'_>)> {
    let mut parts = Vec::new();
    while !bytes.is_empty() {
        let tag = number(&mut bytes);
        let part = match tag & 7 {
            0 => Part::Number(number(&mut bytes)),
            2 => {
                let length = usize::try_from(number(&mut bytes)).unwrap();
                let (part, rest) = bytes.split_at(length);
                bytes = rest;
                Part::Bytes(part)
            }
            other => panic!("wire type {other}"),
        };
        parts.push((tag >> 3, part));
    }
    parts
}

/// All values of a field that are bytes.
fn all(message: &[u8], number: u64) -> Vec<&[u8]> {
    let of = |(field, part)| match part {
        Part::Bytes(bytes) if field == number => Some(bytes),
        _ => None,
    };
    parts(message).into_iter().filter_map(of).collect()
}

/// The bytes of a field in a field, and so on; empty if they aren't there.
fn at<'a>(message: &'a [u8], path: &[u64]) -> &'a [u8] {
    path.iter().fold(message, |message, number| all(message, *number).first().copied().unwrap_or_default())
}

fn text<'a>(message: &'a [u8], path: &[u64]) -> &'a str {
    std::str::from_utf8(at(message, path)).expect("text")
}

/// `apiVersion`, `kind`, and the message of a body.
fn unwrap(body: &[u8]) -> (&str, &str, &[u8]) {
    let unknown = body.strip_prefix(b"k8s\0").expect("the prefix");
    (text(unknown, &[1, 1]), text(unknown, &[1, 2]), at(unknown, &[2]))
}

struct Cluster {
    address: SocketAddr,
    authority: Authority,
    cancel: CancellationToken,
    _folder: tempfile::TempDir,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

struct Answer {
    code: StatusCode,
    media_type: String,
    body: Bytes,
}

impl Answer {
    fn json(&self) -> Value {
        assert_eq!(self.media_type, JSON, "{:?}", self.body);
        serde_json::from_slice(&self.body).expect("JSON")
    }

    /// The message of that kind.
    fn message(&self, code: StatusCode, kind: &str) -> &[u8] {
        assert_eq!((self.code, &*self.media_type), (code, PROTOBUF), "{:?}", self.body);
        let (_, got, message) = unwrap(&self.body);
        assert_eq!(got, kind);
        message
    }
}

impl Cluster {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let datastore = Arc::new(Sqlite::open(&folder.path().join("state.db"), Options::default()).unwrap());
        let tokens = folder.path().join("tokens.csv");
        std::fs::write(&tokens, "admin-token,admin,1,\"system:masters\"\n").unwrap();
        let mut config = Config::new(datastore, IpAddr::V4(Ipv4Addr::LOCALHOST));
        config.authentication.token_file = Some(tokens);
        let server = ApiServer::start(config).await.unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let authority = Authority::new("ca");
        let certificate = authority.issue("server", "", &["localhost"]).certified();
        let tls = serve::tls(certificate, server.authenticator().client_ca_names()).unwrap();
        let cancel = CancellationToken::new();
        let service = Authenticated::new(server);
        tokio::spawn(serve::serve(vec![listener], tls, service, serve::Limits::default(), cancel.clone()));
        let cluster = Self { address, authority, cancel, _folder: folder };
        cluster.make("/api/v1/namespaces", json!({"metadata": {"name": "a"}})).await;
        cluster.make("/api/v1/namespaces/a/serviceaccounts", json!({"metadata": {"name": "default"}})).await;
        cluster
    }

    async fn make(&self, path: &str, object: Value) {
        let answer = self.call(Method::POST, path, JSON, JSON, object.to_string().into_bytes()).await;
        assert_eq!(answer.code, StatusCode::CREATED, "{:?}", answer.body);
    }

    async fn respond(
        &self,
        method: Method,
        path: &str,
        accept: &str,
        content_type: &str,
        body: Vec<u8>,
    ) -> Response<Incoming> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.authority.certificate.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stream = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost")
            .header(AUTHORIZATION, "Bearer admin-token")
            .header(ACCEPT, accept)
            .header(CONTENT_TYPE, content_type)
            .body(Full::new(Bytes::from(body)))
            .unwrap();
        timeout(PATIENCE, sender.send_request(request)).await.expect("an answer in time").unwrap()
    }

    async fn call(&self, method: Method, path: &str, accept: &str, content_type: &str, body: Vec<u8>) -> Answer {
        let response = self.respond(method, path, accept, content_type, body).await;
        let code = response.status();
        let media_type = response.headers().get(CONTENT_TYPE).map_or("", |value| value.to_str().unwrap()).to_owned();
        let body = timeout(PATIENCE, response.into_body().collect()).await.expect("a body in time").unwrap().to_bytes();
        Answer { code, media_type, body }
    }

    /// A request in protobuf, for an answer in protobuf.
    async fn send(&self, method: Method, path: &str, body: Vec<u8>) -> Answer {
        self.call(method, path, PROTOBUF, PROTOBUF, body).await
    }

    async fn get(&self, path: &str, accept: &str) -> Answer {
        self.call(Method::GET, path, accept, JSON, Vec::new()).await
    }
}

#[tokio::test]
async fn objects_are_written_and_read() {
    let cluster = Cluster::start().await;
    let path = format!("{MAPS}/m");
    let strict = format!("{MAPS}?fieldValidation=Strict");
    let created = cluster.send(Method::POST, &strict, config_map("m", "k", "v")).await;
    let map = created.message(StatusCode::CREATED, "ConfigMap");
    assert_eq!((text(map, &[1, 1]), text(map, &[1, 3]), text(map, &[2, 1]), text(map, &[2, 2])), ("m", "a", "k", "v"));
    let as_json = cluster.get(&path, JSON).await.json();
    assert_eq!(as_json["data"], json!({"k": "v"}));
    assert_eq!(text(map, &[1, 5]), as_json["metadata"]["uid"]);
    assert_eq!(text(map, &[1, 6]), as_json["metadata"]["resourceVersion"]);
    // Seconds of the creation.
    let created: jiff::Timestamp = as_json["metadata"]["creationTimestamp"].as_str().unwrap().parse().unwrap();
    assert_eq!(parts(at(map, &[1, 8])).first(), Some(&(1, Part::Number(created.as_second().cast_unsigned()))));
    // What a manager owns is JSON in protobuf.
    let owned: Value = serde_json::from_slice(at(map, &[1, 17, 7, 1])).unwrap();
    assert_eq!(owned, as_json["metadata"]["managedFields"][0]["fieldsV1"]);

    // What was read is sent back, changed.
    let updated = [map, &field(2, &[field(1, b"l"), field(2, b"w")].concat())].concat();
    let updated = cluster.send(Method::PUT, &path, body("v1", "ConfigMap", &updated)).await;
    updated.message(StatusCode::OK, "ConfigMap");
    assert_eq!(cluster.get(&path, JSON).await.json()["data"], json!({"k": "v", "l": "w"}));
    // A client that knows what is expected need not say it.
    let untyped = [b"k8s\0".to_vec(), field(2, &named("n"))].concat();
    cluster.send(Method::POST, MAPS, untyped).await.message(StatusCode::CREATED, "ConfigMap");

    let again = cluster.send(Method::POST, MAPS, config_map("m", "k", "v")).await;
    let status = again.message(StatusCode::CONFLICT, "Status");
    assert_eq!((text(status, &[2]), text(status, &[4])), ("Failure", "AlreadyExists"));
    assert!(parts(status).contains(&(6, Part::Number(409))));
    let other = field(2, &field(1, b"another uid"));
    let refused = cluster.send(Method::DELETE, &path, body("v1", "DeleteOptions", &other)).await;
    refused.message(StatusCode::CONFLICT, "Status");
    let deleted = cluster.send(Method::DELETE, &path, body("v1", "DeleteOptions", b"")).await;
    assert_eq!(text(deleted.message(StatusCode::OK, "Status"), &[2]), "Success");
    let gone = cluster.get(&path, PROTOBUF).await;
    assert_eq!(text(gone.message(StatusCode::NOT_FOUND, "Status"), &[5, 1]), "m");
}

#[tokio::test]
async fn lists_long_and_short_are_whole() {
    let cluster = Cluster::start().await;
    let names: Vec<String> = (0..12).map(|index| format!("m{index:02}")).collect();
    // Too much to be kept while the length of the list is found out.
    let long = "v".repeat(500 << 10);
    for name in &names {
        let created = cluster.send(Method::POST, MAPS, config_map(name, "k", &long)).await;
        created.message(StatusCode::CREATED, "ConfigMap");
    }
    let answer = cluster.get(MAPS, PROTOBUF).await;
    let list = answer.message(StatusCode::OK, "ConfigMapList");
    let items = all(list, 2);
    assert_eq!(items.iter().map(|item| text(item, &[1, 1])).collect::<Vec<_>>(), names);
    assert!(items.iter().all(|item| at(item, &[2, 2]) == long.as_bytes()));
    let revision = text(list, &[1, 2]).to_owned();
    assert!(revision.parse::<u64>().is_ok(), "{revision}");

    let answer = cluster.get(&format!("{MAPS}?limit=5"), PROTOBUF).await;
    let page = answer.message(StatusCode::OK, "ConfigMapList");
    assert_eq!(all(page, 2).len(), 5);
    assert!(parts(at(page, &[1])).contains(&(4, Part::Number(7))), "what remains");
    let next = format!("{MAPS}?limit=50&continue={}", text(page, &[1, 3]));
    let answer = cluster.get(&next, PROTOBUF).await;
    assert_eq!(all(answer.message(StatusCode::OK, "ConfigMapList"), 2).len(), 7);
    let answer = cluster.get("/api/v1/namespaces/a/secrets", PROTOBUF).await;
    assert!(all(answer.message(StatusCode::OK, "SecretList"), 2).is_empty());

    let metadata = format!("{PROTOBUF};as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,{JSON}");
    let answer = cluster.get(MAPS, &metadata).await;
    let list = answer.message(StatusCode::OK, "PartialObjectMetadataList");
    assert_eq!(all(list, 2).iter().map(|item| text(item, &[1, 1])).collect::<Vec<_>>(), names);
    assert!(answer.body.len() < 20_000);
}

/// A watch, read event by event.
struct Events {
    body: Incoming,
    rest: Vec<u8>,
}

impl Events {
    /// The type of the next event, and its object's body.
    async fn next(&mut self) -> (String, Vec<u8>) {
        loop {
            if let Some((length, rest)) = self.rest.split_first_chunk::<4>() {
                let length = u32::from_be_bytes(*length) as usize;
                if rest.len() >= length {
                    let event = rest[..length].to_vec();
                    self.rest.drain(..4 + length);
                    return (text(&event, &[1]).to_owned(), at(&event, &[2, 1]).to_vec());
                }
            }
            let frame = timeout(PATIENCE, self.body.frame()).await.expect("an event in time").expect("no end").unwrap();
            self.rest.extend_from_slice(frame.data_ref().expect("data"));
        }
    }

    async fn expect(&mut self, event: &str, kind: &str, name: &str) -> Vec<u8> {
        let (got, object) = self.next().await;
        let (_, got_kind, message) = unwrap(&object);
        assert_eq!((&*got, got_kind, text(message, &[1, 1])), (event, kind, name));
        message.to_vec()
    }
}

impl Cluster {
    async fn watch(&self, path: &str, accept: &str) -> Events {
        let response = self.respond(Method::GET, path, accept, JSON, Vec::new()).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()[CONTENT_TYPE], "application/vnd.kubernetes.protobuf;stream=watch");
        Events { body: response.into_body(), rest: Vec::new() }
    }
}

#[tokio::test]
async fn changes_are_watched() {
    let cluster = Cluster::start().await;
    cluster.send(Method::POST, MAPS, config_map("m", "k", &"v".repeat(40_000))).await;
    let path =
        format!("{MAPS}?watch=true&allowWatchBookmarks=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan");
    let mut events = cluster.watch(&path, PROTOBUF).await;
    let map = events.expect("ADDED", "ConfigMap", "m").await;
    assert_eq!(at(&map, &[2, 2]).len(), 40_000);
    let bookmark = events.expect("BOOKMARK", "ConfigMap", "").await;
    assert_eq!(text(&bookmark, &[1, 12, 1]), "k8s.io/initial-events-end");
    cluster.send(Method::PUT, &format!("{MAPS}/m"), config_map("m", "k", "w")).await;
    let map = events.expect("MODIFIED", "ConfigMap", "m").await;
    assert_eq!(text(&map, &[2, 2]), "w");
    let metadata = format!("{PROTOBUF};as=PartialObjectMetadata;g=meta.k8s.io;v=v1");
    let mut metadata = cluster.watch(&format!("{MAPS}?watch=true"), &metadata).await;
    metadata.expect("ADDED", "PartialObjectMetadata", "m").await;
    cluster.send(Method::DELETE, &format!("{MAPS}/m"), Vec::new()).await;
    events.expect("DELETED", "ConfigMap", "m").await;
    metadata.expect("DELETED", "PartialObjectMetadata", "m").await;
}

#[tokio::test]
async fn kinds_that_are_no_resources_of_their_own_are_taken_and_answered() {
    let cluster = Cluster::start().await;
    let labels = json!({"matchLabels": {"a": "b"}});
    let container = json!([{"name": "c", "image": "i"}]);
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": container}});
    let deployment = json!({"metadata": {"name": "d"}, "spec": {"selector": labels, "template": template}});
    cluster.make("/apis/apps/v1/namespaces/a/deployments", deployment).await;
    let path = "/apis/apps/v1/namespaces/a/deployments/d/scale";
    let answer = cluster.get(path, PROTOBUF).await;
    let scale = answer.message(StatusCode::OK, "Scale").to_vec();
    assert_eq!(unwrap(&answer.body).0, "autoscaling/v1");
    let three = [&scale, &field(2, &[1 << 3, 3])[..]].concat();
    let answer = cluster.send(Method::PUT, path, body("autoscaling/v1", "Scale", &three)).await;
    assert_eq!(parts(at(answer.message(StatusCode::OK, "Scale"), &[2])), [(1, Part::Number(3))]);

    let pod =
        json!({"metadata": {"name": "p"}, "spec": {"containers": container, "automountServiceAccountToken": false}});
    cluster.make("/api/v1/namespaces/a/pods", pod).await;
    let node = [field(1, b"Node"), field(3, b"n")].concat();
    let binding = body("v1", "Binding", &[named("p"), field(2, &node)].concat());
    let answer = cluster.send(Method::POST, "/api/v1/namespaces/a/pods/p/binding", binding).await;
    answer.message(StatusCode::CREATED, "Status");
    let pod = cluster.get("/api/v1/namespaces/a/pods/p", PROTOBUF).await;
    assert_eq!(text(pod.message(StatusCode::OK, "Pod"), &[2, 10]), "n");
    let eviction = body("policy/v1", "Eviction", &named("p"));
    let answer = cluster.send(Method::POST, "/api/v1/namespaces/a/pods/p/eviction", eviction).await;
    answer.message(StatusCode::CREATED, "Status");

    let attributes = [field(1, b"a"), field(2, b"get"), field(5, b"pods")].concat();
    let review = body("authorization.k8s.io/v1", "SelfSubjectAccessReview", &field(2, &field(1, &attributes)));
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let answer = cluster.send(Method::POST, path, review).await;
    let review = answer.message(StatusCode::CREATED, "SelfSubjectAccessReview");
    assert!(parts(at(review, &[3])).contains(&(1, Part::Number(1))), "allowed");
    // A patch is never protobuf; what it makes may be had so.
    let path = "/apis/apps/v1/namespaces/a/deployments/d";
    let patch = br#"{"spec":{"paused":true}}"#.to_vec();
    let answer = cluster.call(Method::PATCH, path, PROTOBUF, "application/merge-patch+json", patch.clone()).await;
    answer.message(StatusCode::OK, "Deployment");
    let answer = cluster.send(Method::PATCH, path, patch).await;
    answer.message(StatusCode::UNSUPPORTED_MEDIA_TYPE, "Status");
}

#[tokio::test]
async fn custom_resources_have_metadata_alone() {
    let cluster = Cluster::start().await;
    let schema = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
    let version = json!([{"name": "v1", "served": true, "storage": true, "schema": schema}]);
    let spec = json!({"group": "b.c", "scope": "Namespaced", "versions": version,
        "names": {"kind": "Thing", "plural": "things"}});
    let definition = json!({"metadata": {"name": "things.b.c"}, "spec": spec});
    cluster.make("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition).await;
    let (path, thing) = ("/apis/b.c/v1/namespaces/a/things", "/apis/b.c/v1/namespaces/a/things/t");
    let object = json!({"apiVersion": "b.c/v1", "kind": "Thing", "metadata": {"name": "t"}}).to_string().into_bytes();
    let until = tokio::time::Instant::now() + PATIENCE;
    // It is served soon after its definition is there.
    while cluster.call(Method::POST, path, JSON, JSON, object.clone()).await.code != StatusCode::CREATED {
        assert!(tokio::time::Instant::now() < until);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let answer = cluster.get(thing, PROTOBUF).await;
    assert_eq!(answer.code, StatusCode::NOT_ACCEPTABLE);
    assert_eq!(
        answer.json()["message"],
        format!("only the following media types are accepted: {JSON}, application/yaml, {PROTOBUF}")
    );
    let answer = cluster.get(thing, &format!("{PROTOBUF},{JSON}")).await;
    assert_eq!(answer.json()["kind"], "Thing");
    let metadata = format!("{PROTOBUF};as=PartialObjectMetadata;g=meta.k8s.io;v=v1,{JSON}");
    let answer = cluster.get(thing, &metadata).await;
    assert_eq!(text(answer.message(StatusCode::OK, "PartialObjectMetadata"), &[1, 1]), "t");
    let answer = cluster.call(Method::POST, path, JSON, PROTOBUF, body("b.c/v1", "Thing", &named("u"))).await;
    assert_eq!(answer.code, StatusCode::BAD_REQUEST);
    let why = "Thing in version \"v1\" cannot be handled as a Thing: object *unstructured.Unstructured does not \
               implement the protobuf marshalling interface and cannot be encoded to a protobuf message";
    assert_eq!(answer.json()["message"], why);
    // Protobuf has no tables.
    let table = format!("{PROTOBUF};as=Table;g=meta.k8s.io;v=v1");
    assert_eq!(cluster.get(MAPS, &table).await.code, StatusCode::NOT_ACCEPTABLE);
    let answer = cluster.get(MAPS, &format!("{table},{JSON};as=Table;g=meta.k8s.io;v=v1")).await;
    assert_eq!(answer.json()["kind"], "Table");
}

#[tokio::test]
async fn bodies_that_cannot_be_read_are_refused() {
    let cluster = Cluster::start().await;
    let whole = config_map("m", "k", "v");
    let unrecognized = "the object provided is unrecognized (must be of type ConfigMap): ";
    let handled = "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: ";
    let prefix = "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]";
    let cases = [
        (Vec::new(), format!("{unrecognized}empty data (<empty>)")),
        (b"k8s\0".to_vec(), format!("{unrecognized}empty body (6b387300)")),
        (b"{\"a\":1}".to_vec(), format!("{unrecognized}{prefix} ({{\"a\":1}})")),
        (vec![1, 2], format!("{unrecognized}{prefix} (0102)")),
        (b"k8s\0\x0a\xff".to_vec(), format!("{unrecognized}unexpected EOF (6b3873000aff)")),
        (body("v1", "ConfigMap", &[0x0a, 0xff, 0xff, 3]), format!("{handled}unexpected EOF")),
        (body("v1", "ConfigMap", &[1 << 3, 1]), format!("{handled}proto: wrong wireType = 0 for field Metadata")),
        (
            body("v1", "ConfigMap", &field(1, &field(1, &[0xff]))),
            format!("{handled}proto: string field contains invalid UTF-8"),
        ),
        (
            body("v1", "Nothing", b""),
            "Nothing in version \"v1\" cannot be handled as a ConfigMap: no kind \"Nothing\" is registered for version \
             \"v1\" in scheme \"pkg/api/legacyscheme/scheme.go:30\""
                .to_owned(),
        ),
        (
            body("v1", "Secret", &named("m")),
            "Secret in version \"v1\" cannot be handled as a ConfigMap: converting (v1.Secret) to (core.ConfigMap): \
             unknown conversion"
                .to_owned(),
        ),
    ];
    for (body, message) in cases {
        let answer = cluster.call(Method::POST, MAPS, JSON, PROTOBUF, body.clone()).await;
        assert_eq!(answer.code, StatusCode::BAD_REQUEST, "{body:?}");
        assert_eq!(answer.json()["message"], message, "{body:?}");
    }
    for end in 5..whole.len() {
        let answer =
            cluster.call(Method::POST, &format!("{MAPS}?dryRun=All"), JSON, PROTOBUF, whole[..end].to_vec()).await;
        assert!(answer.code.is_client_error(), "{end}: {:?}", answer.body);
    }
    let answer = cluster.call(Method::POST, MAPS, JSON, "application/protobuf", whole).await;
    assert_eq!(answer.code, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let answer = cluster.send(Method::POST, MAPS, vec![0; (3 << 20) + 1]).await;
    answer.message(StatusCode::PAYLOAD_TOO_LARGE, "Status");
}

#[tokio::test]
async fn discovery_is_had_as_protobuf() {
    let cluster = Cluster::start().await;
    let answer = cluster.get("/api", PROTOBUF).await;
    assert_eq!(text(answer.message(StatusCode::OK, "APIVersions"), &[1]), "v1");
    let answer = cluster.get("/apis", PROTOBUF).await;
    let groups = all(answer.message(StatusCode::OK, "APIGroupList"), 1);
    assert!(groups.iter().any(|group| (text(group, &[1]), text(group, &[3, 1])) == ("apps", "apps/v1")));
    let answer = cluster.get("/apis/apps", PROTOBUF).await;
    assert_eq!(text(answer.message(StatusCode::OK, "APIGroup"), &[1]), "apps");
    let answer = cluster.get("/api/v1", &format!("{PROTOBUF},{JSON}")).await;
    let resources = all(answer.message(StatusCode::OK, "APIResourceList"), 2);
    let pods = resources.iter().find(|resource| text(resource, &[1]) == "pods").expect("pods");
    assert_eq!(text(pods, &[3]), "Pod");
    assert!(all(at(pods, &[4]), 1).contains(&&b"watch"[..]), "verbs");
    let aggregated = format!("{PROTOBUF};g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList");
    let answer = cluster.get("/apis", &aggregated).await;
    assert_eq!((answer.code, &answer.media_type), (StatusCode::OK, &aggregated));
    let (api_version, kind, list) = unwrap(&answer.body);
    assert_eq!((api_version, kind), ("apidiscovery.k8s.io/v2", "APIGroupDiscoveryList"));
    let apps = all(list, 2).into_iter().find(|group| text(group, &[1, 1]) == "apps").expect("apps");
    assert_eq!((text(apps, &[2, 1]), text(apps, &[2, 3])), ("v1", "Current"));
    assert!(all(at(apps, &[2]), 2).iter().any(|resource| text(resource, &[2, 3]) == "Deployment"));
}
