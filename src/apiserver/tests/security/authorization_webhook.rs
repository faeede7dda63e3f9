//! `--authorization-mode=…,Webhook` and `--authorization-config`.

use std::path::Path;
use std::time::{Duration, Instant};

use http::StatusCode;
use k3s_apiserver::authorization::webhook::{FailurePolicy, Options};
use k3s_apiserver::authorization::{Config as Authorization, Mode};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::outside::{Mood, Outside};

const PODS: &str = "/api/v1/namespaces/a/pods";
const SECRETS: &str = "/api/v1/namespaces/a/secrets";
const MAPS: &str = "/api/v1/namespaces/a/configmaps";

/// Pods are for everybody, secrets for nobody; of other things it knows nothing.
fn judge(review: &Value) -> Value {
    let status = match review["spec"]["resourceAttributes"]["resource"].as_str() {
        Some("pods") => json!({"allowed": true, "reason": "pods are for everybody"}),
        Some("secrets" | "configmaps") => json!({"allowed": false, "denied": true, "reason": "not for you"}),
        _ => json!({"allowed": false, "reason": "never heard of it"}),
    };
    json!({"kind": "SubjectAccessReview", "apiVersion": review["apiVersion"], "status": status})
}

fn webhook(outside: &Outside, folder: &Path) -> Options {
    Options {
        version: "v1".to_owned(),
        timeout: Duration::from_secs(2),
        unauthorized_ttl: Duration::ZERO,
        ..Options::new(outside.kubeconfig(folder))
    }
}

