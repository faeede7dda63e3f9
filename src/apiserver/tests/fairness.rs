//! Priority and fairness as clients meet it: a whole API server with the schemas and levels that every cluster has.
//!
//! `GREEDY_REQUESTS=10000` has more of them ask at once, which takes ten seconds of a processor.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::join_all;
use futures::stream;
use http::{Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use k3s_api::authentication::UserInfo;
use k3s_apiserver::{ApiServer, Body, Config, bootstrap};
use k3s_kine::sqlite::{Options, Sqlite};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

struct Cluster {
    server: ApiServer,
    _folder: TempDir,
}

async fn cluster(change: impl FnOnce(&mut Config)) -> Cluster {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(Sqlite::open(&folder.path().join("state.db"), Options::default()).unwrap());
    let mut config = Config::new(store, IpAddr::V4(Ipv4Addr::LOCALHOST));
    change(&mut config);
    let server = ApiServer::start(config).await.unwrap();
    bootstrap::run(&server).await.unwrap();
    server.health().set_bootstrapped();
    let cluster = Cluster { server, _folder: folder };
    let everybody = json!({"metadata": {"name": "everybody"},
        "subjects": [{"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": "system:authenticated"}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}});
    cluster.admin(Method::POST, "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", everybody).await;
    // A role holds when the authorizer has seen it, as in Kubernetes.
    cluster.server.registry().catch_up().await.unwrap();
    cluster
}

/// A body that comes when the gate is opened.
fn behind(gate: &CancellationToken, body: Value) -> impl http_body::Body<Data = Bytes, Error = std::io::Error> + use<> {
    let (gate, bytes) = (gate.clone(), Bytes::from(body.to_string()));
    StreamBody::new(stream::once(async move {
        gate.cancelled_owned().await;
        Ok(Frame::data(bytes))
    }))
}

impl Cluster {
    async fn send(
        &self,
        user: UserInfo,
        method: Method,
        path: &str,
        gate: &CancellationToken,
        body: Value,
    ) -> Response<Body> {
        let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
        let request = request.extension(user).body(behind(gate, body)).unwrap();
        let Ok(response) = self.server.clone().oneshot(request).await;
        response
    }

    async fn now(&self, user: UserInfo, method: Method, path: &str, body: Value) -> Response<Body> {
        let open = CancellationToken::new();
        open.cancel();
        self.send(user, method, path, &open, body).await
    }

    async fn admin(&self, method: Method, path: &str, body: Value) -> Value {
        let response = self.now(UserInfo::new("admin", &["system:masters"]), method, path, body).await;
        let code = response.status();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        assert!(code.is_success(), "{path}: {text}");
        serde_json::from_slice(&bytes).unwrap_or(Value::String(text))
    }

    async fn uid(&self, kind: &str, name: &str) -> String {
        let path = format!("/apis/flowcontrol.apiserver.k8s.io/v1/{kind}/{name}");
        self.admin(Method::GET, &path, json!({})).await["metadata"]["uid"].as_str().unwrap().to_owned()
    }

    async fn metric(&self, line: &str) -> f64 {
        let metrics = self.admin(Method::GET, "/metrics", json!({})).await;
        let found = metrics.as_str().unwrap().lines().find_map(|l| l.strip_prefix(line).map(str::to_owned));
        found.unwrap_or_else(|| panic!("no metric {line}")).trim().parse().unwrap()
    }
}

fn header<'a>(response: &'a Response<Body>, name: &str) -> &'a str {
    response.headers().get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
}

#[tokio::test]
async fn an_answer_names_its_flow_schema_and_priority_level() {
    let cluster = cluster(|_| ()).await;
    for (user, schema, level) in [
        (UserInfo::new("jane", &[]), "global-default", "global-default"),
        (UserInfo::new("admin", &["system:masters"]), "exempt", "exempt"),
        (UserInfo::new("system:node:n", &["system:nodes"]), "system-nodes", "system"),
    ] {
        let response = cluster.now(user, Method::GET, MAPS, json!({})).await;
        let uid = cluster.uid("flowschemas", schema).await;
        assert_eq!(header(&response, "x-kubernetes-pf-flowschema-uid"), uid, "{schema}");
        let uid = cluster.uid("prioritylevelconfigurations", level).await;
        assert_eq!(header(&response, "x-kubernetes-pf-prioritylevel-uid"), uid, "{level}");
        assert!(!header(&response, "audit-id").is_empty());
    }
}

