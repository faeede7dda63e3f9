//! Resource quotas: never exceeded, however many ask at once, and given back what is deleted.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::join_all;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use k3s_api::authentication::UserInfo;
use k3s_apiserver::{ApiServer, Config};
use k3s_kine::sqlite::{Options, Sqlite};
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt;

const QUOTAS: &str = "/api/v1/namespaces/a/resourcequotas";
const MAPS: &str = "/api/v1/namespaces/a/configmaps";
const PODS: &str = "/api/v1/namespaces/a/pods";

struct Cluster {
    server: ApiServer,
    _folder: TempDir,
}

impl Cluster {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(Sqlite::open(&folder.path().join("state.db"), Options::default()).unwrap());
        let server = ApiServer::start(Config::new(store, IpAddr::V4(Ipv4Addr::LOCALHOST))).await.unwrap();
        let cluster = Self { server, _folder: folder };
        cluster.create("/api/v1/namespaces", json!({"metadata": {"name": "a"}})).await;
        let account = json!({"metadata": {"name": "default"}});
        cluster.create("/api/v1/namespaces/a/serviceaccounts", account).await;
        cluster
    }

    async fn call(&self, method: Method, path: &str, body: Value) -> (StatusCode, Value) {
        let content_type = if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let request = Request::builder().method(method).uri(path).header("content-type", content_type);
        let request = request.extension(UserInfo::new("admin", &["system:masters"]));
        let request = request.body(Full::new(Bytes::from(body))).unwrap();
        let Ok(response) = self.server.clone().oneshot(request).await;
        let code = response.status();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (code, serde_json::from_slice(&bytes).unwrap_or_default())
    }

    async fn create(&self, path: &str, body: Value) {
        let (code, answer) = self.call(Method::POST, path, body).await;
        assert_eq!(code, StatusCode::CREATED, "{path}: {answer}");
    }

    async fn refused(&self, path: &str, body: Value) -> String {
        let (code, answer) = self.call(Method::POST, path, body).await;
        assert_eq!(code, StatusCode::FORBIDDEN, "{path}: {answer}");
        answer["message"].as_str().unwrap().to_owned()
    }

    async fn quota(&self, name: &str, spec: Value) {
        self.create(QUOTAS, json!({"metadata": {"name": name}, "spec": spec})).await;
    }

    async fn used(&self, name: &str) -> Value {
        let (_, quota) = self.call(Method::GET, &format!("{QUOTAS}/{name}"), Value::Null).await;
        quota["status"]["used"].clone()
    }

    /// Waits until that much is used.
    async fn uses(&self, name: &str, expected: Value) {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let used = self.used(name).await;
            if used == expected {
                return;
            }
            assert!(Instant::now() < deadline, "{used} instead of {expected}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn map(name: impl std::fmt::Display) -> Value {
    json!({"metadata": {"name": name.to_string()}})
}

fn pod(name: &str, cpu: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i",
        "resources": {"requests": {"cpu": cpu}}}]}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hundred_creators_at_once_never_exceed_the_limit() {
    let cluster = Cluster::start().await;
    cluster.quota("q", json!({"hard": {"configmaps": "30", "count/configmaps": "40"}})).await;
    for round in 0..3 {
        let names: Vec<String> = (0..100).map(|n| format!("m-{round}-{n}")).collect();
        let answers = join_all(names.iter().map(|name| cluster.call(Method::POST, MAPS, map(name)))).await;
        let created: Vec<&String> =
            names.iter().zip(&answers).filter(|(_, (code, _))| *code == StatusCode::CREATED).map(|(n, _)| n).collect();
        let refused = answers.iter().filter(|(code, _)| *code == StatusCode::FORBIDDEN).count();
        assert_eq!((created.len(), refused), (30, 70), "round {round}");
        cluster.uses("q", json!({"configmaps": "30", "count/configmaps": "30"})).await;
        let message = cluster.refused(MAPS, map("one-more")).await;
        let why = "exceeded quota: q, requested: configmaps=1, used: configmaps=30, limited: configmaps=30";
        assert_eq!(message, format!("configmaps \"one-more\" is forbidden: {why}"));
        // Deletions and creates go on at the same time.
        let paths: Vec<String> = created.iter().map(|name| named(name)).collect();
        let deleted = paths.iter().map(|path| cluster.call(Method::DELETE, path, Value::Null));
        assert!(join_all(deleted).await.iter().all(|(code, _)| *code == StatusCode::OK));
        cluster.uses("q", json!({"configmaps": "0", "count/configmaps": "0"})).await;
    }
}

