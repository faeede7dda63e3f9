//! The audit log, from the request to the line in the file.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use k3s_apiserver::audit::Mode;
use k3s_apiserver::audit::log::{Format, Options as Log};
use k3s_apiserver::authentication::Authenticated;
use k3s_apiserver::serve::Peer;
use k3s_apiserver::{ApiServer, Body, Config, audit};
use k3s_kine::sqlite::{Options, Sqlite};
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt;

const POLICY: &str = "
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: None, resources: [{group: coordination.k8s.io}]}
- {level: Metadata, resources: [{group: '', resources: [secrets]}]}
- {level: RequestResponse, omitManagedFields: true, resources: [{group: '', resources: [configmaps]}]}
- {level: Request, omitStages: [], resources: [{group: '', resources: [namespaces]}]}
- {level: Metadata}
";

struct Place {
    folder: TempDir,
    server: ApiServer,
}

async fn place(policy: &str, change: impl FnOnce(&mut Log)) -> Place {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let store = Arc::new(Sqlite::open(&file("state.db"), Options::default()).unwrap());
    let mut config = Config::new(store, IpAddr::V4(Ipv4Addr::LOCALHOST));
    std::fs::write(file("tokens.csv"), "admin-token,admin,1,\"system:masters\"\njane-token,jane,2\n").unwrap();
    std::fs::write(file("policy.yaml"), policy).unwrap();
    config.authentication.token_file = Some(file("tokens.csv"));
    let mut log = Log::new(file("audit.log"));
    change(&mut log);
    config.audit = Some(audit::Config { policy_file: file("policy.yaml"), log: Some(log), webhook: None });
    let server = ApiServer::start(config).await.unwrap();
    Place { folder, server }
}

impl Place {
    async fn respond(&self, request: http::request::Builder, body: Value) -> http::Response<Body> {
        let peer = Peer::new(([192, 0, 2, 7], 1234).into(), ([127, 0, 0, 1], 6443).into(), Vec::new());
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let request = request.header("content-type", "application/json").extension(peer);
        let request = request.body(Full::new(Bytes::from(body))).unwrap();
        let Ok(response) = Authenticated::new(self.server.clone()).oneshot(request).await;
        response
    }

    async fn send(&self, request: http::request::Builder, body: Value) -> (StatusCode, String) {
        let response = self.respond(request, body).await;
        let id = response.headers().get("audit-id").expect("every answer has an id").to_str().unwrap().to_owned();
        (response.status(), id)
    }

    async fn admin(&self, method: Method, path: &str, body: Value) -> String {
        let request = Request::builder().method(method).uri(path).header("authorization", "Bearer admin-token");
        let (code, id) = self.send(request, body).await;
        assert!(code.is_success(), "{path}: {code}");
        id
    }

    fn text(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("audit.log")).unwrap()
    }

    /// The events of a request.
    fn events(&self, id: &str) -> Vec<Value> {
        let text = self.text();
        let events = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        events.filter(|event| event["auditID"] == id).collect()
    }
}

#[tokio::test]
async fn an_event_says_who_asked_for_what_and_how_it_ended() {
    let place = place(POLICY, |_| ()).await;
    let id = place.admin(Method::POST, "/api/v1/namespaces", json!({"metadata": {"name": "a"}})).await;
    let events = place.events(&id);
    let stages: Vec<&str> = events.iter().map(|event| event["stage"].as_str().unwrap()).collect();
    // The policy's own omission holds for all rules.
    assert_eq!(stages, ["ResponseComplete"]);
    let event = &events[0];
    assert_eq!((&event["kind"], &event["apiVersion"]), (&json!("Event"), &json!("audit.k8s.io/v1")));
    assert_eq!((&event["level"], &event["verb"]), (&json!("Request"), &json!("create")));
    assert_eq!(event["requestURI"], "/api/v1/namespaces");
    let groups = json!(["system:masters", "system:authenticated"]);
    assert_eq!(event["user"], json!({"username": "admin", "uid": "1", "groups": groups}));
    assert_eq!(event["sourceIPs"], json!(["192.0.2.7"]));
    assert_eq!(event["objectRef"], json!({"resource": "namespaces", "name": "a", "apiVersion": "v1"}));
    assert_eq!(event["responseStatus"], json!({"metadata": {}, "code": 201}));
    assert_eq!(event["requestObject"]["metadata"]["name"], "a");
    assert_eq!(event.get("responseObject"), None);
    assert_eq!(event["annotations"]["authorization.k8s.io/decision"], "allow");
    assert_eq!(event["annotations"]["authorization.k8s.io/reason"], "");
    let [received, stage] =
        ["requestReceivedTimestamp", "stageTimestamp"].map(|time| event[time].as_str().unwrap().to_owned());
    assert!(received.len() == "2026-01-02T03:04:05.678901Z".len() && received <= stage, "{received} {stage}");
}