#[tokio::test]
async fn nothing_critical_starves_under_thousands_of_greedy_requests() {
    let count: u32 = std::env::var("GREEDY_REQUESTS").map_or(2000, |count| count.parse().unwrap());
    // Nobody goes away before the end, however slow the machine is.
    let cluster = Arc::new(cluster(|config| config.request_timeout = Duration::from_secs(3600)).await);
    let node = json!({"metadata": {"name": "n"}});
    cluster.admin(Method::POST, "/api/v1/nodes", node).await;
    let gate = CancellationToken::new();
    let greedy: Vec<_> = (0..count)
        .map(|n| {
            let (cluster, gate) = (Arc::clone(&cluster), gate.clone());
            tokio::spawn(async move {
                let body = json!({"metadata": {"name": format!("greedy-{n}")}});
                // The disk has no part in this.
                let path = format!("{MAPS}?dryRun=All");
                cluster.send(UserInfo::new("greedy", &[]), Method::POST, &path, &gate, body).await
            })
        })
        .collect();
    // Its seats are taken, its six queues are full, and what is more has been refused.
    let labels = "{priority_level=\"global-default\",flow_schema=\"global-default\"";
    let refused = format!("apiserver_flowcontrol_rejected_requests_total{labels},reason=\"queue-full\"}}");
    let deadline = Instant::now() + Duration::from_secs(300);
    let queued = format!("apiserver_flowcontrol_current_inqueue_requests{labels}}}");
    while cluster.metric(&queued).await < 300.0 || cluster.metric(&refused).await < f64::from(count - 349) {
        assert!(Instant::now() < deadline, "the greedy requests do not come");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let lease = json!({"metadata": {"name": "kube-controller-manager"}, "spec": {"holderIdentity": "x"}});
    let leases = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases";
    let accounts = ["system:serviceaccounts", "system:serviceaccounts:kube-system"];
    for (user, method, path, body) in [
        (UserInfo::new("system:kube-controller-manager", &[]), Method::POST, leases, lease),
        (UserInfo::new("system:kube-scheduler", &[]), Method::GET, "/api/v1/pods", json!({})),
        (UserInfo::new("system:node:n", &["system:nodes"]), Method::GET, "/api/v1/nodes/n", json!({})),
        (UserInfo::new("system:serviceaccount:kube-system:x", &accounts), Method::GET, MAPS, json!({})),
        (UserInfo::new("admin", &["system:masters"]), Method::GET, MAPS, json!({})),
        (UserInfo::new("jane", &[]), Method::GET, "/livez", json!({})),
    ] {
        let shown = format!("{} {path}", user.name);
        let answer = tokio::time::timeout(Duration::from_secs(60), cluster.now(user, method, path, body)).await;
        let answer = answer.unwrap_or_else(|_| panic!("{shown} starves"));
        assert!(answer.status().is_success(), "{shown}: {}", answer.status());
    }
    // A modest user of the same level waits for a seat, and is refused by nobody.
    let modest = cluster.now(UserInfo::new("modest", &[]), Method::GET, MAPS, json!({}));
    let open = async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        gate.cancel();
    };
    let (modest, ()) = tokio::join!(modest, open);
    assert_eq!(modest.status(), StatusCode::OK);
    let mut counts = (0, 0);
    for response in join_all(greedy).await {
        let response = response.unwrap();
        match response.status() {
            StatusCode::CREATED => counts.0 += 1,
            StatusCode::TOO_MANY_REQUESTS => {
                counts.1 += 1;
                assert_eq!(header(&response, "retry-after"), "1");
            }
            code => panic!("{code}"),
        }
    }
    // 49 of the 600 seats are this level's.
    assert_eq!(counts, (349, count - 349));
    let status = cluster.metric(&format!("apiserver_flowcontrol_current_executing_requests{labels}}}")).await;
    assert_eq!(status, 0.0);
}

