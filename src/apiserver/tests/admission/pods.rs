//! Subresources of pods: resize, ephemeral containers, and evictions that disruption budgets allow or refuse.

use http::Method;
use serde_json::{Value, json};

use crate::cluster::Cluster;

const PODS: &str = "/api/v1/namespaces/a/pods";

async fn pod(cluster: &Cluster, name: &str) -> Value {
    let pod = json!({"metadata": {"name": name, "labels": {"app": "web"}}, "spec": {"containers": [
        {"name": "c", "image": "i", "resources": {"requests": {"cpu": "100m"}, "limits": {"cpu": "200m"}}}]}});
    cluster.post(PODS, pod).await.ok()
}

/// A pod that runs, is ready, and is on a node.
async fn running(cluster: &Cluster, name: &str) -> Value {
    pod(cluster, name).await;
    let binding = json!({"target": {"kind": "Node", "name": "n"}});
    cluster.post(&format!("{PODS}/{name}/binding"), binding).await.ok();
    let status = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
    cluster.merge(&format!("{PODS}/{name}/status"), status).await.ok()
}

#[tokio::test]
async fn only_resize_changes_resources_and_nothing_else() {
    let cluster = Cluster::start().await;
    running(&cluster, "p").await;
    let patch = |cpu: &str| json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}, "limits": {"cpu": "1"}}}]}});
    let strategic = "application/strategic-merge-patch+json";
    let plain = cluster.send(Method::PATCH, &format!("{PODS}/p"), strategic, patch("300m")).await;
    let (code, message) = plain.error();
    assert!(code == 422 && message.contains("pod updates may not change fields other than"), "{message}");
    let resized = cluster.send(Method::PATCH, &format!("{PODS}/p/resize"), strategic, patch("300m")).await.ok();
    let container = &resized["spec"]["containers"][0];
    assert_eq!(container["resources"], json!({"requests": {"cpu": "300m"}, "limits": {"cpu": "1"}}));
    assert_eq!(resized["metadata"]["generation"], 2);
    let image = json!({"spec": {"containers": [{"name": "c", "image": "other"}]}});
    let answer = cluster.send(Method::PATCH, &format!("{PODS}/p/resize"), strategic, image).await;
    // What is no business of this subresource is left as it was, or refused.
    if answer.code < 300 {
        assert_eq!(answer.value["spec"]["containers"][0]["image"], "i");
    }
    assert_eq!(cluster.get(&format!("{PODS}/p")).await.ok()["spec"]["containers"][0]["image"], "i");
}

#[tokio::test]
async fn ephemeral_containers_are_added_by_their_subresource_and_stay() {
    let cluster = Cluster::start().await;
    running(&cluster, "p").await;
    let path = format!("{PODS}/p/ephemeralcontainers");
    let strategic = "application/strategic-merge-patch+json";
    let debugger = json!({"spec": {"ephemeralContainers": [{"name": "debug", "image": "busybox"}]}});
    let pod = cluster.send(Method::PATCH, &path, strategic, debugger).await.ok();
    assert_eq!(pod["spec"]["ephemeralContainers"][0]["terminationMessagePolicy"], "File");
    assert_eq!(pod["spec"]["containers"][0]["image"], "i");
    let mut without = pod.clone();
    without["spec"]["ephemeralContainers"] = json!([]);
    let answer = cluster.send(Method::PUT, &path, "application/json", without).await;
    let (code, message) = answer.error();
    assert!(code == 422 && message.contains("existing ephemeral containers \"debug\" may not be removed"), "{message}");
    let mut created = json!({"metadata": {"name": "q"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    created["spec"]["ephemeralContainers"] = json!([{"name": "debug", "image": "busybox"}]);
    let answer = cluster.post(PODS, created).await;
    let (code, message) = answer.error();
    assert!(code == 422 && message.contains("cannot be set on create"), "{message}");
}

#[tokio::test]
async fn evictions_spend_the_disruptions_that_a_budget_allows() {
    let cluster = Cluster::start().await;
    for name in ["p0", "p1", "p2", "p3"] {
        running(&cluster, name).await;
    }
    let budgets = "/apis/policy/v1/namespaces/a/poddisruptionbudgets";
    let budget = json!({"metadata": {"name": "web"}, "spec": {"minAvailable": 2,
        "selector": {"matchLabels": {"app": "web"}}}});
    let made = cluster.post(budgets, budget).await.ok();
    let eviction = |name: &str| json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}});
    let path = |name: &str| format!("{PODS}/{name}/eviction");
    // Nobody has counted yet.
    let answer = cluster.post(&path("p0"), eviction("p0")).await;
    assert_eq!(answer.error().0, 429);
    let cause = &answer.value["details"]["causes"][0];
    assert_eq!(cause["message"], "The disruption budget web is still being processed by the server.");
    let mut counted = made.clone();
    counted["status"] = json!({"observedGeneration": made["metadata"]["generation"], "disruptionsAllowed": 2,
        "currentHealthy": 4, "desiredHealthy": 2, "expectedPods": 4});
    let status = format!("{budgets}/web/status");
    cluster.send(Method::PUT, &status, "application/json", counted).await.ok();
    let dry = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p0"},
        "deleteOptions": {"dryRun": ["All"]}});
    cluster.post(&path("p0"), dry).await.ok();
    // All at once: two succeed, whoever comes first.
    let names = ["p0", "p1", "p2", "p3"];
    let answers =
        futures::future::join_all(names.map(|name| async { cluster.post(&path(name), eviction(name)).await })).await;
    let evicted = answers.iter().filter(|answer| answer.code < 300).count();
    assert_eq!(evicted, 2, "{answers:?}");
    for refused in answers.iter().filter(|answer| answer.code >= 300) {
        assert_eq!(refused.error(), (429, "Cannot evict pod as it would violate the pod's disruption budget."));
        let message = "The disruption budget web needs 2 healthy pods and has 4 currently";
        assert_eq!(refused.value["details"]["causes"][0]["message"], message);
    }
    let budget = cluster.get(&format!("{budgets}/web")).await.ok();
    assert_eq!(budget["status"]["disruptionsAllowed"], 0);
    assert_eq!(budget["status"]["disruptedPods"].as_object().unwrap().len(), 2);
    // A pod that does no work disturbs nobody.
    pod(&cluster, "pending").await;
    cluster.post(&path("pending"), eviction("pending")).await.ok();
}
