//! A whole API server over each datastore that several servers can share: PostgreSQL, MariaDB, etcd. The databases are
//! real ones, which the tests start for themselves.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use k3s_api::authentication::UserInfo;
use k3s_apiserver::{ApiServer, Body, Config};
use k3s_kine::endpoint::{self, Opened};
use k3s_tests::datastore::database::{self, Kind};
use k3s_tests::datastore::etcd;
use serde_json::{Value, json};
use tower::ServiceExt;

/// Nothing here takes longer, unless it is broken.
const PATIENCE: Duration = Duration::from_secs(30);

const MAPS: &str = "/api/v1/namespaces/a/configmaps";

/// One of several servers on a datastore.
struct Server {
    datastore: Opened,
    api: ApiServer,
}

impl Server {
    async fn start(endpoint: &str) -> Self {
        let options = endpoint::Options { endpoint: endpoint.into(), ..endpoint::Options::default() };
        let datastore = endpoint::open(&options).await.expect("a datastore");
        let mut config = Config::new(datastore.store.clone(), IpAddr::V4(Ipv4Addr::LOCALHOST));
        config.datastore_metrics = Some(datastore.metrics().clone());
        Self { api: ApiServer::start(config).await.expect("a server"), datastore }
    }

    async fn stop(self) {
        self.api.stop();
        self.datastore.close().await.expect("a closed datastore");
    }

    async fn respond(&self, method: Method, path: &str, body: String) -> http::Response<Body> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", "application/json")
            .extension(UserInfo::new("admin", &["system:masters"]))
            .body(Full::new(Bytes::from(body)))
            .expect("a request");
        let Ok(response) =
            tokio::time::timeout(PATIENCE, self.api.clone().oneshot(request)).await.expect("an answer in time");
        response
    }

    async fn text(&self, path: &str) -> String {
        let body = self.respond(Method::GET, path, String::new()).await.into_body();
        String::from_utf8(body.collect().await.expect("a body").to_bytes().into()).expect("text")
    }

    async fn get(&self, path: &str) -> Value {
        serde_json::from_str(&self.text(path).await).expect("JSON")
    }

    async fn send(&self, method: Method, path: &str, body: Value) -> (StatusCode, Value) {
        let response = self.respond(method, path, body.to_string()).await;
        let code = response.status();
        let bytes = response.into_body().collect().await.expect("a body").to_bytes();
        (code, serde_json::from_slice(&bytes).expect("JSON"))
    }

    async fn create(&self, path: &str, body: Value) -> Value {
        let (code, answer) = self.send(Method::POST, path, body).await;
        assert_eq!(code, StatusCode::CREATED, "{answer}");
        answer
    }

    async fn watch(&self, path: &str) -> Events {
        let response = self.respond(Method::GET, path, String::new()).await;
        assert_eq!(response.status(), StatusCode::OK);
        Events { body: response.into_body(), rest: Vec::new() }
    }
}

/// A watch, read event by event.
struct Events {
    body: Body,
    rest: Vec<u8>,
}

impl Events {
    async fn expect(&mut self, kind: &str, name: &str) {
        let end = loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                break end;
            }
            let frame = tokio::time::timeout(PATIENCE, self.body.frame()).await.expect("an event in time");
            let frame = frame.expect("the watch goes on").expect("a frame");
            self.rest.extend_from_slice(frame.data_ref().expect("data"));
        };
        let line: Vec<u8> = self.rest.drain(..=end).collect();
        let event: Value = serde_json::from_slice(&line).expect("an event");
        assert_eq!((&event["type"], &event["object"]["metadata"]["name"]), (&json!(kind), &json!(name)), "{event}");
    }
}

fn version(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().expect("a version").parse().expect("a number")
}

fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().expect("items");
    items.iter().map(|item| item["metadata"]["name"].as_str().expect("a name")).collect()
}

async fn is_shared_and_survives_restarts(endpoint: &str) {
    let one = Server::start(endpoint).await;
    one.create("/api/v1/namespaces", json!({"metadata": {"name": "a"}})).await;
    let (two, first) = tokio::join!(
        Server::start(endpoint),
        one.create(MAPS, json!({"metadata": {"name": "first"}, "data": {"k": "v"}}))
    );

    // What goes through one server is there for the other at once, and its watches are told.
    let mut watch = two.watch(&format!("{MAPS}?watch=1&resourceVersion={}", version(&first))).await;
    let second = one.create(MAPS, json!({"metadata": {"name": "second"}})).await;
    assert_eq!(names(&two.get(MAPS).await), ["first", "second"]);
    watch.expect("ADDED", "second").await;
    let mut changed = first.clone();
    changed["data"]["k"] = json!("w");
    let path = format!("{MAPS}/first");
    let (code, answer) = two.send(Method::PUT, &path, changed.clone()).await;
    assert_eq!(code, StatusCode::OK, "{answer}");
    let (code, answer) = one.send(Method::PUT, &path, changed).await;
    assert_eq!(code, StatusCode::CONFLICT, "{answer}");
    watch.expect("MODIFIED", "first").await;

    // Events have a time to live.
    let involved = json!({"kind": "ConfigMap", "namespace": "a", "name": "first"});
    let event = json!({"metadata": {"name": "event"}, "involvedObject": involved, "reason": "Test", "type": "Normal"});
    one.create("/api/v1/namespaces/a/events", event).await;
    let (code, answer) = one.send(Method::DELETE, &format!("{MAPS}/second"), Value::Null).await;
    assert_eq!(code, StatusCode::OK, "{answer}");
    watch.expect("DELETED", "second").await;
    let revision = two.text("/metrics").await;
    let revision = revision.lines().find_map(|line| line.strip_prefix("kine_current_revision ")).expect("a metric");
    assert!(revision.parse::<f64>().expect("a number") >= version(&second) as f64, "{revision}");

    one.stop().await;
    two.stop().await;
    let again = Server::start(endpoint).await;
    let list = again.get(MAPS).await;
    assert_eq!((names(&list), &list["items"][0]["data"]["k"]), (vec!["first"], &json!("w")));
    assert_eq!(names(&again.get("/api/v1/namespaces/a/events").await), ["event"]);
    // Who was there before the restart goes on where it was.
    let mut watch = again.watch(&format!("{MAPS}?watch=1&resourceVersion={}", version(&list))).await;
    let third = again.create(MAPS, json!({"metadata": {"name": "third"}})).await;
    assert!(version(&third) > version(&second));
    watch.expect("ADDED", "third").await;
    again.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_is_shared_and_survives_restarts() {
    let server = database::Server::start(Kind::Postgres);
    is_shared_and_survives_restarts(&server.endpoint("k3s:secret", "kubernetes")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_is_shared_and_survives_restarts() {
    let server = database::Server::start(Kind::Mariadb);
    is_shared_and_survives_restarts(&server.endpoint("k3s:secret", "kubernetes")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd_is_shared_and_survives_restarts() {
    let cluster = etcd::Cluster::start(1);
    is_shared_and_survives_restarts(&cluster.urls()).await;
}