#[tokio::test]
async fn a_request_does_not_wait_for_ever_and_the_refusal_says_when_to_come_again() {
    let change = |config: &mut Config| {
        config.seats = 10;
        // A quarter of it may be waited.
        config.request_timeout = Duration::from_secs(20);
    };
    let cluster = cluster(change).await;
    let never = CancellationToken::new();
    let jane = || UserInfo::new("jane", &[]);
    let held_for = format!("{MAPS}?timeout=7s");
    let holding = cluster.send(jane(), Method::POST, &held_for, &never, json!({}));
    let waiting = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        // A tenth of ten seats.
        cluster.now(jane(), Method::GET, MAPS, json!({})).await
    };
    let (held, waited) = tokio::join!(holding, waiting);
    assert_eq!(held.status(), StatusCode::GATEWAY_TIMEOUT);
    assert_eq!((waited.status(), header(&waited, "retry-after")), (StatusCode::TOO_MANY_REQUESTS, "1"));
    let body = waited.into_body().collect().await.unwrap().to_bytes();
    let status: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(status["reason"], "TooManyRequests");
    assert_eq!(status["message"], "Too many requests, please try again later.");
    // The seat is free again.
    assert_eq!(cluster.now(jane(), Method::GET, MAPS, json!({})).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_watch_has_a_seat_only_until_it_has_begun() {
    let cluster = cluster(|config| config.seats = 10).await;
    let watch = format!("{MAPS}?watch=1");
    let mut watches = Vec::new();
    for _ in 0..20 {
        let response = cluster.now(UserInfo::new("jane", &[]), Method::GET, &watch, json!({})).await;
        assert_eq!(response.status(), StatusCode::OK);
        watches.push(response);
    }
}

#[tokio::test]
async fn new_schemas_and_levels_hold_at_once() {
    let cluster = cluster(|_| ()).await;
    let flow_control = "/apis/flowcontrol.apiserver.k8s.io/v1";
    let level = json!({"metadata": {"name": "none"}, "spec": {"type": "Limited", "limited": {
        "nominalConcurrencyShares": 0, "borrowingLimitPercent": 0, "limitResponse": {"type": "Reject"}}}});
    cluster.admin(Method::POST, &format!("{flow_control}/prioritylevelconfigurations"), level).await;
    let schema = json!({"metadata": {"name": "jane"}, "spec": {"matchingPrecedence": 5,
        "priorityLevelConfiguration": {"name": "none"}, "rules": [{
            "subjects": [{"kind": "User", "user": {"name": "jane"}}],
            "resourceRules": [{"verbs": ["list", "create"], "apiGroups": [""], "resources": ["configmaps"],
                "namespaces": ["default"]}]}]}});
    cluster.admin(Method::POST, &format!("{flow_control}/flowschemas"), schema).await;
    let uid = cluster.uid("flowschemas", "jane").await;
    let of = |response: &Response<Body>| header(response, "x-kubernetes-pf-flowschema-uid").to_owned();
    let jane = || UserInfo::new("jane", &[]);
    // A slow server may answer before it has taken them in.
    let deadline = Instant::now() + Duration::from_secs(20);
    while of(&cluster.now(jane(), Method::GET, MAPS, json!({})).await) != uid {
        assert!(Instant::now() < deadline, "the schema does not hold");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_ne!(of(&cluster.now(jane(), Method::GET, &format!("{MAPS}/x"), json!({})).await), uid);
    // One runs whatever the level has; two are too many.
    let gate = CancellationToken::new();
    let first = cluster.send(jane(), Method::POST, MAPS, &gate, json!({"metadata": {"name": "m"}}));
    let second = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let refused = cluster.now(jane(), Method::GET, MAPS, json!({})).await;
        gate.cancel();
        refused
    };
    let (first, second) = tokio::join!(first, second);
    assert_eq!((first.status(), second.status()), (StatusCode::CREATED, StatusCode::TOO_MANY_REQUESTS));
    cluster.admin(Method::DELETE, &format!("{flow_control}/flowschemas/jane"), json!({})).await;
    let deadline = Instant::now() + Duration::from_secs(20);
    while of(&cluster.now(jane(), Method::GET, MAPS, json!({})).await) == uid {
        assert!(Instant::now() < deadline, "the schema is gone and still holds");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
