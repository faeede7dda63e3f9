//! The pipeline as a client sees it: a whole API server over SQLite, called in process.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use k3s_api::authentication::UserInfo;
use k3s_apiserver::{ApiServer, Body, Config};
use k3s_kine::Datastore;
use k3s_kine::sqlite::{Options, Sqlite};
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt;

/// Nothing here takes longer, unless it is broken.
const PATIENCE: Duration = Duration::from_secs(20);

struct Cluster {
    _folder: TempDir,
    store: Arc<Sqlite>,
    server: ApiServer,
}

impl Cluster {
    async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Sqlite::open(&folder.path().join("state.db"), Options::default()).expect("a datastore");
        let store = Arc::new(store);
        let server = server(&store).await;
        let cluster = Self { _folder: folder, store, server };
        let (code, _) = cluster.post("/api/v1/namespaces", json!({"metadata": {"name": "a"}})).await;
        assert_eq!(code, StatusCode::CREATED);
        let (code, _) =
            cluster.post("/api/v1/namespaces/a/serviceaccounts", json!({"metadata": {"name": "default"}})).await;
        assert_eq!(code, StatusCode::CREATED);
        cluster
    }

    async fn send(&self, method: Method, path: &str, content_type: &str, body: Vec<u8>) -> (StatusCode, Value) {
        call(&self.server, method, path, content_type, body).await
    }

    async fn get(&self, path: &str) -> (StatusCode, Value) {
        self.send(Method::GET, path, "application/json", Vec::new()).await
    }

    async fn post(&self, path: &str, body: Value) -> (StatusCode, Value) {
        self.send(Method::POST, path, "application/json", body.to_string().into_bytes()).await
    }

    async fn put(&self, path: &str, body: Value) -> (StatusCode, Value) {
        self.send(Method::PUT, path, "application/json", body.to_string().into_bytes()).await
    }

    async fn merge(&self, path: &str, body: Value) -> (StatusCode, Value) {
        self.send(Method::PATCH, path, "application/merge-patch+json", body.to_string().into_bytes()).await
    }

    async fn delete(&self, path: &str) -> (StatusCode, Value) {
        self.send(Method::DELETE, path, "application/json", Vec::new()).await
    }

    async fn watch(&self, path: &str) -> Events {
        let response = respond(&self.server, Method::GET, path, "application/json", Vec::new()).await;
        assert_eq!(response.status(), StatusCode::OK);
        Events { body: response.into_body(), rest: Vec::new() }
    }
}

async fn server(store: &Arc<Sqlite>) -> ApiServer {
    let config = Config::new(store.clone(), IpAddr::V4(Ipv4Addr::LOCALHOST));
    ApiServer::start(config).await.expect("a server")
}

async fn respond(
    server: &ApiServer,
    method: Method,
    path: &str,
    content_type: &str,
    body: Vec<u8>,
) -> http::Response<Body> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", content_type)
        .extension(UserInfo::new("admin", &["system:masters"]))
        .body(Full::new(Bytes::from(body)))
        .expect("a request");
    let Ok(response) =
        tokio::time::timeout(PATIENCE, server.clone().oneshot(request)).await.expect("an answer in time");
    response
}

async fn call(
    server: &ApiServer,
    method: Method,
    path: &str,
    content_type: &str,
    body: Vec<u8>,
) -> (StatusCode, Value) {
    let response = respond(server, method, path, content_type, body).await;
    let code = response.status();
    let bytes = response.into_body().collect().await.expect("a body").to_bytes();
    (code, serde_json::from_slice(&bytes).unwrap_or_default())
}

/// A watch, read event by event.
struct Events {
    body: Body,
    rest: Vec<u8>,
}

impl Events {
    /// The next event; `None` when the watch has ended.
    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).expect("an event"));
            }
            let frame = tokio::time::timeout(PATIENCE, self.body.frame()).await.expect("an event in time")?;
            self.rest.extend_from_slice(frame.expect("a frame").data_ref().expect("data"));
        }
    }

    async fn expect(&mut self, kind: &str, name: &str) -> Value {
        let event = self.next().await.expect("an event");
        assert_eq!((&event["type"], &event["object"]["metadata"]["name"]), (&json!(kind), &json!(name)), "{event}");
        event
    }
}

const MAPS: &str = "/api/v1/namespaces/a/configmaps";

fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().expect("items");
    items.iter().map(|item| item["metadata"]["name"].as_str().expect("a name")).collect()
}

#[tokio::test]
async fn a_list_shows_everything_that_was_acknowledged_before() {
    let cluster = Cluster::start().await;
    for round in 0..20 {
        let (code, _) = cluster.post(MAPS, json!({"metadata": {"name": format!("m{round:02}")}})).await;
        assert_eq!(code, StatusCode::CREATED);
        let (_, list) = cluster.get(MAPS).await;
        assert_eq!(names(&list).len(), round + 1);
    }
}

#[tokio::test]
async fn a_patch_that_loses_a_race_is_done_again() {
    let cluster = Cluster::start().await;
    cluster.post(MAPS, json!({"metadata": {"name": "m"}})).await;
    let path = format!("{MAPS}/m");
    let patches = (0..4).map(|n| cluster.merge(&path, json!({"data": {format!("k{n}"): "v"}})));
    let codes: Vec<_> = join_all(patches).await.into_iter().map(|(code, _)| code).collect();
    assert_eq!(codes, [StatusCode::OK; 4]);
    let (_, map) = cluster.get(&path).await;
    assert_eq!(map["data"].as_object().map(|data| data.len()), Some(4));
}

#[tokio::test]
async fn an_update_of_an_old_version_is_refused() {
    let cluster = Cluster::start().await;
    let (_, first) = cluster.post(MAPS, json!({"metadata": {"name": "m"}})).await;
    cluster.merge(&format!("{MAPS}/m"), json!({"data": {"a": "1"}})).await;
    let (code, status) = cluster.put(&format!("{MAPS}/m"), first).await;
    assert_eq!((code, &status["reason"]), (StatusCode::CONFLICT, &json!("Conflict")));
}

#[tokio::test]
async fn writing_what_is_there_already_writes_nothing() {
    let cluster = Cluster::start().await;
    let (_, first) = cluster.post(MAPS, json!({"metadata": {"name": "m"}, "data": {"a": "1"}})).await;
    let (_, second) = cluster.merge(&format!("{MAPS}/m"), json!({"data": {"a": "1"}})).await;
    assert_eq!(first["metadata"]["resourceVersion"], second["metadata"]["resourceVersion"]);
}

#[tokio::test]
async fn the_pages_of_a_list_are_of_one_moment() {
    let cluster = Cluster::start().await;
    for name in ["a", "b", "c", "d"] {
        cluster.post(MAPS, json!({"metadata": {"name": name}})).await;
    }
    let (_, page) = cluster.get(&format!("{MAPS}?limit=2")).await;
    assert_eq!((names(&page), &page["metadata"]["remainingItemCount"]), (vec!["a", "b"], &json!(2)));
    let token = page["metadata"]["continue"].as_str().expect("a token").to_owned();
    cluster.delete(&format!("{MAPS}/c")).await;
    cluster.post(MAPS, json!({"metadata": {"name": "bb"}})).await;
    let (_, next) = cluster.get(&format!("{MAPS}?limit=2&continue={token}")).await;
    assert_eq!(names(&next), ["c", "d"]);
    assert_eq!(next["metadata"]["resourceVersion"], page["metadata"]["resourceVersion"]);
    assert_eq!(next["metadata"].get("continue"), None);
}

#[tokio::test]
async fn a_list_of_an_exact_version_is_what_was_there_then() {
    let cluster = Cluster::start().await;
    let (_, first) = cluster.post(MAPS, json!({"metadata": {"name": "a"}})).await;
    let version = first["metadata"]["resourceVersion"].as_str().expect("a version").to_owned();
    cluster.post(MAPS, json!({"metadata": {"name": "b"}})).await;
    let path = format!("{MAPS}?resourceVersion={version}&resourceVersionMatch=Exact");
    let (_, list) = cluster.get(&path).await;
    assert_eq!((names(&list), list["metadata"]["resourceVersion"].as_str()), (vec!["a"], Some(version.as_str())));
}