fn message(answer: &Value) -> &str {
    answer["message"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn a_webhook_is_asked_what_nobody_before_it_allows() {
    let outside = Outside::start(judge);
    let cluster = Cluster::start(|config, folder| {
        let modes = vec![Mode::Node, Mode::Rbac, Mode::Webhook(webhook(&outside, folder))];
        config.authorization = Authorization::Modes(modes);
    })
    .await;
    for _ in 0..3 {
        assert_eq!(cluster.get("jane", &format!("{PODS}?labelSelector=app%3Dweb")).await.0, StatusCode::OK);
    }
    let seen = outside.seen();
    assert_eq!(outside.credentials().as_deref(), Some("Basic azNzOnNlc2FtZQ=="));
    // Administrators are not asked about, and a yes holds for a while.
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert_eq!(
        (&seen[0]["kind"], &seen[0]["apiVersion"]),
        (&json!("SubjectAccessReview"), &json!("authorization.k8s.io/v1"))
    );
    assert_eq!(
        seen[0]["spec"],
        json!({"user": "jane", "uid": "2", "groups": ["devs", "system:authenticated"], "resourceAttributes": {
            "verb": "list", "version": "v1", "resource": "pods", "namespace": "a",
            "labelSelector": {"requirements": [{"key": "app", "operator": "In", "values": ["web"]}]}}})
    );
    for asked in 1..=2 {
        let (code, answer) = cluster.get("jane", SECRETS).await;
        assert_eq!(code, StatusCode::FORBIDDEN);
        assert!(message(&answer).ends_with("in the namespace \"a\": not for you"), "{answer}");
        // A no, here, does not hold.
        assert_eq!(outside.seen().len(), 1, "{asked}");
    }
    // RBAC comes first and says yes.
    assert_eq!(cluster.get("jane", MAPS).await.0, StatusCode::OK);
    let (code, answer) = cluster.get("jane", "/version").await;
    assert_eq!(code, StatusCode::FORBIDDEN);
    assert!(message(&answer).ends_with("cannot get path \"/version\": never heard of it"), "{answer}");
    let seen = outside.seen();
    assert_eq!(seen[0]["spec"]["nonResourceAttributes"], json!({"path": "/version", "verb": "get"}));
    assert_eq!(seen.len(), 1, "{seen:?}");
    let (_, metrics) = cluster.get("admin", "/metrics").await;
    let metrics = metrics.as_str().unwrap();
    for line in [
        "apiserver_authorization_webhook_evaluations_total{name=\"default\",result=\"success\"} 4",
        "apiserver_authorization_decisions_total{decision=\"allowed\",name=\"default\",type=\"Webhook\"} 3",
        "apiserver_authorization_decisions_total{decision=\"denied\",name=\"default\",type=\"Webhook\"} 2",
    ] {
        assert!(metrics.contains(line), "{line} is not in: {metrics}");
    }
}

#[tokio::test]
async fn a_no_of_a_webhook_is_final() {
    let outside = Outside::start(judge);
    let cluster = Cluster::start(|config, folder| {
        config.authorization = Authorization::Modes(vec![Mode::Webhook(webhook(&outside, folder)), Mode::Rbac]);
    })
    .await;
    assert_eq!(cluster.get("jane", MAPS).await.0, StatusCode::FORBIDDEN);
    let reviews = "/apis/authorization.k8s.io/v1";
    let attributes = json!({"verb": "list", "version": "v1", "resource": "configmaps", "namespace": "a"});
    let review = json!({"spec": {"user": "jane", "resourceAttributes": attributes}});
    let (_, answer) = cluster.post("admin", &format!("{reviews}/subjectaccessreviews"), review).await;
    assert_eq!(answer["status"], json!({"allowed": false, "denied": true, "reason": "not for you"}));
    let rules = json!({"spec": {"namespace": "a"}});
    let (code, answer) = cluster.post("admin", &format!("{reviews}/selfsubjectrulesreviews"), rules).await;
    assert_eq!(code, StatusCode::CREATED);
    assert_eq!(answer["status"]["incomplete"], true);
    assert_eq!(answer["status"]["evaluationError"], "webhook authorizer does not support user rule resolution");
}

/// What becomes of what RBAC would allow (config maps), and of what nobody but the webhook would (pods).
async fn while_it_fails(failure_policy: FailurePolicy, wanted: (StatusCode, StatusCode)) {
    let outside = Outside::absent(judge);
    let cluster = Cluster::start(|config, folder| {
        let options = Options { failure_policy, authorized_ttl: Duration::ZERO, ..webhook(&outside, folder) };
        config.authorization = Authorization::Modes(vec![Mode::Webhook(options), Mode::Rbac]);
    })
    .await;
    let both = async || (cluster.get("jane", MAPS).await.0, cluster.get("jane", PODS).await.0);
    // Nobody is there.
    assert_eq!(both().await, wanted);
    outside.arrive();
    assert_eq!(both().await, (StatusCode::FORBIDDEN, StatusCode::OK));
    for mood in [Mood::Hanging, Mood::Garbage, Mood::OtherKind, Mood::Gone] {
        outside.be(mood);
        assert_eq!(both().await, wanted, "{mood:?}");
        outside.be(Mood::Answering);
        assert_eq!(both().await, (StatusCode::FORBIDDEN, StatusCode::OK), "after {mood:?}");
    }
}

#[tokio::test]
async fn a_webhook_that_can_t_be_asked_is_passed_over() {
    while_it_fails(FailurePolicy::NoOpinion, (StatusCode::OK, StatusCode::INTERNAL_SERVER_ERROR)).await;
}

#[tokio::test]
async fn a_webhook_that_can_t_be_asked_says_no_if_that_is_wanted() {
    let error = StatusCode::INTERNAL_SERVER_ERROR;
    while_it_fails(FailurePolicy::Deny, (error, error)).await;
}

#[tokio::test]
async fn a_webhook_that_is_busy_is_asked_again() {
    let outside = Outside::start(judge);
    outside.be(Mood::Failing);
    let cluster = Cluster::start(|config, folder| {
        config.authorization = Authorization::Modes(vec![Mode::Webhook(webhook(&outside, folder))]);
    })
    .await;
    let recovers = async {
        while outside.tries() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        outside.be(Mood::Answering);
    };
    let (answer, ()) = tokio::join!(cluster.get("jane", PODS), recovers);
    assert_eq!(answer.0, StatusCode::OK);
}

#[tokio::test]
async fn a_configuration_file_takes_effect_when_it_changes_and_only_if_it_is_good() {
    let outside = Outside::start(judge);
    let mut path = None;
    let write = |path: &Path, authorizers: Value| {
        let file = json!({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthorizationConfiguration",
            "authorizers": authorizers});
        // Whole, or not at all: it may be read at any moment.
        std::fs::write(path.with_extension("new"), file.to_string()).unwrap();
        std::fs::rename(path.with_extension("new"), path).unwrap();
    };
    let rbac = json!({"type": "RBAC", "name": "rbac"});
    let cluster = Cluster::start(|config, folder| {
        outside.kubeconfig(folder);
        let file = folder.join("authorization.yaml");
        write(&file, json!([rbac]));
        config.authorization = Authorization::File { path: file.clone(), reload: Duration::from_millis(20) };
        path = Some(file);
    })
    .await;
    let path = path.unwrap();
    let until = async |wanted: StatusCode, at: &str| {
        let deadline = Instant::now() + Duration::from_secs(20);
        while cluster.get("jane", at).await.0 != wanted {
            assert!(Instant::now() < deadline, "{at} is never {wanted}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert_eq!(cluster.get("jane", PODS).await.0, StatusCode::FORBIDDEN);
    let webhook = json!({"type": "Webhook", "name": "judge.example", "webhook": {
        "timeout": "3s", "subjectAccessReviewVersion": "v1", "failurePolicy": "Deny",
        "connectionInfo": {"type": "KubeConfigFile", "kubeConfigFile": "outside.yaml"},
        "matchConditionSubjectAccessReviewVersion": "v1",
        "matchConditions": [{"expression": "has(request.resourceAttributes)"},
            {"expression": "request.resourceAttributes.namespace == 'a'"}]}});
    write(&path, json!([webhook, rbac]));
    until(StatusCode::OK, PODS).await;
    // Not asked about other namespaces.
    assert_eq!(cluster.get("jane", "/api/v1/namespaces/b/pods").await.0, StatusCode::FORBIDDEN);
    assert_eq!(cluster.get("jane", MAPS).await.0, StatusCode::FORBIDDEN);
    assert!(outside.seen().iter().all(|review| review["spec"]["resourceAttributes"]["namespace"] == "a"));
    write(&path, json!([{"type": "Oracle", "name": "x"}]));
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let (_, metrics) = cluster.get("admin", "/metrics").await;
        if metrics.as_str().unwrap().contains("automatic_reloads_total{status=\"failure\"} 1") {
            break;
        }
        assert!(Instant::now() < deadline, "the bad file is never read");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(cluster.get("jane", PODS).await.0, StatusCode::OK);
    write(&path, json!([{"type": "AlwaysAllow", "name": "yes"}]));
    until(StatusCode::OK, "/version").await;
    write(&path, json!([{"type": "AlwaysDeny", "name": "no"}]));
    until(StatusCode::FORBIDDEN, PODS).await;
    assert_eq!(cluster.get("admin", PODS).await.0, StatusCode::OK);
}