#[tokio::test]
async fn bodies_are_written_only_as_the_policy_says() {
    let place = place(POLICY, |_| ()).await;
    place.admin(Method::POST, "/api/v1/namespaces", json!({"metadata": {"name": "a"}})).await;
    let secrets = "/api/v1/namespaces/a/secrets";
    let secret = json!({"metadata": {"name": "s"}, "stringData": {"word": "sesame"}});
    let created = place.admin(Method::POST, secrets, secret).await;
    let read = place.admin(Method::GET, &format!("{secrets}/s"), Value::Null).await;
    let patch = Request::builder().method(Method::PATCH).uri(format!("{secrets}/s"));
    let patch = patch.header("authorization", "Bearer admin-token");
    place.send(patch, json!({"stringData": {"word": "sesame"}})).await;
    let text = place.text();
    // In base64, too.
    assert!(!text.contains("sesame") && !text.contains("c2VzYW1l"), "{text}");
    assert_eq!(place.events(&created)[0]["objectRef"]["name"], "s");
    assert_eq!(place.events(&read)[0]["level"], "Metadata");

    let maps = "/api/v1/namespaces/a/configmaps";
    let map = json!({"metadata": {"name": "m"}, "data": {"word": "plain"}});
    let id = place.admin(Method::POST, maps, map).await;
    let event = place.events(&id).remove(0);
    assert_eq!(event["requestObject"]["data"]["word"], "plain");
    assert_eq!(event["responseObject"]["data"]["word"], "plain");
    assert_eq!(event["responseObject"]["metadata"].get("managedFields"), None);
    assert!(event["responseObject"]["metadata"]["uid"].is_string());
    let id = place.admin(Method::GET, maps, Value::Null).await;
    let event = place.events(&id).remove(0);
    assert_eq!(event["responseObject"]["items"][0]["data"]["word"], "plain");
    assert_eq!(event["responseObject"]["items"][0]["metadata"].get("managedFields"), None);
    let lease = json!({"metadata": {"name": "l"}, "spec": {}});
    let id = place.admin(Method::POST, "/apis/coordination.k8s.io/v1/namespaces/a/leases", lease).await;
    assert_eq!(place.events(&id), Vec::<Value>::new());
}

#[tokio::test]
async fn refusals_and_impersonation_are_written() {
    let place = place(POLICY, |_| ()).await;
    let get = |path: &str| Request::builder().uri(path.to_owned());
    let (code, id) = place.send(get("/api/v1/pods"), Value::Null).await;
    assert_eq!(code, StatusCode::UNAUTHORIZED);
    let event = place.events(&id).remove(0);
    assert_eq!((&event["stage"], &event["responseStatus"]["code"]), (&json!("ResponseStarted"), &json!(401)));
    assert_eq!(event["user"], json!({}));

    let jane = || get("/api/v1/pods").header("authorization", "Bearer jane-token");
    let (code, id) = place.send(jane().header("audit-id", "my-own"), Value::Null).await;
    assert_eq!((code, id.as_str()), (StatusCode::FORBIDDEN, "my-own"));
    let event = place.events(&id).remove(0);
    assert_eq!(event["responseStatus"]["reason"], "Forbidden");
    assert_eq!(event["annotations"]["authorization.k8s.io/decision"], "forbid");

    let (_, id) = place.send(jane().header("impersonate-user", "boss"), Value::Null).await;
    let event = place.events(&id).remove(0);
    assert_eq!((&event["user"]["username"], &event["responseStatus"]["code"]), (&json!("jane"), &json!(403)));

    let boss = get("/api/v1/pods").header("authorization", "Bearer admin-token").header("impersonate-user", "boss");
    let (code, id) = place.send(boss.header("x-forwarded-for", "198.51.100.1, 10.0.0.1"), Value::Null).await;
    assert_eq!(code, StatusCode::FORBIDDEN);
    let event = place.events(&id).remove(0);
    assert_eq!(event["user"]["username"], "admin");
    assert_eq!(event["impersonatedUser"], json!({"username": "boss", "groups": ["system:authenticated"]}));
    assert_eq!(event["sourceIPs"], json!(["198.51.100.1", "10.0.0.1", "192.0.2.7"]));
}