#[tokio::test]
async fn a_watch_tells_what_is_there_then_what_changes() {
    let cluster = Cluster::start().await;
    cluster.post(MAPS, json!({"metadata": {"name": "old"}})).await;
    let options = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut events = cluster.watch(&format!("{MAPS}?{options}")).await;
    events.expect("ADDED", "old").await;
    let bookmark = events.next().await.expect("a bookmark");
    assert_eq!(bookmark["type"], "BOOKMARK");
    assert_eq!(bookmark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    cluster.post(MAPS, json!({"metadata": {"name": "new"}})).await;
    cluster.merge(&format!("{MAPS}/new"), json!({"data": {"a": "1"}})).await;
    cluster.delete(&format!("{MAPS}/new")).await;
    events.expect("ADDED", "new").await;
    let changed = events.expect("MODIFIED", "new").await;
    let deleted = events.expect("DELETED", "new").await;
    assert_eq!(deleted["object"]["data"], json!({"a": "1"}));
    assert_ne!(deleted["object"]["metadata"]["resourceVersion"], changed["object"]["metadata"]["resourceVersion"]);
}

#[tokio::test]
async fn to_a_selector_an_object_comes_and_goes() {
    let cluster = Cluster::start().await;
    let (_, list) = cluster.get(MAPS).await;
    let version = list["metadata"]["resourceVersion"].as_str().expect("a version").to_owned();
    let mut events = cluster.watch(&format!("{MAPS}?watch=1&labelSelector=a%3D1&resourceVersion={version}")).await;
    cluster.post(MAPS, json!({"metadata": {"name": "m", "labels": {"a": "0"}}})).await;
    let path = format!("{MAPS}/m");
    cluster.merge(&path, json!({"metadata": {"labels": {"a": "1"}}})).await;
    cluster.merge(&path, json!({"metadata": {"labels": {"a": "2"}}})).await;
    events.expect("ADDED", "m").await;
    let gone = events.expect("DELETED", "m").await;
    assert_eq!(gone["object"]["metadata"]["labels"], json!({"a": "1"}));
}

#[tokio::test]
async fn a_watch_goes_on_where_another_server_life_ended() {
    let cluster = Cluster::start().await;
    let (_, first) = cluster.post(MAPS, json!({"metadata": {"name": "one"}})).await;
    let version = first["metadata"]["resourceVersion"].as_str().expect("a version").to_owned();
    cluster.post(MAPS, json!({"metadata": {"name": "two"}})).await;
    cluster.server.stop();
    let again = Cluster {
        _folder: tempfile::tempdir().expect("a folder"),
        store: cluster.store.clone(),
        server: server(&cluster.store).await,
    };
    // The new server's cache begins after the change; it comes from the datastore's history.
    let mut events = again.watch(&format!("{MAPS}?watch=1&resourceVersion={version}")).await;
    events.expect("ADDED", "two").await;
    again.post(MAPS, json!({"metadata": {"name": "three"}})).await;
    events.expect("ADDED", "three").await;
}

#[tokio::test]
async fn what_is_compacted_is_gone() {
    let cluster = Cluster::start().await;
    cluster.post(MAPS, json!({"metadata": {"name": "one"}})).await;
    let (_, two) = cluster.post(MAPS, json!({"metadata": {"name": "two"}})).await;
    cluster.server.stop();
    let version: i64 = two["metadata"]["resourceVersion"].as_str().expect("a version").parse().expect("a number");
    cluster.store.compact(version).await.expect("compaction");
    let again = Cluster {
        _folder: tempfile::tempdir().expect("a folder"),
        store: cluster.store.clone(),
        server: server(&cluster.store).await,
    };
    let mut events = again.watch(&format!("{MAPS}?watch=1&resourceVersion=2")).await;
    let event = events.next().await.expect("an error");
    assert_eq!((&event["type"], &event["object"]["reason"]), (&json!("ERROR"), &json!("Expired")));
    assert_eq!(events.next().await, None);
    let (code, status) = again.get(&format!("{MAPS}?resourceVersion=2&resourceVersionMatch=Exact")).await;
    assert_eq!((code, &status["reason"]), (StatusCode::GONE, &json!("Expired")));
}

#[tokio::test]
async fn services_never_share_an_address_or_a_node_port() {
    let cluster = Cluster::start().await;
    let services = (0..24).map(|n| {
        let spec = json!({"type": "NodePort", "ports": [{"port": 80}]});
        cluster.post("/api/v1/namespaces/a/services", json!({"metadata": {"name": format!("s{n}")}, "spec": spec}))
    });
    let services: Vec<Value> = join_all(services).await.into_iter().map(|(_, service)| service).collect();
    let addresses: HashSet<_> = services.iter().map(|s| s["spec"]["clusterIP"].as_str().expect("an address")).collect();
    let ports: HashSet<_> =
        services.iter().map(|s| s["spec"]["ports"][0]["nodePort"].as_u64().expect("a port")).collect();
    assert_eq!((addresses.len(), ports.len()), (24, 24));
    // What one gives back, another can have.
    let address = services[0]["spec"]["clusterIP"].clone();
    let fixed = json!({"metadata": {"name": "fixed"}, "spec": {"clusterIP": address, "ports": [{"port": 80}]}});
    let (code, _) = cluster.post("/api/v1/namespaces/a/services", fixed.clone()).await;
    assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY);
    cluster.delete("/api/v1/namespaces/a/services/s0").await;
    let (code, answer) = cluster.post("/api/v1/namespaces/a/services", fixed).await;
    assert_eq!(code, StatusCode::CREATED, "{answer}");
}