/// Where a config map is.
fn named(name: &str) -> String {
    format!("{MAPS}/{name}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn creators_and_deleters_at_once_leave_the_count_right() {
    let cluster = Cluster::start().await;
    cluster.quota("q", json!({"hard": {"configmaps": "10"}})).await;
    let churn = (0..20).map(|n| {
        let cluster = &cluster;
        async move {
            for _ in 0..10 {
                let (code, _) = cluster.call(Method::POST, MAPS, map(n)).await;
                let (_, list) = cluster.call(Method::GET, MAPS, Value::Null).await;
                assert!(list["items"].as_array().unwrap().len() <= 10, "more than the limit");
                if code == StatusCode::CREATED {
                    cluster.call(Method::DELETE, &named(&n.to_string()), Value::Null).await;
                }
            }
        }
    });
    join_all(churn).await;
    cluster.uses("q", json!({"configmaps": "0"})).await;
}

#[tokio::test]
async fn a_create_that_comes_to_nothing_is_given_back() {
    let cluster = Cluster::start().await;
    cluster.quota("q", json!({"hard": {"configmaps": "2"}})).await;
    cluster.create(MAPS, map("m")).await;
    let (code, _) = cluster.call(Method::POST, MAPS, map("m")).await;
    assert_eq!(code, StatusCode::CONFLICT);
    cluster.uses("q", json!({"configmaps": "1"})).await;
    let (code, _) = cluster.call(Method::POST, &format!("{MAPS}?dryRun=All"), map("n")).await;
    assert_eq!(code, StatusCode::CREATED);
    assert_eq!(cluster.used("q").await, json!({"configmaps": "1"}));
}

#[tokio::test]
async fn pods_count_by_scope_until_they_are_over() {
    let cluster = Cluster::start().await;
    cluster.quota("all", json!({"hard": {"pods": "9", "requests.cpu": "1", "count/pods": "9"}})).await;
    cluster.quota("short", json!({"hard": {"pods": "1"}, "scopes": ["Terminating"]})).await;
    cluster.create(PODS, pod("p", "600m")).await;
    let used = json!({"count/pods": "1", "pods": "1", "requests.cpu": "600m"});
    assert_eq!(cluster.used("all").await, used);
    assert_eq!(cluster.used("short").await, json!({"pods": "0"}));
    let message = cluster.refused(PODS, pod("q", "500m")).await;
    let why = "exceeded quota: all, requested: requests.cpu=500m, used: requests.cpu=600m, limited: requests.cpu=1";
    assert_eq!(message, format!("pods \"q\" is forbidden: {why}"));
    let mut greedy = pod("r", "1m");
    greedy["spec"]["containers"][0]["resources"] = json!({});
    let message = cluster.refused(PODS, greedy).await;
    assert_eq!(message, "pods \"r\" is forbidden: failed quota: all: must specify requests.cpu for: c");
    let mut short = pod("s", "100m");
    short["spec"]["activeDeadlineSeconds"] = json!(60);
    cluster.create(PODS, short).await;
    assert_eq!(cluster.used("short").await, json!({"pods": "1"}));

    let over = json!({"status": {"phase": "Succeeded"}});
    let (code, answer) = cluster.call(Method::PATCH, &format!("{PODS}/p/status"), over).await;
    assert_eq!(code, StatusCode::OK, "{answer}");
    cluster.uses("all", json!({"count/pods": "2", "pods": "1", "requests.cpu": "100m"})).await;
}

#[tokio::test]
async fn a_new_limit_counts_what_is_there_and_an_update_is_charged_for_more() {
    let cluster = Cluster::start().await;
    let services = "/api/v1/namespaces/a/services";
    let service = |ports: Value| json!({"metadata": {"name": "s"}, "spec": {"type": "NodePort", "ports": ports}});
    cluster.create(services, service(json!([{"name": "a", "port": 1}]))).await;
    cluster.quota("q", json!({"hard": {"services": "5"}})).await;
    assert_eq!(cluster.used("q").await, json!({"services": "1"}));
    let hard = json!({"spec": {"hard": {"services": "5", "services.nodeports": "2"}}});
    cluster.call(Method::PATCH, &format!("{QUOTAS}/q"), hard).await;
    cluster.uses("q", json!({"services": "1", "services.nodeports": "1"})).await;
    let ports = |count: usize| -> Value {
        (0..count).map(|n| json!({"name": format!("p{n}"), "port": n + 1})).collect::<Vec<_>>().into()
    };
    let spec = |count| json!({"spec": {"ports": ports(count)}});
    let (code, answer) = cluster.call(Method::PATCH, &format!("{services}/s"), spec(3)).await;
    assert_eq!(code, StatusCode::FORBIDDEN, "{answer}");
    let (code, answer) = cluster.call(Method::PATCH, &format!("{services}/s"), spec(2)).await;
    assert_eq!(code, StatusCode::OK, "{answer}");
    assert_eq!(cluster.used("q").await, json!({"services": "1", "services.nodeports": "2"}));
    let (_, quota) = cluster.call(Method::GET, &format!("{QUOTAS}/q"), Value::Null).await;
    assert_eq!(quota["status"]["hard"], quota["spec"]["hard"]);
}

#[tokio::test]
async fn custom_resources_are_counted_too() {
    let cluster = Cluster::start().await;
    let definition = json!({"metadata": {"name": "widgets.g.example"}, "spec": {
        "group": "g.example", "scope": "Namespaced", "names": {"plural": "widgets", "kind": "Widget"},
        "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
            "type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]}});
    cluster.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition).await;
    cluster.quota("q", json!({"hard": {"count/widgets.g.example": "1"}})).await;
    let widgets = "/apis/g.example/v1/namespaces/a/widgets";
    let deadline = Instant::now() + Duration::from_secs(20);
    while cluster.call(Method::GET, widgets, Value::Null).await.0 != StatusCode::OK {
        assert!(Instant::now() < deadline, "the resource is never served");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    cluster.create(widgets, map("w")).await;
    cluster.refused(widgets, map("v")).await;
    cluster.call(Method::DELETE, &format!("{widgets}/w"), Value::Null).await;
    cluster.uses("q", json!({"count/widgets.g.example": "0"})).await;
}