#[tokio::test]
async fn a_watch_is_written_when_it_begins_and_when_it_ends() {
    let place = place(POLICY, |_| ()).await;
    let watch = Request::builder().uri("/api/v1/pods?watch=1").header("authorization", "Bearer admin-token");
    let response = place.respond(watch, Value::Null).await;
    let id = response.headers()["audit-id"].to_str().unwrap().to_owned();
    assert_eq!(place.events(&id)[0]["stage"], "ResponseStarted");
    drop(response);
    let deadline = Instant::now() + Duration::from_secs(20);
    while place.events(&id).len() < 2 {
        assert!(Instant::now() < deadline, "the watch never ends");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let event = place.events(&id).remove(1);
    assert_eq!((&event["stage"], &event["responseStatus"]["code"]), (&json!("ResponseComplete"), &json!(200)));
}

#[tokio::test]
async fn the_namespace_s_standard_is_told_with_a_pod() {
    let place = place(POLICY, |_| ()).await;
    let labels = json!({"pod-security.kubernetes.io/enforce": "baseline"});
    place.admin(Method::POST, "/api/v1/namespaces", json!({"metadata": {"name": "a", "labels": labels}})).await;
    let account = json!({"metadata": {"name": "default"}});
    place.admin(Method::POST, "/api/v1/namespaces/a/serviceaccounts", account).await;
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let id = place.admin(Method::POST, "/api/v1/namespaces/a/pods", pod).await;
    let event = place.events(&id).remove(0);
    assert_eq!(event["annotations"]["pod-security.kubernetes.io/enforce-policy"], "baseline:latest");
}

/// A log that can't be written.
fn full_disk(log: &mut Log) {
    log.path = "/dev/full".into();
}

#[tokio::test]
async fn a_full_disk_costs_events_and_not_the_server_unless_that_is_asked_for() {
    if !Path::new("/dev/full").exists() {
        return;
    }
    for (mode, expected) in [
        (Mode::Batch, StatusCode::OK),
        (Mode::Blocking, StatusCode::OK),
        (Mode::BlockingStrict, StatusCode::INTERNAL_SERVER_ERROR),
    ] {
        let policy = POLICY.replace("omitStages: [RequestReceived]", "omitStages: []");
        let place = place(&policy, |log| {
            full_disk(log);
            log.mode = mode;
        })
        .await;
        let get = Request::builder().uri("/api/v1/pods").header("authorization", "Bearer admin-token");
        assert_eq!(place.send(get, Value::Null).await.0, expected, "{mode:?}");
    }
}

#[tokio::test]
async fn the_legacy_format_is_a_line_of_text() {
    let place = place(POLICY, |log| log.format = Format::Legacy).await;
    let id = place.admin(Method::GET, "/api/v1/namespaces/a/pods", Value::Null).await;
    let text = place.text();
    let line = text.lines().find(|line| line.contains(&id)).unwrap();
    assert!(line.contains("stage=\"ResponseComplete\" ip=\"192.0.2.7\" method=\"list\" user=\"admin\""), "{line}");
    assert!(line.ends_with("namespace=\"a\" uri=\"/api/v1/namespaces/a/pods\" response=\"200\""), "{line}");
}

#[tokio::test]
async fn a_policy_that_is_none_keeps_the_server_from_starting() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    std::fs::write(file("policy.yaml"), "kind: Policy\n").unwrap();
    let store = Arc::new(Sqlite::open(&file("state.db"), Options::default()).unwrap());
    let mut config = Config::new(store, IpAddr::V4(Ipv4Addr::LOCALHOST));
    config.audit =
        Some(audit::Config { policy_file: file("policy.yaml"), log: Some(Log::new(file("audit.log"))), webhook: None });
    let error = ApiServer::start(config).await.err().expect("no server").to_string();
    assert!(error.contains("policy.yaml is not valid"), "{error}");
}

#[tokio::test]
async fn reading_the_answer_does_not_wait_for_the_log() {
    let place = place(POLICY, |log| log.mode = Mode::Batch).await;
    let get = Request::builder().uri("/api/v1/pods").header("authorization", "Bearer admin-token");
    let response = place.respond(get, Value::Null).await;
    let id = response.headers()["audit-id"].to_str().unwrap().to_owned();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(serde_json::from_slice::<Value>(&body).unwrap()["kind"], "PodList");
    let deadline = Instant::now() + Duration::from_secs(20);
    while !place.text().contains(&id) {
        assert!(Instant::now() < deadline, "the event is never written");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
