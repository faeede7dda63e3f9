//! `/metrics` of a server that has users.

use http::StatusCode;
use serde_json::json;

use crate::cluster::Cluster;

#[tokio::test]
async fn objects_are_counted_by_resource_for_whom_may_read_metrics() {
    let cluster = Cluster::start(|_, _| ()).await;
    for name in ["a", "b"] {
        let (code, answer) = cluster.post("admin", "/api/v1/namespaces", json!({"metadata": {"name": name}})).await;
        assert_eq!(code, StatusCode::CREATED, "{answer}");
    }
    assert_eq!(cluster.get("jane", "/metrics").await.0, StatusCode::FORBIDDEN);
    // Resources are read when somebody asks for them, and roles when somebody's rights are in question.
    assert_eq!(cluster.get("admin", "/api/v1/namespaces").await.0, StatusCode::OK);
    let (code, metrics) = cluster.get("admin", "/metrics").await;
    let text = metrics.as_str().expect("text");
    assert_eq!(code, StatusCode::OK);
    for line in [
        "apiserver_storage_objects{resource=\"namespaces\"} 2",
        "apiserver_storage_objects{resource=\"clusterrolebindings.rbac.authorization.k8s.io\"} 1",
    ] {
        assert!(text.lines().any(|it| it == line), "{line} is not in:\n{text}");
    }
}