#[tokio::test]
async fn a_pod_on_a_node_waits_for_its_kubelet() {
    let cluster = Cluster::start().await;
    let pod = |name: &str| json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let pods = "/api/v1/namespaces/a/pods";
    let (_, created) = cluster.post(pods, pod("bound")).await;
    assert_eq!(created["spec"]["volumes"][0]["projected"]["sources"][0]["serviceAccountToken"]["path"], "token");
    let binding = json!({"metadata": {"name": "bound"}, "target": {"kind": "Node", "name": "n"}});
    let (code, _) = cluster.post(&format!("{pods}/bound/binding"), binding.clone()).await;
    assert_eq!(code, StatusCode::CREATED);
    let (code, _) = cluster.post(&format!("{pods}/bound/binding"), binding).await;
    assert_eq!(code, StatusCode::CONFLICT);
    let (code, marked) = cluster.delete(&format!("{pods}/bound")).await;
    assert_eq!((code, &marked["metadata"]["deletionGracePeriodSeconds"]), (StatusCode::OK, &json!(30)));
    assert_eq!(cluster.get(&format!("{pods}/bound")).await.0, StatusCode::OK);
    cluster.delete(&format!("{pods}/bound?gracePeriodSeconds=0")).await;
    assert_eq!(cluster.get(&format!("{pods}/bound")).await.0, StatusCode::NOT_FOUND);

    cluster.post(pods, pod("unbound")).await;
    cluster.delete(&format!("{pods}/unbound")).await;
    assert_eq!(cluster.get(&format!("{pods}/unbound")).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn an_object_goes_with_its_last_finalizer() {
    let cluster = Cluster::start().await;
    cluster.post(MAPS, json!({"metadata": {"name": "m", "finalizers": ["x.example/f"]}})).await;
    let path = format!("{MAPS}/m");
    let (_, marked) = cluster.delete(&path).await;
    assert!(marked["metadata"]["deletionTimestamp"].is_string());
    cluster.merge(&path, json!({"metadata": {"finalizers": null}})).await;
    assert_eq!(cluster.get(&path).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_custom_resource_is_served_as_long_as_its_definition_is_there() {
    let cluster = Cluster::start().await;
    let definition = json!({"metadata": {"name": "widgets.g.example"}, "spec": {
        "group": "g.example", "scope": "Namespaced", "names": {"plural": "widgets", "kind": "Widget"},
        "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
            "type": "object", "properties": {"spec": {"type": "object", "properties": {
                "size": {"type": "integer", "default": 3}}}}}}}]}});
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let mut events = cluster.watch(&format!("{definitions}?watch=1")).await;
    let (code, answer) = cluster.post(definitions, definition).await;
    assert_eq!(code, StatusCode::CREATED, "{answer}");
    let established = |event: &Value| {
        let conditions = event["object"]["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.iter().any(|condition| condition["type"] == "Established" && condition["status"] == "True")
    };
    while !established(&events.next().await.expect("an event")) {}
    let widgets = "/apis/g.example/v1/namespaces/a/widgets";
    let (code, widget) = cluster.post(widgets, json!({"metadata": {"name": "w"}, "spec": {"other": 1}})).await;
    assert_eq!((code, &widget["spec"]), (StatusCode::CREATED, &json!({"size": 3})), "{widget}");
    cluster.delete(&format!("{definitions}/widgets.g.example")).await;
    while events.next().await.expect("an event")["type"] != "DELETED" {}
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while cluster.get(widgets).await.0 != StatusCode::NOT_FOUND && tokio::time::Instant::now() < deadline {
        tokio::task::yield_now().await;
    }
    assert_eq!(cluster.get(widgets).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn bad_bodies_are_refused_for_what_they_are() {
    let cluster = Cluster::start().await;
    let deep = "[".repeat(100_000).into_bytes();
    let huge = vec![b' '; (3 << 20) + 1];
    for (content_type, body, code) in [
        ("application/json", b"{".to_vec(), StatusCode::BAD_REQUEST),
        ("application/json", deep.clone(), StatusCode::BAD_REQUEST),
        ("application/yaml", deep, StatusCode::BAD_REQUEST),
        ("application/json", vec![0xff, 0xfe], StatusCode::BAD_REQUEST),
        ("application/json", huge, StatusCode::PAYLOAD_TOO_LARGE),
        ("application/vnd.kubernetes.protobuf", b"k8s\0".to_vec(), StatusCode::BAD_REQUEST),
        ("text/plain", b"{}".to_vec(), StatusCode::UNSUPPORTED_MEDIA_TYPE),
    ] {
        let shown = String::from_utf8_lossy(&body[..body.len().min(10)]).into_owned();
        let (got, status) = cluster.send(Method::POST, MAPS, content_type, body).await;
        assert_eq!(got, code, "{content_type} {shown}: {status}");
        assert_eq!(status["kind"], "Status");
    }
}

#[tokio::test]
async fn patches_are_as_careful_as_bodies() {
    let cluster = Cluster::start().await;
    cluster.post(MAPS, json!({"metadata": {"name": "m"}})).await;
    let path = format!("{MAPS}/m");
    let nested = |open: &str, close: &str| format!("{}1{}", open.repeat(100_000), close.repeat(100_000)).into_bytes();
    for content_type in [
        "application/json-patch+json",
        "application/merge-patch+json",
        "application/strategic-merge-patch+json",
        "application/apply-patch+yaml",
    ] {
        for body in [nested("[", "]"), nested("{\"a\":", "}"), b"{\"data\":".to_vec(), vec![0xff, 0xfe]] {
            let asked = format!("{path}?fieldManager=x");
            let (code, status) = cluster.send(Method::PATCH, &asked, content_type, body).await;
            assert!(code.is_client_error(), "{content_type}: {code} {status}");
            assert_eq!(status["kind"], "Status", "{content_type}");
        }
    }
}

#[tokio::test]
async fn a_field_that_stands_twice_is_told_or_refused() {
    let cluster = Cluster::start().await;
    let body = br#"{"metadata":{"name":"m"},"data":{"a":"1"},"data":{"a":"2"}}"#.to_vec();
    let strict = format!("{MAPS}?fieldValidation=Strict");
    let (code, status) = cluster.send(Method::POST, &strict, "application/json", body.clone()).await;
    assert_eq!(code, StatusCode::BAD_REQUEST);
    assert!(status["message"].as_str().unwrap().contains("duplicate field \"data\""), "{status}");
    let response = respond(&cluster.server, Method::POST, MAPS, "application/json", body).await;
    assert_eq!(response.status(), StatusCode::CREATED);
    let warning = response.headers()["warning"].to_str().unwrap();
    assert_eq!(warning, "299 - \"duplicate field \\\"data\\\"\"");
    let yaml = b"metadata: {name: n}\ndata: {a: b}\ndata: {a: c}\n".to_vec();
    let (code, _) = cluster.send(Method::POST, &strict, "application/yaml", yaml).await;
    assert_eq!(code, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn an_event_is_the_same_in_both_its_groups() {
    let cluster = Cluster::start().await;
    let event = json!({"metadata": {"name": "e", "namespace": "a"}, "reason": "Started", "message": "it did",
        "involvedObject": {"kind": "Pod", "name": "p", "namespace": "a"}, "type": "Normal"});
    let (code, answer) = cluster.post("/api/v1/namespaces/a/events", event).await;
    assert_eq!(code, StatusCode::CREATED, "{answer}");
    let (_, event) = cluster.get("/apis/events.k8s.io/v1/namespaces/a/events/e").await;
    assert_eq!((&event["note"], &event["regarding"]["name"]), (&json!("it did"), &json!("p")), "{event}");
}
